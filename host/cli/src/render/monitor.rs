use std::net::{IpAddr, SocketAddr};

use netloom_api::types::{ConnectEvent, DropEvent, MonitorEvent};

use super::{Render, text::millis};

/// A line an event: tables need to know all of their rows.
impl Render for MonitorEvent {
    fn render(&self, wide: bool) -> String {
        match self {
            Self::Drop(event) => drop_line(event, wide),
            Self::Connect(event) => connect_line(event, wide),
            Self::Lost(lost) => {
                let events = if lost.events == 1 { "event" } else { "events" };
                format!("{}  lost     {} {events} lost", millis(lost.time_ms), lost.events)
            }
        }
    }
}

fn drop_line(event: &DropEvent, wide: bool) -> String {
    let endpoint =
        event.endpoint.as_ref().map_or_else(|| format!("#{}", event.endpoint_id), ToString::to_string);
    let mut line = format!(
        "{}  drop     {endpoint}  {} {}  {}  {} bytes",
        millis(event.time_ms),
        event.reason,
        event.direction,
        packet(event),
        event.length
    );
    if wide {
        let device = event.device.as_deref().unwrap_or("gone");
        line += &format!("  device {device} (index {})", event.ifindex);
        if let Some(netns) = &event.netns {
            line += &format!("  namespace {}", netns.display());
        }
    }
    line
}

fn packet(event: &DropEvent) -> String {
    let (Some(source), Some(destination)) = (event.source, event.destination) else {
        return match event.ethertype {
            0x0800 => "IPv4".to_owned(),
            0x86dd => "IPv6".to_owned(),
            0x0806 => "ARP".to_owned(),
            other => format!("ethertype {other:#06x}"),
        };
    };
    let end = |address: IpAddr, port: Option<u16>| match port {
        Some(port) => SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    };
    format!(
        "{} {} -> {}",
        protocol(event.protocol),
        end(source, event.source_port),
        end(destination, event.destination_port)
    )
}

fn protocol(number: Option<u8>) -> String {
    match number {
        Some(1) => "icmp".to_owned(),
        Some(6) => "tcp".to_owned(),
        Some(17) => "udp".to_owned(),
        Some(58) => "icmpv6".to_owned(),
        Some(other) => format!("protocol {other}"),
        None => "unknown".to_owned(),
    }
}

fn connect_line(event: &ConnectEvent, wide: bool) -> String {
    let service = event.service.as_ref().map_or_else(|| "service".to_owned(), ToString::to_string);
    let protocol = event.protocol.map(|protocol| format!("/{protocol}")).unwrap_or_default();
    let outcome =
        event.backend.map_or_else(|| "refused, no backend".to_owned(), |backend| format!("-> {backend}"));
    let who = event.endpoint.as_ref().map_or_else(|| "(no endpoint)".to_owned(), ToString::to_string);
    let mut line = format!(
        "{}  connect  {who}  {} ({})  {service} {}{protocol} {outcome}",
        millis(event.time_ms),
        event.command,
        event.process,
        event.vip
    );
    if wide {
        line += &format!("  socket {}  namespace {}", event.cookie, event.netns_cookie);
        if let Some(netns) = &event.netns {
            line += &format!(" {}", netns.display());
        }
    }
    line
}
