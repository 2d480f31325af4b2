use super::*;
use crate::model::{Name, NetnsCookie, NetnsId};

fn namespace(place: NamespacePlace) -> Namespace {
    Namespace { id: NetnsId { device: 4, inode: 1 }, cookie: NetnsCookie(1), place }
}

fn endpoint(name: &str) -> Namespace {
    namespace(NamespacePlace::Endpoint {
        name: Name::new(name).unwrap(),
        path: format!("/run/netns/{name}").into(),
    })
}

fn pattern(text: &str) -> Pattern {
    text.parse().unwrap()
}

#[test]
fn a_pattern_is_a_name_or_has_one_star() {
    for (text, name, wanted) in [
        ("eth0", "eth0", true),
        ("eth0", "eth01", false),
        ("eth*", "eth", true),
        ("eth*", "beth", false),
        ("*/flows", "acme/flows", true),
        ("a*a", "a", false),
        ("a*b", "a--b", true),
        ("*", "", true),
    ] {
        assert_eq!(pattern(text).matches(name), wanted, "{text} {name}");
    }
    assert!("a*b*".parse::<Pattern>().is_err());
    assert!("".parse::<Pattern>().is_err());
}

#[test]
fn a_namespace_is_covered_by_what_it_is_and_not_by_its_path_alone() {
    let (node, web) = (namespace(NamespacePlace::Node), endpoint("web"));
    let named = namespace(NamespacePlace::Named { path: "/run/netns/blue".into() });
    let cases = [
        ("*", [true, true, true]),
        ("node", [true, false, false]),
        ("endpoint:*", [false, true, false]),
        ("endpoint:db*", [false, false, false]),
        ("/run/netns/blue", [false, false, true]),
        ("/run/netns/web", [false, false, false]),
    ];
    for (text, wanted) in cases {
        let scope: NamespaceScope = text.parse().unwrap();
        assert_eq!([&node, &web, &named].map(|each| scope.covers(each)), wanted, "{text}");
        assert_eq!(scope.to_string(), text);
    }
    assert!("blue".parse::<NamespaceScope>().unwrap_err().to_string().contains("endpoint:NAME"));
}

#[test]
fn ports_are_single_or_ranges() {
    let range: PortRange = "8000-8999".parse().unwrap();
    assert_eq!([7_999, 8_000, 8_999, 9_000].map(|port| range.contains(port)), [false, true, true, false]);
    for bad in ["9-8", "x", "1-70000", ""] {
        assert!(bad.parse::<PortRange>().is_err(), "{bad}");
    }
}

#[test]
fn a_socket_outside_the_known_namespaces_is_covered_by_everything_only() {
    let grant = |namespaces: &[&str]| SocketGrant {
        access: Access::Read,
        namespaces: namespaces.iter().map(|text| text.parse().unwrap()).collect(),
        ports: vec!["443".parse().unwrap()],
    };
    assert!(grant(&["*"]).covers(None, 443));
    assert!(!grant(&["node", "endpoint:*"]).covers(None, 443));
    assert!(grant(&["endpoint:web"]).covers(Some(&endpoint("web")), 443));
    assert!(!grant(&["endpoint:web"]).covers(Some(&endpoint("web")), 80));
}

#[test]
fn a_grant_that_leaves_a_kind_of_object_out_is_refused() {
    let text = r#"{ "links": { "access": "mutate", "interfaces": ["*"], "namespaces": ["node"] } }"#;
    assert!(serde_json::from_str::<Grants>(text).unwrap_err().to_string().contains("owners"));
    let error = serde_json::from_str::<Grants>(r#"{ "sokets": {} }"#).unwrap_err().to_string();
    assert!(error.contains("sokets"), "{error}");
}

#[test]
fn grants_survive_the_store_and_read_well() {
    let grants = Grants::everything(Grant::Links, Access::Mutate)
        .and(Grants::everything(Grant::Sockets, Access::Read));
    let text = serde_json::to_string(&grants).unwrap();
    assert_eq!(serde_json::from_str::<Grants>(&text).unwrap(), grants);
    assert_eq!(grants.to_string(), "links: mutate * in * for *\nsockets: read ports * in *");
    assert_eq!(grants.iter().collect::<Vec<_>>(), [Grant::Links, Grant::Sockets]);
}
