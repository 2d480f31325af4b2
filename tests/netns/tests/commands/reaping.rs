//! `netloom reap` and `sockets …`

use netloom_api::types::{Fate, ReapReport, SocketView};
use netloom_netns_tests::Node;

use crate::{
    SOON,
    session::{Covered, Session, both},
};

pub(crate) const COVERS: &[Covered] =
    &[both("reap"), both("sockets"), both("sockets destroy"), both("sockets list")];

#[test]
fn bound_sockets_are_listed_reaped_and_destroyed() {
    let node = Node::start();
    let netloom = Session::on(&node, COVERS);
    let (client, server) = (node.endpoint("client"), node.endpoint("server"));
    let echo = server.netns.tcp_echo(&format!("{}:8080", server.v4()));
    let backend = echo.address().to_string();
    node.service("shop", "10.96.52.10:80", "tcp", std::slice::from_ref(&backend));
    let vip = "10.96.52.10:80".parse().unwrap();

    let reader = client.netns.blocked_reader(vip);
    let local = reader.local().to_string();
    for sockets in [
        netloom.json::<Vec<SocketView>>("sockets", ""),
        netloom.json("sockets list", &format!("--backend {backend} --endpoint client")),
    ] {
        let shown: Vec<String> = sockets.iter().map(|it| it.socket.local.to_string()).collect();
        assert_eq!(shown, [local.as_str()], "{sockets:?}");
    }
    for said in [netloom.table("sockets", ""), netloom.table("sockets list", "--service shop")] {
        assert!(said.contains(&local) && said.contains("client"), "{said}");
    }
    let fates = |report: ReapReport| report.sockets.into_iter().map(|it| it.fate).collect::<Vec<_>>();
    assert_eq!(fates(netloom.json("reap", &format!("{backend} --dry-run"))), [Fate::WouldDestroy]);
    assert_eq!(fates(netloom.json("sockets destroy", "--service shop --dry-run")), [Fate::WouldDestroy]);
    assert!(reader.end_within(std::time::Duration::from_millis(50)).is_none(), "a dry run cut it");

    let said = netloom.table("reap", &backend);
    assert!(said.contains("1 destroyed"), "{said}");
    assert!(reader.end_within(SOON).is_some(), "it was not cut");
    let reader = client.netns.blocked_reader(vip);
    let said = netloom.table("sockets destroy", "--endpoint client --service shop");
    assert!(said.contains("1 destroyed"), "{said}");
    assert!(reader.end_within(SOON).is_some(), "it was not cut");
    let left: Vec<SocketView> = netloom.json("sockets list", "");
    assert!(left.is_empty(), "{left:?}");
}
