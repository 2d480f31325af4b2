//! Fights: somebody else who changes the same thing again and again is given way to, more and more.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use netloom_core::model::Name;

/// So often is one thing mended within [`WINDOW`] before it counts as a fight.
const ROUNDS: usize = 5;
/// How far back that is counted, and how long nothing must have been mended for a fight to be over.
const WINDOW: Duration = Duration::from_secs(60);
/// The first pause; each one is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// What is known of one thing that was mended before.
#[derive(Clone, Debug, Default)]
struct Bout {
    mended: VecDeque<Instant>,
    pause: Option<Pause>,
}

#[derive(Clone, Copy, Debug)]
struct Pause {
    length: Duration,
    until: Instant,
}

/// Which endpoint, and what of it, in words.
type Thing = (Name, String);

/// All that was mended of late.
#[derive(Debug, Default)]
pub(crate) struct Fights(BTreeMap<Thing, Bout>);

impl Fights {
    /// Until when this thing is left as it is; none if it may be mended now.
    pub(crate) fn pause(&self, thing: &Thing, now: Instant) -> Option<Instant> {
        self.0.get(thing)?.pause.map(|pause| pause.until).filter(|until| *until > now)
    }

    /// Notes that a thing was mended. Whether that is when a fight begins.
    pub(crate) fn mended(&mut self, thing: Thing, now: Instant) -> bool {
        self.0.retain(|_, bout| !bout.is_over(now));
        let bout = self.0.entry(thing).or_default();
        bout.mended.push_back(now);
        while bout.mended.front().is_some_and(|when| now.duration_since(*when) > WINDOW) {
            bout.mended.pop_front();
        }
        let begins = bout.pause.is_none() && bout.mended.len() >= ROUNDS;
        if let Some(pause) = &mut bout.pause {
            let length = (pause.length * 2).min(LONGEST_PAUSE);
            *pause = Pause { length, until: now + length };
        } else if begins {
            bout.pause = Some(Pause { length: FIRST_PAUSE, until: now + FIRST_PAUSE });
        }
        begins
    }

    /// The fights there are: about what, and how long the present pause is.
    pub(crate) fn list(&self, now: Instant) -> Vec<(Thing, Duration)> {
        let fights = self.0.iter().filter(|(_, bout)| !bout.is_over(now));
        fights.filter_map(|(thing, bout)| Some((thing.clone(), bout.pause?.length))).collect()
    }
}

impl Bout {
    fn is_over(&self, now: Instant) -> bool {
        let quiet = self.pause.map_or(WINDOW, |pause| WINDOW + pause.length * 2);
        self.mended.back().is_none_or(|last| now.duration_since(*last) > quiet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thing() -> Thing {
        (Name::new("web").unwrap(), "its route".to_owned())
    }

    #[test]
    fn a_thing_that_is_broken_again_and_again_is_mended_less_and_less_often() {
        let (mut fights, mut now) = (Fights::default(), Instant::now());
        for round in 1..=ROUNDS {
            assert_eq!(fights.pause(&thing(), now), None);
            assert_eq!(fights.mended(thing(), now), round == ROUNDS);
        }
        let mut last = Duration::ZERO;
        for _ in 0..12 {
            let until = fights.pause(&thing(), now).expect("it is a fight");
            let pause = until - now;
            assert!(pause > last || pause == LONGEST_PAUSE, "{pause:?} after {last:?}");
            last = pause;
            now = until;
            assert_eq!(fights.pause(&thing(), now), None);
            assert!(!fights.mended(thing(), now), "it has begun before");
        }
        assert_eq!(last, LONGEST_PAUSE);
        assert_eq!(fights.list(now), [(thing(), LONGEST_PAUSE)]);
    }

    #[test]
    fn a_fight_that_nobody_goes_on_with_is_over() {
        let (mut fights, now) = (Fights::default(), Instant::now());
        for _ in 0..ROUNDS {
            fights.mended(thing(), now);
        }
        assert_eq!(fights.list(now).len(), 1);
        let later = now + WINDOW * 2;
        assert_eq!(fights.list(later), []);
        assert!(!fights.mended(thing(), later));
        assert_eq!(fights.pause(&thing(), later), None);
    }

    #[test]
    fn what_is_mended_now_and_then_is_no_fight() {
        let (mut fights, mut now) = (Fights::default(), Instant::now());
        for _ in 0..50 {
            assert!(!fights.mended(thing(), now));
            now += WINDOW / 4 + Duration::from_secs(1);
        }
        assert_eq!(fights.list(now), []);
    }
}
