//! The other end of a pair, in whatever namespace it is.

use std::{os::fd::AsRawFd, path::PathBuf};

use futures::StreamExt;
use netlink_packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    RouteNetlinkMessage,
    nsid::{NsidAttribute, NsidMessage},
};
use netloom_core::model::Device;

use super::{DeviceError, Devices};
use crate::netns::{self, Netns};

/// The other end of a pair.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The device, as its own namespace sees it.
    pub device: Device,
    /// Its namespace.
    pub devices: Devices,
    /// Ways to the namespace, the most telling first; none if it is this one.
    pub names: Vec<PathBuf>,
}

impl Devices {
    /// Finds the other end of a pair. None for a device that is no pair, and where no process, mount or file
    /// descriptor leads to its namespace.
    ///
    /// # Errors
    /// [`DeviceError::Netns`], [`DeviceError::Netlink`].
    pub async fn peer(&self, device: &Device) -> Result<Option<Peer>, DeviceError> {
        let Some(index) = device.peer_ifindex else { return Ok(None) };
        if device.peer_nsid.is_none() {
            let peer = self.by_index(index).await?;
            return Ok(peer.map(|device| Peer { device, devices: self.clone(), names: Vec::new() }));
        }
        let search = tokio::task::spawn_blocking(netns::all).await;
        let namespaces = search.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        for found in namespaces {
            if self.leads_to(device, &found.netns).await? {
                let devices = Self::open(&found.netns)?;
                let peer = devices.by_index(index).await?;
                return Ok(peer.map(|device| Peer { device, devices, names: found.names }));
            }
        }
        Ok(None)
    }

    /// The other end of a pair, if it is in this namespace. Indexes repeat from namespace to namespace, so that they
    /// alone do not tell.
    ///
    /// # Errors
    /// [`DeviceError::Netns`], [`DeviceError::Netlink`].
    pub async fn peer_in(&self, device: &Device, netns: &Netns) -> Result<Option<Device>, DeviceError> {
        match device.peer_ifindex {
            Some(index) if self.leads_to(device, netns).await? => Self::open(netns)?.by_index(index).await,
            _ => Ok(None),
        }
    }

    /// Whether the other end of a pair is in this namespace, by what the kernel says of it.
    async fn leads_to(&self, device: &Device, netns: &Netns) -> Result<bool, DeviceError> {
        match device.peer_nsid {
            None => Ok(device.peer_ifindex.is_some() && netns.id() == self.netns.id()),
            Some(nsid) => Ok(self.nsid(netns).await? == Some(nsid)),
        }
    }

    /// The number that this namespace has for another one, which it gives to those that its devices lead to.
    async fn nsid(&self, other: &Netns) -> Result<Option<i32>, DeviceError> {
        let what = "look up a namespace's number";
        let mut request = NsidMessage::default();
        let fd = u32::try_from(other.fd().as_raw_fd()).unwrap_or(u32::MAX);
        request.attributes.push(NsidAttribute::Fd(fd));
        let mut message = NetlinkMessage::from(RouteNetlinkMessage::GetNsId(request));
        message.header.flags = NLM_F_REQUEST;
        let request =
            |mut handle: rtnetlink::Handle| async move { Ok(handle.request(message)?.next().await) };
        let answer = self.asked(request).await.map_err(|error| self.failed(what, error))?;
        match answer.map(|answer| answer.payload) {
            Some(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(answer))) => {
                Ok(answer.attributes.iter().find_map(|attribute| match attribute {
                    // -1 stands for none.
                    NsidAttribute::Id(id) if *id >= 0 => Some(*id),
                    _ => None,
                }))
            }
            Some(NetlinkPayload::Error(refusal)) => {
                Err(self.failed(what, rtnetlink::Error::NetlinkError(refusal)))
            }
            _ => Ok(None),
        }
    }
}
