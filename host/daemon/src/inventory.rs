//! What is there: hooks, chains with whose their programs are, the records of ours, and, by the word of `uplinks`, what
//! gets to outside in one piece. Nothing here changes anything on the node.
//!
//! - [`namespaces`]: a namespace by what it is
//! - [`presence`]: whether a program of ours is where its record says
//! - [`seen`]: what the watcher saw of the chains so far

pub(crate) mod namespaces;
pub(crate) mod presence;
pub(crate) mod seen;

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::anyhow;
use netloom_api::Paths;
use netloom_core::{
    model::{Attachment, Chain, Device, Endpoint, Hook, HookPoint, Name, NetnsCookie, Service},
    plan::Target,
};
use netloom_kernel::{
    devices::Devices,
    links::{self, LinkError},
    netns::Netns,
};

use crate::{
    config::Config,
    failure::Failure,
    opened::Opened,
    store::{ServiceRecord, Store, StoreError},
};

/// Reads the kernel's state and the records.
pub(crate) struct Inventory {
    config: Arc<Config>,
    store: Arc<Store>,
    netns: Netns,
    devices: Devices,
    paths: Paths,
    /// Bytes that get to outside in one piece; 0 where nothing leads there.
    outside_mtu: AtomicU32,
}

/// The MTU of a new pair where nothing leads to outside, and the least that IPv6 works with.
const PLAIN_MTU: u32 = 1_500;
const LEAST_MTU: u32 = 1_280;
/// The most that a pair takes.
const MAX_MTU: u32 = 65_535;

impl Inventory {
    pub(crate) fn new(opened: &Opened) -> Self {
        Self {
            config: Arc::clone(&opened.config),
            store: Arc::clone(&opened.store),
            netns: opened.netns.clone(),
            devices: opened.devices.clone(),
            paths: opened.paths.clone(),
            outside_mtu: AtomicU32::default(),
        }
    }

    /// Notes the devices that lead to outside.
    pub(crate) fn note_outside(&self, devices: &[Device]) {
        let smallest = devices.iter().map(|device| device.mtu).min().unwrap_or_default();
        self.outside_mtu.store(smallest, Ordering::Relaxed);
    }

    /// The MTU of a new pair of which nobody says more, in bytes.
    pub(crate) fn default_mtu(&self) -> u32 {
        self.config.endpoints.mtu.unwrap_or_else(|| match self.outside_mtu.load(Ordering::Relaxed) {
            0 => PLAIN_MTU,
            mtu => mtu.clamp(LEAST_MTU, MAX_MTU),
        })
    }

    /// A hook by its target, with the namespace to reach it through.
    pub(crate) async fn hook(&self, target: &Target) -> Result<(Hook, Netns), Failure> {
        let missing = || {
            let netns =
                target.netns.as_ref().map_or_else(String::new, |path| format!(" in {}", path.display()));
            Failure::not_found(format!("there is no device {}{netns}", target.device)).hint("see `ip link`")
        };
        let (netns, device) = match &target.netns {
            None => (self.netns.clone(), self.devices.get(&target.device).await?),
            Some(path) => {
                let netns = Netns::open(path).map_err(Failure::invalid)?;
                let device = Devices::open(&netns)?.get(&target.device).await?;
                (netns, device)
            }
        };
        let device = device.ok_or_else(missing)?;
        let hook =
            Hook { netns: netns.id(), device: device.name, ifindex: device.ifindex, point: target.point };
        Ok((hook, netns))
    }

    /// A chain as the kernel has it, with what the records say of our own entries.
    pub(crate) fn annotated(&self, mut chain: Chain) -> Result<Chain, StoreError> {
        let records = self.store.attachments();
        for entry in &mut chain.entries {
            let ours = records.iter().find(|(_, record)| match (record.link, entry.link) {
                (Some(link), Some(present)) => link == present,
                // While it is moved, a gate stands in for it.
                (None, None) => {
                    let runs = record.program == entry.program || entry.name.starts_with(links::GATE_PREFIX);
                    record.filter == entry.filter && runs
                }
                _ => false,
            });
            if let Some((id, record)) = ours {
                entry.attachment = Some(id.clone());
                entry.owner = Some(record.candidate.owner.clone());
                entry.priority = Some(record.candidate.priority);
                entry.labels = record.candidate.labels.clone();
            }
        }
        Ok(chain)
    }

    /// A record.
    pub(crate) fn attachment(&self, id: &str) -> Result<Attachment, Failure> {
        self.store.get::<Attachment>(id)?.ok_or_else(|| {
            Failure::not_found(format!("there is no attachment {id}")).hint("see `netloom attachments`")
        })
    }

    /// Every attachment.
    pub(crate) fn attachments(&self) -> Result<Vec<Attachment>, Failure> {
        Ok(self.store.attachments().values().cloned().collect())
    }

    /// The chains of a device: each hook that the device has and that has a program.
    pub(crate) async fn chains(
        &self,
        device: Option<&str>,
        netns: Option<&Path>,
        endpoint: Option<&Name>,
    ) -> Result<Vec<Chain>, Failure> {
        let device = match (device, endpoint) {
            (Some(device), None) => device.to_owned(),
            (None, Some(endpoint)) => self.endpoint_record(endpoint)?.host_interface,
            _ => return Err(Failure::invalid(anyhow!("name either a device or an endpoint"))),
        };
        let target =
            |point| Target { netns: netns.map(Into::into), device: device.clone(), point, endpoint: None };
        let mut chains = Vec::new();
        for point in HookPoint::ALL {
            let (hook, netns) = self.hook(&target(point)).await?;
            match links::query(&hook, &netns) {
                Ok(chain) if !chain.entries.is_empty() => chains.push(self.annotated(chain)?),
                Ok(_)
                | Err(
                    LinkError::NotNetkit { .. } | LinkError::ViaPeer { .. } | LinkError::Unsupported { .. },
                ) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(chains)
    }

    /// The namespace of a hook of ours.
    pub(crate) fn netns_of(&self, hook: &Hook) -> Result<Netns, Failure> {
        if hook.netns == self.netns.id() {
            return Ok(self.netns.clone());
        }
        let record = self.attachments()?.into_iter().find(|record| record.hook.netns == hook.netns);
        let path = record.and_then(|record| record.netns);
        let path = path.ok_or_else(|| Failure::not_found(format!("nothing of ours is at {hook}")))?;
        Ok(Netns::open(&path)?)
    }

    /// A chain as it is, by a hook that was looked up before.
    pub(crate) async fn present(&self, hook: &Hook) -> Result<Chain, Failure> {
        let netns = self.netns_of(hook)?;
        Ok(self.annotated(links::query(hook, &netns)?)?)
    }

    /// The endpoint's datapath, and what others attached to its device: all of it goes with the device.
    pub(crate) fn attachments_of(&self, endpoint: &Endpoint) -> Result<Vec<Attachment>, Failure> {
        let mut attachments = self.attachments()?;
        attachments.retain(|attachment| {
            let on_device = attachment.netns.is_none() && attachment.hook.ifindex == endpoint.host_ifindex;
            on_device || attachment.endpoint.as_ref() == Some(&endpoint.spec.name)
        });
        Ok(attachments)
    }

    pub(crate) fn endpoint_record(&self, name: &Name) -> Result<Endpoint, Failure> {
        self.store.get::<Endpoint>(name.as_str())?.ok_or_else(|| {
            Failure::not_found(format!("there is no endpoint {name}")).hint("see `netloom endpoint list`")
        })
    }

    /// Every service.
    pub(crate) fn services(&self) -> Result<Vec<Service>, Failure> {
        Ok(self.store.all::<ServiceRecord>()?.into_iter().map(|(_, record)| record.service).collect())
    }

    pub(crate) fn service_record(&self, name: &Name) -> Result<ServiceRecord, Failure> {
        self.store.get::<ServiceRecord>(name.as_str())?.ok_or_else(|| {
            Failure::not_found(format!("there is no service {name}")).hint("see `netloom service list`")
        })
    }

    pub(crate) fn endpoints_by_cookie(&self) -> Result<HashMap<NetnsCookie, Name>, StoreError> {
        let endpoints = self.store.all::<Endpoint>()?;
        Ok(endpoints.into_iter().map(|(_, endpoint)| (endpoint.netns_cookie, endpoint.spec.name)).collect())
    }
}
