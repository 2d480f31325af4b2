use std::{collections::BTreeMap, time::Duration};

use ipnet::IpNet;
use netloom_api::types::{Adoption, LocalWay, Masquerade, Outside, PoolView, Status};

use super::{
    Render,
    table::facts,
    text::{count, duration, list},
};

impl Render for Status {
    fn render(&self, wide: bool) -> String {
        let mut sections = vec![daemon(self)];
        let mut section = |title: &str, number: usize, body: String| {
            sections.push(format!("{title} ({number})\n{body}"));
        };
        section("Endpoints", self.endpoints.len(), self.endpoints.as_slice().render(wide));
        section("Attachments", self.attachments.len(), self.attachments.as_slice().render(wide));
        section("Services", self.services.len(), self.services.as_slice().render(wide));
        section("Plugins", self.plugins.len(), self.plugins.as_slice().render(wide));
        sections.join("\n\n")
    }
}

fn daemon(status: &Status) -> String {
    let socket_lb = match &status.socket_lb {
        Some(cgroup) => format!("{} (links {})", cgroup.display(), list(&status.socket_lb_links)),
        None => "off; `netloom doctor` says why".to_owned(),
    };
    let mut lines = vec![
        ("netloomd", format!("{} (pid {})", status.version, status.pid)),
        ("Node", format!("{}, kernel {}", status.node, status.kernel)),
        ("Up for", duration(Duration::from_millis(status.uptime_ms))),
        ("Sockets", format!("found by {}, destroyed by {}", status.socket_finder, status.socket_destroyer)),
        ("Namespaces", namespaces(&status.namespaces)),
        ("Socket-LB", socket_lb),
        ("Outside", outside(&status.outside)),
        ("Masquerade", masquerade(&status.outside.masquerade)),
        ("Between endpoints", local(&status.local)),
    ];
    lines.extend(status.pools.iter().map(|pool| ("Pool", self::pool(pool))));
    lines.extend(status.local.endpoints.iter().map(|(name, why)| ("By the stack", format!("{name}: {why}"))));
    lines.extend(store(status).map(|trouble| ("Store", trouble)));
    lines.extend(adoption(&status.adoption));
    facts(lines)
}

/// Why the store cannot be written, where that is so.
fn store(status: &Status) -> Option<String> {
    let trouble = status.store.trouble.as_ref()?;
    let path = status.store.path.display();
    Some(format!("{path} cannot be written, changes are refused: {}", trouble.message))
}

fn namespaces(known: &BTreeMap<String, usize>) -> String {
    let each: Vec<String> = known.iter().map(|(place, count)| format!("{count} by {place}")).collect();
    let all = count(known.values().sum(), "known", "known");
    if each.is_empty() { all } else { format!("{all} ({})", each.join(", ")) }
}

fn outside(outside: &Outside) -> String {
    match &outside.through_stack {
        Some(why) => format!("through the node's stack: {why}"),
        None => format!("by {}, past the node's stack", outside.uplinks.join(", ")),
    }
}

fn masquerade(masquerade: &Masquerade) -> String {
    let prefixes = |prefixes: &[IpNet]| prefixes.iter().map(IpNet::to_string).collect::<Vec<_>>().join(", ");
    match &masquerade.off {
        Some(why) => format!("off: {why}"),
        None => {
            format!("from {}, but not to {}", prefixes(&masquerade.from), prefixes(&masquerade.native))
        }
    }
}

fn pool(pool: &PoolView) -> String {
    let PoolView { prefix, size, used, .. } = pool;
    // Nobody counts what an IPv6 network has.
    let of = if *size > u64::from(u32::MAX) { String::new() } else { format!(" of {size}") };
    format!("{prefix}, {used}{of} given")
}

fn local(local: &LocalWay) -> String {
    match (&local.through_stack, &local.translated_by) {
        (Some(why), _) => format!("through the node's stack: {why}"),
        (None, Some(what)) => format!("past the node's stack, but for flows that {what} translates"),
        (None, None) => "past the node's stack".to_owned(),
    }
}

fn adoption(adoption: &Adoption) -> Vec<(&'static str, String)> {
    let mut lines = vec![(
        "Adopted",
        format!(
            "{}, {} ({} anew)",
            count(adoption.endpoints, "endpoint", "endpoints"),
            count(adoption.attachments + adoption.reattached, "attachment", "attachments"),
            adoption.reattached
        ),
    )];
    lines.extend(adoption.dropped.iter().map(|record| ("Dropped", record.clone())));
    lines.extend(adoption.orphans.iter().map(|what| ("Left alone", format!("{what}: no record knows it"))));
    lines.extend(adoption.recovered.iter().map(|operation| ("Recovered", operation.clone())));
    lines
}
