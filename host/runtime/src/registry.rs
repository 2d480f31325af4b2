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
    trace::{self, Outcome, Step, StepAnswer, Verdict},
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

    /// Takes a plugin out.
    pub fn remove(&self, name: &Name) -> Option<Arc<Plugin>> {
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
        self.decide(Hook::AttachOrder, ask, trace::placement, check).await
    }

    /// In which order should Netloom's own entries of this chain run?
    pub async fn rebalance<V, E: fmt::Display>(
        &self,
        node: NodeFacts<'_>,
        chain: &Chain,
        check: impl Fn(Vec<u32>) -> Result<V, E>,
    ) -> Outcome<V> {
        let ask = |plugin: Arc<Plugin>| async move { plugin.rebalance(node, chain).await };
        self.decide(Hook::AttachOrder, ask, trace::order, check).await
    }

    /// Which datapath does this endpoint get on this node?
    pub async fn choose<V, E: fmt::Display>(
        &self,
        node: NodeFacts<'_>,
        endpoint: EndpointFacts<'_>,
        check: impl Fn(RawMode) -> Result<V, E>,
    ) -> Outcome<V> {
        let ask = |plugin: Arc<Plugin>| async move { plugin.choose(node, endpoint).await };
        self.decide(Hook::DatapathMode, ask, trace::mode, check).await
    }

    /// What does the host look for, for this event? The plugin that decided is the one to judge.
    pub async fn plan<V, E: fmt::Display>(
        &self,
        node: NodeFacts<'_>,
        event: &ReapEvent,
        check: impl Fn(RawReapPlan) -> Result<V, E>,
    ) -> Outcome<V> {
        let ask = |plugin: Arc<Plugin>| async move { plugin.plan(node, event).await };
        self.decide(Hook::SocketReap, ask, trace::plan, check).await
    }

    async fn decide<R, V, E, Fut>(
        &self,
        hook: Hook,
        ask: impl Fn(Arc<Plugin>) -> Fut,
        describe: fn(&R) -> String,
        check: impl Fn(R) -> Result<V, E>,
    ) -> Outcome<V>
    where
        E: fmt::Display,
        Fut: Future<Output = Result<Answer<R>, CallError>>,
    {
        let mut outcome = Outcome { verdict: Verdict::Undecided, steps: Vec::new() };
        let plugins = self.plugins();
        for plugin in plugins.iter().filter(|plugin| plugin.serves(hook)) {
            let start = Instant::now();
            let answer = ask(Arc::clone(plugin)).await;
            let micros = micros_since(start);
            let mut note =
                |answer| outcome.steps.push(Step { plugin: plugin.name().clone(), answer, micros });
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
