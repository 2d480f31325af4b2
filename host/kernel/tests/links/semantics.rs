//! What the kernel promises about chains, which everything else here is built on: links and programs without links,
//! each kind of anchor, revisions, replacing, updating, detaching. A table, the same for tcx and netkit, on each side.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, OwnedFd},
    thread,
    time::Duration,
};

use netloom_core::model::{Hook, HookPoint};
use netloom_kernel::programs::Program;
use netloom_sys::bpf::{self, AttachType, Position, Relative};
use rustix::io::Errno;

use crate::scratch::{Scratch, at_points, program};

/// Where a program goes.
#[derive(Clone, Copy, Debug)]
enum At {
    Head,
    Tail,
    Before(&'static str, By),
    After(&'static str, By),
}

/// How the program that it goes beside is named.
#[derive(Clone, Copy, Debug)]
enum By {
    Link,
    LinkId,
    Program,
    ProgramId,
}

/// Which revision the kernel is told to expect.
#[derive(Clone, Copy, Debug)]
enum Expect {
    Any,
    Present,
    Past,
}

/// One system call.
#[derive(Clone, Copy, Debug)]
enum Do {
    /// Attaches a program with a link.
    Link(&'static str, At, Expect),
    /// Attaches a program without.
    Direct(&'static str, At, Expect),
    /// Puts the first in the place of the second, which has no link.
    Replace(&'static str, &'static str),
    /// Has the link of the first run the second, if it runs the third.
    Update(&'static str, &'static str, &'static str),
    /// Detaches a program without a link.
    Detach(&'static str, Expect),
    /// Detaches a link, which is kept open.
    DetachLink(&'static str),
    /// Closes a link.
    Close(&'static str),
}

/// The chain afterwards, by names, or the error, and then the chain is as it was.
type Outcome = Result<&'static [&'static str], Errno>;

use At::{After, Before, Head, Tail};
use Do::{Close, Detach, DetachLink, Direct, Link, Replace, Update};
use Expect::{Any, Past, Present};

at_points!(
    tcx netkit:
    chains_are_as_the_kernel_promises,
    links_outlive_their_device_and_programs_without_links_do_not,
);

#[rustfmt::skip]
const CASES: &[(&str, &[(Do, Outcome)])] = &[
    ("links at either end", &[
        (Link("a", Head, Any), Ok(&["a"])),
        (Link("b", Head, Any), Ok(&["b", "a"])),
        (Link("c", Tail, Any), Ok(&["b", "a", "c"])),
        (Close("a"), Ok(&["b", "c"])),
        (Close("b"), Ok(&["c"])),
        (Close("c"), Ok(&[])),
    ]),
    ("programs without links at either end", &[
        (Direct("a", Head, Any), Ok(&["a"])),
        (Direct("b", Head, Any), Ok(&["b", "a"])),
        (Direct("c", Tail, Any), Ok(&["b", "a", "c"])),
        (Detach("a", Any), Ok(&["b", "c"])),
        (Detach("c", Any), Ok(&["b"])),
        (Detach("b", Any), Ok(&[])),
    ]),
    ("links beside links, named in each way", &[
        (Link("a", Tail, Any), Ok(&["a"])),
        (Link("b", Before("a", By::Link), Any), Ok(&["b", "a"])),
        (Link("c", Before("a", By::LinkId), Any), Ok(&["b", "c", "a"])),
        (Link("d", After("b", By::Link), Any), Ok(&["b", "d", "c", "a"])),
        (Link("e", After("a", By::LinkId), Any), Ok(&["b", "d", "c", "a", "e"])),
        (Link("f", Before("b", By::Program), Any), Ok(&["f", "b", "d", "c", "a", "e"])),
        (Link("g", After("c", By::ProgramId), Any), Ok(&["f", "b", "d", "c", "g", "a", "e"])),
    ]),
    ("programs beside programs, named in each way", &[
        (Direct("a", Tail, Any), Ok(&["a"])),
        (Direct("b", Before("a", By::Program), Any), Ok(&["b", "a"])),
        (Direct("c", Before("a", By::ProgramId), Any), Ok(&["b", "c", "a"])),
        (Direct("d", After("b", By::Program), Any), Ok(&["b", "d", "c", "a"])),
        (Direct("e", After("a", By::ProgramId), Any), Ok(&["b", "d", "c", "a", "e"])),
    ]),
    ("both kinds in one chain", &[
        (Direct("foreign", Tail, Any), Ok(&["foreign"])),
        (Link("front", Before("foreign", By::Program), Any), Ok(&["front", "foreign"])),
        (Link("back", After("foreign", By::ProgramId), Any), Ok(&["front", "foreign", "back"])),
        (Direct("between", Before("back", By::LinkId), Any), Ok(&["front", "foreign", "between", "back"])),
        (Direct("last", After("back", By::Link), Any), Ok(&["front", "foreign", "between", "back", "last"])),
        (Close("front"), Ok(&["foreign", "between", "back", "last"])),
        (Detach("foreign", Any), Ok(&["between", "back", "last"])),
    ]),
    ("each program once", &[
        (Link("a", Tail, Any), Ok(&["a"])),
        (Link("a", Head, Any), Err(Errno::EXIST)),
        (Direct("a", Head, Any), Err(Errno::EXIST)),
        (Direct("b", Tail, Any), Ok(&["a", "b"])),
        (Direct("b", Tail, Any), Err(Errno::EXIST)),
        (Link("b", Tail, Any), Err(Errno::EXIST)),
    ]),
    ("an anchor that is not there", &[
        (Link("a", Before("lost", By::Program), Any), Err(Errno::NOENT)),
        (Direct("a", After("lost", By::ProgramId), Any), Err(Errno::NOENT)),
        (Link("a", Tail, Any), Ok(&["a"])),
        (Link("b", After("lost", By::Program), Any), Err(Errno::NOENT)),
        (Direct("c", Tail, Any), Ok(&["a", "c"])),
        (Detach("c", Any), Ok(&["a"])),
        (Link("b", After("c", By::Program), Any), Err(Errno::NOENT)),
    ]),
    ("each change has a revision", &[
        (Link("a", Tail, Present), Ok(&["a"])),
        (Link("b", Tail, Present), Ok(&["a", "b"])),
        (Link("c", Tail, Past), Err(Errno::STALE)),
        (Direct("d", Head, Present), Ok(&["d", "a", "b"])),
        (Direct("e", Head, Past), Err(Errno::STALE)),
        (Update("a", "f", "a"), Ok(&["d", "f", "b"])),
        (Link("c", Tail, Past), Err(Errno::STALE)),
        (Detach("d", Past), Err(Errno::STALE)),
        (Detach("d", Present), Ok(&["f", "b"])),
        (Close("b"), Ok(&["f"])),
        (Link("c", Tail, Past), Err(Errno::STALE)),
        (Link("c", Tail, Present), Ok(&["f", "c"])),
    ]),
    ("a program takes the place of one without a link", &[
        (Direct("a", Tail, Any), Ok(&["a"])),
        (Direct("b", Tail, Any), Ok(&["a", "b"])),
        (Link("c", Tail, Any), Ok(&["a", "b", "c"])),
        (Replace("d", "a"), Ok(&["d", "b", "c"])),
        (Replace("d", "b"), Err(Errno::EXIST)),
        (Replace("e", "lost"), Err(Errno::NOENT)),
        (Replace("e", "c"), Err(Errno::BUSY)),
        (Replace("e", "b"), Ok(&["d", "e", "c"])),
    ]),
    ("a link runs another program in its place", &[
        (Link("a", Tail, Any), Ok(&["a"])),
        (Direct("b", Tail, Any), Ok(&["a", "b"])),
        (Link("c", Tail, Any), Ok(&["a", "b", "c"])),
        (Update("a", "d", "c"), Err(Errno::PERM)),
        (Update("a", "c", "a"), Err(Errno::EXIST)),
        (Update("a", "b", "a"), Err(Errno::EXIST)),
        (Update("a", "d", "a"), Ok(&["d", "b", "c"])),
        (Update("a", "a", "d"), Ok(&["a", "b", "c"])),
        (Update("c", "e", "c"), Ok(&["a", "b", "e"])),
    ]),
    ("what a link holds goes with the link alone", &[
        (Link("a", Tail, Any), Ok(&["a"])),
        (Direct("b", Tail, Any), Ok(&["a", "b"])),
        (Detach("a", Any), Err(Errno::BUSY)),
        (Detach("lost", Any), Err(Errno::NOENT)),
        (DetachLink("a"), Ok(&["b"])),
        (Update("a", "c", "a"), Err(Errno::NOLINK)),
        (Close("a"), Ok(&["b"])),
        (Detach("b", Any), Ok(&[])),
        (Detach("b", Any), Err(Errno::NOENT)),
    ]),
];

/// One chain, and what is on it by name.
struct Table<'a> {
    scratch: &'a Scratch,
    hook: Hook,
    programs: HashMap<&'static str, Program>,
    links: HashMap<&'static str, OwnedFd>,
}

impl Table<'_> {
    fn attach_type(&self) -> AttachType {
        match self.hook.point {
            HookPoint::TcxIngress => AttachType::TCX_INGRESS,
            HookPoint::TcxEgress => AttachType::TCX_EGRESS,
            HookPoint::NetkitPrimary => AttachType::NETKIT_PRIMARY,
            _ => AttachType::NETKIT_PEER,
        }
    }

    fn revision(&self) -> u64 {
        let query = || bpf::prog_query(self.hook.ifindex.0, self.attach_type());
        self.scratch.netns.run(query).unwrap().unwrap().revision
    }

    fn carry_out(&mut self, call: Do) -> io::Result<()> {
        let present = self.revision();
        for name in named(call) {
            self.programs.entry(name).or_insert_with(|| program(name));
        }
        let (device, kind) = (self.hook.ifindex.0, self.attach_type());
        let revision = |expected| match expected {
            Any => None,
            Present => Some(present),
            Past => Some(present - 1),
        };
        let link = |name| self.links.get(name).map(AsFd::as_fd).expect("it is attached with a link");
        let fd = |name| self.programs[name].fd();
        let change = || -> io::Result<Option<OwnedFd>> {
            match call {
                Link(name, at, expected) => {
                    bpf::link_create(fd(name), device, kind, self.position(at), revision(expected)).map(Some)
                }
                Direct(name, at, expected) => {
                    bpf::prog_attach(fd(name), device, kind, self.position(at), None, revision(expected))
                        .map(|()| None)
                }
                Replace(new, old) => {
                    bpf::prog_attach(fd(new), device, kind, Position::Tail, Some(fd(old)), None)
                        .map(|()| None)
                }
                Update(name, new, old) => bpf::link_update(link(name), fd(new), Some(fd(old))).map(|()| None),
                Detach(name, expected) => {
                    bpf::prog_detach(fd(name), device, kind, revision(expected)).map(|()| None)
                }
                DetachLink(name) => bpf::link_detach(link(name)).map(|()| None),
                Close(_) => Ok(None),
            }
        };
        let made = self.scratch.netns.run(change).unwrap()?;
        match call {
            Link(name, ..) => drop(self.links.insert(name, made.expect("it has a link"))),
            Close(name) => drop(self.links.remove(name)),
            _ => {}
        }
        Ok(())
    }

    fn position(&self, at: At) -> Position<'_> {
        match at {
            Head => Position::Head,
            Tail => Position::Tail,
            Before(name, by) => Position::Before(self.anchor(name, by)),
            After(name, by) => Position::After(self.anchor(name, by)),
        }
    }

    fn anchor(&self, name: &str, by: By) -> Relative<'_> {
        match by {
            By::Link => Relative::Link(self.links[name].as_fd()),
            By::LinkId => Relative::LinkId(bpf::link_info(self.links[name].as_fd()).unwrap().id),
            By::Program => Relative::Program(self.programs[name].fd()),
            By::ProgramId => Relative::ProgramId(self.programs[name].id().0),
        }
    }
}

/// The programs that a call names.
fn named(call: Do) -> Vec<&'static str> {
    let anchor = |at| match at {
        Head | Tail => None,
        Before(name, _) | After(name, _) => Some(name),
    };
    match call {
        Link(name, at, _) | Direct(name, at, _) => [Some(name), anchor(at)].into_iter().flatten().collect(),
        Replace(new, old) => vec![new, old],
        Update(_, new, old) => vec![new, old],
        Detach(name, _) => vec![name],
        DetachLink(_) | Close(_) => vec![],
    }
}

fn chains_are_as_the_kernel_promises(point: HookPoint) {
    for (what, steps) in CASES {
        let scratch = Scratch::new();
        let hook = scratch.hook(point);
        let mut table = Table { scratch: &scratch, hook, programs: HashMap::new(), links: HashMap::new() };
        for (call, outcome) in *steps {
            let before = scratch.names(&table.hook);
            let done = table.carry_out(*call);
            let errno = |error: &io::Error| error.raw_os_error().map(Errno::from_raw_os_error);
            match outcome {
                Ok(_) => assert!(done.is_ok(), "{point}, {what}: {call:?}: {done:?}"),
                Err(wanted) => {
                    let error = done.expect_err("it is refused");
                    assert_eq!(errno(&error), Some(*wanted), "{point}, {what}: {call:?}: {error}");
                }
            }
            let wanted = outcome.map_or(before, |names| names.iter().map(ToString::to_string).collect());
            // A process that another test starts has a copy of each descriptor until it runs its program.
            let closed = || !matches!(call, Close(_)) || scratch.names(&table.hook) == wanted;
            for _ in (0..100).take_while(|_| !closed()) {
                thread::sleep(Duration::from_millis(10));
            }
            assert_eq!(scratch.names(&table.hook), wanted, "{point}, {what}: {call:?}");
        }
    }
}

fn links_outlive_their_device_and_programs_without_links_do_not(point: HookPoint) {
    let scratch = Scratch::new();
    let hook = scratch.hook(point);
    let device = hook.device.clone();
    let mut table = Table { scratch: &scratch, hook, programs: HashMap::new(), links: HashMap::new() };
    table.carry_out(Link("linked", Tail, Any)).unwrap();
    table.carry_out(Direct("direct", Tail, Any)).unwrap();
    table.programs.insert("next", program("next"));
    let direct = table.programs.remove("direct").map(|program| program.id()).unwrap();
    scratch.run(&format!("ip link delete {device}"));

    let link = table.links["linked"].as_fd();
    assert_eq!(bpf::link_info(link).unwrap().ifindex, Some(0), "{point}");
    let (next, linked) = (table.programs["next"].fd(), table.programs["linked"].fd());
    let error = bpf::link_update(link, next, Some(linked)).expect_err("its device is gone");
    assert_eq!(error.raw_os_error(), Some(Errno::NOLINK.raw_os_error()), "{point}");
    // The kernel lets go of it in a moment.
    let is_gone = || !crate::scratch::is_loaded(direct);
    assert!(
        (0..200).any(|_| {
            thread::sleep(Duration::from_millis(50));
            is_gone()
        }),
        "{point}: nothing holds it, and it is there still"
    );
}
