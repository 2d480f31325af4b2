use netloom_api::types::{EndpointMigrated, EndpointView};

use super::{
    Render,
    table::{Column, Tone, facts, table},
    text::{bytes, labels, list, or_none},
};

impl Render for [EndpointView] {
    fn render(&self, wide: bool) -> String {
        if self.is_empty() {
            return "No endpoints. Add one with `netloom endpoint add NAME --netns NETNS`.".to_owned();
        }
        table(
            self,
            wide,
            &[
                Column::new("NAME", |e| e.endpoint.spec.name.to_string()),
                Column::toned(Column::new("STATE", |e| state(e).to_owned()), |e| match state(e) {
                    "up" => Tone::Good,
                    _ => Tone::Bad,
                }),
                Column::new("MODE", |e| e.endpoint.mode.device.to_string()),
                Column::new("KIND", |e| e.endpoint.mode.attachment.to_string()),
                Column::new("DEVICE", |e| e.endpoint.host_interface.clone()),
                Column::new("ADDRESSES", |e| list(&e.endpoint.addresses)),
                Column::number("SENT", |e| bytes(e.counters.sent_bytes)),
                Column::number("RECEIVED", |e| bytes(e.counters.received_bytes)),
                Column::number("DROPPED", |e| dropped(e).to_string()),
                Column::new("DECIDED BY", |e| e.endpoint.decided_by.clone()),
                Column::wide(Column::number("ID", |e| e.endpoint.id.to_string())),
                Column::wide(Column::number("IFINDEX", |e| e.endpoint.host_ifindex.to_string())),
                Column::wide(Column::number("PEER", |e| e.endpoint.peer_ifindex.to_string())),
                Column::wide(Column::new("INTERFACE", |e| e.endpoint.spec.interface.clone())),
                Column::wide(Column::new("MAC", |e| or_none(e.endpoint.mac))),
                Column::wide(Column::number("MTU", |e| mtu(e).to_string())),
                Column::wide(Column::new("NETNS", |e| e.endpoint.spec.netns.display().to_string())),
                Column::wide(Column::new("NETNS ID", |e| e.endpoint.netns.to_string())),
                Column::wide(Column::new("LABELS", |e| labels(&e.endpoint.spec.labels))),
            ],
        )
    }
}

impl Render for EndpointView {
    fn render(&self, _wide: bool) -> String {
        let endpoint = &self.endpoint;
        let (spec, mode, counters) = (&endpoint.spec, &endpoint.mode, &self.counters);
        let mut lines = vec![
            ("Name", spec.name.to_string()),
            ("State", state(self).to_owned()),
            ("Mode", format!("{} (decided by {})", mode.device, endpoint.decided_by)),
            ("Addresses", list(&endpoint.addresses)),
            ("Device", format!("{} (index {})", endpoint.host_interface, endpoint.host_ifindex)),
            ("Interface", format!("{} (index {})", spec.interface, endpoint.peer_ifindex)),
            ("Namespace", format!("{} {}", spec.netns.display(), endpoint.netns)),
            ("Namespace cookie", endpoint.netns_cookie.to_string()),
        ];
        if mode.device.has_mac() {
            lines.push(("MAC", or_none(endpoint.mac)));
            lines.push(("Device's MAC", or_none(endpoint.host_mac)));
        }
        lines.push(("MTU", mtu(self).to_string()));
        if let Some(device) = &self.device {
            lines.push(("GSO, GRO max", format!("{}, {} bytes", device.gso_max_size, device.gro_max_size)));
        }
        if mode.device.is_netkit() {
            let policies = format!("{:?}, peer {:?}", mode.primary_policy, mode.peer_policy).to_lowercase();
            lines.push(("Default policy", policies));
        }
        if let Some(class) = &spec.runtime_class {
            lines.push(("Runtime class", class.clone()));
        }
        if spec.virtual_machine {
            lines.push(("Virtual machine", "yes".to_owned()));
        }
        if !spec.labels.is_empty() {
            lines.push(("Labels", labels(&spec.labels)));
        }
        if let Some(label) = &self.untranslated {
            lines.push(("Services", format!("not translated (label {label})")));
        }
        lines.extend([
            ("Attachment kind", mode.attachment.to_string()),
            ("Attachments", list(&endpoint.attachments)),
            ("Sent", traffic(counters.sent_packets, counters.sent_bytes)),
            ("Received", traffic(counters.received_packets, counters.received_bytes)),
            (
                "Dropped",
                format!("{} spoofed, {} for other reasons", counters.dropped_spoofed, counters.dropped_other),
            ),
        ]);
        facts(lines)
    }
}

impl Render for EndpointMigrated {
    fn render(&self, _wide: bool) -> String {
        let endpoint = &self.endpoint.endpoint;
        let gap = std::time::Duration::from_micros(self.gap_us);
        let mut lines = vec![
            ("Endpoint", endpoint.spec.name.to_string()),
            ("Mode", format!("{}, before {}", endpoint.mode.device, self.from)),
            ("Without a path", format!("{:.1} ms", gap.as_secs_f64() * 1_000.0)),
            ("Device", format!("{} (index {})", endpoint.host_interface, endpoint.host_ifindex)),
        ];
        for moved in &self.attachments {
            lines.push(("Attachment", format!("{}, before {}", moved.id, moved.was)));
        }
        lines.extend(self.warnings.iter().map(|warning| ("Left behind", warning.clone())));
        facts(lines)
    }
}

/// `gone` if the kernel has its device no longer.
fn state(endpoint: &EndpointView) -> &'static str {
    match &endpoint.device {
        Some(device) if device.up => "up",
        Some(_) => "down",
        None => "gone",
    }
}

/// As the device has it now, or as it was decided if the device is gone.
fn mtu(endpoint: &EndpointView) -> u32 {
    endpoint.device.as_ref().map_or(endpoint.endpoint.mode.mtu, |device| device.mtu)
}

fn dropped(endpoint: &EndpointView) -> u64 {
    endpoint.counters.dropped_spoofed.saturating_add(endpoint.counters.dropped_other)
}

fn traffic(packets: u64, size: u64) -> String {
    format!("{packets} packets, {}", bytes(size))
}
