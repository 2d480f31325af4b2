//! Namespaces by the kernel's own list, which has each under its cookie (Linux 6.19). Those that only sockets keep are
//! not in it.

use std::sync::LazyLock;

use netloom_core::model::NetnsCookie;
use netloom_sys::ns;

use super::Netns;

/// Whether the kernel lists every namespace of the node to us, and opens them by their cookies.
static AVAILABLE: LazyLock<bool> = LazyLock::new(|| {
    let opens_own = || {
        let here = Netns::current().ok()?;
        let cookie = NetnsCookie(ns::current_cookie().ok()?);
        Some(open(cookie)? == here)
    };
    ns::in_first_pid_namespace() && ns::list().is_ok() && opens_own().unwrap_or(false)
});

pub(super) fn is_available() -> bool {
    *AVAILABLE
}

/// All of them; none where the kernel does not list them.
pub(super) fn all() -> Option<Vec<Netns>> {
    if !is_available() {
        return None;
    }
    // One that goes meanwhile is left out.
    Some(ns::list().ok()?.into_iter().filter_map(|id| open(NetnsCookie(id))).collect())
}

/// The one with a cookie; none where the kernel does not open them by it.
pub(super) fn by_cookie(cookie: NetnsCookie) -> Option<Netns> {
    if is_available() { open(cookie) } else { None }
}

fn open(cookie: NetnsCookie) -> Option<Netns> {
    let Ok(ns::Opened::Net(fd, identity)) = ns::open_by_id(cookie.0) else { return None };
    let netns = Netns::from_parts(fd, identity);
    let _ = netns.0.cookie.set(cookie);
    Some(netns)
}
