//! `netloom service …` and `backend …`

use std::net::SocketAddr;

use netloom_api::types::{ReapReport, Service, ServiceView, ServicesApplied};
use netloom_netns_tests::Node;
use serde_json::Value;

use crate::session::{Covered, Session, both};

pub(crate) const COVERS: &[Covered] = &[
    both("backend add"),
    both("backend list"),
    both("backend remove"),
    both("backend weight"),
    both("service add"),
    both("service apply"),
    both("service list"),
    both("service remove"),
    both("service show"),
];

#[test]
fn services_and_backends_come_are_changed_and_go_and_clients_notice() {
    let node = Node::start();
    let netloom = Session::on(&node, COVERS);
    let (client, server) = (node.endpoint("client"), node.endpoint("server"));
    let echoes = [8080, 8081].map(|port| server.netns.tcp_echo(&format!("{}:{port}", server.v4())));
    let [one, two] = [&echoes[0], &echoes[1]].map(|echo| echo.address().to_string());
    let accepted = || [echoes[0].accepted(), echoes[1].accepted()];
    let shop: SocketAddr = "10.96.51.10:80".parse().unwrap();
    let connect = |vip: SocketAddr| client.netns.try_connect_tcp(vip).map(|mut it| it.exchange("hello"));
    assert!(connect(shop).is_err());

    let said = netloom.table("service add", &format!("shop {shop}/tcp --backend {one}"));
    assert!(said.contains("shop") && said.contains(&one), "{said}");
    assert_eq!((connect(shop).unwrap().as_str(), accepted()), ("hello", [1, 0]));
    let dns: Service =
        netloom.json("service add", "dns [fd00:96::1]:53/udp --backend [fd00:1::2]:53 --choice maglev");
    assert_eq!(dns.backends, ["[fd00:1::2]:53".parse().unwrap()]);

    let added: Service = netloom.json("backend add", &format!("shop {two} --weight 3"));
    assert_eq!(added.backends.len(), 2);
    netloom.table("backend weight", &format!("shop {one} 0"));
    for _ in 0..5 {
        connect(shop).unwrap();
    }
    assert_eq!(accepted(), [1, 5], "a drained backend gets connections");
    let weighed: Service = netloom.json("backend weight", &format!("shop {one} 1"));
    assert_eq!(weighed.backends.len(), 2);
    let listed: Value = netloom.json("backend list", "shop");
    assert_eq!((listed[0]["weight"].as_u64(), listed[1]["weight"].as_u64()), (Some(1), Some(3)), "{listed}");
    let said = netloom.table("backend list", "");
    assert!([one.as_str(), &two, "[fd00:1::2]:53"].iter().all(|backend| said.contains(backend)), "{said}");

    let listed: Vec<Service> = netloom.json("service list", "");
    assert_eq!(listed.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["dns", "shop"]);
    let said = netloom.table("service list", "");
    assert!(said.contains("10.96.51.10:80/tcp") && said.contains("[fd00:96::1]:53/udp"), "{said}");
    let view: ServiceView = netloom.json("service show", "shop");
    assert_eq!((view.connected, view.refused), (6, 0));
    assert!(netloom.table("service show", "shop").contains("Connects"));

    // A file of services that has one more, and not this one.
    let mut wanted =
        vec![listed[1].clone(), Service { vip: "10.96.51.11:80".parse().unwrap(), ..listed[1].clone() }];
    wanted[1].name = "copy".parse().unwrap();
    netloom.write("services.json", serde_json::to_string(&wanted).unwrap());
    let dry: ServicesApplied = netloom.json("service apply", "services.json --prune --dry-run");
    assert_eq!((dry.added.len(), dry.removed.len(), dry.unchanged), (1, 1, 1));
    assert_eq!(node.status().services.len(), 2);
    assert!(connect("10.96.51.11:80".parse().unwrap()).is_err(), "a dry run changed something");
    let said = netloom.table("service apply", "services.json --prune");
    assert!(said.contains("Added 1: copy.") && said.contains("Removed 1: dns."), "{said}");
    assert_eq!(connect("10.96.51.11:80".parse().unwrap()).unwrap(), "hello");

    // What is removed loses its clients.
    let cut = client.netns.blocked_reader("10.96.51.11:80".parse().unwrap());
    let report: ReapReport = netloom.json("service remove", "copy");
    assert_eq!(report.sockets.len(), 1, "{report:?}");
    assert!(cut.end_within(crate::SOON).is_some(), "it is cut");
    assert!(netloom.table("backend add", "shop 10.0.0.9:8080 --weight 0").contains("10.0.0.9:8080"));
    netloom.table("backend weight", &format!("shop {two} 0"));
    let cut = client.netns.blocked_reader(shop);
    let said = netloom.table("backend remove", &format!("shop {one}"));
    assert!(said.contains("1 destroyed"), "{said}");
    assert!(cut.end_within(crate::SOON).is_some(), "it is cut");
    let report: ReapReport = netloom.json("backend remove", &format!("shop {two}"));
    assert_eq!(report.sockets.len(), 0, "{report:?}");
    assert!(netloom.table("service remove", "shop").contains("Removed service shop"));
    assert!(connect(shop).is_err());
    assert!(node.status().services.is_empty());
}
