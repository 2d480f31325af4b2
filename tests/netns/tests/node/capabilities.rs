//! netloomd with the capabilities that docs/kernels.md names and no others, as in a container.

use std::{
    fs,
    io::{ErrorKind, Read as _},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::Duration,
};

use netloom_api::types::{Doctor, Fate, ReapReport};
use netloom_netns_tests::{Node, ObjectFile};
use netloom_test_support::{DaemonOptions, binary};
use serde_json::json;

/// The capabilities that the book says are enough.
fn of_the_book() -> Vec<String> {
    // The machines with other kernels have no book.
    let page = include_str!("../../../../docs/kernels.md");
    let rights = page.split("## Rights").nth(1).unwrap();
    let sentence = rights.split("root, or a container").next().unwrap();
    let words = sentence.split(|other: char| !other.is_ascii_uppercase() && other != '_');
    let named: Vec<String> =
        words.filter_map(|word| word.strip_prefix("CAP_")).map(str::to_ascii_lowercase).collect();
    assert!(named.contains(&"net_admin".to_owned()), "{named:?}");
    named
}

/// A netloomd that loses every capability but these before it begins.
fn bounded(folder: &Path, capabilities: &[String]) -> PathBuf {
    let kept: String = capabilities.iter().map(|name| format!(",+{name}")).collect();
    let path = folder.join("netloomd");
    let netloomd = binary("netloomd");
    let script = format!(
        "#!/bin/sh\nexec setpriv --bounding-set=-all{kept} --inh-caps=-all -- {} \"$@\"\n",
        netloomd.display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A process with every capability, in a network namespace that has no name.
struct Container(Child);

impl Container {
    fn start() -> Self {
        let child = Command::new("unshare").args(["--net", "sleep", "600"]).spawn().unwrap();
        let container = Self(child);
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        while fs::read_link(container.netns()).is_ok_and(|netns| netns == own) {
            thread::sleep(Duration::from_millis(5));
        }
        container
    }

    fn netns(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.0.id()).into()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        drop(self.0.kill().and_then(|()| self.0.wait()));
    }
}

#[test]
fn a_container_with_the_capabilities_of_the_book_does_everything() {
    let folder = tempfile::tempdir().unwrap();
    let program = bounded(folder.path(), &of_the_book());
    let mut node = Node::with(DaemonOptions { binary: Some(program), ..DaemonOptions::default() });
    let status = fs::read_to_string(format!("/proc/{}/status", node.daemon.pid().unwrap())).unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    let held = u64::from_str_radix(effective, 16).unwrap().count_ones() as usize;
    assert_eq!(held, of_the_book().len(), "{effective}");

    let (client, server) = (node.endpoint("client"), node.endpoint("server"));
    assert!(client.netns.can_ping(server.v4()) && client.netns.can_ping(server.v6()));
    assert!(client.netns.can_ping(Node::ADDRESS.parse::<std::net::IpAddr>().unwrap()));
    let object = ObjectFile::of(netloom_test_programs::OBSERVER);
    let request = json!({ "device": client.device(), "object": object.path(), "owner": "flows" });
    let attached = node.attach(request).unwrap().attachment;
    let echo = server.netns.tcp_echo(&format!("{}:8080", server.v4()));
    let vip: SocketAddr = "10.96.50.1:80".parse().unwrap();
    node.service("web", "10.96.50.1:80", "tcp", &[echo.address().to_string()]);
    let stale = client.netns.blocked_reader(vip);
    let container = Container::start();
    let path = container.netns();
    node.add(json!({ "name": "container", "netns": path })).unwrap();
    let mut hidden =
        netloom_kernel::netns::Netns::open(&path).unwrap().run(|| TcpStream::connect(vip)).unwrap().unwrap();
    node.daemon.kill9();
    node.daemon.restart();
    assert_eq!(node.status().adoption.dropped, Vec::<String>::new());
    assert_eq!(node.status().adoption.attachments, 7, "{:?}", node.status().adoption);
    let report: ReapReport = node.daemon.delete("/v1/services/web").unwrap();
    assert_eq!(report.sockets.len(), 2, "{report:?}");
    assert!(report.sockets.iter().all(|socket| socket.fate == Fate::Destroyed), "{report:?}");
    assert_eq!(hidden.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
    assert_eq!(stale.error_within(Duration::from_secs(10)).kind(), ErrorKind::ConnectionAborted);
    let _: netloom_api::types::Done =
        node.daemon.delete(&format!("/v1/attachments/{}", attached.id)).unwrap();
    let doctor: Doctor = node.daemon.get("/v1/doctor").unwrap();
    assert!(doctor.findings.iter().all(|finding| finding.severity != "error"), "{:?}", doctor.findings);
    for name in ["client", "server", "container"] {
        node.delete(name).unwrap();
    }
    assert_eq!(node.traces(), Vec::<String>::new());
}
