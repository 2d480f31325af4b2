//! What a daemon that starts again finds.

use std::os::fd::OwnedFd;

use aya::maps::{HashMap, MapData};
use netloom_core::model::{AttachmentKind, DeviceMode, IfIndex, Protocol, ServiceId};
use netloom_kernel::{
    bindings::Bindings,
    datapath::{Datapath, DatapathError, EndpointConfig, MapSizes},
};

use crate::{
    node::{Pins, SIZES, v4, v6},
    services::service,
};

fn map_id(map: OwnedFd) -> u32 {
    MapData::from_fd(map).unwrap().info().unwrap().id()
}

#[test]
fn maps_survive_a_restart() {
    let pins = Pins::new();
    let datapath = pins.datapath();
    let endpoint = EndpointConfig {
        id: 3,
        mode: DeviceMode::Veth,
        attachment: AttachmentKind::Tc,
        mtu: 1500,
        host_ifindex: IfIndex(42),
        mac: None,
        gateway_mac: None,
        addresses: vec![v4(3), v6(3)],
    };
    datapath.set_endpoint(&endpoint).unwrap();
    datapath.set_service(ServiceId(1), &service("10.96.0.1:80", Protocol::Tcp, &["10.1.0.3:80"])).unwrap();
    let (addresses, services) = (datapath.addresses().unwrap(), datapath.services().unwrap());
    drop(datapath);

    let datapath = pins.datapath();
    assert_eq!(datapath.addresses().unwrap(), addresses);
    assert_eq!(addresses[0].address, v4(3));
    assert_eq!((addresses[0].id, addresses[0].host_ifindex), (3, IfIndex(42)));
    assert_eq!(datapath.services().unwrap(), services);
    assert_eq!(services[0].backends, ["10.1.0.3:80".parse().unwrap()]);
}

#[test]
fn maps_of_another_size_are_made_anew_with_what_they_held() {
    let pins = Pins::new();
    let datapath = pins.datapath();
    let web = service("10.96.0.1:80", Protocol::Tcp, &["10.1.0.3:80", "10.1.0.4:80"]);
    datapath.set_service(ServiceId(7), &web).unwrap();
    let storage = |datapath: &Datapath| {
        let bindings = Bindings::open(&datapath.maps_dir()).unwrap();
        let (number, storage) = bindings.storage((web.backends[0], Protocol::Tcp)).unwrap().unwrap();
        (number, map_id(storage))
    };
    let (services, bound) = (datapath.services().unwrap(), storage(&datapath));
    drop(datapath);

    let larger = MapSizes {
        endpoints: 16,
        services: 9,
        backends: 32,
        affinities: 32,
        udp_exchanges: 64,
        local_flows: 64,
    };
    for sizes in [larger, SIZES] {
        let datapath = Datapath::open(&pins.0, sizes).unwrap();
        assert_eq!(datapath.services().unwrap(), services);
        assert_eq!(storage(&datapath), bound, "sockets that are bound stay bound");
        assert!(!datapath.bindings_lost());
        let fill = datapath.fill().unwrap();
        let of = |map| fill.iter().find(|fill| fill.map == map).map(|fill| (fill.entries, fill.size));
        assert_eq!(of("nl_services"), Some((1, sizes.services)));
        assert_eq!(of("nl_backends"), Some((2, sizes.backends)));
        let left: Vec<_> = std::fs::read_dir(datapath.maps_dir()).unwrap().collect();
        assert!(left.iter().all(|pin| !pin.as_ref().unwrap().file_name().to_string_lossy().contains("old")));
    }
}

#[test]
fn a_map_that_cannot_hold_what_it_held_is_refused_and_nothing_is_lost() {
    let pins = Pins::new();
    let datapath = pins.datapath();
    for number in 1..=2 {
        let vip = format!("10.96.0.{number}:80");
        datapath.set_service(ServiceId(number), &service(&vip, Protocol::Tcp, &["10.1.0.3:80"])).unwrap();
    }
    let services = datapath.services().unwrap();
    drop(datapath);
    let error = Datapath::open(&pins.0, MapSizes { services: 1, ..SIZES }).unwrap_err();
    assert!(error.to_string().contains("datapath.max_services"), "{error}");
    assert_eq!(pins.datapath().services().unwrap(), services);
}

#[test]
fn a_map_of_another_layout_is_made_anew() {
    let pins = Pins::new();
    let folder = pins.0.join("maps");
    std::fs::create_dir_all(&folder).unwrap();
    let pin = |name: &str| {
        let other: HashMap<MapData, [u8; 16], [u8; 12]> = HashMap::create(32, 0).unwrap();
        other.pin(folder.join(name)).unwrap();
    };
    pin("nl_endpoints");
    pin("nl_of_another_version");
    let datapath = pins.datapath();
    assert!(datapath.addresses().unwrap().is_empty() && !datapath.bindings_lost());
    assert!(!folder.join("nl_of_another_version").exists());
    drop(datapath);

    std::fs::remove_file(folder.join("nl_bound_slots")).unwrap();
    pin("nl_bound_slots");
    assert!(pins.datapath().bindings_lost());
    assert!(!pins.datapath().bindings_lost(), "it was told once");
}

#[test]
fn a_folder_elsewhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = Datapath::open(folder.path(), SIZES).unwrap_err();
    assert!(matches!(error, DatapathError::NotBpffs { .. }), "{error}");
}

#[test]
fn removed_pins_are_noticed() {
    let pins = Pins::new();
    let datapath = pins.datapath();
    let endpoint = EndpointConfig {
        id: 3,
        mode: DeviceMode::Veth,
        attachment: AttachmentKind::Tc,
        mtu: 1500,
        host_ifindex: IfIndex(42),
        mac: None,
        gateway_mac: None,
        addresses: vec![v4(3)],
    };
    let programs = datapath.endpoint_programs(&endpoint).unwrap();
    assert!(datapath.runs_on_these_maps(&programs.from_endpoint));
    assert!(datapath.runs_on_these_maps(&programs.to_endpoint));

    for map in ["nl_endpoints", "nl_counters"] {
        std::fs::remove_file(pins.0.join("maps").join(map)).unwrap();
    }
    let error = datapath.endpoint_programs(&endpoint).unwrap_err();
    assert!(matches!(error, DatapathError::Unpinned { .. }), "{error}");

    let restarted = pins.datapath();
    assert!(!restarted.runs_on_these_maps(&programs.from_endpoint));
    assert!(!restarted.runs_on_these_maps(&programs.to_endpoint));
    restarted.endpoint_programs(&endpoint).unwrap();
}
