use futures::StreamExt as _;
use rtnetlink::MulticastGroup;
use tokio::runtime::Handle;

use super::DeviceError;
use crate::netns::Netns;

/// Tells of changes of a namespace's devices, qdiscs and filters as the kernel announces them. tcx and netkit
/// programs come and go without an announcement.
pub struct Changes {
    messages: futures::channel::mpsc::UnboundedReceiver<(
        rtnetlink::packet_core::NetlinkMessage<rtnetlink::packet_route::RouteNetlinkMessage>,
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

    /// Waits for the next change, and takes those that came with it. False when there will be none any more.
    pub async fn next(&mut self) -> bool {
        if self.messages.next().await.is_none() {
            return false;
        }
        while self.messages.try_recv().is_ok() {}
        true
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
