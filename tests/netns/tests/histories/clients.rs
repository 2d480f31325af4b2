//! The clients: each asks for one random thing after the other.

use std::sync::{Mutex, RwLock};

use netloom_api::{
    ClientError,
    types::{AttachAnswer, Attachment},
};
use netloom_core::model::Feature;
use netloom_netns_tests::{Node, ObjectFile};
use netloom_test_support::{Netns, kernel_has};
use serde_json::{Value, json};

use crate::history::{Answer, Event, History, Verb};

const ENDPOINTS: usize = 6;
const DEVICES: usize = 4;
const SERVICES: usize = 3;
/// Attachments at once: a chain has room for 64.
const ATTACHMENTS: usize = 24;

/// What the clients share.
pub(crate) struct World {
    /// Written to while the daemon is killed and started.
    pub(crate) node: RwLock<Node>,
    /// Where the endpoints are.
    insides: Vec<Netns>,
    /// Where the other ends of pairs go.
    peers: Netns,
    objects: [ObjectFile; 2],
    modes: Vec<&'static str>,
    /// Ids of attachments to the device `f0`, which is nobody's endpoint.
    attachments: Mutex<Vec<String>>,
}

impl World {
    pub(crate) fn new() -> Self {
        let node = Node::start();
        let peers = Netns::new("peers");
        node.netns.link("10.9.0.1/24").named("f0").to(&peers, "10.9.0.2/24");
        let insides = (0..ENDPOINTS).map(|n| Netns::new(&format!("e{n}"))).collect();
        let objects = [netloom_test_programs::OBSERVER, netloom_test_programs::PASS].map(ObjectFile::of);
        let mut modes = vec!["veth"];
        if kernel_has(Feature::NetkitLinks) {
            modes.extend(["netkit", "netkit-l2"]);
        }
        Self { node: RwLock::new(node), insides, peers, objects, modes, attachments: Mutex::default() }
    }

    /// One request, whose answer the history gets.
    pub(crate) fn ask(&self, random: &mut fastrand::Rng, history: &History) {
        history.count();
        match random.u8(..100) {
            0..40 => self.ask_of_endpoint(random, history),
            40..60 => self.ask_of_device(random, history),
            60..85 => self.ask_of_attachment(random, history),
            85..97 => self.ask_of_service(random, history),
            _ => self.rebalance(random),
        }
    }

    fn ask_of_endpoint(&self, random: &mut fastrand::Rng, history: &History) {
        let number = random.usize(..ENDPOINTS);
        let name = format!("e{number}");
        let route = format!("/v1/endpoints/{name}");
        let object = Object { world: self, history, name: format!("endpoint {name}") };
        match random.u8(..12) {
            0..4 => {
                let spec = json!({ "name": name, "netns": self.insides[number].path() });
                object.asks(Verb::Add, "add", &|node| node.add(spec.clone()).map(drop));
            }
            4..7 => object.asks(Verb::Delete, "delete", &|node| node.delete(&name).map(drop)),
            7 => object.asks(Verb::Use, "show", &|node| node.daemon.get::<Value>(&route).map(drop)),
            8 => {
                let mtu = json!({ "mtu": random.u32(1_300..9_000) });
                object.asks(Verb::Use, "change", &|node| node.daemon.patch::<Value>(&route, &mtu).map(drop));
            }
            9 => {
                let mode = self.modes[random.usize(..self.modes.len())];
                // Where there is one mode, another hardware address asks for another pair; L3 has none.
                let migration = if self.modes.len() > 1 {
                    json!({ "mode": mode })
                } else {
                    json!({ "mode": mode, "mac": format!("02:00:00:00:00:{:02x}", random.u8(..)) })
                };
                let route = format!("{route}/migrate");
                object.asks(Verb::Use, "migrate", &|node| {
                    node.daemon.post::<Value>(&route, &migration).map(drop)
                });
            }
            _ => {
                let attach = json!({ "device": "", "endpoint": name, "object": self.objects[0].path(), "owner": "flows" });
                object.asks(Verb::Use, "attach", &|node| node.attach(attach.clone()).map(drop));
            }
        }
    }

    fn ask_of_device(&self, random: &mut fastrand::Rng, history: &History) {
        let name = format!("d{}", random.usize(..DEVICES));
        let route = format!("/v1/devices/{name}");
        let object = Object { world: self, history, name: format!("device {name}") };
        match random.u8(..5) {
            0..2 => {
                let pair = json!({
                    "name": name, "mode": "veth", "peer": format!("i{name}"), "peer_netns": self.peers.path(),
                });
                object.asks(Verb::Add, "create", &|node| {
                    node.daemon.post::<Value>("/v1/devices", &pair).map(drop)
                });
            }
            2..4 => {
                object.asks(Verb::Delete, "delete", &|node| node.daemon.delete::<Value>(&route).map(drop));
            }
            _ => {
                let mtu = json!({ "mtu": random.u32(1_300..9_000) });
                object.asks(Verb::Use, "change", &|node| node.daemon.patch::<Value>(&route, &mtu).map(drop));
            }
        }
    }

    fn ask_of_attachment(&self, random: &mut fastrand::Rng, history: &History) {
        let known = self.attachments.lock().unwrap().clone();
        let id = random.choice(&known).cloned();
        let Some(id) = id.filter(|_| random.bool() || known.len() > ATTACHMENTS) else {
            return self.attach(random, history);
        };
        let object = Object { world: self, history, name: format!("attachment {id}") };
        let route = format!("/v1/attachments/{id}");
        let post = |path: &str, body: Value| {
            object.asks(Verb::Use, path, &|node| {
                node.daemon.post::<Value>(&format!("{route}/{path}"), &body).map(drop)
            });
        };
        match random.u8(..6) {
            0 => post("migrate", json!({ "to": if random.bool() { "tc" } else { "auto" } })),
            1 => post("update", json!({ "object": self.objects[random.usize(..2)].path() })),
            _ => {
                object.asks(Verb::Delete, "detach", &|node| node.daemon.delete::<Value>(&route).map(drop));
                self.attachments.lock().unwrap().retain(|known| *known != id);
            }
        }
    }

    fn attach(&self, random: &mut fastrand::Rng, history: &History) {
        let node = self.node.read().unwrap();
        let began = history.now();
        let request = json!({
            "device": "f0",
            "object": self.objects[random.usize(..2)].path(),
            "owner": format!("owner-{}", random.u8(..3)),
            "priority": random.i32(-5..5),
            "mode": if random.bool() { "tc" } else { "auto" },
        });
        let answer: Result<AttachAnswer, ClientError> = node.attach(request);
        let Attachment { id, .. } = match answer {
            Ok(answer) => answer.attachment,
            Err(error) => {
                assert_eq!(answer_of::<()>(&Err(error)), Answer::None);
                return;
            }
        };
        let event = Event::new(Verb::Add, Answer::Done, began, Some(history.now()), "attach");
        history.add(format!("attachment {id}"), event);
        self.attachments.lock().unwrap().push(id);
    }

    fn ask_of_service(&self, random: &mut fastrand::Rng, history: &History) {
        let number = random.usize(..SERVICES);
        let name = format!("s{number}");
        let route = format!("/v1/services/{name}");
        let object = Object { world: self, history, name: format!("service {name}") };
        match random.u8(..4) {
            0 => {
                let body = json!({
                    "name": name, "vip": format!("198.18.77.{number}:80"), "protocol": "tcp",
                    "backends": ["192.0.2.9:80"],
                });
                object.asks(Verb::Add, "add", &|node| {
                    node.daemon.post::<Value>("/v1/services", &body).map(drop)
                });
            }
            1 => object.asks(Verb::Delete, "delete", &|node| node.daemon.delete::<Value>(&route).map(drop)),
            _ => object.asks(Verb::Use, "show", &|node| node.daemon.get::<Value>(&route).map(drop)),
        }
    }

    fn rebalance(&self, random: &mut fastrand::Rng) {
        let node = self.node.read().unwrap();
        let body = if random.bool() {
            json!({ "device": "f0" })
        } else {
            json!({ "endpoint": format!("e{}", random.usize(..ENDPOINTS)) })
        };
        let _ = answer_of(&node.daemon.post::<Value>("/v1/chains/rebalance", &body));
    }
}

/// What a request is about.
struct Object<'a> {
    world: &'a World,
    history: &'a History,
    name: String,
}

impl Object<'_> {
    /// Asks for something, and has the history hear of the answer.
    fn asks(&self, verb: Verb, what: &str, ask: &dyn Fn(&Node) -> Result<(), ClientError>) {
        // The daemon is not started between the asking and the answer.
        let node = self.world.node.read().unwrap();
        let began = self.history.now();
        let outcome = ask(&node);
        let answer = answer_of(&outcome);
        let ended = (answer != Answer::None).then(|| self.history.now());
        drop(node);
        // This name is wanted by somebody else, too.
        if self.name != "device d0" {
            let text = outcome.err().map_or_else(|| what.to_owned(), |error| format!("{what}: {error}"));
            self.history.add(self.name.as_str(), Event::new(verb, answer, began, ended, &text));
        }
    }
}

/// What an answer says of the object.
fn answer_of<T: std::fmt::Debug>(outcome: &Result<T, ClientError>) -> Answer {
    match outcome {
        Ok(_) => Answer::Done,
        Err(ClientError::Refused { status, body }) => match status.as_u16() {
            404 | 409 if body.error.contains("asked for later") => Answer::Overtaken,
            404 => Answer::Missing,
            409 => Answer::Taken,
            _ => panic!("{status} {body:?}"),
        },
        Err(ClientError::Connect { .. } | ClientError::Transport { .. }) => Answer::None,
        Err(other) => panic!("{other}"),
    }
}
