//! What an instance has in the kernel and in files, and what of it is left when it is gone. It is looked for by other
//! ways than netloomd's own, which could hide what they do not know.

use std::{
    collections::BTreeSet,
    fs,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use aya::programs::loaded_programs;
use netloom_api::Paths;
use netloom_core::model::Name;
use netloom_sys::bpf;

use crate::at_this_pace;

/// The kernel frees programs and mounts a while after their last user.
const PATIENCE: Duration = Duration::from_secs(10);

/// What an instance had at some time.
#[derive(Debug)]
pub(super) struct Held {
    instance: String,
    paths: Paths,
    links: BTreeSet<u32>,
    programs: BTreeSet<u32>,
    maps: BTreeSet<u32>,
}

impl Held {
    /// What is pinned at this moment, and what uses it.
    pub(super) fn of(instance: &Name) -> Self {
        let paths = Paths::of(Some(instance));
        let (mut links, mut programs, mut maps) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for pin in files(&paths.bpffs) {
            let Some(described) = describe(&pin) else { continue };
            for (ids, name) in [(&mut links, "link_id:"), (&mut programs, "prog_id:"), (&mut maps, "map_id:")]
            {
                ids.extend(number(&described, name));
            }
        }
        programs.extend(users(&maps));
        Self { instance: format!("netloom-{instance}"), paths, links, programs, maps }
    }

    /// What of it is there after a cleanup, and how to look at it.
    pub(super) fn left(&self, node: Option<&Path>) -> Vec<String> {
        let started = Instant::now();
        loop {
            let left = self.left_now(node);
            if left.is_empty() || started.elapsed() > at_this_pace(PATIENCE) {
                return left;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn left_now(&self, node: Option<&Path>) -> Vec<String> {
        let mut left = Vec::new();
        for folder in [&self.paths.bpffs, &self.paths.run, &self.paths.state] {
            if folder.exists() {
                let content: Vec<_> = files(folder).iter().map(|path| path.display().to_string()).collect();
                left.push(format!("the folder {} is left, with {content:?}", folder.display()));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let run = self.paths.run.display().to_string();
        left.extend(
            mounts.lines().filter(|line| line.contains(&run)).map(|line| format!("a mount is left: {line}")),
        );
        for id in self.links.iter().filter(|id| bpf::link_by_id(**id).is_ok()) {
            left.push(format!("a BPF link is left: bpftool link show id {id}"));
        }
        let users = users(&self.maps);
        for id in self.programs.union(&users).filter(|id| bpf::program_by_id(**id).is_ok()) {
            left.push(format!(
                "a BPF program is left, attached or held by a process: bpftool prog show id {id}"
            ));
        }
        left.extend(self.on_node(node));
        left
    }

    /// Devices with an alias of the instance, and nftables and routes that carry its name or protocol.
    fn on_node(&self, node: Option<&Path>) -> Vec<String> {
        let mut left = Vec::new();
        let links = on(node, &["ip", "-o", "link", "show"]);
        let ours = format!("alias {}: ", self.instance);
        left.extend(
            links.lines().filter(|line| line.contains(&ours)).map(|line| format!("a device is left: {line}")),
        );
        let tables = on(node, &["nft", "list", "tables"]);
        // Of a node that is the test's own, all of that name; of this machine, those of the instance.
        let name = if node.is_some() { "netloom" } else { self.instance.as_str() };
        left.extend(
            tables.lines().filter(|line| line.contains(name)).map(|line| format!("nftables: {line} is left")),
        );
        left
    }
}

/// The programs in the kernel that use one of these maps.
fn users(maps: &BTreeSet<u32>) -> BTreeSet<u32> {
    // One that goes while it is looked at is none.
    let programs = loaded_programs().flatten();
    let uses = |ids: Vec<u32>| ids.iter().any(|id| maps.contains(id));
    programs
        .filter(|program| program.map_ids().ok().flatten().is_some_and(uses))
        .map(|program| program.id())
        .collect()
}

/// What the kernel says of a pinned object.
fn describe(pin: &Path) -> Option<String> {
    let object = bpf::obj_get(pin).ok()?;
    fs::read_to_string(format!("/proc/self/fdinfo/{}", object.as_raw_fd())).ok()
}

fn number(described: &str, name: &str) -> Option<u32> {
    described.lines().find_map(|line| line.strip_prefix(name)).and_then(|number| number.trim().parse().ok())
}

/// All files below a folder; none if it is not there.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).map(|entries| entries.flatten().collect::<Vec<_>>());
    let paths = entries.unwrap_or_default().into_iter().map(|entry| entry.path());
    // What is mounted below is not the folder's.
    paths
        .flat_map(|path| if path.is_dir() && !path.ends_with("cgroup2") { files(&path) } else { vec![path] })
        .collect()
}

/// What a program writes in the namespace of a node; nothing where it or the namespace is not there.
fn on(node: Option<&Path>, words: &[&str]) -> String {
    let net = node.map(|node| format!("--net={}", node.display()));
    let enter: Vec<&str> = net.iter().flat_map(|net| ["nsenter", net.as_str(), "--"]).collect();
    let words = [enter.as_slice(), words].concat();
    // It also runs while a test fails, and does not panic then.
    let output =
        words.split_first().and_then(|(program, args)| Command::new(program).args(args).output().ok());
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}
