//! What plugins are asked about, where the bytes do not say.

use netloom_core::model::{EndpointSpec, Hook, HookPoint, IfIndex, Name, NetnsId};

pub(crate) fn hook() -> Hook {
    let netns = NetnsId { device: 4, inode: 1 };
    Hook { netns, device: "eth0".into(), ifindex: IfIndex(2), point: HookPoint::TcxIngress }
}

pub(crate) fn spec() -> EndpointSpec {
    EndpointSpec::plain(name(), "/run/netns/web")
}

pub(crate) fn name() -> Name {
    #[expect(clippy::expect_used, reason = "it is a name")]
    Name::new("web").expect("a name")
}
