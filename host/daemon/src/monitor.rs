//! Events of the datapath for whoever listens. The programs report nothing until the first listener comes, and
//! nothing after the last one is gone.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::body::Bytes;
use futures::{Stream, stream};
use netloom_api::types::{
    ConnectEvent, ConnectOutcome, Direction, DropEvent, Endpoint, LostEvents, MonitorEvent, MonitorQuery,
    Name, Protocol,
};
use netloom_kernel::datapath::{
    Connected, Datapath, DatapathEvent, Dropped, EventKinds, EventReader, Happened,
};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    task::JoinHandle,
};

use crate::{
    config::Config,
    failure::Failure,
    opened::Opened,
    store::{ServiceRecord, Store},
    telemetry::kept::now_ms,
};

/// Most events that are queued for a slow listener. It misses the oldest of more, and is told how many.
const QUEUE_LENGTH: usize = 4_096;
/// Time between two looks at how many events the programs had to drop.
const LOST_CHECK_EVERY: Duration = Duration::from_millis(250);

#[derive(Default)]
struct State {
    drops: usize,
    connects: usize,
    /// There as long as somebody listens.
    reader: Option<Reader>,
    /// The daemon ends: nobody may listen any more.
    closed: bool,
}

struct Reader {
    lines: broadcast::Sender<Arc<Line>>,
    task: JoinHandle<()>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An event, and as it stands in the stream.
struct Line {
    event: MonitorEvent,
    text: Bytes,
}

impl Line {
    fn of(event: MonitorEvent) -> Self {
        let text = serde_json::to_vec(&event).map(|mut text| {
            text.push(b'\n');
            text.into()
        });
        Self { event, text: text.unwrap_or_default() }
    }
}

impl State {
    fn kinds(&self) -> EventKinds {
        let mut kinds = EventKinds::NONE;
        if self.drops > 0 {
            kinds |= EventKinds::DROPS;
        }
        if self.connects > 0 {
            kinds |= EventKinds::CONNECTS;
        }
        kinds
    }

    fn count(&mut self, query: &MonitorQuery, one_more: bool) {
        for (wants, count) in
            [(query.wants_drops(), &mut self.drops), (query.wants_connects(), &mut self.connects)]
        {
            match (wants, one_more) {
                (true, true) => *count += 1,
                (true, false) => *count = count.saturating_sub(1),
                (false, _) => {}
            }
        }
    }
}

/// One who listens; the programs stop reporting when the last one is dropped.
struct Listener {
    monitor: Arc<Monitor>,
    query: MonitorQuery,
    lines: broadcast::Receiver<Arc<Line>>,
}

impl Listener {
    /// The next line for this listener; none when the daemon ends.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.lines.recv().await {
                Ok(line) if self.query.meets(&line.event) => return Some(line.text.clone()),
                Ok(_) => {}
                Err(RecvError::Lagged(events)) => return Some(Line::of(lost(events)).text),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut state = self.monitor.state();
        state.count(&self.query, false);
        if let Err(error) = self.monitor.report(state.kinds()) {
            tracing::error!(%error, "the datapath goes on reporting events that nobody listens to");
        }
        if state.kinds() == EventKinds::NONE {
            state.reader = None;
        }
    }
}

/// Who listens to the datapath.
pub(crate) struct Monitor {
    config: Arc<Config>,
    store: Arc<Store>,
    datapath: Arc<Datapath>,
    state: Mutex<State>,
}

impl Monitor {
    pub(crate) fn new(opened: &Opened) -> Self {
        Self {
            config: Arc::clone(&opened.config),
            store: Arc::clone(&opened.store),
            datapath: Arc::clone(&opened.datapath),
            state: Mutex::default(),
        }
    }

    /// Ends every stream, for good.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.reader = None;
    }

    pub(crate) fn listeners(&self) -> usize {
        self.state().reader.as_ref().map_or(0, |reader| reader.lines.receiver_count())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lines of JSON, one an event, as long as they are read and the daemon runs.
    pub(crate) fn listen(
        self: &Arc<Self>,
        query: MonitorQuery,
    ) -> Result<impl Stream<Item = Result<Bytes, std::convert::Infallible>> + use<>, Failure> {
        self.check_query(&query)?;
        let mut state = self.state();
        if state.closed {
            return Err(Failure::conflict("netloomd is stopping"));
        }
        let reader = match state.reader.take() {
            Some(reader) => reader,
            None => {
                let (lines, _) = broadcast::channel(QUEUE_LENGTH);
                let lost = self.datapath.lost_events()?;
                let events =
                    Events { monitor: Arc::clone(self), lines: lines.clone(), names: Names::default(), lost };
                Reader { lines, task: tokio::spawn(events.read(self.datapath.events()?)) }
            }
        };
        let lines = reader.lines.subscribe();
        state.reader = Some(reader);
        state.count(&query, true);
        let listener = Listener { monitor: Arc::clone(self), query, lines };
        let reported = self.report(state.kinds());
        // The listener takes the lock when it goes.
        drop(state);
        reported?;
        Ok(stream::unfold(listener, |mut listener| async {
            listener.next().await.map(|line| (Ok(line), listener))
        }))
    }

    /// Makes the programs silent, whatever an earlier daemon asked them for.
    pub(crate) fn stop_reporting(&self) -> Result<(), netloom_kernel::datapath::DatapathError> {
        self.report(EventKinds::NONE)
    }

    fn report(&self, kinds: EventKinds) -> Result<(), netloom_kernel::datapath::DatapathError> {
        self.datapath.listen(kinds, self.config.datapath.events_per_second)
    }

    fn check_query(&self, query: &MonitorQuery) -> Result<(), Failure> {
        if let Some(name) = &query.endpoint {
            self.store
                .get::<Endpoint>(name.as_str())?
                .ok_or_else(|| Failure::not_found(format!("there is no endpoint {name}")))?;
        }
        if let Some(name) = &query.service {
            self.store
                .get::<ServiceRecord>(name.as_str())?
                .ok_or_else(|| Failure::not_found(format!("there is no service {name}")))?;
        }
        let reasons = netloom_kernel::datapath::DROP_REASONS;
        if let Some(reason) = query.reason.as_deref().filter(|reason| !reasons.contains(reason)) {
            return Err(Failure::invalid(anyhow::anyhow!("no packet is dropped for the reason {reason:?}"))
                .hint(format!("reasons are {}", reasons.join(", "))));
        }
        if !query.wants_drops() && !query.wants_connects() {
            return Err(Failure::invalid(anyhow::anyhow!(
                "no event is both a connect to a service and a drop for a reason"
            )));
        }
        Ok(())
    }
}

fn lost(events: u64) -> MonitorEvent {
    MonitorEvent::Lost(LostEvents { time_ms: now_ms(), events })
}

/// Reads the programs' events and gives them names.
struct Events {
    monitor: Arc<Monitor>,
    lines: broadcast::Sender<Arc<Line>>,
    names: Names,
    /// Events given up so far.
    lost: u64,
}

impl Events {
    async fn read(mut self, mut reader: EventReader) {
        let mut look = tokio::time::interval(LOST_CHECK_EVERY);
        loop {
            tokio::select! {
                batch = reader.next() => match batch {
                    Ok(batch) => {
                        for event in batch {
                            let event = self.named(event);
                            self.send(event);
                        }
                    }
                    Err(error) => {
                        tracing::error!(%error, "events cannot be read");
                        return;
                    }
                },
                _ = look.tick() => self.look_for_lost(),
            }
            // A flood of events is not to keep a thread from everything else.
            tokio::task::yield_now().await;
        }
    }

    fn send(&self, event: MonitorEvent) {
        // Without a receiver the last listener is just going.
        drop(self.lines.send(Arc::new(Line::of(event))));
    }

    fn look_for_lost(&mut self) {
        match self.monitor.datapath.lost_events() {
            Ok(now) if now > self.lost => {
                self.send(lost(now - self.lost));
                self.lost = now;
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "lost events cannot be counted"),
        }
    }

    fn named(&mut self, event: DatapathEvent) -> MonitorEvent {
        let time_ms = wall_clock_ms(event.at);
        match event.what {
            Happened::Dropped(dropped) => MonitorEvent::Drop(self.dropped(time_ms, &dropped)),
            Happened::Connected(connected) => MonitorEvent::Connect(self.connected(time_ms, connected)),
        }
    }

    fn dropped(&mut self, time_ms: u64, dropped: &Dropped) -> DropEvent {
        self.names.refresh(&self.monitor.store, |names| names.by_id.contains_key(&dropped.endpoint));
        let of = self.names.by_id.get(&dropped.endpoint);
        DropEvent {
            time_ms,
            endpoint: of.map(|of| of.name.clone()),
            endpoint_id: dropped.endpoint,
            netns: of.map(|of| of.netns.clone()),
            reason: dropped.reason.to_owned(),
            direction: if dropped.from_endpoint { Direction::FromEndpoint } else { Direction::ToEndpoint },
            device: of.map(|of| of.device.clone()),
            ifindex: dropped.device.0,
            ethertype: dropped.ethertype,
            protocol: dropped.protocol,
            source: dropped.addresses.map(|(source, _)| source),
            source_port: dropped.ports.map(|(source, _)| source),
            destination: dropped.addresses.map(|(_, destination)| destination),
            destination_port: dropped.ports.map(|(_, destination)| destination),
            length: dropped.length,
        }
    }

    fn connected(&mut self, time_ms: u64, connected: Connected) -> ConnectEvent {
        let protocol = Protocol::from_number(connected.protocol);
        let vip = protocol.map(|protocol| (connected.vip, protocol));
        self.names
            .refresh(&self.monitor.store, |names| vip.is_none_or(|vip| names.by_vip.contains_key(&vip)));
        let of = self.names.by_netns.get(&connected.netns_cookie.0);
        ConnectEvent {
            time_ms,
            endpoint: of.map(|of| of.name.clone()),
            netns: of.map(|of| of.netns.clone()),
            netns_cookie: connected.netns_cookie,
            cookie: connected.cookie,
            process: connected.process,
            command: connected.command,
            protocol,
            service: vip.and_then(|vip| self.names.by_vip.get(&vip).cloned()),
            vip: connected.vip,
            backend: connected.backend,
            outcome: match connected.backend {
                Some(_) => ConnectOutcome::Chosen,
                None => ConnectOutcome::Refused,
            },
        }
    }
}

/// A time of `CLOCK_MONOTONIC` on the clock that people read.
fn wall_clock_ms(at: u64) -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = u64::try_from(now.tv_sec).unwrap_or_default() * 1_000_000_000
        + u64::try_from(now.tv_nsec).unwrap_or_default();
    now_ms().saturating_sub(now.saturating_sub(at) / 1_000_000)
}

struct Named {
    name: Name,
    netns: PathBuf,
    device: String,
}

/// What the numbers of events stand for. Read from the store now and then: there may be thousands of events a second.
#[derive(Default)]
struct Names {
    by_id: HashMap<u32, Arc<Named>>,
    by_netns: HashMap<u64, Arc<Named>>,
    by_vip: HashMap<(SocketAddr, Protocol), Name>,
    read: Option<Instant>,
}

impl Names {
    /// Oldest names that are used.
    const MAX_AGE: Duration = Duration::from_secs(1);
    /// The same where they do not have what is looked for: it may be new, or not be there at all.
    const MAX_AGE_UNKNOWN: Duration = Duration::from_millis(20);

    fn refresh(&mut self, store: &Store, knows: impl FnOnce(&Self) -> bool) {
        let age = self.read.map(|read| read.elapsed());
        let limit = if knows(self) { Self::MAX_AGE } else { Self::MAX_AGE_UNKNOWN };
        if age.is_some_and(|age| age < limit) {
            return;
        }
        self.read = Some(Instant::now());
        let (endpoints, services) = (store.all::<Endpoint>(), store.all::<ServiceRecord>());
        let (Ok(endpoints), Ok(services)) = (endpoints, services) else { return };
        self.by_id.clear();
        self.by_netns.clear();
        for (_, endpoint) in endpoints {
            let named = Arc::new(Named {
                name: endpoint.spec.name,
                netns: endpoint.spec.netns,
                device: endpoint.host_interface,
            });
            self.by_netns.insert(endpoint.netns_cookie.0, Arc::clone(&named));
            self.by_id.insert(endpoint.id, named);
        }
        let vips = services.into_iter().map(|(_, record)| record.service);
        self.by_vip = vips.map(|service| ((service.vip, service.protocol), service.name)).collect();
    }
}
