use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::{
    Backend, ChainEntry, Hook, HookPoint, IfIndex, Labels, Name, NetkitScrub, NetnsId, Owner, ProgramId,
    ReapAction, ReapReason, Revision, Support,
};

fn capabilities(features: &[Feature]) -> Capabilities {
    let features = features.iter().map(|f| (*f, Support { available: true, detail: "works".into() }));
    Capabilities { kernel: "test".into(), features: features.collect::<BTreeMap<_, _>>() }
}

fn modern() -> Capabilities {
    capabilities(&[Feature::Netkit, Feature::NetkitLinks, Feature::Tcx, Feature::LegacyTc])
}

fn endpoint() -> EndpointSpec {
    EndpointSpec::plain(Name::new("web").unwrap(), "/run/netns/web")
}

fn raw(device: DeviceMode) -> RawMode {
    RawMode { device, ..built_in_mode(&endpoint(), &Capabilities::default()) }
}

fn defaults() -> ModeDefaults {
    ModeDefaults { attachment: AttachmentMode::Auto, mtu: 1_500 }
}

fn check(raw: &RawMode, capabilities: &Capabilities) -> Result<EndpointMode, InvalidAnswer> {
    mode(raw, &endpoint(), false, capabilities, &defaults())
}

#[test]
fn netkit_is_refused_where_the_kernel_has_none() {
    let answer = check(&raw(DeviceMode::Netkit), &capabilities(&[Feature::Tcx]));
    assert!(matches!(answer, Err(InvalidAnswer::Unavailable { what, .. }) if what == "netkit"));
}

#[test]
fn a_netkit_endpoint_is_closed_until_its_program_is_attached() {
    let mode = check(&raw(DeviceMode::Netkit), &modern()).unwrap();
    assert_eq!(mode.peer_policy, NetkitPolicy::Blackhole);
    assert_eq!(mode.attachment, AttachmentKind::Netkit);
}

#[test]
fn the_best_attachment_follows_the_kernel_and_the_operator() {
    let tc_only = capabilities(&[Feature::LegacyTc]);
    for (device, capabilities, wish, expected) in [
        (DeviceMode::Veth, &modern(), AttachmentMode::Auto, AttachmentKind::Tcx),
        (DeviceMode::Veth, &tc_only, AttachmentMode::Auto, AttachmentKind::Tc),
        (DeviceMode::Veth, &modern(), AttachmentMode::Tc, AttachmentKind::Tc),
        (DeviceMode::Veth, &tc_only, AttachmentMode::Tcx, AttachmentKind::Tcx),
        (DeviceMode::Netkit, &modern(), AttachmentMode::Auto, AttachmentKind::Netkit),
        (DeviceMode::NetkitL2, &modern(), AttachmentMode::Tcx, AttachmentKind::Netkit),
        (DeviceMode::NetkitL2, &modern(), AttachmentMode::Tc, AttachmentKind::Netkit),
    ] {
        assert_eq!(best_attachment(device, capabilities, wish), expected, "{device} {wish:?}");
    }
}

#[test]
fn without_a_plugin_netkit_is_taken_where_the_kernel_has_all_of_it_and_l2_for_who_needs_ethernet() {
    let device = |endpoint: &EndpointSpec, features: &[Feature]| {
        built_in_mode(endpoint, &capabilities(features)).device
    };
    let both = [Feature::Netkit, Feature::NetkitLinks];
    let with_mac = EndpointSpec { mac: Some("02:00:00:00:00:01".parse().unwrap()), ..endpoint() };
    let machine = EndpointSpec { virtual_machine: true, ..endpoint() };
    assert_eq!(device(&endpoint(), &both), DeviceMode::Netkit);
    assert_eq!(device(&with_mac, &both), DeviceMode::NetkitL2);
    assert_eq!(device(&machine, &both), DeviceMode::NetkitL2);
    for half in both {
        assert_eq!(device(&machine, &[half]), DeviceMode::Veth);
    }
}

/// Every netkit setting alone, and the feature that it takes beyond netkit itself.
fn netkit_settings(device: DeviceMode) -> [(RawMode, Option<Feature>); 6] {
    let raw = || raw(device);
    [
        (RawMode { primary_policy: Some(NetkitPolicy::Forward), ..raw() }, None),
        (RawMode { peer_policy: Some(NetkitPolicy::Forward), ..raw() }, None),
        (RawMode { scrub: Some(NetkitScrub::None), ..raw() }, Some(Feature::NetkitScrub)),
        (RawMode { peer_scrub: Some(NetkitScrub::None), ..raw() }, Some(Feature::NetkitScrub)),
        (RawMode { headroom: Some(16), ..raw() }, Some(Feature::NetkitHeadroom)),
        (RawMode { tailroom: Some(16), ..raw() }, Some(Feature::NetkitHeadroom)),
    ]
}

#[test]
fn veth_with_any_netkit_setting_is_a_contradiction() {
    for (answer, _) in netkit_settings(DeviceMode::Veth) {
        let checked = check(&answer, &modern());
        assert!(matches!(checked, Err(InvalidAnswer::Contradiction { .. })), "{answer:?}: {checked:?}");
    }
    let answer = RawMode { attachment: Some(AttachmentKind::Netkit), ..raw(DeviceMode::Veth) };
    assert!(matches!(check(&answer, &modern()), Err(InvalidAnswer::Contradiction { .. })));
}

#[test]
fn a_netkit_setting_is_refused_where_the_kernel_lacks_it_and_taken_where_it_does_not() {
    for (answer, feature) in netkit_settings(DeviceMode::Netkit) {
        assert_eq!(check(&answer, &modern()).is_ok(), feature.is_none(), "{answer:?}");
        let mut capabilities = modern();
        capabilities.features.extend(self::capabilities(feature.as_slice()).features);
        assert!(check(&answer, &capabilities).is_ok(), "{answer:?}");
    }
}

#[test]
fn segmentation_sizes_are_kept_within_what_any_device_takes() {
    let checked = |gso, gro| {
        let sizes = RawMode { gso_max_size: gso, gro_max_size: gro, ..raw(DeviceMode::Veth) };
        check(&sizes, &modern()).map(|mode| mode.segmentation)
    };
    let sizes =
        Segmentation { gso_max_size: Some(4_096), gro_max_size: Some(524_280), ..Segmentation::default() };
    assert_eq!(checked(Some(4_096), Some(524_280)), Ok(sizes));
    for (gso, gro) in [(Some(4_095), None), (None, Some(524_281))] {
        assert!(matches!(checked(gso, gro), Err(InvalidAnswer::OutOfBounds { .. })));
    }
}

#[test]
fn l3_netkit_is_refused_for_an_endpoint_that_asks_for_a_mac() {
    let endpoint = EndpointSpec { mac: Some("02:00:00:00:00:01".parse().unwrap()), ..endpoint() };
    let answer = mode(&raw(DeviceMode::Netkit), &endpoint, false, &modern(), &defaults());
    assert!(matches!(answer, Err(InvalidAnswer::Contradiction { .. })));
}

#[test]
fn an_ipv6_endpoint_needs_an_mtu_of_1280() {
    let answer = RawMode { mtu: Some(1_279), ..raw(DeviceMode::Veth) };
    assert!(check(&answer, &modern()).is_ok());
    assert!(mode(&answer, &endpoint(), true, &modern(), &defaults()).is_err());
}

fn chain(owners: &[Option<&str>]) -> Chain {
    let entry = |owner: &Option<&str>| ChainEntry {
        program: ProgramId(1),
        link: None,
        name: String::new(),
        tag: String::new(),
        filter: None,
        attachment: None,
        owner: owner.map(|owner| Owner::new(owner).unwrap()),
        priority: None,
        labels: Labels::new(),
    };
    Chain {
        hook: Hook {
            netns: NetnsId { device: 4, inode: 1 },
            device: "eth0".into(),
            ifindex: IfIndex(2),
            point: HookPoint::TcxIngress,
        },
        revision: Revision(1),
        entries: owners.iter().map(entry).collect(),
    }
}

fn candidate() -> Candidate {
    Candidate {
        owner: Owner::new("acme").unwrap(),
        name: "acme".into(),
        tag: "0".repeat(16),
        priority: 0,
        labels: Labels::new(),
        required: false,
    }
}

#[test]
fn only_an_entry_of_the_same_owner_can_be_replaced() {
    let chain = chain(&[None, Some("acme"), Some("other")]);
    assert_eq!(placement(&chain, &candidate(), RawPlacement::Replace(1)), Ok(Placement::Replace(EntryId(1))));
    for foreign in [0, 2] {
        let answer = placement(&chain, &candidate(), RawPlacement::Replace(foreign));
        assert!(matches!(answer, Err(InvalidAnswer::NotReplaceable { .. })), "{answer:?}");
    }
}

#[test]
fn a_grace_period_over_an_hour_is_refused() {
    let event = ReapEvent {
        reason: ReapReason::Removed,
        backends: vec![Backend {
            address: "10.0.0.1:80".parse().unwrap(),
            protocol: Protocol::Tcp,
            service: Name::new("web").unwrap(),
        }],
    };
    let plan = |grace| RawReapPlan {
        protocols: vec![],
        states: vec![],
        connected_only: true,
        netns_cookies: vec![],
        min_age: Duration::ZERO,
        grace,
        action: ReapAction::Destroy,
    };
    assert!(reap_plan(&event, plan(Duration::from_secs(3_601))).is_err());
    let checked = reap_plan(&event, plan(Duration::from_secs(1))).unwrap();
    assert_eq!(checked.filter.backends, [("10.0.0.1:80".parse().unwrap(), Protocol::Tcp)]);
}

#[test]
fn too_few_and_too_many_judgements_are_refused() {
    assert!(judgements(2, vec![true]).is_err());
    assert_eq!(packed_judgements(65, &[0]), Err(InvalidAnswer::Count { asked: 65, given: 64 }));
    assert_eq!(packed_judgements(64, &[0, 0]), Err(InvalidAnswer::Count { asked: 64, given: 128 }));
    assert_eq!(packed_judgements(2, &[0b10]), Ok(vec![false, true]));
    assert_eq!(packed_judgements(0, &[]), Ok(vec![]));
}

proptest! {
    #[test]
    fn a_checked_placement_always_names_an_entry(len in 0_usize..64, id in 0_u32..80, kind in 0_usize..3) {
        let chain = chain(&vec![Some("acme"); len]);
        let raw = [RawPlacement::Before(id), RawPlacement::After(id), RawPlacement::Replace(id)][kind];
        let answer = placement(&chain, &candidate(), raw);
        prop_assert_eq!(answer.is_ok(), (id as usize) < len);
        if let Ok(placement) = answer {
            prop_assert!(crate::ordering::position(len, placement).is_some());
        }
    }

    #[test]
    fn packing_and_unpacking_agree(answers in prop::collection::vec(any::<bool>(), 0..300)) {
        let words: Vec<u64> = answers
            .chunks(64)
            .map(|chunk| chunk.iter().enumerate().fold(0, |word, (bit, yes)| word | u64::from(*yes) << bit))
            .collect();
        prop_assert_eq!(packed_judgements(answers.len(), &words), Ok(answers));
    }
}

#[test]
fn an_order_names_each_of_ours_once_and_nothing_else() {
    let mut chain = Chain {
        hook: Hook {
            netns: NetnsId { device: 4, inode: 1 },
            device: "eth0".into(),
            ifindex: IfIndex(2),
            point: HookPoint::TcxIngress,
        },
        revision: Revision(1),
        entries: vec![],
    };
    for (program, attachment) in [(1, Some("a")), (2, None), (3, Some("b"))] {
        chain.entries.push(ChainEntry {
            program: ProgramId(program),
            link: None,
            name: String::new(),
            tag: String::new(),
            filter: None,
            attachment: attachment.map(str::to_owned),
            owner: attachment.map(|owner| Owner::new(owner).unwrap()),
            priority: None,
            labels: Labels::new(),
        });
    }
    assert_eq!(order(&chain, &[2, 0]), Ok(vec![EntryId(2), EntryId(0)]));
    assert!(matches!(order(&chain, &[2, 9]), Err(InvalidAnswer::NoSuchEntry { id: 9, len: 3 })));
    for (bad, id) in [(vec![2], 0), (vec![2, 0, 2], 2), (vec![2, 1, 0], 1), (vec![], 0)] {
        let error = order(&chain, &bad).unwrap_err();
        assert!(matches!(error, InvalidAnswer::NotAnOrder { id: named, .. } if named == id), "{error}");
    }
}
