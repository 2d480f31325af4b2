//! The steps about programs: loading them, and taking them onto chains and off.

use std::time::Instant;

use netloom_core::{
    model::{
        Attachment, AttachmentKind, Candidate, Chain, Endpoint, Hook, HookPoint, Owner, Placement, ProgramId,
        ProgramSource,
    },
    plan::{FixedPlace, Target},
    validate,
};
use netloom_kernel::{
    datapath::{EndpointConfig, EndpointPrograms},
    links::{self, Attached, Link, LinkError},
    netns::Netns,
    programs::{self, LoadOptions, Program},
};

use super::{Executor, Progress, remove_folder};
use crate::{failure::Failure, naming};

/// A program in its chain.
struct Placed {
    attached: Attached,
    decided_by: String,
    /// The attachment whose place it took, and the program that was there.
    replaced: Option<(String, ProgramId)>,
}

impl Executor {
    pub(crate) async fn attach_program(
        &self,
        id: &str,
        target: &Target,
        candidate: &Candidate,
        source: &ProgramSource,
        progress: &mut Progress,
    ) -> Result<Attachment, Failure> {
        let (hook, netns) = self.inventory.hook(target).await?;
        check_pair(&hook, source, progress.endpoint.as_ref())?;
        let began = Instant::now();
        let program = self.program(id, &candidate.owner, source, target, progress)?;
        self.metrics.attach_phase("load", began);
        let candidate =
            Candidate { name: program.name().to_owned(), tag: program.tag().to_owned(), ..candidate.clone() };
        let pin = naming::pin(&self.paths.bpffs, id);
        make_parent(&pin)?;
        if hook.point.is_legacy() {
            // A filter has no pin; its program's pin is how a later daemon tells it from others.
            program.pin(&pin)?;
        }
        let attached = match progress.fixed.take() {
            None => self.place_and_attach(&hook, &netns, &program, &candidate).await,
            Some(fixed) => self.attach_at(&hook, &netns, &program, &candidate, &fixed).await,
        };
        let placed = match attached {
            Ok(placed) => placed,
            Err(failure) => {
                links::unpin(&pin).ok();
                return Err(failure);
            }
        };
        let began = Instant::now();
        let link = match &placed.attached {
            Attached::Link(link) => {
                if let Err(error) = link.pin(&pin) {
                    match &placed.replaced {
                        // The link is another attachment's too: it gets its program back.
                        Some((_, old)) => link.update(&Program::from_id(*old)?, program.id())?,
                        None => link.detach()?,
                    }
                    return Err(error.into());
                }
                Some(link.id())
            }
            Attached::Filter { .. } => None,
        };
        self.metrics.attach_phase("pin", began);
        progress.replaced.extend(placed.replaced.map(|(id, _)| id));
        Ok(Attachment {
            id: id.to_owned(),
            kind: kind(hook.point),
            mode: None,
            netns: target.netns.clone(),
            hook,
            candidate,
            program: program.id(),
            link,
            filter: placed.attached.filter(),
            endpoint: target.endpoint.clone(),
            decided_by: placed.decided_by,
            source: source.clone(),
        })
    }

    /// Policy decides on a snapshot; if the chain changed meanwhile, on a new one.
    async fn place_and_attach(
        &self,
        hook: &Hook,
        netns: &Netns,
        program: &Program,
        candidate: &Candidate,
    ) -> Result<Placed, Failure> {
        let mut attempts = self.config.attachments.attempts;
        loop {
            let began = Instant::now();
            let chain = self.inventory.annotated(links::query(hook, netns)?)?;
            self.metrics.attach_phase("read", began);
            let began = Instant::now();
            let decided = self.policy.place(&chain, candidate).await?;
            self.metrics.attach_phase("decide", began);
            let began = Instant::now();
            let attached = links::attach(&chain, netns, program, decided.answer);
            self.metrics.attach_phase("attach", began);
            match attached {
                Ok(attached) => {
                    let replaced = replaced(&chain, decided.answer);
                    return Ok(Placed { attached, decided_by: decided.decided_by, replaced });
                }
                Err(LinkError::Stale { .. } | LinkError::AnchorGone { .. }) if attempts > 1 => {
                    attempts -= 1;
                    self.metrics.stale_retries.inc();
                }
                Err(LinkError::NoPriority { .. }) if attempts > 1 => {
                    attempts -= 1;
                    self.spread(&chain, netns, decided.answer, None).await?;
                }
                Err(error @ LinkError::Stale { .. }) => {
                    return Err(Failure::refused(error).hint(
                        "another process changes this chain all the time (`netloom events` shows what comes and \
                         goes): stop it, or raise attachments.attempts",
                    ));
                }
                Err(error) => return Err(Failure::refused(error)),
            }
        }
    }

    /// The place was decided on one snapshot: on any other it means nothing.
    async fn attach_at(
        &self,
        hook: &Hook,
        netns: &Netns,
        program: &Program,
        candidate: &Candidate,
        fixed: &FixedPlace,
    ) -> Result<Placed, Failure> {
        let began = Instant::now();
        let chain = self.inventory.annotated(links::query(hook, netns)?)?;
        self.metrics.attach_phase("read", began);
        if chain.revision != fixed.revision {
            return Err(Failure::refused(LinkError::Stale { hook: hook.clone() }));
        }
        let placement =
            validate::placement(&chain, candidate, fixed.placement.into()).map_err(Failure::invalid)?;
        let began = Instant::now();
        let attached = match links::attach(&chain, netns, program, placement) {
            Err(LinkError::NoPriority { .. }) => {
                self.spread(&chain, netns, placement, None).await?;
                // The same programs in the same order: the place still means what it meant.
                let spread = self.inventory.annotated(links::query(hook, netns)?)?;
                let order = |chain: &Chain| chain.entries.iter().map(|e| e.program).collect::<Vec<_>>();
                if order(&spread) != order(&chain) {
                    return Err(Failure::refused(LinkError::Stale { hook: hook.clone() }));
                }
                links::attach(&spread, netns, program, placement)
            }
            attached => attached,
        };
        self.metrics.attach_phase("attach", began);
        let attached = attached.map_err(Failure::refused)?;
        Ok(Placed { attached, decided_by: fixed.by.to_string(), replaced: replaced(&chain, placement) })
    }

    /// Removes the pins of an attachment that another took the place of: the link is now the other's.
    pub(crate) fn forget_replaced(&self, id: &str) -> Result<(), Failure> {
        links::unpin(&naming::pin(&self.paths.bpffs, id))?;
        remove_folder(&naming::map_folder(&self.paths.bpffs, id))
    }

    /// Loads an attachment's program, if `progress` does not have it yet.
    pub(crate) fn program(
        &self,
        id: &str,
        owner: &Owner,
        source: &ProgramSource,
        target: &Target,
        progress: &mut Progress,
    ) -> Result<Program, Failure> {
        if let Some(present) = progress.present.take() {
            return Ok(present);
        }
        if let ProgramSource::Object { path, program, globals, shared_maps } = source {
            let pin_maps = Some(self.map_folder(id, owner, *shared_maps));
            let options = LoadOptions { program: program.clone(), pin_maps, globals: globals.clone() };
            return match program.as_ref().filter(|_| progress.together.len() > 1) {
                Some(name) => loaded_together(path, name, &options, progress),
                None => programs::load_file(path, &options).map_err(Failure::refused),
            };
        }
        if *source == ProgramSource::FromUplink {
            return Ok(self.datapath.uplink_program()?);
        }
        // An endpoint's two programs are loaded together; its second attachment finds its own.
        let (from, to) = match progress.programs.take() {
            Some(loaded) => loaded,
            None => {
                let endpoint = progress.endpoint.as_ref().ok_or_else(|| {
                    Failure::conflict(format!("{} is not known to the datapath", target.device))
                })?;
                let EndpointPrograms { from_endpoint, to_endpoint } =
                    self.datapath.endpoint_programs(&EndpointConfig::from(endpoint))?;
                (Some(from_endpoint), Some(to_endpoint))
            }
        };
        let (program, left) = match source {
            ProgramSource::ToEndpoint => (to, (from, None)),
            _ => (from, (None, to)),
        };
        progress.programs = Some(left);
        program.ok_or_else(|| Failure::conflict(format!("{} has this program already", target.device)))
    }

    /// Where the maps are that an object wants pinned by name: its own, or all its owner's.
    pub(crate) fn map_folder(&self, id: &str, owner: &Owner, shared: bool) -> std::path::PathBuf {
        if shared {
            naming::shared_map_folder(&self.paths.bpffs, owner)
        } else {
            naming::map_folder(&self.paths.bpffs, id)
        }
    }

    /// Detaches what is pinned under an attachment's name, and nothing else. What is gone already is no error.
    pub(super) async fn detach_program(&self, id: &str, target: &Target) -> Result<(), Failure> {
        let pin = naming::pin(&self.paths.bpffs, id);
        if pin.exists() {
            if target.point.is_legacy() {
                self.detach_filter(&Program::open_pinned(&pin)?, target).await?;
            } else {
                Link::open_pinned(&pin)?.detach()?;
            }
            links::unpin(&pin)?;
        }
        if let Some(folder) = pin.parent().filter(|_| id.contains(':')) {
            // The endpoint's folder goes with its last pin.
            std::fs::remove_dir(folder).ok();
        }
        remove_folder(&naming::map_folder(&self.paths.bpffs, id))
    }

    async fn detach_filter(&self, program: &Program, target: &Target) -> Result<(), Failure> {
        let Ok((hook, netns)) = self.inventory.hook(target).await else {
            // The device is gone, and its filters with it.
            return Ok(());
        };
        let chain = links::query(&hook, &netns)?;
        for entry in chain.entries.iter().filter(|entry| entry.program == program.id()) {
            if let Some((priority, handle)) = entry.filter {
                Attached::Filter { priority, handle }.detach(&hook, &netns, program.id())?;
            }
        }
        Ok(())
    }
}

/// A program of an object whose others are attached by the same plan: they share its maps.
fn loaded_together(
    path: &std::path::Path,
    name: &str,
    options: &LoadOptions,
    progress: &mut Progress,
) -> Result<Program, Failure> {
    if progress.loaded.is_empty() {
        let bytes = read_object(path)?;
        let object = path.display().to_string();
        let loaded = programs::load_several(&object, &bytes, &progress.together, options);
        progress.loaded = loaded.map_err(Failure::refused)?.programs;
    }
    let at = progress.loaded.iter().position(|(other, _)| other == name);
    let at = at.ok_or_else(|| Failure::conflict(format!("{name} was not loaded with the others")))?;
    Ok(progress.loaded.swap_remove(at).1)
}

pub(crate) fn read_object(path: &std::path::Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|source| {
        Failure::refused(anyhow::anyhow!("the object {} cannot be read: {source}", path.display()))
            .hint("netloomd reads it: check that it is there for netloomd, too")
    })
}

/// The attachment whose place a placement takes, and its program.
fn replaced(chain: &Chain, placement: Placement) -> Option<(String, ProgramId)> {
    let Placement::Replace(id) = placement else { return None };
    let entry = chain.entry(id)?;
    Some((entry.attachment.clone()?, entry.program))
}

pub(crate) fn kind(point: HookPoint) -> AttachmentKind {
    match point {
        HookPoint::NetkitPrimary | HookPoint::NetkitPeer => AttachmentKind::Netkit,
        HookPoint::TcxIngress | HookPoint::TcxEgress => AttachmentKind::Tcx,
        HookPoint::TcIngress | HookPoint::TcEgress => AttachmentKind::Tc,
    }
}

/// An endpoint's programs are for its own device, and for no other that took the device's name.
fn check_pair(hook: &Hook, source: &ProgramSource, endpoint: Option<&Endpoint>) -> Result<(), Failure> {
    match (source, endpoint) {
        (ProgramSource::FromEndpoint | ProgramSource::ToEndpoint, Some(endpoint))
            if endpoint.host_ifindex != hook.ifindex =>
        {
            Err(Failure::conflict(format!(
                "the device {} (index {}) is not that of endpoint {} (index {})",
                hook.device, hook.ifindex, endpoint.spec.name, endpoint.host_ifindex
            )))
        }
        _ => Ok(()),
    }
}

fn make_parent(pin: &std::path::Path) -> Result<(), Failure> {
    let Some(folder) = pin.parent() else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(|error| {
        anyhow::anyhow!("the folder {} cannot be made in bpffs: {error}", folder.display()).into()
    })
}
