//! The kernel's announcements of what [`look`](super::look) asks for, and of devices, addresses and routes.

use std::{io, time::Duration};

use rtnetlink::sys::{
    AsyncSocket as _, TokioSocket,
    protocols::{NETLINK_NETFILTER, NETLINK_ROUTE, NETLINK_XFRM},
};
use tokio::{runtime::Handle, sync::mpsc, task::AbortHandle};

use crate::{netlink::messages, netns::Netns};

/// Bytes. One transaction of nftables announces each of its rules.
const RECEIVE_BUFFER: i32 = 4 << 20;

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Devices, addresses, routes, sysctls or qdiscs: they come in bursts.
    Devices,
    /// netfilter, IPsec policies or routing rules. Also if announcements were lost.
    Rules,
}

/// Tells of changes for as long as it lives.
pub struct Changes {
    received: mpsc::Receiver<Change>,
    tasks: Vec<AbortHandle>,
}

/// A family's announcements: its groups, and what a message of a type says.
struct Source {
    protocol: isize,
    groups: &'static [u32],
    means: fn(u16) -> Option<Change>,
}

// include/uapi/linux/rtnetlink.h, netfilter/nfnetlink.h, xfrm.h: numbers of groups.
const SOURCES: [Source; 3] = [
    Source {
        protocol: NETLINK_ROUTE,
        // Links, qdiscs; of either family addresses, routes, rules and sysctls.
        groups: &[1, 4, 5, 7, 8, 24, 9, 11, 19, 25],
        means: of_routing,
    },
    Source { protocol: NETLINK_NETFILTER, groups: &[7], means: of_nftables },
    Source { protocol: NETLINK_XFRM, groups: &[4], means: |_| Some(Change::Rules) },
];

/// Of a type of rtnetlink: rules 32-35; of the others are links, addresses, routes, qdiscs and sysctls.
fn of_routing(kind: u16) -> Option<Change> {
    match kind {
        32..=35 => Some(Change::Rules),
        _ => Some(Change::Devices),
    }
}

/// Tables and chains come and go seldom, rules and elements of sets all the time: these have no say in what is asked
/// for.
fn of_nftables(kind: u16) -> Option<Change> {
    const TABLES_AND_CHAINS: [u16; 4] = [0, 2, 3, 5];
    TABLES_AND_CHAINS.contains(&(kind & 0xff)).then_some(Change::Rules)
}

impl Changes {
    /// Begins to listen. What a kernel was built without it does not announce.
    ///
    /// # Errors
    /// If the namespace cannot be entered, or the kernel gives no socket.
    pub fn listen(netns: &Netns) -> io::Result<Self> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let (sender, received) = mpsc::channel(64);
        let mut tasks = Vec::new();
        for source in SOURCES {
            let opened = netns.run(|| {
                let _guard = runtime.enter();
                open(&source)
            });
            match opened.map_err(io::Error::other)? {
                Ok(socket) => {
                    tasks.push(runtime.spawn(pass_on(socket, source.means, sender.clone())).abort_handle());
                }
                Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { received, tasks })
    }

    /// The next change. None when there will be none any more.
    pub async fn next(&mut self) -> Option<Change> {
        self.received.recv().await
    }

    /// Waits for the end of a burst: for so long, or until rules change.
    pub async fn end_of_burst(&mut self, longest: Duration) {
        let rules = async { while self.next().await.is_some_and(|change| change != Change::Rules) {} };
        tokio::time::timeout(longest, rules).await.ok();
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Changes")
    }
}

fn open(source: &Source) -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(source.protocol)?;
    let inner = socket.socket_mut();
    inner.bind_auto()?;
    // More than that is lost, which is told.
    inner.set_rx_buf_sz(RECEIVE_BUFFER).ok();
    for group in source.groups {
        inner.add_membership(*group)?;
    }
    Ok(socket)
}

async fn pass_on(socket: TokioSocket, means: fn(u16) -> Option<Change>, sender: mpsc::Sender<Change>) {
    use rtnetlink::sys::AsyncSocketExt as _;
    loop {
        let change = match socket.recv_from_full().await {
            Ok((bytes, _)) => announced(&bytes, means),
            // ENOBUFS: some were lost.
            Err(_) => Some(Change::Rules),
        };
        // One that waits to be read says as much as two.
        let Some(change) = change else { continue };
        if let Err(mpsc::error::TrySendError::Closed(_)) = sender.try_send(change) {
            return;
        }
    }
}

/// The most urgent change that some messages announce.
fn announced(bytes: &[u8], means: fn(u16) -> Option<Change>) -> Option<Change> {
    messages(bytes).filter_map(|message| means(message.message_type())).max()
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::NetlinkBuffer;

    use super::*;

    #[test]
    fn rules_of_nftables_are_no_news_and_its_chains_are() {
        assert_eq!(of_nftables(10 << 8 | 6), None);
        assert_eq!(of_nftables(10 << 8 | 3), Some(Change::Rules));
        assert_eq!(of_nftables(10 << 8 | 2), Some(Change::Rules));
        assert_eq!(of_routing(24), Some(Change::Devices));
        assert_eq!(of_routing(32), Some(Change::Rules));
        assert_eq!(of_routing(80), Some(Change::Devices));
        assert_eq!(of_routing(36), Some(Change::Devices));
    }

    #[test]
    fn of_several_messages_the_most_urgent_counts() {
        let message = |kind: u16| {
            let mut bytes = vec![0; 16];
            let mut message = NetlinkBuffer::new(&mut bytes);
            message.set_length(16);
            message.set_message_type(kind);
            bytes
        };
        let both = [message(16), message(32), message(24)].concat();
        assert_eq!(announced(&both, of_routing), Some(Change::Rules));
        assert_eq!(announced(&both[..16], of_routing), Some(Change::Devices));
        assert_eq!(announced(&[], of_routing), None);
    }
}
