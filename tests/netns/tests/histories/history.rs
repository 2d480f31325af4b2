//! What was asked of each object, and what was answered.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::order;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Makes it.
    Add,
    /// Takes it away.
    Delete,
    /// Needs it.
    Use,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It was done.
    Done,
    /// It is not there.
    Missing,
    /// It is there already, or is so already.
    Taken,
    /// Another request was asked for later and came first.
    Overtaken,
    /// None: the daemon was killed.
    None,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) verb: Verb,
    pub(crate) answer: Answer,
    /// When it was asked, and when it was over at the latest: none until the daemon runs again.
    pub(crate) began: u64,
    pub(crate) ended: Option<u64>,
    /// For people.
    pub(crate) text: String,
}

impl Event {
    pub(crate) fn new(verb: Verb, answer: Answer, began: u64, ended: Option<u64>, text: &str) -> Self {
        Self { verb, answer, began, ended, text: text.to_owned() }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, answer, began, ended, text } = self;
        write!(f, "{began} to {ended:?}: {verb:?} {answer:?} ({text})")
    }
}

#[derive(Default)]
pub(crate) struct History {
    clock: AtomicU64,
    asked: AtomicU64,
    events: Mutex<BTreeMap<String, Vec<Event>>>,
    restarts: Mutex<Vec<u64>>,
}

impl History {
    /// A time that comes once.
    pub(crate) fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// How many requests there were.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// A request, by a name of its object such as `endpoint e1`.
    pub(crate) fn add(&self, object: impl Into<String>, event: Event) {
        self.events.lock().unwrap().entry(object.into()).or_default().push(event);
    }

    /// Any request at all was made.
    pub(crate) fn count(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// The daemon runs again: what had no answer until now has happened or never will.
    pub(crate) fn restarted(&self) {
        let now = self.now();
        self.restarts.lock().unwrap().push(now);
    }

    pub(crate) fn objects(&self) -> Vec<String> {
        self.events.lock().unwrap().keys().cloned().collect()
    }

    /// Fails if the answers of an object fit no order.
    pub(crate) fn check(&self) {
        let restarts = self.restarts.lock().unwrap();
        for (object, events) in self.events.lock().unwrap().iter() {
            let mut events = events.clone();
            for event in &mut events {
                if event.ended.is_none() {
                    event.ended = restarts.iter().copied().find(|restart| *restart > event.began);
                }
            }
            if let Err(around) = order::find(&events) {
                panic!("the answers of {object} fit no order:\n{}", around.join("\n"));
            }
        }
    }
}
