//! Device pairs: netkit, netkit-l2 and veth.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    os::fd::AsRawFd,
};

use netlink_packet_core::DefaultNla;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoNetkit, InfoVeth, LinkAttribute, LinkInfo, LinkMessage, NetkitMode,
};
use netloom_core::model::{Device, DeviceMode, IfIndex, MacAddress, PairSpec, Segmentation};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};
use tokio::sync::oneshot;

use super::{DeviceError, Devices, IpFamily, MAX_NAME, NetkitDetails, Sysctl, device, error, readback};
use crate::netns::Netns;

/// What IPv4 needs at least: RFC 791.
const MIN_MTU: u32 = 68;
/// What IPv6 needs at least: RFC 8200, section 5. Below it the kernel takes IPv6 off the device.
const MIN_MTU_V6: u32 = 1280;
/// `ETH_MAX_MTU` of `include/uapi/linux/if_ether.h`, the limit of veth and netkit.
const MAX_MTU: u32 = 65_535;

/// `IFLA_NETKIT_HEADROOM` and `IFLA_NETKIT_TAILROOM` of `include/uapi/linux/if_link.h`, 16 bits each.
const HEADROOM: u16 = 8;
const TAILROOM: u16 = 9;

/// A device pair, each end as its namespace sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The node's end.
    pub host: Device,
    /// The endpoint's end.
    pub peer: Device,
}

impl Pair {
    /// The hardware address by which an endpoint knows its node: [`DeviceMode::gateway_mac`].
    #[must_use]
    pub fn gateway_mac(&self) -> Option<MacAddress> {
        Some(self.host.mode?.gateway_mac(self.host.mac?))
    }
}

impl Devices {
    /// Creates a pair: one end in this namespace, the other born in `peer_netns` under its final name, with its
    /// addresses; both up, and every attribute read back. In modes with MACs, one that is not given is chosen at
    /// random and set explicitly, so that nobody on the node rewrites it.
    ///
    /// On any failure, and if the future is dropped half-way, nothing is left behind.
    ///
    /// # Errors
    /// What is wrong with the specification; [`DeviceError::TakenOnNode`], [`DeviceError::TakenInEndpoint`];
    /// [`DeviceError::Unsupported`]; [`DeviceError::Ignored`]; [`DeviceError::Netlink`].
    pub async fn create_pair(&self, spec: &PairSpec, peer_netns: &Netns) -> Result<Pair, DeviceError> {
        check(spec)?;
        // A task of its own: a request cannot be called back, so whoever makes the pair must live to unmake it.
        let (answer, wait) = oneshot::channel();
        let (devices, spec, peer_netns) = (self.clone(), spec.clone(), peer_netns.clone());
        tokio::spawn(async move {
            let made = devices.make_pair(&spec, &peer_netns).await;
            if let Err(Ok(unwanted)) = answer.send(made) {
                devices.unmake(&spec, unwanted.host.ifindex).await;
            }
        });
        wait.await.unwrap_or_else(|_| {
            let source = std::io::Error::other("the runtime is shutting down");
            Err(DeviceError::Connect { netns: self.netns().id(), source })
        })
    }

    async fn make_pair(&self, spec: &PairSpec, peer_netns: &Netns) -> Result<Pair, DeviceError> {
        let peers = Self::open(peer_netns)?;
        if let Err(error) = self.asked(|handle| handle.link().add(message(spec, peer_netns)).execute()).await
        {
            return Err(self.explain(error, spec, &peers).await);
        }
        let host = match spec.host_ifindex {
            Some(index) => index,
            None => self.get(&spec.host_name).await?.map(|made| made.ifindex).ok_or_else(|| {
                DeviceError::NotFound { device: spec.host_name.clone(), netns: self.netns().id() }
            })?,
        };
        // First of all: whoever finds the device after a crash is to know whose it is. The kernel takes an index with
        // the birth itself, and an alias only afterwards (`rtnl_create_link` and `do_setlink` of
        // `net/core/rtnetlink.c`).
        let alias = LinkMessageBuilder::<LinkUnspec>::new().index(host.0).alias(&spec.alias).build();
        let completed = match self.change(&spec.host_name, "set the alias", alias).await {
            Ok(()) => self.complete(spec, &peers, host).await,
            Err(error) => Err(error),
        };
        if completed.is_err() {
            self.unmake(spec, host).await;
        }
        completed
    }

    async fn unmake(&self, spec: &PairSpec, host: IfIndex) {
        if let Err(error) = self.delete(host).await {
            let device = &spec.host_name;
            tracing::warn!(device, error = %error, "a device pair that nobody wants is left behind");
        }
    }

    /// Everything between the birth of a pair and its being ready.
    async fn complete(&self, spec: &PairSpec, peers: &Self, host: IfIndex) -> Result<Pair, DeviceError> {
        let peer = peers.get(&spec.peer_name).await?.ok_or_else(|| DeviceError::NotFound {
            device: spec.peer_name.clone(),
            netns: peers.netns().id(),
        })?;
        let addressed_v6 = spec.addresses.iter().any(|address| address.addr().is_ipv6());
        self.set_sysctls(&quiet_sysctls(&spec.host_name, false))?;
        peers.set_sysctls(&quiet_sysctls(&spec.peer_name, addressed_v6))?;
        for address in &spec.addresses {
            peers.add_address(peer.ifindex, *address).await?;
        }
        for (devices, name, index) in [(self, &spec.host_name, host), (peers, &spec.peer_name, peer.ifindex)]
        {
            let message = LinkMessageBuilder::<LinkUnspec>::new().index(index.0).alias(&spec.alias);
            let mut message = if spec.closed { message } else { message.up() }.build();
            message.attributes.extend(segmentation(&spec.segmentation));
            devices.change(name, "set up, and set alias, GSO and GRO sizes", message).await?;
        }

        let host = self.existing(host).await?;
        let details = device::netkit(&host);
        let pair = Pair {
            host: device::describe(&host, self.netns().id()),
            peer: peers.existing_device(peer.ifindex).await?,
        };
        if spec.mode.is_netkit() {
            readback::netkit(&spec.host_name, details, spec)?;
        }
        for (end, other, mac) in
            [(&pair.host, &pair.peer, spec.host_mac), (&pair.peer, &pair.host, spec.peer_mac)]
        {
            readback::end(end, spec)?;
            readback::equal(&end.name, "peer", &Some(other.ifindex), &end.peer_ifindex, "a pair")?;
            if mac.is_some() {
                readback::equal(&end.name, "mac", &mac, &end.mac, "a mode with MACs")?;
            }
        }
        let addresses = peers.addresses(pair.peer.ifindex).await?;
        for address in &spec.addresses {
            let found = addresses.iter().find(|found| *found == address);
            readback::equal(&spec.peer_name, "address", &Some(address), &found, "an address not in use")?;
        }
        Ok(pair)
    }

    /// An index for a device that is to be made, which no device of this namespace has: chosen at random among those
    /// that the kernel does not come to by itself, so that whoever finds a device of this index knows whose it is.
    ///
    /// # Errors
    /// [`DeviceError::Netlink`].
    pub async fn free_index(&self) -> Result<IfIndex, DeviceError> {
        loop {
            let index = random_index();
            if self.message(index).await?.is_none() {
                return Ok(index);
            }
        }
    }

    /// Creates a netkit pair to see what becomes of its attributes, and leaves it to its namespace's end. Beside
    /// the details, whether the kernel knows of single devices.
    pub(crate) async fn try_netkit(
        &self,
        spec: &PairSpec,
        peer_netns: &Netns,
    ) -> Result<(NetkitDetails, bool), DeviceError> {
        if let Err(error) = self.asked(|handle| handle.link().add(message(spec, peer_netns)).execute()).await
        {
            return Err(self.explain(error, spec, self).await);
        }
        let created = self.message_by_name(&spec.host_name).await?.unwrap_or_default();
        Ok((device::netkit(&created).unwrap_or_default(), device::reports_pairing(&created)))
    }

    /// The kernel says EEXIST of either end, and EOPNOTSUPP of more than one thing.
    async fn explain(&self, failure: rtnetlink::Error, spec: &PairSpec, peers: &Self) -> DeviceError {
        if error::is(&failure, libc::EEXIST) {
            let (device, netns) = (spec.host_name.clone(), self.netns().id());
            if let Ok(Some(_)) = self.get(&spec.host_name).await {
                return DeviceError::TakenOnNode { device, netns };
            }
            if let Ok(Some(_)) = peers.get(&spec.peer_name).await {
                let device = spec.peer_name.clone();
                return DeviceError::TakenInEndpoint { device, netns: peers.netns().id() };
            }
        }
        // An L3 pair with a MAC also gives EOPNOTSUPP, but never gets so far.
        if error::is(&failure, libc::EOPNOTSUPP) {
            let queues = spec.tx_queues.or(spec.rx_queues).is_some();
            let needs = if spec.mode.is_netkit() && queues {
                "netkit needs Linux 6.7 with CONFIG_NETKIT, and takes numbers of queues on kernels before 7.1 only, \
                 which lease queues instead; leave them out, or use veth"
            } else if spec.mode.is_netkit() {
                "netkit needs Linux 6.7 with CONFIG_NETKIT; use veth"
            } else {
                "veth needs CONFIG_VETH, or its module loaded (`modprobe veth`)"
            };
            return DeviceError::Unsupported { mode: spec.mode, needs, source: failure.into() };
        }
        self.failed(
            &format!("create the {} pair {} / {}", spec.mode, spec.host_name, spec.peer_name),
            failure,
        )
    }
}

fn check(spec: &PairSpec) -> Result<(), DeviceError> {
    for name in [&spec.host_name, &spec.peer_name] {
        check_name(name)?;
    }
    for (device, mac) in [(&spec.host_name, spec.host_mac), (&spec.peer_name, spec.peer_mac)] {
        let Some(mac) = mac else { continue };
        if !spec.mode.has_mac() {
            return Err(DeviceError::MacOnL3 { device: device.clone() });
        }
        let [first, ..] = mac.0;
        if first & 1 != 0 || mac.0 == [0; 6] {
            return Err(DeviceError::InvalidMac { device: device.clone(), mac: mac.to_string() });
        }
    }
    if !spec.mode.is_netkit() {
        let netkit_only = [
            ("scrub", spec.scrub.is_some()),
            ("peer scrub", spec.peer_scrub.is_some()),
            ("headroom", spec.headroom.is_some()),
            ("tailroom", spec.tailroom.is_some()),
        ];
        if let Some((attribute, _)) = netkit_only.into_iter().find(|(_, asked)| *asked) {
            return Err(DeviceError::NotForMode {
                device: spec.host_name.clone(),
                attribute,
                mode: spec.mode,
            });
        }
    }
    check_mtu(&spec.host_name, spec.mtu, spec.addresses.iter().any(|address| address.addr().is_ipv6()))
}

/// The kernel's rules: `dev_valid_name` of `net/core/dev.c`. It would also take `%d` for a pattern.
fn check_name(name: &str) -> Result<(), DeviceError> {
    let ok = (1..=MAX_NAME).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.contains(|c: char| matches!(c, '/' | ':' | '%') || c.is_whitespace() || c.is_control());
    if ok { Ok(()) } else { Err(DeviceError::InvalidName { name: name.to_owned() }) }
}

/// Whether an MTU, in bytes, can be a pair's.
///
/// # Errors
/// [`DeviceError::Mtu`], with the bounds; they are narrower where there is an IPv6 address.
pub fn check_mtu(device: &str, mtu: u32, v6: bool) -> Result<(), DeviceError> {
    let (min, reason) =
        if v6 { (MIN_MTU_V6, " (it has an IPv6 address, and IPv6 needs 1280)") } else { (MIN_MTU, "") };
    if (min..=MAX_MTU).contains(&mtu) {
        return Ok(());
    }
    Err(DeviceError::Mtu { device: device.to_owned(), mtu, min, max: MAX_MTU, reason })
}

/// The sizes that are given, as attributes.
pub(super) fn segmentation(sizes: &Segmentation) -> impl Iterator<Item = LinkAttribute> {
    [
        sizes.gso_max_size.map(LinkAttribute::GsoMaxSize),
        sizes.gro_max_size.map(LinkAttribute::GroMaxSize),
        sizes.gso_ipv4_max_size.map(LinkAttribute::GsoIpv4MaxSize),
        sizes.gro_ipv4_max_size.map(LinkAttribute::GroIpv4MaxSize),
    ]
    .into_iter()
    .flatten()
}

/// The request that makes both ends.
fn message(spec: &PairSpec, peer_netns: &Netns) -> LinkMessage {
    let end = |name: &str, mac: Option<MacAddress>| {
        let mut end = LinkMessageBuilder::<LinkUnspec>::new().name(name).mtu(spec.mtu);
        for queues in
            [spec.tx_queues.map(LinkAttribute::NumTxQueues), spec.rx_queues.map(LinkAttribute::NumRxQueues)]
        {
            end = queues.into_iter().fold(end, LinkMessageBuilder::append_extra_attribute);
        }
        if spec.mode.has_mac() { end.address(mac.unwrap_or_else(random_mac).0.to_vec()) } else { end }
    };
    let peer = end(&spec.peer_name, spec.peer_mac).setns_by_fd(peer_netns.fd().as_raw_fd()).build();
    let (kind, data) = match spec.mode {
        DeviceMode::Veth => (InfoKind::Veth, InfoData::Veth(InfoVeth::Peer(peer))),
        DeviceMode::Netkit | DeviceMode::NetkitL2 => (InfoKind::Netkit, InfoData::Netkit(netkit(spec, peer))),
    };
    let mut host = end(&spec.host_name, spec.host_mac).build();
    host.header.index = spec.host_ifindex.map_or(0, |index| index.0);
    host.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind), LinkInfo::Data(data)]));
    host
}

fn netkit(spec: &PairSpec, peer: LinkMessage) -> Vec<InfoNetkit> {
    let mode = if spec.mode.has_mac() { NetkitMode::L2 } else { NetkitMode::L3 };
    let mut data = vec![
        InfoNetkit::Peer(peer),
        InfoNetkit::Mode(mode),
        InfoNetkit::Policy(device::policy_out(spec.primary_policy)),
        InfoNetkit::PeerPolicy(device::policy_out(spec.peer_policy)),
    ];
    data.extend(spec.scrub.map(|scrub| InfoNetkit::Scrub(device::scrub_out(scrub))));
    data.extend(spec.peer_scrub.map(|scrub| InfoNetkit::PeerScrub(device::scrub_out(scrub))));
    // Raw, because the typed variants announce four bytes for a value of two.
    let raw = |kind, bytes: u16| InfoNetkit::Other(DefaultNla::new(kind, bytes.to_ne_bytes().to_vec()));
    data.extend(spec.headroom.map(|bytes| raw(HEADROOM, bytes)));
    data.extend(spec.tailroom.map(|bytes| raw(TAILROOM, bytes)));
    data
}

/// What keeps a pair from talking by itself. An endpoint takes no router's advice, and its addresses, which the
/// node hands out, work from the first packet.
#[must_use]
pub fn quiet_sysctls(device: &str, addressed_v6: bool) -> Vec<Sysctl> {
    let mut sysctls = vec![
        Sysctl::new(IpFamily::V6, device, "accept_dad", 0).optional(),
        Sysctl::new(IpFamily::V6, device, "accept_ra", 0).optional(),
    ];
    if addressed_v6 {
        // Container runtimes turn IPv6 off in namespaces they believe to be without it.
        sysctls.push(Sysctl::new(IpFamily::V6, device, "disable_ipv6", 0));
    }
    sysctls
}

/// Between 2^24, which no node counts up to, and 2^31, the kernel's limit.
fn random_index() -> IfIndex {
    let [a, b, c, d, ..] = RandomState::new().build_hasher().finish().to_ne_bytes();
    IfIndex(u32::from_ne_bytes([a, b, c, d]) % ((1 << 31) - (1 << 24)) + (1 << 24))
}

/// Locally administered, of one station.
fn random_mac() -> MacAddress {
    let [a, b, c, d, e, f, ..] = RandomState::new().build_hasher().finish().to_ne_bytes();
    MacAddress([(a & 0xfc) | 0x02, b, c, d, e, f])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_kernels_rules() {
        for good in ["eth0", "lxc_1234567890a", "a.b", "pod@if"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "sixteen-bytes-it", "a/b", "a:1", "a b", "a\n", "lxc%d"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_mtu_leaves_room_for_the_addresses_there_are() {
        assert!(check_mtu("x", 68, false).is_ok());
        assert!(check_mtu("x", 67, false).is_err());
        assert!(check_mtu("x", 1280, true).is_ok());
        let error = check_mtu("x", 1279, true).unwrap_err().to_string();
        assert!(error.contains("IPv6"), "{error}");
        assert!(check_mtu("x", 65_536, false).is_err());
    }

    #[test]
    fn chosen_indexes_are_none_of_the_kernels_own() {
        for _ in 0..64 {
            assert!((1 << 24..1 << 31).contains(&random_index().0));
        }
        assert_ne!(random_index(), random_index());
    }

    #[test]
    fn chosen_macs_are_of_one_station_and_local() {
        for _ in 0..64 {
            let mac = random_mac();
            assert_eq!(mac.0[0] & 0x03, 0x02, "{mac}");
        }
        assert_ne!(random_mac(), random_mac());
    }
}
