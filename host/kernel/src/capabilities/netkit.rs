//! netkit devices and their attributes.

use netloom_core::model::{DeviceMode, Feature, NetkitScrub, PairSpec, Support};

use super::{chain, missing, there};
use crate::{
    devices::{DeviceError, Devices},
    netns::Netns,
};

pub(super) async fn probe() -> Vec<(Feature, Support)> {
    let all = [Feature::Netkit, Feature::NetkitScrub, Feature::NetkitHeadroom, Feature::NetkitPairing];
    match attributes().await {
        Ok(found) => found,
        Err(error) => {
            let detail = chain(&error);
            all.into_iter().map(|feature| (feature, missing(detail.clone()))).collect()
        }
    }
}

async fn attributes() -> Result<Vec<(Feature, Support)>, DeviceError> {
    // Both ends in one namespace, whose end is theirs as well.
    let netns = Netns::create()?;
    let devices = Devices::open(&netns)?;
    // Plain first: EOPNOTSUPP to anything more may mean that, and not netkit.
    let plain = devices.try_netkit(&spec("plain", "plain-peer"), &netns).await?;

    let mut wishes = spec("full", "full-peer");
    wishes.scrub = Some(NetkitScrub::None);
    wishes.headroom = Some(64);
    wishes.tailroom = Some(64);
    let (scrub, headroom) = match devices.try_netkit(&wishes, &netns).await {
        Ok((details, _)) => (
            taken(details.scrub == wishes.scrub, "scrub", "6.13"),
            taken(
                details.headroom == wishes.headroom && details.tailroom == wishes.tailroom,
                "headroom and tailroom",
                "6.14",
            ),
        ),
        Err(error) => (missing(chain(&error)), missing(chain(&error))),
    };
    let pairing = if plain.1 {
        there("the kernel reports whether a device is single or a pair")
    } else {
        missing("the kernel does not report whether a device is single or a pair")
    };
    Ok(vec![
        (Feature::Netkit, there("a netkit pair was created")),
        (Feature::NetkitScrub, scrub),
        (Feature::NetkitHeadroom, headroom),
        (Feature::NetkitPairing, pairing),
    ])
}

fn taken(read_back: bool, what: &str, since: &str) -> Support {
    if read_back {
        there(format!("{what} set and read back"))
    } else {
        missing(format!("{what} asked for and silently ignored (Linux {since} has it)"))
    }
}

fn spec(host_name: &str, peer_name: &str) -> PairSpec {
    PairSpec::plain(DeviceMode::Netkit, host_name, peer_name)
}
