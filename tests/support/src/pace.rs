use std::{
    fmt::Debug,
    fs,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

/// How many times slower an emulated machine is taken to be.
const EMULATED: u32 = 6;

/// Whether this machine's CPU is emulated. What is done in full on a real one may then be done in part: a step that
/// takes half a second there takes ten here.
#[must_use]
pub fn emulated() -> bool {
    static EMULATED: OnceLock<bool> = OnceLock::new();
    // QEMU names the CPU so where it translates instructions itself.
    *EMULATED.get_or_init(|| fs::read_to_string("/proc/cpuinfo").unwrap_or_default().contains("TCG"))
}

/// A time on a real machine, as it is to be on this one: how long to wait for something, or how often to do it.
#[must_use]
pub fn at_this_pace(time: Duration) -> Duration {
    if emulated() { time * EMULATED } else { time }
}

/// How long [`until`] waits on a real machine under load.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looks at something again and again until it is as wanted: what was seen last.
///
/// # Panics
/// If it is not so within a minute; shows what was seen last.
#[track_caller]
pub fn until<T: Debug>(mut look: impl FnMut() -> T, wanted: impl Fn(&T) -> bool) -> T {
    let started = Instant::now();
    loop {
        let seen = look();
        if wanted(&seen) {
            return seen;
        }
        assert!(started.elapsed() < at_this_pace(PATIENCE), "it does not come: at last there was {seen:?}");
        thread::sleep(Duration::from_millis(5));
    }
}
