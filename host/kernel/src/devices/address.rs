//! Addresses of devices.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netloom_core::model::IfIndex;

use super::{DeviceError, Devices, error};

impl Devices {
    /// Gives a device an address; one that it has already is fine. IPv6 addresses work at once: they skip
    /// duplicate address detection.
    ///
    /// # Errors
    /// [`DeviceError::Netlink`].
    pub async fn add_address(&self, device: IfIndex, address: IpNet) -> Result<(), DeviceError> {
        let add = |handle: rtnetlink::Handle| {
            let mut request = handle.address().add(device.0, address.addr(), address.prefix_len());
            if address.addr().is_ipv6() {
                request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            }
            request.execute()
        };
        match self.asked(add).await {
            Err(error) if error::is(&error, libc::EEXIST) => Ok(()),
            other => other.map_err(|error| {
                self.failed(&format!("add address {address} to the device with index {device}"), error)
            }),
        }
    }

    /// The addresses of a device, the kernel's own link-local ones included; not those that are still
    /// tentative or failed duplicate address detection.
    ///
    /// # Errors
    /// [`DeviceError::Netlink`].
    pub async fn addresses(&self, device: IfIndex) -> Result<Vec<IpNet>, DeviceError> {
        let messages = self.address_messages().await.map_err(|error| {
            self.failed(&format!("list the addresses of the device with index {device}"), error)
        })?;
        Ok(messages.iter().filter(|message| message.header.index == device.0).filter_map(usable).collect())
    }

    /// The addresses of all devices, as [`Self::addresses`] has them.
    ///
    /// # Errors
    /// [`DeviceError::Netlink`].
    pub async fn all_addresses(&self) -> Result<Vec<IpNet>, DeviceError> {
        let messages = self
            .address_messages()
            .await
            .map_err(|error| self.failed("list the addresses of all devices", error))?;
        Ok(messages.iter().filter_map(usable).collect())
    }
}

fn usable(message: &AddressMessage) -> Option<IpNet> {
    let mut address: Option<IpAddr> = None;
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point device IFA_ADDRESS is the other end.
            AddressAttribute::Local(local) => address = Some(*local),
            AddressAttribute::Address(other) => address = address.or(Some(*other)),
            AddressAttribute::Flags(flags)
                if flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed) =>
            {
                return None;
            }
            _ => {}
        }
    }
    IpNet::new(address?, message.header.prefix_len).ok()
}
