//! A node whose chains are as long as a bench wants them, and what attaching there takes.

use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    time::Instant,
};

use anyhow::Context as _;
use netloom_api::types::{AttachAnswer, Done};
use netloom_kernel::mounts;
use netloom_sys::bpf::{self, AttachType, Position};
use netloom_test_support::{Daemon, DaemonOptions, Netns};
use serde_json::json;

const POINT: AttachType = AttachType::TCX_INGRESS;

/// A node with a device for netloomd and one for the bare calls, each with as many programs on it already.
pub(super) struct Node {
    daemon: Daemon,
    netns: Netns,
    folder: tempfile::TempDir,
    bpffs: tempfile::TempDir,
    bare: u32,
    _chain: Vec<OwnedFd>,
}

/// Microseconds, as the daemon's metrics have them: each a sum over all that was done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Phases {
    pub(super) load: f64,
    pub(super) read: f64,
    pub(super) decide: f64,
    pub(super) attach: f64,
    pub(super) pin: f64,
    pub(super) update: f64,
    pub(super) commit: f64,
}

impl Phases {
    /// Of the text of `/metrics`. A phase that nothing was measured of has taken no time.
    fn parse(text: &str) -> Self {
        let sum = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.parse::<f64>().ok()).unwrap_or_default() * 1e6
        };
        let phase = |phase: &str| sum(&format!("netloom_attach_phase_seconds_sum{{phase=\"{phase}\"}}"));
        Self {
            load: phase("load"),
            read: phase("read"),
            decide: phase("decide"),
            attach: phase("attach"),
            pin: phase("pin"),
            update: phase("update"),
            commit: sum("netloom_commit_seconds_sum"),
        }
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            load: self.load - before.load,
            read: self.read - before.read,
            decide: self.decide - before.decide,
            attach: self.attach - before.attach,
            pin: self.pin - before.pin,
            update: self.update - before.update,
            commit: self.commit - before.commit,
        }
    }

    /// From the chain that is read to the program that is pinned.
    pub(super) fn all(&self) -> f64 {
        self.read + self.decide + self.attach + self.pin
    }
}

/// What an attachment took, in microseconds.
pub(super) struct Attached {
    pub(super) id: String,
    pub(super) phases: Phases,
    /// From the request to its answer.
    pub(super) request: f64,
    /// Of the daemon's CPU time, in user space and in the kernel.
    pub(super) cpu: f64,
}

impl Node {
    pub(super) fn start(length: usize) -> anyhow::Result<Self> {
        let netns = Netns::new("attach");
        for device in ["ours", "bare"] {
            let peer = format!("{device}-peer");
            netns.ip(&["link", "add", device, "type", "veth", "peer", "name", &peer]);
        }
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("observer.bpf.o"), netloom_test_programs::OBSERVER)?;
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

    fn object(&self) -> PathBuf {
        self.folder.path().join("observer.bpf.o")
    }

    pub(super) fn attach(&self, owner: &str) -> anyhow::Result<Attached> {
        let request =
            json!({ "device": "ours", "object": self.object(), "owner": owner, "point": "tcx-ingress" });
        let (before, cpu) = (self.phases()?, self.cpu()?);
        let began = Instant::now();
        let answer: AttachAnswer = self.daemon.post("/v1/attachments", &request)?;
        let request = began.elapsed().as_secs_f64() * 1e6;
        let cpu = self.cpu()? - cpu;
        Ok(Attached { id: answer.attachment.id, phases: self.phases()?.since(&before), request, cpu })
    }

    /// The same, and off again.
    pub(super) fn attach_for_a_moment(&self) -> anyhow::Result<Attached> {
        let attached = self.attach("bench")?;
        let _: Done = self.daemon.delete(&format!("/v1/attachments/{}", attached.id))?;
        Ok(attached)
    }

    /// The microseconds of putting another program in the place of an attachment's.
    pub(super) fn update(&self, id: &str) -> anyhow::Result<f64> {
        let before = self.phases()?;
        let request = json!({ "object": self.object() });
        let _: AttachAnswer = self.daemon.post(&format!("/v1/attachments/{id}/update"), &request)?;
        Ok(self.phases()?.since(&before).update)
    }

    fn phases(&self) -> anyhow::Result<Phases> {
        Ok(Phases::parse(&self.daemon.text("/metrics")?))
    }

    /// The microseconds of CPU time that the daemon's threads took so far.
    fn cpu(&self) -> anyhow::Result<f64> {
        let tasks = format!("/proc/{}/task", self.daemon.pid().context("it runs")?);
        let mut nanoseconds = 0.0;
        for task in fs::read_dir(&tasks).with_context(|| format!("reading {tasks}"))? {
            // A thread may have ended meanwhile.
            let Ok(times) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            nanoseconds += on_cpu(&times).with_context(|| format!("not a schedstat: {times}"))?;
        }
        Ok(nanoseconds / 1e3)
    }

    /// The microseconds of attaching and pinning a program that is loaded.
    pub(super) fn bare_attach(&self) -> anyhow::Result<f64> {
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
        fs::remove_file(&pin)?;
        Ok(taken)
    }

    /// The microseconds of updating a pinned link, with both programs pinned before, as whoever wants to survive a crash
    /// has to.
    pub(super) fn bare_update(&self) -> anyhow::Result<f64> {
        let (old, new) = (bpf::load_next("old")?, bpf::load_next("new")?);
        let (folder, pin) = (self.bpffs.path().join("update"), self.bpffs.path().join("link"));
        let id = bpf::program_info(old.as_fd())?.id;
        let taken = self.netns.run(|| -> std::io::Result<f64> {
            let link = bpf::link_create(old.as_fd(), self.bare, POINT, Position::Head, None)?;
            bpf::obj_pin(link.as_fd(), &pin)?;
            let began = Instant::now();
            fs::create_dir(&folder)?;
            let old = bpf::program_by_id(id)?;
            bpf::obj_pin(old.as_fd(), &folder.join("old"))?;
            bpf::obj_pin(new.as_fd(), &folder.join("new"))?;
            let link = bpf::obj_get(&pin)?;
            bpf::link_update(link.as_fd(), new.as_fd(), Some(old.as_fd()))?;
            let taken = began.elapsed();
            leave(&link)?;
            Ok(taken.as_secs_f64() * 1e6)
        })?;
        fs::remove_dir_all(&folder)?;
        fs::remove_file(&pin)?;
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

/// The nanoseconds on a CPU of a thread's schedstat, the first of its numbers.
fn on_cpu(schedstat: &str) -> Option<f64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = "\
# HELP netloom_attach_phase_seconds What it takes
netloom_attach_phase_seconds_sum{phase=\"read\"} 0.000030
netloom_attach_phase_seconds_count{phase=\"read\"} 1
netloom_attach_phase_seconds_sum{phase=\"decide\"} 0.000010
netloom_attach_phase_seconds_sum{phase=\"attach\"} 0.012
netloom_commit_seconds_sum 0.001
";

    #[test]
    fn a_decision_is_told_apart_from_the_grace_period_of_the_kernel() {
        let slow = METRICS.replace("0.000010", "0.001010");
        let phases = Phases::parse(&slow).since(&Phases::parse(METRICS));
        assert!((phases.decide - 1_000.0).abs() < 1e-6, "{phases:?}");
        assert!(phases.read.abs() < 1e-6 && phases.attach.abs() < 1e-6, "{phases:?}");
    }

    #[test]
    fn what_attaching_takes_is_all_its_phases_but_loading_and_committing() {
        let phases = Phases::parse(METRICS);
        assert!((phases.all() - 12_040.0).abs() < 1e-6, "{phases:?}");
        assert!((phases.commit - 1_000.0).abs() < 1e-6, "{phases:?}");
    }

    #[test]
    fn the_time_on_a_cpu_is_the_first_number_of_a_schedstat() {
        assert_eq!(on_cpu("1234 56 7\n"), Some(1234.0));
        assert_eq!(on_cpu(""), None);
    }
}
