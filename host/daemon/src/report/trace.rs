//! Which way a packet of an endpoint would take: the same questions that the socket translation, the datapath and the
//! node's stack ask, answered without sending anything.

use std::net::{IpAddr, SocketAddr};

use anyhow::anyhow;
use netloom_api::types::{LocalWay, Trace, TraceOutcome, TraceQuery, TraceStep, TracedProgram, Way};
use netloom_core::model::{Chain, ChainEntry, DeviceMode, Endpoint, HookPoint, Name, Owner, canonical};
use netloom_kernel::devices::ForwardingWay;

use super::Report;
use crate::{failure::Failure, services::vips, store::ServiceRecord};

/// Length of a packet where the query gives none, in bytes.
const DEFAULT_LENGTH: u32 = 100;
/// Most backends of a service that are followed.
const MAX_BACKENDS: usize = 16;

/// A packet on its way.
struct Packet {
    from: IpAddr,
    to: SocketAddr,
    length: u32,
}

impl Report {
    pub(crate) async fn trace(&self, name: &Name, query: TraceQuery) -> Result<Trace, Failure> {
        let endpoint = self.endpoints.show(name).await?.endpoint;
        let to = canonical(query.to);
        let own = endpoint.addresses.iter().map(|network| network.addr());
        let from = query.from.or_else(|| own.clone().find(|address| address.is_ipv4() == to.is_ipv4()));
        let from = from.filter(|from| from.is_ipv4() == to.is_ipv4()).ok_or_else(|| {
            Failure::invalid(anyhow!("{name} has no address to reach {} from", to.ip()))
                .hint("give --from and --to of one address family")
        })?;
        let mut trace = Trace { endpoint: name.clone(), service: None, ways: Vec::new() };
        let addresses = self.services.node_addresses().await?;
        let services = self.store.all::<ServiceRecord>()?.into_iter().map(|(_, record)| record.service);
        let service = services
            .into_iter()
            .find(|service| service.protocol == query.protocol && vips(service, &addresses).contains(&to));
        let mut first = Vec::new();
        let mut targets = vec![to];
        let left_out = self.endpoints.untranslated_by(&endpoint.spec.labels);
        if let (Some(service), Some(label)) = (&service, left_out) {
            let text = format!("{} is not translated for endpoints with the label {label}", service.name);
            first.push(step("socket", text));
        } else if let Some(service) = service {
            targets = service.choices();
            targets.sort_unstable();
            targets.dedup();
            trace.service = Some(service.name.clone());
            if targets.is_empty() {
                let steps = vec![step("socket", format!("{} has no backend: ECONNREFUSED", service.name))];
                trace.ways.push(Way { to, steps, outcome: TraceOutcome::Refused });
                return Ok(trace);
            }
            first.push(step("socket", format!("{} chooses a backend ({})", service.name, service.choice)));
        }
        for to in targets.into_iter().take(MAX_BACKENDS) {
            let packet = Packet { from, to, length: query.length.unwrap_or(DEFAULT_LENGTH) };
            let mut way = Way { to, steps: first.clone(), outcome: TraceOutcome::Unreachable };
            way.outcome = self.trace_from(&endpoint, &packet, &mut way.steps).await?;
            trace.ways.push(way);
        }
        Ok(trace)
    }

    /// From the endpoint's device to where it ends.
    async fn trace_from(
        &self,
        endpoint: &Endpoint,
        packet: &Packet,
        steps: &mut Vec<TraceStep>,
    ) -> Result<TraceOutcome, Failure> {
        let to = packet.to.ip();
        if has(endpoint, to) || to.is_loopback() {
            steps.push(step("socket", "it stays in the endpoint, on its loopback device".to_owned()));
            return Ok(TraceOutcome::Endpoint);
        }
        let leaves: &[HookPoint] = match endpoint.mode.device {
            DeviceMode::Veth => &[HookPoint::TcxIngress, HookPoint::TcIngress],
            DeviceMode::Netkit | DeviceMode::NetkitL2 => &[HookPoint::NetkitPeer],
        };
        let chains = self.inventory.chains(Some(&endpoint.host_interface), None, None).await?;
        let mut behind = Vec::new();
        let mut datapath = None;
        for (at, entry) in in_order(&chains, leaves) {
            if entry.owner.as_ref().is_some_and(|owner| owner.as_str() == Owner::DATAPATH) {
                datapath = Some(at);
            } else if datapath.is_none() {
                steps.push(sees(&at, entry, "it may decide in the datapath's place"));
            } else {
                behind.push(sees(&at, entry, "it may decide before the node's stack"));
            }
        }
        let Some(at) = datapath else {
            steps.push(step(&endpoint.host_interface, "the datapath's program is not there".to_owned()));
            steps.append(&mut behind);
            return self.through_stack(endpoint, packet, steps).await;
        };
        if !has(endpoint, packet.from) {
            steps.push(step(&at, format!("datapath: {} is not the endpoint's, dropped", packet.from)));
            return Ok(TraceOutcome::Dropped);
        }
        if let Some(receiver) = self.owner_of(to)? {
            let mtu = receiver.mode.mtu;
            if let Some(why) = through_stack(&self.uplinks.now().local, endpoint, &receiver) {
                steps.push(step(&at, format!("datapath: to the node's stack ({why})")));
                steps.append(&mut behind);
                return self.through_stack(endpoint, packet, steps).await;
            }
            if packet.length <= mtu {
                steps.push(step(
                    &at,
                    format!("datapath: to the endpoint {}, past the node's stack", receiver.spec.name),
                ));
                return self.arrive(&receiver, endpoint.mode.device == DeviceMode::Veth, steps).await;
            }
            let does = format!(
                "datapath: {} bytes and {} takes {mtu}, to the node's stack",
                packet.length, receiver.spec.name
            );
            steps.push(step(&at, does));
            steps.append(&mut behind);
            return self.through_stack(endpoint, packet, steps).await;
        }
        let outside = self.uplinks.now().outside;
        let way = self.devices.forwarding_way(packet.from, to, endpoint.host_ifindex).await?;
        if let Some(ForwardingWay::Device { index, via }) = way
            && let Some(device) = self.devices.by_index(index).await?
            && outside.uplinks.contains(&device.name)
            && packet.length <= device.mtu
        {
            let via = via.map(|via| format!(" via {via}")).unwrap_or_default();
            steps.push(step(&at, format!("datapath: out by {}{via}, past the node's stack", device.name)));
            self.leave(&device.name, steps).await?;
            return Ok(TraceOutcome::Outside);
        }
        let why =
            outside.through_stack.unwrap_or_else(|| "it does not leave by an uplink as it is".to_owned());
        steps.push(step(&at, format!("datapath: to the node's stack ({why})")));
        steps.append(&mut behind);
        self.through_stack(endpoint, packet, steps).await
    }

    async fn through_stack(
        &self,
        endpoint: &Endpoint,
        packet: &Packet,
        steps: &mut Vec<TraceStep>,
    ) -> Result<TraceOutcome, Failure> {
        let to = packet.to.ip();
        let mut at_node = |does: String| steps.push(step("the node's stack", does));
        match self.devices.forwarding_way(packet.from, to, endpoint.host_ifindex).await? {
            None => {
                at_node(format!("it has no way to {to}, or does not forward"));
                Ok(TraceOutcome::Unreachable)
            }
            Some(ForwardingWay::Local) => {
                at_node("it is for the node itself".to_owned());
                Ok(TraceOutcome::Node)
            }
            Some(ForwardingWay::Device { index, via }) => {
                let device = self.devices.by_index(index).await?;
                let (device, mtu) =
                    device.map_or_else(|| (index.to_string(), u32::MAX), |device| (device.name, device.mtu));
                let via = via.map(|via| format!(" via {via}")).unwrap_or_default();
                at_node(format!("forwarded by {device}{via}, if netfilter lets it"));
                if packet.length > mtu {
                    at_node(format!(
                        "more than the {mtu} bytes of {device}: in fragments, or its sender is told"
                    ));
                }
                if let Some(receiver) = self.owner_of(to)? {
                    return self.arrive(&receiver, false, steps).await;
                }
                self.leave(&device, steps).await?;
                Ok(TraceOutcome::Outside)
            }
        }
    }

    /// Into an endpoint. Straight into its end of the pair, no program at the node's end sees it.
    async fn arrive(
        &self,
        receiver: &Endpoint,
        straight: bool,
        steps: &mut Vec<TraceStep>,
    ) -> Result<TraceOutcome, Failure> {
        if !straight {
            let points: &[HookPoint] = match receiver.mode.device {
                DeviceMode::Veth => &[HookPoint::TcxEgress, HookPoint::TcEgress],
                DeviceMode::Netkit | DeviceMode::NetkitL2 => {
                    &[HookPoint::TcxEgress, HookPoint::TcEgress, HookPoint::NetkitPrimary]
                }
            };
            let chains = self.inventory.chains(Some(&receiver.host_interface), None, None).await?;
            for (at, entry) in in_order(&chains, points) {
                if entry.owner.as_ref().is_none_or(|owner| owner.as_str() != Owner::DATAPATH) {
                    steps.push(sees(&at, entry, "it may decide before the endpoint gets it"));
                }
            }
        }
        steps
            .push(step(&receiver.spec.interface, format!("the endpoint {} receives it", receiver.spec.name)));
        Ok(TraceOutcome::Endpoint)
    }

    /// What is on the way out of a device.
    async fn leave(&self, device: &str, steps: &mut Vec<TraceStep>) -> Result<(), Failure> {
        let chains = self.inventory.chains(Some(device), None, None).await?;
        for (at, entry) in in_order(&chains, &[HookPoint::TcxEgress, HookPoint::TcEgress]) {
            steps.push(sees(&at, entry, "it may decide before the device sends it"));
        }
        Ok(())
    }

    fn owner_of(&self, address: IpAddr) -> Result<Option<Endpoint>, Failure> {
        let endpoints = self.store.all::<Endpoint>()?.into_iter().map(|(_, endpoint)| endpoint);
        Ok(endpoints.into_iter().find(|endpoint| has(endpoint, address)))
    }
}

/// Why packets from one endpoint to another go through the node's stack, if they do.
fn through_stack(local: &LocalWay, sender: &Endpoint, receiver: &Endpoint) -> Option<String> {
    let of = |endpoint: &Endpoint| local.endpoints.get(&endpoint.spec.name).cloned();
    let flows = || {
        local.translated_by.as_ref().map(|what| {
            format!(
                "as the first of a flow, which {what} may translate; the next ones pass it by if it does not"
            )
        })
    };
    local.through_stack.clone().or_else(|| of(sender)).or_else(|| of(receiver)).or_else(flows)
}

fn has(endpoint: &Endpoint, address: IpAddr) -> bool {
    endpoint.addresses.iter().any(|network| network.addr() == address)
}

/// The programs at some points of a device, in the order of the points.
fn in_order<'a>(
    chains: &'a [Chain],
    points: &'a [HookPoint],
) -> impl Iterator<Item = (String, &'a ChainEntry)> + 'a {
    points.iter().flat_map(move |point| {
        let of_point = chains.iter().filter(move |chain| chain.hook.point == *point);
        of_point.flat_map(|chain| {
            let at = format!("{} of {}", chain.hook.point, chain.hook.device);
            chain.entries.iter().map(move |entry| (at.clone(), entry))
        })
    })
}

fn sees(at: &str, entry: &ChainEntry, does: &str) -> TraceStep {
    let owner = entry.owner.as_ref().map(ToString::to_string);
    let program = TracedProgram { id: entry.program, name: entry.name.clone(), owner };
    TraceStep { at: at.to_owned(), program: Some(program), does: does.to_owned() }
}

fn step(at: &str, does: String) -> TraceStep {
    TraceStep { at: at.to_owned(), program: None, does }
}
