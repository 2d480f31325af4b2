//! Names that the daemon gives: devices, pins, attachments. Each can be told from its owner alone,
//! so that what a crash left behind can be found by name.

use std::path::{Path, PathBuf};

use netloom_core::model::{MacAddress, Name, Owner};
use sha2::{Digest as _, Sha256};

/// The node's end of an endpoint's pair: at most 15 bytes, the start of the endpoint's name and a hash of all
/// of it and of the instance, so that two instances on a node cannot meet.
pub(crate) fn host_interface(instance: &str, endpoint: &Name) -> String {
    let start: String = endpoint.as_str().chars().filter(char::is_ascii_alphanumeric).take(6).collect();
    let [a, b, c, ..] = hash(instance, endpoint.as_str());
    format!("nl{start}{a:02x}{b:02x}{c:02x}")
}

/// The node's end of the pair that an endpoint is taken to. It goes back and forth between two names: both pairs are
/// there for a while.
pub(crate) fn next_host_interface(instance: &str, endpoint: &Name, present: &str) -> String {
    let first = host_interface(instance, endpoint);
    if present != first {
        return first;
    }
    let start: String = endpoint.as_str().chars().filter(char::is_ascii_alphanumeric).take(6).collect();
    let [.., a, b, c] = hash(instance, endpoint.as_str());
    format!("nl{start}{a:02x}{b:02x}{c:02x}")
}

/// The ids of its datapath's attachments there, likewise.
pub(crate) fn next_endpoint_attachments(endpoint: &Name, present: &[String]) -> Vec<String> {
    let named = |suffix: &str| {
        ["from", "to"].map(|direction| endpoint_attachment(endpoint, &format!("{direction}{suffix}"))).into()
    };
    let first: Vec<String> = named("");
    if present == first { named("-2") } else { first }
}

/// A locally administered address of an endpoint's own, the same each time.
pub(crate) fn mac(instance: &str, endpoint: &Name, host_end: bool) -> MacAddress {
    let [a, b, c, d, ..] = hash(instance, endpoint.as_str());
    MacAddress([0x02, if host_end { 0x6e } else { 0x6c }, a, b, c, d])
}

/// The same for a device of ours that is no endpoint's.
pub(crate) fn device_mac(instance: &str, device: &str, host_end: bool) -> MacAddress {
    let [a, b, c, d, ..] = hash(instance, device);
    MacAddress([0x02, if host_end { 0x64 } else { 0x65 }, a, b, c, d])
}

fn hash(instance: &str, name: &str) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(instance.as_bytes());
    hasher.update([0]);
    hasher.update(name.as_bytes());
    hasher.finalize().into()
}

/// The alias of a device of ours, as `ip link` shows it.
pub(crate) fn alias(instance: &str, endpoint: &Name) -> String {
    format!("{}{endpoint}", alias_prefix(instance))
}

/// What every alias of an instance starts with.
pub(crate) fn alias_prefix(instance: &str) -> String {
    format!("{instance}: endpoint ")
}

/// The alias of a device that a plugin created.
pub(crate) fn plugin_alias(instance: &str, plugin: &Name) -> String {
    format!("{instance}: plugin {plugin}")
}

/// The endpoint that an alias names.
pub(crate) fn endpoint_of(instance: &str, alias: &str) -> Option<Name> {
    Name::new(alias.strip_prefix(&alias_prefix(instance))?).ok()
}

/// Whether an alias says that a device is one of this instance.
pub(crate) fn is_ours(instance: &str, alias: &str) -> bool {
    let kinds = [": endpoint ", ": device ", ": plugin "];
    alias.strip_prefix(instance).is_some_and(|rest| kinds.iter().any(|kind| rest.starts_with(kind)))
}

/// The alias of a device of ours that is no endpoint's, with a text of whoever asked for it.
pub(crate) fn device_alias(instance: &str, name: &str, text: &str) -> String {
    let start = format!("{instance}: device {name}");
    if text.is_empty() { start } else { format!("{start}: {text}") }
}

/// The id of an attachment of an endpoint's datapath.
pub(crate) fn endpoint_attachment(endpoint: &Name, direction: &str) -> String {
    format!("{endpoint}:{direction}")
}

/// The id of the attachment to a device to outside. No owner but the datapath's has such names.
pub(crate) fn uplink_attachment(device: &str) -> String {
    format!("{}-uplink-{device}", Owner::DATAPATH.replace('/', "-"))
}

/// The id of an attachment that somebody asked for.
pub(crate) fn attachment(owner: &Owner, number: u64) -> String {
    format!("{}-{number}", owner.as_str().replace(['/', '.'], "-"))
}

/// Where an attachment's link is pinned. bpffs takes no dots in names, and `~` is in no name of ours.
pub(crate) fn pin(bpffs: &Path, attachment: &str) -> PathBuf {
    let (folder, file) = match attachment.split_once(':') {
        Some((endpoint, direction)) => (format!("endpoints/{endpoint}"), direction),
        None => ("attachments".to_owned(), attachment),
    };
    bpffs.join(folder.replace('.', "~")).join(file.replace('.', "~"))
}

/// Where the program is pinned that is about to take the place of a pinned one.
pub(crate) fn next_pin(pin: &Path) -> PathBuf {
    let mut name = pin.file_name().unwrap_or_default().to_owned();
    name.push("~next");
    pin.with_file_name(name)
}

/// Where the maps are pinned that an attachment's object wants pinned by name.
pub(crate) fn map_folder(bpffs: &Path, attachment: &str) -> PathBuf {
    bpffs.join("objects").join(attachment.replace('.', "~"))
}

/// Where the maps are pinned that all objects of an owner share.
pub(crate) fn shared_map_folder(bpffs: &Path, owner: &Owner) -> PathBuf {
    // Neither `+` nor `~` is in an owner's name.
    shared_maps_folder(bpffs).join(owner.as_str().replace('/', "+").replace('.', "~"))
}

/// Where the gates are pinned while an attachment is taken to another place.
pub(crate) fn move_folder(bpffs: &Path, attachment: &str) -> PathBuf {
    moves_folder(bpffs).join(attachment.replace('.', "~"))
}

/// The folder of all these.
pub(crate) fn shared_maps_folder(bpffs: &Path) -> PathBuf {
    bpffs.join("shared")
}

/// Where the programs of before and after are pinned while an attachment is updated.
pub(crate) fn update_folder(bpffs: &Path, attachment: &str) -> PathBuf {
    updates_folder(bpffs).join(attachment.replace('.', "~"))
}

/// The folder of all these.
pub(crate) fn updates_folder(bpffs: &Path) -> PathBuf {
    bpffs.join("updates")
}

/// The folder of all the folders of gates.
pub(crate) fn moves_folder(bpffs: &Path) -> PathBuf {
    bpffs.join("moves")
}

/// Every pin of ours that is there, of endpoints and of attachments.
pub(crate) fn pins(bpffs: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut folders = vec![bpffs.join("attachments")];
    folders.extend(entries(&bpffs.join("endpoints"))?);
    let mut pins = Vec::new();
    for folder in folders {
        pins.extend(entries(&folder)?);
    }
    Ok(pins)
}

pub(crate) fn entries(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn host_interfaces_fit_and_differ_between_instances_and_endpoints() {
        let names = ["web", "web.2", "a-very-long-endpoint-name-0123456789-0123456789-0123456789-abcd"];
        let mut seen = HashSet::new();
        for instance in ["netloom", "netloom-demo"] {
            for name in names {
                let device = host_interface(instance, &Name::new(name).unwrap());
                assert!(device.len() <= 15, "{device}");
                assert!(seen.insert(device));
            }
        }
    }

    #[test]
    fn the_names_of_an_endpoints_pairs_alternate() {
        let name = Name::new("web").unwrap();
        let first = host_interface("netloom", &name);
        let second = next_host_interface("netloom", &name, &first);
        assert!(first != second && second.len() <= 15, "{second}");
        assert_eq!(next_host_interface("netloom", &name, &second), first);
        let second = next_endpoint_attachments(&name, &["web:from".into(), "web:to".into()]);
        assert_eq!(second, ["web:from-2", "web:to-2"]);
        assert_eq!(next_endpoint_attachments(&name, &second), ["web:from", "web:to"]);
    }

    #[test]
    fn macs_are_unicast_and_locally_administered() {
        let name = Name::new("web").unwrap();
        let (host, peer) = (mac("netloom", &name, true), mac("netloom", &name, false));
        assert_ne!(host, peer);
        assert!(host.0[0] & 3 == 2 && peer.0[0] & 3 == 2);
    }

    #[test]
    fn pins_have_no_dots_and_do_not_collide() {
        let bpffs = Path::new("/sys/fs/bpf/netloom");
        let dotted = pin(bpffs, &endpoint_attachment(&Name::new("web.1").unwrap(), "from"));
        let dashed = pin(bpffs, &endpoint_attachment(&Name::new("web-1").unwrap(), "from"));
        assert_eq!(dotted, Path::new("/sys/fs/bpf/netloom/endpoints/web~1/from"));
        assert_ne!(dotted, dashed);
    }
}
