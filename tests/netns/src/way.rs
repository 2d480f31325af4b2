use netloom_core::model::{DeviceMode, HookPoint};
use serde_json::{Value, json};

/// A hook on a device of the node, by which programs see a stream: what every test of chains is run on, one test each
/// (see [`on_ways`](crate::on_ways)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// What arrives on a veth device, by legacy tc.
    Tc,
    /// What arrives on a veth device, by tcx.
    Tcx,
    /// What a netkit device's peer sends.
    NetkitPeer,
    /// What is sent to the peer of a netkit device with a link layer.
    NetkitPrimary,
}

impl Way {
    /// The hook's kind.
    pub const fn point(self) -> HookPoint {
        match self {
            Self::Tc => HookPoint::TcIngress,
            Self::Tcx => HookPoint::TcxIngress,
            Self::NetkitPeer => HookPoint::NetkitPeer,
            Self::NetkitPrimary => HookPoint::NetkitPrimary,
        }
    }

    /// The device's kind: both kinds of netkit are among the ways.
    pub const fn device(self) -> DeviceMode {
        match self {
            Self::Tc | Self::Tcx => DeviceMode::Veth,
            Self::NetkitPeer => DeviceMode::Netkit,
            Self::NetkitPrimary => DeviceMode::NetkitL2,
        }
    }

    /// Whether the stream goes from the node to the device's other end.
    pub const fn is_outwards(self) -> bool {
        matches!(self, Self::NetkitPrimary)
    }

    /// A request for an attachment here, with more in it.
    pub fn request(self, more: Value) -> Value {
        let mut request = match self {
            Self::Tc => json!({ "mode": "tc" }),
            Self::Tcx => json!({ "mode": "tcx" }),
            Self::NetkitPeer | Self::NetkitPrimary => json!({ "point": self.point() }),
        };
        if let (Some(request), Some(more)) = (request.as_object_mut(), more.as_object()) {
            request.extend(more.clone());
        }
        request
    }
}

/// One test a way: `on_ways!(tc tcx netkit: this_holds, that_holds)`, of functions that take it.
#[macro_export]
macro_rules! on_ways {
    (@ { $($ways:tt)* } tc $($more:tt)+) => {
        $crate::on_ways!(@ { $($ways)* tc: [$crate::Feature::LegacyTc] => $crate::Way::Tc, } $($more)+);
    };
    (@ { $($ways:tt)* } tcx $($more:tt)+) => {
        $crate::on_ways!(@ { $($ways)* tcx: [$crate::Feature::Tcx] => $crate::Way::Tcx, } $($more)+);
    };
    (@ { $($ways:tt)* } netkit $($more:tt)+) => {
        $crate::on_ways!(@ { $($ways)*
            netkit_peer: [$crate::Feature::NetkitLinks] => $crate::Way::NetkitPeer,
            netkit_l2_primary: [$crate::Feature::NetkitLinks] => $crate::Way::NetkitPrimary,
        } $($more)+);
    };
    (@ $ways:tt : $($test:ident),+ $(,)?) => { $crate::each_way!($($test),+; $ways); };
    ($first:ident $($more:tt)+) => { $crate::on_ways!(@ {} $first $($more)+); };
}

/// One test a device mode of an endpoint: `on_modes!(this_holds, that_holds)`, of functions that take it.
#[macro_export]
macro_rules! on_modes {
    ($($test:ident),+ $(,)?) => {
        $crate::each_way!($($test),+; {
            veth: [] => $crate::DeviceMode::Veth,
            netkit: [$crate::Feature::NetkitLinks] => $crate::DeviceMode::Netkit,
            netkit_l2: [$crate::Feature::NetkitLinks] => $crate::DeviceMode::NetkitL2,
        });
    };
}
