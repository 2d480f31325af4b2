//! Whether a program of ours is where its record says, and where otherwise: the one rule by which it is adopted at a
//! start, attached anew while the daemon runs, and missed by `netloom doctor`.

use std::{fmt, path::PathBuf};

use netloom_api::types::EventKind;
use netloom_core::model::{Attachment, Hook};
use netloom_kernel::{
    devices::Devices,
    links::{self, Link, LinkError},
    netns::{self, Netns},
};

use super::Inventory;
use crate::{failure::Failure, naming};

/// Where a program of ours is.
pub(crate) enum Presence {
    InPlace,
    /// Its device is elsewhere, with the program.
    Moved(Hook, Option<PathBuf>),
    Lost(Loss),
}

/// Why it is nowhere any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// What held it is gone, as after the machine started anew.
    Unpinned,
    /// Somebody took it out of its chain.
    Detached,
    /// Its device went; one of the same name may have come.
    DeviceGone,
    NamespaceGone,
}

impl Loss {
    /// As which it is told.
    pub(crate) const fn kind(self) -> EventKind {
        match self {
            Self::Unpinned | Self::Detached => EventKind::Detached,
            Self::DeviceGone => EventKind::DeviceGone,
            Self::NamespaceGone => EventKind::NamespaceGone,
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unpinned => "its pin is gone",
            Self::Detached => "somebody else detached it",
            Self::DeviceGone => "its device is gone",
            Self::NamespaceGone => "its network namespace is gone",
        })
    }
}

impl Inventory {
    /// Where a program of ours is, by its link or filter: whatever its record says.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub(crate) async fn presence(&self, attachment: &Attachment) -> Result<Presence, Failure> {
        let hook = &attachment.hook;
        let netns = match &attachment.netns {
            None => Some(self.netns.clone()),
            Some(path) => Netns::open(path).ok(),
        };
        let netns = netns.filter(|netns| netns.id() == hook.netns);
        let device = match &netns {
            Some(netns) => self.devices_of(netns)?.by_index(hook.ifindex).await?,
            None => None,
        };
        let gone = if netns.is_some() { Loss::DeviceGone } else { Loss::NamespaceGone };
        let pin = naming::pin(&self.paths.bpffs, &attachment.id);
        if hook.point.is_legacy() {
            let (Some(netns), Some(device)) = (netns, device) else { return Ok(Presence::Lost(gone)) };
            let chain = match links::query(hook, &netns) {
                Ok(chain) => self.annotated(chain)?,
                Err(LinkError::DeviceGone { .. }) => return Ok(Presence::Lost(gone)),
                Err(error) => return Err(error.into()),
            };
            let there = chain.entries.iter().any(|entry| entry.attachment.as_deref() == Some(&attachment.id));
            return Ok(match there {
                false => Presence::Lost(Loss::Detached),
                true if !pin.exists() => Presence::Lost(Loss::Unpinned),
                true if device.name == hook.device => Presence::InPlace,
                true => renamed(attachment, device.name),
            });
        }
        let (alive, loss) = match Link::open_pinned(&pin) {
            Ok(link) => (link.info()?.ifindex.is_some(), Loss::Detached),
            Err(LinkError::NoPin { .. }) => (false, Loss::Unpinned),
            Err(error) => return Err(error.into()),
        };
        Ok(match (device, alive) {
            (Some(_), false) => Presence::Lost(loss),
            (Some(device), true) if device.name == hook.device => Presence::InPlace,
            (Some(device), true) if self.runs_here(attachment, netns.as_ref()) => {
                renamed(attachment, device.name)
            }
            (_, true) => self.search(attachment).await?.unwrap_or(Presence::InPlace),
            (None, false) => Presence::Lost(gone),
        })
    }

    /// The node's own are asked over the connection that is there: a start asks for each attachment.
    fn devices_of(&self, netns: &Netns) -> Result<Devices, Failure> {
        let own = netns.id() == self.netns.id();
        if own { Ok(self.devices.clone()) } else { Ok(Devices::open(netns)?) }
    }

    fn runs_here(&self, attachment: &Attachment, netns: Option<&Netns>) -> bool {
        let chain = netns.and_then(|netns| links::query(&attachment.hook, netns).ok());
        chain.is_some_and(|chain| chain.entries.iter().any(|entry| entry.link == attachment.link))
    }

    /// The namespace that a device was moved to, with the program on it.
    async fn search(&self, attachment: &Attachment) -> Result<Option<Presence>, Failure> {
        let Some(index) = Link::open_pinned(&naming::pin(&self.paths.bpffs, &attachment.id))?.info()?.ifindex
        else {
            return Ok(None);
        };
        for found in tokio::task::spawn_blocking(netns::all).await?? {
            let hook = Hook { netns: found.netns.id(), ifindex: index, ..attachment.hook.clone() };
            let here = links::query(&hook, &found.netns)
                .is_ok_and(|chain| chain.entries.iter().any(|entry| entry.link == attachment.link));
            let path = found.names.first().cloned();
            let own = found.netns.id() == self.netns.id();
            if here && (own || path.is_some()) {
                let device = self.devices_of(&found.netns)?.by_index(index).await?;
                let device = device.map_or_else(|| hook.device.clone(), |device| device.name);
                let netns = if own { None } else { path };
                return Ok(Some(Presence::Moved(Hook { device, ..hook }, netns)));
            }
        }
        Ok(None)
    }
}

fn renamed(attachment: &Attachment, device: String) -> Presence {
    Presence::Moved(Hook { device, ..attachment.hook.clone() }, attachment.netns.clone())
}
