//! Starting on a node where a daemon ran before: the kernel is the truth, the records are checked against it.
//!
//! What is in place is adopted and goes on running, never touched. What lost its device is dropped; what lost its
//! link is attached anew; what nobody has a record of, under our names, is told of and left alone.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError},
};

use netloom_api::types::{Adoption, OrphanView};
use netloom_core::{
    model::{Attachment, Candidate, Endpoint, Owner, ProgramSource},
    plan::{Op, Plan},
};
use netloom_kernel::{
    datapath::EndpointConfig,
    links::{self, Link},
    netns::Netns,
    programs::Program,
};

use crate::{
    devices::PairRecord,
    executor::{Progress, remove_folder},
    failure::Failure,
    locks::HookGuard,
    naming,
    node::Node,
    store::ServiceRecord,
};

/// What became of an attachment's link or filter.
enum Found {
    InPlace,
    /// It runs on maps of before, which know nothing of what is new.
    Outdated(Program),
    Lost(&'static str),
}

impl Node {
    /// Takes up what an earlier daemon left, but for the services.
    pub(crate) async fn adopt(self: &Arc<Self>, adoption: &mut Adoption) -> Result<(), Failure> {
        adoption.recovered.extend(self.recover().await?);
        self.rebuild_endpoints(adoption).await?;
        self.adopt_endpoints(adoption).await?;
        adoption.dropped.extend(self.adopt_pairs().await?);
        self.adopt_attachments(adoption).await?;
        self.note_orphans(adoption).await?;
        let reaps = self.pay_reaps().await?;
        if reaps > 0 {
            adoption.recovered.push(format!("{reaps} reaps that were due"));
        }
        Ok(())
    }

    async fn adopt_endpoints(&self, adoption: &mut Adoption) -> Result<(), Failure> {
        for (key, mut endpoint) in self.store.all::<Endpoint>()? {
            let alias = naming::alias(&self.instance, &endpoint.spec.name);
            let device = self.devices.by_index(endpoint.host_ifindex).await?;
            let Some(device) = device.filter(|device| device.alias.as_deref() == Some(&alias)) else {
                let (guard, endpoint) = self.lock_endpoint(&endpoint.spec.name).await?;
                for warning in self.remove_endpoint(&guard, &endpoint).await? {
                    tracing::warn!(endpoint = key, "{warning}");
                }
                adoption
                    .dropped
                    .push(format!("endpoint {key}: its device {} is gone", endpoint.host_interface));
                continue;
            };
            if device.name != endpoint.host_interface {
                // Somebody renamed it.
                endpoint.host_interface = device.name;
                self.store.commit(|changes| changes.put(&key, &endpoint))?;
            }
            if let Err(error) =
                self.metrics.refused(self.datapath.set_endpoint(&EndpointConfig::from(&endpoint)))
            {
                tracing::error!(endpoint = key, %error, "the datapath does not know it");
                adoption.dropped.push(format!("endpoint {key} is not in the datapath: {error}"));
                continue;
            }
            adoption.endpoints += 1;
        }
        Ok(())
    }

    async fn adopt_attachments(&self, adoption: &mut Adoption) -> Result<(), Failure> {
        for (key, attachment) in self.store.all::<Attachment>()? {
            let why = match self.look(&attachment).await {
                Ok(Found::InPlace) => {
                    adoption.attachments += 1;
                    continue;
                }
                Ok(Found::Outdated(program)) => match self.renew(&attachment, &program).await {
                    Ok(renewed) => {
                        self.store.commit(|changes| changes.put(&key, &renewed))?;
                        tracing::info!(
                            attachment = key,
                            "runs on the maps of this version and configuration"
                        );
                        adoption.attachments += 1;
                        continue;
                    }
                    Err(failure) => failure.to_string(),
                },
                Ok(Found::Lost(why)) => why.to_owned(),
                Err(failure) => failure.to_string(),
            };
            let (guard, attachment) = self.lock_attachment(&key).await?;
            match self.reattach(&guard, &attachment).await {
                Ok(anew) => {
                    self.store.commit(|changes| changes.put(&key, &anew))?;
                    tracing::warn!(attachment = key, why, "attached anew");
                    adoption.reattached += 1;
                }
                Err(failure) => {
                    links::unpin(&naming::pin(&self.paths.bpffs, &key)).ok();
                    self.store.commit(|changes| changes.remove::<Attachment>(&key))?;
                    adoption.dropped.push(format!("attachment {key}: {why}; {failure}"));
                }
            }
        }
        Ok(())
    }

    async fn look(&self, attachment: &Attachment) -> Result<Found, Failure> {
        let pin = naming::pin(&self.paths.bpffs, &attachment.id);
        if !pin.exists() {
            return Ok(Found::Lost("its pin is gone"));
        }
        if !attachment.hook.point.is_legacy() {
            let info = Link::open_pinned(&pin)?.info()?;
            if info.ifindex.is_none() {
                return Ok(Found::Lost("its device is gone"));
            }
            let program = Program::from_id(info.program)?;
            return Ok(if self.is_outdated(attachment, &program) {
                Found::Outdated(program)
            } else {
                Found::InPlace
            });
        }
        let program = Program::open_pinned(&pin)?;
        let Op::Detach { target, .. } = Op::detach(attachment) else {
            return Ok(Found::Lost("its record is bad"));
        };
        let Ok((hook, netns)) = self.hook(&target).await else {
            return Ok(Found::Lost("its device is gone"));
        };
        let present = links::query(&hook, &netns)?.entries.iter().any(|entry| entry.program == program.id());
        Ok(match present {
            false => Found::Lost("its filter is gone"),
            true if self.is_outdated(attachment, &program) => Found::Outdated(program),
            true => Found::InPlace,
        })
    }

    /// An endpoint's program whose maps were made anew, or lost their pins, knows nothing of the others.
    fn is_outdated(&self, attachment: &Attachment, program: &Program) -> bool {
        attachment.candidate.owner.as_str() == Owner::DATAPATH && !self.datapath.runs_on_these_maps(program)
    }

    /// Has an attachment run its program on the maps of now: no packet meets the endpoint without one.
    async fn renew(&self, attachment: &Attachment, present: &Program) -> Result<Attachment, Failure> {
        let Op::Detach { id, target } = Op::detach(attachment) else {
            return Err(Failure::conflict("its record is bad"));
        };
        let mut progress = Progress::default();
        if let Some(endpoint) = &attachment.endpoint {
            progress.endpoint = self.store.get::<Endpoint>(endpoint.as_str())?;
        }
        let owner = &attachment.candidate.owner;
        let program = self.program(&id, owner, &attachment.source, &target, &mut progress)?;
        let pin = naming::pin(&self.paths.bpffs, &id);
        self.swap(&target, &pin, present, &program).await?;
        if target.point.is_legacy() {
            let fresh = naming::update_folder(&self.paths.bpffs, &id).join("new");
            program.pin(&fresh)?;
            links::repin(&fresh, &pin)?;
            remove_folder(&naming::update_folder(&self.paths.bpffs, &id))?;
        }
        let candidate = Candidate { tag: program.tag().to_owned(), ..attachment.candidate.clone() };
        Ok(Attachment { program: program.id(), candidate, ..attachment.clone() })
    }

    pub(crate) async fn reattach(
        &self,
        held: &HookGuard,
        attachment: &Attachment,
    ) -> Result<Attachment, Failure> {
        held.check(&attachment.hook)?;
        let pin = naming::pin(&self.paths.bpffs, &attachment.id);
        // What has lost its place may still hold its program, with what it has in its maps.
        let present = Program::from_id(attachment.program).ok().filter(|program| {
            program.tag() == attachment.candidate.tag
                && matches!(attachment.source, ProgramSource::Object { .. })
        });
        if pin.exists() {
            links::unpin(&pin)?;
        }
        let Op::Detach { id, target } = Op::detach(attachment) else {
            return Err(Failure::conflict("its record is bad"));
        };
        let mut progress = Progress::with(present);
        if let Some(endpoint) = &attachment.endpoint {
            progress.endpoint = self.store.get::<Endpoint>(endpoint.as_str())?;
        }
        let anew = self
            .attach_program(&id, &target, &attachment.candidate, &attachment.source, &mut progress)
            .await?;
        Ok(Attachment { mode: attachment.mode, ..anew })
    }

    /// Tells what carries our names but has no record, and takes out of the datapath what has no device any more.
    async fn note_orphans(&self, adoption: &mut Adoption) -> Result<(), Failure> {
        for OrphanView { what, why } in self.orphan_views().await? {
            tracing::warn!(what, why, "no record knows it: it is left as it is");
            adoption.orphans.push(what);
        }
        for folder in naming::entries(&self.paths.bpffs.join("endpoints"))? {
            // Of an endpoint that is gone: one with a pin stays.
            std::fs::remove_dir(folder).ok();
        }
        self.remove_leftovers()?;
        let ids: HashSet<u32> =
            self.store.all::<Endpoint>()?.iter().map(|(_, endpoint)| endpoint.id).collect();
        for entry in self.datapath.addresses()? {
            if ids.contains(&entry.id) {
                continue;
            }
            if self.devices.by_index(entry.host_ifindex).await?.is_some() {
                self.orphaned.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
            } else {
                self.datapath.remove_endpoint(entry.id, &[entry.address])?;
            }
        }
        Ok(())
    }

    /// Pins of moves and updates that are over, and shared maps of owners who have no attachment any more.
    pub(crate) fn remove_leftovers(&self) -> Result<(), Failure> {
        if self.store.all::<Plan>()?.is_empty() {
            for folder in [naming::moves_folder(&self.paths.bpffs), naming::updates_folder(&self.paths.bpffs)]
            {
                remove_folder(&folder)?;
            }
        }
        self.remove_unused_maps()
    }

    /// The shared maps of owners who have no attachment any more.
    pub(crate) fn remove_unused_maps(&self) -> Result<(), Failure> {
        let used: HashSet<_> = self
            .attachments()?
            .iter()
            .map(|attachment| naming::shared_map_folder(&self.paths.bpffs, &attachment.candidate.owner))
            .collect();
        for folder in naming::entries(&naming::shared_maps_folder(&self.paths.bpffs))? {
            if !used.contains(&folder) {
                remove_folder(&folder)?;
            }
        }
        Ok(())
    }

    /// Has the datapath know the services of the records, and no others.
    pub(crate) async fn adopt_services(&self, adoption: &mut Adoption) -> Result<(), Failure> {
        let records = self.store.all::<ServiceRecord>()?;
        let known: HashSet<_> = records.iter().map(|(_, record)| record.id).collect();
        for entry in self.datapath.services()? {
            if !known.contains(&entry.id) {
                self.datapath.remove_service(entry.id)?;
                let vips: Vec<String> = entry.vips.iter().map(ToString::to_string).collect();
                let (vips, protocol) = (vips.join(", "), entry.protocol);
                adoption.recovered.push(format!("service {vips}/{protocol} had no record: removed"));
            }
        }
        let addresses = self.node_addresses().await?;
        for (name, record) in records {
            if let Err(error) = self.set_service(&record, &addresses) {
                tracing::error!(service = name, %error, "the datapath does not know it");
                adoption.dropped.push(format!("service {name} is not in the datapath: {error}"));
            }
        }
        Ok(())
    }

    /// Removes everything this instance has on the node, for `netloomd cleanup`; what cannot be removed is told.
    pub(crate) async fn remove_everything(&self) -> Result<Vec<String>, Failure> {
        let mut failures = Vec::new();
        let mut note = |what: &str, result: Result<(), Failure>| {
            if let Err(failure) = result {
                failures.push(format!("{what}: {failure}"));
            }
        };
        note("plans of before", self.recover().await.map(drop));
        for (name, endpoint) in self.store.all::<Endpoint>()? {
            let (guard, endpoint) = self.lock_endpoint(&endpoint.spec.name).await?;
            note(&name, whole(self.remove_endpoint(&guard, &endpoint).await));
        }
        for (name, _) in self.store.all::<PairRecord>()? {
            let (guard, pair) = self.lock_pair(&name).await?;
            note(&name, whole(self.remove_pair(&guard, &name, &pair).await));
        }
        for (id, _) in self.store.all::<Attachment>()? {
            let (guard, attachment) = self.lock_attachment(&id).await?;
            note(&id, whole(self.detach_recorded(&guard, &attachment).await));
        }
        for (name, ServiceRecord { id, .. }) in self.store.all::<ServiceRecord>()? {
            note(&name, self.datapath.remove_service(id).map_err(Failure::from));
        }
        note("orphans", whole(self.remove_orphans().await.map(|done| done.warnings)));
        note("what moves and updates left", self.remove_leftovers());
        note("socket-LB", self.datapath.detach_socket_lb().map_err(Failure::from));
        Ok(failures)
    }
}

/// A removal that left something behind has failed.
fn whole(removed: Result<Vec<String>, Failure>) -> Result<(), Failure> {
    match removed?.join("; ") {
        left if left.is_empty() => Ok(()),
        left => Err(Failure::conflict(left)),
    }
}

/// The namespaces of endpoints that no longer exist at their path.
pub(crate) fn namespace_gone(endpoint: &Endpoint) -> bool {
    Netns::open(&endpoint.spec.netns).map_or(true, |netns| netns.id() != endpoint.netns)
}
