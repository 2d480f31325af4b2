//! What the kernel announces of devices, addresses, routes, neighbours and sysctls, here and in the namespaces that
//! this one has a number for.

use std::{collections::BTreeSet, io};

use netloom_core::model::IfIndex;
use netloom_sys::announce::AnnouncementSocket;
use tokio::io::{Interest, unix::AsyncFd};

use super::{DeviceError, Devices};
use crate::netlink::{attribute, messages, number};

/// Groups of `include/uapi/linux/rtnetlink.h`, by their numbers: devices, neighbours, addresses, routes and sysctls of
/// IPv4, addresses, routes, settings and sysctls of IPv6.
const GROUPS: [u32; 9] = [1, 3, 5, 7, 24, 9, 11, 12, 25];

/// The largest message that the kernel sends by itself.
const BUFFER: usize = 64 * 1024;
/// So many messages are read at most before somebody acts on them.
const AT_ONCE: usize = 4_096;

/// What changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// Devices of this namespace, or what belongs to them.
    pub devices: BTreeSet<IfIndex>,
    /// Other namespaces, by the numbers that this one has for them.
    pub namespaces: BTreeSet<i32>,
    /// There was more than could be kept: anything may have changed.
    pub missed: bool,
}

/// Listens to announcements. It keeps no other namespace alive.
#[derive(Debug)]
pub struct Announcements {
    socket: AsyncFd<AnnouncementSocket>,
    buffer: Vec<u8>,
}

impl Devices {
    /// Begins to listen, in this namespace and in those that it has a number for: these are the namespaces that its
    /// pairs lead to.
    ///
    /// # Errors
    /// [`DeviceError::Netns`], [`DeviceError::Connect`].
    pub fn announcements(&self) -> Result<Announcements, DeviceError> {
        let mask = GROUPS.iter().fold(0, |mask, group| mask | 1 << (group - 1));
        let connect = |source| DeviceError::Connect { netns: self.netns().id(), source };
        let socket = self.netns().run(|| AnnouncementSocket::open(mask))?.map_err(connect)?;
        #[expect(deprecated, reason = "its descriptor is the socket's own, for as long as it lives")]
        let socket = AsyncFd::with_interest(socket, Interest::READABLE);
        let socket = socket.map_err(connect)?;
        Ok(Announcements { socket, buffer: vec![0; BUFFER] })
    }
}

impl Announcements {
    /// Waits for the next ones, and takes all that came with them. Nothing is lost if the wait is given up.
    ///
    /// # Errors
    /// Those of the socket, which does not work any more.
    pub async fn next(&mut self) -> io::Result<Announced> {
        let Self { socket, buffer } = self;
        loop {
            let mut ready = socket.readable().await?;
            let mut announced = Announced::default();
            let mut read = 0;
            while read < AT_ONCE {
                match ready.get_inner().receive(buffer) {
                    Ok((length, namespace)) => {
                        announced.note(buffer.get(..length).unwrap_or_default(), namespace);
                        read += 1;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        ready.clear_ready();
                        break;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => announced.missed = true,
                    Err(error) => return Err(error),
                }
            }
            if announced != Announced::default() {
                return Ok(announced);
            }
        }
    }
}

impl Announced {
    fn note(&mut self, bytes: &[u8], namespace: Option<i32>) {
        if let Some(number) = namespace {
            self.namespaces.insert(number);
            return;
        }
        self.devices
            .extend(messages(bytes).filter_map(|message| device(message.message_type(), message.payload())));
    }
}

/// The device that a message is about.
fn device(kind: u16, body: &[u8]) -> Option<IfIndex> {
    let index = match kind {
        // `struct ifinfomsg`, `ifaddrmsg` and `ndmsg` have it at the same place.
        libc::RTM_NEWLINK
        | libc::RTM_DELLINK
        | libc::RTM_NEWADDR
        | libc::RTM_DELADDR
        | libc::RTM_NEWNEIGH
        | libc::RTM_DELNEIGH => body.get(4..).and_then(number),
        // Behind `struct rtmsg`, RTA_OIF.
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => number(&attribute(body.get(12..)?, 4)?),
        // RTM_NEWNETCONF and RTM_DELNETCONF: behind `struct netconfmsg`, NETCONFA_IFINDEX, which is negative for what is
        // no single device's.
        80 | 81 => number(&attribute(body.get(4..)?, 1)?).filter(|index| index.cast_signed() > 0),
        _ => None,
    };
    index.filter(|index| *index != 0).map(IfIndex)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(16 + body.len()).unwrap();
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend([0; 10]);
        message.extend(body);
        message.resize(message.len().next_multiple_of(4), 0);
        message
    }

    fn value(kind: u16, value: i32) -> Vec<u8> {
        [&8_u16.to_ne_bytes()[..], &kind.to_ne_bytes(), &value.to_ne_bytes()].concat()
    }

    #[test]
    fn each_kind_of_message_names_its_device() {
        let at_four = |index: u32| [&[0; 4][..], &index.to_ne_bytes(), &[0; 8]].concat();
        let route = [&[0; 12][..], &value(1, 99), &value(4, 21)].concat();
        let netconf = |index| [&[2, 0, 0, 0][..], &value(1, index), &value(2, 0)].concat();
        let all = [
            message(libc::RTM_NEWLINK, &at_four(7)),
            message(libc::RTM_DELADDR, &at_four(8)),
            message(libc::RTM_DELNEIGH, &at_four(9)),
            message(libc::RTM_DELROUTE, &route),
            message(80, &netconf(22)),
            message(80, &netconf(-1)),
        ];
        let mut announced = Announced::default();
        announced.note(&all.concat(), None);
        assert_eq!(announced.devices, [7, 8, 9, 21, 22].map(IfIndex).into());
        announced.note(&message(libc::RTM_NEWLINK, &at_four(7)), Some(3));
        assert_eq!((announced.devices.len(), announced.namespaces), (5, [3].into()));
    }

    #[test]
    fn what_is_cut_short_names_none() {
        let whole = message(libc::RTM_DELROUTE, &[&[0; 12][..], &value(4, 21)].concat());
        for length in 0..whole.len() {
            let mut announced = Announced::default();
            announced.note(&whole[..length], None);
            assert_eq!(announced, Announced::default(), "{length} bytes");
        }
    }
}
