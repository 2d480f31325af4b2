//! Every network namespace of the node, whatever keeps it alive.

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
};

use netloom_core::model::NetnsCookie;

use super::{
    Netns, NetnsError,
    index::{recall, remember, walked},
    listed,
    search::{STAGES, Search, Stage, cookies},
};

/// A namespace that [`all`] found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The namespace, open.
    pub netns: Netns,
    /// Its cookie.
    pub cookie: NetnsCookie,
    /// Ways to it, the most telling first, at most eight: named ones, processes, bind mounts, file descriptors.
    pub names: Vec<PathBuf>,
}

/// Every network namespace of the node: those with a name, of any process or thread, and those that only a bind
/// mount (in any mount namespace) or an open file descriptor keeps. No mount namespace is entered.
///
/// One that only sockets keep, its last namespace file closed, is not listed; [`by_cookie`] finds it.
///
/// # Errors
/// [`NetnsError::Proc`] if `/proc` cannot be read, [`NetnsError::Cookie`] before Linux 5.14. A namespace or
/// process that goes away meanwhile is no error.
pub fn all() -> Result<Vec<Found>, NetnsError> {
    let mut search = Search::new()?;
    let complete = search.listed();
    for stage in STAGES {
        if complete && search.found.values().all(|(_, names)| !names.is_empty()) {
            break;
        }
        stage(&mut search);
    }
    let (netns, names): (Vec<Netns>, Vec<Vec<PathBuf>>) = search.found.into_values().unzip();
    let cookies = cookies(&netns)?;
    Ok(netns
        .into_iter()
        .zip(cookies)
        .zip(names)
        .map(|((netns, cookie), names)| Found { netns, cookie, names })
        .collect())
}

/// The namespace with a cookie, also if nothing but a socket in it keeps it alive; none if it is gone.
///
/// Where the kernel has no list of them, it is remembered where a namespace was found, and checked anew each time;
/// nothing is held open.
#[must_use]
pub fn by_cookie(cookie: NetnsCookie) -> Option<Netns> {
    by_cookies([cookie]).remove(&cookie)
}

/// As [`by_cookie`], many at once: those that are not remembered, gone ones among them, cost one walk together. They
/// are held open by what is returned.
#[must_use]
pub fn by_cookies(wanted: impl IntoIterator<Item = NetnsCookie>) -> HashMap<NetnsCookie, Netns> {
    let mut found = HashMap::new();
    let mut missing = BTreeSet::new();
    for cookie in wanted {
        match listed::by_cookie(cookie).or_else(|| recall(cookie)) {
            Some(netns) => drop(found.insert(cookie, netns)),
            None => drop(missing.insert(cookie)),
        }
    }
    if let (false, Ok(search)) = (missing.is_empty(), Search::new()) {
        walked();
        look_for(search, missing, &mut found);
    }
    found
}

/// Looks for namespaces until none is missing or no place is left.
fn look_for(mut search: Search, mut missing: BTreeSet<NetnsCookie>, into: &mut HashMap<NetnsCookie, Netns>) {
    let mut asked = BTreeSet::new();
    // Of what the kernel does not list, sockets are all there may be.
    let stages: &[Stage] = if listed::is_available() { &[] } else { &STAGES };
    for stage in stages {
        stage(&mut search);
        let new: Vec<_> =
            search.found.iter().filter(|(id, _)| asked.insert(**id)).map(|(_, found)| found).collect();
        let netns: Vec<_> = new.iter().map(|(netns, _)| netns.clone()).collect();
        for (cookie, (netns, names)) in cookies(&netns).unwrap_or_default().into_iter().zip(new) {
            // Whoever asks for one namespace often asks for others next.
            if let Some(path) = names.first() {
                remember(cookie, netns.id(), path.clone());
            }
            if missing.remove(&cookie) {
                into.insert(cookie, netns.clone());
            }
        }
        if missing.is_empty() {
            return;
        }
    }
    search.by_socket(missing, into);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_by_its_cookie() {
        let here = Netns::current().unwrap();
        let found = by_cookie(here.cookie().unwrap()).unwrap();
        assert_eq!(found, here);
        assert_eq!(by_cookie(NetnsCookie(u64::MAX)), None);
    }
}
