//! Lists of the kernel's, each read whole: what changes while it is read is read again.

use std::time::Duration;

use futures::{Stream, StreamExt as _};
use netlink_packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage, address::AddressMessage, link::LinkMessage,
    neighbour::NeighbourMessage, route::RouteMessage,
};
use rtnetlink::Error;

use super::{Devices, error};

/// How often a list is asked for, at most: one whose reader was cut off keeps the kernel busy until it is read to its
/// end, and one that changes while it is read may lack what did not.
const READINGS: u32 = 400;
/// Between two of these.
const PAUSE: Duration = Duration::from_millis(5);

impl Devices {
    /// All devices.
    pub(super) async fn links(&self) -> Result<Vec<LinkMessage>, Error> {
        self.all(RouteNetlinkMessage::GetLink(LinkMessage::default()), |message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        })
        .await
    }

    /// All addresses.
    pub(super) async fn address_messages(&self) -> Result<Vec<AddressMessage>, Error> {
        self.all(RouteNetlinkMessage::GetAddress(AddressMessage::default()), |message| match message {
            RouteNetlinkMessage::NewAddress(address) => Some(address),
            _ => None,
        })
        .await
    }

    /// The routes of both families that are like this one.
    pub(super) async fn routes_of_both(&self, like: &RouteMessage) -> Result<Vec<RouteMessage>, Error> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut like = like.clone();
            like.header.address_family = family;
            match self.route_messages(like).await {
                Ok(messages) => routes.extend(messages),
                // A kernel without IPv6 has no routes of it.
                Err(error) if error::is(&error, libc::EOPNOTSUPP) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(routes)
    }

    /// The routes of a family that are like this one.
    pub(super) async fn route_messages(&self, like: RouteMessage) -> Result<Vec<RouteMessage>, Error> {
        self.all(RouteNetlinkMessage::GetRoute(like), |message| match message {
            RouteNetlinkMessage::NewRoute(route) => Some(route),
            _ => None,
        })
        .await
    }

    /// The neighbours that are like this one.
    pub(super) async fn neighbour_messages(
        &self,
        like: NeighbourMessage,
    ) -> Result<Vec<NeighbourMessage>, Error> {
        self.all(RouteNetlinkMessage::GetNeighbour(like), |message| match message {
            RouteNetlinkMessage::NewNeighbour(neighbour) => Some(neighbour),
            _ => None,
        })
        .await
    }

    async fn all<T>(
        &self,
        question: RouteNetlinkMessage,
        item: fn(RouteNetlinkMessage) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let _listing = self.connection.listing.lock().await;
        for _ in 0..READINGS {
            let mut question = NetlinkMessage::from(question.clone());
            question.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
            let read = |mut handle: rtnetlink::Handle| async move {
                read_whole(handle.request(question)?, item).await
            };
            match self.asked(read).await {
                Ok(Some(list)) => return Ok(list),
                Ok(None) => {}
                Err(error) if error::is(&error, libc::EBUSY) => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(error::of(libc::EINTR))
    }
}

/// None if the list changed while it was read, of which the kernel says so in one of its messages.
async fn read_whole<T>(
    messages: impl Stream<Item = NetlinkMessage<RouteNetlinkMessage>>,
    item: fn(RouteNetlinkMessage) -> Option<T>,
) -> Result<Option<Vec<T>>, Error> {
    let mut messages = std::pin::pin!(messages);
    let (mut list, mut changed) = (Vec::new(), false);
    while let Some(message) = messages.next().await {
        let (header, payload) = message.into_parts();
        changed |= header.flags & NLM_F_DUMP_INTR != 0;
        match payload {
            NetlinkPayload::InnerMessage(inner) => list.extend(item(inner)),
            NetlinkPayload::Error(error) => return Err(Error::NetlinkError(error)),
            _ => {}
        }
    }
    Ok((!changed).then_some(list))
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    fn link(flags: u16) -> NetlinkMessage<RouteNetlinkMessage> {
        let mut message = NetlinkMessage::from(RouteNetlinkMessage::NewLink(LinkMessage::default()));
        message.header.flags = flags;
        message
    }

    fn read(messages: Vec<NetlinkMessage<RouteNetlinkMessage>>) -> Result<Option<Vec<()>>, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(read_whole(stream::iter(messages), |message| {
            matches!(message, RouteNetlinkMessage::NewLink(_)).then_some(())
        }))
    }

    #[test]
    fn a_list_that_changed_while_it_was_read_is_not_whole() {
        assert_eq!(read(vec![link(0), link(0)]).unwrap(), Some(vec![(), ()]));
        assert_eq!(read(vec![link(0), link(NLM_F_DUMP_INTR), link(0)]).unwrap(), None);
        assert_eq!(read(Vec::new()).unwrap(), Some(Vec::new()));
    }

    #[test]
    fn an_error_among_the_messages_is_one() {
        let Error::NetlinkError(busy) = error::of(libc::EBUSY) else { unreachable!() };
        let failed = NetlinkMessage::new(Default::default(), NetlinkPayload::Error(busy));
        assert!(error::is(&read(vec![link(0), failed]).unwrap_err(), libc::EBUSY));
    }
}
