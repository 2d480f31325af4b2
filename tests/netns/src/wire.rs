use std::{path::PathBuf, thread, time::Duration};

use aya::maps::{Array, Map, MapData};
use netloom_api::types::{AttachAnswer, Attachment};
use netloom_test_support::{Arrivals, DaemonOptions, Netns, UdpReceiver, UdpSender, until};
use serde_json::{Value, json};

use crate::{Node, ObjectFile, Way};

/// A node with a device on which a stream of numbered datagrams arrives all the time, and programs that count how often
/// they meet each.
pub struct Wire {
    /// The node.
    pub node: Node,
    /// The device.
    pub device: String,
    /// Where the stream comes from.
    pub peer: Netns,
    /// The program.
    pub object: ObjectFile,
    receiver: UdpReceiver,
    sender: UdpSender,
}

/// What a program met of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Met {
    /// Datagrams sent from the time the program was attached.
    pub sent: u64,
    /// Never met.
    pub missed: Vec<u64>,
    /// Met more than once.
    pub repeated: Vec<u64>,
}

impl Wire {
    /// The device's address.
    pub const ADDRESS: &'static str = "10.9.0.1";
    /// That of its other end.
    const PEER: &'static str = "10.9.0.2";

    /// Starts the stream over a device `d0`; nothing is attached.
    pub fn start(config: Option<&str>) -> Self {
        Self::on(Way::Tcx, config)
    }

    /// Starts the stream over a device `d0` of a way's kind, such that programs attached there see it.
    pub fn on(way: Way, config: Option<&str>) -> Self {
        let config = config.map(str::to_owned);
        let node = Node::with(DaemonOptions { config, ..DaemonOptions::default() });
        let peer = Netns::new("peer");
        node.netns.link("10.9.0.1/24").of(way.device()).named("d0").to(&peer, "10.9.0.2/24");
        until(|| peer.can_ping(std::net::Ipv4Addr::new(10, 9, 0, 1)), |is_up| *is_up);
        let (from, to, address) = if way.is_outwards() {
            (&node.netns, &peer, Self::PEER)
        } else {
            (&peer, &node.netns, Self::ADDRESS)
        };
        let (receiver, sender) = stream(from, to, address);
        Self { node, device: "d0".to_owned(), peer, object: once(), receiver, sender }
    }

    /// Starts the stream from an endpoint `web` to the node, over the endpoint's device; the datapath is attached.
    pub fn from_endpoint() -> Self {
        let node = Node::start();
        let web = node.endpoint("web");
        let (device, peer) = (web.device().to_owned(), web.netns);
        let (receiver, sender) = stream(&peer, &node.netns, Node::ADDRESS);
        Self { node, device, peer, object: once(), receiver, sender }
    }

    /// Attaches the counting program to the device.
    pub fn attach(&self, owner: &str, more: Value) -> AttachAnswer {
        let mut request = json!({ "device": self.device, "object": self.object.path(), "owner": owner });
        if let (Some(request), Some(more)) = (request.as_object_mut(), more.as_object()) {
            request.extend(more.clone());
        }
        self.node.attach(request).expect("the program can be attached")
    }

    /// A number that is sent from now on: the next one may be under way already. It has been sent when this returns.
    pub fn mark(&self) -> u64 {
        let mark = self.sender.sent() + 1;
        while self.sender.sent() <= mark {
            thread::sleep(Duration::from_millis(2));
        }
        mark
    }

    /// Lets the stream run for so many datagrams more.
    pub fn run(&self, datagrams: u64) {
        let enough = self.sender.sent() + datagrams;
        while self.sender.sent() < enough {
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Where the map of what an attachment met is pinned.
    pub fn map(&self, attachment: &str) -> PathBuf {
        self.node.daemon.paths().bpffs.join("objects").join(attachment).join("met")
    }

    /// Ends the stream: what arrived, and for each attachment and the number it counts from, what it met.
    pub fn end(self, attachments: &[(String, u64)]) -> (Arrivals, Vec<Met>) {
        let paths: Vec<PathBuf> = attachments.iter().map(|(id, _)| self.map(id)).collect();
        let Self { node, sender, receiver, .. } = self;
        let sent = sender.stop();
        let arrivals = receiver.compare(sent, Duration::from_secs(10));
        let met = attachments.iter().zip(&paths).map(|((_, from), path)| {
            let map = MapData::from_pin(path).expect("the map is pinned");
            let map: Array<_, u32> = Map::Array(map).try_into().expect("it is an array");
            let mut met = Met { sent: sent - from, missed: Vec::new(), repeated: Vec::new() };
            for number in *from..sent {
                let times = map.get(&u32::try_from(number).expect("the stream is short"), 0);
                match times.expect("the map has a place for each number") {
                    0 => met.missed.push(number),
                    1 => {}
                    _ => met.repeated.push(number),
                }
            }
            met
        });
        let met = met.collect();
        drop(node);
        (arrivals, met)
    }

    /// The attachments there are.
    pub fn attachments(&self) -> Vec<Attachment> {
        self.node.daemon.get("/v1/attachments").expect("attachments are listed")
    }

    /// What moves and updates left behind: pins, and gates in chains.
    pub fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        for folder in ["moves", "updates"] {
            let folder = self.node.daemon.paths().bpffs.join(folder);
            let entries = std::fs::read_dir(&folder).map(|entries| entries.flatten().collect::<Vec<_>>());
            left.extend(entries.unwrap_or_default().iter().map(|entry| entry.path().display().to_string()));
        }
        let chains = self.node.chains(&self.device);
        let entries = chains.iter().flat_map(|chain| &chain.entries);
        left.extend(
            entries.filter(|entry| entry.name.starts_with("nl_gate_")).map(|entry| entry.name.clone()),
        );
        left
    }
}

fn stream(from: &Netns, to: &Netns, address: &str) -> (UdpReceiver, UdpSender) {
    let receiver = to.count_datagrams(&format!("{address}:7000"));
    let sender = from.send_datagrams(receiver.address(), Duration::from_micros(400));
    (receiver, sender)
}

/// The program that counts.
fn once() -> ObjectFile {
    ObjectFile::of(netloom_test_programs::ONCE)
}
