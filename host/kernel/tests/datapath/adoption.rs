//! What a daemon that starts again finds.

use aya::maps::{HashMap, MapData};
use netloom_core::model::{AttachmentKind, DeviceMode, IfIndex, Protocol, ServiceId};
use netloom_kernel::datapath::{Datapath, DatapathError, EndpointConfig, MapSizes};

use crate::{
    node::{Pins, SIZES, v4, v6},
    services::service,
};

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
        host_mac: None,
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
fn a_map_of_another_size_is_refused_with_the_configurations_key() {
    let pins = Pins::new();
    drop(pins.datapath());
    let error = Datapath::open(&pins.0, MapSizes { services: 5, ..SIZES }).unwrap_err();
    assert!(matches!(error, DatapathError::Size { found: 4, wanted: 5, .. }), "{error}");
    assert!(error.to_string().contains("datapath.max_services"), "{error}");
    drop(pins.datapath());
}

#[test]
fn a_map_of_another_layout_is_refused() {
    let pins = Pins::new();
    let folder = pins.0.join("maps");
    std::fs::create_dir_all(&folder).unwrap();
    let foreign: HashMap<MapData, [u8; 16], [u8; 12]> = HashMap::create(32, 0).unwrap();
    foreign.pin(folder.join("nl_endpoints")).unwrap();
    let error = Datapath::open(&pins.0, SIZES).unwrap_err();
    assert!(matches!(error, DatapathError::Layout { .. }), "{error}");
    assert!(error.to_string().contains("values of 12"), "{error}");
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
        host_mac: None,
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
