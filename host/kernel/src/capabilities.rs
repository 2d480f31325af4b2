//! What this node's kernel can do, found by trying.
//!
//! Distributions backport features and configurations leave them out, so a version says little. Everything is
//! tried in network namespaces that nobody else sees and that are gone afterwards; the node is not touched.

mod kernel_types;
mod netkit;
mod sizes;
mod sockets;

use std::{collections::BTreeMap, fs};

use netloom_core::model::{Capabilities, Feature, Support};
use netloom_sys::ns;

use crate::links;

/// Tries every [`Feature`]. Takes some tens of milliseconds. Without root nothing can be tried, and each detail
/// says so.
pub async fn probe() -> Capabilities {
    let blocking = tokio::task::spawn_blocking(|| {
        let types = kernel_types::KernelTypes::read();
        [
            (Feature::Btf, types.support()),
            (Feature::NetkitLinks, links::probe_netkit_links()),
            (Feature::Tcx, links::probe_tcx()),
            (Feature::LegacyTc, links::probe_legacy_tc()),
            (Feature::SocketLb, sockets::socket_lb()),
            (Feature::SocketStorageIterator, sockets::iterator(&types, "bpf_iter_bpf_sk_storage_map")),
            (Feature::TaskFileIterator, sockets::iterator(&types, "bpf_iter_task_file")),
            (Feature::SocketDestroyKfunc, sockets::destroy_kfunc(&types)),
            (Feature::ChainLimit, types.chain_limit()),
            (Feature::CgroupLinkOrder, links::probe_cgroup_order()),
            (Feature::AfXdp, sockets::af_xdp()),
            (Feature::NetkitQueueLeasing, types.has("netdev_nl_queue_create_doit")),
            (Feature::ListNamespaces, list_namespaces()),
        ]
    });
    let (netkit, sizes, destroy, blocking) =
        tokio::join!(netkit::probe(), sizes::probe(), sockets::destroy(), blocking);
    let mut features: BTreeMap<Feature, Support> = netkit.into_iter().chain(sizes).collect();
    features.insert(Feature::SocketDestroy, destroy);
    match blocking {
        Ok(rest) => features.extend(rest),
        Err(error) => tracing::error!(%error, "probing the kernel's features failed"),
    }
    for feature in Feature::ALL {
        features.entry(feature).or_insert_with(|| missing("could not be tried"));
    }
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    Capabilities { kernel, features }
}

fn list_namespaces() -> Support {
    match ns::list() {
        Ok(ids) => there(format!("listns() has {}", ids.len())),
        Err(error) => missing(format!("listns(): {error}")),
    }
}

fn there(detail: impl Into<String>) -> Support {
    Support { available: true, detail: detail.into() }
}

fn missing(detail: impl Into<String>) -> Support {
    Support { available: false, detail: detail.into() }
}

/// An error and its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
