//! Which endpoint is looked at when.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use netloom_core::model::{IfIndex, Name};
use netloom_kernel::devices::Announced;

/// Between an announcement and the look: changes come in bursts.
const PATIENCE: Duration = Duration::from_millis(30);
/// Between two looks at one endpoint for the sake of announcements.
const REST: Duration = Duration::from_millis(250);
/// Between two endpoints when all are looked at.
const SPREAD: Duration = Duration::from_millis(1);

/// What there is to know of an endpoint.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    device: IfIndex,
    namespace: Option<i32>,
    looked: Option<Instant>,
    due: Option<Instant>,
}

#[derive(Debug, Default)]
pub(crate) struct Schedule(BTreeMap<Name, Known>);

impl Schedule {
    /// When somebody is to be looked at.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.values().filter_map(|known| known.due).min()
    }

    /// Takes an endpoint that is to be looked at by now.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Name> {
        let due = self.0.iter().filter_map(|(name, known)| Some((known.due?, name)));
        let name = due.filter(|(due, _)| *due <= now).min().map(|(_, name)| name.clone())?;
        let known = self.0.get_mut(&name)?;
        (known.due, known.looked) = (None, Some(now));
        Some(name)
    }

    /// Has all of these looked at, and forgets the others.
    pub(crate) fn all(&mut self, names: Vec<Name>, now: Instant) {
        self.retain(&names);
        let mut due = now;
        for name in names {
            let known = self.0.entry(name).or_default();
            known.due = Some(known.due.map_or(due, |earlier| earlier.min(due)));
            due += SPREAD;
        }
    }

    /// Has an endpoint looked at then.
    pub(crate) fn at(&mut self, name: &Name, due: Instant) {
        let known = self.0.entry(name.clone()).or_default();
        known.due = Some(known.due.map_or(due, |earlier| earlier.min(due)));
    }

    /// Has those looked at that announcements are about.
    pub(crate) fn announced(&mut self, announced: &Announced, now: Instant) {
        for known in self.0.values_mut() {
            let inside = known.namespace.is_some_and(|number| announced.namespaces.contains(&number));
            if inside || announced.devices.contains(&known.device) {
                let rested = known.looked.map_or(now, |looked| looked + REST);
                let due = (now + PATIENCE).max(rested);
                known.due = Some(known.due.map_or(due, |earlier| earlier.min(due)));
            }
        }
    }

    /// Whether everything that announcements are about is some endpoint's.
    pub(crate) fn knows(&self, announced: &Announced) -> bool {
        let devices: BTreeSet<IfIndex> = self.0.values().map(|known| known.device).collect();
        let namespaces: BTreeSet<i32> = self.0.values().filter_map(|known| known.namespace).collect();
        announced.devices.is_subset(&devices) && announced.namespaces.is_subset(&namespaces)
    }

    /// Of all endpoints those that are not known; what is none of them is forgotten.
    pub(crate) fn unknown(&mut self, names: Vec<Name>) -> Vec<Name> {
        self.retain(&names);
        names.into_iter().filter(|name| !self.0.contains_key(name)).collect()
    }

    /// Notes by what an endpoint is to be recognised in announcements.
    pub(crate) fn learn(&mut self, name: &Name, device: IfIndex, namespace: Option<i32>) {
        // Numbers and indexes of what is gone are given again.
        for (other, known) in &mut self.0 {
            if other != name && known.device == device {
                known.device = IfIndex::default();
            }
        }
        let known = self.0.entry(name.clone()).or_default();
        known.device = device;
        known.namespace = namespace;
    }

    pub(crate) fn forget(&mut self, name: &Name) {
        self.0.remove(name);
    }

    fn retain(&mut self, names: &[Name]) {
        let names: BTreeSet<&Name> = names.iter().collect();
        self.0.retain(|name, _| names.contains(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn announced(devices: &[u32], namespaces: &[i32]) -> Announced {
        Announced {
            devices: devices.iter().copied().map(IfIndex).collect(),
            namespaces: namespaces.iter().copied().collect(),
            missed: false,
        }
    }

    #[test]
    fn an_announcement_has_its_endpoint_looked_at_and_no_other() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.learn(&name("web"), IfIndex(70), Some(1));
        schedule.learn(&name("db"), IfIndex(71), Some(2));
        assert!(schedule.knows(&announced(&[70], &[2])) && !schedule.knows(&announced(&[3], &[])));
        schedule.announced(&announced(&[70, 3], &[]), now);
        assert_eq!(schedule.next(), Some(now + PATIENCE));
        assert_eq!(schedule.take(now), None, "not at once");
        assert_eq!(schedule.take(now + PATIENCE), Some(name("web")));
        assert_eq!(schedule.next(), None);
        schedule.announced(&announced(&[], &[2]), now);
        assert_eq!(schedule.take(now + PATIENCE), Some(name("db")));
    }

    #[test]
    fn an_endpoint_that_is_announced_all_the_time_is_looked_at_now_and_then() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.learn(&name("web"), IfIndex(70), Some(1));
        let mut looks = 0;
        for step in 0..1_000 {
            let now = start + Duration::from_millis(step);
            schedule.announced(&announced(&[70], &[]), now);
            looks += usize::from(schedule.take(now).is_some());
        }
        assert!((3..=5).contains(&looks), "{looks} in a second");
    }

    #[test]
    fn all_are_looked_at_and_those_that_are_gone_forgotten() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.all(vec![name("a"), name("b")], now);
        assert_eq!(schedule.unknown(vec![name("b"), name("c")]), [name("c")]);
        assert_eq!(schedule.take(now + Duration::from_secs(1)), Some(name("b")));
        assert_eq!(schedule.take(now + Duration::from_secs(1)), None);
    }
}
