//! Faults: while netloomd carries out an operation, each of its system calls fails once, or is its last. Afterwards
//! nothing is leaked, nothing of others was touched, and the next request works.
//!
//! A sample of them runs by default; `NETLOOM_FAULTS=all` has every call of every operation fail and kill, and the name
//! of a call every call of that kind.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::unwrap_used, missing_docs)]
#![allow(clippy::needless_pass_by_value, reason = "`json!` at the call reads better than `&json!`")]

mod inject;
mod operations;

use std::{collections::BTreeSet, path::Path};

use netloom_api::types::{Doctor, OrphanView};
use netloom_test_support::until;

use inject::{Effect, Fault, Injection};
use operations::{OPERATIONS, Operation, World};

/// Calls into the kernel and the store, and what each fails with.
const CALLS: [(&str, &str); 10] = [
    ("bpf", "ENOMEM"),
    ("sendto", "ENOBUFS"),
    ("recvfrom", "ENOBUFS"),
    ("setns", "EPERM"),
    ("socket", "ENFILE"),
    ("openat", "EMFILE"),
    ("mkdir", "ENOSPC"),
    ("unlink", "EIO"),
    ("pwrite64", "ENOSPC"),
    ("fdatasync", "EIO"),
];
/// Every how many calls one fails or kills, where not all are asked for.
const FAIL_EVERY: usize = 12;
const KILL_EVERY: usize = 30;
/// Most calls of a kind that are counted: of files there are hundreds, most of them of looks at /proc.
const MOST: usize = 100;

#[test]
fn a_call_that_fails_leaks_nothing_and_the_next_request_works() {
    sweep(Effect::Fails, FAIL_EVERY);
}

#[test]
fn a_daemon_killed_at_a_call_leaks_nothing_and_the_next_one_works() {
    sweep(|_| Effect::Kills, KILL_EVERY);
}

fn sweep(effect: impl Fn(&'static str) -> Effect, every: usize) {
    let wanted = std::env::var("NETLOOM_FAULTS").ok();
    let every = if wanted.is_some() { 1 } else { every };
    let known = |wanted: &str| wanted == "all" || CALLS.iter().any(|(calls, _)| *calls == wanted);
    assert!(wanted.as_deref().is_none_or(known), "{wanted:?} is neither \"all\" nor one of {CALLS:?}");
    let is_wanted = |calls: &str| wanted.as_deref().is_none_or(|wanted| wanted == "all" || wanted == calls);
    let mut world = World::new();
    let mut met = 0;
    for (row, operation) in OPERATIONS.iter().enumerate() {
        for (column, (calls, errno)) in
            CALLS.into_iter().enumerate().filter(|(_, (calls, _))| is_wanted(calls))
        {
            // Each begins at another call, so that a sample has early ones and late ones.
            let first = 1 + (row * CALLS.len() + column) % every;
            for count in (first..MOST).step_by(every) {
                let fault = Fault { calls, effect: effect(errno), count };
                if !world.with_fault(operation, fault) {
                    break;
                }
                met += 1;
            }
        }
    }
    println!("{met} faults");
    assert!(met > 0, "no fault was met");
}

impl World {
    /// Carries an operation out with a fault, looks at what is there, and carries it out again without. Whether the
    /// fault was met.
    fn with_fault(&mut self, operation: &Operation, fault: Fault) -> bool {
        self.prepare(operation);
        let process = self.node.daemon.pid().expect("it runs");
        let injection = Injection::set(process, fault);
        let asked = (operation.asked)(self);
        let met = injection.end();
        let gone = !Path::new(&format!("/proc/{process}/exe")).exists();
        println!(
            "{} with {fault:?}: {met} met, {:?}",
            operation.name,
            asked.as_ref().err().map(ToString::to_string)
        );
        // strace may be ended before it writes down that it has killed.
        let killed = gone && matches!(fault.effect, Effect::Kills);
        if met == 0 && !killed {
            asked.unwrap_or_else(|error| panic!("without a fault: {error}"));
            self.clear();
            return false;
        }
        if gone {
            self.node.daemon.kill9();
            self.node.daemon.restart();
        }
        self.agree();
        self.prepare(operation);
        (operation.asked)(self).unwrap_or_else(|error| panic!("the next request fails: {error}"));
        self.agree();
        self.clear();
        true
    }

    fn prepare(&self, operation: &Operation) {
        self.clear();
        for request in operation.before {
            request(self).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    /// Records and kernel have the same, as soon as what was left is finished, and what is of others is as it was.
    fn agree(&self) {
        let finished = until(|| self.trouble(), Vec::is_empty);
        assert_eq!(finished, Vec::<String>::new());
        self.check_others();
        let status = self.node.status();
        let mut expected: BTreeSet<String> =
            status.endpoints.iter().map(|view| view.endpoint.host_interface.clone()).collect();
        let devices = self.node.netns.ip(&["-br", "link", "show"]);
        let devices = devices.lines().filter_map(|line| line.split(['@', ' ']).next());
        let found: BTreeSet<String> =
            devices.filter(|name| name.starts_with("nl")).map(str::to_owned).collect();
        assert_eq!(found, expected, "devices");
        expected = status.attachments.iter().map(|attachment| attachment.id.clone()).collect();
        let pins = self.node.traces().into_iter().filter(|trace| trace.starts_with('/')).count();
        let folders = status.endpoints.len() + expected.iter().filter(|id| !id.contains(':')).count();
        assert_eq!(pins, folders, "{:?} for {expected:?}", self.node.traces());
        let (kept, loaded) = self.components();
        assert_eq!(kept, loaded, "components");
    }

    /// What is wrong, in doctor's words, and what no record knows.
    fn trouble(&self) -> Vec<String> {
        let doctor: Doctor = self.node.daemon.get("/v1/doctor").expect("it answers");
        let orphans: Vec<OrphanView> = self.node.daemon.get("/v1/orphans").expect("it answers");
        let findings = doctor
            .findings
            .into_iter()
            .filter(|finding| finding.message.contains("cannot be done") || finding.subject == "store");
        findings
            .map(|finding| format!("{}: {}", finding.subject, finding.message))
            .chain(orphans.into_iter().map(|orphan| orphan.what))
            .collect()
    }
}
