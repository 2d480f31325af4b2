use std::{fs, sync::OnceLock, time::Duration};

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
