//! Values of the command line that clap does not know.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use netloom_api::types::{AttachmentMode, HookPoint};
use netloom_core::model::{DefaultRoute, DeviceMode, NetkitPolicy, NetkitScrub, Protocol, Weight};

/// Parses `KEY=VALUE`.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a label is written KEY=VALUE, such as role=observer".to_owned()),
    }
}

/// Parses `NAME=VALUE`. What values there are, netloomd knows from the object.
pub(super) fn global(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("a global variable is set by NAME=VALUE, such as rate=1000 or key=hex:0a0b0c0d".to_owned()),
    }
}

/// The absolute form of a path: netloomd reads the file, and has another working directory.
pub(super) fn absolute(text: &str) -> Result<PathBuf, String> {
    std::path::absolute(text).map_err(|error| error.to_string())
}

/// A network namespace: a name as `ip netns` lists it, or a path.
pub(super) fn netns(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("give the namespace's name, as `ip netns` lists it, or a path of it".to_owned()),
        name if !name.contains('/') => Ok(Path::new("/run/netns").join(name)),
        path => absolute(path),
    }
}

/// Parses a hook point's name.
pub(super) fn hook_point() -> impl TypedValueParser<Value = HookPoint> {
    PossibleValuesParser::new(HookPoint::ALL.map(HookPoint::as_str)).try_map(|text| {
        HookPoint::ALL.into_iter().find(|point| point.as_str() == text).ok_or("not a hook point")
    })
}

/// Parses a netkit policy's name.
pub(super) fn policy() -> impl TypedValueParser<Value = NetkitPolicy> {
    PossibleValuesParser::new(["forward", "blackhole"]).map(|text| match text.as_str() {
        "blackhole" => NetkitPolicy::Blackhole,
        _ => NetkitPolicy::Forward,
    })
}

/// Parses the name of a way to attach.
pub(super) fn mode() -> impl TypedValueParser<Value = AttachmentMode> {
    let modes = [AttachmentMode::Auto, AttachmentMode::Tcx, AttachmentMode::Tc];
    PossibleValuesParser::new(modes.map(AttachmentMode::as_str))
        .try_map(move |text| modes.into_iter().find(|mode| mode.as_str() == text).ok_or("not a mode"))
}

/// Parses a netkit scrub setting's name.
pub(super) fn scrub() -> impl TypedValueParser<Value = NetkitScrub> {
    PossibleValuesParser::new(["none", "default"]).map(|text| match text.as_str() {
        "none" => NetkitScrub::None,
        _ => NetkitScrub::Default,
    })
}

/// Parses which default route an endpoint gets.
pub(super) fn default_route() -> impl TypedValueParser<Value = DefaultRoute> {
    PossibleValuesParser::new(DefaultRoute::ALL.map(|(name, _)| name)).try_map(|text| {
        let known = DefaultRoute::ALL.into_iter().find(|(name, _)| *name == text);
        known.map(|(_, choice)| choice).ok_or("not a choice of default routes")
    })
}

/// Parses a device mode's name.
pub(super) fn device_mode() -> impl TypedValueParser<Value = DeviceMode> {
    const MODES: [DeviceMode; 3] = [DeviceMode::Netkit, DeviceMode::NetkitL2, DeviceMode::Veth];
    PossibleValuesParser::new(MODES.map(DeviceMode::as_str))
        .try_map(|text| MODES.into_iter().find(|mode| mode.as_str() == text).ok_or("not a device mode"))
}

/// A service's virtual address, written `VIP:PORT/PROTO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VirtualAddress {
    pub(crate) vip: SocketAddr,
    pub(crate) protocol: Protocol,
}

impl FromStr for VirtualAddress {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected VIP:PORT/PROTO, such as 10.96.0.10:80/tcp or [fd00::10]:53/udp";
        let (vip, protocol) = text.rsplit_once('/').ok_or(expected)?;
        let vip = vip.parse().map_err(|error| format!("{vip:?}: {error}; {expected}"))?;
        let protocol = protocol.parse().map_err(|error| format!("{error}"))?;
        Ok(Self { vip, protocol })
    }
}

/// A backend and its weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weighted {
    pub(crate) address: SocketAddr,
    pub(crate) weight: Weight,
}

impl FromStr for Weighted {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (address, weight) = match text.split_once('=') {
            Some((address, weight)) => (address, weight.parse().map_err(|error| format!("{error}"))?),
            None => (text, Weight::default()),
        };
        let expected = "expected IP:PORT or IP:PORT=WEIGHT, such as 10.0.0.2:8080=3";
        let address = address.parse().map_err(|error| format!("{address:?}: {error}; {expected}"))?;
        Ok(Self { address, weight })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_a_name_or_a_path() {
        assert_eq!(netns("blue").unwrap(), Path::new("/run/netns/blue"));
        assert_eq!(netns("/proc/1/ns/net").unwrap(), Path::new("/proc/1/ns/net"));
        let here = std::env::current_dir().unwrap();
        assert_eq!(netns("./blue").unwrap(), here.join("blue"));
        assert!(netns("").is_err());
    }

    #[test]
    fn a_virtual_address_has_a_port_and_a_protocol() {
        let parsed: VirtualAddress = "[fd00::10]:53/udp".parse().unwrap();
        assert_eq!(parsed.vip, "[fd00::10]:53".parse().unwrap());
        assert_eq!(parsed.protocol, Protocol::Udp);
        for wrong in ["10.0.0.1:80", "10.0.0.1/tcp", "10.0.0.1:80/sctp", "[fd00::10]/udp", ""] {
            assert!(wrong.parse::<VirtualAddress>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_backend_may_have_a_weight() {
        let parsed: Weighted = "[fd00::1]:53=0".parse().unwrap();
        assert_eq!((parsed.address, parsed.weight), ("[fd00::1]:53".parse().unwrap(), Weight::NONE));
        assert_eq!("10.0.0.2:80".parse::<Weighted>().unwrap().weight, Weight::default());
        for wrong in ["10.0.0.2", "10.0.0.2:80=", "10.0.0.2:80=101", "=3"] {
            assert!(wrong.parse::<Weighted>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_global_needs_a_name_and_a_value() {
        assert_eq!(global("rate=hex:00=").unwrap(), ("rate".to_owned(), "hex:00=".to_owned()));
        for wrong in ["rate", "=1", "rate="] {
            assert!(global(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_label_needs_a_key() {
        assert_eq!(label("a=b=c").unwrap(), ("a".to_owned(), "b=c".to_owned()));
        assert_eq!(label("a=").unwrap(), ("a".to_owned(), String::new()));
        assert!(label("a").is_err());
        assert!(label("=b").is_err());
    }
}
