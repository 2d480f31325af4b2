//! Netlink messages that no library of ours reads: dumps, and attributes.

use std::{io, time::Duration};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NlasIterator,
};
use rtnetlink::sys::{Socket, SocketAddr};
use rustix::net::sockopt::{Timeout, set_socket_timeout};

/// Longest wait for an answer. The kernel may be busy for long; an answer that was lost never comes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How often a dump is asked for, at most, that changes while it is read.
const TRIES: u32 = 50;
/// Bytes of a message's header.
const HEADER: usize = 16;

/// A message that the kernel sent.
pub(crate) struct Message {
    pub(crate) kind: u16,
    pub(crate) payload: Vec<u8>,
}

/// What came of one reading of a dump.
enum Reading {
    Whole(Vec<Message>),
    /// It changed meanwhile.
    Interrupted,
}

/// Everything that the kernel has of a kind, in the calling thread's namespace: `request` is the type of the question
/// and `body` the header of its family. None if the kernel lacks what it is about.
pub(crate) fn dump(protocol: isize, request: u16, body: &[u8]) -> io::Result<Option<Vec<Message>>> {
    for _ in 0..TRIES {
        match read(protocol, request, body) {
            Ok(Reading::Whole(messages)) => return Ok(Some(messages)),
            Ok(Reading::Interrupted) => {}
            Err(error) if is_lacking(&error) => return Ok(None),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("what was asked for changed each time while it was read"))
}

/// What a kernel answers that was built without a family, or without what it asks about.
fn is_lacking(error: &io::Error) -> bool {
    let lacking = [libc::EPROTONOSUPPORT, libc::EAFNOSUPPORT, libc::EOPNOTSUPP];
    error.raw_os_error().is_some_and(|errno| lacking.contains(&errno))
}

/// A socket to the kernel, of the calling thread's namespace. It blocks, and not for ever.
pub(crate) fn connect(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    Ok(socket)
}

/// The messages that come next.
pub(crate) fn receive(socket: &Socket) -> io::Result<Vec<u8>> {
    let (bytes, _) = socket.recv_from_full().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::from_raw_os_error(libc::ETIMEDOUT),
        _ => error,
    })?;
    Ok(bytes)
}

fn read(protocol: isize, request: u16, body: &[u8]) -> io::Result<Reading> {
    let socket = connect(protocol)?;
    socket.send(&question(request, body), 0)?;
    let (mut read, mut interrupted) = (Vec::new(), false);
    loop {
        let bytes = receive(&socket)?;
        for message in messages(&bytes) {
            interrupted |= message.flags() & NLM_F_DUMP_INTR != 0;
            match message.message_type() {
                NLMSG_DONE => {
                    check(message.payload())?;
                    return Ok(if interrupted { Reading::Interrupted } else { Reading::Whole(read) });
                }
                NLMSG_ERROR => {
                    check(message.payload())?;
                    return Err(io::Error::other("a question was answered with an acknowledgement"));
                }
                kind => read.push(Message { kind, payload: message.payload().to_vec() }),
            }
        }
    }
}

/// The messages that stand one behind the other; what is cut short is left out.
pub(crate) fn messages(bytes: &[u8]) -> impl Iterator<Item = NetlinkBuffer<&[u8]>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(rest).ok()?;
        rest = rest.get(message.length().next_multiple_of(4) as usize..).unwrap_or_default();
        Some(message)
    })
}

/// The error, a negative number, with which an answer begins or ends.
pub(crate) fn check(payload: &[u8]) -> io::Result<()> {
    match payload.first_chunk::<4>().map(|bytes| i32::from_ne_bytes(*bytes)) {
        Some(errno) if errno < 0 => Err(io::Error::from_raw_os_error(-errno)),
        _ => Ok(()),
    }
}

fn question(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = HEADER + body.len();
    let mut bytes = vec![0; HEADER];
    bytes.extend(body);
    let mut message = NetlinkBuffer::new(&mut bytes);
    message.set_length(length as u32);
    message.set_message_type(kind);
    message.set_flags(NLM_F_REQUEST | NLM_F_DUMP);
    bytes
}

/// The attributes: kind and value.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, Vec<u8>)> {
    let attributes = NlasIterator::new(bytes).filter_map(Result::ok);
    attributes.map(|attribute| (attribute.kind(), attribute.value().to_vec()))
}

/// The value of the first attribute of this kind.
pub(crate) fn attribute(bytes: &[u8], wanted: u16) -> Option<Vec<u8>> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// Text, as it stands in attributes: up to its zero.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

/// A number in this machine's byte order.
pub(crate) fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.first_chunk::<4>()?))
}

/// An attribute as it is written.
pub(crate) fn with(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_ends_with_an_error_is_one() {
        assert!(check(&0_i32.to_ne_bytes()).is_ok());
        assert!(check(&[]).is_ok());
        let error = check(&(-libc::EPERM).to_ne_bytes()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn an_answer_that_does_not_come_is_not_waited_for_for_ever() {
        let socket = connect(rtnetlink::sys::protocols::NETLINK_ROUTE).unwrap();
        set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_millis(10))).unwrap();
        assert_eq!(receive(&socket).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn what_the_kernel_lacks_is_told_from_what_it_refuses() {
        // A protocol that nobody has, and a question to sock_diag without a body.
        assert!(dump(31, 0, &[]).unwrap().is_none());
        let refused = dump(rtnetlink::sys::protocols::NETLINK_SOCK_DIAG, 20, &[]).err().unwrap();
        assert_eq!(refused.raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn attributes_are_read_to_the_first_that_is_not_whole() {
        let mut bytes = with(1, b"one\0");
        bytes.extend(with(2, &7_u32.to_ne_bytes()));
        assert_eq!(attribute(&bytes, 1).map(|value| text(&value)).as_deref(), Some("one"));
        assert_eq!(attribute(&bytes, 2).as_deref().and_then(number), Some(7));
        for length in 0..bytes.len() {
            assert!(attributes(&bytes[..length]).count() < 2);
        }
    }
}
