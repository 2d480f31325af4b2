//! The way out of a namespace.

use futures::StreamExt;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netloom_core::model::Device;
use rtnetlink::{MulticastGroup, new_multicast_connection};
use tokio::sync::mpsc;

use super::{DeviceError, Devices};

impl Devices {
    /// The devices of the default routes of both families, each once.
    ///
    /// # Errors
    /// [`DeviceError::Netlink`].
    pub async fn of_default_routes(&self) -> Result<Vec<Device>, DeviceError> {
        let mut devices: Vec<Device> = Vec::new();
        for everywhere in [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())] {
            for route in self.routes(everywhere).await? {
                if !devices.iter().any(|device| device.ifindex == route.device) {
                    // It may have gone since the route was read.
                    devices.extend(self.by_index(route.device).await?);
                }
            }
        }
        Ok(devices)
    }

    /// Says that devices or routes have changed, any number of changes as one. The caller's thread has to be in this
    /// namespace.
    ///
    /// # Errors
    /// [`DeviceError::Connect`].
    pub fn changes(&self) -> Result<mpsc::Receiver<()>, DeviceError> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Route, MulticastGroup::Ipv6Route];
        let (connection, _, mut messages) = new_multicast_connection(&groups)
            .map_err(|source| DeviceError::Connect { netns: self.netns().id(), source })?;
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(connection);
        tokio::spawn(async move {
            while messages.next().await.is_some() {
                // One that waits to be read says as much as two.
                if let Err(mpsc::error::TrySendError::Closed(())) = sender.try_send(()) {
                    return;
                }
            }
        });
        Ok(receiver)
    }
}
