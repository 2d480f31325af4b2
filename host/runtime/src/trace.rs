//! How a decision came about.

use std::{fmt, sync::Arc};

use netloom_core::{
    answer::{RawMode, RawPlacement, RawReapPlan},
    model::Name,
};

use crate::{plugin::Plugin, recording::Reply};

/// What came of a question, and each plugin's part in it.
#[derive(Debug)]
pub struct Outcome<V> {
    /// What came of it.
    pub verdict: Verdict<V>,
    /// Each plugin asked, in order.
    pub steps: Vec<Step>,
}

/// What came of a question.
#[derive(Debug)]
pub enum Verdict<V> {
    /// A plugin decided, and its answer passed the check.
    Decided {
        /// Which plugin.
        plugin: Arc<Plugin>,
        /// Its answer, checked.
        value: V,
    },
    /// A plugin forbade it.
    Vetoed {
        /// Which plugin.
        plugin: Name,
        /// Why.
        reason: String,
    },
    /// No plugin decided: the hook's fallback applies.
    Undecided,
}

/// One plugin's part in a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which plugin.
    pub plugin: Name,
    /// Its component's SHA-256.
    pub digest: Arc<str>,
    /// What it said, and what became of that.
    pub answer: StepAnswer,
    /// What it said, as it can be recorded.
    pub reply: Reply,
    /// How long it took, in microseconds.
    pub micros: u64,
}

/// What a plugin said in a decision. Its text form is for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepAnswer {
    /// It decided, and won.
    Decided(String),
    /// It decided, but one in front of it had.
    Overruled(String),
    /// It had no opinion.
    Abstained,
    /// It forbade it, and why.
    Vetoed(String),
    /// It failed, and how.
    Failed(String),
    /// It was not asked, and why.
    Skipped(String),
}

impl fmt::Display for StepAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decided(what) => f.write_str(what),
            Self::Overruled(what) => write!(f, "{what} (overruled)"),
            Self::Abstained => f.write_str("abstained"),
            Self::Vetoed(why) => write!(f, "vetoed: {why}"),
            // The text of a failure says itself whether the plugin was asked.
            Self::Failed(why) | Self::Skipped(why) => f.write_str(why),
        }
    }
}

pub(crate) fn placement(raw: &RawPlacement) -> String {
    match raw {
        RawPlacement::Head => "head".to_owned(),
        RawPlacement::Tail => "tail".to_owned(),
        RawPlacement::Before(id) => format!("before {id}"),
        RawPlacement::After(id) => format!("after {id}"),
        RawPlacement::Replace(id) => format!("replace {id}"),
    }
}

// A `Vec` and no slice: it describes exactly what a plugin answered.
#[allow(clippy::ptr_arg)]
pub(crate) fn order(ids: &Vec<u32>) -> String {
    let ids: Vec<String> = ids.iter().take(64).map(u32::to_string).collect();
    format!("reorder {}", ids.join(" "))
}

pub(crate) fn mode(raw: &RawMode) -> String {
    let mut text = raw.device.to_string();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!(" {name}={value}"));
        }
    };
    add("attachment", raw.attachment.map(|kind| kind.to_string()));
    add("primary-policy", raw.primary_policy.map(|policy| format!("{policy:?}").to_lowercase()));
    add("peer-policy", raw.peer_policy.map(|policy| format!("{policy:?}").to_lowercase()));
    add("scrub", raw.scrub.map(|scrub| format!("{scrub:?}").to_lowercase()));
    add("peer-scrub", raw.peer_scrub.map(|scrub| format!("{scrub:?}").to_lowercase()));
    add("headroom", raw.headroom.map(|bytes| bytes.to_string()));
    add("tailroom", raw.tailroom.map(|bytes| bytes.to_string()));
    add("mtu", raw.mtu.map(|bytes| bytes.to_string()));
    add("gso", raw.gso_max_size.map(|bytes| bytes.to_string()));
    add("gro", raw.gro_max_size.map(|bytes| bytes.to_string()));
    text
}

pub(crate) fn plan(raw: &RawReapPlan) -> String {
    use netloom_core::model::ReapAction;
    let mut text = match raw.action {
        ReapAction::Destroy => "destroy",
        ReapAction::Observe => "observe",
        ReapAction::JudgeRecords => "judge",
        ReapAction::JudgePacked => "judge packed",
    }
    .to_owned();
    if !raw.grace.is_zero() {
        text.push_str(&format!(" after {} ms", raw.grace.as_millis()));
    }
    if !raw.connected_only {
        text.push_str(" unconnected too");
    }
    text
}
