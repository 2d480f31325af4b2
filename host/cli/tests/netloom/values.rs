//! Answers of netloomd, each with something in every field that is shown.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use netloom_api::types::{
    Adoption, AttachAnswer, Attachment, AttachmentKind, BoundSocket, Capabilities, CapabilityView, Chain,
    Decision, DecisionStep, Device, DeviceView, Doctor, Endpoint, EndpointCounters, EndpointSpec,
    EndpointView, Fate, Feature, Finding, HookPoint, Labels, LocalWay, Masquerade, MonitorEvent, Name,
    NodeView, Outside, Owner, PeerView, PluginInspection, PluginView, PoolView, ReapReport, ReapedSocket,
    Service, SocketView, Status, StoreTrouble, StoreView,
};
use netloom_core::model::{
    Candidate, ChainEntry, DeviceMode, DeviceStats, EndpointMode, Hook, IfIndex, LinkId, MacAddress,
    NetkitPolicy, NetkitScrub, NetnsCookie, NetnsId, ProgramId, ProgramSource, Protocol, Revision, ServiceId,
    SocketCookie, SocketState, Support,
};
use serde_json::json;

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn netns(inode: u64) -> NetnsId {
    NetnsId { device: 4, inode }
}

pub(crate) fn endpoint() -> EndpointView {
    let address: IpAddr = "10.200.0.2".parse().unwrap();
    EndpointView {
        endpoint: Endpoint {
            spec: EndpointSpec {
                addresses: vec![address],
                labels: labels(&[("app", "shop"), ("tier", "front")]),
                ..EndpointSpec::plain(name("web"), "/run/netns/blue")
            },
            id: 7,
            netns: netns(4_026_532_201),
            netns_cookie: NetnsCookie(4097),
            mode: EndpointMode::plain(DeviceMode::Netkit, AttachmentKind::Netkit),
            addresses: vec![IpNet::from(address), "fd00::2/128".parse().unwrap()],
            host_interface: "nl7".to_owned(),
            host_ifindex: IfIndex(12),
            peer_ifindex: IfIndex(2),
            mac: None,
            host_mac: None,
            attachments: vec!["nl7-primary".to_owned(), "nl7-peer".to_owned()],
            routes: None,
            decided_by: "datapath-mode".to_owned(),
        },
        device: Some(device("nl7", DeviceMode::Netkit)),
        counters: EndpointCounters {
            sent_packets: 1_200,
            sent_bytes: 1_572_864,
            received_packets: 900,
            received_bytes: 640,
            dropped_spoofed: 3,
            dropped_other: 1,
        },
        untranslated: None,
    }
}

/// A pair of the node's own, with its other end.
pub(crate) fn pair() -> DeviceView {
    let host = Device {
        name: "uplink0".to_owned(),
        alias: Some("netloom: device uplink0".to_owned()),
        peer_nsid: Some(0),
        min_mtu: 68,
        max_mtu: 65_535,
        state: "up".to_owned(),
        qdisc: "noqueue".to_owned(),
        tx_queue_length: 1_000,
        tx_queues: 1,
        rx_queues: 1,
        scrub: Some(NetkitScrub::Default),
        peer_scrub: Some(NetkitScrub::None),
        gso_ipv4_max_size: Some(65_536),
        gro_ipv4_max_size: Some(65_536),
        gso_max_segs: 65_535,
        tso_max_size: Some(524_280),
        stats: DeviceStats { rx_packets: 12, rx_bytes: 4_096, tx_dropped: 2, ..DeviceStats::default() },
        ..device("uplink0", DeviceMode::Netkit)
    };
    let peer = Device {
        name: "eth0".to_owned(),
        ifindex: IfIndex(2),
        netns: netns(4_026_532_201),
        peer_ifindex: Some(IfIndex(12)),
        netkit_primary: Some(false),
        ..host.clone()
    };
    DeviceView {
        device: host,
        addresses: Vec::new(),
        owner: Some("device uplink0".to_owned()),
        peer: Some(PeerView {
            device: peer,
            netns_paths: vec![PathBuf::from("/run/netns/blue")],
            addresses: vec!["10.0.0.2/24".parse().unwrap()],
        }),
    }
}

/// A device of others, which is no pair, and down.
pub(crate) fn dummy() -> DeviceView {
    let device = Device {
        name: "dummy0".to_owned(),
        ifindex: IfIndex(3),
        kind: "dummy".to_owned(),
        mtu: 1_500,
        mac: Some(MacAddress([2, 0, 0, 0, 0, 9])),
        ..Device::default()
    };
    DeviceView { device, addresses: vec!["192.0.2.1/24".parse().unwrap()], owner: None, peer: None }
}

/// An endpoint of a virtual machine whose device is gone.
pub(crate) fn lost_endpoint() -> EndpointView {
    let mut view = endpoint();
    view.endpoint.spec.name = name("vm1");
    view.endpoint.spec.virtual_machine = true;
    view.endpoint.spec.runtime_class = Some("kata".to_owned());
    view.endpoint.spec.labels = labels(&[("mesh", "on")]);
    view.untranslated = Some("mesh=on".to_owned());
    view.endpoint.mode = EndpointMode::plain(DeviceMode::Veth, AttachmentKind::Tcx);
    view.endpoint.mac = Some(MacAddress([2, 0, 0, 0, 0, 1]));
    view.endpoint.host_mac = Some(MacAddress([2, 0, 0, 0, 0, 2]));
    view.endpoint.host_interface = "nl8".to_owned();
    view.device = None;
    view.counters = EndpointCounters::default();
    view.endpoint.decided_by = "built-in".to_owned();
    view
}

fn device(name: &str, mode: DeviceMode) -> Device {
    Device {
        name: name.to_owned(),
        ifindex: IfIndex(12),
        netns: netns(4_026_531_840),
        mode: Some(mode),
        kind: "netkit".to_owned(),
        peer_ifindex: Some(IfIndex(2)),
        mtu: 9000,
        mac: None,
        up: true,
        alias: Some("netloom web".to_owned()),
        netkit_primary: Some(true),
        policy: Some(NetkitPolicy::Forward),
        peer_policy: Some(NetkitPolicy::Blackhole),
        gso_max_size: 65_536,
        gro_max_size: 65_536,
        ..Device::default()
    }
}

fn hook(point: HookPoint) -> Hook {
    Hook { netns: netns(4_026_531_840), device: "nl7".to_owned(), ifindex: IfIndex(12), point }
}

pub(crate) fn attachment() -> Attachment {
    Attachment {
        id: "monitoring-count-1".to_owned(),
        hook: hook(HookPoint::TcxIngress),
        netns: None,
        kind: AttachmentKind::Tcx,
        mode: None,
        candidate: Candidate {
            owner: Owner::new("monitoring").unwrap(),
            name: "count".to_owned(),
            tag: "a04f5eef06a7f555".to_owned(),
            priority: -5,
            labels: labels(&[("role", "observer")]),
            required: true,
        },
        program: ProgramId(301),
        link: Some(LinkId(41)),
        filter: None,
        endpoint: None,
        decided_by: "attach-order".to_owned(),
        source: ProgramSource::Object {
            path: PathBuf::from("/opt/count.o"),
            program: None,
            globals: BTreeMap::new(),
            shared_maps: false,
        },
    }
}

/// The datapath's, as a legacy filter.
pub(crate) fn legacy_attachment() -> Attachment {
    let mut attachment = attachment();
    attachment.id = "nl7-ingress".to_owned();
    attachment.hook = hook(HookPoint::TcIngress);
    attachment.kind = AttachmentKind::Tc;
    attachment.candidate.owner = Owner::datapath();
    attachment.candidate.labels.clear();
    attachment.candidate.required = false;
    attachment.link = None;
    attachment.filter = Some((1, 0x10));
    attachment.endpoint = Some(name("web"));
    attachment.netns = Some(PathBuf::from("/run/netns/blue"));
    attachment.decided_by = "configuration".to_owned();
    attachment.source = ProgramSource::FromEndpoint;
    attachment
}

pub(crate) fn chain() -> Chain {
    let attachment = attachment();
    Chain {
        hook: attachment.hook.clone(),
        revision: Revision(3),
        entries: vec![
            ChainEntry {
                program: attachment.program,
                link: attachment.link,
                name: attachment.candidate.name.clone(),
                tag: attachment.candidate.tag.clone(),
                filter: None,
                attachment: Some(attachment.id.clone()),
                owner: Some(attachment.candidate.owner.clone()),
                priority: Some(attachment.candidate.priority),
                labels: attachment.candidate.labels,
            },
            ChainEntry {
                program: ProgramId(77),
                link: None,
                name: "cil_from_netdev".to_owned(),
                tag: "0bba8ae2ad8d9ee1".to_owned(),
                filter: None,
                attachment: None,
                owner: None,
                priority: None,
                labels: Labels::new(),
            },
        ],
    }
}

/// A legacy chain with a filter in it.
pub(crate) fn legacy_chain() -> Chain {
    let attachment = legacy_attachment();
    let mut chain = chain();
    chain.hook = attachment.hook;
    chain.revision = Revision(0);
    chain.entries.truncate(1);
    chain.entries[0].link = None;
    chain.entries[0].filter = attachment.filter;
    chain
}

pub(crate) fn empty_chain() -> Chain {
    Chain { hook: hook(HookPoint::TcxEgress), revision: Revision(1), entries: Vec::new() }
}

pub(crate) fn attach_answer() -> AttachAnswer {
    AttachAnswer {
        attachment: attachment(),
        decided_by: "attach-order".to_owned(),
        chain: chain(),
        more: vec![],
    }
}

pub(crate) fn service() -> Service {
    Service {
        backends: ["10.200.0.2:8080", "10.200.0.3:8080", "10.200.0.4:8080"]
            .map(|backend| backend.parse().unwrap())
            .to_vec(),
        weights: [("10.200.0.3:8080", "3"), ("10.200.0.4:8080", "0")]
            .map(|(backend, weight)| (backend.parse().unwrap(), weight.parse().unwrap()))
            .into(),
        ..Service::new(name("shop"), "10.96.0.10:80".parse().unwrap(), Protocol::Tcp)
    }
}

pub(crate) fn idle_service() -> Service {
    Service::new(name("dns"), "[fd00::10]:53".parse().unwrap(), Protocol::Udp)
}

pub(crate) fn socket(cookie: u64) -> SocketView {
    SocketView {
        socket: BoundSocket {
            cookie: SocketCookie(cookie),
            netns_cookie: NetnsCookie(4097),
            protocol: Protocol::Tcp,
            service: ServiceId(3),
            state: SocketState::Established,
            local: "[::ffff:10.200.0.5]:40000".parse().unwrap(),
            remote: "[::ffff:10.200.0.2]:8080".parse().unwrap(),
            backend: "10.200.0.2:8080".parse().unwrap(),
            age: Duration::from_millis(62_500),
            bytes_sent: 2048,
            bytes_received: 12,
        },
        endpoint: Some(name("web")),
        service_name: Some(name("shop")),
    }
}

fn reaped(cookie: u64, fate: Fate) -> ReapedSocket {
    ReapedSocket { view: socket(cookie), fate }
}

pub(crate) fn reap() -> ReapReport {
    ReapReport {
        decided_by: Some("socket-reap".to_owned()),
        reason: None,
        dry_run: false,
        finder: "sk_storage".to_owned(),
        sockets: vec![reaped(5001, Fate::Destroyed), reaped(5002, Fate::Gone), reaped(5003, Fate::Spared)],
        find_us: 412,
        total_us: 3_120,
    }
}

pub(crate) fn failed_reap() -> ReapReport {
    let failed = reaped(5004, Fate::Failed("SOCK_DESTROY: EPERM".to_owned()));
    ReapReport { sockets: vec![failed], ..reap() }
}

pub(crate) fn dry_reap() -> ReapReport {
    let sockets = vec![reaped(5001, Fate::WouldDestroy), reaped(5002, Fate::Observed)];
    ReapReport { dry_run: true, sockets, ..reap() }
}

/// No plugin decided.
pub(crate) fn undecided_reap() -> ReapReport {
    ReapReport {
        reason: Some("socket-reap trapped: out of memory".to_owned()),
        finder: "sk_storage".to_owned(),
        find_us: 0,
        total_us: 90,
        ..ReapReport::default()
    }
}

/// There was no backend, so nobody was asked.
pub(crate) fn idle_reap() -> ReapReport {
    ReapReport { reason: None, ..undecided_reap() }
}

pub(crate) fn plugin() -> PluginView {
    PluginView {
        name: name("attach-order"),
        bundled: true,
        digest: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".to_owned(),
        hooks: vec!["attach-order".to_owned(), "lifecycle".to_owned()],
        state: "active".to_owned(),
        reason: None,
        calls: 42,
        failures: 0,
        grants: netloom_core::grants::Grants::none(),
        config_schema: None,
        trial: None,
    }
}

pub(crate) fn ill_plugin() -> PluginView {
    PluginView {
        name: name("custom"),
        bundled: false,
        digest: "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752".to_owned(),
        hooks: vec!["socket-reap".to_owned()],
        state: "quarantined".to_owned(),
        reason: Some("5 traps in a row: unreachable".to_owned()),
        calls: 9,
        failures: 5,
        grants: netloom_core::grants::Grants::none(),
        config_schema: Some(config_schema()),
        trial: None,
    }
}

pub(crate) fn inspection() -> PluginInspection {
    PluginInspection {
        digest: ill_plugin().digest,
        size: 51_234,
        hooks: vec!["socket-reap".to_owned()],
        imports: vec!["netloom:kernel/log@0.1.0".to_owned(), "netloom:kernel/sockets@0.1.0".to_owned()],
        grants: vec!["sockets".to_owned()],
        config_schema: Some(config_schema()),
    }
}

fn config_schema() -> serde_json::Value {
    serde_json::json!({
        "type": "object",
        "description": "What is cut, and when.",
        "properties": {
            "ports": {
                "type": "array",
                "items": { "type": "integer", "minimum": 1 },
                "description": "Sockets with one of these ports\nat either end are spared.",
            },
            "grace_ms": { "type": "integer", "default": 1_000 },
            "mode": { "enum": ["soft", "hard"], "description": "How." },
            "note": { "type": ["string", "null"] },
            "any": true,
        },
        "required": ["mode"],
    })
}

pub(crate) fn decisions() -> Vec<Decision> {
    let step = |plugin: &str, answer: &str, micros| DecisionStep {
        plugin: name(plugin),
        answer: answer.to_owned(),
        micros,
    };
    vec![
        Decision {
            sequence: 1,
            time_ms: 1_700_000_000_123,
            hook: "datapath-mode".to_owned(),
            subject: "endpoint web".to_owned(),
            steps: vec![step("datapath-mode", "netkit, netkit links", 85)],
            outcome: "netkit".to_owned(),
            decided_by: "datapath-mode".to_owned(),
        },
        Decision {
            sequence: 2,
            time_ms: 1_700_000_001_000,
            hook: "attach-order".to_owned(),
            subject: "tcx-ingress of nl7".to_owned(),
            steps: vec![step("custom", "abstain", 12), step("attach-order", "head", 1_530)],
            outcome: "head".to_owned(),
            decided_by: "attach-order".to_owned(),
        },
        Decision {
            sequence: 3,
            time_ms: 1_700_000_002_000,
            hook: "socket-reap".to_owned(),
            subject: "backend 10.200.0.2:8080/tcp".to_owned(),
            steps: Vec::new(),
            outcome: "nothing reaped".to_owned(),
            decided_by: "fallback".to_owned(),
        },
    ]
}

fn node() -> NodeView {
    let support = |available, detail: &str| Support { available, detail: detail.to_owned() };
    let capabilities = Capabilities {
        kernel: "6.12.48".to_owned(),
        features: BTreeMap::from([
            (Feature::Netkit, support(true, "netkit pair created")),
            (Feature::Tcx, support(true, "tcx link created")),
            (Feature::ListNamespaces, support(false, "listns: ENOSYS")),
        ]),
    };
    NodeView {
        name: "node-1".to_owned(),
        kernel: capabilities.kernel.clone(),
        capabilities: CapabilityView::of(&capabilities),
    }
}

fn finding(severity: &str) -> Finding {
    Finding {
        severity: severity.to_owned(),
        subject: "endpoint vm1".to_owned(),
        message: "its device nl8 is gone".to_owned(),
        hint: "delete the endpoint and add it again".to_owned(),
    }
}

pub(crate) fn healthy() -> Doctor {
    Doctor { node: node(), findings: Vec::new() }
}

pub(crate) fn warned() -> Doctor {
    Doctor { node: node(), findings: vec![finding("warning")] }
}

pub(crate) fn ill() -> Doctor {
    Doctor { node: node(), findings: vec![finding("error"), finding("note")] }
}

pub(crate) fn status() -> Status {
    Status {
        version: "0.1.0".to_owned(),
        pid: 4242,
        uptime_ms: 182_000,
        node: "node-1".to_owned(),
        kernel: "6.12.48".to_owned(),
        socket_finder: "sk-storage-iterator".to_owned(),
        socket_destroyer: "sock-diag".to_owned(),
        namespaces: [("name".to_owned(), 2), ("process".to_owned(), 3)].into(),
        socket_lb: Some(PathBuf::from("/sys/fs/cgroup")),
        endpoints: vec![endpoint()],
        attachments: vec![attachment()],
        socket_lb_links: vec![51, 52],
        outside: Outside {
            uplinks: vec!["eth0".into()],
            through_stack: None,
            masquerade: Masquerade {
                from: vec!["10.210.0.0/16".parse().unwrap()],
                native: vec!["10.0.0.0/8".parse().unwrap(), "10.210.0.0/16".parse().unwrap()],
                off: None,
                wanted: false,
            },
        },
        local: LocalWay {
            through_stack: None,
            translated_by: Some("the nftables chain ip nat POSTROUTING".into()),
            endpoints: [(name("web"), "its device has the qdisc tbf".into())].into(),
        },
        services: vec![service()],
        plugins: vec![plugin()],
        pools: vec![
            PoolView { prefix: "10.210.0.0/16".parse().unwrap(), size: 65_533, used: 2, full: false },
            PoolView { prefix: "fd6e:6c00::/64".parse().unwrap(), size: u64::MAX, used: 2, full: false },
        ],
        adoption: Adoption {
            endpoints: 1,
            attachments: 2,
            reattached: 1,
            dropped: vec!["endpoint old: its namespace is gone".to_owned()],
            orphans: vec!["device nl7".to_owned()],
            recovered: vec!["endpoint half: undone".to_owned()],
        },
        store: StoreView {
            path: PathBuf::from("/var/lib/netloom/store.redb"),
            layout: 1,
            bytes: 561_152,
            free_bytes: Some(0),
            trouble: Some(StoreTrouble {
                message: "No space left on device (os error 28)".to_owned(),
                since_ms: 1_700_000_000_000,
                tries: 3,
                owed: 1,
            }),
        },
    }
}

/// A daemon that has nothing yet.
pub(crate) fn idle_status() -> Status {
    Status {
        socket_lb: None,
        socket_lb_links: Vec::new(),
        outside: Outside {
            uplinks: Vec::new(),
            through_stack: Some("datapath.outside says so".into()),
            masquerade: Masquerade {
                off: Some("datapath.masquerade says so".into()),
                ..Masquerade::default()
            },
        },
        local: LocalWay::default(),
        endpoints: Vec::new(),
        attachments: Vec::new(),
        services: Vec::new(),
        plugins: Vec::new(),
        adoption: Adoption::default(),
        store: StoreView::default(),
        ..status()
    }
}

/// A drop of a packet, of a frame without addresses, two connects, and a gap.
pub(crate) fn monitored() -> Vec<MonitorEvent> {
    let events = json!([
        {
            "kind": "drop", "time_ms": 1_700_000_000_000_u64, "endpoint": "web", "endpoint_id": 1,
            "netns": "/run/netns/blue", "reason": "spoofed", "direction": "from-endpoint", "device": "nlweb1",
            "ifindex": 7, "ethertype": 0x0800, "protocol": 17, "source": "10.99.99.99", "source_port": 4242,
            "destination": "10.0.0.8", "destination_port": 53, "length": 98,
        },
        {
            "kind": "drop", "time_ms": 1_700_000_000_001_u64, "endpoint": null, "endpoint_id": 9, "netns": null,
            "reason": "unsupported", "direction": "from-endpoint", "device": null, "ifindex": 8,
            "ethertype": 0x88b5, "protocol": null, "source": null, "source_port": null, "destination": null,
            "destination_port": null, "length": 60,
        },
        { "kind": "lost", "time_ms": 1_700_000_000_002_u64, "events": 3 },
        {
            "kind": "connect", "time_ms": 1_700_000_000_003_u64, "endpoint": "web", "netns": "/run/netns/blue",
            "netns_cookie": 4097, "cookie": 12, "process": 4242, "command": "curl", "protocol": "tcp",
            "service": "shop", "vip": "10.96.0.10:80", "backend": "10.0.0.2:8080", "outcome": "chosen",
        },
        {
            "kind": "connect", "time_ms": 1_700_000_000_004_u64, "endpoint": null, "netns": null,
            "netns_cookie": 1, "cookie": 13, "process": 17, "command": "dig", "protocol": "udp",
            "service": null, "vip": "[fd00::10]:53", "backend": null, "outcome": "refused",
        },
    ]);
    serde_json::from_value(events).unwrap()
}
