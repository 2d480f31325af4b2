//! The tables of services, without traffic.

use std::{collections::BTreeSet, net::SocketAddr};

use aya::maps::{HashMap, Map, MapData};
use netloom_core::model::{Name, Protocol, Service, ServiceId, Weight};
use netloom_ebpf::layout;
use netloom_kernel::datapath::{Datapath, DatapathError, MapSizes};

use crate::node::{Pins, SIZES};

pub(crate) fn service(vip: &str, protocol: Protocol, backends: &[&str]) -> Service {
    let mut service = Service::new(Name::new("web").unwrap(), vip.parse().unwrap(), protocol);
    service.backends.extend(backends.iter().map(|backend| backend.parse::<SocketAddr>().unwrap()));
    service
}

const WEB: ServiceId = ServiceId(1);
const DNS: ServiceId = ServiceId(2);

fn backends_of(datapath: &Datapath, id: ServiceId) -> BTreeSet<SocketAddr> {
    let services = datapath.services().unwrap();
    services
        .into_iter()
        .find(|entry| entry.id == id)
        .map(|entry| entry.backends.into_iter().collect())
        .unwrap()
}

fn addresses(backends: &[&str]) -> BTreeSet<SocketAddr> {
    backends.iter().map(|backend| backend.parse().unwrap()).collect()
}

#[test]
fn services_are_set_changed_listed_and_removed() {
    let pins = Pins::new();
    let datapath = pins.datapath();
    let vip = "10.96.0.1:80";
    for backends in [
        &["10.1.0.1:80", "10.1.0.2:80", "10.1.0.3:80"][..],
        &["10.1.0.3:80"],
        &["10.1.0.4:80", "10.1.0.3:80"],
        &[],
        &["10.1.0.5:80"],
    ] {
        datapath.set_service(WEB, &service(vip, Protocol::Tcp, backends)).unwrap();
        assert_eq!(backends_of(&datapath, WEB), addresses(backends));
    }
    datapath.set_service(DNS, &service("[fd00::53]:53", Protocol::Udp, &["[fd00::1]:53"])).unwrap();
    let all = datapath.services().unwrap();
    assert_eq!(all.iter().map(|entry| entry.id).collect::<Vec<_>>(), [WEB, DNS]);
    assert_eq!((all[1].vips[0], all[1].protocol), ("[fd00::53]:53".parse().unwrap(), Protocol::Udp));

    datapath.remove_service(WEB).unwrap();
    datapath.remove_service(WEB).unwrap();
    assert_eq!(datapath.services().unwrap().len(), 1);
}

#[test]
fn a_backend_has_as_many_choices_as_its_weight_says() {
    let pins = Pins::new();
    let datapath = pins.datapath();
    let choices = |weights: &[u32]| {
        let mut service = service("10.96.0.1:80", Protocol::Tcp, &["10.1.0.1:80", "10.1.0.2:80"]);
        for (backend, weight) in service.backends.clone().into_iter().zip(weights) {
            service.set_weight(backend, Weight::try_from(*weight).unwrap());
        }
        datapath.set_service(WEB, &service).unwrap();
        let mut choices = datapath.services().unwrap().remove(0).backends;
        choices.sort_unstable();
        choices.into_iter().map(|backend| backend.to_string()).collect::<Vec<_>>()
    };
    let [first, second] = ["10.1.0.1:80", "10.1.0.2:80"];
    assert_eq!(choices(&[1, 3]), [first, second, second, second]);
    assert_eq!(choices(&[60, 30]), [first, first, second]);
    assert_eq!(choices(&[0, 30]), [second]);
    assert_eq!(choices(&[0, 0]), [""; 0]);
    assert_eq!(choices(&[1, 1]), [first, second]);
    // More than the map holds: the service is as it was.
    let mut many = service("10.96.0.1:80", Protocol::Tcp, &[first, second]);
    many.set_weight(first.parse().unwrap(), Weight::try_from(99).unwrap());
    let error = datapath.set_service(WEB, &many).unwrap_err();
    assert!(error.to_string().contains("datapath.max_backends"), "{error}");
    assert_eq!(backends_of(&datapath, WEB), addresses(&[first, second]));
}

#[test]
fn bad_services_are_refused() {
    let pins = Pins::new();
    let datapath = pins.datapath();
    let vip = "10.96.0.1:80";
    let error = datapath.set_service(WEB, &service(vip, Protocol::Tcp, &["[fd00::1]:80"])).unwrap_err();
    assert!(matches!(error, DatapathError::Family { .. }), "{error}");
    datapath.set_service(WEB, &service(vip, Protocol::Tcp, &["[::ffff:10.1.0.1]:80"])).unwrap();
    assert_eq!(backends_of(&datapath, WEB), addresses(&["10.1.0.1:80"]));
    let error = datapath.set_service(DNS, &service(vip, Protocol::Tcp, &[])).unwrap_err();
    assert!(matches!(error, DatapathError::VipTaken { owner: 1, .. }), "{error}");
    datapath.set_service(DNS, &service(vip, Protocol::Udp, &[])).unwrap();
}

#[test]
fn a_full_map_names_its_configuration_and_leaves_the_rest_alone() {
    let pins = Pins::new();
    let datapath = pins.datapath();
    let few = ["10.1.0.1:1", "10.1.0.1:2"];
    datapath.set_service(WEB, &service("10.96.0.1:80", Protocol::Tcp, &few)).unwrap();
    let many: Vec<_> = (1..=SIZES.backends + 1).map(|port| format!("10.1.0.1:{port}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let error = datapath.set_service(WEB, &service("10.96.0.1:80", Protocol::Tcp, &many)).unwrap_err();
    assert!(error.to_string().contains("datapath.max_backends"), "{error}");
    assert_eq!(backends_of(&datapath, WEB), addresses(&few));
    // The room the failed change had taken is free again.
    datapath.set_service(DNS, &service("10.96.0.2:80", Protocol::Tcp, &many[..14])).unwrap();

    for number in 3..=SIZES.services {
        let vip = format!("10.96.0.{number}:80");
        datapath.set_service(ServiceId(number), &service(&vip, Protocol::Tcp, &[])).unwrap();
    }
    let error =
        datapath.set_service(ServiceId(99), &service("10.96.0.99:80", Protocol::Tcp, &[])).unwrap_err();
    assert!(error.to_string().contains("datapath.max_services"), "{error}");
}

#[test]
fn what_an_interrupted_change_left_is_swept_up() {
    let pins = Pins::new();
    let datapath = pins.datapath();
    datapath.set_service(WEB, &service("10.96.0.1:80", Protocol::Tcp, &["10.1.0.1:80"])).unwrap();
    drop(datapath);

    let data = MapData::from_pin(pins.0.join("maps/nl_backends")).unwrap();
    let map = Map::from_map_data(data).unwrap();
    let mut backends: HashMap<_, [u8; layout::BackendKey::SIZE], [u8; layout::Backend::SIZE]> =
        map.try_into().unwrap();
    for (service, slot) in [(WEB.0, 1), (DNS.0, 0)] {
        let value = layout::Backend::new("10.1.0.9:80".parse().unwrap(), service);
        backends.insert(layout::BackendKey { service, slot }.to_bytes(), value.to_bytes(), 0).unwrap();
    }
    assert_eq!(backends.keys().count(), 3);

    let datapath = pins.datapath();
    assert_eq!(backends.keys().count(), 1);
    assert_eq!(backends_of(&datapath, WEB), addresses(&["10.1.0.1:80"]));
}

#[test]
fn ten_thousand_services_fit() {
    let pins = Pins::new();
    let sizes = MapSizes { services: 10_000, backends: 20_000, ..SIZES };
    let datapath = Datapath::open(&pins.0, sizes).unwrap();
    for number in 0..10_000u16 {
        let vip = SocketAddr::from(([10, 96, 0, 1], 10_000 + number));
        let backends = [1, 2].map(|host| SocketAddr::from(([10, 1, 0, host], number)));
        let service =
            Service { vip, backends: backends.to_vec(), ..service("10.96.0.1:80", Protocol::Tcp, &[]) };
        datapath.set_service(ServiceId(number.into()), &service).unwrap();
    }
    assert_eq!(datapath.services().unwrap().len(), 10_000);
}
