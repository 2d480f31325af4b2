use std::collections::BTreeSet;

use futures::StreamExt as _;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netloom_core::model::IfIndex;
use rtnetlink::MulticastGroup;
use tokio::runtime::Handle;

use super::DeviceError;
use crate::netns::Netns;

/// Tells of changes of a namespace's devices, qdiscs and filters as the kernel announces them. tcx and netkit
/// programs come and go without an announcement.
pub struct Changes {
    messages: futures::channel::mpsc::UnboundedReceiver<(
        NetlinkMessage<RouteNetlinkMessage>,
        rtnetlink::sys::SocketAddr,
    )>,
    connection: tokio::task::AbortHandle,
}

impl Changes {
    /// Begins to listen.
    ///
    /// # Errors
    /// [`DeviceError::Netns`], [`DeviceError::Connect`].
    pub fn listen(netns: &Netns) -> Result<Self, DeviceError> {
        let connect = |source| DeviceError::Connect { netns: netns.id(), source };
        let runtime = Handle::try_current().map_err(|error| connect(std::io::Error::other(error)))?;
        let (connection, _, messages) = netns
            .run(|| {
                let _guard = runtime.enter();
                rtnetlink::new_multicast_connection(&[MulticastGroup::Link, MulticastGroup::Tc])
            })?
            .map_err(connect)?;
        Ok(Self { messages, connection: runtime.spawn(connection).abort_handle() })
    }

    /// Waits for the next change, and takes those that came with it: the devices they are about. None when there will
    /// be none any more.
    pub async fn next(&mut self) -> Option<BTreeSet<IfIndex>> {
        let (first, _) = self.messages.next().await?;
        let mut devices = BTreeSet::from_iter(device(&first));
        while let Ok((message, _)) = self.messages.try_recv() {
            devices.extend(device(&message));
        }
        Some(devices)
    }
}

/// The device that a message is about.
fn device(message: &NetlinkMessage<RouteNetlinkMessage>) -> Option<IfIndex> {
    use RouteNetlinkMessage::{
        DelLink, DelQueueDiscipline, DelTrafficChain, DelTrafficClass, DelTrafficFilter, NewLink,
        NewQueueDiscipline, NewTrafficChain, NewTrafficClass, NewTrafficFilter,
    };
    let NetlinkPayload::InnerMessage(message) = &message.payload else { return None };
    match message {
        NewLink(link) | DelLink(link) => Some(IfIndex(link.header.index)),
        NewQueueDiscipline(change)
        | DelQueueDiscipline(change)
        | NewTrafficClass(change)
        | DelTrafficClass(change)
        | NewTrafficFilter(change)
        | DelTrafficFilter(change)
        | NewTrafficChain(change)
        | DelTrafficChain(change) => u32::try_from(change.header.index).ok().map(IfIndex),
        _ => None,
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Changes")
    }
}
