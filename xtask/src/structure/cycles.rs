//! Modules that import each other round in a cycle. Compared are siblings, each with all that is below it: a parent and
//! its children are one module to those beside the parent, and may import each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{
    exceptions::{self, AllowedCycle},
    imports::{self, Import},
    modules::Crate,
};

/// Siblings each of which imports each other, if only through more of them.
pub(super) struct Cycle {
    pub(super) modules: BTreeSet<String>,
    imports: Vec<(Edge, String)>,
}

/// One sibling imports another.
type Edge = (String, String);

/// What is wrong with a crate's imports, and with what the list says of them.
pub(super) fn check(krate: &Crate, allowed: &[AllowedCycle]) -> Vec<String> {
    let cycles = of(krate);
    let allowed: Vec<_> = allowed.iter().filter(|allowed| allowed.krate == krate.name).collect();
    let new = cycles.iter().filter(|cycle| !allowed.iter().any(|allowed| allowed.covers(cycle)));
    let new = new.map(|cycle| format!("host/{}: {cycle}", krate.name));
    let stale = allowed.iter().filter_map(|allowed| allowed.stale(&cycles));
    new.chain(stale).collect()
}

fn of(krate: &Crate) -> Vec<Cycle> {
    // By parent, for only siblings are compared.
    let mut levels: BTreeMap<Vec<String>, BTreeMap<Edge, String>> = BTreeMap::new();
    for Import { from, to, place } in imports::of(krate) {
        let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
        if let (Some(from), Some(to), Some(parent)) =
            (from.get(..=common), to.get(..=common), from.get(..common))
        {
            let edge = (from.join("::"), to.join("::"));
            levels.entry(parent.to_vec()).or_default().entry(edge).or_insert(place);
        }
    }
    levels.values().flat_map(among).collect()
}

/// The cycles among siblings: each has the modules that reach each other.
fn among(edges: &BTreeMap<Edge, String>) -> Vec<Cycle> {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        edges.keys().map(|(from, _)| (from.as_str(), reach(edges, from))).collect();
    let both = |a: &str, b: &str| {
        reached.get(a).is_some_and(|from_a| from_a.contains(b))
            && reached.get(b).is_some_and(|from_b| from_b.contains(a))
    };
    let sets: BTreeSet<BTreeSet<String>> = reached
        .keys()
        .map(|a| reached.keys().filter(|b| both(a, b)).map(ToString::to_string).collect())
        .filter(|modules: &BTreeSet<String>| !modules.is_empty())
        .collect();
    let cycle = |modules: BTreeSet<String>| {
        let inside = edges.iter().filter(|((from, to), _)| modules.contains(from) && modules.contains(to));
        let imports = inside.map(|(edge, place)| (edge.clone(), place.clone())).collect();
        Cycle { modules, imports }
    };
    sets.into_iter().map(cycle).collect()
}

/// All that a module imports, if only through others.
fn reach<'a>(edges: &'a BTreeMap<Edge, String>, start: &'a str) -> BTreeSet<&'a str> {
    let (mut reached, mut open) = (BTreeSet::new(), vec![start]);
    while let Some(module) = open.pop() {
        let next = edges.keys().filter(|(from, _)| from == module).map(|(_, to)| to.as_str());
        open.extend(next.filter(|to| reached.insert(*to)));
    }
    reached
}

impl AllowedCycle {
    /// Whether a cycle has no module that the entry has not.
    fn covers(&self, cycle: &Cycle) -> bool {
        cycle.modules.is_subset(&self.modules)
    }

    /// What is to be said of the entry if the cycle is gone, or smaller.
    fn stale(&self, cycles: &[Cycle]) -> Option<String> {
        let left: Vec<_> = cycles.iter().filter(|cycle| !cycle.modules.is_disjoint(&self.modules)).collect();
        // One that grew is reported itself.
        if left.iter().any(|cycle| cycle.modules == self.modules || !self.covers(cycle)) {
            return None;
        }
        let what = format!("the cycle of {} in host/{}", list(&self.modules), self.krate);
        if left.is_empty() {
            return Some(exceptions::stale(&format!("{what} is gone")));
        }
        let left = left.iter().map(|cycle| {
            let modules: Vec<_> = cycle.modules.iter().collect();
            format!("\n    modules = {modules:?}")
        });
        let left: String = left.collect();
        Some(format!("{}: {what} is smaller now. An entry for each that is left: {left}", exceptions::FILE))
    }
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} import each other in a cycle:", list(&self.modules))?;
        self.imports.iter().try_for_each(|((from, to), place)| write!(f, "\n    {from} → {to}  {place}"))
    }
}

fn list(modules: &BTreeSet<String>) -> String {
    modules.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}
