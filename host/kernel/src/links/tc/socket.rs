use std::{fmt, io};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REQUEST, NetlinkDeserializable,
    NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::sys::{Socket as RawSocket, protocols::NETLINK_ROUTE};

use crate::netlink;

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

/// An answer, undecoded: a foreign object that a decoder stumbles over must not hide the others.
#[derive(Debug)]
pub(super) struct Answer {
    /// `RTM_…`.
    pub(super) kind: u16,
    /// What follows the netlink header.
    pub(super) payload: Vec<u8>,
}

impl NetlinkDeserializable for Answer {
    type Error = std::convert::Infallible;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Self::Error> {
        Ok(Self { kind: header.message_type, payload: payload.to_vec() })
    }
}

impl NetlinkSerializable for Answer {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.payload.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.payload);
    }
}

/// A blocking rtnetlink socket of the network namespace its thread was in.
pub(super) struct Socket(RawSocket);

impl Socket {
    pub(super) fn open() -> io::Result<Self> {
        netlink::connect(NETLINK_ROUTE).map(Self)
    }

    /// Sends a request and waits for its acknowledgement.
    pub(super) fn request(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<Answer>> {
        self.exchange(message, flags).map(|(answers, _)| answers)
    }

    /// Lists objects.
    pub(super) fn dump(&self, message: &RouteNetlinkMessage) -> io::Result<Vec<Answer>> {
        for _ in 0..DUMP_ATTEMPTS {
            if let (answers, false) = self.exchange(message.clone(), NLM_F_DUMP)? {
                return Ok(answers);
            }
        }
        Err(io::Error::other("the list changed each time it was read"))
    }

    /// The answers, and whether they changed while they were read.
    fn exchange(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<(Vec<Answer>, bool)> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.0.send(&bytes, 0)?;

        let (mut answers, mut changed) = (Vec::new(), false);
        loop {
            let datagram = netlink::receive(&self.0)?;
            let mut rest = datagram.as_slice();
            while !rest.is_empty() {
                let message = NetlinkMessage::<Answer>::deserialize(rest).map_err(invalid)?;
                changed |= message.header.flags & NLM_F_DUMP_INTR != 0;
                let len = (message.header.length as usize).next_multiple_of(4);
                rest = rest.get(len.max(1)..).unwrap_or_default();
                match message.payload {
                    NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                    NetlinkPayload::Done(_) => return Ok((answers, changed)),
                    NetlinkPayload::Error(error) => {
                        return match error.code {
                            None => Ok((answers, changed)),
                            Some(_) => Err(error.to_io()),
                        };
                    }
                    _ => {}
                }
            }
        }
    }
}

fn invalid(error: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
