use std::{fmt, io, net::IpAddr, num::NonZeroI32};

use ipnet::IpNet;
use netlink_packet_core::ErrorMessage;
use netloom_core::model::{DeviceMode, NetnsId};

use crate::netns::NetnsError;

/// Why an operation on devices failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// A namespace could not be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// No netlink connection.
    #[error("cannot open a netlink connection in {netns}")]
    Connect {
        /// Where.
        netns: NetnsId,
        /// What the kernel or the runtime said.
        source: io::Error,
    },
    /// There is no such device.
    #[error("no device {device} in {netns}; `ip link` in that namespace shows the ones there are")]
    NotFound {
        /// Its name, or `with index 7`.
        device: String,
        /// Where it was looked for.
        netns: NetnsId,
    },
    /// The name of the node's end is taken.
    #[error("the node already has a device {device} (in {netns}); delete it, or choose another name")]
    TakenOnNode {
        /// The name.
        device: String,
        /// Where.
        netns: NetnsId,
    },
    /// The name of the endpoint's end is taken.
    #[error(
        "the endpoint's namespace {netns} already has a device {device}: is another network attached to it? Choose \
         another interface name, or detach that one"
    )]
    TakenInEndpoint {
        /// The name.
        device: String,
        /// Where.
        netns: NetnsId,
    },
    /// A text that is no name of a device.
    #[error(
        "{name:?} is not a device name: use 1 to 15 bytes without '/', ':', '%' or white space, not '.' or '..'"
    )]
    InvalidName {
        /// The text.
        name: String,
    },
    /// A hardware address for a device that has none.
    #[error(
        "device {device} cannot have a MAC address in netkit (L3) mode; ask for netkit-l2 or veth, or no MAC"
    )]
    MacOnL3 {
        /// The device.
        device: String,
    },
    /// Not an address of one station.
    #[error("{mac} cannot be the MAC address of device {device}: it is a group address or all zero")]
    InvalidMac {
        /// The device.
        device: String,
        /// The address.
        mac: String,
    },
    /// netkit attributes on a veth pair.
    #[error("device {device}: {attribute} is an attribute of netkit, and its mode is {mode}")]
    NotForMode {
        /// The device.
        device: String,
        /// The attribute.
        attribute: &'static str,
        /// What it is.
        mode: DeviceMode,
    },
    /// An MTU out of bounds.
    #[error("an MTU of {mtu} is out of bounds for device {device}: use {min} to {max} bytes{reason}")]
    Mtu {
        /// The device.
        device: String,
        /// What was asked for.
        mtu: u32,
        /// The least.
        min: u32,
        /// The most.
        max: u32,
        /// Why the least is what it is.
        reason: &'static str,
    },
    /// The kernel has no such devices.
    #[error("this kernel cannot create {mode} devices: {needs}")]
    Unsupported {
        /// What was asked for.
        mode: DeviceMode,
        /// What it takes, and the way round.
        needs: &'static str,
        /// What the kernel said.
        source: NetlinkError,
    },
    /// The kernel said yes and did otherwise.
    #[error(
        "the kernel ignored {attribute} of device {device}: asked for {wanted}, got {found}; it needs {needs}"
    )]
    Ignored {
        /// The device.
        device: String,
        /// The attribute.
        attribute: &'static str,
        /// What was asked for.
        wanted: String,
        /// What it is.
        found: String,
        /// The kernel or driver that does it.
        needs: &'static str,
    },
    /// Policies are set through the node's end.
    #[error("device {device} in {netns} is not the primary of a netkit pair, through which policies are set")]
    NotPrimary {
        /// The device.
        device: String,
        /// Where.
        netns: NetnsId,
    },
    /// Another device has the route.
    #[error(
        "{netns} already routes {destination} elsewhere (device {device}); is the address in use by another endpoint \
         or network?"
    )]
    RouteTaken {
        /// Where to.
        destination: IpNet,
        /// The device it goes through now.
        device: String,
        /// Where.
        netns: NetnsId,
    },
    /// A route whose ends are of two families.
    #[error("a route to {destination} cannot use {address}: it is of the other address family")]
    MixedFamilies {
        /// Where to.
        destination: IpNet,
        /// The gateway or source.
        address: IpAddr,
    },
    /// A sysctl could not be read or written.
    #[error(
        "cannot access the sysctl {path} in {netns}; is IPv6 off in this kernel, or /proc/sys mounted read-only?"
    )]
    Sysctl {
        /// The file.
        path: String,
        /// Where.
        netns: NetnsId,
        /// What the kernel said.
        source: io::Error,
    },
    /// Anything else that the kernel refused.
    #[error("cannot {what} in {netns}")]
    Netlink {
        /// What was attempted, on what.
        what: String,
        /// Where.
        netns: NetnsId,
        /// What the kernel said.
        source: NetlinkError,
    },
}

/// What the kernel answered to a netlink request.
#[derive(Debug)]
pub struct NetlinkError {
    /// The error number; none if no proper answer came.
    pub errno: Option<i32>,
    text: String,
}

impl fmt::Display for NetlinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for NetlinkError {}

impl From<rtnetlink::Error> for NetlinkError {
    fn from(error: rtnetlink::Error) -> Self {
        let rtnetlink::Error::NetlinkError(message) = &error else {
            return Self { errno: None, text: error.to_string() };
        };
        let errno = message.raw_code().saturating_neg();
        let mut text = io::Error::from_raw_os_error(errno).to_string();
        if let Some(explanation) = explanation(message) {
            text = format!("{text}: {explanation}");
        }
        if errno == libc::EPERM {
            text.push_str("; this needs root (CAP_NET_ADMIN)");
        }
        Self { errno: Some(errno), text }
    }
}

/// Whether the kernel answered with an error number.
pub(super) fn is(error: &rtnetlink::Error, errno: i32) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.raw_code() == errno.saturating_neg())
}

/// An error as the kernel answers it.
pub(super) fn of(errno: i32) -> rtnetlink::Error {
    let mut message = ErrorMessage::default();
    message.code = NonZeroI32::new(errno.saturating_neg());
    rtnetlink::Error::NetlinkError(message)
}

/// `NLMSGERR_ATTR_MSG` of `include/uapi/linux/netlink.h`.
const ATTR_MSG: u16 = 1;

/// The kernel's own words. With `NETLINK_CAP_ACK` they follow the 16 bytes of the request's header.
fn explanation(message: &ErrorMessage) -> Option<String> {
    let mut rest = message.header.get(16..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        let value = rest.get(4..length)?;
        if kind == ATTR_MSG {
            let text = value.split(|byte| *byte == 0).next()?;
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}
