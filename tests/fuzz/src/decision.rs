use std::{collections::BTreeSet, time::Duration};

use arbitrary::{Result, Unstructured};
use netloom_core::{
    answer::{RawMode, RawPlacement, RawReapPlan},
    model::{
        AttachmentKind, AttachmentMode, Backend, Candidate, Capabilities, Chain, ChainEntry, DeviceMode,
        EntryId, Feature, Labels, MacAddress, NetkitPolicy, NetkitScrub, NetnsCookie, Owner, Placement,
        ProgramId, Protocol, ReapAction, ReapEvent, ReapReason, Revision, SocketState, Support,
    },
    moves,
    validate::{self, ModeDefaults},
};

use crate::snapshot;

/// A snapshot and an answer about it, both made of the bytes. What comes through can be carried out.
pub(crate) fn feed(input: &[u8]) {
    let mut bytes = Unstructured::new(input);
    let made = match bytes.int_in_range(0..=3) {
        Ok(0) => placement(&mut bytes),
        Ok(1) => order(&mut bytes),
        Ok(2) => mode(&mut bytes),
        _ => reap_plan(&mut bytes),
    };
    // Bytes that do not suffice for a question are none.
    made.unwrap_or_default();
}

fn placement(bytes: &mut Unstructured<'_>) -> Result<()> {
    let chain = chain(bytes)?;
    let candidate = Candidate { owner: owner(bytes)?, ..Candidate::datapath(bytes.arbitrary()?) };
    let id = bytes.arbitrary()?;
    let raw = bytes.choose_iter([
        RawPlacement::Head,
        RawPlacement::Tail,
        RawPlacement::Before(id),
        RawPlacement::After(id),
        RawPlacement::Replace(id),
    ])?;
    let Ok(placement) = validate::placement(&chain, &candidate, raw) else { return Ok(()) };
    assert_eq!(RawPlacement::from(placement), raw);
    match placement {
        Placement::Head | Placement::Tail => {}
        Placement::Before(id) | Placement::After(id) => assert!(chain.entry(id).is_some()),
        Placement::Replace(id) => {
            let owner = chain.entry(id).and_then(|entry| entry.owner.as_ref());
            assert_eq!(owner, Some(&candidate.owner), "somebody else's program would go");
        }
    }
    Ok(())
}

fn order(bytes: &mut Unstructured<'_>) -> Result<()> {
    let chain = chain(bytes)?;
    let raw: Vec<u32> = list(bytes, 80, |bytes| Ok(bytes.arbitrary::<u8>()?.into()))?;
    let Ok(order) = validate::order(&chain, &raw) else { return Ok(()) };
    let own: BTreeSet<EntryId> = moves::ours(&chain).into_iter().collect();
    assert_eq!(order.len(), own.len());
    assert_eq!(order.iter().copied().collect::<BTreeSet<_>>(), own);

    // The moves reach it, and none is without need.
    let steps = moves::moves(&order, |entry| entry.0 % 2 == 0);
    let mut reached: Vec<EntryId> = moves::ours(&chain);
    for step in &steps {
        reached.retain(|entry| *entry != step.entry);
        let place = |neighbour| reached.iter().position(|entry| *entry == neighbour);
        let at = match step.to {
            moves::Neighbour::Before(neighbour) => place(neighbour),
            moves::Neighbour::After(neighbour) => place(neighbour).map(|at| at + 1),
        };
        assert!(at.is_some(), "a move next to an entry that is not there");
        reached.insert(at.unwrap_or_default(), step.entry);
    }
    assert_eq!(reached, order);
    Ok(())
}

fn mode(bytes: &mut Unstructured<'_>) -> Result<()> {
    let raw = RawMode {
        device: bytes.choose_iter([DeviceMode::Netkit, DeviceMode::NetkitL2, DeviceMode::Veth])?,
        attachment: some(bytes, |bytes| {
            bytes.choose_iter([AttachmentKind::Netkit, AttachmentKind::Tcx, AttachmentKind::Tc])
        })?,
        primary_policy: some(bytes, policy)?,
        peer_policy: some(bytes, policy)?,
        scrub: some(bytes, scrub)?,
        peer_scrub: some(bytes, scrub)?,
        headroom: bytes.arbitrary()?,
        tailroom: bytes.arbitrary()?,
        mtu: bytes.arbitrary()?,
        gso_max_size: bytes.arbitrary()?,
        gro_max_size: bytes.arbitrary()?,
    };
    let capabilities = capabilities(bytes)?;
    let mut spec = snapshot::spec();
    spec.mac = some(bytes, |bytes| Ok(MacAddress(bytes.arbitrary()?)))?;
    let wish = bytes.choose_iter([AttachmentMode::Auto, AttachmentMode::Tcx, AttachmentMode::Tc])?;
    let (has_ipv6, defaults) = (bytes.arbitrary()?, ModeDefaults { attachment: wish, mtu: 1_500 });
    let Ok(mode) = validate::mode(&raw, &spec, has_ipv6, &capabilities, &defaults) else { return Ok(()) };

    assert_eq!(mode.device, raw.device);
    let needed = match mode.attachment {
        AttachmentKind::Netkit => Feature::NetkitLinks,
        AttachmentKind::Tcx => Feature::Tcx,
        AttachmentKind::Tc => Feature::LegacyTc,
    };
    assert!(capabilities.has(needed), "attached by what this kernel does not have");
    assert!(!mode.device.is_netkit() || capabilities.has(Feature::Netkit));
    assert!(mode.device != DeviceMode::Netkit || spec.mac.is_none());
    let least = if has_ipv6 { 1_280 } else { 68 };
    assert!((least..=65_535).contains(&mode.mtu));
    let closed = raw.peer_policy != Some(NetkitPolicy::Forward);
    assert_eq!(mode.peer_policy == NetkitPolicy::Blackhole, closed, "open, and nobody asked for it");
    Ok(())
}

fn reap_plan(bytes: &mut Unstructured<'_>) -> Result<()> {
    let backends = list(bytes, 8, |bytes| {
        Ok(Backend {
            address: (bytes.arbitrary::<[u8; 4]>()?, bytes.arbitrary()?).into(),
            protocol: protocol(bytes)?,
            service: snapshot::name(),
        })
    })?;
    let event = ReapEvent { reason: ReapReason::Removed, backends };
    let raw = RawReapPlan {
        protocols: list(bytes, 3, protocol)?,
        states: list(bytes, 3, |bytes| bytes.choose_iter([SocketState::Established, SocketState::Close]))?,
        connected_only: bytes.arbitrary()?,
        netns_cookies: list(bytes, 4, |bytes| Ok(NetnsCookie(bytes.arbitrary()?)))?,
        min_age: Duration::from_nanos(bytes.arbitrary()?),
        grace: Duration::from_millis(bytes.arbitrary()?),
        action: bytes.choose_iter([
            ReapAction::Destroy,
            ReapAction::Observe,
            ReapAction::JudgeRecords,
            ReapAction::JudgePacked,
        ])?,
    };
    let connected_only = raw.connected_only;
    let Ok(plan) = validate::reap_plan(&event, raw) else { return Ok(()) };
    assert!(plan.grace <= Duration::from_secs(3_600));
    assert_eq!(plan.filter.connected_only, connected_only);
    // Nothing but the event's backends is ever looked for.
    let backends = event.backends.iter().map(|backend| (backend.address, backend.protocol));
    assert!(plan.filter.backends.iter().copied().eq(backends));
    Ok(())
}

fn chain(bytes: &mut Unstructured<'_>) -> Result<Chain> {
    let entries = list(bytes, Chain::MAX_ENTRIES, |bytes| {
        let ours: bool = bytes.arbitrary()?;
        Ok(ChainEntry {
            program: ProgramId(bytes.arbitrary::<u8>()?.into()),
            link: None,
            name: String::new(),
            tag: String::new(),
            filter: None,
            attachment: ours.then(|| "attachment".to_owned()),
            owner: if ours { Some(owner(bytes)?) } else { None },
            priority: bytes.arbitrary()?,
            labels: Labels::new(),
        })
    })?;
    Ok(Chain { hook: snapshot::hook(), revision: Revision(bytes.arbitrary()?), entries })
}

fn capabilities(bytes: &mut Unstructured<'_>) -> Result<Capabilities> {
    let bits: u32 = bytes.arbitrary()?;
    let features = Feature::ALL.into_iter().enumerate().map(|(at, feature)| {
        let available = bits >> at & 1 == 1;
        (feature, Support { available, detail: "as the bytes say".into() })
    });
    Ok(Capabilities { kernel: "random".into(), features: features.collect() })
}

fn owner(bytes: &mut Unstructured<'_>) -> Result<Owner> {
    let text = bytes.choose_iter(["acme/one", "acme/two", Owner::DATAPATH])?;
    Ok(text.parse().unwrap_or_else(|_| Owner::datapath()))
}

fn protocol(bytes: &mut Unstructured<'_>) -> Result<Protocol> {
    bytes.choose_iter([Protocol::Tcp, Protocol::Udp])
}

fn policy(bytes: &mut Unstructured<'_>) -> Result<NetkitPolicy> {
    bytes.choose_iter([NetkitPolicy::Forward, NetkitPolicy::Blackhole])
}

fn scrub(bytes: &mut Unstructured<'_>) -> Result<NetkitScrub> {
    bytes.choose_iter([NetkitScrub::None, NetkitScrub::Default])
}

fn some<T>(
    bytes: &mut Unstructured<'_>,
    make: impl FnOnce(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Option<T>> {
    if bytes.arbitrary()? { make(bytes).map(Some) } else { Ok(None) }
}

fn list<T>(
    bytes: &mut Unstructured<'_>,
    most: usize,
    mut make: impl FnMut(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let count = bytes.int_in_range(0..=most)?;
    (0..count).map(|_| make(bytes)).collect()
}
