//! What the kernel has, as `ip` shows it: for comparing with what Netloom says.

use netloom_test_support::Netns;
use serde_json::Value;

/// A device of a namespace, with all its attributes.
///
/// # Panics
/// If there is none of that name.
pub fn link(netns: &Netns, device: &str) -> Value {
    let mut links = json(netns, &["-d", "link", "show", "dev", device]);
    assert_eq!(links.len(), 1, "{device}: {links:?}");
    links.remove(0)
}

/// The names of a namespace's devices.
pub fn devices(netns: &Netns) -> Vec<String> {
    json(netns, &["link", "show"]).iter().map(|link| text(&link["ifname"])).collect()
}

/// The addresses of a device that are no link-local ones, with the lengths of their networks: IPv4 first.
pub fn addresses(netns: &Netns, device: &str) -> Vec<String> {
    let shown = json(netns, &["address", "show", "dev", device, "scope", "global"]);
    let all = shown.iter().filter_map(|link| link["addr_info"].as_array()).flatten();
    // Of an address of another scope, it leaves an empty object.
    let all = all.filter(|ip| ip["local"].is_string());
    let mut addresses: Vec<String> =
        all.map(|ip| format!("{}/{}", text(&ip["local"]), ip["prefixlen"])).collect();
    addresses.sort_by_key(|address| address.contains(':'));
    addresses
}

/// Where the default routes of a namespace lead: the devices' names, of IPv4 and of IPv6, the ones taken first in front.
pub fn default_routes(netns: &Netns) -> [Vec<String>; 2] {
    ["-4", "-6"].map(|family| {
        json(netns, &[family, "route", "show", "default"]).iter().map(|route| text(&route["dev"])).collect()
    })
}

fn json(netns: &Netns, arguments: &[&str]) -> Vec<Value> {
    let shown = netns.ip(&[&["-j"], arguments].concat());
    // Of nothing, some versions of `ip` write nothing.
    if shown.trim().is_empty() {
        Vec::new()
    } else {
        serde_json::from_str(&shown).expect("`ip -j` writes JSON")
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("`ip` shows something else: {value}")).to_owned()
}
