//! Guests written in Wasm text, small enough to misbehave in exactly one way, and snapshots to ask them about.

#![allow(dead_code)] // Each test file uses its own part.

use std::{path::Path, sync::Arc, time::Duration};

use netloom_core::{
    answer::{Answer, RawPlacement},
    model::{
        Backend, BoundSocket, Candidate, Capabilities, Chain, ChainEntry, Feature, Hook, HookPoint, IfIndex,
        Labels, Name, NetnsCookie, NetnsId, Owner, ProgramId, Protocol, ReapEvent, ReapReason, Revision,
        ServiceId, SocketCookie, SocketState, Support,
    },
};
use netloom_runtime::{
    CallError, HostConfig, Limits, LoadRequest, NodeFacts, Plugin, PluginHost, Supervision, Suspect,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// A guest's source: what it exports, and what each function does.
#[derive(Clone, Default)]
pub(crate) struct Guest {
    /// Wasm text in front of the functions: imports.
    pub(crate) imports: String,
    /// Wasm text behind them.
    pub(crate) extra: String,
    /// Bodies of `place`, `rebalance`: each is given `$args` and leaves a pointer.
    pub(crate) attach_order: Option<(String, String)>,
    /// Bodies of `init`, `health`: each leaves a pointer.
    pub(crate) lifecycle: Option<(String, String)>,
    /// Bodies of `plan`, `judge`, `judge-packed`.
    pub(crate) socket_reap: Option<(String, String, String)>,
    /// Pages of memory at the start.
    pub(crate) pages: u32,
}

/// Answers `place(tail)`.
pub(crate) const TAIL: &str = "(i32.store8 (i32.const 1024) (i32.const 0)) (i32.store8 (i32.const 1028) (i32.const 1)) (i32.const 1024)";
/// Answers `place(head)`.
pub(crate) const HEAD: &str = "(i32.store8 (i32.const 1024) (i32.const 0)) (i32.store8 (i32.const 1028) (i32.const 0)) (i32.const 1024)";
/// Answers with the second case: `abstain`, `keep`.
pub(crate) const ONE: &str = "(i32.store8 (i32.const 1024) (i32.const 1)) (i32.const 1024)";
/// Answers `ok`.
pub(crate) const OK: &str = "(i32.store8 (i32.const 1024) (i32.const 0)) (i32.const 1024)";
/// Never returns.
pub(crate) const LOOP: &str = "(loop (br 0)) (unreachable)";

/// Answers with a discriminant and a text behind it.
pub(crate) fn text_answer(discriminant: u32, text: &str) -> String {
    let len = text.len();
    let bytes: String = text
        .bytes()
        .enumerate()
        .map(|(at, byte)| format!("(i32.store8 (i32.const {}) (i32.const {byte}))", 2048 + at))
        .collect();
    format!(
        "{bytes} (i32.store8 (i32.const 1024) (i32.const {discriminant})) (i32.store (i32.const 1028) (i32.const 2048)) \
         (i32.store (i32.const 1032) (i32.const {len})) (i32.const 1024)"
    )
}

/// Answers `veto` with a reason.
pub(crate) fn veto(reason: &str) -> String {
    text_answer(2, reason)
}

impl Guest {
    /// A guest that orders chains.
    pub(crate) fn placing(place: &str) -> Self {
        Self { attach_order: Some((place.to_owned(), ONE.to_owned())), ..Self::default() }
    }

    /// The same with a life of its own.
    pub(crate) fn living(mut self, init: &str, health: &str) -> Self {
        self.lifecycle = Some((init.to_owned(), health.to_owned()));
        self
    }

    /// The component.
    pub(crate) fn build(&self) -> Vec<u8> {
        let mut functions = String::new();
        let mut exports = String::new();
        let mut export = |interface: &str, parts: &[(&str, &str, &str)]| {
            exports.push_str(&format!("export netloom:policy/{interface}@0.1.0;\n"));
            for (name, params, body) in parts {
                functions.push_str(&format!(
                    "(func (export \"netloom:policy/{interface}@0.1.0#{name}\") {params} (result i32) \
                     (global.set $top (i32.const 65536)) {body})\n"
                ));
            }
        };
        if let Some((place, rebalance)) = &self.attach_order {
            let params = "(param $args i32)";
            export("attach-order", &[("place", params, place), ("rebalance", params, rebalance)]);
        }
        if let Some((init, health)) = &self.lifecycle {
            export("lifecycle", &[("init", "(param i32 i32)", init), ("health", "", health)]);
        }
        if let Some((plan, judge, packed)) = &self.socket_reap {
            let plan_params = "(param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)";
            let judge_params = "(param $reason i32) (param i32 i32) (param $sockets i32) (param $count i32)";
            export(
                "socket-reap",
                &[
                    ("plan", plan_params, plan),
                    ("judge", judge_params, judge),
                    ("judge-packed", judge_params, packed),
                ],
            );
        }
        let Self { imports, extra, pages, .. } = self;
        let pages = (*pages).max(2);
        let text = format!(
            "(module {imports}
               (memory (export \"memory\") {pages})
               (global $top (mut i32) (i32.const 65536))
               (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) (local $at i32)
                 (local.set $at (i32.and (i32.add (global.get $top) (i32.const 15)) (i32.const -16)))
                 (global.set $top (i32.add (local.get $at) (local.get 3)))
                 (if (i32.gt_u (global.get $top) (i32.mul (memory.size) (i32.const 65536)))
                   (then (drop (memory.grow (i32.const 100)))))
                 (local.get $at))
               {functions} {extra})"
        );
        let mut module = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));

        let mut resolve = Resolve::default();
        let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
        resolve.push_dir(wit.join("kernel")).unwrap();
        resolve.push_dir(wit.join("policy")).unwrap();
        let world = format!(
            "package test:guest;\nworld guest {{ include netloom:policy/ambient@0.1.0; \
             include netloom:policy/operations@0.1.0;\n{exports} }}"
        );
        let package = resolve.push_str("guest.wit", &world).unwrap();
        let world = resolve.select_world(&[package], Some("guest")).unwrap();
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
        ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
    }
}

/// Supervision that lets a test fail a plugin often without waiting.
pub(crate) fn patient() -> HostConfig {
    HostConfig {
        limits: Limits { host_calls: 2_000, ..Limits::default() },
        supervision: Supervision {
            first_backoff: Duration::ZERO,
            longest_backoff: Duration::ZERO,
            failures: 1_000,
            window: Duration::from_secs(60),
        },
        ..HostConfig::default()
    }
}

pub(crate) fn host() -> PluginHost {
    PluginHost::new(patient()).unwrap()
}

/// A host for tests that load the machine: the deadline is not what they are about.
pub(crate) fn leisurely() -> PluginHost {
    let limits = Limits { deadline: Duration::from_secs(30), ..patient().limits };
    PluginHost::new(HostConfig { limits, ..patient() }).unwrap()
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn request(text: &str, component: Vec<u8>) -> LoadRequest {
    LoadRequest::new(name(text), component)
}

pub(crate) async fn load(host: &PluginHost, text: &str, guest: &Guest) -> Arc<Plugin> {
    Arc::new(host.load(request(text, guest.build())).await.unwrap())
}

pub(crate) fn capabilities() -> Capabilities {
    let there = || Support { available: true, detail: "tried".to_owned() };
    Capabilities {
        kernel: "6.18.0".to_owned(),
        features: Feature::ALL.into_iter().map(|feature| (feature, there())).collect(),
    }
}

pub(crate) fn node(capabilities: &Capabilities) -> NodeFacts<'_> {
    NodeFacts { name: "node-1", capabilities }
}

pub(crate) fn chain(owners: &[Option<(&str, i32)>]) -> Chain {
    let entry = |(at, owner): (usize, &Option<(&str, i32)>)| ChainEntry {
        program: ProgramId(100 + at as u32),
        link: None,
        name: format!("prog{at}"),
        tag: "0123456789abcdef".to_owned(),
        filter: None,
        attachment: owner.map(|(owner, _)| format!("{owner}-{at}")),
        owner: owner.map(|(owner, _)| Owner::new(owner).unwrap()),
        priority: owner.map(|(_, priority)| priority),
        labels: Labels::new(),
    };
    Chain {
        hook: Hook {
            netns: NetnsId { device: 4, inode: 4_026_531_840 },
            device: "eth0".to_owned(),
            ifindex: IfIndex(2),
            point: HookPoint::TcxIngress,
        },
        revision: Revision(7),
        entries: owners.iter().enumerate().map(entry).collect(),
    }
}

pub(crate) fn candidate(owner: &str) -> Candidate {
    Candidate {
        owner: Owner::new(owner).unwrap(),
        name: "prog".to_owned(),
        tag: "0123456789abcdef".to_owned(),
        priority: 0,
        labels: Labels::new(),
        required: false,
    }
}

/// Asks for a place in an empty chain.
pub(crate) async fn place(plugin: &Plugin) -> Result<Answer<RawPlacement>, CallError> {
    plugin.place(node(&capabilities()), &chain(&[]), &candidate("acme/probe")).await
}

pub(crate) fn event(addresses: &[&str]) -> ReapEvent {
    let backend = |address: &&str| Backend {
        address: address.parse().unwrap(),
        protocol: Protocol::Tcp,
        service: name("web"),
    };
    ReapEvent { reason: ReapReason::Removed, backends: addresses.iter().map(backend).collect() }
}

pub(crate) fn socket(cookie: u64, backend: &str) -> BoundSocket {
    let backend = backend.parse().unwrap();
    BoundSocket {
        cookie: SocketCookie(cookie),
        netns_cookie: NetnsCookie(1),
        protocol: Protocol::Tcp,
        state: SocketState::Established,
        local: "10.0.0.2:40000".parse().unwrap(),
        remote: backend,
        backend,
        service: ServiceId(1),
        age: Duration::from_secs(1),
        bytes_sent: 0,
        bytes_received: 0,
    }
}

pub(crate) fn suspects(sockets: &[BoundSocket]) -> Vec<Suspect<'_>> {
    sockets.iter().map(|socket| Suspect { socket, endpoint: None }).collect()
}
