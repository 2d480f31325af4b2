//! netfilter: base chains of nftables (to which today's iptables belongs), tables of the older iptables, services of
//! IPVS. Chains without rules count, for rules may come at any time.

use std::{fs, io, path::Path};

use rtnetlink::sys::protocols::NETLINK_NETFILTER;

use super::{
    Refusal, Say,
    nftables::{
        CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TABLE, CHAIN_TYPE, DROP, FORWARD, HOOK_NUMBER, INET,
        IPV4, IPV6, Kind, LOCAL_IN, LOCAL_OUT, RULE_CHAIN, RULE_EXPRESSIONS, RULE_TABLE,
    },
};
use crate::netlink::{attribute, dump, text};

/// What a chain has a say in, and what it is called.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Packets(String),
    Flows(String),
}

/// A base chain of nftables.
#[derive(Debug, Default, PartialEq, Eq)]
struct Chain {
    family: u8,
    table: String,
    name: String,
    kind: String,
    hook: u32,
    /// What becomes of packets that no rule decides about.
    policy: Option<u32>,
}

/// In the calling thread's namespace. A table of the family `inet` may be left out.
pub(super) fn look(say: &mut Say, own_table: Option<&str>) -> io::Result<()> {
    // A struct nfgenmsg: NFPROTO_UNSPEC, version 0, no resource.
    let chains = match dump(NETLINK_NETFILTER, Kind::GetChain.number(), &[0; 4]) {
        // A kernel without nftables does not know the question.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Vec::new(),
        chains => chains?.unwrap_or_default(),
    };
    let chains = chains.iter().filter(|message| message.kind == Kind::NewChain.number());
    let chains: Vec<Chain> = chains.filter_map(|message| Chain::read(&message.payload)).collect();
    let is_other = |chain: &&Chain| chain.family != INET || Some(chain.table.as_str()) != own_table;
    say.refusals = refusals(&chains)?;
    for found in chains.iter().filter(is_other).filter_map(Chain::found).chain(older(of_thread())) {
        match found {
            Found::Packets(what) => Say::note(&mut say.packets, || what),
            Found::Flows(what) => Say::note(&mut say.flows, || what),
        }
    }
    Ok(())
}

/// The chains that drop what nobody lets be forwarded, and let nothing of ours through.
fn refusals(chains: &[Chain]) -> io::Result<Vec<Refusal>> {
    let mut refusals: Vec<Refusal> = chains.iter().filter_map(Chain::refusal).collect();
    if !refusals.is_empty() {
        let rules = dump(NETLINK_NETFILTER, Kind::GetRule.number(), &[0; 4])?.unwrap_or_default();
        refusals.retain(|refusal| {
            let of_chain = rules.iter().filter(|rule| names_our_devices(&rule.payload, refusal));
            of_chain.count() < 2
        });
    }
    Ok(refusals)
}

/// Whether a rule of a chain asks for devices by the start of our names.
fn names_our_devices(payload: &[u8], chain: &Refusal) -> bool {
    let Some(attributes) = payload.get(4..) else { return false };
    let is = |kind, name: &str| attribute(attributes, kind).is_some_and(|value| text(&value) == name);
    let expressions = attribute(attributes, RULE_EXPRESSIONS).unwrap_or_default();
    // A value of as many bytes as a name that goes on in any way is compared by.
    let value =
        [&((DEVICES.len() + 4) as u16).to_ne_bytes(), &1_u16.to_ne_bytes(), DEVICES.as_bytes()].concat();
    is(RULE_TABLE, &chain.table)
        && is(RULE_CHAIN, &chain.chain)
        && expressions.windows(value.len()).any(|window| window == value)
}

/// How the names of all our devices begin.
const DEVICES: &str = "nl";

/// The contents of what [`older`] reads, which changes without an announcement.
pub(super) fn unannounced() -> String {
    let read = |file: &&str| fs::read_to_string(of_thread().join(file)).unwrap_or_default();
    let services = has_ipvs_services(of_thread());
    format!("{}{services}", TABLES.iter().map(read).collect::<Vec<_>>().join("-"))
}

fn of_thread() -> &'static Path {
    Path::new("/proc/thread-self/net")
}

/// `NFPROTO_ARP`, `NFPROTO_NETDEV`, `NFPROTO_BRIDGE`.
const ARP: u8 = 3;
const NETDEV: u8 = 5;
const BRIDGE: u8 = 7;

impl Chain {
    /// None for one that is not a base chain.
    fn read(payload: &[u8]) -> Option<Self> {
        let (family, attributes) = (*payload.first()?, payload.get(4..)?);
        let hook = attribute(attributes, CHAIN_HOOK)?;
        let number = |bytes: Vec<u8>| Some(u32::from_be_bytes(bytes.try_into().ok()?));
        let field = |kind| attribute(attributes, kind).map(|value| text(&value)).unwrap_or_default();
        Some(Self {
            family,
            table: field(CHAIN_TABLE),
            name: field(CHAIN_NAME),
            kind: field(CHAIN_TYPE),
            hook: attribute(&hook, HOOK_NUMBER).and_then(number)?,
            policy: attribute(attributes, CHAIN_POLICY).and_then(number),
        })
    }

    fn is_of_ip(&self) -> bool {
        [INET, IPV4, IPV6].contains(&self.family)
    }

    fn family_name(&self) -> &'static str {
        match self.family {
            INET => "inet",
            IPV4 => "ip",
            IPV6 => "ip6",
            NETDEV => "netdev",
            BRIDGE => "bridge",
            _ => "of an unknown family",
        }
    }

    /// What it has a say in: nothing if it sees the node's own packets alone. Those of ARP see no packets of IP.
    fn found(&self) -> Option<Found> {
        if self.family == ARP || (self.is_of_ip() && [LOCAL_IN, LOCAL_OUT].contains(&self.hook)) {
            return None;
        }
        let what = format!("the nftables chain {} {} {}", self.family_name(), self.table, self.name);
        Some(if self.kind == "nat" { Found::Flows(what) } else { Found::Packets(what) })
    }

    /// A chain that drops what nobody lets be forwarded.
    fn refusal(&self) -> Option<Refusal> {
        let refuses = self.is_of_ip() && self.hook == FORWARD && self.policy == Some(DROP);
        refuses.then(|| Refusal {
            family: self.family_name().to_owned(),
            table: self.table.clone(),
            chain: self.name.clone(),
        })
    }
}

/// The files that name the tables of the older iptables; a kernel without it has none.
const TABLES: [&str; 2] = ["ip_tables_names", "ip6_tables_names"];

/// What a folder of `/proc` says of the older iptables and of IPVS.
fn older(folder: &Path) -> Vec<Found> {
    let mut found = Vec::new();
    for file in TABLES {
        let names = fs::read_to_string(folder.join(file)).unwrap_or_default();
        found.extend(names.lines().map(|name| {
            let what = format!("the iptables table {name}");
            if name == "nat" { Found::Flows(what) } else { Found::Packets(what) }
        }));
    }
    if has_ipvs_services(folder) {
        found.push(Found::Flows("IPVS".to_owned()));
    }
    found
}

/// Whether IPVS has services. Three lines say what the others are.
fn has_ipvs_services(folder: &Path) -> bool {
    fs::read_to_string(folder.join("ip_vs")).is_ok_and(|services| services.lines().count() > 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::with;

    fn payload(family: u8, hook: u32, kind: &str) -> Vec<u8> {
        let mut bytes = vec![family, 0, 0, 0];
        bytes.extend(with(CHAIN_TABLE, b"fw\0"));
        bytes.extend(with(CHAIN_NAME, b"gate\0"));
        bytes.extend(with(CHAIN_POLICY, &DROP.to_be_bytes()));
        bytes.extend(with(CHAIN_TYPE, format!("{kind}\0").as_bytes()));
        let hook = with(HOOK_NUMBER, &hook.to_be_bytes());
        bytes.extend(with(CHAIN_HOOK | 0x8000, &hook));
        bytes
    }

    fn chain(payload: &[u8]) -> Option<Found> {
        Chain::read(payload)?.found()
    }

    #[test]
    fn chains_that_drop_what_is_forwarded_are_told() {
        let refusal = |family, hook| Chain::read(&payload(family, hook, "filter")).unwrap().refusal();
        let named = Refusal { family: "ip".into(), table: "fw".into(), chain: "gate".into() };
        assert_eq!(refusal(2, 2), Some(named));
        assert_eq!(refusal(2, 0), None, "before it is known where a packet goes");
        assert_eq!(refusal(7, 2), None, "a bridge's");
    }

    #[test]
    fn a_rule_that_asks_for_our_devices_by_the_start_of_their_names_is_told() {
        let drops = Refusal { family: "ip".into(), table: "fw".into(), chain: "gate".into() };
        let is_ours = |table: &[u8], chain: &[u8], device: &[u8]| {
            let mut bytes = vec![2, 0, 0, 0];
            bytes.extend(with(RULE_TABLE, table));
            bytes.extend(with(RULE_CHAIN, chain));
            bytes.extend(with(RULE_EXPRESSIONS, &with(1, device)));
            names_our_devices(&bytes, &drops)
        };
        assert!(is_ours(b"fw\0", b"gate\0", b"nl"));
        assert!(!is_ours(b"others\0", b"gate\0", b"nl"), "another table");
        assert!(!is_ours(b"fw\0", b"door\0", b"nl"), "another chain");
        assert!(!is_ours(b"fw\0", b"gate\0", b"eth"), "other devices");
        assert!(!is_ours(b"fw\0", b"gate\0", b"nl0\0"), "one device");
        assert!(!names_our_devices(&[2, 0], &drops));
    }

    #[test]
    fn a_table_of_the_older_iptables_is_found_in_either_family() {
        let folder = tempfile::tempdir().unwrap();
        let named = |file: &str, names: &str| {
            fs::write(folder.path().join(file), names).unwrap();
            older(folder.path())
        };
        assert_eq!(older(folder.path()), []);
        assert_eq!(named("ip_tables_names", ""), [], "a module that has no table");
        let (mangle, nat) = ("the iptables table mangle".to_owned(), "the iptables table nat".to_owned());
        assert_eq!(named("ip6_tables_names", "mangle\nnat\n"), [Found::Packets(mangle), Found::Flows(nat)]);
        let found = named("ip_tables_names", "filter\n");
        assert_eq!(found[0], Found::Packets("the iptables table filter".into()));
    }

    #[test]
    fn services_of_ipvs_translate() {
        let folder = tempfile::tempdir().unwrap();
        let head =
            "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port\n  -> RemoteAddress:Port\n";
        fs::write(folder.path().join("ip_vs"), head).unwrap();
        assert_eq!(older(folder.path()), [], "a module without a service");
        fs::write(folder.path().join("ip_vs"), format!("{head}TCP  0A600001:0050 rr\n")).unwrap();
        assert_eq!(older(folder.path()), [Found::Flows("IPVS".into())]);
    }

    #[test]
    fn chains_that_see_what_is_forwarded_are_told_from_others() {
        let packets = |family: &str| Some(Found::Packets(format!("the nftables chain {family} fw gate")));
        assert_eq!(chain(&payload(1, 2, "filter")), packets("inet"));
        assert_eq!(chain(&payload(2, 0, "filter")), packets("ip"));
        assert_eq!(chain(&payload(10, 4, "filter")), packets("ip6"));
        assert_eq!(chain(&payload(1, 5, "filter")), packets("inet"), "at the ingress of a device");
        assert_eq!(chain(&payload(5, 1, "filter")), packets("netdev"), "at the egress of a device");
        assert_eq!(chain(&payload(7, 1, "filter")), packets("bridge"));
        assert_eq!(chain(&payload(99, 1, "filter")), packets("of an unknown family"));
        let nat = Found::Flows("the nftables chain ip fw gate".into());
        assert_eq!(chain(&payload(2, 4, "nat")), Some(nat));
        assert_eq!(chain(&payload(2, 1, "filter")), None, "what is for the node itself");
        assert_eq!(chain(&payload(1, 3, "nat")), None, "what the node itself sends");
        assert_eq!(chain(&payload(3, 0, "filter")), None, "ARP");
    }

    #[test]
    fn bytes_of_any_length_are_taken() {
        let whole = payload(2, 4, "filter");
        for length in 0..whole.len() {
            assert_eq!(chain(&whole[..length]), None);
        }
    }
}
