use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    ops::{BitOr, BitOrAssign},
};

use aya::maps::{MapData, RingBuf};
use netloom_core::model::{IfIndex, NetnsCookie};
use netloom_ebpf::layout::{self, direction, drop_reason, event_kind};
use tokio::io::{Interest, unix::AsyncFd};

use super::{Datapath, DatapathError};
use crate::maps::{EVENT_RATE, EVENTS, MONITOR};

/// What is listened to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventKinds(u32);

impl EventKinds {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Dropped packets.
    pub const DROPS: Self = Self(event_kind::DROP);
    /// Connects and messages to services.
    pub const CONNECTS: Self = Self(event_kind::CONNECT);
}

impl BitOr for EventKinds {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for EventKinds {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

/// Something that a program reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatapathEvent {
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub at: u64,
    /// What.
    pub what: Happened,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// A packet was dropped.
    Dropped(Dropped),
    /// A connect or message to a service.
    Connected(Connected),
}

/// A dropped packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The endpoint's number.
    pub endpoint: u32,
    /// Why: one of [`drop_reason::NAMES`].
    pub reason: &'static str,
    /// Whether the endpoint sent it; else it was for the endpoint.
    pub from_endpoint: bool,
    /// Bytes, with the link header.
    pub length: u32,
    /// The device that the program is on.
    pub device: IfIndex,
    /// What is in the frame: 0x0800 for IPv4.
    pub ethertype: u16,
    /// Of packets that are whole to their network header.
    pub addresses: Option<(IpAddr, IpAddr)>,
    /// The IP protocol's number; none without addresses.
    pub protocol: Option<u8>,
    /// TCP and UDP, unless it is a later fragment.
    pub ports: Option<(u16, u16)>,
}

/// A connect, or a message of an unconnected socket, that was translated or refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// The socket's cookie.
    pub cookie: u64,
    /// Its namespace's.
    pub netns_cookie: NetnsCookie,
    /// The process that asked.
    pub process: u32,
    /// Its name, as far as it fits into 15 bytes.
    pub command: String,
    /// Where it wanted to.
    pub vip: SocketAddr,
    /// The IP protocol's number.
    pub protocol: u8,
    /// The backend that was chosen; none if it was refused.
    pub backend: Option<SocketAddr>,
}

impl DatapathEvent {
    fn of(event: &layout::Event) -> Self {
        let what = if event.kind == event_kind::CONNECT {
            Happened::Connected(Connected::of(event))
        } else {
            Happened::Dropped(Dropped::of(event))
        };
        Self { at: event.at, what }
    }
}

impl Dropped {
    fn of(event: &layout::Event) -> Self {
        let none = layout::Address::default();
        let known = event.source != none || event.destination != none;
        let ports = (event.source_port.get(), event.destination_port.get());
        Self {
            endpoint: event.endpoint,
            reason: drop_reason::NAMES.get(event.reason as usize).copied().unwrap_or("unknown"),
            from_endpoint: event.direction == direction::FROM_ENDPOINT,
            length: event.length,
            device: IfIndex(event.ifindex),
            ethertype: event.ethertype.get(),
            addresses: known.then(|| (event.source.into(), event.destination.into())),
            protocol: known.then_some(event.protocol),
            ports: (ports != (0, 0)).then_some(ports),
        }
    }
}

impl Connected {
    fn of(event: &layout::Event) -> Self {
        let end = event.command.iter().position(|byte| *byte == 0).unwrap_or(event.command.len());
        let command = event.command.get(..end).unwrap_or_default();
        let refused = event.backend == layout::Address::default() && event.backend_port.get() == 0;
        Self {
            cookie: event.cookie,
            netns_cookie: NetnsCookie(event.netns_cookie),
            process: event.process,
            command: String::from_utf8_lossy(command).into_owned(),
            vip: SocketAddr::new(event.destination.into(), event.destination_port.get()),
            protocol: event.protocol,
            backend: (!refused).then(|| SocketAddr::new(event.backend.into(), event.backend_port.get())),
        }
    }
}

/// The reader of the programs' events. There is to be one at a time: what it takes, no other gets.
pub struct EventReader(AsyncFd<RingBuf<MapData>>);

impl fmt::Debug for EventReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventReader")
    }
}

impl EventReader {
    /// The most events of one batch.
    const BATCH: usize = 256;

    /// Waits for events and takes them, as many as there are, or as are a batch. None is lost if the wait is given up.
    ///
    /// # Errors
    /// [`DatapathError::Sys`].
    pub async fn next(&mut self) -> Result<Vec<DatapathEvent>, DatapathError> {
        loop {
            // The kernel wakes a reader that has taken everything, so it is looked for more before it is waited for.
            let batch = self.take();
            if !batch.is_empty() {
                return Ok(batch);
            }
            let mut ready =
                self.0.readable().await.map_err(|source| DatapathError::sys("poll", EVENTS, source))?;
            ready.clear_ready();
        }
    }

    /// Takes what there is, and does not wait.
    pub fn take(&mut self) -> Vec<DatapathEvent> {
        let ring = self.0.get_mut();
        let mut batch = Vec::new();
        while batch.len() < Self::BATCH {
            let Some(item) = ring.next() else { break };
            if let Ok(bytes) = <[u8; layout::Event::SIZE]>::try_from(&*item) {
                batch.push(DatapathEvent::of(&layout::Event::from_bytes(bytes)));
            }
        }
        batch
    }
}

impl Datapath {
    /// Makes the programs report these kinds of events and no others, on each CPU no more a second than this. They
    /// go on doing so when this process is gone.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn listen(&self, kinds: EventKinds, per_second: u32) -> Result<(), DatapathError> {
        let value = layout::Monitor { kinds: kinds.0, cost: 1_000_000_000 / per_second.max(1) };
        let mut maps = self.maps();
        let written = maps.monitor.set(0, value.to_bytes(), 0);
        written.map_err(|source| DatapathError::Map { action: "write", map: MONITOR, source })
    }

    /// What the programs report now.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn listened(&self) -> Result<EventKinds, DatapathError> {
        let read = self.maps().monitor.get(&0, 0);
        let bytes = read.map_err(|source| DatapathError::Map { action: "read", map: MONITOR, source })?;
        Ok(EventKinds(layout::Monitor::from_bytes(bytes).kinds))
    }

    /// Opens the programs' events. What is left from before is dropped. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`DatapathError::Map`], [`DatapathError::Sys`].
    pub fn events(&self) -> Result<EventReader, DatapathError> {
        let failed = |source| DatapathError::Map { action: "open", map: EVENTS, source };
        let map = MapData::from_pin(self.maps_dir().join(EVENTS)).map_err(failed)?;
        let ring = aya::maps::Map::from_map_data(map).and_then(RingBuf::try_from).map_err(failed)?;
        #[expect(deprecated, reason = "its descriptor is the map's, which it owns for as long as it lives")]
        let ring = AsyncFd::with_interest(ring, Interest::READABLE);
        let mut reader = EventReader(ring.map_err(|source| DatapathError::sys("epoll_ctl", EVENTS, source))?);
        while !reader.take().is_empty() {}
        Ok(reader)
    }

    /// Events that were listened to and could not be reported, since the maps were made: there were too many in too
    /// short a time.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn lost_events(&self) -> Result<u64, DatapathError> {
        let of_cpus = self.maps().event_rate.get(&0, 0).map_err(|source| DatapathError::Map {
            action: "read",
            map: EVENT_RATE,
            source,
        })?;
        Ok(of_cpus.iter().map(|bytes| layout::EventRate::from_bytes(*bytes).lost).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(kind: u32) -> layout::Event {
        let mut event = layout::Event::from_bytes([0; layout::Event::SIZE]);
        event.kind = kind;
        event
    }

    #[test]
    fn a_frame_without_a_network_header_has_no_addresses() {
        let mut event = raw(event_kind::DROP);
        event.ethertype = 0x0806.into();
        event.reason = drop_reason::UNSUPPORTED as u32;
        event.direction = direction::FROM_ENDPOINT;
        let Happened::Dropped(dropped) = DatapathEvent::of(&event).what else { panic!("a drop") };
        assert_eq!((dropped.addresses, dropped.protocol, dropped.ports), (None, None, None));
        assert_eq!((dropped.reason, dropped.from_endpoint), ("unsupported", true));
    }

    #[test]
    fn a_connect_without_a_backend_was_refused() {
        let mut event = raw(event_kind::CONNECT);
        event.command[..4].copy_from_slice(b"curl");
        event.destination = IpAddr::from([10, 0, 0, 1]).into();
        event.destination_port = 80.into();
        let Happened::Connected(refused) = DatapathEvent::of(&event).what else { panic!("a connect") };
        assert_eq!((refused.backend, refused.command.as_str()), (None, "curl"));
        assert_eq!(refused.vip.to_string(), "10.0.0.1:80");
        event.backend = IpAddr::from([10, 1, 0, 1]).into();
        event.backend_port = 8080.into();
        let Happened::Connected(chosen) = DatapathEvent::of(&event).what else { panic!("a connect") };
        assert_eq!(chosen.backend, "10.1.0.1:8080".parse().ok());
    }
}
