//! Who waits for whom: one change at a time of an endpoint, of a device of the node's own, in a namespace, in the
//! services; and numbers and addresses given out one endpoint at a time.
//!
//! A lock is a value that only this table makes. A function that needs one asks for it, and what it decides by was
//! read while the lock was held. Whoever takes several takes them in this order: a name, the namespace of the
//! endpoint or of a pair's other end, the node's namespace, admission.

use std::{
    collections::HashMap,
    fmt::Display,
    hash::Hash,
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use netloom_core::model::{Hook, Name, NetnsId};
use tokio::sync::{Mutex, MutexGuard, OwnedMutexGuard};

use crate::{failure::Failure, slow};

/// Longest time that a plugin waits for a lock: well within the deadline of its call.
pub(crate) const PLUGIN_WAIT: Duration = Duration::from_millis(10);

#[derive(Default)]
pub(crate) struct Locks {
    endpoints: Keyed<Name>,
    devices: Keyed<String>,
    netns: Keyed<NetnsId>,
    admission: Mutex<()>,
    services: Mutex<()>,
    plugins: Mutex<()>,
}

/// A lock for each key.
struct Keyed<K>(StdMutex<HashMap<K, Arc<Mutex<()>>>>);

impl<K> Default for Keyed<K> {
    fn default() -> Self {
        Self(StdMutex::default())
    }
}

impl<K: Clone + Display + Eq + Hash> Keyed<K> {
    async fn lock(&self, key: &K) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // What is locked comes and goes; a lock that nobody holds or waits for is not needed.
            locks.retain(|other, lock| other == key || Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(key.clone()).or_default())
        };
        slow::told(format!("waiting for another change of {key}"), lock.lock_owned()).await
    }
}

/// An endpoint's name, whether there is such an endpoint or not.
pub(crate) struct NameGuard(#[expect(dead_code, reason = "it is held")] OwnedMutexGuard<()>);

/// The name of a device of the node's own.
pub(crate) struct DeviceGuard(#[expect(dead_code, reason = "it is held")] OwnedMutexGuard<()>);

/// A network namespace.
pub(crate) struct NetnsGuard {
    id: NetnsId,
    _held: OwnedMutexGuard<()>,
}

/// An endpoint: its name and its namespace.
pub(crate) struct EndpointGuard {
    _name: NameGuard,
    _netns: NetnsGuard,
}

/// A pair of the node's own: its name, and the namespaces of both ends.
pub(crate) struct PairGuard {
    _name: DeviceGuard,
    _inside: NetnsGuard,
    _node: Option<NetnsGuard>,
}

/// A hook: the namespace of the endpoint whose device it is, so that it is not deleted meanwhile, and the hook's own.
pub(crate) struct HookGuard {
    _endpoint: Option<NetnsGuard>,
    netns: NetnsGuard,
}

impl EndpointGuard {
    pub(crate) const fn of(name: NameGuard, netns: NetnsGuard) -> Self {
        Self { _name: name, _netns: netns }
    }
}

impl PairGuard {
    pub(crate) const fn of(name: DeviceGuard, inside: NetnsGuard, node: Option<NetnsGuard>) -> Self {
        Self { _name: name, _inside: inside, _node: node }
    }
}

impl HookGuard {
    pub(crate) const fn of(endpoint: Option<NetnsGuard>, netns: NetnsGuard) -> Self {
        Self { _endpoint: endpoint, netns }
    }

    /// Refuses what it is not the lock of.
    pub(crate) fn check(&self, hook: &Hook) -> Result<(), Failure> {
        if self.netns.id == hook.netns {
            return Ok(());
        }
        Err(Failure::conflict(format!("{hook} is in another namespace than the one that is locked")))
    }
}

impl Locks {
    pub(crate) async fn endpoint(&self, name: &Name) -> NameGuard {
        NameGuard(self.endpoints.lock(name).await)
    }

    pub(crate) async fn device(&self, name: &str) -> DeviceGuard {
        DeviceGuard(self.devices.lock(&name.to_owned()).await)
    }

    pub(crate) async fn netns(&self, id: NetnsId) -> NetnsGuard {
        NetnsGuard { id, _held: self.netns.lock(&id).await }
    }

    pub(crate) async fn admission(&self) -> MutexGuard<'_, ()> {
        self.admission.lock().await
    }

    pub(crate) async fn services(&self) -> MutexGuard<'_, ()> {
        self.services.lock().await
    }

    pub(crate) async fn plugins(&self) -> MutexGuard<'_, ()> {
        self.plugins.lock().await
    }
}

/// The same for a plugin, which may ask while a decision is waited for by whoever holds the lock: it does not wait
/// long.
pub(crate) async fn soon<G>(lock: impl Future<Output = G>) -> Option<G> {
    tokio::time::timeout(PLUGIN_WAIT, lock).await.ok()
}

#[cfg(test)]
mod tests {
    use netloom_core::model::{HookPoint, IfIndex};

    use super::*;

    const BLUE: NetnsId = NetnsId { device: 4, inode: 1 };
    const RED: NetnsId = NetnsId { device: 4, inode: 2 };

    #[tokio::test]
    async fn one_at_a_time_in_a_namespace_but_not_across() {
        let locks = Locks::default();
        let blue = locks.netns(BLUE).await;
        let _red = locks.netns(RED).await;
        let second = soon(locks.netns(BLUE)).await;
        assert!(second.is_none(), "two changes in one namespace at once");
        drop(blue);
        let _again = locks.netns(BLUE).await;
    }

    #[tokio::test]
    async fn locks_of_namespaces_that_are_gone_are_forgotten() {
        let locks = Locks::default();
        for inode in 0..100 {
            drop(locks.netns(NetnsId { device: 4, inode }).await);
        }
        assert!(locks.netns.0.lock().unwrap().len() <= 2);
    }

    #[tokio::test]
    async fn what_is_free_is_had_at_once() {
        let locks = Locks::default();
        let _blue = locks.netns(BLUE).await;
        assert!(soon(locks.netns(RED)).await.is_some());
    }

    #[tokio::test]
    async fn the_lock_of_one_namespace_is_none_of_a_hook_in_another() {
        let locks = Locks::default();
        let guard = HookGuard::of(None, locks.netns(BLUE).await);
        let hook =
            |netns| Hook { netns, device: "eth0".into(), ifindex: IfIndex(2), point: HookPoint::TcxIngress };
        assert!(guard.check(&hook(BLUE)).is_ok());
        assert!(guard.check(&hook(RED)).unwrap_err().to_string().contains("another namespace"));
    }
}
