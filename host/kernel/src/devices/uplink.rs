//! The way out of a namespace.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netloom_core::model::Device;

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
}
