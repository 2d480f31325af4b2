use netloom_sdk::testing::{self, candidate, chain, entry, foreign, node};

use super::*;

fn observer(owner: &str) -> ChainEntry {
    entry(owner).with_label("role", "observer")
}

fn datapath() -> ChainEntry {
    entry(DATAPATH)
}

/// The owners of a chain after a placement was carried out; foreign entries by their names.
fn after(mut entries: Vec<ChainEntry>, candidate: &Candidate) -> Vec<String> {
    let decision = OwnerPriority::default().place(&node(), &chain(entries.clone()), candidate);
    let PlaceDecision::Place(placement) = decision else { panic!("it has an opinion, not {decision:?}") };
    let position = match placement {
        Placement::Head => 0,
        Placement::Tail => entries.len(),
        Placement::Before(id) => id as usize,
        Placement::After(id) => id as usize + 1,
        Placement::Replace(_) => panic!("it replaces nothing"),
    };
    let labels = candidate.labels.clone();
    entries
        .insert(position, ChainEntry { labels, ..entry(&candidate.owner).with_priority(candidate.priority) });
    entries.into_iter().map(|entry| entry.owner.unwrap_or(entry.name)).collect()
}

#[test]
fn a_program_goes_next_to_its_neighbours() {
    let new = || candidate("new");
    let looking = || new().with_label("role", "observer");
    let cases: [(&str, Vec<ChainEntry>, Candidate, &[&str]); 13] = [
        ("alone", vec![], new(), &["new"]),
        ("behind foreign ones", vec![foreign("f")], new(), &["f", "new"]),
        ("an observer in front of foreign ones", vec![foreign("f")], looking(), &["new", "f"]),
        ("in front of the datapath", vec![datapath()], new(), &["new", DATAPATH]),
        (
            "an observer in front of all",
            vec![foreign("f"), entry("a"), datapath()],
            looking(),
            &["new", "f", "a", DATAPATH],
        ),
        (
            "the datapath behind ours",
            vec![observer("o"), entry("a")],
            candidate(DATAPATH),
            &["o", "a", DATAPATH],
        ),
        (
            "the datapath behind a high number",
            vec![entry("a").with_priority(i32::MAX)],
            candidate(DATAPATH),
            &["a", DATAPATH],
        ),
        ("a tie goes behind", vec![entry("a"), entry("b")], new(), &["a", "b", "new"]),
        (
            "observers tie likewise",
            vec![observer("o"), foreign("f"), entry("a")],
            looking(),
            &["o", "new", "f", "a"],
        ),
        ("a lower number goes in front", vec![entry("a").with_priority(5)], new(), &["new", "a"]),
        (
            "a higher number goes behind",
            vec![entry("a"), datapath()],
            new().with_priority(5),
            &["a", "new", DATAPATH],
        ),
        (
            "an observer's priority counts among observers",
            vec![observer("o")],
            looking().with_priority(-1),
            &["new", "o"],
        ),
        (
            "even on a chain out of order, in front of the datapath",
            vec![datapath(), entry("a")],
            new(),
            &["new", DATAPATH, "a"],
        ),
    ];
    for (name, entries, candidate, wanted) in cases {
        assert_eq!(after(entries, &candidate), wanted, "{name}");
    }
}

#[test]
fn programs_that_come_in_any_order_end_up_in_one() {
    let programs = [("o", true, 0), ("a", false, -3), ("b", false, 7), (DATAPATH, false, 0)];
    for arrival in permutations(4) {
        let mut entries = vec![foreign("f")];
        for (owner, observes, priority) in arrival.into_iter().map(|index| programs[index]) {
            let mut new = candidate(owner).with_priority(priority);
            if observes {
                new = new.with_label("role", "observer");
            }
            let order = after(entries.clone(), &new);
            entries.push(ChainEntry { labels: new.labels, ..entry(owner).with_priority(priority) });
            entries.sort_by_key(|entry| {
                let name = entry.owner.as_ref().unwrap_or(&entry.name);
                order.iter().position(|owner| owner == name)
            });
        }
        let ours: Vec<&str> = entries.iter().filter_map(|entry| entry.owner.as_deref()).collect();
        assert_eq!(ours, ["o", "a", "b", DATAPATH]);
    }
}

fn permutations(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![vec![]];
    }
    let insert = |shorter: Vec<usize>| {
        (0..=shorter.len()).map(move |position| {
            let mut longer = shorter.clone();
            longer.insert(position, count - 1);
            longer
        })
    };
    permutations(count - 1).into_iter().flat_map(insert).collect()
}

#[test]
fn rebalance_gives_the_whole_order_of_ours_alone() {
    let entries =
        [datapath(), foreign("f"), entry("a").with_priority(5), entry("b"), observer("o"), entry("c")];
    let decision = OwnerPriority::default().rebalance(&node(), &chain(entries));
    assert_eq!(decision, RebalanceDecision::Reorder(vec![4, 3, 5, 2, 0]));
}

#[test]
fn configured_priorities_replace_those_asked_for() {
    let mut plugin = OwnerPriority::default();
    testing::init(&mut plugin, r#"{ "priorities": { "new": -10, "a": 3 } }"#).unwrap();
    let chain = chain([entry("b"), entry("a").with_priority(-99)]);
    let decision = plugin.place(&node(), &chain, &candidate("new").with_priority(50));
    assert_eq!(decision, PlaceDecision::Place(Placement::Before(0)));
    assert_eq!(plugin.rebalance(&node(), &chain), RebalanceDecision::Reorder(vec![0, 1]));
}

#[test]
fn a_wrong_configuration_is_refused_in_words() {
    let cases = [
        (r#"{ "priority": {} }"#, "unknown field `priority`, expected `priorities`"),
        (r#"{ "priorities": { "a": "first" } }"#, "expected i32"),
        (r#"{ "priorities": { "netloom/datapath": 1 } }"#, "always runs last"),
    ];
    for (config, wanted) in cases {
        let error = testing::init(&mut OwnerPriority::default(), config).unwrap_err();
        assert!(error.contains(wanted), "{config}: {error}");
    }
    assert_eq!(testing::init(&mut OwnerPriority::default(), "{}"), Ok(()));
}
