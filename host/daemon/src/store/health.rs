//! Whether the store can be written, for doctor, status, metrics and events.

use std::{path::Path, sync::Arc};

use netloom_api::types::{Finding, StoreTrouble};

use super::file::{Trouble, TroubleKind};
use crate::telemetry::kept::now_ms;

/// Less than this on the store's file system is worth a warning, in bytes.
const LITTLE: u64 = 32 << 20;

/// The store cannot be written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the store {path} cannot be written: {reason}; nothing was changed")]
pub(crate) struct Broken {
    pub(super) path: Arc<str>,
    pub(super) reason: Arc<str>,
    /// Whether it is for want of room.
    pub(super) space: bool,
}

impl Broken {
    pub(super) fn new(path: &Path, trouble: Trouble) -> Self {
        let space = trouble.kind == TroubleKind::NoSpace;
        Self { path: path.display().to_string().into(), reason: trouble.message.into(), space }
    }

    /// Whether it is for want of room.
    pub(crate) const fn is_for_space(&self) -> bool {
        self.space
    }

    /// What to do about it.
    pub(crate) const fn way_out(&self) -> &'static str {
        if self.space {
            "make room on its file system: netloomd writes again by itself as soon as it can"
        } else {
            "look at the disk and the kernel's log: netloomd writes again by itself as soon as it can"
        }
    }
}

/// What is told when it changes.
#[derive(Clone, Debug)]
pub(crate) enum Notice {
    Broken(String),
    Healed(String),
}

/// The store's state, and what was counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    pub(super) broken: Option<Broken>,
    /// Since when, in milliseconds since the epoch.
    since_ms: u64,
    tries: u64,
    /// How often it broke.
    pub(crate) failures: u64,
    /// Changes that were committed.
    pub(crate) commits: u64,
    /// Writes that it took: changes that wait together are written together.
    pub(crate) writes: u64,
}

impl Health {
    pub(super) fn fail(&mut self, broken: Broken) {
        if self.broken.is_none() {
            self.since_ms = now_ms();
            self.tries = 0;
            self.failures += 1;
        } else {
            self.tries += 1;
        }
        self.broken = Some(broken);
    }

    pub(super) fn heal(&mut self) {
        self.broken = None;
    }

    /// Whether changes are taken.
    pub(crate) const fn is_writable(&self) -> bool {
        self.broken.is_none()
    }

    /// What is wrong, with how many changes wait to be written.
    pub(super) fn trouble(&self, owed: u64) -> Option<StoreTrouble> {
        self.broken.as_ref().map(|broken| StoreTrouble {
            message: broken.reason.to_string(),
            since_ms: self.since_ms,
            tries: self.tries,
            owed,
        })
    }

    /// As `netloom doctor` says it.
    pub(super) fn findings(&self, path: &Path, owed: u64, free_bytes: Option<u64>) -> Vec<Finding> {
        let finding = |severity: &str, message: String, hint: &str| Finding {
            severity: severity.to_owned(),
            subject: "store".to_owned(),
            message,
            hint: hint.to_owned(),
        };
        if let Some(broken) = &self.broken {
            let waits =
                if owed == 0 { String::new() } else { format!("; {owed} that are done wait to be written") };
            let message =
                format!("{} cannot be written: {}. Changes are refused{waits}", broken.path, broken.reason);
            return vec![finding("error", message, broken.way_out())];
        }
        let little = free_bytes.filter(|free| *free < LITTLE).map(|free| {
            let message = format!("{} KiB are left on the file system of {}", free >> 10, path.display());
            finding("warning", message, "make room: when there is none, changes are refused")
        });
        little.into_iter().collect()
    }
}
