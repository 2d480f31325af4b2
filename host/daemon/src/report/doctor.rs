//! What is wrong on the node, and the way out.

use netloom_api::types::{Attachment, Doctor, Endpoint, Finding, Owner, PoolView};
use netloom_core::{
    model::{ChainEntry, Feature, Hook, HookPoint},
    reserved::Reserved,
};
use netloom_kernel::{
    links::{self, Shadow},
    netns::Netns,
    sockets::{Destroyer, Finder},
    stack::Refusal,
};

use super::Report;
use crate::{failure::Failure, inventory::presence::Presence, uplinks::Ways};

impl Report {
    /// Looks at everything once.
    pub(crate) async fn doctor(&self) -> Result<Doctor, Failure> {
        let mut findings = self.capability_findings();
        findings.extend(self.store.findings());
        findings.extend(self.executor.unfinished.findings());
        findings.extend(self.socket_findings());
        findings.extend(self.way_findings());
        findings.extend(self.plugin_findings());
        findings.extend(self.plugins.component_findings()?);
        let reserved = self.endpoints.reserved().await?;
        for (_, endpoint) in self.store.all::<Endpoint>()? {
            findings.extend(self.endpoint_findings(&endpoint).await?);
            findings.extend(address_findings(&endpoint, &reserved));
        }
        for (_, attachment) in self.store.all::<Attachment>()? {
            findings.extend(self.attachment_findings(&attachment).await);
        }
        findings.extend(self.endpoints.pools().await?.iter().filter_map(pool_finding));
        findings.extend(self.mends.fights());
        findings.extend(self.orphans.findings().await?);
        findings.extend(self.shadow_findings().await?);
        findings.extend(self.seen.churning().into_iter().map(|hook| {
            finding(
                "warning",
                &hook.to_string(),
                "others change this chain all the time",
                "see `netloom events --kind churn`, and stop one of the tools that fight over it",
            )
        }));
        findings.extend(self.start.adoption().dropped.into_iter().map(|dropped| {
            finding("note", "start", dropped, "nothing: it was cleaned up when netloomd started")
        }));
        Ok(Doctor { node: self.view_of_node(), findings })
    }

    fn capability_findings(&self) -> Vec<Finding> {
        let missing = |feature: Feature, severity: &str, means: &str, hint: &str| {
            let support = self.capabilities.features.get(&feature)?;
            let message = format!("{means} ({})", support.detail);
            (!support.available).then(|| finding(severity, feature.as_str(), message, hint))
        };
        let newer = "run a newer kernel, if you want it";
        [
            missing(
                Feature::Btf,
                "error",
                "no program can be loaded",
                "use a kernel with CONFIG_DEBUG_INFO_BTF",
            ),
            missing(Feature::SocketLb, "error", "services are not translated", "mount a cgroup2 file system"),
            missing(
                Feature::SocketDestroy,
                "error",
                "no socket can be reaped",
                "use a kernel with CONFIG_INET_DIAG_DESTROY",
            ),
            missing(Feature::Netkit, "note", "endpoints get veth pairs", newer),
            missing(Feature::Tcx, "note", "programs attach through legacy tc", newer),
            missing(
                Feature::SocketStorageIterator,
                "warning",
                "sockets are found namespace by namespace, which takes longer",
                newer,
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Which way sockets are found and destroyed, where it is not the best.
    fn socket_findings(&self) -> Vec<Finding> {
        let (finder, destroyer) = (self.sockets.finder(), self.sockets.destroyer());
        let slow = (finder != Finder::SkStorage).then(|| {
            let message = format!("sockets are found by {finder}, which walks all sockets of each namespace");
            finding("warning", "sockets", message, "leave `sockets.finder` unset, or run a newer kernel")
        });
        let way = match destroyer {
            Destroyer::SockDiag => None,
            Destroyer::Namespaces => Some(finding(
                "note",
                "sockets",
                format!("sockets are destroyed by {destroyer}, which walks all sockets of each namespace"),
                "leave `sockets.destroyer` unset, or use a kernel with CONFIG_INET_DIAG_DESTROY",
            )),
            Destroyer::Nothing => Some(finding(
                "error",
                "sockets",
                "stale sockets are reported and not destroyed",
                "leave `sockets.destroyer` unset, or use a kernel with CONFIG_INET_DIAG_DESTROY",
            )),
        };
        slow.into_iter().chain(way).collect()
    }

    /// What keeps packets from going the shortest way, or from getting anywhere.
    fn way_findings(&self) -> Vec<Finding> {
        let Ways { local, refusals, troubles, .. } = self.uplinks.now();
        let mut findings: Vec<Finding> = refusals.iter().map(refused).collect();
        findings.extend(troubles.into_iter().map(|trouble| {
            let hint = "mend what it says, or set `datapath.masquerade = false` if endpoints are to keep their addresses";
            finding("warning", "outside", trouble, hint)
        }));
        let hint = "remove it, if packets are to pass the node's stack by";
        findings.extend(local.through_stack.map(|why| {
            finding(
                "note",
                "local",
                format!("packets between endpoints go through the node's stack: {why}"),
                hint,
            )
        }));
        findings.extend(local.endpoints.into_iter().map(|(name, why)| {
            let message = format!("its packets go through the node's stack: {why}");
            finding("note", &format!("endpoint {name}"), message, hint)
        }));
        findings
    }

    fn plugin_findings(&self) -> Vec<Finding> {
        self.plugins
            .list()
            .into_iter()
            .filter(|plugin| plugin.state != "active" || plugin.reason.is_some())
            .map(|plugin| {
                let reason = plugin.reason.unwrap_or_else(|| "no reason is known".into());
                let message = format!("it is {}: {reason}", plugin.state);
                let hint = format!(
                    "see `netloom explain`; load a mended version, or `netloom plugin unload {}`",
                    plugin.name
                );
                finding("error", &format!("plugin {}", plugin.name), message, &hint)
            })
            .collect()
    }

    async fn endpoint_findings(&self, endpoint: &Endpoint) -> Result<Vec<Finding>, Failure> {
        let name = &endpoint.spec.name;
        let subject = format!("endpoint {name}");
        let delete = format!("netloom endpoint delete {name}");
        let device = self.devices.by_index(endpoint.host_ifindex).await?;
        Ok(match device {
            None => {
                let message = format!("its device {} is gone", endpoint.host_interface);
                vec![finding("error", &subject, message, &delete)]
            }
            Some(_) if namespace_gone(endpoint) => {
                let message = format!("{} no longer names its namespace", endpoint.spec.netns.display());
                vec![finding("warning", &subject, message, &delete)]
            }
            Some(_) => self.mends.endpoint_findings(endpoint).await?,
        })
    }

    async fn attachment_findings(&self, attachment: &Attachment) -> Vec<Finding> {
        let message = match self.inventory.presence(attachment).await {
            Ok(Presence::InPlace | Presence::Moved(..)) => {
                return self.shadowed(attachment).into_iter().collect();
            }
            Ok(Presence::Lost(loss)) => format!("it is not at {}: {loss}", attachment.hook),
            Err(failure) => failure.to_string(),
        };
        let subject = format!("attachment {}", attachment.id);
        vec![finding("error", &subject, message, "restart netloomd, which adopts or drops it")]
    }

    /// Programs and filters that no packet reaches, on any device of the node and wherever we have attachments.
    async fn shadow_findings(&self) -> Result<Vec<Finding>, Failure> {
        let points =
            [HookPoint::TcxIngress, HookPoint::TcxEgress, HookPoint::NetkitPrimary, HookPoint::NetkitPeer];
        let mut hooks: Vec<Hook> = Vec::new();
        for device in self.devices.list().await? {
            hooks.extend(points.map(|point| Hook {
                netns: self.netns.id(),
                device: device.name.clone(),
                ifindex: device.ifindex,
                point,
            }));
        }
        for attachment in self.inventory.attachments()? {
            let point = attachment.hook.point.on(false).unwrap_or(attachment.hook.point);
            let hook = Hook { point, ..attachment.hook };
            if !hooks.contains(&hook) {
                hooks.push(hook);
            }
        }
        let mut findings = Vec::new();
        for hook in hooks {
            // A device may go at any time, and one that is gone hides nothing.
            let Ok(netns) = self.inventory.netns_of(&hook) else { continue };
            let Ok(shadows) = links::shadows(&hook, &netns) else { continue };
            for shadow in shadows {
                let Shadow { what, by, at, certain, hook } = shadow;
                let (severity, message) = if certain {
                    ("warning", format!("no packet reaches {what}: {by} at {at} always decides"))
                } else {
                    let message = format!(
                        "{what} only sees packets that {by} at {at} leaves to it, and whether it leaves any cannot be told"
                    );
                    ("note", message)
                };
                let hint = "attach it with `netloom attach` in front, or detach it if it is not needed";
                findings.push(finding(severity, &hook.to_string(), message, hint));
            }
        }
        Ok(findings)
    }

    /// The datapath sends packets for another endpoint straight to its device: programs behind it on the hook, and
    /// legacy filters behind a tcx datapath, never see them.
    fn shadowed(&self, attachment: &Attachment) -> Option<Finding> {
        if attachment.candidate.owner.as_str() != Owner::DATAPATH {
            return None;
        }
        let netns = match attachment.netns.as_deref() {
            None => self.netns.clone(),
            Some(path) => Netns::open(path).ok()?,
        };
        let chain = links::query(&attachment.hook, &netns).ok()?;
        let ours = chain.entries.iter().position(|entry| is(entry, attachment))?;
        let mut hidden: Vec<String> =
            chain.entries.iter().skip(ours + 1).map(|entry| entry.name.clone()).collect();
        let legacy = match attachment.hook.point {
            HookPoint::TcxIngress => Some(HookPoint::TcIngress),
            HookPoint::TcxEgress => Some(HookPoint::TcEgress),
            _ => None,
        };
        if let Some(point) = legacy {
            let hook = Hook { point, ..attachment.hook.clone() };
            if let Ok(chain) = links::query(&hook, &netns) {
                hidden.extend(chain.entries.into_iter().map(|entry| entry.name));
            }
        }
        (!hidden.is_empty()).then(|| {
            finding(
                "warning",
                &attachment.hook.to_string(),
                format!(
                    "no packet of an endpoint reaches {}: the datapath in front of it decides",
                    hidden.join(", ")
                ),
                "attach it with `netloom attach`, which places it in front",
            )
        })
    }
}

/// A chain that drops what endpoints send to outside and get from there.
fn refused(refusal: &Refusal) -> Finding {
    let Refusal { family, table, chain } = refusal;
    let named = format!("{family} {table} {chain}");
    let rule = |direction: &str| format!("nft insert rule {named} {direction} \"nl*\" accept");
    finding(
        "error",
        &format!("nftables chain {named}"),
        "it drops forwarded packets that no rule accepts, those of endpoints too unless another rule accepts them",
        &format!("{}; {}", rule("iifname"), rule("oifname")),
    )
}

/// A pool that is full, or soon will be: from nine tenths on.
fn pool_finding(pool: &PoolView) -> Option<Finding> {
    let PoolView { prefix, size, used, full } = pool;
    let subject = format!("pool {prefix}");
    let hint = "delete endpoints, or set a larger endpoints.ipv4_pool or endpoints.ipv6_pool";
    if *full {
        return Some(finding("error", &subject, "it has no free address", hint));
    }
    let nearly = *used as u64 >= size - size / 10;
    let message = format!("{used} of its {size} addresses are given");
    nearly.then(|| finding("warning", &subject, message, hint))
}

/// Addresses of an endpoint that the node or a service has got since.
fn address_findings(endpoint: &Endpoint, reserved: &Reserved) -> Vec<Finding> {
    let refused = endpoint.addresses.iter().filter_map(|network| {
        let address = network.addr();
        reserved.refuses(address).map(|why| (address, why))
    });
    refused
        .map(|(address, why)| {
            finding(
                "error",
                &format!("endpoint {}", endpoint.spec.name),
                format!("it cannot have its address {address} any more, which {why}"),
                "take the address away there, or delete the endpoint and add it with another",
            )
        })
        .collect()
}

/// The namespaces of endpoints that no longer exist at their path.
pub(super) fn namespace_gone(endpoint: &Endpoint) -> bool {
    Netns::open(&endpoint.spec.netns).map_or(true, |netns| netns.id() != endpoint.netns)
}

pub(super) fn is(entry: &ChainEntry, attachment: &Attachment) -> bool {
    match attachment.link {
        Some(link) => entry.link == Some(link),
        None => entry.program == attachment.program && entry.filter == attachment.filter,
    }
}

fn finding(severity: &str, subject: &str, message: impl Into<String>, hint: &str) -> Finding {
    Finding {
        severity: severity.to_owned(),
        subject: subject.to_owned(),
        message: message.into(),
        hint: hint.to_owned(),
    }
}
