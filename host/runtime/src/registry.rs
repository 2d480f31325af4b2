use std::{
    fmt,
    future::Future,
    sync::{Arc, PoisonError, RwLock},
    time::Instant,
};

use netloom_core::{
    answer::{Answer, RawMode, RawPlacement, RawReapPlan},
    model::{Candidate, Chain, Name, ReapEvent},
};

use crate::{
    error::CallError,
    hook::Hook,
    instance::micros_since,
    plugin::Plugin,
    question::{EndpointFacts, NodeFacts},
    recording::{Question, RecordedNode, Reply},
    trace::{self, Outcome, Step, StepAnswer, Verdict},
    trial::Trial,
};

/// Where a plugin stands among the plugins of its hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// In front of all: it decides first.
    First,
    /// Behind all.
    Last,
}

/// The active plugins, in the order in which they are asked. A change is one swap: a question under way goes on
/// with the plugins it began with.
///
/// For each question the plugins of its hook are asked in turn. The first decision that passes the caller's check
/// wins. Those behind it are asked all the same, because any may veto: a guard need not stand in front. A plugin
/// that fails, gives a bad answer or is in backoff or quarantine is passed over, and never counts as a veto.
#[derive(Debug, Default)]
pub struct Registry {
    plugins: RwLock<Arc<Vec<Arc<Plugin>>>>,
    trials: RwLock<Arc<Vec<Arc<Trial>>>>,
}

impl Registry {
    /// Puts a plugin in place, in one swap; one of the same name is replaced and handed back, for rollback. With
    /// no position it takes the place of the one it replaces, or else stands first.
    pub fn insert(&self, plugin: Arc<Plugin>, position: Option<Position>) -> Option<Arc<Plugin>> {
        self.swap(|plugins| {
            let present = plugins.iter().position(|each| each.name() == plugin.name());
            let replaced = present.map(|at| plugins.remove(at));
            let at = match position {
                None => present.unwrap_or(0),
                Some(Position::First) => 0,
                Some(Position::Last) => plugins.len(),
            };
            plugins.insert(at, plugin);
            replaced
        })
    }

    /// Tries a version out beside the plugin of the same name; an earlier trial of it ends.
    pub fn try_out(&self, trial: Trial) {
        let trial = Arc::new(trial);
        let mut present = self.trials.write().unwrap_or_else(PoisonError::into_inner);
        let others = present.iter().filter(|other| other.name() != trial.name()).cloned();
        *present = Arc::new(others.chain([Arc::clone(&trial)]).collect());
    }

    /// Ends a trial, and hands it back.
    pub fn end_trial(&self, name: &Name) -> Option<Arc<Trial>> {
        let mut present = self.trials.write().unwrap_or_else(PoisonError::into_inner);
        let ended = present.iter().find(|trial| trial.name() == name).cloned()?;
        *present = Arc::new(present.iter().filter(|trial| trial.name() != name).cloned().collect());
        Some(ended)
    }

    /// The versions that are tried out.
    #[must_use]
    pub fn trials(&self) -> Arc<Vec<Arc<Trial>>> {
        Arc::clone(&self.trials.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a plugin out, and ends its trial.
    pub fn remove(&self, name: &Name) -> Option<Arc<Plugin>> {
        self.end_trial(name);
        self.swap(|plugins| {
            let at = plugins.iter().position(|each| each.name() == name)?;
            Some(plugins.remove(at))
        })
    }

    /// A plugin by name.
    #[must_use]
    pub fn get(&self, name: &Name) -> Option<Arc<Plugin>> {
        self.plugins().iter().find(|each| each.name() == name).cloned()
    }

    /// Every plugin, in order.
    #[must_use]
    pub fn plugins(&self) -> Arc<Vec<Arc<Plugin>>> {
        Arc::clone(&self.plugins.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where does this program go in this chain?
    pub async fn place<V, E: fmt::Display>(
        &self,
        node: NodeFacts<'_>,
        chain: &Chain,
        candidate: &Candidate,
        check: impl Fn(RawPlacement) -> Result<V, E>,
    ) -> Outcome<V> {
        let ask = |plugin: Arc<Plugin>| async move { plugin.place(node, chain, candidate).await };
        let question = || Question::Place { chain: chain.clone(), candidate: candidate.clone() };
        self.decide(
            Asked { hook: Hook::AttachOrder, node, question },
            ask,
            trace::placement,
            Reply::Place,
            check,
        )
        .await
    }

    /// In which order should Netloom's own entries of this chain run?
    pub async fn rebalance<V, E: fmt::Display>(
        &self,
        node: NodeFacts<'_>,
        chain: &Chain,
        check: impl Fn(Vec<u32>) -> Result<V, E>,
    ) -> Outcome<V> {
        let ask = |plugin: Arc<Plugin>| async move { plugin.rebalance(node, chain).await };
        let question = || Question::Rebalance { chain: chain.clone() };
        self.decide(
            Asked { hook: Hook::AttachOrder, node, question },
            ask,
            trace::order,
            Reply::Rebalance,
            check,
        )
        .await
    }

    /// Which datapath does this endpoint get on this node?
    pub async fn choose<V, E: fmt::Display>(
        &self,
        node: NodeFacts<'_>,
        endpoint: EndpointFacts<'_>,
        check: impl Fn(RawMode) -> Result<V, E>,
    ) -> Outcome<V> {
        let ask = |plugin: Arc<Plugin>| async move { plugin.choose(node, endpoint).await };
        let question = || Question::Choose {
            spec: endpoint.spec.clone(),
            netns: endpoint.netns,
            addresses: endpoint.addresses.to_vec(),
        };
        self.decide(
            Asked { hook: Hook::DatapathMode, node, question },
            ask,
            trace::mode,
            Reply::Choose,
            check,
        )
        .await
    }

    /// What does the host look for, for this event? The plugin that decided is the one to judge.
    pub async fn plan<V, E: fmt::Display>(
        &self,
        node: NodeFacts<'_>,
        event: &ReapEvent,
        check: impl Fn(RawReapPlan) -> Result<V, E>,
    ) -> Outcome<V> {
        let ask = |plugin: Arc<Plugin>| async move { plugin.plan(node, event).await };
        let question = || Question::Plan { event: event.clone() };
        self.decide(Asked { hook: Hook::SocketReap, node, question }, ask, trace::plan, Reply::Plan, check)
            .await
    }

    async fn decide<R, V, E, Fut>(
        &self,
        asked: Asked<'_, impl Fn() -> Question>,
        ask: impl Fn(Arc<Plugin>) -> Fut,
        describe: fn(&R) -> String,
        reply: fn(Answer<R>) -> Reply,
        check: impl Fn(R) -> Result<V, E>,
    ) -> Outcome<V>
    where
        R: Clone,
        E: fmt::Display,
        Fut: Future<Output = Result<Answer<R>, CallError>>,
    {
        let mut outcome = Outcome { verdict: Verdict::Undecided, steps: Vec::new() };
        let (plugins, trials) = (self.plugins(), self.trials());
        for serving in plugins.iter().filter(|plugin| plugin.serves(asked.hook)) {
            let trial = trials.iter().find(|trial| trial.name() == serving.name());
            let canary = trial.filter(|trial| trial.plugin().serves(asked.hook) && trial.takes_over());
            let plugin = canary.map_or(serving, |trial| trial.plugin());
            let start = Instant::now();
            let answer = ask(Arc::clone(plugin)).await;
            let micros = micros_since(start);
            if let Some(canary) = canary {
                canary.note(answer.is_err());
            }
            let given = match &answer {
                Ok(answer) => reply(answer.clone()),
                Err(error) => Reply::Failed(error.failure.to_string()),
            };
            if let Some(shadow) = trial.filter(|trial| trial.is_shadow()) {
                asked.show(shadow, given.clone());
            }
            let mut note = |answer| {
                outcome.steps.push(Step {
                    plugin: plugin.name().clone(),
                    digest: Arc::clone(plugin.digest()),
                    answer,
                    reply: given.clone(),
                    micros,
                });
            };
            match answer {
                Err(error) if error.was_asked() => note(StepAnswer::Failed(error.failure.to_string())),
                Err(error) => note(StepAnswer::Skipped(error.failure.to_string())),
                Ok(Answer::Abstain) => note(StepAnswer::Abstained),
                Ok(Answer::Veto(reason)) => {
                    note(StepAnswer::Vetoed(reason.clone()));
                    outcome.verdict = Verdict::Vetoed { plugin: plugin.name().clone(), reason };
                    break;
                }
                Ok(Answer::Decide(raw)) => {
                    let text = describe(&raw);
                    if matches!(outcome.verdict, Verdict::Decided { .. }) {
                        note(StepAnswer::Overruled(text));
                        continue;
                    }
                    match check(raw) {
                        Ok(value) => {
                            note(StepAnswer::Decided(text));
                            outcome.verdict = Verdict::Decided { plugin: Arc::clone(plugin), value };
                        }
                        Err(error) => {
                            let reason = error.to_string();
                            plugin.report_bad_answer(&reason);
                            note(StepAnswer::Failed(format!("gave a bad answer ({text}): {reason}")));
                        }
                    }
                }
            }
        }
        outcome
    }

    fn swap<T>(&self, change: impl FnOnce(&mut Vec<Arc<Plugin>>) -> T) -> T {
        let mut present = self.plugins.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Vec::clone(&present);
        let result = change(&mut next);
        *present = Arc::new(next);
        result
    }
}

/// A question under way.
struct Asked<'a, Q> {
    hook: Hook,
    node: NodeFacts<'a>,
    /// The question as a value: made only if somebody else is to be asked as well.
    question: Q,
}

impl<Q: Fn() -> Question> Asked<'_, Q> {
    /// Shows it to a version that is tried out, on a task of its own: nobody waits for what is not acted on.
    fn show(&self, shadow: &Arc<Trial>, serving: Reply) {
        if !shadow.plugin().serves(self.hook) {
            return;
        }
        let shadow = Arc::clone(shadow);
        let node =
            RecordedNode { name: self.node.name.to_owned(), capabilities: self.node.capabilities.clone() };
        let question = (self.question)();
        tokio::spawn(async move { shadow.compare(&node, question, serving).await });
    }
}
