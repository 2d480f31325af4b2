//! Asking the plugins, with the fallback of each hook when none decides. Every decision is kept with its trace.

mod decisions;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ipnet::IpNet;
use netloom_api::types::DecisionStep;
use netloom_core::{
    model::{
        BoundSocket, Candidate, Chain, EndpointMode, EndpointSpec, EntryId, Name, NetnsCookie, NetnsId,
        Placement, ReapAction, ReapEvent, ReapPlan,
    },
    validate::{self, ModeDefaults},
};
use netloom_kernel::devices::check_mtu;
use netloom_runtime::{
    EndpointFacts, Hook, Judged, Outcome, Plugin, Question, RecordedNode, RecordedReply, Recording, Registry,
    Reply, Step, StepAnswer, Suspect, Verdict,
};

use self::decisions::Decisions;
use crate::{
    config::Config,
    failure::Failure,
    opened::Opened,
    telemetry::{
        kept::Kept,
        metrics::{Decided as DecidedLabels, Metrics, OfPlugin},
    },
};

/// Judgements over more sockets are not recorded: they would push out everything else.
const JUDGED_KEPT: usize = 256;

/// A decision that may be carried out, and who made it.
pub(crate) struct Decided<T> {
    pub(crate) answer: T,
    pub(crate) decided_by: String,
}

/// The plugins, and what they decided.
pub(crate) struct Policy {
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    /// The node as plugins are told of it.
    pub(crate) node: RecordedNode,
    pub(crate) registry: Registry,
    pub(crate) decisions: Decisions,
    /// The last decisions with all they were made on.
    pub(crate) recordings: Kept<Recording, 200>,
    last_good: Mutex<HashMap<Shape, EndpointMode>>,
}

/// What makes endpoints alike to policy.
#[derive(PartialEq, Eq, Hash)]
struct Shape {
    mac: bool,
    virtual_machine: bool,
    runtime_class: Option<String>,
    ipv6: bool,
    mtu: u32,
}

impl Policy {
    pub(crate) fn new(opened: &Opened) -> Self {
        let (name, capabilities) = (opened.name.clone(), opened.capabilities.clone());
        Self {
            config: Arc::clone(&opened.config),
            metrics: Arc::clone(&opened.metrics),
            node: RecordedNode { name, capabilities },
            registry: Registry::default(),
            decisions: Decisions::default(),
            recordings: Kept::default(),
            last_good: Mutex::default(),
        }
    }

    /// Where does this program go? Without a plugin: where the configuration says.
    pub(crate) async fn place(
        &self,
        chain: &Chain,
        candidate: &Candidate,
    ) -> Result<Decided<Placement>, Failure> {
        let check = |raw| validate::placement(chain, candidate, raw);
        let outcome = self.registry.place(self.node.facts(), chain, candidate, check).await;
        self.remember(Question::Place { chain: chain.clone(), candidate: candidate.clone() }, &outcome.steps);
        let (verdict, steps) = split_outcome(outcome, &self.metrics);
        let decided = match verdict {
            Verdict::Decided { plugin, value } => {
                Decided { answer: value, decided_by: plugin.name().to_string() }
            }
            Verdict::Undecided => Decided {
                answer: self.config.attachments.default_placement.place(chain, candidate),
                decided_by: "configuration".into(),
            },
            Verdict::Vetoed { plugin, reason } => {
                let subject = format!("{} at {}", candidate.owner, chain.hook);
                return Err(self.vetoed(Hook::AttachOrder, subject, steps, &plugin, &reason));
            }
        };
        let outcome = describe(chain, decided.answer);
        let subject = format!("{} ({}) at {}", candidate.owner, candidate.name, chain.hook);
        self.keep(Hook::AttachOrder, subject, steps, outcome, &decided.decided_by);
        Ok(decided)
    }

    /// In which order should our own entries run? None keeps the order: no plugin decides, or all fail.
    pub(crate) async fn rebalance(&self, chain: &Chain) -> Result<Option<Decided<Vec<EntryId>>>, Failure> {
        let check = |raw: Vec<u32>| validate::order(chain, &raw);
        let outcome = self.registry.rebalance(self.node.facts(), chain, check).await;
        self.remember(Question::Rebalance { chain: chain.clone() }, &outcome.steps);
        let (verdict, steps) = split_outcome(outcome, &self.metrics);
        let subject = format!("the order at {}", chain.hook);
        let (decided, outcome, by) = match verdict {
            Verdict::Decided { plugin, value } => {
                let names: Vec<String> =
                    value.iter().filter_map(|id| chain.entry(*id)?.attachment.clone()).collect();
                let by = plugin.name().to_string();
                (Some(Decided { answer: value, decided_by: by.clone() }), names.join(", "), by)
            }
            Verdict::Undecided => (None, "keep".to_owned(), "fallback".to_owned()),
            Verdict::Vetoed { plugin, reason } => {
                return Err(self.vetoed(Hook::AttachOrder, subject, steps, &plugin, &reason));
            }
        };
        self.keep(Hook::AttachOrder, subject, steps, outcome, &by);
        Ok(decided)
    }

    /// Which datapath does this endpoint get? When a plugin fails: the last good answer for an endpoint of the same
    /// shape. When none has an opinion: the built-in default.
    pub(crate) async fn choose_mode(
        &self,
        spec: &EndpointSpec,
        netns: NetnsId,
        addresses: &[IpNet],
        default_mtu: u32,
    ) -> Result<Decided<EndpointMode>, Failure> {
        let ipv6 = addresses.iter().any(|address| address.addr().is_ipv6());
        if let Some(mtu) = spec.mtu {
            check_mtu(&spec.interface, mtu, ipv6)?;
        }
        let mtu = spec.mtu.unwrap_or(default_mtu);
        let defaults = ModeDefaults { attachment: self.config.attachments.mode, mtu };
        let check = |raw| validate::mode(&raw, spec, ipv6, &self.node.capabilities, &defaults);
        let endpoint = EndpointFacts { spec, netns, addresses };
        let outcome = self.registry.choose(self.node.facts(), endpoint, check).await;
        let failed = outcome
            .steps
            .iter()
            .any(|step| matches!(step.answer, StepAnswer::Failed(_) | StepAnswer::Skipped(_)));
        let shape = Shape {
            mac: spec.mac.is_some(),
            virtual_machine: spec.virtual_machine,
            runtime_class: spec.runtime_class.clone(),
            ipv6,
            mtu,
        };
        self.remember(
            Question::Choose { spec: spec.clone(), netns, addresses: addresses.to_vec() },
            &outcome.steps,
        );
        let (verdict, steps) = split_outcome(outcome, &self.metrics);
        let decided = match verdict {
            Verdict::Decided { plugin, value } => {
                self.last_good().insert(shape, value.clone());
                Decided { answer: value, decided_by: plugin.name().to_string() }
            }
            Verdict::Undecided if failed && let Some(mode) = self.last_good().get(&shape) => {
                Decided { answer: mode.clone(), decided_by: "last good answer".into() }
            }
            Verdict::Undecided => {
                let raw = validate::built_in_mode(spec, &self.node.capabilities);
                let mode = check(raw).map_err(|error| {
                    Failure::refused(anyhow::anyhow!(
                        "no plugin chose a mode, and the built-in one cannot be: {error}"
                    ))
                })?;
                Decided { answer: mode, decided_by: "built-in".into() }
            }
            Verdict::Vetoed { plugin, reason } => {
                let subject = spec.name.to_string();
                return Err(self.vetoed(Hook::DatapathMode, subject, steps, &plugin, &reason));
            }
        };
        if let Some(mtu) = spec.mtu.filter(|mtu| *mtu != decided.answer.mtu) {
            return Err(Failure::conflict(format!(
                "endpoint {} asks for an MTU of {mtu}, and {} gives it {}",
                spec.name, decided.decided_by, decided.answer.mtu
            ))
            .hint("leave the MTU out, or have the plugin leave it open"));
        }
        let outcome = format!("{} by {}", decided.answer.device, decided.answer.attachment);
        self.keep(Hook::DatapathMode, spec.name.to_string(), steps, outcome, &decided.decided_by);
        Ok(decided)
    }

    /// What is looked for after this event? Without a plugin, or when all fail, nothing is: the error says why.
    pub(crate) async fn plan_reap(&self, event: &ReapEvent) -> Result<(ReapPlan, Reaper), String> {
        let outcome =
            self.registry.plan(self.node.facts(), event, |raw| validate::reap_plan(event, raw)).await;
        self.remember(Question::Plan { event: event.clone() }, &outcome.steps);
        let (verdict, steps) = split_outcome(outcome, &self.metrics);
        let subject = subject(event);
        match verdict {
            Verdict::Decided { plugin, value } => {
                let outcome = format!("{:?}", value.action).to_lowercase();
                self.keep(Hook::SocketReap, subject, steps, outcome, plugin.name().as_str());
                Ok((value, Reaper(plugin)))
            }
            Verdict::Vetoed { plugin, reason } => {
                let outcome = format!("vetoed: {reason}");
                self.keep(Hook::SocketReap, subject, steps, outcome, plugin.as_str());
                Err(format!("plugin {plugin} forbade it: {reason}"))
            }
            Verdict::Undecided => {
                let failed: Vec<String> =
                    steps.iter().map(|step| format!("{}: {}", step.plugin, step.answer)).collect();
                let reason = if failed.is_empty() {
                    "no plugin decides about reaping".to_owned()
                } else {
                    format!("no plugin decided ({})", failed.join("; "))
                };
                self.keep(Hook::SocketReap, subject, steps, "reap nothing".into(), "fallback");
                Err(reason)
            }
        }
    }

    /// Which of these sockets are to be destroyed?
    pub(crate) async fn judge(
        &self,
        reaper: &Reaper,
        event: &ReapEvent,
        action: ReapAction,
        sockets: &[BoundSocket],
        names: &HashMap<NetnsCookie, Name>,
    ) -> Result<Vec<bool>, String> {
        let suspects: Vec<Suspect<'_>> = sockets
            .iter()
            .map(|socket| Suspect { socket, endpoint: names.get(&socket.netns_cookie) })
            .collect();
        let verdicts = match action {
            ReapAction::JudgePacked => reaper.0.judge_packed(event, &suspects).await,
            _ => reaper.0.judge(event, &suspects).await,
        };
        let checked = verdicts
            .map_err(|error| error.to_string())
            .and_then(|given| validate::judgements(sockets.len(), given).map_err(|error| error.to_string()));
        if sockets.len() <= JUDGED_KEPT {
            let judged = suspects.iter().map(|suspect| Judged {
                socket: suspect.socket.clone(),
                endpoint: suspect.endpoint.cloned(),
            });
            let packed = action == ReapAction::JudgePacked;
            let question = Question::Judge { event: event.clone(), sockets: judged.collect(), packed };
            let reply = checked.clone().map_or_else(Reply::Failed, Reply::Judge);
            let (plugin, digest) = (reaper.name().clone(), reaper.0.digest().to_string());
            let replies = vec![RecordedReply { plugin, digest, reply }];
            self.recordings.add(|_, _| Recording { node: self.node.clone(), question, replies });
        }
        if checked.is_err() {
            let labels = OfPlugin { plugin: reaper.name().to_string() };
            self.metrics.plugin_failures.get_or_create(&labels).inc();
        }
        checked
    }

    /// Keeps a decision such that it can be made again elsewhere. One that no plugin was asked about is none.
    fn remember(&self, question: Question, steps: &[Step]) {
        if steps.is_empty() {
            return;
        }
        let replies = steps.iter().map(|step| RecordedReply {
            plugin: step.plugin.clone(),
            digest: step.digest.to_string(),
            reply: step.reply.clone(),
        });
        let replies = replies.collect();
        self.recordings.add(|_, _| Recording { node: self.node.clone(), question, replies });
    }

    fn last_good(&self) -> MutexGuard<'_, HashMap<Shape, EndpointMode>> {
        self.last_good.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn vetoed(
        &self,
        hook: Hook,
        subject: String,
        steps: Vec<DecisionStep>,
        plugin: &Name,
        reason: &str,
    ) -> Failure {
        self.keep(hook, subject, steps, format!("vetoed: {reason}"), plugin.as_str());
        Failure::refused(anyhow::anyhow!("plugin {plugin} forbids it: {reason}"))
            .hint(format!("see `netloom explain`, or unload it: netloom plugin unload {plugin}"))
    }

    fn keep(&self, hook: Hook, subject: String, steps: Vec<DecisionStep>, outcome: String, decided_by: &str) {
        let labels = DecidedLabels { hook: hook.as_str(), by: decided_by.to_owned() };
        self.metrics.decisions.get_or_create(&labels).inc();
        self.decisions.add(hook.as_str(), subject, steps, outcome, decided_by.to_owned());
    }
}

/// The plugin that decided on a reap, and judges its sockets.
pub(crate) struct Reaper(Arc<Plugin>);

impl Reaper {
    pub(crate) fn name(&self) -> &Name {
        self.0.name()
    }

    /// Whether it is the same version of the same plugin.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The backends of an event in words; a node may lose a thousand at once.
fn subject(event: &ReapEvent) -> String {
    const SHOWN: usize = 8;
    let shown = event.backends.iter().take(SHOWN);
    let shown =
        shown.map(|backend| format!("{}/{} of {}", backend.address, backend.protocol, backend.service));
    let shown = shown.collect::<Vec<_>>().join(", ");
    match event.backends.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Splits an outcome, and counts the plugins that failed in it.
fn split_outcome<V>(outcome: Outcome<V>, metrics: &Metrics) -> (Verdict<V>, Vec<DecisionStep>) {
    let steps = outcome.steps.into_iter().map(|step| {
        if let StepAnswer::Failed(why) = &step.answer {
            tracing::error!(plugin = %step.plugin, why, "a plugin failed; the others go on");
            metrics.plugin_failures.get_or_create(&OfPlugin { plugin: step.plugin.to_string() }).inc();
        }
        DecisionStep { answer: step.answer.to_string(), plugin: step.plugin, micros: step.micros }
    });
    (outcome.verdict, steps.collect())
}

fn describe(chain: &Chain, placement: Placement) -> String {
    let entry = |id| {
        chain.entry(id).map_or_else(String::new, |entry| {
            let owner = entry.owner.as_ref().map_or("foreign", |owner| owner.as_str());
            format!("{} ({owner})", entry.name)
        })
    };
    match placement {
        Placement::Head => "head".to_owned(),
        Placement::Tail => "tail".to_owned(),
        Placement::Before(id) => format!("before {}", entry(id)),
        Placement::After(id) => format!("after {}", entry(id)),
        Placement::Replace(id) => format!("replace {}", entry(id)),
    }
}
