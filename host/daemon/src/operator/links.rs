//! Chains, and programs that plugins attach, update and detach.

use std::collections::BTreeMap;

use netloom_api::types::UpdateRequest;
use netloom_core::{
    grants::{Namespace, ProgramGrant},
    model::{Candidate, Chain, HookPoint, Labels, Name, ProgramSource, Revision},
    plan::{FixedPlace, Op, Target},
};
use netloom_kernel::links;
use netloom_runtime::LinkRequest;

use super::Actions;
use crate::failure::Failure;

fn target(namespace: &Namespace, device: &str, point: HookPoint) -> Target {
    Target { netns: namespace.path().cloned(), device: device.to_owned(), point, endpoint: None }
}

fn source(program: ProgramGrant) -> ProgramSource {
    ProgramSource::Object {
        path: program.object,
        program: program.program,
        globals: BTreeMap::new(),
        shared_maps: false,
    }
}

impl Actions {
    pub(super) async fn chain_at(
        &self,
        namespace: &Namespace,
        device: &str,
        point: HookPoint,
    ) -> Result<Chain, Failure> {
        let (hook, netns) = self.inventory.hook(&target(namespace, device, point)).await?;
        Ok(self.inventory.annotated(links::query(&hook, &netns)?)?)
    }

    pub(super) async fn attach_for_plugin(&self, by: &Name, request: LinkRequest) -> Result<String, Failure> {
        let target = target(&request.namespace, &request.device, request.point);
        let (hook, _) = self.inventory.hook(&target).await?;
        let guard = self.soon(self.chains.lock_hook(&hook)).await??;
        let candidate = Candidate {
            owner: request.owner,
            name: String::new(),
            tag: String::new(),
            priority: 0,
            labels: Labels::new(),
            required: false,
        };
        let fixed = Some(FixedPlace {
            placement: request.placement,
            revision: Revision(request.revision),
            by: by.clone(),
        });
        let id = self.executor.attachment_id(&candidate.owner)?;
        let program = source(request.program);
        let op = Op::Attach { id: id.clone(), target, candidate, program, mode: None, fixed };
        self.chains.attach_all(&guard, vec![op], format!("attach {id} for plugin {by}")).await?;
        Ok(id)
    }

    pub(super) async fn update_for_plugin(&self, id: &str, program: ProgramGrant) -> Result<(), Failure> {
        // It is the request's own lock, which would not come free before the plugin's deadline.
        drop(self.soon(self.chains.lock_attachment(id)).await??);
        let ProgramGrant { object, program } = program;
        let request = UpdateRequest { object, program, globals: BTreeMap::new() };
        self.chains.update(id, request).await.map(drop)
    }

    pub(super) async fn detach_for_plugin(&self, id: &str) -> Result<(), Failure> {
        let (guard, attachment) = self.soon(self.chains.lock_attachment(id)).await??;
        let left = self.chains.detach_recorded(&guard, &attachment).await?;
        if left.is_empty() { Ok(()) } else { Err(Failure::conflict(left.join("; "))) }
    }
}
