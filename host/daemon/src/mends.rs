//! Mending: what endpoints need is kept as their records have it, whoever changes it.
//!
//! [`needs`] is the table of it: what is wanted, how it is read, how it is mended. The kernel's announcements say which
//! endpoint to look at; once a minute, and at a start, all of them are. What others have in the same places is left
//! alone: a route of theirs that has the place of one of ours is told of, and not replaced. Whoever goes on changing
//! what is mended is told of, and given way to ([`fights`]).

mod fights;
mod needs;
mod schedule;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use netloom_api::types::{EventKind, Finding};
use netloom_core::model::{EndSettings, Endpoint, IfIndex, Name, NetnsId};
use netloom_kernel::{
    devices::{Announced, Announcements, Devices, Route},
    netns::Netns,
};

use self::{
    fights::Fights,
    needs::{End, Found, Gap, Need, What},
    schedule::Schedule,
};
use crate::{
    config::{Config, Mend},
    endpoints::Endpoints,
    failure::Failure,
    naming,
    opened::Opened,
    store::Store,
    telemetry::{
        events::Events,
        metrics::{Metrics, OfWhat},
    },
};

/// Between two looks at everything: not all that is mended is announced, and announcements may be lost.
const EVERYTHING_EVERY: Duration = Duration::from_secs(60);
/// Between two tries to mend what somebody else's is in the way of.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// `lo`, in every namespace.
const LOOPBACK: IfIndex = IfIndex(1);

/// Keeps endpoints as their records have them.
pub(crate) struct Mends {
    instance: String,
    config: Arc<Config>,
    devices: Devices,
    store: Arc<Store>,
    events: Arc<Events>,
    metrics: Arc<Metrics>,
    endpoints: Arc<Endpoints>,
    state: Mutex<State>,
}

/// What is remembered of earlier looks.
#[derive(Default)]
struct State {
    fights: Fights,
    /// What could not be mended and was told of: of which endpoint, what, and why.
    blocked: BTreeSet<(Name, String, String)>,
}

/// What there is of an endpoint.
struct Ends {
    node: Found,
    inside: Option<(Devices, Found)>,
    /// The number that the node's namespace has for the endpoint's.
    namespace: Option<i32>,
}

impl Mends {
    pub(crate) fn new(opened: &Opened, endpoints: &Arc<Endpoints>) -> Self {
        Self {
            instance: opened.instance.clone(),
            config: Arc::clone(&opened.config),
            devices: opened.devices.clone(),
            store: Arc::clone(&opened.store),
            events: Arc::clone(&opened.events),
            metrics: Arc::clone(&opened.metrics),
            endpoints: Arc::clone(endpoints),
            state: Mutex::default(),
        }
    }

    /// Mends for as long as the daemon runs.
    pub(crate) async fn watch(self: Arc<Self>) {
        if self.config.endpoints.mend == Mend::None {
            return;
        }
        let mut listening = self.devices.announcements().inspect_err(unheard).ok();
        let mut schedule = Schedule::default();
        let mut everything = Instant::now();
        loop {
            let now = Instant::now();
            if now >= everything {
                schedule.all(self.names(), now);
                everything = now + EVERYTHING_EVERY;
            }
            let next = schedule.next().map_or(everything, |next| next.min(everything));
            tokio::select! {
                heard = hear(&mut listening) => match heard {
                    Ok(announced) => self.note(&announced, &mut schedule).await,
                    Err(error) => {
                        unheard(&error);
                        listening = None;
                    }
                },
                () = tokio::time::sleep_until(next.into()) => {
                    if let Some(name) = schedule.take(Instant::now()) {
                        self.look(&name, &mut schedule).await;
                    }
                }
            }
        }
    }

    fn names(&self) -> Vec<Name> {
        let keys = self.store.keys::<Endpoint>("", usize::MAX);
        keys.into_iter().filter_map(|key| Name::new(key).ok()).collect()
    }

    /// Has those endpoints looked at that announcements are about.
    async fn note(&self, announced: &Announced, schedule: &mut Schedule) {
        let now = Instant::now();
        if announced.missed {
            schedule.all(self.names(), now);
            return;
        }
        if !schedule.knows(announced) {
            for name in schedule.unknown(self.names()) {
                let Ok(Some(endpoint)) = self.store.get::<Endpoint>(name.as_str()) else { continue };
                let host = self.devices.by_index(endpoint.host_ifindex).await;
                let namespace = host.ok().flatten().and_then(|host| host.peer_nsid);
                schedule.learn(&name, endpoint.host_ifindex, namespace);
            }
        }
        schedule.announced(announced, now);
    }

    /// Looks at an endpoint, and mends it.
    async fn look(&self, name: &Name, schedule: &mut Schedule) {
        match self.mend_endpoint(name, schedule).await {
            Ok(Some(again)) => schedule.at(name, again),
            Ok(None) => {}
            Err(failure) => {
                tracing::warn!(endpoint = %name, %failure, "it cannot be looked at, or not be mended");
            }
        }
        let blocked = self.state().blocked.len();
        self.metrics.unmended.set(i64::try_from(blocked).unwrap_or(i64::MAX));
    }

    /// When to look again, if that is before anything is announced.
    async fn mend_endpoint(&self, name: &Name, schedule: &mut Schedule) -> Result<Option<Instant>, Failure> {
        let Some(endpoint) = self.store.get::<Endpoint>(name.as_str())? else {
            schedule.forget(name);
            self.state().blocked.retain(|(other, ..)| other != name);
            return Ok(None);
        };
        // Whoever changes the endpoint holds its lock: what looks wrong without it may be half a change.
        let Some(ends) = self.ends(&endpoint).await? else { return Ok(None) };
        schedule.learn(name, endpoint.host_ifindex, ends.namespace);
        if self.gaps(&endpoint, &ends).is_empty() {
            self.state().blocked.retain(|(other, ..)| other != name);
            return Ok(None);
        }
        let (_guard, endpoint) = match self.endpoints.lock(name).await {
            Ok(locked) => locked,
            // Gone meanwhile.
            Err(_) if self.store.get::<Endpoint>(name.as_str())?.is_none() => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let Some(ends) = self.ends(&endpoint).await? else { return Ok(None) };
        let mut again: Option<Instant> = None;
        let mut still = BTreeSet::new();
        for gap in self.gaps(&endpoint, &ends) {
            let thing = (name.clone(), gap.need.to_string());
            if let Some(until) = self.state().fights.pause(&thing, Instant::now()) {
                again = Some(again.map_or(until, |again| again.min(until)));
                continue;
            }
            match self.mend(&endpoint, &ends, &gap).await {
                Ok(None) => self.tell_mended(thing, &gap),
                Ok(Some(why)) => drop(still.insert((thing.0, thing.1, why))),
                Err(failure) => drop(still.insert((thing.0, thing.1, failure.to_string()))),
            }
        }
        if !still.is_empty() {
            let retry = Instant::now() + RETRY_AFTER;
            again = Some(again.map_or(retry, |again| again.min(retry)));
        }
        self.tell_blocked(name, still);
        Ok(again)
    }

    /// Gaps that the configuration wants to be mended.
    fn gaps(&self, endpoint: &Endpoint, ends: &Ends) -> Vec<Gap> {
        let mut gaps = ends.gaps(endpoint);
        gaps.retain(|gap| self.covers(gap.need.end));
        gaps
    }

    fn covers(&self, end: End) -> bool {
        match self.config.endpoints.mend {
            Mend::All => true,
            Mend::Node => end == End::Node,
            Mend::None => false,
        }
    }

    fn tell_mended(&self, thing: (Name, String), gap: &Gap) {
        let subject = format!("endpoint {}", thing.0);
        let what = thing.1.clone();
        self.metrics.mended.get_or_create(&OfWhat { what: gap.need.what.kind() }).inc();
        self.events.add(EventKind::Mended, subject.clone(), format!("{what} was {}: mended", gap.found));
        if self.state().fights.mended(thing, Instant::now()) {
            let message = format!(
                "somebody else changes {what} again and again: it is mended less and less often from now on"
            );
            self.events.add(EventKind::Fight, subject, message);
        }
    }

    /// Tells what cannot be mended, once.
    fn tell_blocked(&self, name: &Name, still: BTreeSet<(Name, String, String)>) {
        let fresh: Vec<_> = {
            let blocked = &mut self.state().blocked;
            let fresh = still.iter().filter(|thing| !blocked.contains(*thing)).cloned().collect();
            blocked.retain(|(other, ..)| other != name);
            blocked.extend(still);
            fresh
        };
        for (name, what, why) in fresh {
            self.events.add(EventKind::NotMended, format!("endpoint {name}"), format!("{what}: {why}"));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What there is; none if the pair itself is gone, which is not for mending.
    async fn ends(&self, endpoint: &Endpoint) -> Result<Option<Ends>, Failure> {
        let alias = naming::alias(&self.instance, &endpoint.spec.name);
        let host = self.devices.by_index(endpoint.host_ifindex).await?;
        let Some(host) = host.filter(|host| host.alias.as_deref() == Some(&alias)) else { return Ok(None) };
        let namespace = host.peer_nsid;
        let Some(node) = read(&self.devices, endpoint, End::Node).await? else { return Ok(None) };
        let inside = match inside(endpoint) {
            Some(devices) => read(&devices, endpoint, End::Inside).await?.map(|found| (devices, found)),
            None => None,
        };
        Ok(Some(Ends { node, inside, namespace }))
    }

    /// Mends a gap. Why it is left, if somebody else has its place.
    async fn mend(&self, endpoint: &Endpoint, ends: &Ends, gap: &Gap) -> Result<Option<String>, Failure> {
        let Need { end, what } = &gap.need;
        let (devices, found) = match (end, &ends.inside) {
            (End::Node, _) => (&self.devices, &ends.node),
            (End::Inside, Some((devices, found))) => (devices, found),
            (End::Inside, None) => return Ok(Some("its namespace is gone".to_owned())),
        };
        let index = found.device.ifindex;
        match what {
            What::Name(name) => return self.rename(endpoint, *end, devices, index, name).await,
            What::Up => devices.set_up(index, true).await?,
            What::LoopbackUp => devices.set_up(LOOPBACK, true).await?,
            What::Mtu(bytes) => {
                let settings = EndSettings { mtu: Some(*bytes), ..EndSettings::default() };
                devices.set(index, &settings).await?;
            }
            What::Mac(mac) => devices.set_mac(index, *mac).await?,
            What::Sysctl(sysctl) => devices.set_sysctls(std::slice::from_ref(sysctl))?,
            What::Address(address) => devices.add_address(index, *address).await?,
            What::Neighbour(address, mac) => devices.add_neighbour(index, *address, *mac).await?,
            What::Route(route) => {
                if let Some(other) = self.other_route(devices, route).await? {
                    return Ok(Some(other));
                }
                devices.add_route(route).await?;
            }
        }
        Ok(None)
    }

    /// Gives a device its name back. Where another has it, the record of the node's end follows.
    async fn rename(
        &self,
        endpoint: &Endpoint,
        end: End,
        devices: &Devices,
        index: IfIndex,
        name: &str,
    ) -> Result<Option<String>, Failure> {
        if devices.get(name).await?.is_none() {
            devices.rename_in_use(index, name).await?;
            return Ok(None);
        }
        let found = devices.by_index(index).await?.map(|device| device.name).unwrap_or_default();
        if end == End::Node && !found.is_empty() {
            let followed = Endpoint { host_interface: found.clone(), ..endpoint.clone() };
            self.store.settle(|changes| changes.put(endpoint.spec.name.as_str(), &followed))?;
        }
        Ok(Some(format!("another device has the name {name}, and it is called {found}")))
    }

    /// Somebody else's route to the same destination, in words.
    async fn other_route(&self, devices: &Devices, route: &Route) -> Result<Option<String>, Failure> {
        let ours = self.devices_in(devices.netns().id())?;
        let present = devices.routes(route.destination).await?;
        let other = present.into_iter().find(|other| {
            let in_its_place = route.metric.is_none() || other.metric == route.metric;
            in_its_place
                && (other.device != route.device || other.via != route.via)
                && !ours.contains(&other.device)
        });
        let Some(other) = other else { return Ok(None) };
        let device = devices.by_index(other.device).await?;
        let through = device.map_or_else(|| "no device".to_owned(), |device| device.name);
        Ok(Some(format!("somebody else has a route to {} through {through}", route.destination)))
    }

    /// The other devices of ours in an endpoint's namespace: their routes are not somebody else's.
    fn devices_in(&self, netns: NetnsId) -> Result<Vec<IfIndex>, Failure> {
        let endpoints = self.store.all::<Endpoint>()?.into_iter();
        let here = endpoints.filter(|(_, endpoint)| endpoint.netns == netns);
        Ok(here.map(|(_, endpoint)| endpoint.peer_ifindex).collect())
    }

    /// What of an endpoint is not as its record has it, in words.
    pub(crate) async fn unmet(&self, endpoint: &Endpoint) -> Result<Vec<String>, Failure> {
        let Some(ends) = self.ends(endpoint).await? else { return Ok(Vec::new()) };
        Ok(ends.gaps(endpoint).iter().map(|gap| format!("{} is {}", gap.need, gap.found)).collect())
    }

    /// What is wrong with an endpoint whose devices are there.
    pub(crate) async fn endpoint_findings(&self, endpoint: &Endpoint) -> Result<Vec<Finding>, Failure> {
        let name = &endpoint.spec.name;
        let Some(ends) = self.ends(endpoint).await? else { return Ok(Vec::new()) };
        let blocked = self.state().blocked.clone();
        let findings = ends.gaps(endpoint).into_iter().map(|gap| {
            let what = gap.need.to_string();
            let why = blocked.iter().find(|(of, thing, _)| of == name && *thing == what);
            let hint = match (&gap.need.what, why) {
                (_, Some(_)) => "take away what is in its place".to_owned(),
                (What::Mtu(bytes), None) if !self.covers(gap.need.end) => {
                    format!("netloom endpoint set {name} --mtu {bytes}")
                }
                _ if self.covers(gap.need.end) => {
                    "nothing: netloomd mends it within a second, or says in `netloom events` why not"
                        .to_owned()
                }
                _ => "set `endpoints.mend` to \"all\", or make it as it was by hand".to_owned(),
            };
            let why = why.map_or_else(String::new, |(.., why)| format!(": {why}"));
            Finding {
                severity: "warning".to_owned(),
                subject: format!("endpoint {name}"),
                message: format!("{what} is {}{why}", gap.found),
                hint,
            }
        });
        Ok(findings.collect())
    }

    /// The fights there are.
    pub(crate) fn fights(&self) -> Vec<Finding> {
        let fights = self.state().fights.list(Instant::now()).into_iter();
        let told = fights.map(|((name, what), pause)| Finding {
            severity: "warning".to_owned(),
            subject: format!("endpoint {name}"),
            message: format!(
                "somebody else changes {what} again and again: it is mended every {} s at most",
                pause.as_secs()
            ),
            hint: "find who does it, see `netloom events --kind mended`; or set `endpoints.mend` so that it is left alone"
                .to_owned(),
        });
        told.collect()
    }
}

impl Ends {
    fn gaps(&self, endpoint: &Endpoint) -> Vec<Gap> {
        let mut gaps = needs::gaps(endpoint, End::Node, &self.node);
        if let Some((_, found)) = &self.inside {
            gaps.extend(needs::gaps(endpoint, End::Inside, found));
        }
        gaps
    }
}

/// The endpoint's namespace, if its path still leads there.
fn inside(endpoint: &Endpoint) -> Option<Devices> {
    let netns = Netns::open(&endpoint.spec.netns).ok().filter(|netns| netns.id() == endpoint.netns)?;
    Devices::open(&netns).ok()
}

/// What there is at an end; none if its device is gone.
async fn read(devices: &Devices, endpoint: &Endpoint, end: End) -> Result<Option<Found>, Failure> {
    let index = match end {
        End::Node => endpoint.host_ifindex,
        End::Inside => endpoint.peer_ifindex,
    };
    let Some(device) = devices.by_index(index).await? else { return Ok(None) };
    let loopback_up = match end {
        End::Node => true,
        End::Inside => devices.by_index(LOOPBACK).await?.is_some_and(|device| device.up),
    };
    Ok(Some(Found {
        loopback_up,
        addresses: if end == End::Inside { devices.addresses(index).await? } else { Vec::new() },
        neighbours: if endpoint.mac.is_some() { devices.neighbours(index).await? } else { Vec::new() },
        routes: devices.routes_by(index).await?,
        sysctls: devices.other_sysctls(&needs::sysctls(endpoint, end, &device.name))?,
        device,
    }))
}

/// Waits for announcements; for ever if there are none to be heard.
async fn hear(listening: &mut Option<Announcements>) -> std::io::Result<Announced> {
    match listening {
        Some(listening) => listening.next().await,
        None => std::future::pending().await,
    }
}

fn unheard(error: &impl std::fmt::Display) {
    tracing::warn!(%error, "what others change of endpoints is seen within a minute, and not at once");
}
