//! Carrying what belongs to a device's name over to another device: its name itself, its routes, its sysctls.

use std::{fs, path::Path};

use netlink_packet_core::{Emitable, Parseable};
use netlink_packet_route::{
    AddressFamily,
    route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope, RouteType},
};
use netloom_core::{
    model::IfIndex,
    reserved::{GATEWAY_V4, GATEWAY_V6},
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::{DeviceError, Devices, error, route::ip};

/// Where the sysctls of devices are.
const FOLDERS: [&str; 4] = [
    "/proc/sys/net/ipv4/conf",
    "/proc/sys/net/ipv4/neigh",
    "/proc/sys/net/ipv6/conf",
    "/proc/sys/net/ipv6/neigh",
];

impl Devices {
    /// Gives a device another name, and leaves it down: before Linux 6.2 the kernel renames no device that is up.
    ///
    /// # Errors
    /// [`DeviceError::NotFound`], [`DeviceError::Ignored`], [`DeviceError::Netlink`].
    pub async fn rename(&self, index: IfIndex, name: &str) -> Result<(), DeviceError> {
        self.set_up(index, false).await?;
        let message = LinkMessageBuilder::<LinkUnspec>::new().index(index.0).name(name).build();
        self.change(name, "give a device the name", message).await
    }

    /// Gives a device another name while packets go through it. Where the kernel renames no device that is up (before
    /// Linux 6.2), it is down for a moment, and its routes are gone afterwards.
    ///
    /// # Errors
    /// [`DeviceError::NotFound`], [`DeviceError::Ignored`], [`DeviceError::Netlink`], as when the name is taken.
    pub async fn rename_in_use(&self, index: IfIndex, name: &str) -> Result<(), DeviceError> {
        let message = LinkMessageBuilder::<LinkUnspec>::new().index(index.0).name(name).build();
        match self.asked(|handle| handle.link().change(message).execute()).await {
            Err(error) if error::is(&error, libc::EBUSY) => {
                let renamed = self.rename(index, name).await;
                self.set_up(index, true).await?;
                renamed
            }
            renamed => renamed
                .map_err(|error| self.failed(&format!("give a device the name of device {name}"), error)),
        }
    }

    /// The routes of all tables through a device that somebody set, as the kernel's messages. Routes over several
    /// devices are left out.
    ///
    /// # Errors
    /// [`DeviceError::Netlink`].
    pub async fn routes_through(&self, device: IfIndex) -> Result<Vec<Vec<u8>>, DeviceError> {
        let listed = self.routes_of_both(&RouteMessage::default()).await;
        let mut listed = listed.map_err(|error| self.failed("list the routes", error))?;
        listed.retain(|message| {
            message.attributes.contains(&RouteAttribute::Oif(device.0))
                && message.header.kind == RouteType::Unicast
                && message.header.protocol != RouteProtocol::Kernel
        });
        let bytes = |message: &RouteMessage| {
            let mut bytes = vec![0; message.buffer_len()];
            message.emit(&mut bytes);
            bytes
        };
        Ok(listed.iter().map(bytes).collect())
    }

    /// Sets routes that went through another device through this one. Where the kind of link changes, those that lead
    /// onto a link without hardware addresses lead to an endpoint's gateway (`Some(true)`), or back (`Some(false)`).
    ///
    /// # Errors
    /// [`DeviceError::Netlink`].
    pub async fn carry_routes(
        &self,
        routes: &[Vec<u8>],
        device: IfIndex,
        gateway: Option<bool>,
    ) -> Result<(), DeviceError> {
        for bytes in routes {
            let Ok(mut message) = RouteMessage::parse(bytes) else {
                tracing::warn!("a route cannot be read again, and is left out");
                continue;
            };
            carry(&mut message, device, gateway);
            let what = format!("carry a route over to the device with index {device}");
            let set = self.asked(|handle| handle.route().add(message).replace().execute()).await;
            set.map_err(|error| self.failed(&what, error))?;
        }
        Ok(())
    }

    /// Gives a device the sysctls of another, as far as they can be written. Blocks for some milliseconds.
    ///
    /// # Errors
    /// [`DeviceError::Netns`] if the namespace cannot be entered.
    pub fn carry_sysctls(&self, from: &str, to: &str) -> Result<(), DeviceError> {
        self.netns().run(|| {
            for folder in FOLDERS.map(Path::new) {
                for entry in fs::read_dir(folder.join(from)).into_iter().flatten().flatten() {
                    let target = folder.join(to).join(entry.file_name());
                    // Some cannot be read before they were written once, and some never be written.
                    let (Ok(wanted), Ok(present)) =
                        (fs::read_to_string(entry.path()), fs::read_to_string(&target))
                    else {
                        continue;
                    };
                    if wanted != present
                        && let Err(error) = fs::write(&target, wanted.trim())
                    {
                        tracing::debug!(sysctl = %target.display(), %error, "stays as it is");
                    }
                }
            }
        })?;
        Ok(())
    }
}

fn carry(message: &mut RouteMessage, device: IfIndex, gateway: Option<bool>) {
    // What the kernel tells of a route, but does not take.
    message.header.flags &= RouteFlags::Onlink;
    let (mut leads_to_ours, mut has_gateway) = (false, false);
    for attribute in &mut message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => *index = device.0,
            RouteAttribute::Gateway(address) => {
                has_gateway = true;
                leads_to_ours = ip(address).is_some_and(|ip| [GATEWAY_V4, GATEWAY_V6].contains(&ip));
            }
            RouteAttribute::Via(_) => has_gateway = true,
            _ => {}
        }
    }
    let drops_gateway = gateway == Some(false) && leads_to_ours;
    message.attributes.retain(|attribute| match attribute {
        RouteAttribute::CacheInfo(_) | RouteAttribute::MulticastExpires(_) => false,
        RouteAttribute::Gateway(_) => !drops_gateway,
        _ => true,
    });
    let v4 = message.header.address_family == AddressFamily::Inet;
    if drops_gateway {
        message.header.flags -= RouteFlags::Onlink;
        // IPv6 has no scopes of routes.
        if v4 {
            message.header.scope = RouteScope::Link;
        }
    } else if gateway == Some(true) && !has_gateway {
        let address = if v4 { GATEWAY_V4 } else { GATEWAY_V6 };
        message.attributes.push(RouteAttribute::Gateway(RouteAddress::from(address)));
        message.header.flags |= RouteFlags::Onlink;
        message.header.scope = RouteScope::Universe;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn default_route(gateway: Option<&str>) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.attributes.push(RouteAttribute::Oif(2));
        if let Some(gateway) = gateway {
            message.header.flags |= RouteFlags::Onlink;
            message.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet(gateway.parse().unwrap())));
        } else {
            message.header.scope = RouteScope::Link;
        }
        message
    }

    fn carried(gateway: Option<&str>, has_mac: bool) -> RouteMessage {
        let mut message = default_route(gateway);
        carry(&mut message, IfIndex(9), Some(has_mac));
        assert!(message.attributes.contains(&RouteAttribute::Oif(9)));
        message
    }

    #[test]
    fn the_way_to_the_gateway_follows_the_kind_of_link() {
        let gateway = |message: &RouteMessage| {
            message.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Gateway(RouteAddress::Inet(address)) => Some(address.to_string()),
                _ => None,
            })
        };
        let on_link = carried(Some("169.254.1.1"), false);
        assert_eq!((gateway(&on_link), on_link.header.scope), (None, RouteScope::Link));
        assert!(!on_link.header.flags.contains(RouteFlags::Onlink));
        let through = carried(None, true);
        assert_eq!(gateway(&through).as_deref(), Some("169.254.1.1"));
        assert!(through.header.flags.contains(RouteFlags::Onlink));
        assert_eq!(through.header.scope, RouteScope::Universe);
        // Somebody's own gateway stays what it is.
        assert_eq!(gateway(&carried(Some("10.0.0.9"), false)).as_deref(), Some("10.0.0.9"));
    }
}
