use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// When a request was made, in nanoseconds since the machine booted. Requests may overtake each other on their way to
/// the daemon: one that says when it was made does not undo what was asked for later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked(pub u64);

impl Asked {
    /// The header of a request that has it.
    pub const HEADER: &str = "netloom-asked";

    /// Now.
    #[must_use]
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        let seconds = Duration::from_secs(u64::try_from(now.tv_sec).unwrap_or_default());
        let since_boot = seconds + Duration::from_nanos(u64::try_from(now.tv_nsec).unwrap_or_default());
        Self(u64::try_from(since_boot.as_nanos()).unwrap_or(u64::MAX))
    }
}
