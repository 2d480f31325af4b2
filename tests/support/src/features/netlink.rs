//! Devices with attributes that a kernel may ignore: asked for, and read back.

use std::sync::OnceLock;

use futures::TryStreamExt as _;
use netlink_packet_core::{DefaultNla, Nla as _};
use rtnetlink::{
    Error, Handle, LinkNetkit, LinkUnspec,
    packet_route::link::{
        InfoData, InfoNetkit, LinkAttribute, LinkInfo, LinkMessage, NetkitMode, NetkitScrub,
    },
};

use crate::Netns;

/// What a netkit pair shows of what was asked of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    pub(super) scrub: bool,
    pub(super) headroom: bool,
    pub(super) pairing: bool,
}

/// `IFLA_NETKIT_HEADROOM` and `IFLA_NETKIT_PAIRING` of `include/uapi/linux/if_link.h`.
const HEADROOM: u16 = 8;
const PAIRING: u16 = 10;

/// The loopback device is the first of each namespace.
const LOOPBACK: u32 = 1;

/// Bytes of headroom that a pair would not have by itself.
const ROOM: u16 = 64;

/// A pair of this kernel; none if it makes none.
pub(super) fn netkit() -> Option<Pair> {
    static PAIR: OnceLock<Option<Pair>> = OnceLock::new();
    *PAIR.get_or_init(|| {
        on_netlink(async |handle| {
            let plain = LinkNetkit::new("plain", "plain-peer", NetkitMode::L3).build();
            handle.link().add(plain).execute().await?;
            // The default is another one.
            let scrub = InfoNetkit::Scrub(NetkitScrub::None);
            // Raw, because the typed one announces four bytes for a value of two.
            let headroom = InfoNetkit::Other(DefaultNla::new(HEADROOM, ROOM.to_ne_bytes().to_vec()));
            let full =
                with_data(LinkNetkit::new("full", "full-peer", NetkitMode::L3).build(), &[scrub, headroom]);
            let asked = handle.link().add(full).execute().await;
            let shown = if asked.is_ok() { data(&by_name(&handle, "full").await?) } else { Vec::new() };
            Ok(Pair {
                scrub: shown.contains(&InfoNetkit::Scrub(NetkitScrub::None)),
                headroom: shown.iter().any(|each| matches!(each, InfoNetkit::Headroom(ROOM))),
                pairing: shown
                    .iter()
                    .any(|each| matches!(each, InfoNetkit::Other(nla) if nla.kind() == PAIRING)),
            })
        })
        .ok()
    })
}

/// Whether sizes beyond 64 KiB are taken, and whether for IPv4 as well.
pub(super) fn big_tcp() -> (bool, bool) {
    const BIG: u32 = 131_072;
    static SIZES: OnceLock<(bool, bool)> = OnceLock::new();
    *SIZES.get_or_init(|| {
        let taken = |attributes: [LinkAttribute; 2]| {
            on_netlink(async |handle| {
                let mut loopback = LinkUnspec::new_with_index(LOOPBACK).build();
                loopback.attributes.extend(attributes.clone());
                handle.link().change(loopback).execute().await?;
                let shown = by_name(&handle, "lo").await?.attributes;
                Ok(attributes.iter().all(|attribute| shown.contains(attribute)))
            })
            .unwrap_or(false)
        };
        (
            taken([LinkAttribute::GsoMaxSize(BIG), LinkAttribute::GroMaxSize(BIG)]),
            taken([LinkAttribute::GsoIpv4MaxSize(BIG), LinkAttribute::GroIpv4MaxSize(BIG)]),
        )
    })
}

/// Does something by netlink in a namespace that goes with it.
fn on_netlink<T: Send>(work: impl AsyncFnOnce(Handle) -> Result<T, Error> + Send) -> Result<T, Error> {
    let netns = Netns::new("probe");
    netns.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().expect("a netlink socket");
            tokio::spawn(connection);
            work(handle).await
        })
    })
}

async fn by_name(handle: &Handle, name: &str) -> Result<LinkMessage, Error> {
    let mut found = handle.link().get().match_name(name.to_owned()).execute();
    Ok(found.try_next().await?.unwrap_or_default())
}

/// The message with more of what only netkit has.
fn with_data(mut message: LinkMessage, more: &[InfoNetkit]) -> LinkMessage {
    let infos = message.attributes.iter_mut().filter_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    for info in infos.flatten() {
        if let LinkInfo::Data(InfoData::Netkit(data)) = info {
            data.extend_from_slice(more);
        }
    }
    message
}

/// What only netkit has.
fn data(message: &LinkMessage) -> Vec<InfoNetkit> {
    let infos = message.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    infos
        .flatten()
        .filter_map(|info| match info {
            LinkInfo::Data(InfoData::Netkit(data)) => Some(data.clone()),
            _ => None,
        })
        .flatten()
        .collect()
}
