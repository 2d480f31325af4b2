//! What it takes to place, attach and pin a program in a chain, and to update one, beside the bare system calls.

mod many;

use std::{
    os::fd::{AsFd, OwnedFd},
    time::Instant,
};

use anyhow::Context as _;
use netloom_api::types::{AttachAnswer, Done};
use netloom_kernel::mounts;
use netloom_sys::bpf::{self, AttachType, Position};
use netloom_test_support::{Daemon, DaemonOptions, Netns};
use serde_json::json;

use crate::{
    measure::{Samples, in_turn},
    report::Report,
};

/// Samples of each kind.
const ROUNDS: usize = 40;
const POINT: AttachType = AttachType::TCX_INGRESS;

/// The bench `attach`.
pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    for length in [0, 8, 62] {
        let node = Node::start(length)?;
        let (mut api, mut load, mut commit) = (Samples::default(), Samples::default(), Samples::default());
        let ours = || {
            let attached = node.attach("bench")?;
            api.push(attached.request);
            load.push(attached.phases.load);
            commit.push(attached.phases.commit);
            node.detach(&attached.answer.attachment.id)?;
            Ok(attached.phases.place + attached.phases.pin)
        };
        let (ours, bare) = in_turn(ROUNDS, ours, || node.bare_attach())?;
        report.compare(&format!("attach_{length}"), "µs", &ours, &bare);
        if length == 8 {
            report.state("attach_api", "µs", &api);
            report.state("attach_load", "µs", &load);
            report.state("attach_commit", "µs", &commit);
            update(report, &node)?;
        }
    }
    many::endpoints(report)?;
    many::services(report)
}

fn update(report: &mut Report, node: &Node) -> anyhow::Result<()> {
    let id = node.attach("bench")?.answer.attachment.id;
    let request = json!({ "object": node.object() });
    let ours = || {
        let before = node.phases()?;
        let _: AttachAnswer = node.daemon.post(&format!("/v1/attachments/{id}/update"), &request)?;
        Ok(node.phases()?.since(&before).update)
    };
    let (ours, bare) = in_turn(ROUNDS, ours, || node.bare_update())?;
    report.compare("update_8", "µs", &ours, &bare);
    Ok(())
}

/// A node with a device for netloomd and one for the bare calls, each with as many programs on it already.
struct Node {
    daemon: Daemon,
    netns: Netns,
    folder: tempfile::TempDir,
    bpffs: tempfile::TempDir,
    bare: u32,
    _chain: Vec<OwnedFd>,
}

/// Microseconds, as the daemon's metrics have them: each a sum over all that was done so far.
#[derive(Clone, Copy, Default)]
struct Phases {
    load: f64,
    place: f64,
    pin: f64,
    commit: f64,
    update: f64,
}

impl Phases {
    fn since(&self, before: &Self) -> Self {
        Self {
            load: self.load - before.load,
            place: self.place - before.place,
            pin: self.pin - before.pin,
            commit: self.commit - before.commit,
            update: self.update - before.update,
        }
    }
}

struct Attached {
    answer: AttachAnswer,
    phases: Phases,
    /// From the request to its answer.
    request: f64,
}

impl Node {
    fn start(length: usize) -> anyhow::Result<Self> {
        let netns = Netns::new("attach");
        for device in ["ours", "bare"] {
            let peer = format!("{device}-peer");
            netns.ip(&["link", "add", device, "type", "veth", "peer", "name", &peer]);
        }
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("observer.bpf.o"), netloom_test_programs::OBSERVER)?;
        let bpffs = tempfile::tempdir()?;
        mounts::ensure_bpffs(bpffs.path())?;
        let node = Some(netns.path());
        let config = Some("[log]\nfilter = \"warn\"\n[attachments]\nwatch_ms = 0\n".to_owned());
        let daemon = Daemon::start(DaemonOptions { node, config, ..DaemonOptions::default() });
        let shown = netns.ip(&["-o", "link", "show", "bare"]);
        let bare = shown.split(':').next().context("a link has an index")?.trim().parse()?;
        let chain = (0..length)
            .map(|number| {
                let program = bpf::load_next(&format!("bare{number}"))?;
                netns.run(|| bpf::link_create(program.as_fd(), bare, POINT, Position::Tail, None))
            })
            .collect::<Result<_, _>>()?;
        let node = Self { daemon, netns, folder, bpffs, bare, _chain: chain };
        for number in 0..length {
            node.attach(&format!("acme/program-{number}"))?;
        }
        Ok(node)
    }

    fn object(&self) -> std::path::PathBuf {
        self.folder.path().join("observer.bpf.o")
    }

    fn attach(&self, owner: &str) -> anyhow::Result<Attached> {
        let request =
            json!({ "device": "ours", "object": self.object(), "owner": owner, "point": "tcx-ingress" });
        let before = self.phases()?;
        let began = Instant::now();
        let answer = self.daemon.post("/v1/attachments", &request)?;
        let request = began.elapsed().as_secs_f64() * 1e6;
        Ok(Attached { answer, phases: self.phases()?.since(&before), request })
    }

    fn detach(&self, id: &str) -> anyhow::Result<()> {
        let _: Done = self.daemon.delete(&format!("/v1/attachments/{id}"))?;
        Ok(())
    }

    fn phases(&self) -> anyhow::Result<Phases> {
        let text = self.daemon.text("/metrics")?;
        let sum = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.parse::<f64>().ok()).unwrap_or_default() * 1e6
        };
        let phase = |phase: &str| sum(&format!("netloom_attach_phase_seconds_sum{{phase=\"{phase}\"}}"));
        Ok(Phases {
            load: phase("load"),
            place: phase("place"),
            pin: phase("pin"),
            commit: sum("netloom_commit_seconds_sum"),
            update: phase("update"),
        })
    }

    /// The microseconds of attaching and pinning a program that is loaded.
    fn bare_attach(&self) -> anyhow::Result<f64> {
        let program = bpf::load_next("bare")?;
        let pin = self.bpffs.path().join("bare");
        let taken = self.netns.run(|| -> std::io::Result<f64> {
            let began = Instant::now();
            let link = bpf::link_create(program.as_fd(), self.bare, POINT, Position::Head, None)?;
            bpf::obj_pin(link.as_fd(), &pin)?;
            let taken = began.elapsed();
            leave(&link)?;
            Ok(taken.as_secs_f64() * 1e6)
        })?;
        std::fs::remove_file(&pin)?;
        Ok(taken)
    }

    /// The microseconds of updating a pinned link, with both programs pinned before, as whoever wants to survive a crash
    /// has to.
    fn bare_update(&self) -> anyhow::Result<f64> {
        let (old, new) = (bpf::load_next("old")?, bpf::load_next("new")?);
        let (folder, pin) = (self.bpffs.path().join("update"), self.bpffs.path().join("link"));
        let id = bpf::program_info(old.as_fd())?.id;
        let taken = self.netns.run(|| -> std::io::Result<f64> {
            let link = bpf::link_create(old.as_fd(), self.bare, POINT, Position::Head, None)?;
            bpf::obj_pin(link.as_fd(), &pin)?;
            let began = Instant::now();
            std::fs::create_dir(&folder)?;
            let old = bpf::program_by_id(id)?;
            bpf::obj_pin(old.as_fd(), &folder.join("old"))?;
            bpf::obj_pin(new.as_fd(), &folder.join("new"))?;
            let link = bpf::obj_get(&pin)?;
            bpf::link_update(link.as_fd(), new.as_fd(), Some(old.as_fd()))?;
            let taken = began.elapsed();
            leave(&link)?;
            Ok(taken.as_secs_f64() * 1e6)
        })?;
        std::fs::remove_dir_all(&folder)?;
        std::fs::remove_file(&pin)?;
        Ok(taken)
    }
}

/// Takes a program off its chain at once. Left to the kernel, that is done some time after the last descriptor is
/// closed, and keeps whoever comes next waiting for the lock of all devices.
fn leave(link: &OwnedFd) -> std::io::Result<()> {
    bpf::link_detach(link.as_fd())
}

impl Drop for Node {
    fn drop(&mut self) {
        // Its folder cannot be removed otherwise.
        let _ = rustix::mount::unmount(self.bpffs.path(), rustix::mount::UnmountFlags::DETACH);
    }
}
