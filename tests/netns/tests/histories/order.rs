//! Whether there is an order of requests in which each answer is right, and which none takes before it was asked or
//! after it was answered: linearizability, of an object that is there or is not.

use std::collections::HashSet;

use crate::history::{Answer, Event, Verb};

/// How far an order has come: every event before `first`, and those of `beyond`; whether the object is there.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Reached {
    first: usize,
    beyond: Vec<usize>,
    there: bool,
}

/// Finds one, of an object that is not there at first. If there is none, the events around where it gets stuck.
pub(crate) fn find(events: &[Event]) -> Result<(), Vec<String>> {
    let mut events: Vec<&Event> = events.iter().collect();
    events.sort_by_key(|event| event.began);
    let mut reached = HashSet::from([Reached { first: 0, beyond: Vec::new(), there: false }]);
    for _ in 0..events.len() {
        let next: HashSet<Reached> = reached.iter().flat_map(|reached| further(&events, reached)).collect();
        if next.is_empty() {
            let furthest = reached.iter().map(|reached| reached.first).max().unwrap_or_default();
            let from = furthest.saturating_sub(6);
            return Err(events[from..].iter().take(16).map(ToString::to_string).collect());
        }
        reached = next;
    }
    Ok(())
}

/// With one event more.
fn further(events: &[&Event], reached: &Reached) -> Vec<Reached> {
    // None begins before one of those that follow has ended: they are in the order of their beginnings.
    let open = (reached.first..events.len()).filter(|at| !reached.beyond.contains(at));
    let mut first_end = u64::MAX;
    let mut found = Vec::new();
    for at in open {
        let event = events[at];
        if event.began > first_end {
            break;
        }
        first_end = first_end.min(event.ended.unwrap_or(u64::MAX));
        found.extend(after(event, reached.there).into_iter().map(|there| with(reached, at, there)));
    }
    found
}

fn with(reached: &Reached, at: usize, there: bool) -> Reached {
    let mut beyond = reached.beyond.clone();
    beyond.push(at);
    beyond.sort_unstable();
    let mut first = reached.first;
    while let Some(place) = beyond.iter().position(|other| *other == first) {
        beyond.remove(place);
        first += 1;
    }
    Reached { first, beyond, there }
}

/// Whether the object may be there afterwards; nothing if the answer is wrong.
fn after(event: &Event, there: bool) -> Vec<bool> {
    match (event.verb, event.answer, there) {
        (Verb::Add, Answer::Done, false) => vec![true],
        (Verb::Add | Verb::Use, Answer::Taken, true) | (Verb::Use, Answer::Done, true) => vec![true],
        (Verb::Delete, Answer::Done, true) | (Verb::Delete | Verb::Use, Answer::Missing, false) => {
            vec![false]
        }
        (_, Answer::Overtaken, there) | (Verb::Use, Answer::None, there) => vec![there],
        (Verb::Add, Answer::None, false) | (Verb::Delete, Answer::None, true) => vec![false, true],
        (_, Answer::None, there) => vec![there],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(verb: Verb, answer: Answer, began: u64, ended: u64) -> Event {
        Event::new(verb, answer, began, Some(ended), "")
    }

    #[test]
    fn one_after_the_other_is_right_or_wrong() {
        let add = event(Verb::Add, Answer::Done, 0, 1);
        assert!(find(&[add.clone(), event(Verb::Use, Answer::Done, 2, 3)]).is_ok());
        assert!(find(&[add.clone(), event(Verb::Use, Answer::Missing, 2, 3)]).is_err(), "it was there");
        assert!(find(&[add.clone(), event(Verb::Add, Answer::Done, 2, 3)]).is_err(), "it was made twice");
        assert!(
            find(&[add, event(Verb::Delete, Answer::Done, 2, 3), event(Verb::Use, Answer::Done, 4, 5)])
                .is_err()
        );
    }

    #[test]
    fn at_once_either_order_is_right() {
        let add = event(Verb::Add, Answer::Done, 0, 9);
        for look in [Answer::Done, Answer::Missing] {
            assert!(find(&[add.clone(), event(Verb::Use, look, 1, 8)]).is_ok());
        }
        let seen = event(Verb::Use, Answer::Done, 1, 2);
        let missed = event(Verb::Use, Answer::Missing, 3, 4);
        assert!(find(&[add.clone(), missed.clone(), event(Verb::Use, Answer::Done, 5, 6)]).is_ok());
        assert!(find(&[add, seen, missed]).is_err(), "what was seen is not unseen");
    }

    #[test]
    fn what_had_no_answer_happened_or_did_not() {
        let lost = event(Verb::Add, Answer::None, 0, 5);
        for look in [Answer::Done, Answer::Missing] {
            assert!(find(&[lost.clone(), event(Verb::Use, look, 6, 7)]).is_ok());
        }
        let seen = event(Verb::Use, Answer::Done, 6, 7);
        assert!(find(&[lost, seen, event(Verb::Use, Answer::Missing, 8, 9)]).is_err());
    }
}
