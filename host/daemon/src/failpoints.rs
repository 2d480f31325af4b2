//! For tests of what happens in the middle of a plan: places where the process can be made to end or to wait.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::Context as _;

/// How often a step that waits looks whether it may go on.
const POLL_EVERY: Duration = Duration::from_millis(2);

/// What the environment asks for. Unset, nothing happens.
#[derive(Default)]
pub(crate) struct Failpoints {
    /// `NETLOOM_CRASH_AFTER=N` ends the process, as SIGKILL would, after the N-th step.
    crash_after: Option<AtomicUsize>,
    /// `NETLOOM_PAUSE_AFTER=N:FOLDER` has the N-th step, when it is done, make the file `paused` in the folder and
    /// wait for the file `go`.
    pause_after: Option<(AtomicUsize, PathBuf)>,
}

impl Failpoints {
    pub(crate) fn of_environment() -> anyhow::Result<Self> {
        let crash_after = match std::env::var("NETLOOM_CRASH_AFTER") {
            Ok(text) => Some(AtomicUsize::new(text.parse().context("NETLOOM_CRASH_AFTER is no number")?)),
            Err(_) => None,
        };
        let pause_after = match std::env::var("NETLOOM_PAUSE_AFTER") {
            Ok(text) => {
                let (steps, folder) = text.split_once(':').context("NETLOOM_PAUSE_AFTER is not N:FOLDER")?;
                let steps = steps.parse().context("NETLOOM_PAUSE_AFTER has no number")?;
                Some((AtomicUsize::new(steps), folder.into()))
            }
            Err(_) => None,
        };
        Ok(Self { crash_after, pause_after })
    }

    /// A step of a plan is done.
    pub(crate) async fn step_done(&self) {
        if self.crash_after.as_ref().is_some_and(is_now) {
            std::process::abort();
        }
        if let Some((steps, folder)) = &self.pause_after
            && is_now(steps)
        {
            std::fs::write(folder.join("paused"), "").ok();
            while folder.is_dir() && !folder.join("go").exists() {
                tokio::time::sleep(POLL_EVERY).await;
            }
        }
    }
}

fn is_now(steps: &AtomicUsize) -> bool {
    steps.fetch_sub(1, Ordering::Relaxed) == 1
}
