use std::{collections::BTreeSet, net::IpAddr};

use aya::{
    maps::{MapError, PerCpuValues},
    util::nr_cpus,
};
use netloom_core::model::{AttachmentKind, DeviceMode, Endpoint, IfIndex, MacAddress};
use netloom_ebpf::layout::{self, drop_reason};

use super::{
    Datapath, DatapathError,
    loader::load_program,
    maps::{DATAPATH_OBJECT, Maps},
    tables::{all, delete, get, put},
};
use crate::{
    maps::{COUNTERS, ENDPOINTS, MapSizes},
    programs::Program,
};

const TO_ENDPOINT: &str = "nl_to_endpoint";

/// What the datapath has to know of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    /// Its number: unique while it lives, smaller than [`MapSizes::endpoints`](super::MapSizes::endpoints).
    pub id: u32,
    /// Its device pair.
    pub mode: DeviceMode,
    /// How its programs are attached.
    pub attachment: AttachmentKind,
    /// Bytes, of its end of the pair.
    pub mtu: u32,
    /// The node's end of the pair.
    pub host_ifindex: IfIndex,
    /// Hardware address of its end; none in L3 mode.
    pub mac: Option<MacAddress>,
    /// Hardware address by which it knows its node ([`DeviceMode::gateway_mac`]); none in L3 mode.
    pub gateway_mac: Option<MacAddress>,
    /// Its addresses, at most [`layout::ADDRESSES`] of each family.
    pub addresses: Vec<IpAddr>,
}

impl From<&Endpoint> for EndpointConfig {
    fn from(endpoint: &Endpoint) -> Self {
        Self {
            id: endpoint.id,
            mode: endpoint.mode.device,
            attachment: endpoint.mode.attachment,
            mtu: endpoint.mode.mtu,
            host_ifindex: endpoint.host_ifindex,
            mac: endpoint.mac,
            gateway_mac: endpoint.host_mac.map(|host| endpoint.mode.device.gateway_mac(host)),
            addresses: endpoint.addresses.iter().map(|network| network.addr()).collect(),
        }
    }
}

impl EndpointConfig {
    fn mode(&self) -> u8 {
        match self.mode {
            DeviceMode::Netkit => layout::mode::NETKIT,
            DeviceMode::NetkitL2 => layout::mode::NETKIT_L2,
            DeviceMode::Veth => layout::mode::VETH,
        }
    }

    /// The constants of its programs.
    fn constants(&self) -> Result<layout::Config, DatapathError> {
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        for address in &self.addresses {
            match address {
                IpAddr::V4(address) => v4.push(u32::from_ne_bytes(address.octets())),
                IpAddr::V6(_) => v6.push(layout::Address::from(*address)),
            }
        }
        Ok(layout::Config {
            id: self.id,
            mtu: self.mtu,
            // netkit: NETKIT_PASS, since NETKIT_NEXT at the end of the chain is the device's policy, which may drop.
            // tcx and tc: TCX_NEXT and TC_ACT_UNSPEC, so that programs behind this one see the packet as well.
            pass: if self.attachment == AttachmentKind::Netkit { 0 } else { -1 },
            mode: self.mode(),
            v4_count: v4.len() as u8,
            v6_count: v6.len() as u8,
            reserved: 0,
            v4: self.fixed(v4)?,
            v6: self.fixed(v6)?,
        })
    }

    fn fixed<T: Copy + Default>(&self, mut list: Vec<T>) -> Result<[T; layout::ADDRESSES], DatapathError> {
        let count = list.len();
        let limit = layout::ADDRESSES;
        list.resize(limit.max(count), T::default());
        list.try_into().map_err(|_| DatapathError::Addresses { id: self.id, count, limit })
    }

    /// What other endpoints' programs find under its addresses.
    fn entry(&self) -> layout::Endpoint {
        let bytes = |mac: Option<MacAddress>| mac.map_or([0; 6], |mac| mac.0);
        layout::Endpoint {
            id: self.id,
            ifindex: self.host_ifindex.0,
            mtu: self.mtu,
            mac: bytes(self.mac),
            gateway_mac: bytes(self.gateway_mac),
            mode: self.mode(),
            through_stack: 0,
            reserved: [0; 2],
        }
    }
}

/// An endpoint's own copies of the datapath's programs.
#[derive(Debug)]
pub struct EndpointPrograms {
    /// For what the endpoint sends: netkit-peer, or ingress of the node's end.
    pub from_endpoint: Program,
    /// For what the node sends to the endpoint: netkit-primary, or egress of the node's end.
    pub to_endpoint: Program,
}

/// An address in the datapath, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressEntry {
    /// The address.
    pub address: IpAddr,
    /// The endpoint's number.
    pub id: u32,
    /// The node's end of its pair.
    pub host_ifindex: IfIndex,
}

/// What an endpoint's programs counted. Bytes include the link header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointCounters {
    /// From the endpoint, without those dropped.
    pub sent_packets: u64,
    /// From the endpoint, without those dropped.
    pub sent_bytes: u64,
    /// To the endpoint.
    pub received_packets: u64,
    /// To the endpoint.
    pub received_bytes: u64,
    /// Dropped: the source address is not the endpoint's; from outside, it is an endpoint's or the node's own.
    pub dropped_spoofed: u64,
    /// Dropped: shorter than its headers, or these contradict each other.
    pub dropped_malformed: u64,
    /// Dropped: a protocol that its kind of link does not carry.
    pub dropped_unsupported: u64,
    /// Dropped: it has a VLAN tag.
    pub dropped_tagged: u64,
    /// Dropped: it belongs to one link, and would leave it.
    pub dropped_link: u64,
    /// Dropped: to an address that no link carries.
    pub dropped_martian: u64,
}

impl EndpointCounters {
    /// What was dropped for another reason than [`Self::dropped_spoofed`].
    #[must_use]
    pub const fn dropped_other(&self) -> u64 {
        self.dropped_malformed
            + self.dropped_unsupported
            + self.dropped_tagged
            + self.dropped_link
            + self.dropped_martian
    }

    fn add(mut self, of_cpu: &layout::Counters) -> Self {
        let dropped = |reason: usize| of_cpu.dropped.get(reason).copied().unwrap_or_default();
        self.sent_packets += of_cpu.sent_packets;
        self.sent_bytes += of_cpu.sent_bytes;
        self.received_packets += of_cpu.received_packets;
        self.received_bytes += of_cpu.received_bytes;
        self.dropped_spoofed += dropped(drop_reason::SPOOFED);
        self.dropped_malformed += dropped(drop_reason::MALFORMED);
        self.dropped_unsupported += dropped(drop_reason::UNSUPPORTED);
        self.dropped_tagged += dropped(drop_reason::TAGGED);
        self.dropped_link += dropped(drop_reason::LINK);
        self.dropped_martian += dropped(drop_reason::MARTIAN);
        self
    }
}

impl Datapath {
    /// Loads an endpoint's programs. They know its constants, so they are made anew when one of these changes: its
    /// number, device pair, kind of attachment, MTU or addresses.
    ///
    /// # Errors
    /// [`DatapathError::EndpointId`], [`DatapathError::Addresses`], [`DatapathError::Rejected`] with the verifier's
    /// log, [`DatapathError::Unpinned`].
    pub fn endpoint_programs(&self, endpoint: &EndpointConfig) -> Result<EndpointPrograms, DatapathError> {
        let constants = endpoint.constants()?;
        self.check_id(endpoint.id)?;
        let bytes = netloom_ebpf::datapath_with(constants)?;
        let mut object = self.loader.load(DATAPATH_OBJECT, &bytes)?;
        let programs = EndpointPrograms {
            from_endpoint: load_program(&mut object, "nl_from_endpoint")?,
            to_endpoint: load_program(&mut object, TO_ENDPOINT)?,
        };
        // The loader makes a map where it finds no pin, and then these programs would not know the other endpoints.
        if self.runs_on_these_maps(&programs.from_endpoint) {
            Ok(programs)
        } else {
            Err(DatapathError::Unpinned { path: self.maps_dir().join(ENDPOINTS) })
        }
    }

    /// Whether an endpoint's or an uplink's program, found attached after a restart, sees the endpoints and counters of this
    /// datapath. If somebody removed the pins meanwhile, it goes on with the maps of before and has to be replaced.
    #[must_use]
    pub fn runs_on_these_maps(&self, program: &Program) -> bool {
        let maps = self.maps();
        let used = program.maps();
        let has = |ids: &[u32]| ids.iter().all(|id| used.contains(id));
        match program.name() {
            // Looks nobody and nothing up.
            TO_ENDPOINT => has(&[maps.counters_id]),
            _ => has(&[maps.counters_id, maps.endpoints_id, maps.node_id, maps.monitor_id]),
        }
    }

    /// Makes an endpoint reachable for the others under its addresses, or brings its entries up to date. An endpoint
    /// that was not there counts from zero. Addresses that the node has itself stay the node's.
    ///
    /// # Errors
    /// [`DatapathError::AddressTaken`], [`DatapathError::EndpointId`], [`DatapathError::Full`]. Then nothing has
    /// changed.
    pub fn set_endpoint(&self, endpoint: &EndpointConfig) -> Result<(), DatapathError> {
        self.check_id(endpoint.id)?;
        let mut maps = self.maps();
        let keys: Vec<_> = endpoint
            .addresses
            .iter()
            .map(|&address| (address, layout::Address::from(address).to_bytes()))
            // What the node has is for its stack.
            .filter(|(_, key)| maps.own_addresses.get(key, 0).is_err())
            .collect();
        let mut new = Vec::new();
        let mut value = endpoint.entry();
        for (address, key) in &keys {
            match get(&maps.endpoints, ENDPOINTS, key)?.map(layout::Endpoint::from_bytes) {
                None => new.push(*key),
                Some(entry) if entry.id == endpoint.id => {
                    // A new device has not been looked at.
                    if entry.ifindex == value.ifindex {
                        value.through_stack = entry.through_stack;
                    }
                }
                Some(entry) => {
                    return Err(DatapathError::AddressTaken { address: *address, owner: entry.id });
                }
            }
        }
        if new.len() == keys.len() {
            maps.reset_counters(endpoint.id)?;
        }
        for (_, key) in &keys {
            if let Err(error) = put(&mut maps.endpoints, ENDPOINTS, self.sizes, *key, value.to_bytes()) {
                for key in &new {
                    // The error that is reported is the first one.
                    let _ = delete(&mut maps.endpoints, ENDPOINTS, key);
                }
                return Err(error);
            }
        }
        maps.change_node(|_| {})
    }

    /// Makes an endpoint unreachable for the others. Addresses that have another owner by now stay.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn remove_endpoint(&self, id: u32, addresses: &[IpAddr]) -> Result<(), DatapathError> {
        let mut maps = self.maps();
        for &address in addresses {
            let key = layout::Address::from(address).to_bytes();
            let entry = get(&maps.endpoints, ENDPOINTS, &key)?.map(layout::Endpoint::from_bytes);
            if entry.is_some_and(|entry| entry.id == id) {
                delete(&mut maps.endpoints, ENDPOINTS, &key)?;
            }
        }
        // What the programs remember of it is void from here on.
        maps.change_node(|_| {})
    }

    /// Every address in the datapath, in order: what an earlier daemon left behind can be told from it.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn addresses(&self) -> Result<Vec<AddressEntry>, DatapathError> {
        let entries = all(&self.maps().endpoints, ENDPOINTS)?;
        let mut entries: Vec<_> = entries
            .into_iter()
            .map(|(key, value)| {
                let entry = layout::Endpoint::from_bytes(value);
                AddressEntry {
                    address: layout::Address::from_bytes(key).into(),
                    id: entry.id,
                    host_ifindex: IfIndex(entry.ifindex),
                }
            })
            .collect();
        entries.sort_unstable();
        Ok(entries)
    }

    /// What an endpoint's programs counted.
    ///
    /// # Errors
    /// [`DatapathError::EndpointId`], [`DatapathError::Map`].
    pub fn counters(&self, id: u32) -> Result<EndpointCounters, DatapathError> {
        self.check_id(id)?;
        let of_cpus = self.maps().counters.get(&id, 0).map_err(counters_error("read"))?;
        let total = of_cpus.iter().map(|bytes| layout::Counters::from_bytes(*bytes));
        Ok(total.fold(EndpointCounters::default(), |sum, of_cpu| sum.add(&of_cpu)))
    }

    fn check_id(&self, id: u32) -> Result<(), DatapathError> {
        let size = self.sizes.endpoints;
        if id < size { Ok(()) } else { Err(DatapathError::EndpointId { id, size }) }
    }
}

fn counters_error(action: &'static str) -> impl Fn(MapError) -> DatapathError {
    move |source| DatapathError::Map { action, map: COUNTERS, source }
}

impl Maps {
    /// Notes whose packets go through the node's stack, by their numbers. Whether that is new.
    pub(super) fn set_through_stack(
        &mut self,
        sizes: MapSizes,
        ids: &BTreeSet<u32>,
    ) -> Result<bool, DatapathError> {
        let mut changed = false;
        for (key, value) in all(&self.endpoints, ENDPOINTS)? {
            let mut entry = layout::Endpoint::from_bytes(value);
            let through_stack = u8::from(ids.contains(&entry.id));
            if entry.through_stack != through_stack {
                entry.through_stack = through_stack;
                put(&mut self.endpoints, ENDPOINTS, sizes, key, entry.to_bytes())?;
                changed = true;
            }
        }
        Ok(changed)
    }

    fn reset_counters(&mut self, id: u32) -> Result<(), DatapathError> {
        let cpus = nr_cpus().map_err(|(path, source)| DatapathError::sys("read", path, source))?;
        let zero = PerCpuValues::try_from(vec![[0; layout::Counters::SIZE]; cpus])
            .map_err(|source| DatapathError::sys("sizing", COUNTERS, source))?;
        self.counters.set(id, zero, 0).map_err(counters_error("write"))
    }
}
