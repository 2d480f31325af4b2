//! Every struct in `layout` has the size, the fields and the offsets that the compiled programs' BTF has.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod btf;

use btf::Btf;
use netloom_ebpf::{DATAPATH, SOCKDESTROY, SOCKETS, SOCKLB, layout};

macro_rules! check {
    ($object:expr, $($c:literal = $rust:ty),* $(,)?) => {
        let btf = Btf::of($object);
        $(
            let (size, fields) = btf.structure($c);
            assert_eq!(<$rust>::SIZE, size, "size of {}", $c);
            let mirrored: Vec<_> =
                <$rust>::FIELDS.iter().map(|&(name, offset, size)| (name.to_owned(), offset, size)).collect();
            assert_eq!(mirrored, fields, "fields of {}", $c);
        )*
    };
}

#[test]
fn datapath_layouts_match() {
    check!(
        DATAPATH,
        "nl_endpoint" = layout::Endpoint,
        "nl_counters" = layout::Counters,
        "nl_config" = layout::Config,
        "nl_node" = layout::Node,
        "nl_route" = layout::Route,
        "nl_monitor" = layout::Monitor,
        "nl_event_rate" = layout::EventRate,
        "nl_event" = layout::Event,
    );
}

#[test]
fn socket_lb_layouts_match() {
    check!(
        SOCKLB,
        "nl_binding" = layout::Binding,
        "nl_bound_key" = layout::BoundKey,
        "nl_service_key" = layout::ServiceKey,
        "nl_service" = layout::Service,
        "nl_backend_key" = layout::BackendKey,
        "nl_backend" = layout::Backend,
        "nl_flow" = layout::Flow,
        "nl_flows" = layout::Flows,
        "nl_service_counters" = layout::ServiceCounters,
        "nl_client" = layout::Client,
        "nl_affinity" = layout::Affinity,
    );
}

#[test]
fn socket_iterator_layouts_match() {
    check!(SOCKETS, "nl_find" = layout::Find, "nl_found" = layout::Found,);
    check!(SOCKDESTROY, "nl_doomed" = layout::Doomed);
}

/// The names in one of the header's enums, in order. BTF has only the types of variables.
fn enumerators(name: &str) -> Vec<&'static str> {
    let header = include_str!("../src/bpf/netloom.h");
    let body = header.split_once(&format!("enum {name} {{")).unwrap().1.split_once('}').unwrap().0;
    body.lines().filter_map(|line| line.trim().strip_prefix("NL_")?.strip_suffix(',')).collect()
}

#[test]
fn enums_match() {
    let drops = enumerators("nl_drop");
    assert_eq!(drops.iter().position(|&name| name == "DROP_SPOOFED"), Some(layout::drop_reason::SPOOFED));
    assert_eq!(drops.iter().position(|&name| name == "DROP_MALFORMED"), Some(layout::drop_reason::MALFORMED));
    assert_eq!(
        drops.iter().position(|&name| name == "DROP_UNSUPPORTED"),
        Some(layout::drop_reason::UNSUPPORTED)
    );
    assert_eq!(drops.iter().position(|&name| name == "DROPS"), Some(layout::drop_reason::COUNT));

    let names = layout::drop_reason::NAMES.map(|name| format!("DROP_{}", name.to_uppercase()));
    assert_eq!(drops[..drops.len() - 1], names);

    let kinds = [
        format!("EVENT_DROP = {}", layout::event_kind::DROP),
        format!("EVENT_CONNECT = {}", layout::event_kind::CONNECT),
    ];
    assert_eq!(enumerators("nl_event_kind"), kinds);
    let directions = [
        format!("FROM_ENDPOINT = {}", layout::direction::FROM_ENDPOINT),
        format!("TO_ENDPOINT = {}", layout::direction::TO_ENDPOINT),
    ];
    assert_eq!(enumerators("nl_direction"), directions);

    let choices = [
        format!("CHOICE_RANDOM = {}", layout::choice::RANDOM),
        format!("CHOICE_HASH = {}", layout::choice::HASH),
    ];
    assert_eq!(enumerators("nl_choice"), choices);

    let modes = [
        format!("MODE_NETKIT = {}", layout::mode::NETKIT),
        format!("MODE_NETKIT_L2 = {}", layout::mode::NETKIT_L2),
        format!("MODE_VETH = {}", layout::mode::VETH),
    ];
    assert_eq!(enumerators("nl_mode"), modes);
}

#[test]
fn objects_are_aligned() {
    for object in [DATAPATH, SOCKDESTROY, SOCKETS, SOCKLB] {
        assert_eq!(object.as_ptr() as usize % 8, 0);
    }
}
