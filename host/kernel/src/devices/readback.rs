//! Whether the kernel did what it said it did.

use std::fmt::Debug;

use netloom_core::model::{Device, EndSettings, PairSpec, Segmentation};

use super::{DeviceError, NetkitDetails};

/// An error naming the attribute, unless both are the same.
pub(super) fn equal<T: PartialEq + Debug>(
    device: &str,
    attribute: &'static str,
    wanted: &T,
    found: &T,
    needs: &'static str,
) -> Result<(), DeviceError> {
    if wanted == found {
        return Ok(());
    }
    Err(DeviceError::Ignored {
        device: device.to_owned(),
        attribute,
        wanted: format!("{wanted:?}"),
        found: format!("{found:?}"),
        needs,
    })
}

/// As [`equal`], where something was asked for at all.
fn asked<T: PartialEq + Debug>(
    device: &str,
    attribute: &'static str,
    wanted: &Option<T>,
    found: &Option<T>,
    needs: &'static str,
) -> Result<(), DeviceError> {
    match (wanted, found) {
        (None, _) => Ok(()),
        (Some(wanted), Some(found)) => equal(device, attribute, wanted, found, needs),
        (Some(wanted), None) => Err(DeviceError::Ignored {
            device: device.to_owned(),
            attribute,
            wanted: format!("{wanted:?}"),
            found: "nothing".to_owned(),
            needs,
        }),
    }
}

pub(super) fn segmentation(device: &Device, wanted: &Segmentation) -> Result<(), DeviceError> {
    let needs = ["Linux 4.16", "Linux 5.19", "Linux 6.3", "Linux 6.3"];
    let found = device.segmentation().sizes();
    for (((attribute, wanted), (_, found)), needs) in wanted.sizes().into_iter().zip(found).zip(needs) {
        asked(&device.name, attribute, &wanted, &found, needs)?;
    }
    Ok(())
}

/// What was set of a device that exists.
pub(super) fn settings(device: &Device, wanted: &EndSettings) -> Result<(), DeviceError> {
    asked(&device.name, "mtu", &wanted.mtu, &Some(device.mtu), "a device that can change it")?;
    segmentation(device, &wanted.segmentation)
}

/// What both ends have in common.
pub(super) fn end(device: &Device, spec: &PairSpec) -> Result<(), DeviceError> {
    let name = &device.name;
    asked(name, "mode", &Some(spec.mode), &device.mode, "Linux 6.7 for netkit")?;
    equal(name, "mtu", &spec.mtu, &device.mtu, "a smaller value")?;
    equal(name, "up", &!spec.closed, &device.up, "a working driver")?;
    let alias = (!spec.alias.is_empty()).then(|| spec.alias.clone());
    asked(name, "alias", &alias, &device.alias, "Linux 2.6.27, and at most 255 bytes")?;
    for (attribute, wanted, found) in
        [("tx queues", spec.tx_queues, device.tx_queues), ("rx queues", spec.rx_queues, device.rx_queues)]
    {
        asked(name, attribute, &wanted, &Some(found), "a driver with more than one queue: veth")?;
    }
    segmentation(device, &spec.segmentation)
}

/// What only netkit has, as its primary shows it.
pub(super) fn netkit(name: &str, details: Option<NetkitDetails>, spec: &PairSpec) -> Result<(), DeviceError> {
    let found = details.unwrap_or_default();
    equal(name, "primary", &true, &found.primary, "Linux 6.7")?;
    asked(name, "policy", &Some(spec.primary_policy), &found.policy, "Linux 6.7")?;
    asked(name, "peer policy", &Some(spec.peer_policy), &found.peer_policy, "Linux 6.7")?;
    asked(name, "scrub", &spec.scrub, &found.scrub, "Linux 6.13")?;
    asked(name, "peer scrub", &spec.peer_scrub, &found.peer_scrub, "Linux 6.13")?;
    asked(name, "headroom", &spec.headroom, &found.headroom, "Linux 6.14")?;
    asked(name, "tailroom", &spec.tailroom, &found.tailroom, "Linux 6.14")
}
