//! Whether an endpoint is as it was added: what CNI's CHECK asks.

use netloom_api::types::{Attachment, Endpoint, EndpointCheck};
use netloom_core::model::Name;
use netloom_kernel::{links, netns::Netns};

use super::{
    Report,
    doctor::{is, namespace_gone},
};
use crate::failure::Failure;

impl Report {
    /// Looks at an endpoint's devices, at what belongs to them on the node and in the endpoint, at its programs, and at
    /// what the datapath knows of it.
    pub(crate) async fn check(&self, name: &Name) -> Result<EndpointCheck, Failure> {
        let endpoint = self.inventory.endpoint_record(name)?;
        let mut problems = Vec::new();
        if self.devices.by_index(endpoint.host_ifindex).await?.is_none() {
            problems.push(format!("its device {} is gone", endpoint.host_interface));
        } else if namespace_gone(&endpoint) {
            problems.push(format!("{} no longer names its namespace", endpoint.spec.netns.display()));
        } else {
            problems.extend(self.mends.unmet(&endpoint).await?);
            problems.extend(self.program_problems(&endpoint));
        }
        let known = self.datapath.addresses()?;
        let unknown = endpoint.addresses.iter().filter(|address| {
            !known.iter().any(|entry| entry.id == endpoint.id && entry.address == address.addr())
        });
        problems.extend(unknown.map(|address| format!("the datapath does not know {}", address.addr())));
        Ok(EndpointCheck { problems })
    }

    fn program_problems(&self, endpoint: &Endpoint) -> Vec<String> {
        let attachments = self.store.attachments();
        let runs = |id: &String| attachments.get(id).is_some_and(|attachment| self.runs(attachment));
        let missing = endpoint.attachments.iter().filter(|id| !runs(id));
        missing.map(|id| format!("its program {id} does not run on {}", endpoint.host_interface)).collect()
    }

    fn runs(&self, attachment: &Attachment) -> bool {
        let netns = match attachment.netns.as_deref() {
            None => Ok(self.netns.clone()),
            Some(path) => Netns::open(path),
        };
        let chain = netns.ok().and_then(|netns| links::query(&attachment.hook, &netns).ok());
        chain.is_some_and(|chain| chain.entries.iter().any(|entry| is(entry, attachment)))
    }
}
