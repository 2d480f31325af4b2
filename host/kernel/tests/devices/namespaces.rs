use std::{
    fs,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use netloom_kernel::netns::{self, Found, Netns};
use netloom_test_support::require_tool;
use rustix::mount::{UnmountFlags, mount_bind, unmount};

/// One look around at a time: while a test lists namespaces, it holds all of them open.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn found(netns: &Netns) -> Option<Found> {
    netns::all().unwrap().into_iter().find(|found| found.netns == *netns)
}

#[test]
fn the_node_itself_is_found_once_under_its_processes() {
    let _alone = alone();
    let here = Netns::current().unwrap();
    let all = netns::all().unwrap();
    let own: Vec<_> = all.iter().filter(|found| found.netns == here).collect();
    assert_eq!(own.len(), 1);
    assert_eq!(own[0].cookie, here.cookie().unwrap());
    assert!(own[0].names.iter().any(|name| name.starts_with("/proc")), "{:?}", own[0].names);
}

#[test]
fn one_held_by_nothing_but_a_descriptor_is_found() {
    let _alone = alone();
    let netns = Netns::create().unwrap();
    let found = found(&netns).expect("found through /proc/PID/fd");
    // Ours, or that of a process that looks around at this very moment, and holds open what it found.
    let of_a_descriptor =
        |name: &PathBuf| name.starts_with("/proc") && name.parent().unwrap().ends_with("fd");
    assert!(found.names.len() == 1 && found.names.iter().all(of_a_descriptor), "{:?}", found.names);
    assert_eq!(netns::by_cookie(found.cookie), Some(netns));
}

#[test]
fn one_held_by_nothing_but_a_bind_mount_is_found() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    // With a space: the mount table escapes it.
    let point = directory.path().join("a namespace");
    fs::write(&point, "").unwrap();
    let netns = Netns::create().unwrap();
    let path = format!("/proc/self/fd/{}", netns.fd().as_raw_fd());
    let mounted = Mounted::bind(Path::new(&path), &point);
    let id = netns.id();
    drop(netns);

    let all = netns::all().unwrap();
    let found = all.iter().find(|found| found.netns.id() == id).expect("found through mountinfo");
    assert_eq!(found.names, [point]);
    drop(mounted);
}

struct Mounted(PathBuf);

impl Mounted {
    fn bind(source: &Path, target: &Path) -> Self {
        mount_bind(source, target).unwrap();
        Self(target.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn one_in_another_mount_namespace_is_found_without_entering_that() {
    if !require_tool("unshare", "it is in Debian's util-linux") {
        return;
    }
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let point = directory.path().join("hidden");
    fs::write(&point, "").unwrap();
    let netns = Netns::create().unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), netns.fd().as_raw_fd());
    // A process of its own, whose mounts nobody else sees; it says when it is ready and waits to be told to end.
    let script = format!(
        "mount --make-rprivate / && mount --bind {path} '{}' && echo ready && read _",
        point.display()
    );
    let mut child = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut ready)
        .unwrap();
    let id = netns.id();
    drop(netns);

    let all = netns::all().unwrap();
    let found = all.iter().find(|found| found.netns.id() == id);
    drop(child.stdin.take());
    child.wait().unwrap();

    assert_eq!(ready, "ready\n");
    let names = &found.expect("found through another process's mountinfo").names;
    assert!(names[0].starts_with("/proc") && names[0].ends_with("hidden"), "{names:?}");
}

#[test]
fn one_of_a_single_thread_is_found() {
    let _alone = alone();
    let netns = Netns::create().unwrap();
    let inside = netns.clone();
    let (ready, wait) = mpsc::channel();
    let (leave, stay) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        inside.run(move || {
            ready.send(()).unwrap();
            let _ = stay.recv();
        })
    });
    wait.recv().unwrap();
    let found = found(&netns).unwrap();
    drop(leave);
    thread.join().unwrap().unwrap();
    assert!(found.names.iter().any(|name| name.to_string_lossy().contains("/task/")), "{:?}", found.names);
}

#[test]
fn one_that_only_a_socket_keeps_is_found_by_its_cookie() {
    let _alone = alone();
    let netns = Netns::create().unwrap();
    let cookie = netns.cookie().unwrap();
    let socket = netns.run(|| std::net::UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    drop(netns);

    let found = netns::by_cookie(cookie).expect("found by its socket");
    assert_eq!(found.cookie().unwrap(), cookie);
    drop((found, socket));
}

#[test]
fn many_are_found_in_one_walk_and_gone_ones_are_left_out() {
    let _alone = alone();
    let gone = Netns::create().unwrap().cookie().unwrap();
    let held = [Netns::create().unwrap(), Netns::create().unwrap()];
    let kept = Netns::create().unwrap();
    let (cookie, socket) =
        (kept.cookie().unwrap(), kept.run(|| std::net::UdpSocket::bind("0.0.0.0:0")).unwrap());
    drop(kept);

    let wanted = held.iter().map(|netns| netns.cookie().unwrap()).chain([gone, cookie]);
    let found = netns::by_cookies(wanted);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(held.iter().all(|netns| found.get(&netns.cookie().unwrap()) == Some(netns)));
    assert!(found.contains_key(&cookie) && !found.contains_key(&gone));
    drop((found, socket));
}

#[test]
fn one_that_is_gone_is_not_remembered() {
    let _alone = alone();
    let netns = Netns::create().unwrap();
    let cookie = netns.cookie().unwrap();
    assert_eq!(netns::by_cookie(cookie).as_ref(), Some(&netns));
    assert_eq!(netns::by_cookie(cookie).as_ref(), Some(&netns), "the second time from memory");
    drop(netns);
    assert_eq!(netns::by_cookie(cookie), None);
}

#[test]
fn a_closure_runs_inside_and_may_borrow() {
    let _alone = alone();
    let netns = Netns::create().unwrap();
    let mut seen = None;
    let here = Netns::current().unwrap();
    netns.run(|| seen = Some(Netns::current().unwrap())).unwrap();
    assert_eq!(seen.as_ref(), Some(&netns));
    assert_eq!(Netns::current().unwrap(), here, "the caller stayed where it was");
    assert_ne!(netns.cookie().unwrap(), here.cookie().unwrap());
}

#[test]
fn a_name_whose_mount_is_gone_is_no_namespace() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let stale = directory.path().join("stale");
    fs::write(&stale, "").unwrap();
    let error = Netns::open(&stale).unwrap_err().to_string();
    assert!(error.contains("is not a network namespace"), "{error}");
}

/// A namespace with a name.
struct Named(String);

impl Named {
    fn new(name: &str) -> Self {
        let name = format!("nlt-{}-{name}", std::process::id());
        assert!(Command::new("ip").args(["netns", "add", &name]).status().unwrap().success());
        Self(name)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

#[test]
fn the_index_follows_names_without_a_walk() {
    let _alone = alone();
    netns::keep_up_to_date().unwrap();
    let comes_to = |cookie, known| {
        (0..200).any(|_| {
            thread::sleep(Duration::from_millis(50));
            netns::knows(cookie) == known
        })
    };
    let named = Named::new("index");
    let netns = Netns::open(&Path::new("/run/netns").join(&named.0)).unwrap();
    let cookie = netns.cookie().unwrap();
    assert!(comes_to(cookie, true), "a name came, and the index did not notice");
    // Other tests look for namespaces of their own meanwhile.
    let without_a_walk = (0..50).any(|_| {
        let walks = netns::status().walks;
        assert_eq!(netns::by_cookie(cookie).as_ref(), Some(&netns));
        netns::status().walks == walks
    });
    assert!(without_a_walk, "it was known, and looked for nevertheless");
    drop((named, netns));
    assert!(comes_to(cookie, false), "a namespace is gone, and the index has it still");
}
