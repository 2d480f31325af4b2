use std::path::Path;

use netloom_api::{
    Client,
    types::{DeviceRequest, DeviceView, PairChange},
};

use super::attachment::done;
use crate::{
    args::{DeviceCommand, DeviceCreate, DeviceSet},
    failure::Failure,
    output::Output,
    route::encoded,
};

pub(super) async fn run(client: &Client, command: DeviceCommand, output: &Output) -> Result<(), Failure> {
    match command {
        DeviceCommand::List { netns } => {
            let route = format!("/v1/devices{}", query(netns.as_deref()));
            output.show(client.get::<Vec<DeviceView>>(&route).await?.as_slice())
        }
        DeviceCommand::Show { name, netns } => {
            let route = format!("/v1/devices/{}{}", encoded(&name), query(netns.as_deref()));
            output.show(&client.get::<DeviceView>(&route).await?)
        }
        DeviceCommand::Create(args) => {
            output.show(&client.post::<DeviceView>("/v1/devices", &request(*args)).await?)
        }
        DeviceCommand::Set(DeviceSet { name, change, up, down }) => {
            let up = if up || down { Some(up) } else { None };
            let change = PairChange { up, ..change.change() };
            let route = format!("/v1/devices/{}", encoded(&name));
            output.show(&client.patch::<DeviceView>(&route, &change).await?)
        }
        DeviceCommand::Delete { name } => {
            done(output, &client.delete(&format!("/v1/devices/{}", encoded(&name))).await?)
        }
    }
}

fn query(netns: Option<&Path>) -> String {
    netns.map_or_else(String::new, |path| format!("?netns={}", encoded(path.display())))
}

fn request(args: DeviceCreate) -> DeviceRequest {
    DeviceRequest {
        name: args.name,
        mode: args.mode,
        peer: args.peer,
        peer_netns: args.peer_netns,
        addresses: args.addresses,
        mac: args.mac,
        peer_mac: args.peer_mac,
        mtu: args.pair.mtu,
        primary_policy: args.pair.policy,
        peer_policy: args.pair.peer_policy,
        scrub: args.scrub,
        peer_scrub: args.peer_scrub,
        headroom: args.headroom,
        tailroom: args.tailroom,
        gso_max_size: args.pair.gso_max_size,
        gro_max_size: args.pair.gro_max_size,
        gso_ipv4_max_size: args.pair.gso_ipv4_max_size,
        gro_ipv4_max_size: args.pair.gro_ipv4_max_size,
        tx_queues: args.tx_queues,
        rx_queues: args.rx_queues,
        alias: args.alias,
    }
}
