//! What carries our names and is in no record: left by a store that was lost, or made by somebody else. Nothing of it
//! is removed but by an operator's word.

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use netloom_api::{
    Paths,
    types::{Done, Finding, OrphanView},
};
use netloom_core::{
    model::{Device, Endpoint},
    plan::{Op, Plan},
};
use netloom_kernel::{
    datapath::{AddressEntry, Datapath},
    devices::Devices,
    links::{self, Link},
};

use crate::{
    failure::Failure,
    locks::Locks,
    naming,
    opened::Opened,
    store::{PairRecord, Store},
};

/// One of them.
pub(crate) enum Orphan {
    /// A device with an alias of ours.
    Device(Box<Device>),
    /// A link or program in our folder of bpffs.
    Pin(PathBuf),
}

impl Orphan {
    fn view(&self) -> OrphanView {
        match self {
            Self::Device(device) => OrphanView {
                what: format!("device {}", device.name),
                why: format!("its alias is \"{}\"", device.alias.as_deref().unwrap_or_default()),
            },
            Self::Pin(path) => OrphanView {
                what: format!("pin {}", path.display()),
                why: "it is in Netloom's folder".to_owned(),
            },
        }
    }
}

/// What carries our names and is in no record.
pub(crate) struct Orphans {
    instance: String,
    paths: Paths,
    devices: Devices,
    store: Arc<Store>,
    datapath: Arc<Datapath>,
    locks: Arc<Locks>,
    /// What the datapath knew of endpoints without a record when the daemon started.
    at_start: Mutex<Vec<AddressEntry>>,
}

impl Orphans {
    pub(crate) fn new(opened: &Opened) -> Self {
        Self {
            instance: opened.instance.clone(),
            paths: opened.paths.clone(),
            devices: opened.devices.clone(),
            store: Arc::clone(&opened.store),
            datapath: Arc::clone(&opened.datapath),
            locks: Arc::clone(&opened.locks),
            at_start: Mutex::default(),
        }
    }

    /// Everything under our names that neither a record nor a plan under way knows.
    pub(crate) async fn find(&self) -> Result<Vec<Orphan>, Failure> {
        // In this order: whatever is found was in a plan before it was made, and is in a record when its plan is
        // over.
        let devices = self.devices.list().await?;
        let found = naming::pins(&self.paths.bpffs)?;
        let (mut indexes, mut pins) = (HashSet::new(), HashSet::new());
        for op in self.store.all::<Plan>()?.iter().flat_map(|(_, plan)| plan.steps()) {
            match op {
                Op::CreatePair { pair, .. } => indexes.extend(pair.host_ifindex),
                Op::DeleteDevice { ifindex, .. } => indexes.extend(*ifindex),
                Op::Attach { id, .. } | Op::Detach { id, .. } => {
                    pins.insert(naming::pin(&self.paths.bpffs, id));
                }
                _ => {}
            }
        }
        indexes.extend(self.store.all::<Endpoint>()?.iter().map(|(_, endpoint)| endpoint.host_ifindex));
        indexes.extend(self.store.all::<PairRecord>()?.iter().map(|(_, pair)| pair.host_ifindex));
        pins.extend(self.store.attachments().keys().map(|id| naming::pin(&self.paths.bpffs, id)));
        let claimed = |device: &Device| {
            device.alias.as_deref().is_some_and(|alias| naming::is_ours(&self.instance, alias))
        };
        // A pair may have both of its ends here.
        let known = |device: &Device| {
            let other = device.peer_ifindex.filter(|_| device.peer_nsid.is_none());
            [Some(device.ifindex), other].iter().flatten().any(|index| indexes.contains(index))
        };
        let devices = devices.into_iter().filter(|device| claimed(device) && !known(device));
        let mut orphans: Vec<Orphan> = devices.map(Box::new).map(Orphan::Device).collect();
        orphans.extend(found.into_iter().filter(|pin| !pins.contains(pin)).map(Orphan::Pin));
        Ok(orphans)
    }

    /// What the datapath knows of endpoints without a record, as it was when the daemon started. All that came since
    /// has a record or a plan.
    pub(crate) fn addresses(&self) -> Vec<AddressEntry> {
        self.at_start.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes note of what the datapath knows of an endpoint without a record.
    pub(crate) fn remember(&self, entry: AddressEntry) {
        self.at_start.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    /// The same for people.
    pub(crate) async fn views(&self) -> Result<Vec<OrphanView>, Failure> {
        Ok(self.find().await?.iter().map(Orphan::view).collect())
    }

    /// What doctor says of them.
    pub(crate) async fn findings(&self) -> Result<Vec<Finding>, Failure> {
        let views = self.views().await?.into_iter();
        Ok(views
            .map(|OrphanView { what, why }| Finding {
                severity: "warning".to_owned(),
                subject: what,
                message: format!("{why}, but no record knows it: it goes on as it is"),
                hint: "`netloom orphans --remove` removes all such, if nobody needs them".to_owned(),
            })
            .collect())
    }

    /// Removes them all, because an operator said so: what was removed, and what could not be.
    pub(crate) async fn remove_all(&self) -> Result<Done, Failure> {
        // An endpoint that comes meanwhile has its pins where an orphan of its name had them.
        let _admission = self.locks.admission().await;
        let mut warnings = Vec::new();
        for orphan in self.find().await? {
            let OrphanView { what, why } = orphan.view();
            let removed = match &orphan {
                Orphan::Device(device) => {
                    self.devices.delete(device.ifindex).await.map(drop).map_err(Failure::from)
                }
                Orphan::Pin(path) => remove_pin(path),
            };
            match removed {
                Ok(()) => tracing::warn!(what, why, "an orphan was removed, as it was asked for"),
                Err(failure) => warnings.push(format!("{what}: {failure}")),
            }
        }
        self.at_start.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let ids: HashSet<u32> =
            self.store.all::<Endpoint>()?.iter().map(|(_, endpoint)| endpoint.id).collect();
        for entry in self.datapath.addresses()? {
            if !ids.contains(&entry.id) {
                self.datapath.remove_endpoint(entry.id, &[entry.address])?;
            }
        }
        Ok(Done { warnings })
    }
}

/// Unpins a link, which detaches it, or a program, whose filter goes with its device.
fn remove_pin(pin: &std::path::Path) -> Result<(), Failure> {
    if let Ok(link) = Link::open_pinned(pin) {
        link.detach()?;
    }
    links::unpin(pin)?;
    if let Some(folder) = pin.parent() {
        // An endpoint's folder goes with its last pin; one with others stays.
        std::fs::remove_dir(folder).ok();
    }
    Ok(())
}
