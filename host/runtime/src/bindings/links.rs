use netloom_core::{
    grants::{LinkGrant, Namespace, ProgramGrant},
    model::{Attachment, EntryId, Owner, Placement},
};
use wasmtime::component::Resource;

use super::{
    convert,
    kernel::{links, types as wit},
    operations::{Answer, invalid},
};
use crate::{operations::LinkRequest, state::State};

/// A handle of an attachment.
#[allow(unreachable_pub, reason = "the generated code re-exports it")]
pub struct LinkHandle(String);

impl State {
    fn link_grant(&self) -> Answer<LinkGrant> {
        self.granted("links", |grants| grants.links.as_ref())
    }

    fn granted_program(&self, operation: &'static str, name: &str) -> Answer<ProgramGrant> {
        let grant = self.link_grant()?;
        self.check_mutate(grant.access, "links", operation)?;
        let missing =
            || self.deny(operation, format!("the grant has no program {name:?} under links.programs"));
        grant.programs.get(name).cloned().ok_or_else(missing)
    }

    async fn query_chain(
        &mut self,
        netns: wit::NetnsId,
        device: &str,
        point: wit::HookPoint,
    ) -> Answer<wit::Chain> {
        let grant = self.link_grant()?;
        let covered = |namespace: &Namespace| grant.covers(namespace, device);
        let namespace = self.namespace(netns, "links.query", covered).await?;
        Ok(convert::chain(&self.operations()?.chain(&namespace, device, point.into()).await?))
    }

    #[allow(clippy::too_many_arguments, reason = "these are the arguments of the WIT function")]
    async fn attach_link(
        &mut self,
        netns: wit::NetnsId,
        device: String,
        point: wit::HookPoint,
        program: &str,
        owner: String,
        placement: wit::Placement,
        revision: u64,
    ) -> Answer<LinkHandle> {
        const ATTACH: &str = "links.attach";
        let grant = self.link_grant()?;
        let program = self.granted_program(ATTACH, program)?;
        self.check(grant.covers_owner(&owner), ATTACH, || format!("the owner {owner}"))?;
        let owner = Owner::new(owner).map_err(|error| invalid(error.to_string()))?;
        if owner.as_str() == Owner::DATAPATH {
            return Err(self.deny(ATTACH, format!("{owner} is the node's own datapath")));
        }
        let namespace = self.namespace(netns, ATTACH, |namespace| grant.covers(namespace, &device)).await?;
        let placement = match placement {
            wit::Placement::Head => Placement::Head,
            wit::Placement::Tail => Placement::Tail,
            wit::Placement::Before(id) => Placement::Before(EntryId(id)),
            wit::Placement::After(id) => Placement::After(EntryId(id)),
            wit::Placement::Replace(id) => Placement::Replace(EntryId(id)),
        };
        let request =
            LinkRequest { namespace, device, point: point.into(), program, owner, placement, revision };
        Ok(LinkHandle(self.operations()?.attach(&self.plugin, request).await?))
    }

    /// An attachment that the grant covers.
    async fn covered_attachment(&self, id: &str, operation: &'static str) -> Answer<Attachment> {
        let grant = self.link_grant()?;
        let attachment = self.operations()?.attachment(id).await?;
        let owner = attachment.candidate.owner.as_str();
        if owner == Owner::DATAPATH {
            return Err(self.deny(operation, format!("{id} is the node's own datapath")));
        }
        self.check(grant.covers_owner(owner), operation, || format!("{id}, which is {owner}'s"))?;
        let device = &attachment.hook.device;
        let covered = |namespace: &Namespace| grant.covers(namespace, device);
        self.namespace(attachment.hook.netns.into(), operation, covered).await?;
        Ok(attachment)
    }

    async fn open_link(&mut self, id: String) -> Answer<LinkHandle> {
        let attachment = self.covered_attachment(&id, "links.open").await?;
        Ok(LinkHandle(attachment.id))
    }
}

impl links::Host for State {
    async fn query(
        &mut self,
        netns: wit::NetnsId,
        device: String,
        point: wit::HookPoint,
    ) -> wasmtime::Result<Answer<wit::Chain>> {
        self.meter.count_host_call()?;
        Ok(self.query_chain(netns, &device, point).await)
    }

    async fn attach(
        &mut self,
        netns: wit::NetnsId,
        device: String,
        point: wit::HookPoint,
        program: String,
        owner: String,
        placement: wit::Placement,
        revision: u64,
    ) -> wasmtime::Result<Answer<Resource<LinkHandle>>> {
        self.meter.count_host_call()?;
        match self.attach_link(netns, device, point, &program, owner, placement, revision).await {
            Ok(handle) => Ok(Ok(self.table().push(handle)?)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn open(&mut self, id: String) -> wasmtime::Result<Answer<Resource<LinkHandle>>> {
        self.meter.count_host_call()?;
        match self.open_link(id).await {
            Ok(handle) => Ok(Ok(self.table().push(handle)?)),
            Err(error) => Ok(Err(error)),
        }
    }
}

impl links::HostLink for State {
    async fn id(&mut self, handle: Resource<LinkHandle>) -> wasmtime::Result<String> {
        self.meter.count_host_call()?;
        Ok(self.table().get(&handle)?.0.clone())
    }

    async fn update(
        &mut self,
        handle: Resource<LinkHandle>,
        program: String,
    ) -> wasmtime::Result<Answer<()>> {
        const UPDATE: &str = "links.update";
        self.meter.count_host_call()?;
        let id = self.table().get(&handle)?.0.clone();
        let act = async {
            let program = self.granted_program(UPDATE, &program)?;
            self.covered_attachment(&id, UPDATE).await?;
            Ok(self.operations()?.update(&self.plugin, &id, &program).await?)
        };
        Ok(act.await)
    }

    async fn detach(&mut self, handle: Resource<LinkHandle>) -> wasmtime::Result<Answer<()>> {
        const DETACH: &str = "links.detach";
        self.meter.count_host_call()?;
        let id = self.table().get(&handle)?.0.clone();
        let act = async {
            self.check_mutate(self.link_grant()?.access, "links", DETACH)?;
            self.covered_attachment(&id, DETACH).await?;
            Ok(self.operations()?.detach(&self.plugin, &id).await?)
        };
        Ok(act.await)
    }

    async fn drop(&mut self, handle: Resource<LinkHandle>) -> wasmtime::Result<()> {
        self.table().delete(handle)?;
        Ok(())
    }
}
