//! From what a plugin said to what may be carried out. An answer that fails here counts as a failure of the
//! plugin, exactly like a trap.

use std::{net::SocketAddr, time::Duration};

use crate::{
    answer::{RawMode, RawPlacement, RawReapPlan},
    model::{
        AttachmentKind, AttachmentMode, Candidate, Capabilities, Chain, DeviceMode, EndpointMode,
        EndpointSpec, EntryId, Feature, NetkitPolicy, Placement, Protocol, ReapEvent, ReapPlan, Segmentation,
        SocketFilter,
    },
    moves,
};

/// A plugin's answer cannot be carried out, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAnswer {
    /// A placement names an entry that the snapshot does not have.
    #[error("it names entry {id}, but the chain has {len} entries")]
    NoSuchEntry {
        /// The name.
        id: u32,
        /// How many there are.
        len: usize,
    },
    /// A placement would replace somebody else's program.
    #[error("it would replace entry {id}, which belongs to {owner}")]
    NotReplaceable {
        /// The entry.
        id: u32,
        /// Whose it is.
        owner: String,
    },
    /// An order is not one of Netloom's own entries, each once.
    #[error("its order {what} entry {id}; it must name each of Netloom's own entries once, and no other")]
    NotAnOrder {
        /// What it does: `leaves out`, `names twice`, `names the foreign`.
        what: &'static str,
        /// The entry.
        id: u32,
    },
    /// A mode that this node's kernel does not have.
    #[error("it chooses {what}, which this kernel does not have ({detail})")]
    Unavailable {
        /// What it chose.
        what: String,
        /// What the probe saw.
        detail: String,
    },
    /// Two parts of the answer exclude each other.
    #[error("it chooses {what} together with {with}")]
    Contradiction {
        /// One.
        what: String,
        /// The other.
        with: String,
    },
    /// A number is out of bounds.
    #[error("{what} is {value}, outside {least} to {most}")]
    OutOfBounds {
        /// Which number.
        what: &'static str,
        /// What it is.
        value: u64,
        /// At least.
        least: u64,
        /// At most.
        most: u64,
    },
    /// Another number of judgements than of sockets.
    #[error("it gave {given} answers for {asked} sockets")]
    Count {
        /// Asked.
        asked: usize,
        /// Given.
        given: usize,
    },
}

/// Checks a placement against the snapshot it was decided on.
///
/// # Errors
/// [`InvalidAnswer`] if it names an entry that is not there, or would replace one that is not the
/// candidate's owner's.
pub fn placement(
    chain: &Chain,
    candidate: &Candidate,
    raw: RawPlacement,
) -> Result<Placement, InvalidAnswer> {
    let entry = |id: u32| {
        chain
            .entry(EntryId(id))
            .map(|entry| (EntryId(id), entry))
            .ok_or(InvalidAnswer::NoSuchEntry { id, len: chain.entries.len() })
    };
    Ok(match raw {
        RawPlacement::Head => Placement::Head,
        RawPlacement::Tail => Placement::Tail,
        RawPlacement::Before(id) => Placement::Before(entry(id)?.0),
        RawPlacement::After(id) => Placement::After(entry(id)?.0),
        RawPlacement::Replace(id) => {
            let (id, entry) = entry(id)?;
            if entry.owner.as_ref() != Some(&candidate.owner) {
                let owner =
                    entry.owner.as_ref().map_or_else(|| "another program".to_owned(), ToString::to_string);
                return Err(InvalidAnswer::NotReplaceable { id: id.0, owner });
            }
            Placement::Replace(id)
        }
    })
}

/// Checks an order against the snapshot it was decided on.
///
/// # Errors
/// [`InvalidAnswer`] unless it names each of our own entries once, and no other.
pub fn order(chain: &Chain, raw: &[u32]) -> Result<Vec<EntryId>, InvalidAnswer> {
    let mut order = Vec::with_capacity(raw.len());
    for &id in raw {
        let entry =
            chain.entry(EntryId(id)).ok_or(InvalidAnswer::NoSuchEntry { id, len: chain.entries.len() })?;
        if entry.attachment.is_none() {
            return Err(InvalidAnswer::NotAnOrder { what: "names the foreign", id });
        }
        if order.contains(&EntryId(id)) {
            return Err(InvalidAnswer::NotAnOrder { what: "names twice", id });
        }
        order.push(EntryId(id));
    }
    match moves::ours(chain).into_iter().find(|entry| !order.contains(entry)) {
        Some(EntryId(id)) => Err(InvalidAnswer::NotAnOrder { what: "leaves out", id }),
        None => Ok(order),
    }
}

/// The node's configured values, which fill what a mode leaves open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModeDefaults {
    /// The operator's wish for attachments.
    pub attachment: AttachmentMode,
    /// Bytes.
    pub mtu: u32,
}

/// Checks a datapath mode against the node and the endpoint, and completes it.
///
/// # Errors
/// [`InvalidAnswer`] if the kernel lacks what was chosen, parts contradict each other, or a number is out of
/// bounds.
pub fn mode(
    raw: &RawMode,
    endpoint: &EndpointSpec,
    has_ipv6: bool,
    capabilities: &Capabilities,
    defaults: &ModeDefaults,
) -> Result<EndpointMode, InvalidAnswer> {
    let need = |feature: Feature, what: &dyn std::fmt::Display| {
        if capabilities.has(feature) {
            return Ok(());
        }
        let detail =
            capabilities.features.get(&feature).map_or("not probed", |support| support.detail.as_str());
        Err(InvalidAnswer::Unavailable { what: what.to_string(), detail: detail.to_owned() })
    };
    let contradiction = |what: &dyn std::fmt::Display, with: &str| {
        Err(InvalidAnswer::Contradiction { what: what.to_string(), with: with.to_owned() })
    };

    if raw.device.is_netkit() {
        need(Feature::Netkit, &raw.device)?;
        if raw.scrub.is_some() || raw.peer_scrub.is_some() {
            need(Feature::NetkitScrub, &"a netkit scrub setting")?;
        }
        if raw.headroom.is_some() || raw.tailroom.is_some() {
            need(Feature::NetkitHeadroom, &"netkit headroom or tailroom")?;
        }
    } else if raw.primary_policy.is_some() || raw.peer_policy.is_some() {
        return contradiction(&raw.device, "a netkit policy");
    } else if raw.scrub.is_some()
        || raw.peer_scrub.is_some()
        || raw.headroom.is_some()
        || raw.tailroom.is_some()
    {
        return contradiction(&raw.device, "a netkit setting");
    }
    if raw.device == DeviceMode::Netkit && endpoint.mac.is_some() {
        return contradiction(&raw.device, "an endpoint that asks for a MAC address");
    }

    let attachment =
        raw.attachment.unwrap_or_else(|| best_attachment(raw.device, capabilities, defaults.attachment));
    match attachment {
        AttachmentKind::Netkit if !raw.device.is_netkit() => {
            return contradiction(&raw.device, "a netkit attachment");
        }
        AttachmentKind::Netkit => need(Feature::NetkitLinks, &"a netkit link")?,
        AttachmentKind::Tcx => need(Feature::Tcx, &"a tcx link")?,
        AttachmentKind::Tc => need(Feature::LegacyTc, &"a legacy tc filter")?,
    }

    let mtu = raw.mtu.unwrap_or(defaults.mtu);
    let least = if has_ipv6 { 1_280 } else { 68 };
    bounds("the MTU", mtu.into(), least, 65_535)?;
    let segmentation = Segmentation {
        gso_max_size: raw.gso_max_size,
        gro_max_size: raw.gro_max_size,
        ..Segmentation::default()
    };
    segmentation_sizes(&segmentation)?;

    Ok(EndpointMode {
        device: raw.device,
        attachment,
        primary_policy: raw.primary_policy.unwrap_or(NetkitPolicy::Forward),
        // Nothing leaves an endpoint before its program is attached, nor after it is gone.
        peer_policy: raw.peer_policy.unwrap_or(NetkitPolicy::Blackhole),
        scrub: raw.scrub,
        peer_scrub: raw.peer_scrub,
        headroom: raw.headroom,
        tailroom: raw.tailroom,
        mtu,
        segmentation,
    })
}

/// Checks the sizes that are given against what any device takes: `GSO_MAX_SIZE` of the kernel is the most, and
/// below the least not even one full packet fits.
///
/// # Errors
/// [`InvalidAnswer::OutOfBounds`].
pub fn segmentation_sizes(sizes: &Segmentation) -> Result<(), InvalidAnswer> {
    for (what, value) in sizes.sizes() {
        if let Some(value) = value {
            bounds(what, value.into(), 4_096, 524_280)?;
        }
    }
    Ok(())
}

/// The attachment kind for a device when policy leaves it open: netkit links on netkit, tcx elsewhere, legacy
/// tc where the kernel has no tcx or the operator opts out.
#[must_use]
pub fn best_attachment(
    device: DeviceMode,
    capabilities: &Capabilities,
    wish: AttachmentMode,
) -> AttachmentKind {
    match wish {
        AttachmentMode::Auto | AttachmentMode::Tcx if device.is_netkit() => AttachmentKind::Netkit,
        AttachmentMode::Tcx => AttachmentKind::Tcx,
        AttachmentMode::Auto if capabilities.has(Feature::Tcx) => AttachmentKind::Tcx,
        // Only a netkit program can lift a netkit device's blackhole policy, so opting out of links is not for it.
        AttachmentMode::Tc if device.is_netkit() => AttachmentKind::Netkit,
        AttachmentMode::Auto | AttachmentMode::Tc => AttachmentKind::Tc,
    }
}

/// The mode of an endpoint when no plugin decides: netkit where the kernel has it, netkit-l2 for what needs
/// Ethernet, else veth.
#[must_use]
pub fn built_in_mode(endpoint: &EndpointSpec, capabilities: &Capabilities) -> RawMode {
    let netkit = capabilities.has(Feature::Netkit) && capabilities.has(Feature::NetkitLinks);
    let device = match (netkit, endpoint.mac.is_some() || endpoint.virtual_machine) {
        (true, false) => DeviceMode::Netkit,
        (true, true) => DeviceMode::NetkitL2,
        (false, _) => DeviceMode::Veth,
    };
    RawMode {
        device,
        attachment: None,
        primary_policy: None,
        peer_policy: None,
        scrub: None,
        peer_scrub: None,
        headroom: None,
        tailroom: None,
        mtu: None,
        gso_max_size: None,
        gro_max_size: None,
    }
}

/// Checks a reap plan and turns it into what is looked for.
///
/// # Errors
/// [`InvalidAnswer`] if the grace period is over an hour.
pub fn reap_plan(event: &ReapEvent, raw: RawReapPlan) -> Result<ReapPlan, InvalidAnswer> {
    const HOUR: Duration = Duration::from_secs(3_600);
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    bounds("the grace period in milliseconds", millis(raw.grace), 0, millis(HOUR))?;
    let backends: Vec<(SocketAddr, Protocol)> =
        event.backends.iter().map(|backend| (backend.address, backend.protocol)).collect();
    Ok(ReapPlan {
        filter: SocketFilter {
            backends,
            protocols: raw.protocols,
            states: raw.states,
            connected_only: raw.connected_only,
            netns_cookies: raw.netns_cookies,
            min_age: raw.min_age,
        },
        grace: raw.grace,
        action: raw.action,
    })
}

/// Checks that every socket was judged.
///
/// # Errors
/// [`InvalidAnswer::Count`] otherwise.
pub fn judgements(asked: usize, given: Vec<bool>) -> Result<Vec<bool>, InvalidAnswer> {
    if given.len() == asked { Ok(given) } else { Err(InvalidAnswer::Count { asked, given: given.len() }) }
}

/// Unpacks a bitmap of judgements: one bit a socket, 64 a word, the first in the lowest bit.
///
/// # Errors
/// [`InvalidAnswer::Count`] if there are too few or too many words.
pub fn packed_judgements(asked: usize, words: &[u64]) -> Result<Vec<bool>, InvalidAnswer> {
    if words.len() != asked.div_ceil(64) {
        return Err(InvalidAnswer::Count { asked, given: words.len() * 64 });
    }
    let mut judgements = Vec::with_capacity(words.len() * 64);
    for word in words {
        // The length is known for each word, so that its bits are spread without a look at the room for each.
        judgements.extend((0..64).map(|bit| word >> bit & 1 == 1));
    }
    judgements.truncate(asked);
    Ok(judgements)
}

fn bounds(what: &'static str, value: u64, least: u64, most: u64) -> Result<(), InvalidAnswer> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(InvalidAnswer::OutOfBounds { what, value, least, most })
    }
}

#[cfg(test)]
mod tests;
