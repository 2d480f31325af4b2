use netloom_api::types::{Device, DeviceView};

use super::{
    Render,
    table::{Column, Tone, facts, table},
    text::{bytes, list, or_none},
};

impl Render for [DeviceView] {
    fn render(&self, wide: bool) -> String {
        if self.is_empty() {
            return "No devices.".to_owned();
        }
        table(
            self,
            wide,
            &[
                Column::number("INDEX", |v| v.device.ifindex.to_string()),
                Column::new("NAME", |v| v.device.name.clone()),
                Column::new("KIND", |v| kind(&v.device)),
                Column::toned(Column::new("STATE", |v| state(&v.device)), |v| match v.device.up {
                    true => Tone::Good,
                    false => Tone::Poor,
                }),
                Column::number("MTU", |v| v.device.mtu.to_string()),
                Column::new("PEER", |v| peer(&v.device)),
                Column::new("OWNER", |v| v.owner.clone().unwrap_or_default()),
                Column::number("RECEIVED", |v| bytes(v.device.stats.rx_bytes)),
                Column::number("SENT", |v| bytes(v.device.stats.tx_bytes)),
                Column::new("ADDRESSES", |v| list(&v.addresses)),
                Column::wide(Column::new("MAC", |v| or_none(v.device.mac))),
                Column::wide(Column::new("POLICY", |v| policies(&v.device))),
                Column::wide(Column::number("GSO MAX", |v| v.device.gso_max_size.to_string())),
                Column::wide(Column::number("GRO MAX", |v| v.device.gro_max_size.to_string())),
                Column::wide(Column::new("QUEUES", |v| queues(&v.device))),
                Column::wide(Column::number("DROPPED", |v| {
                    v.device.stats.rx_dropped.saturating_add(v.device.stats.tx_dropped).to_string()
                })),
                Column::wide(Column::new("ALIAS", |v| v.device.alias.clone().unwrap_or_default())),
            ],
        )
    }
}

impl Render for DeviceView {
    fn render(&self, _wide: bool) -> String {
        let mut lines = Vec::new();
        if let Some(owner) = &self.owner {
            lines.push(("Owner", owner.clone()));
        }
        lines.extend(end(&self.device));
        lines.push(("Addresses", list(&self.addresses)));
        let own = facts(lines);
        let Some(other) = &self.peer else {
            return match self.device.peer_ifindex {
                None => own,
                Some(_) => format!(
                    "{own}\n\nThe other end, {}, is in a namespace that nothing leads to.",
                    peer(&self.device)
                ),
            };
        };
        let mut lines = end(&other.device);
        lines.push(("Addresses", list(&other.addresses)));
        let paths = list(other.netns_paths.iter().map(|path| path.display()));
        let place = if paths.is_empty() { "the same namespace".to_owned() } else { paths };
        format!("{own}\n\nThe other end, in {place}:\n{}", facts(lines))
    }
}

fn end(device: &Device) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("Name", format!("{} (index {})", device.name, device.ifindex)),
        ("Namespace", device.netns.to_string()),
        ("Kind", kind(device)),
        ("State", state(device)),
    ];
    if let Some(primary) = device.netkit_primary {
        lines.push(("End", if primary { "primary" } else { "peer" }.to_owned()));
        lines.push(("Default policy", policies(device)));
        let scrub = |scrub: Option<_>| {
            scrub.map_or_else(|| "unknown".to_owned(), |scrub| format!("{scrub:?}").to_lowercase())
        };
        lines.push(("Scrub", format!("{}, peer {}", scrub(device.scrub), scrub(device.peer_scrub))));
        let room = |bytes: Option<u16>| bytes.map_or_else(|| "unknown".to_owned(), |bytes| bytes.to_string());
        lines.push((
            "Headroom, tailroom",
            format!("{}, {} bytes", room(device.headroom), room(device.tailroom)),
        ));
    }
    if device.mac.is_some() {
        lines.push(("MAC", or_none(device.mac)));
    }
    let most = if device.max_mtu == 0 { "any".to_owned() } else { device.max_mtu.to_string() };
    lines.push(("MTU", format!("{} ({} to {most})", device.mtu, device.min_mtu)));
    let ipv4 = |size: Option<u32>| size.map_or_else(|| "the same".to_owned(), |size| size.to_string());
    lines
        .push(("GSO max", format!("{}, IPv4 {} bytes", device.gso_max_size, ipv4(device.gso_ipv4_max_size))));
    lines
        .push(("GRO max", format!("{}, IPv4 {} bytes", device.gro_max_size, ipv4(device.gro_ipv4_max_size))));
    if let Some(most) = device.tso_max_size {
        lines.push(("GSO limit", format!("{most} bytes, {} segments", device.gso_max_segs)));
    }
    lines.push(("Queues", queues(device)));
    lines.push(("Queueing", format!("{}, {} packets", device.qdisc, device.tx_queue_length)));
    if let Some(controller) = device.controller {
        lines.push(("Belongs to", format!("the device with index {controller}")));
    }
    if let Some(alias) = &device.alias {
        lines.push(("Alias", alias.clone()));
    }
    let stats = device.stats;
    let traffic = |packets, size, dropped, errors| {
        format!("{packets} packets, {}; {dropped} dropped, {errors} errors", bytes(size))
    };
    lines.push(("Received", traffic(stats.rx_packets, stats.rx_bytes, stats.rx_dropped, stats.rx_errors)));
    lines.push(("Sent", traffic(stats.tx_packets, stats.tx_bytes, stats.tx_dropped, stats.tx_errors)));
    lines
}

/// The mode of a pair, else the kernel's kind.
fn kind(device: &Device) -> String {
    device.mode.map_or_else(|| device.kind.clone(), |mode| mode.to_string())
}

/// `up`, or why it is not.
fn state(device: &Device) -> String {
    match (device.up, device.state.as_str()) {
        (false, _) => "down".to_owned(),
        (true, "up" | "unknown" | "") => "up".to_owned(),
        (true, other) => format!("up, {other}"),
    }
}

/// The other end's index, and the number of its namespace if it is another one, as `ip link` has it.
fn peer(device: &Device) -> String {
    match (device.peer_ifindex, device.peer_nsid) {
        (None, _) => String::new(),
        (Some(index), None) => format!("index {index}"),
        (Some(index), Some(nsid)) => format!("index {index} in nsid {nsid}"),
    }
}

fn policies(device: &Device) -> String {
    match (device.policy, device.peer_policy) {
        (Some(own), Some(other)) => format!("{own:?}, peer {other:?}").to_lowercase(),
        _ => String::new(),
    }
}

fn queues(device: &Device) -> String {
    format!("{} transmit, {} receive", device.tx_queues, device.rx_queues)
}
