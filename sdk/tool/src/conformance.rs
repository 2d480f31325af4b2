//! What any plugin in any language has to get right: every question of the hooks it serves, at its bounds, gets an
//! answer that the node can use.

use netloom_core::{
    answer::Answer,
    model::{
        AttachmentMode, Backend, BoundSocket, Candidate, Chain, ChainEntry, EndpointSpec, Hook, HookPoint,
        IfIndex, Labels, LinkId, MacAddress, Name, NetnsCookie, NetnsId, Owner, ProgramId, Protocol,
        ReapEvent, ReapReason, Revision, ServiceId, SocketCookie, SocketState,
    },
    validate::{self, ModeDefaults},
};
use netloom_runtime::{Judged, Plugin, Question, RecordedNode, Reply};

use crate::files;

/// What came of one check.
pub(crate) type Outcome = (String, Result<(), String>);

/// Asks everything.
pub(crate) async fn run(plugin: &Plugin) -> anyhow::Result<Vec<Outcome>> {
    let bare = {
        let mut node = files::node();
        for support in node.capabilities.features.values_mut() {
            support.available = false;
        }
        node
    };
    let mut outcomes = Vec::new();
    for (node, on) in [(files::node(), ""), (bare, " on a bare kernel")] {
        for (name, question) in questions()? {
            if !plugin.serves(question.hook()) {
                continue;
            }
            let reply = plugin.ask(node.facts(), &question).await;
            outcomes.push((format!("{name}{on}"), usable(&node, &question, reply)));
            // The same question once more, on the same instance.
            let again = plugin.ask(node.facts(), &question).await;
            if let Reply::Failed(why) = again {
                outcomes.push((format!("{name}{on}, again"), Err(why)));
            }
        }
    }
    outcomes.push((
        "health".to_owned(),
        match plugin.health().await {
            Ok(netloom_runtime::Health::Healthy) => Ok(()),
            Ok(netloom_runtime::Health::Unhealthy(why)) => Err(why),
            Err(error) => Err(error.to_string()),
        },
    ));
    Ok(outcomes)
}

/// Whether the node could carry an answer out.
fn usable(node: &RecordedNode, question: &Question, reply: Reply) -> Result<(), String> {
    let checked = match (question, reply) {
        (_, Reply::Failed(why)) => return Err(why),
        (Question::Place { chain, candidate }, Reply::Place(Answer::Decide(raw))) => {
            validate::placement(chain, candidate, raw).map(drop)
        }
        (Question::Choose { spec, addresses, .. }, Reply::Choose(Answer::Decide(raw))) => {
            let ipv6 = addresses.iter().any(|address| address.addr().is_ipv6());
            let defaults = ModeDefaults { attachment: AttachmentMode::Auto, mtu: 1_500 };
            // A kernel that has nothing has no right answer.
            if node.capabilities.features.values().all(|support| !support.available) {
                return Ok(());
            }
            validate::mode(&raw, spec, ipv6, &node.capabilities, &defaults).map(drop)
        }
        (Question::Plan { event }, Reply::Plan(Answer::Decide(raw))) => {
            validate::reap_plan(event, raw).map(drop)
        }
        (Question::Judge { sockets, .. }, Reply::Judge(verdicts)) => {
            validate::judgements(sockets.len(), verdicts).map(drop)
        }
        _ => Ok(()),
    };
    checked.map_err(|error| error.to_string())
}

/// One question of each kind, as a node asks it all day.
pub(crate) fn typical() -> anyhow::Result<Vec<(String, Question)>> {
    let wanted = [
        "place in a chain of 8",
        "choose for a container",
        "plan one backend",
        "judge 4096 sockets",
        "judge 4096 sockets, packed",
    ];
    Ok(questions()?.into_iter().filter(|(name, _)| wanted.contains(&name.as_str())).collect())
}

/// A program, as one asks to attach it.
pub(crate) fn candidate(role: Option<&str>) -> anyhow::Result<Candidate> {
    Ok(Candidate {
        owner: Owner::new("acme/flows")?,
        name: "flows".to_owned(),
        tag: "fedcba9876543210".to_owned(),
        priority: 0,
        labels: role.map(|role| ("role".to_owned(), role.to_owned())).into_iter().collect(),
        required: false,
    })
}

/// A chain of so many entries: foreign ones, ours, and the datapath last.
pub(crate) fn chain(entries: u32) -> anyhow::Result<Chain> {
    let entry = |at: u32| {
        let owner = match at {
            _ if at + 1 == entries => Some(Owner::datapath()),
            _ if at.is_multiple_of(3) => None,
            _ => Some(Owner::new(format!("acme/program-{at}"))?),
        };
        Ok(ChainEntry {
            program: ProgramId(100 + at),
            link: Some(LinkId(200 + at)),
            name: format!("program_{at}"),
            tag: "0123456789abcdef".to_owned(),
            filter: None,
            attachment: None,
            priority: owner.as_ref().map(|_| i32::MAX - i32::try_from(at).unwrap_or(0)),
            labels: Labels::from([("k".repeat(63), "ä".repeat(126))]),
            owner,
        })
    };
    Ok(Chain {
        hook: Hook {
            netns: NetnsId { device: 4, inode: u64::MAX },
            device: "nlweb0a1b2c3d4e".to_owned(),
            ifindex: IfIndex(u32::MAX),
            point: HookPoint::TcxIngress,
        },
        revision: Revision(u64::MAX),
        entries: (0..entries).map(entry).collect::<anyhow::Result<_>>()?,
    })
}

fn event(backends: u16) -> anyhow::Result<ReapEvent> {
    let backend = |at: u16| {
        Ok(Backend {
            address: format!("10.0.0.1:{}", 1_024 + at).parse()?,
            protocol: if at.is_multiple_of(2) { Protocol::Tcp } else { Protocol::Udp },
            service: Name::new("web")?,
        })
    };
    Ok(ReapEvent {
        reason: ReapReason::Removed,
        backends: (0..backends).map(backend).collect::<anyhow::Result<_>>()?,
    })
}

fn sockets(count: u64) -> anyhow::Result<Vec<Judged>> {
    let remote = "10.0.0.1:1024".parse()?;
    let socket = |at: u64| {
        let mapped = at.is_multiple_of(5);
        let local = if mapped { "[::ffff:10.1.0.2]:40000" } else { "10.1.0.2:40000" };
        Ok(Judged {
            socket: BoundSocket {
                cookie: SocketCookie(u64::MAX - at),
                netns_cookie: NetnsCookie(at % 7),
                protocol: Protocol::Tcp,
                state: SocketState::Established,
                local: local.parse()?,
                remote,
                backend: remote,
                service: ServiceId(1),
                age: std::time::Duration::from_secs(at),
                bytes_sent: at,
                bytes_received: u64::MAX,
            },
            endpoint: if at.is_multiple_of(2) { Some(Name::new("web")?) } else { None },
        })
    };
    (0..count).map(socket).collect()
}

fn endpoint(virtual_machine: bool) -> anyhow::Result<Question> {
    let spec = EndpointSpec {
        mac: virtual_machine.then_some(MacAddress([2, 0, 0, 0, 0, 1])),
        runtime_class: virtual_machine.then(|| "kata".to_owned()),
        virtual_machine,
        labels: (0..64).map(|at| (format!("label-{at}"), "v".repeat(253))).collect(),
        ..EndpointSpec::plain(Name::new("a".repeat(63))?, "/run/netns/web")
    };
    let addresses = vec!["10.1.0.2/32".parse()?, "fd00::2/128".parse()?];
    Ok(Question::Choose { spec, netns: NetnsId { device: 4, inode: 1 }, addresses })
}

fn questions() -> anyhow::Result<Vec<(String, Question)>> {
    let mut all = Vec::new();
    for entries in [0, 1, 8, 62] {
        for role in [None, Some("observer")] {
            let suffix = role.map_or_else(String::new, |role| format!(" for an {role}"));
            let question = Question::Place { chain: chain(entries)?, candidate: candidate(role)? };
            all.push((format!("place in a chain of {entries}{suffix}"), question));
        }
        all.push((format!("rebalance a chain of {entries}"), Question::Rebalance { chain: chain(entries)? }));
    }
    all.push(("choose for a container".to_owned(), endpoint(false)?));
    all.push(("choose for a virtual machine".to_owned(), endpoint(true)?));
    all.push(("plan one backend".to_owned(), Question::Plan { event: event(1)? }));
    all.push(("plan 1024 backends".to_owned(), Question::Plan { event: event(1_024)? }));
    for count in [0, 1, 65, 4_096] {
        for packed in [false, true] {
            let suffix = if packed { ", packed" } else { "" };
            let question = Question::Judge { event: event(1)?, sockets: sockets(count)?, packed };
            all.push((format!("judge {count} sockets{suffix}"), question));
        }
    }
    Ok(all)
}
