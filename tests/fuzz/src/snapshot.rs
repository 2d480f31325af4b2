//! What plugins are asked about, where the bytes do not say.

use netloom_core::model::{DefaultRoute, EndpointSpec, Hook, HookPoint, IfIndex, Labels, Name, NetnsId};

pub(crate) fn hook() -> Hook {
    let netns = NetnsId { device: 4, inode: 1 };
    Hook { netns, device: "eth0".into(), ifindex: IfIndex(2), point: HookPoint::TcxIngress }
}

pub(crate) fn spec() -> EndpointSpec {
    EndpointSpec {
        name: name(),
        netns: "/run/netns/web".into(),
        interface: "eth0".into(),
        addresses: vec![],
        mac: None,
        runtime_class: None,
        virtual_machine: false,
        mtu: None,
        default_route: DefaultRoute::First,
        routes: Vec::new(),
        labels: Labels::new(),
    }
}

pub(crate) fn name() -> Name {
    #[expect(clippy::expect_used, reason = "it is a name")]
    Name::new("web").expect("a name")
}
