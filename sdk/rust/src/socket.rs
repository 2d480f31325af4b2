//! Batches of sockets to judge, however they arrive.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::types::{BoundSocket, Protocol, SocketState};

/// The words of a packed socket.
const WORDS: usize = 10;

/// The answer about one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Leave it alone.
    Spare,
    /// Destroy it.
    Destroy,
}

impl Verdict {
    /// Destroys if the condition holds.
    #[must_use]
    pub const fn destroy_if(condition: bool) -> Self {
        if condition { Self::Destroy } else { Self::Spare }
    }

    /// Spares if the condition holds.
    #[must_use]
    pub const fn spare_if(condition: bool) -> Self {
        Self::destroy_if(!condition)
    }

    const fn is_destroy(self) -> bool {
        matches!(self, Self::Destroy)
    }
}

/// At most 4,096 sockets to judge.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a>(Form<'a>);

#[derive(Clone, Copy, Debug)]
enum Form<'a> {
    Records(&'a [BoundSocket]),
    Packed(&'a [[u64; WORDS]]),
}

impl<'a> Batch<'a> {
    /// A batch of records.
    #[must_use]
    pub const fn records(sockets: &'a [BoundSocket]) -> Self {
        Self(Form::Records(sockets))
    }

    /// A batch of packed sockets, laid out as `judge-packed` in `wit/policy/hooks.wit` says. Words that make no
    /// whole socket are left out.
    #[must_use]
    pub const fn packed(words: &'a [u64]) -> Self {
        Self(Form::Packed(words.as_chunks().0))
    }

    /// How many sockets there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self.0 {
            Form::Records(sockets) => sockets.len(),
            Form::Packed(sockets) => sockets.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sockets.
    pub fn iter(&self) -> impl Iterator<Item = Socket<'a>> + use<'a> {
        let (records, packed): (&[BoundSocket], &[[u64; WORDS]]) = match self.0 {
            Form::Records(sockets) => (sockets, &[]),
            Form::Packed(sockets) => (&[], sockets),
        };
        records
            .iter()
            .map(|socket| Socket(One::Record(socket)))
            .chain(packed.iter().map(|words| Socket(One::Packed(words))))
    }

    /// Asks for a verdict on each socket.
    pub fn decide(self, mut verdict: impl FnMut(Socket<'a>) -> Verdict) -> Verdicts {
        let mut verdicts = Verdicts { words: Vec::with_capacity(self.len().div_ceil(64)), len: 0 };
        match self.0 {
            Form::Records(sockets) => {
                verdicts.extend(sockets, |socket| verdict(Socket(One::Record(socket))));
            }
            Form::Packed(sockets) => {
                verdicts.extend(sockets, |words| verdict(Socket(One::Packed(words))));
            }
        }
        verdicts
    }
}

/// The verdicts on a batch, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    words: Vec<u64>,
    len: usize,
}

impl Verdicts {
    /// A word is filled while its 64 sockets are looked at, so that the loop touches the heap once for all.
    fn extend<'a, T>(&mut self, sockets: &'a [T], mut verdict: impl FnMut(&'a T) -> Verdict) {
        for sockets in sockets.chunks(64) {
            let mut word = 0;
            for (bit, socket) in sockets.iter().enumerate() {
                word |= u64::from(verdict(socket).is_destroy()) << bit;
            }
            self.words.push(word);
            self.len += sockets.len();
        }
    }

    /// Each verdict.
    pub fn iter(&self) -> impl Iterator<Item = Verdict> {
        let bits = self.words.iter().flat_map(|word| (0..64).map(move |bit| word >> bit & 1 == 1));
        bits.take(self.len).map(Verdict::destroy_if)
    }

    pub(crate) fn into_words(self) -> Vec<u64> {
        self.words
    }

    pub(crate) fn into_bools(self) -> Vec<bool> {
        self.iter().map(Verdict::is_destroy).collect()
    }
}

/// A socket bound to a backend that is gone, as it was when the host looked.
#[derive(Clone, Copy, Debug)]
pub struct Socket<'a>(One<'a>);

#[derive(Clone, Copy, Debug)]
enum One<'a> {
    Record(&'a BoundSocket),
    Packed(&'a [u64; WORDS]),
}

impl<'a> Socket<'a> {
    /// The kernel's socket cookie: unique on the node until it boots again.
    #[must_use]
    pub const fn cookie(&self) -> u64 {
        match self.0 {
            One::Record(socket) => socket.cookie,
            One::Packed(words) => words[0],
        }
    }

    /// The kernel's cookie of the socket's network namespace.
    #[must_use]
    pub const fn netns_cookie(&self) -> u64 {
        match self.0 {
            One::Record(socket) => socket.netns_cookie,
            One::Packed(words) => words[1],
        }
    }

    /// The endpoint its namespace belongs to, if it is one; always none in a packed batch.
    #[must_use]
    pub fn endpoint(&self) -> Option<&'a str> {
        match self.0 {
            One::Record(socket) => socket.endpoint.as_deref(),
            One::Packed(_) => None,
        }
    }

    /// Nanoseconds since it was bound.
    #[must_use]
    pub const fn age_ns(&self) -> u64 {
        match self.0 {
            One::Record(socket) => socket.age_ns,
            One::Packed(words) => words[2],
        }
    }

    /// Its own port.
    #[must_use]
    pub const fn local_port(&self) -> u16 {
        match self.0 {
            One::Record(socket) => socket.local.port,
            One::Packed(words) => words[3] as u16,
        }
    }

    /// The backend's port.
    #[must_use]
    pub const fn remote_port(&self) -> u16 {
        match self.0 {
            One::Record(socket) => socket.remote.port,
            One::Packed(words) => (words[3] >> 16) as u16,
        }
    }

    /// Its state.
    #[must_use]
    pub const fn state(&self) -> SocketState {
        match self.0 {
            One::Record(socket) => socket.state,
            One::Packed(words) => match words[3] >> 32 & 0xff {
                1 => SocketState::Established,
                2 => SocketState::SynSent,
                3 => SocketState::SynRecv,
                4 => SocketState::FinWait1,
                5 => SocketState::FinWait2,
                6 => SocketState::TimeWait,
                8 => SocketState::CloseWait,
                9 => SocketState::LastAck,
                10 => SocketState::Listen,
                11 => SocketState::Closing,
                12 => SocketState::NewSynRecv,
                _ => SocketState::Close,
            },
        }
    }

    /// Its transport.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        match self.0 {
            One::Record(socket) => socket.protocol,
            One::Packed(words) => match words[3] >> 40 & 0xff {
                17 => Protocol::Udp,
                _ => Protocol::Tcp,
            },
        }
    }

    /// Which of the event's backends it is bound to: an index into them.
    #[must_use]
    pub const fn backend(&self) -> usize {
        match self.0 {
            One::Record(socket) => socket.backend as usize,
            One::Packed(words) => (words[3] >> 48) as usize,
        }
    }

    /// Its own address and port; IPv4-mapped as IPv4.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        match self.0 {
            One::Record(socket) => socket.local.into(),
            One::Packed(words) => SocketAddr::new(unpack(words[4], words[5]), self.local_port()),
        }
    }

    /// The backend's address and port; IPv4-mapped as IPv4.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        match self.0 {
            One::Record(socket) => socket.remote.into(),
            One::Packed(words) => SocketAddr::new(unpack(words[6], words[7]), self.remote_port()),
        }
    }

    /// Payload bytes sent and acknowledged; 0 for UDP.
    #[must_use]
    pub const fn bytes_sent(&self) -> u64 {
        match self.0 {
            One::Record(socket) => socket.bytes_sent,
            One::Packed(words) => words[8],
        }
    }

    /// Payload bytes received; 0 for UDP.
    #[must_use]
    pub const fn bytes_received(&self) -> u64 {
        match self.0 {
            One::Record(socket) => socket.bytes_received,
            One::Packed(words) => words[9],
        }
    }
}

fn unpack(high: u64, low: u64) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low))).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn sockets(count: u64) -> Vec<BoundSocket> {
        let states =
            [SocketState::Established, SocketState::FinWait2, SocketState::Close, SocketState::NewSynRecv];
        let locals = ["10.1.0.2:40000", "[2001:db8::2]:65535"];
        (0..count)
            .map(|n| BoundSocket {
                cookie: n << 40 | n,
                netns_cookie: n + 7,
                protocol: if n % 3 == 0 { Protocol::Udp } else { Protocol::Tcp },
                state: states[n as usize % states.len()],
                backend: (n % 1024) as u16,
                age_ns: u64::MAX - n,
                bytes_sent: n * 1_000_003,
                bytes_received: n,
                ..testing::socket(locals[n as usize % 2], "10.0.0.7:443")
            })
            .collect()
    }

    fn fields(socket: Socket<'_>) -> impl PartialEq + std::fmt::Debug {
        (
            (socket.cookie(), socket.netns_cookie(), socket.age_ns(), socket.local(), socket.remote()),
            (socket.local_port(), socket.remote_port(), socket.state(), socket.protocol(), socket.backend()),
            (socket.bytes_sent(), socket.bytes_received()),
        )
    }

    #[test]
    fn a_packed_socket_reads_like_its_record() {
        let records = sockets(200);
        let words = testing::pack(&records);
        let packed = Batch::packed(&words);
        assert_eq!(packed.len(), 200);
        for (packed, record) in packed.iter().zip(Batch::records(&records).iter()) {
            assert_eq!(fields(packed), fields(record));
        }
    }

    #[test]
    fn verdicts_keep_the_order_across_words() {
        for count in [0, 1, 63, 64, 65, 128, 200] {
            let records = sockets(count);
            let verdict = |socket: Socket<'_>| Verdict::destroy_if(socket.bytes_received() % 3 == 1);
            let wanted: Vec<Verdict> = (0..count).map(|n| Verdict::destroy_if(n % 3 == 1)).collect();
            for batch in [Batch::records(&records), Batch::packed(&testing::pack(&records))] {
                let verdicts = batch.decide(verdict);
                assert_eq!(verdicts.iter().collect::<Vec<_>>(), wanted);
                assert_eq!(verdicts.clone().into_words().len(), (count as usize).div_ceil(64));
                assert_eq!(verdicts.into_bools().len(), count as usize);
            }
        }
    }

    #[test]
    fn words_that_make_no_socket_are_left_out() {
        assert_eq!(Batch::packed(&[0; 19]).len(), 1);
    }
}
