//! Instances of a plugin: how one is made, and what of it can be called.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use netloom_core::{grants::Grants, model::Name};
use wasmtime::{
    Store, UpdateDeadline,
    component::{InstancePre, Linker, ResourceTable},
};

use crate::{
    bindings::{
        self,
        hooks::{attach_order, datapath_mode, lifecycle, socket_reap},
    },
    engine::TickingEngine,
    error::Failure,
    files::Directories,
    hook::Hook,
    kv::KvStore,
    limits::{Limits, Meter, longest},
    log::{self, LogGate},
    metrics::PluginMetrics,
    operations::Operations,
    settings::Settings,
    state::State,
};

/// Everything an instance of one plugin is made from.
pub(crate) struct Blueprint {
    pub(crate) plugin: Name,
    pub(crate) limits: Limits,
    pub(crate) settings: Arc<Settings>,
    pub(crate) kv: Arc<dyn KvStore>,
    pub(crate) metrics: Arc<PluginMetrics>,
    pub(crate) log: Arc<LogGate>,
    pub(crate) grants: Arc<Grants>,
    pub(crate) operations: Option<Arc<dyn Operations>>,
    pub(crate) directories: Arc<Directories>,
    pub(crate) pre: InstancePre<State>,
    pub(crate) exports: Exports,
    pub(crate) engine: Arc<TickingEngine>,
}

/// Where a component's hooks are; none for one it does not export.
pub(crate) struct Exports {
    attach_order: Option<attach_order::GuestIndices>,
    datapath_mode: Option<datapath_mode::GuestIndices>,
    socket_reap: Option<socket_reap::GuestIndices>,
    lifecycle: Option<lifecycle::GuestIndices>,
}

impl Exports {
    pub(crate) fn find(pre: &InstancePre<State>, hooks: &[Hook]) -> wasmtime::Result<Self> {
        let has = |hook| hooks.contains(&hook);
        Ok(Self {
            attach_order: has(Hook::AttachOrder).then(|| attach_order::GuestIndices::new(pre)).transpose()?,
            datapath_mode: has(Hook::DatapathMode)
                .then(|| datapath_mode::GuestIndices::new(pre))
                .transpose()?,
            socket_reap: has(Hook::SocketReap).then(|| socket_reap::GuestIndices::new(pre)).transpose()?,
            lifecycle: has(Hook::Lifecycle).then(|| lifecycle::GuestIndices::new(pre)).transpose()?,
        })
    }
}

/// One instance. It is dropped, never reused, after a call that did not return.
pub(crate) struct Instance {
    pub(crate) store: Store<State>,
    pub(crate) attach_order: Option<attach_order::Guest>,
    pub(crate) datapath_mode: Option<datapath_mode::Guest>,
    pub(crate) socket_reap: Option<socket_reap::Guest>,
    pub(crate) lifecycle: Option<lifecycle::Guest>,
}

impl Instance {
    /// Starts the account and the clock of one call.
    pub(crate) fn arm(&mut self, deadline: Duration) {
        arm(&mut self.store, deadline);
    }
}

/// Why there is no instance.
pub(crate) enum NoInstance {
    /// An export has another type than published.
    Mismatch(String),
    /// It refused its configuration.
    Init(String),
    /// It trapped, or ran into a limit.
    Failed(Failure),
}

impl From<NoInstance> for Failure {
    fn from(none: NoInstance) -> Self {
        match none {
            NoInstance::Mismatch(why) => Self::Trap(why),
            NoInstance::Init(why) => Self::Init(why),
            NoInstance::Failed(failure) => failure,
        }
    }
}

impl Blueprint {
    /// A linker with everything a plugin with these grants may import.
    pub(crate) fn linker(engine: &TickingEngine, grants: &Grants) -> wasmtime::Result<Linker<State>> {
        let mut linker = Linker::new(engine.engine());
        bindings::link_ambient(&mut linker)?;
        bindings::link_granted(&mut linker, grants)?;
        Ok(linker)
    }

    /// Makes an instance and lets it `init`.
    pub(crate) async fn instantiate(&self) -> Result<Instance, NoInstance> {
        let deadline = self.limits.init_deadline;
        let _running = self.engine.running();
        let started = tokio::time::timeout(slack(deadline), self.start(deadline)).await;
        started.unwrap_or(Err(NoInstance::Failed(Failure::Deadline(deadline))))
    }

    async fn start(&self, deadline: Duration) -> Result<Instance, NoInstance> {
        let failed = |error: &wasmtime::Error, store: &Store<State>| {
            NoInstance::Failed(Failure::of(error, store.data().meter.breach(), deadline))
        };
        let mut store = self.store();
        arm(&mut store, deadline);
        let instance = match self.pre.instantiate_async(&mut store).await {
            Ok(instance) => instance,
            Err(error) => return Err(failed(&error, &store)),
        };
        let mismatch = |error: wasmtime::Error| NoInstance::Mismatch(format!("{error:#}"));
        let exports = &self.exports;
        let attach_order = exports
            .attach_order
            .as_ref()
            .map(|at| at.load(&mut store, &instance))
            .transpose()
            .map_err(mismatch)?;
        let datapath_mode = exports
            .datapath_mode
            .as_ref()
            .map(|at| at.load(&mut store, &instance))
            .transpose()
            .map_err(mismatch)?;
        let socket_reap = exports
            .socket_reap
            .as_ref()
            .map(|at| at.load(&mut store, &instance))
            .transpose()
            .map_err(mismatch)?;
        let lifecycle = exports
            .lifecycle
            .as_ref()
            .map(|at| at.load(&mut store, &instance))
            .transpose()
            .map_err(mismatch)?;
        if let Some(guest) = &lifecycle {
            match guest.call_init(&mut store, self.settings.document()).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => return Err(NoInstance::Init(log::clean_reason(&why))),
                Err(error) => return Err(failed(&error, &store)),
            }
        }
        Ok(Instance { store, attach_order, datapath_mode, socket_reap, lifecycle })
    }

    fn store(&self) -> Store<State> {
        let state = State {
            plugin: self.plugin.clone(),
            settings: Arc::clone(&self.settings),
            kv: Arc::clone(&self.kv),
            kv_quota: self.limits.kv_bytes,
            metrics: Arc::clone(&self.metrics),
            log: Arc::clone(&self.log),
            meter: Meter::new(self.limits.clone()),
            grants: Arc::clone(&self.grants),
            operations: self.operations.clone(),
            directories: Arc::clone(&self.directories),
            table: Mutex::new(ResourceTable::new()),
        };
        let mut store = Store::new(self.engine.engine(), state);
        store.limiter(|state| &mut state.meter);
        store.set_hostcall_fuel(self.limits.transfer_bytes);
        store.set_max_component_handles(self.limits.handles);
        // At each tick the guest gives way to other tasks, so that a busy plugin holds up nobody. Tokio's own yield
        // lets the runtime look at its timers and sockets as well; wasmtime's plain one starves those.
        store.epoch_deadline_callback(|mut context| {
            context.data_mut().meter.check_deadline()?;
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        store
    }
}

fn arm(store: &mut Store<State>, deadline: Duration) {
    store.data_mut().meter.start(deadline);
    store.set_epoch_deadline(1);
}

/// When to give up on a guest that is not running but waiting in the host, where no epoch reaches it.
pub(crate) fn slack(deadline: Duration) -> Duration {
    longest(deadline) + Duration::from_millis(5)
}

/// Microseconds since then.
pub(crate) fn micros_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}
