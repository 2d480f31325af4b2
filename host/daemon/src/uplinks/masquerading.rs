//! Endpoints reach addresses that do not know theirs: the node masquerades what leaves it, and forwards.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netloom_api::types::Masquerade;
use netloom_core::model::Device;
use netloom_kernel::{
    devices::{DeviceError, IpFamily, Sysctl},
    stack::{Masquerading, TableState},
};

use super::Uplinks;
use crate::{failure::Failure, store::SysctlRecord};

impl Uplinks {
    /// Sees to the table, if something is to be masqueraded. What is so from now on; what keeps it from being as it
    /// should be goes to the troubles.
    pub(super) async fn masquerade(&self, uplinks: &[Device], troubles: &mut Vec<String>) -> Masquerade {
        let it = self.masquerading();
        let wanted = self.config.datapath.masquerade && !it.from.is_empty();
        let off = |why: &str| Masquerade { off: Some(why.to_owned()), wanted, ..Masquerade::default() };
        if !self.config.datapath.masquerade {
            if let Err(error) = self.remove_table(&it).await {
                troubles.push(format!("what endpoints send is masqueraded yet, as its table stays: {error}"));
            }
            return off("datapath.masquerade says so");
        }
        if it.from.is_empty() {
            return off("endpoints have no pools");
        }
        if uplinks.is_empty() {
            return off("there is no device to outside");
        }
        let (netns, table) = (self.netns.clone(), it.clone());
        let set = tokio::task::spawn_blocking(move || table.set(&netns)).await;
        match set.map_err(std::io::Error::other).flatten() {
            Ok(()) => Masquerade { from: it.from, native: it.native, off: None, wanted },
            Err(error) => {
                let why = format!("its nftables table cannot be made: {error}");
                troubles.push(format!("what endpoints send to outside is not masqueraded: {why}"));
                off(&why)
            }
        }
    }

    /// What is masqueraded, if anything is. Whoever is in a pool knows the pools.
    fn masquerading(&self) -> Masquerading {
        let from: Vec<IpNet> = self.config.endpoints.pools().collect();
        let mut native = from.clone();
        native.extend(&self.config.datapath.native);
        native.extend(kept_on_links());
        native.sort_unstable();
        native.dedup();
        Masquerading { table: self.instance.clone(), from, native }
    }

    async fn remove_table(&self, it: &Masquerading) -> std::io::Result<bool> {
        let (netns, it) = (self.netns.clone(), it.clone());
        tokio::task::spawn_blocking(move || it.remove(&netns)).await.map_err(std::io::Error::other)?
    }

    /// The name of our table, if there is one and it is ours.
    pub(super) async fn own_table(&self) -> Option<String> {
        let (netns, it) = (self.netns.clone(), self.masquerading());
        let state = tokio::task::spawn_blocking(move || it.state(&netns)).await.ok()?.ok()?;
        matches!(state, TableState::Whole | TableState::Changed).then(|| self.instance.clone())
    }

    /// Has the node forward what comes from outside for an endpoint, and notes what was so before.
    pub(super) fn forward(&self, uplinks: &[Device]) -> Result<(), Failure> {
        for device in uplinks {
            if self.config.endpoints.ipv4_pool.is_some() {
                self.set_sysctl(IpFamily::V4, &device.name, "forwarding", 1)?;
            }
            let has_v6 = self.devices.sysctl(IpFamily::V6, &device.name, "disable_ipv6")?;
            if self.config.endpoints.ipv6_pool.is_some() && has_v6.as_deref() == Some("0") {
                self.forward_v6(&device.name)?;
            }
        }
        Ok(())
    }

    /// IPv6 forwards for the whole node or, from Linux 6.17 on, for one device that is told so. A device that forwards
    /// listens to routers only if it is told to.
    fn forward_v6(&self, device: &str) -> Result<(), Failure> {
        if self.devices.sysctl(IpFamily::V6, "all", "forwarding")?.as_deref() == Some("1") {
            return Ok(());
        }
        if self.devices.sysctl(IpFamily::V6, device, "force_forwarding")?.is_some() {
            return self.set_sysctl(IpFamily::V6, device, "force_forwarding", 1);
        }
        if self.devices.sysctl(IpFamily::V6, device, "accept_ra")?.as_deref() == Some("1") {
            self.set_sysctl(IpFamily::V6, device, "accept_ra", 2)?;
        }
        self.set_sysctl(IpFamily::V6, "all", "forwarding", 1)
    }

    /// Sets a sysctl that is another. What it was is written down first.
    fn set_sysctl(&self, family: IpFamily, device: &str, key: &str, value: u32) -> Result<(), Failure> {
        let was = self.devices.sysctl(family, device, key)?;
        let Some(was) = was.filter(|was| *was != value.to_string()) else { return Ok(()) };
        let record = SysctlRecord {
            v4: family == IpFamily::V4,
            device: device.to_owned(),
            key: key.to_owned(),
            was: was.clone(),
            set: value.to_string(),
        };
        self.store.commit(|changes| {
            let name = record.name();
            // Of what it was before it was first set: another tool may have set it back meanwhile.
            if changes.get::<SysctlRecord>(&name)?.is_none() { changes.put(&name, &record) } else { Ok(()) }
        })?;
        self.devices.set_sysctls(&[Sysctl::new(family, device, key, value)])?;
        tracing::info!(device, key, was, value, "forwarding is needed: a sysctl was set");
        Ok(())
    }

    /// Removes the table and the pools' routes, and sets back the sysctls that are as we set them.
    pub(crate) async fn remove_everything(&self) -> Result<(), Failure> {
        self.remove_table(&self.masquerading()).await?;
        for pool in self.config.endpoints.pools() {
            self.devices.remove_unreachable(pool).await?;
        }
        for (name, record) in self.store.all::<SysctlRecord>()? {
            self.set_back(&record)?;
            self.store.commit(|changes| changes.remove::<SysctlRecord>(&name))?;
        }
        Ok(())
    }

    fn set_back(&self, record: &SysctlRecord) -> Result<(), DeviceError> {
        let family = if record.v4 { IpFamily::V4 } else { IpFamily::V6 };
        let now = self.devices.sysctl(family, &record.device, &record.key)?;
        match record.was.parse() {
            Ok(was) if now.as_deref() == Some(&record.set) => {
                self.devices.set_sysctls(&[Sysctl::new(family, &record.device, &record.key, was)])
            }
            _ => Ok(()),
        }
    }

    /// Nobody outside has an address of the pools, whether or not an endpoint has it: what is for one that none has
    /// neither leaves nor comes back.
    pub(super) async fn close_pools(&self) -> Result<(), Failure> {
        for pool in self.config.endpoints.pools() {
            self.devices.add_unreachable(pool).await?;
        }
        Ok(())
    }
}

/// Link-local and multicast addresses: what is sent to them does not leave its link, or has many receivers.
fn kept_on_links() -> impl Iterator<Item = IpNet> {
    let v4 = [(Ipv4Addr::new(169, 254, 0, 0), 16), (Ipv4Addr::new(224, 0, 0, 0), 4)];
    let v6 =
        [(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10), (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8)];
    let v4 = v4.into_iter().filter_map(|(address, bits)| Ipv4Net::new(address, bits).ok().map(IpNet::from));
    let v6 = v6.into_iter().filter_map(|(address, bits)| Ipv6Net::new(address, bits).ok().map(IpNet::from));
    v4.chain(v6)
}
