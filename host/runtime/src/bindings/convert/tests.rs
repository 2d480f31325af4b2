use std::time::Duration;

use netloom_core::model::{
    Capabilities, EndpointSpec, EntryId, IfIndex, LinkId, Name, Owner, ProgramId, Revision, ServiceId,
    SocketCookie, Support,
};

use super::*;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn backend_at(address: &str, protocol: Protocol) -> Backend {
    Backend { address: address.parse().unwrap(), protocol, service: name("web") }
}

fn socket(backend: &str) -> BoundSocket {
    BoundSocket {
        cookie: SocketCookie(0x1122),
        netns_cookie: NetnsCookie(7),
        protocol: Protocol::Udp,
        state: SocketState::CloseWait,
        local: "[2001:db8::1]:4660".parse().unwrap(),
        remote: "[::ffff:10.0.0.1]:22136".parse().unwrap(),
        backend: backend.parse().unwrap(),
        service: ServiceId(1),
        age: Duration::from_nanos(99),
        bytes_sent: 5,
        bytes_received: 6,
    }
}

#[test]
fn enums_survive_both_ways() {
    for point in HookPoint::ALL {
        assert_eq!(HookPoint::from(wit::HookPoint::from(point)), point);
    }
    for state in SocketState::ALL {
        assert_eq!(SocketState::from(wit::SocketState::from(state)), state);
    }
    for mode in [DeviceMode::Netkit, DeviceMode::NetkitL2, DeviceMode::Veth] {
        assert_eq!(DeviceMode::from(wit::DeviceMode::from(mode)), mode);
    }
}

#[test]
fn addresses_survive_both_ways_and_mapped_ones_become_ipv4() {
    for text in ["10.1.2.3", "2001:db8::ff:1", "::", "255.255.255.255"] {
        let address: IpAddr = text.parse().unwrap();
        assert_eq!(IpAddr::from(wit::IpAddress::from(address)), address);
    }
    let mapped: SocketAddr = "[::ffff:10.0.0.1]:80".parse().unwrap();
    let plain: SocketAddr = "10.0.0.1:80".parse().unwrap();
    assert_eq!(SocketAddr::from(wit::SocketAddress::from(mapped)), plain);
}

#[test]
fn a_chain_names_its_entries_by_their_index() {
    let entry = |owner: Option<&str>| ChainEntry {
        program: ProgramId(9),
        link: Some(LinkId(4)),
        name: "p".into(),
        tag: "t".into(),
        filter: None,
        attachment: None,
        owner: owner.map(|owner| Owner::new(owner).unwrap()),
        priority: owner.map(|_| -5),
        labels: Labels::from([("role".into(), "observer".into())]),
    };
    let model = Chain {
        hook: Hook {
            netns: NetnsId { device: 4, inode: 5 },
            device: "eth0".into(),
            ifindex: IfIndex(3),
            point: HookPoint::NetkitPeer,
        },
        revision: Revision(8),
        entries: vec![entry(None), entry(Some("acme/x"))],
    };
    let seen = chain(&model);
    assert_eq!((seen.revision, seen.hook.ifindex, seen.hook.netns.inode), (8, 3, 5));
    assert_eq!(seen.entries.iter().map(|entry| entry.id).collect::<Vec<_>>(), [0, 1]);
    let [foreign, ours] = seen.entries.as_slice() else { panic!("two entries") };
    assert_eq!((foreign.owner.as_deref(), foreign.priority), (None, None));
    assert_eq!((ours.owner.as_deref(), ours.priority, ours.link), (Some("acme/x"), Some(-5), Some(4)));
    assert_eq!(ours.labels.first().map(|label| label.value.as_str()), Some("observer"));
    assert_eq!(model.entry(EntryId(1)).unwrap().owner.as_ref().unwrap().as_str(), "acme/x");
}

#[test]
fn a_node_shows_what_was_probed_and_nothing_else() {
    let mut capabilities = Capabilities { kernel: "6.12".into(), ..Capabilities::default() };
    let support = |available| Support { available, detail: String::new() };
    capabilities.features.insert(Feature::Tcx, support(true));
    capabilities.features.insert(Feature::Netkit, support(false));
    let seen = node(NodeFacts { name: "n1", capabilities: &capabilities });
    assert_eq!((seen.name.as_str(), seen.kernel.as_str()), ("n1", "6.12"));
    assert!(seen.tcx);
    assert!(!seen.netkit && !seen.tc && !seen.socket_destroy && !seen.netkit_scrub);
    assert_eq!(seen.capabilities, ["tcx"]);
}

#[test]
fn an_endpoint_carries_what_a_decision_needs() {
    let spec = EndpointSpec {
        mac: Some(MacAddress([2, 0, 0, 0, 0, 1])),
        runtime_class: Some("kata".into()),
        virtual_machine: true,
        labels: Labels::from([("app".into(), "db".into())]),
        ..EndpointSpec::plain(name("blue"), "/run/netns/blue")
    };
    let addresses = ["10.0.0.2/32".parse().unwrap(), "fd00::2/128".parse().unwrap()];
    let seen = endpoint(EndpointFacts {
        spec: &spec,
        netns: NetnsId { device: 4, inode: 9 },
        addresses: &addresses,
    });
    assert_eq!(seen.mac, Some((2, 0, 0, 0, 0, 1)));
    assert_eq!(seen.addresses.iter().map(|prefix| prefix.length).collect::<Vec<_>>(), [32, 128]);
    assert!(seen.virtual_machine);
    assert_eq!(seen.runtime_class.as_deref(), Some("kata"));
}

#[test]
fn packed_words_are_as_documented() {
    let event = ReapEvent {
        reason: ReapReason::Removed,
        backends: vec![
            backend_at("10.0.0.1:22136", Protocol::Tcp),
            backend_at("10.0.0.1:22136", Protocol::Udp),
        ],
    };
    let socket = socket("10.0.0.1:22136");
    let words = pack(&mut Places::of(&event), &[Suspect { socket: &socket, endpoint: None }]).unwrap();
    let ports = 4660 | 22136 << 16 | 8 << 32 | 17 << 40 | 1 << 48;
    assert_eq!(
        words,
        [0x1122, 7, 99, ports, 0x2001_0db8_0000_0000, 1, 0, 0xffff_0a00_0001, 5, 6],
        "the protocol tells the two backends apart"
    );
}

#[test]
fn a_socket_of_another_backend_is_the_askers_mistake() {
    let event =
        ReapEvent { reason: ReapReason::Removed, backends: vec![backend_at("10.0.0.1:80", Protocol::Udp)] };
    let socket = socket("10.0.0.9:80");
    let suspect = Suspect { socket: &socket, endpoint: None };
    assert!(bound_socket(&mut Places::of(&event), suspect).is_err());
    let error = pack(&mut Places::of(&event), &[suspect]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "socket 4386 is bound to 10.0.0.9:80, which is not among the event's backends"
    );
}

#[test]
fn answers_come_out_unchecked() {
    let place = attach_order::PlaceDecision::Place(wit::Placement::Replace(u32::MAX));
    assert_eq!(Answer::from(place), Answer::Decide(RawPlacement::Replace(u32::MAX)));
    let veto = attach_order::PlaceDecision::Veto("no".into());
    assert_eq!(Answer::<RawPlacement>::from(veto), Answer::Veto("no".into()));
    let keep = attach_order::RebalanceDecision::Keep;
    assert_eq!(Answer::<Vec<u32>>::from(keep), Answer::Abstain);

    let plan = socket_reap::ReapPlan {
        protocols: vec![wit::Protocol::Tcp],
        states: vec![wit::SocketState::Established],
        connected_only: true,
        netns_cookies: vec![3],
        min_age_ns: 1_000,
        grace_ms: u32::MAX,
        action: socket_reap::Action::JudgePacked,
    };
    let Answer::Decide(raw) = Answer::from(socket_reap::PlanDecision::Reap(plan)) else { panic!("a plan") };
    assert_eq!(raw.grace, Duration::from_millis(u32::MAX.into()));
    assert_eq!((raw.min_age, raw.action), (Duration::from_micros(1), ReapAction::JudgePacked));
}
