//! What the programs do with every kind of packet, as a table: each is run over frames, by the kernel, in every mode,
//! both directions and both families. Prints the matrix.
//!
//! No packet goes anywhere, so that this needs neither netkit nor a wire. Tags that devices keep beside a frame do not
//! come up here; `tests/netns/tests/node/link.rs` sends them.

mod frame;

use std::fmt;

use netloom_core::model::{AttachmentKind, DeviceMode, IfIndex, MacAddress};
use netloom_kernel::{
    datapath::{EndpointConfig, EndpointCounters},
    programs::Program,
};
use netloom_test_support::settle;

use self::frame::{
    Frame, Ip, discovery, hop_by_hop, later_fragment, of_family, options, solicitation, with_extension,
};
use crate::node::{Node, v4, v6};

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Past the node's stack.
    Past,
    /// Made an answer, and sent back.
    Answered,
    /// To the node's stack, as it is.
    Stack,
    /// Dropped, with this reason.
    Dropped(&'static str),
}

use Outcome::{Answered, Dropped, Past, Stack};

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Past => "past",
            Answered => "answered",
            Stack => "stack",
            Dropped(reason) => reason,
        })
    }
}

const MODES: [(DeviceMode, AttachmentKind); 3] = [
    (DeviceMode::Netkit, AttachmentKind::Netkit),
    (DeviceMode::NetkitL2, AttachmentKind::Netkit),
    (DeviceMode::Veth, AttachmentKind::Tcx),
];

/// Nobody's hardware address.
const ELSEWHERE: [u8; 6] = [0x02, 9, 9, 9, 9, 9];
const EVERYBODY: [u8; 6] = [0xff; 6];
const GROUP: [u8; 6] = [0x01, 0, 0x5e, 0, 0, 0xfb];

/// What classifiers answer.
const SHOT: i32 = 2;
const REDIRECT: i32 = 7;

/// A packet, and what is to become of it in each mode.
struct Case {
    name: String,
    frame: Frame,
    expected: [Outcome; 3],
}

fn case(name: impl Into<String>, frame: Frame, expected: Outcome) -> Case {
    Case { name: name.into(), frame, expected: [expected; 3] }
}

/// One that means something else where there is no link layer.
fn layered(name: impl Into<String>, frame: Frame, without: Outcome, with: Outcome) -> Case {
    Case { name: name.into(), frame, expected: [without, with, with] }
}

/// A node with two endpoints of a mode and an uplink, of which only the programs are real.
struct World {
    node: Node,
    device: IfIndex,
    uplink: IfIndex,
    uplink_mac: [u8; 6],
    uplink_program: Program,
}

impl World {
    fn new() -> Self {
        let node = Node::new();
        node.ip("link set lo up");
        for name in ["ep1", "ep2", "up0"] {
            node.ip(&format!("link add {name} type veth peer name {name}p"));
            node.ip(&format!("link set {name}p up"));
            node.ip(&format!("link set {name} up"));
        }
        node.ip("address add 198.51.100.1/24 dev up0");
        node.ip("address add 2001:db8::1/64 dev up0 nodad");
        node.ip("route add default via 198.51.100.2");
        node.ip("-6 route add default via 2001:db8::2");
        node.forward(true);
        let (device, _) = node.device("ep1");
        let (uplink, mac) = node.device("up0");
        node.datapath.set_uplinks(&[uplink]).unwrap();
        let own = ["198.51.100.1", "2001:db8::1"].map(|address| address.parse().unwrap());
        // The kernel has an address of IPv6 before it routes it.
        own.into_iter().for_each(|address| settle(&node.netns, address));
        assert_eq!(node.datapath.set_own_addresses(&own).unwrap().left, 0);
        let uplink_program = node.datapath.uplink_program().unwrap();
        Self { node, device, uplink, uplink_mac: mac.0, uplink_program }
    }

    fn endpoint(&self, (mode, attachment): (DeviceMode, AttachmentKind), id: u32) -> EndpointConfig {
        let has_mac = mode.has_mac();
        EndpointConfig {
            id,
            mode,
            attachment,
            mtu: 1500,
            host_ifindex: if id == 1 { self.device } else { self.node.device("ep2").0 },
            mac: has_mac.then_some(MacAddress(frame::mac(id))),
            gateway_mac: has_mac.then_some(MacAddress(frame::GATEWAY_MAC)),
            addresses: vec![v4(id), v6(id)],
        }
    }

    fn counters(&self, id: u32) -> EndpointCounters {
        self.node.datapath.counters(id).unwrap()
    }

    /// Runs a program over a frame; what is dropped is counted of an endpoint.
    fn run(&self, program: &Program, device: IfIndex, frame: &[u8], counted: u32) -> Result<Outcome, String> {
        let before = self.counters(counted);
        let (verdict, after) = program
            .test(&self.node.netns, device, frame)
            .map_err(|error| format!("the kernel did not run it: {error:?}"))?;
        let now = self.counters(counted);
        let reasons = [
            ("spoofed", before.dropped_spoofed, now.dropped_spoofed),
            ("malformed", before.dropped_malformed, now.dropped_malformed),
            ("unsupported", before.dropped_unsupported, now.dropped_unsupported),
            ("tagged", before.dropped_tagged, now.dropped_tagged),
            ("link", before.dropped_link, now.dropped_link),
            ("martian", before.dropped_martian, now.dropped_martian),
        ];
        let counted: Vec<_> =
            reasons.iter().filter(|(_, before, now)| before != now).map(|(reason, ..)| *reason).collect();
        match (verdict, counted.as_slice()) {
            (SHOT, [reason]) => Ok(Dropped(reason)),
            (REDIRECT, []) if frame::is_answer(frame, &after) => Ok(Answered),
            (REDIRECT, []) => Ok(Past),
            (-1 | 0, []) if after == frame => Ok(Stack),
            other => Err(format!("{other:?}")),
        }
    }
}

/// Lines of outcomes, and what is not as expected.
#[derive(Default)]
struct Matrix {
    lines: Vec<String>,
    failures: Vec<String>,
}

impl Matrix {
    fn add(&mut self, case: &Case, outcomes: &[Result<Outcome, String>]) {
        let shown = |outcome: &Result<Outcome, String>| match outcome {
            Ok(outcome) => format!("{outcome:>12}"),
            Err(_) => format!("{:>12}", "?"),
        };
        let line: String = outcomes.iter().map(shown).collect();
        self.lines.push(format!("{:58}{line}", case.name));
        for ((outcome, expected), (mode, _)) in outcomes.iter().zip(case.expected).zip(MODES) {
            if *outcome != Ok(expected) {
                self.failures.push(format!("{} on {mode}: {outcome:?} and not {expected}", case.name));
            }
        }
    }

    fn finish(self) {
        println!("{}", self.lines.join("\n"));
        assert!(self.failures.is_empty(), "{}", self.failures.join("\n"));
    }
}

#[tokio::test]
async fn what_an_endpoint_sends() {
    let world = World::new();
    let programs = MODES.map(|mode| {
        world.node.datapath.set_endpoint(&world.endpoint(mode, 1)).unwrap();
        world.node.datapath.endpoint_programs(&world.endpoint(mode, 1)).unwrap().from_endpoint
    });
    let mut matrix = Matrix::default();
    for v6 in [false, true] {
        for case in from_endpoint(v6) {
            let outcomes: Vec<_> = MODES
                .into_iter()
                .zip(&programs)
                .map(|(mode, program)| {
                    for id in [1, 2] {
                        world.node.datapath.set_endpoint(&world.endpoint(mode, id)).unwrap();
                    }
                    let frame = case.frame.bytes(mode.0.has_mac().then_some(frame::GATEWAY_MAC));
                    world.run(program, world.device, &frame, 1)
                })
                .collect();
            matrix.add(&case, &outcomes);
        }
    }
    matrix.finish();
}

#[tokio::test]
async fn what_comes_from_outside() {
    let world = World::new();
    let mut matrix = Matrix::default();
    for v6 in [false, true] {
        for case in from_outside(v6) {
            let outcomes: Vec<_> = MODES
                .into_iter()
                .map(|mode| {
                    for id in [1, 2] {
                        world.node.datapath.set_endpoint(&world.endpoint(mode, id)).unwrap();
                    }
                    let frame = case.frame.bytes(Some(world.uplink_mac));
                    world.run(&world.uplink_program, world.uplink, &frame, 2)
                })
                .collect();
            matrix.add(&case, &outcomes);
        }
    }
    matrix.finish();
}

const fn family(v6: bool) -> &'static str {
    if v6 { "v6" } else { "v4" }
}

/// From endpoint 1: 10.1.0.1, `fd00::1`.
fn from_endpoint(v6: bool) -> Vec<Case> {
    let name = |what: &str| format!("{} {what}", family(v6));
    let [own, local, outside, node] = of_family(
        v6,
        [
            ("10.1.0.1", "fd00::1"),
            ("10.1.0.2", "fd00::2"),
            ("203.0.113.9", "2001:db8:9::9"),
            ("198.51.100.1", "2001:db8::1"),
        ],
    );
    let udp = |to| Ip::udp(own, to);
    let mut cases = vec![
        case(name("to an endpoint"), udp(local).frame(), Past),
        case(name("to outside"), udp(outside).frame(), Past),
        case(name("to the node"), udp(node).frame(), Stack),
        case(
            name("from an address that is not its own"),
            Ip::udp(outside, local).frame(),
            Dropped("spoofed"),
        ),
        case(name("from another endpoint's address"), Ip::udp(local, outside).frame(), Dropped("spoofed")),
        case(name("from the node's address"), Ip::udp(node, local).frame(), Dropped("spoofed")),
        case(name("with an 802.1Q tag"), udp(local).frame().tagged(&[0x8100]), Dropped("tagged")),
        case(name("with an 802.1ad tag"), udp(outside).frame().tagged(&[0x88a8]), Dropped("tagged")),
        case(name("with two tags"), udp(outside).frame().tagged(&[0x88a8, 0x8100]), Dropped("tagged")),
        case(name("as an 802.1Q frame without a tag"), udp(local).frame().of_type(0x8100), Dropped("tagged")),
        case(
            name("in a frame of the other family"),
            udp(local).frame().of_type(if v6 { 0x0800 } else { 0x86dd }),
            Dropped("malformed"),
        ),
        case(name("of version 5"), udp(local).version(5).frame(), Dropped("malformed")),
        case(name("longer than its frame"), udp(local).frame().cut(1), Dropped("malformed")),
        case(name("in an 802.3 frame"), udp(local).frame().of_type(60), Dropped("unsupported")),
        case(
            name("in a frame of an unknown type"),
            udp(local).frame().of_type(0x88b5),
            Dropped("unsupported"),
        ),
        case(name("first fragment"), udp(local).fragment(0, true).frame(), Past),
        case(name("later fragment"), udp(outside).fragment(8, false).frame(), Past),
        layered(name("in a frame to everybody"), udp(local).frame().to(EVERYBODY), Past, Stack),
        layered(name("in a frame to a group"), udp(outside).frame().to(GROUP), Past, Stack),
        case(name("in a frame to an address that nobody has"), udp(local).frame().to(ELSEWHERE), Past),
        case(name("ESP to outside"), udp(outside).protocol(50).frame(), Past),
    ];
    for ttl in [0, 1, 255] {
        cases.push(case(name(&format!("to an endpoint, TTL {ttl}")), udp(local).ttl(ttl).frame(), Stack));
        cases.push(case(name(&format!("to outside, TTL {ttl}")), udp(outside).ttl(ttl).frame(), Stack));
    }
    for ttl in [2, 254] {
        cases.push(case(name(&format!("to outside, TTL {ttl}")), udp(outside).ttl(ttl).frame(), Past));
    }
    for to in nobodys(v6) {
        let to: std::net::IpAddr = to.parse().unwrap();
        cases.push(case(name(&format!("to {to}")), udp(to).frame(), Stack));
    }
    cases.extend(if v6 { from_endpoint_v6() } else { from_endpoint_v4() });
    cases
}

/// Addresses of links, of groups, and of nobody.
fn nobodys(v6: bool) -> &'static [&'static str] {
    if v6 {
        &["::", "::1", "fe80::7", "febf::7", "fec0::7", "ff01::1", "ff02::fb", "ff05::1", "ff0e::1"]
    } else {
        &[
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "169.254.7.7",
            "224.0.0.251",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
        ]
    }
}

fn from_endpoint_v4() -> Vec<Case> {
    let [own, local, outside] = ["10.1.0.1", "10.1.0.2", "203.0.113.9"].map(|ip| ip.parse().unwrap());
    let udp = |to| Ip::udp(own, to);
    let redirect = |to| udp(to).protocol(1).payload(vec![5, 1, 0, 0, 10, 1, 0, 9, 0, 0, 0, 0]);
    vec![
        case("v4 with options to an endpoint", udp(local).options().frame(), Past),
        case("v4 with options to outside", udp(outside).options().frame(), Stack),
        case("v4 with a header of 16 bytes", udp(local).header(4).frame(), Dropped("malformed")),
        case("v4 IGMP", udp("224.0.0.22".parse().unwrap()).protocol(2).ttl(1).frame(), Stack),
        case("v4 redirect to an endpoint", redirect(local).frame(), Past),
        layered("ARP for the gateway", Frame::arp(1), Dropped("unsupported"), Answered),
        layered("ARP for an address of the node", Frame::arp(254), Dropped("unsupported"), Stack),
    ]
}

fn from_endpoint_v6() -> Vec<Case> {
    let [own, local, outside, node, link, all, mapped] =
        ["fd00::1", "fd00::2", "2001:db8:9::9", "2001:db8::1", "fe80::99", "ff02::1", "::ffff:10.1.0.2"]
            .map(|ip| ip.parse().unwrap());
    let udp = |to| Ip::udp(own, to);
    let mut cases = vec![
        case("v6 to an endpoint's IPv4 address, mapped", udp(mapped).frame(), Dropped("martian")),
        case("v6 from its IPv4 address, mapped", Ip::udp(mapped, local).frame(), Dropped("spoofed")),
        case("v6 with options for its destination", with_extension(60, udp(local)).frame(), Past),
        case("v6 with a routing header", with_extension(43, udp(outside)).frame(), Past),
        case("v6 with options for each router", with_extension(0, udp(local)).frame(), Stack),
        case("v6 router alert", hop_by_hop(udp(outside)).frame(), Stack),
        case("v6 with five headers of options", options(5, udp(local)).frame(), Past),
        case("v6 with seven headers of options", options(7, udp(local)).frame(), Stack),
        case(
            "v6 with a header that is not there in full",
            udp(local).protocol(60).payload(vec![17, 0, 0]).frame(),
            Stack,
        ),
        case("v6 of an unknown protocol", udp(outside).protocol(253).frame(), Stack),
        case("v6 echo request", udp(outside).protocol(58).payload(vec![128; 8]).frame(), Past),
        case(
            "v6 echo request, hop limit 255",
            udp(outside).protocol(58).payload(vec![128; 8]).ttl(255).frame(),
            Stack,
        ),
        case("v6 later fragment of ICMPv6", later_fragment(58, udp(outside)).frame(), Past),
        case("v6 later fragment of options", later_fragment(60, udp(outside)).frame(), Stack),
        layered(
            "v6 solicitation for an endpoint, to it",
            solicitation(own, local, local),
            Dropped("link"),
            Answered,
        ),
        layered(
            "v6 solicitation for an endpoint, to a group",
            solicitation(own, "ff02::1:ff00:2".parse().unwrap(), local),
            Stack,
            Answered,
        ),
        layered(
            "v6 solicitation from the link",
            solicitation(link, "ff02::1:ff00:2".parse().unwrap(), local),
            Dropped("unsupported"),
            Answered,
        ),
        layered(
            "v6 router advertisement on the link",
            discovery(134, link, all).frame(),
            Dropped("unsupported"),
            Stack,
        ),
        case(
            "v6 advertisement to everybody outside",
            discovery(136, own, "ff0e::1".parse().unwrap()).frame(),
            Stack,
        ),
    ];
    let kinds = ["router solicitation", "router advertisement", "solicitation", "advertisement", "redirect"];
    for (kind, what) in (133..).zip(kinds) {
        for (where_to, to, expected) in [
            ("an endpoint", local, Dropped("link")),
            ("outside", outside, Dropped("link")),
            ("the node", node, Stack),
        ] {
            let message = || discovery(kind, own, to);
            cases.push(case(format!("v6 {what} to {where_to}"), message().frame(), expected));
            cases.push(case(
                format!("v6 {what} to {where_to}, hop limit 64"),
                message().ttl(64).frame(),
                expected,
            ));
        }
        let message = || discovery(kind, own, outside);
        cases.push(case(
            format!("v6 {what} behind options"),
            with_extension(60, message()).frame(),
            Dropped("link"),
        ));
        cases.push(case(
            format!("v6 {what} behind routing"),
            with_extension(43, message()).frame(),
            Dropped("link"),
        ));
        cases.push(case(
            format!("v6 {what} in a fragment"),
            message().fragment(0, true).frame(),
            Dropped("link"),
        ));
        cases.push(case(
            format!("v6 {what} behind options for routers"),
            with_extension(0, message()).frame(),
            Stack,
        ));
        cases.push(case(format!("v6 {what} behind seven headers"), options(7, message()).frame(), Stack));
    }
    cases
}

/// By the uplink, for endpoint 2: 10.1.0.2, `fd00::2`.
fn from_outside(v6: bool) -> Vec<Case> {
    let name = |what: &str| format!("{} {what}", family(v6));
    let [outside, to, other, node] = of_family(
        v6,
        [
            ("203.0.113.9", "2001:db8:9::9"),
            ("10.1.0.2", "fd00::2"),
            ("10.1.0.1", "fd00::1"),
            ("198.51.100.1", "2001:db8::1"),
        ],
    );
    let udp = || Ip::udp(outside, to);
    let mut cases = vec![
        case(name("to an endpoint"), udp().frame(), Past),
        case(name("to the node"), Ip::udp(outside, node).frame(), Stack),
        case(name("from an endpoint's address"), Ip::udp(other, to).frame(), Dropped("spoofed")),
        case(name("from the receiver's own address"), Ip::udp(to, to).frame(), Dropped("spoofed")),
        case(name("from the node's address"), Ip::udp(node, to).frame(), Dropped("spoofed")),
        case(name("with an 802.1Q tag"), udp().frame().tagged(&[0x8100]), Stack),
        case(name("with two tags"), udp().frame().tagged(&[0x88a8, 0x8100]), Stack),
        case(
            name("in a frame of the other family"),
            udp().frame().of_type(if v6 { 0x0800 } else { 0x86dd }),
            Stack,
        ),
        case(name("of version 5"), udp().version(5).frame(), Stack),
        case(name("longer than its frame"), udp().frame().cut(1), Stack),
        case(name("first fragment"), udp().fragment(0, true).frame(), Past),
        case(name("later fragment"), udp().fragment(8, false).frame(), Past),
        case(name("in a frame to everybody"), udp().frame().to(EVERYBODY), Stack),
        case(name("in a frame to a group"), udp().frame().to(GROUP), Stack),
        case(name("in a frame to another host"), udp().frame().to(ELSEWHERE), Stack),
    ];
    for ttl in [0, 1, 255] {
        cases.push(case(name(&format!("TTL {ttl}")), udp().ttl(ttl).frame(), Stack));
    }
    for from in nobodys(v6) {
        let from: std::net::IpAddr = from.parse().unwrap();
        cases.push(case(name(&format!("from {from}")), Ip::udp(from, to).frame(), Stack));
    }
    if v6 {
        let [mapped, mapped_source] = ["::ffff:10.1.0.2", "::ffff:203.0.113.9"].map(|ip| ip.parse().unwrap());
        cases.extend([
            case("v6 to an endpoint's IPv4 address, mapped", Ip::udp(outside, mapped).frame(), Stack),
            case("v6 from an IPv4 address, mapped", Ip::udp(mapped_source, to).frame(), Stack),
            case("v6 with options for its destination", with_extension(60, udp()).frame(), Past),
            case("v6 with options for each router", with_extension(0, udp()).frame(), Stack),
            case("v6 echo request", udp().protocol(58).payload(vec![128; 8]).frame(), Past),
        ]);
        for kind in 133..=137 {
            let message = || discovery(kind, outside, to);
            cases.push(case(format!("v6 discovery, type {kind}"), message().frame(), Stack));
            cases.push(case(
                format!("v6 discovery, type {kind}, hop limit 64"),
                message().ttl(64).frame(),
                Stack,
            ));
            cases.push(case(
                format!("v6 discovery, type {kind}, behind options"),
                with_extension(60, message().ttl(64)).frame(),
                Stack,
            ));
        }
    } else {
        cases.push(case("v4 with options", udp().options().frame(), Stack));
        cases.push(case("v4 with a header of 16 bytes", udp().header(4).frame(), Stack));
    }
    cases
}
