//! Whether packets may go past the node's stack: what that has a say in goes through it.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use netloom_api::types::LocalWay;
use netloom_core::model::{Attachment, Device, Endpoint, Hook, HookPoint, IfIndex, Name, ProgramId};
use netloom_kernel::{
    datapath::ByStack,
    links,
    netns::Netns,
    stack::{self, Queues, Refusal, Say},
};

use crate::config::Way;

/// What is asked about.
pub(super) struct Asked {
    pub(super) netns: Netns,
    pub(super) outside: Way,
    pub(super) local: Way,
    /// The prefixes that endpoints have addresses of.
    pub(super) prefixes: Vec<IpNet>,
    /// Our table of nftables, if it is there.
    pub(super) own_table: Option<String>,
    /// The devices to outside.
    pub(super) uplinks: Vec<Device>,
    pub(super) endpoints: Vec<Endpoint>,
    /// Where our programs are.
    pub(super) attachments: Vec<Attachment>,
}

/// Which packets go through the stack, and why.
#[derive(Default)]
pub(super) struct Judged {
    /// Those to and from outside.
    pub(super) outside: Option<String>,
    pub(super) local: LocalWay,
    /// What endpoints of several addresses send to outside.
    pub(super) several_sources: bool,
    /// The numbers of the endpoints in [`LocalWay::endpoints`].
    pub(super) endpoints: BTreeSet<u32>,
    pub(super) refusals: Vec<Refusal>,
}

impl Judged {
    pub(super) fn by_stack(&self, masqueraded: bool) -> ByStack {
        ByStack {
            local: self.local.through_stack.is_some(),
            translated: self.local.translated_by.is_some(),
            several_sources: self.several_sources,
            masqueraded,
        }
    }
}

impl Asked {
    /// Asks the kernel. What it does not answer counts as a yes. Blocks.
    pub(super) fn judge(&self) -> Judged {
        let names: Vec<String> = self.uplinks.iter().map(|device| device.name.clone()).collect();
        let mut judged = match stack::look(&self.netns, &self.prefixes, &names, self.own_table.as_deref()) {
            Ok(say) => self.by(&say),
            Err(error) => {
                let why = Some(format!("what the node's stack does cannot be read: {error}"));
                let local = LocalWay { through_stack: why.clone(), ..LocalWay::default() };
                Judged { outside: why, local, ..Judged::default() }
            }
        };
        match self.outside {
            Way::Auto => {}
            Way::Direct => judged.outside = None,
            Way::Stack => judged.outside = Some("datapath.outside says so".to_owned()),
        }
        match self.local {
            Way::Auto => {}
            Way::Direct => judged.local = LocalWay::default(),
            Way::Stack => judged.local.through_stack = Some("datapath.local says so".to_owned()),
        }
        judged.endpoints = self
            .endpoints
            .iter()
            .filter(|endpoint| judged.local.endpoints.contains_key(&endpoint.spec.name))
            .map(|endpoint| endpoint.id)
            .collect();
        judged
    }

    fn by(&self, say: &Say) -> Judged {
        let has_a_say = |what: &String| format!("{what} has a say in what is forwarded");
        let packets = say.packets.as_ref().map(has_a_say);
        let outside = packets
            .clone()
            .or_else(|| say.flows.as_ref().map(has_a_say))
            .or_else(|| say.outside.clone())
            .or_else(|| self.uplinks.iter().find_map(|device| self.queued_at_uplink(say, device)));
        let local = LocalWay {
            through_stack: packets.or_else(|| say.local.as_ref().map(has_a_say)),
            translated_by: say.flows.clone(),
            endpoints: self.queued_at_endpoints(say),
        };
        Judged {
            outside,
            local,
            several_sources: say.sources,
            endpoints: BTreeSet::new(),
            refusals: say.refusals.clone(),
        }
    }

    fn queued_at_uplink(&self, say: &Say, device: &Device) -> Option<String> {
        let queues = say.queues.get(&device.ifindex)?;
        if !stack::are_plain(queues) {
            let kind = queues.root.as_deref().unwrap_or_default();
            return Some(format!("{} has the qdisc {kind}", device.name));
        }
        self.filtered(queues, device.ifindex, &device.name)
    }

    /// Packets go straight into endpoints, and so past whatever queues at the node's end.
    fn queued_at_endpoints(&self, say: &Say) -> BTreeMap<Name, String> {
        let why = |endpoint: &Endpoint| {
            let queues = say.queues.get(&endpoint.host_ifindex)?;
            match queues.root.as_deref() {
                None | Some("noqueue") => {}
                Some(kind) => return Some(format!("{} has the qdisc {kind}", endpoint.host_interface)),
            }
            self.filtered(queues, endpoint.host_ifindex, &endpoint.host_interface)
        };
        let queued = self.endpoints.iter().filter_map(|endpoint| Some((endpoint, why(endpoint)?)));
        queued.map(|(endpoint, why)| (endpoint.spec.name.clone(), why)).collect()
    }

    /// Filters of others at a device's ingress, which do not see what our program there sends on.
    fn filtered(&self, queues: &Queues, ifindex: IfIndex, name: &str) -> Option<String> {
        queues.ingress.as_ref()?;
        let point = HookPoint::TcIngress;
        let hook = Hook { netns: self.netns.id(), device: name.to_owned(), ifindex, point };
        let ours: Vec<ProgramId> = self
            .attachments
            .iter()
            .filter(|attachment| attachment.hook.ifindex == ifindex)
            .map(|attachment| attachment.program)
            .collect();
        match links::filters_beside(&hook, &self.netns, &ours) {
            Ok(filters) => {
                let filter = filters.into_iter().next()?;
                Some(format!("{name} has the filter {filter} on what comes in"))
            }
            // It has gone meanwhile, which is announced.
            Err(error) if is_gone(&error) => None,
            Err(error) => Some(format!("the filters of {name} cannot be read: {error}")),
        }
    }
}

fn is_gone(error: &links::LinkError) -> bool {
    matches!(error, links::LinkError::DeviceGone { .. })
}
