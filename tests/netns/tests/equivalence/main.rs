//! Whatever the node's rules say: what goes to and from its endpoints arrives where it would without any fast path, and
//! with the same addresses.
//!
//! Two nodes are alike but for one thing: on the one everything goes through the stack. Both get the same random rules,
//! and then the same random traffic; what arrives is compared.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod policy;
mod traffic;
mod world;

use std::{
    env, thread,
    time::{Duration, Instant},
};

use fastrand::Rng;
use netloom_test_support::{at_this_pace, emulated};

use policy::Policy;
use traffic::{Case, Outcome};
use world::World;

/// Cases, also on an emulated machine, and what they are made of, unless asked for otherwise (`cargo xtask
/// equivalence`).
const CASES: usize = 1000;
const EMULATED_CASES: usize = 150;
const SEED: u64 = 15;

/// Policies are slow to make, and cases of one run at once.
const CASES_A_POLICY: usize = 50;

/// How long a rule may take to be followed by whatever is sent.
const PATIENCE: Duration = Duration::from_secs(20);

fn asked_for<T: std::str::FromStr>(variable: &str) -> Option<T> {
    env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}: not a number")))
}

#[test]
fn what_arrives_is_what_would_arrive_without_a_fast_path() {
    let seed = asked_for("NETLOOM_SEED").unwrap_or(SEED);
    let cases: usize = asked_for("NETLOOM_CASES").unwrap_or(if emulated() { EMULATED_CASES } else { CASES });
    let stack = World::start("outside = \"stack\"\nlocal = \"stack\"\n");
    let fast = World::start("");
    let (mut made, mut arrived, mut translated) = (0, 0, 0);
    for number in 0..cases.div_ceil(CASES_A_POLICY) {
        // Each by itself is made of the seed and its number.
        let mut rng = Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
        let policy = Policy::random(&mut rng, &fast);
        let batch = CASES_A_POLICY.min(cases - number * CASES_A_POLICY);
        let batch: Vec<Case> = (0..batch).map(|_| Case::random(&mut rng, &fast, &policy)).collect();
        let [there, here] = [&stack, &fast].map(|world| policy.apply(world));
        assert_eq!(there, here, "both have the same rules:\n{policy}");
        let outcomes = compare(&stack, &fast, &batch).unwrap_or_else(|difference| {
            panic!("policy {number} of seed {seed}:\n{policy}\n{difference}\n{}", fast.node.daemon.log())
        });
        made += here;
        arrived += outcomes.iter().filter(|outcome| outcome.arrived()).count();
        let ends = batch.iter().zip(&outcomes);
        translated += ends.filter(|(case, outcome)| outcome.is_translated(case, &fast)).count();
        for world in [&stack, &fast] {
            policy.undo(world);
        }
    }
    println!("{cases} cases, {made} rules: {arrived} arrived, {translated} of them translated");
    assert!(made * CASES_A_POLICY > cases, "{made} rules for {cases} cases say little");
    assert!(arrived * 4 > cases && arrived < cases, "{arrived} of {cases} arrive: the cases say little");
    assert!(translated * 20 > cases, "{translated} of {cases} are translated: the cases say little");
}

/// Runs cases in both worlds. Those with different ends are run again for a while: the rules may have been too new for
/// the one, and a machine under load loses packets of either.
fn compare(stack: &World, fast: &World, cases: &[Case]) -> Result<Vec<Outcome>, String> {
    let both = |cases: &[Case]| {
        thread::scope(|scope| {
            let [stack, fast] = [stack, fast].map(|world| scope.spawn(|| traffic::run(world, cases)));
            (stack.join().expect("it runs to its end"), fast.join().expect("it runs to its end"))
        })
    };
    let (expected, got) = both(cases);
    let mut outcomes = expected.clone();
    let mut left: Vec<usize> = (0..cases.len()).filter(|at| expected.get(*at) != got.get(*at)).collect();
    let since = Instant::now();
    while !left.is_empty() {
        let again: Vec<Case> = left.iter().filter_map(|at| cases.get(*at)).map(Case::again).collect();
        let (expected, got) = both(&again);
        let ends = || left.iter().zip(expected.iter().zip(&got));
        if since.elapsed() > at_this_pace(PATIENCE) {
            let told = ends().filter(|(_, (expected, got))| expected != got).map(|(at, (expected, got))| {
                let case = cases.get(*at).expect("it is one of them");
                format!("{case}\n  by the stack: {expected}\n  otherwise:    {got}")
            });
            return Err(told.collect::<Vec<_>>().join("\n"));
        }
        for (at, (expected, _)) in ends() {
            if let Some(outcome) = outcomes.get_mut(*at) {
                outcome.clone_from(expected);
            }
        }
        left = ends().filter(|(_, (expected, got))| expected != got).map(|(at, _)| *at).collect();
    }
    Ok(outcomes)
}
