use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
    NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::sys::{Socket as RawSocket, protocols::NETLINK_ROUTE};

use crate::netlink::{self, Message};

/// Do it.
pub(super) const ACK: u16 = NLM_F_ACK;
/// Answer one object.
pub(super) const GET: u16 = NLM_F_ACK;
/// Make something that is not there.
pub(super) const CREATE: u16 = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
/// Change something that is there.
pub(super) const CHANGE: u16 = NLM_F_ACK;

/// How often a list is asked for again when it changed while it was read.
const DUMP_ATTEMPTS: usize = 8;

/// A blocking rtnetlink socket of the network namespace its thread was in.
pub(super) struct Socket(RawSocket);

impl Socket {
    pub(super) fn open() -> io::Result<Self> {
        netlink::connect(NETLINK_ROUTE).map(Self)
    }

    /// Sends a request and waits for its acknowledgement.
    pub(super) fn request(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<Message>> {
        self.exchange(message, flags).map(|(answers, _)| answers)
    }

    /// Lists objects.
    pub(super) fn dump(&self, message: &RouteNetlinkMessage) -> io::Result<Vec<Message>> {
        for _ in 0..DUMP_ATTEMPTS {
            if let (answers, false) = self.exchange(message.clone(), NLM_F_DUMP)? {
                return Ok(answers);
            }
        }
        Err(io::Error::other("the list changed each time it was read"))
    }

    /// The answers, and whether they changed while they were read.
    fn exchange(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<(Vec<Message>, bool)> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.0.send(&bytes, 0)?;

        let (mut answers, mut changed) = (Vec::new(), false);
        loop {
            let bytes = netlink::receive(&self.0)?;
            for message in netlink::messages(&bytes) {
                changed |= message.flags() & NLM_F_DUMP_INTR != 0;
                match message.message_type() {
                    NLMSG_DONE | NLMSG_ERROR => {
                        netlink::check(message.payload())?;
                        return Ok((answers, changed));
                    }
                    // Undecoded: a foreign object that a decoder stumbles over must not hide the others.
                    kind => answers.push(Message { kind, payload: message.payload().to_vec() }),
                }
            }
        }
    }
}
