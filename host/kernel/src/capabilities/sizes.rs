//! Packets larger than 64 KiB.

use netloom_core::model::{EndSettings, Feature, IfIndex, Segmentation, Support};

use super::{chain, missing, there};
use crate::{
    devices::{DeviceError, Devices},
    netns::Netns,
};

/// The loopback device is the first of each namespace.
const LOOPBACK: IfIndex = IfIndex(1);

/// Twice what fits without BIG TCP.
const BIG: Option<u32> = Some(131_072);

pub(super) async fn probe() -> [(Feature, Support); 2] {
    let none = Segmentation::default();
    let big = Segmentation { gso_max_size: BIG, gro_max_size: BIG, ..none };
    let ipv4 = Segmentation { gso_ipv4_max_size: BIG, gro_ipv4_max_size: BIG, ..none };
    [(Feature::BigTcp, support(big).await), (Feature::BigTcpIpv4, support(ipv4).await)]
}

async fn support(segmentation: Segmentation) -> Support {
    match set(segmentation).await {
        Ok(()) => there("sizes of 131072 bytes were set and read back"),
        Err(error) => missing(chain(&error)),
    }
}

async fn set(segmentation: Segmentation) -> Result<(), DeviceError> {
    let devices = Devices::open(&Netns::create()?)?;
    devices.set(LOOPBACK, &EndSettings { mtu: None, segmentation }).await.map(drop)
}
