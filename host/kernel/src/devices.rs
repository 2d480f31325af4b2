//! Network devices, addresses, routes and neighbours, over rtnetlink.
//!
//! [`Devices`] is a netlink connection that was born inside one network namespace and stays there, whatever
//! namespaces the process's threads visit. What the kernel accepts and then ignores (it does so with attributes
//! it does not know) is read back and reported as [`DeviceError::Ignored`].

mod address;
mod announcements;
mod carry;
mod changes;
mod device;
mod endpoint;
mod error;
mod hold;
mod lists;
mod pair;
mod peer;
mod readback;
mod route;
mod sysctl;
mod uplink;

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex as StdMutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::TryStreamExt;
use netlink_packet_route::link::{InfoData, InfoKind, InfoNetkit, LinkAttribute, LinkMessage};
use netloom_core::model::{Device, EndSettings, IfIndex, MacAddress, NetkitPolicy};
use rtnetlink::{LinkMessageBuilder, LinkNetkit, LinkUnspec};
use tokio::{runtime::Handle, sync::Mutex, task::AbortHandle};

pub use self::{
    announcements::{Announced, Announcements},
    changes::Changes,
    device::NetkitDetails,
    endpoint::{Connected, node_sysctls, routes_inside},
    error::{DeviceError, NetlinkError},
    pair::{Pair, check_mtu, quiet_sysctls},
    peer::Peer,
    route::{ForwardingWay, Route, own_metric},
    sysctl::{IpFamily, Sysctl},
};
use crate::{netlink::PATIENCE, netns::Netns};

/// The longest name of a device, in bytes: the kernel's `IFNAMSIZ` without its terminator.
pub const MAX_NAME: usize = 15;

/// The devices of one network namespace. Clones share the connection, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct Devices {
    netns: Netns,
    connection: Arc<Connection>,
}

#[derive(Debug)]
struct Connection {
    served: StdMutex<Served>,
    /// Held while a list is read: the kernel makes one at a time for a socket, and refuses another.
    listing: Mutex<()>,
}

/// A netlink socket, and the task that reads and writes it.
#[derive(Debug)]
struct Served {
    handle: rtnetlink::Handle,
    task: AbortHandle,
    /// It is of no use any more, nor is what has no answer yet: the socket failed, or an answer did not come.
    lost: Arc<AtomicBool>,
}

impl Served {
    fn connect(netns: &Netns) -> Result<Self, DeviceError> {
        let failed = |source| DeviceError::Connect { netns: netns.id(), source };
        let runtime = Handle::try_current().map_err(|error| failed(std::io::Error::other(error)))?;
        // A socket belongs to the namespace it was made in, for good.
        let (mut connection, handle, _) = netns
            .run(|| {
                let _guard = runtime.enter();
                rtnetlink::new_connection_with_strict_check()
            })?
            .map_err(failed)?;
        let socket = rtnetlink::sys::AsyncSocket::socket_mut(connection.socket_mut());
        // With these the kernel says in words what it refuses. Both are a help only: kernels from 4.12 have them.
        let _ = socket.set_cap_ack(true).and_then(|()| socket.set_ext_ack(true));
        let lost = Arc::new(AtomicBool::new(false));
        let notice = Arc::clone(&lost);
        let task = runtime.spawn(async move {
            Pin::new(&mut connection).await;
            // Before those who wait for answers see that none comes.
            notice.store(true, Ordering::Release);
            drop(connection);
        });
        Ok(Self { handle, task: task.abort_handle(), lost })
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The answer to a request of a connection that may be lost meanwhile.
async fn answered<T>(
    request: impl Future<Output = Result<T, rtnetlink::Error>>,
    lost: &AtomicBool,
    patience: Duration,
) -> Result<T, rtnetlink::Error> {
    let Ok(answer) = tokio::time::timeout(patience, request).await else {
        lost.store(true, Ordering::Release);
        return Err(error::of(libc::ETIMEDOUT));
    };
    let answer = answer?;
    if lost.load(Ordering::Acquire) { Err(rtnetlink::Error::RequestFailed) } else { Ok(answer) }
}

impl Devices {
    /// Connects to a namespace's rtnetlink. Needs a tokio runtime, on which a task serves the connection.
    ///
    /// # Errors
    /// [`DeviceError::Netns`] if the namespace cannot be entered, [`DeviceError::Connect`].
    pub fn open(netns: &Netns) -> Result<Self, DeviceError> {
        let served = StdMutex::new(Served::connect(netns)?);
        let connection = Connection { served, listing: Mutex::new(()) };
        Ok(Self { netns: netns.clone(), connection: Arc::new(connection) })
    }

    /// The connection. It is lost with the first error of its socket, such as a lack of memory: then it is made anew, and
    /// where that fails, so does the request.
    fn connected(&self) -> (rtnetlink::Handle, Arc<AtomicBool>) {
        let mut served = self.connection.served.lock().unwrap_or_else(PoisonError::into_inner);
        if served.lost.load(Ordering::Acquire) {
            match Served::connect(&self.netns) {
                Ok(anew) => *served = anew,
                Err(error) => tracing::warn!(%error, "the connection to rtnetlink was lost"),
            }
        }
        (served.handle.clone(), Arc::clone(&served.lost))
    }

    /// Asks the kernel. To the library a connection that is lost looks like the end of the answer: what was asked for
    /// would seem to be done, and a list to be complete. An answer that the kernel had no memory for it waits for for
    /// ever.
    async fn asked<T, F>(&self, ask: impl FnOnce(rtnetlink::Handle) -> F) -> Result<T, rtnetlink::Error>
    where
        F: Future<Output = Result<T, rtnetlink::Error>>,
    {
        let (handle, lost) = self.connected();
        answered(ask(handle), &lost, PATIENCE).await
    }

    /// The namespace.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The device of a name; none if there is none.
    ///
    /// # Errors
    /// [`DeviceError::Netlink`].
    pub async fn get(&self, name: &str) -> Result<Option<Device>, DeviceError> {
        Ok(self.message_by_name(name).await?.map(|message| device::describe(&message, self.netns.id())))
    }

    /// The device of an index; none if there is none.
    ///
    /// # Errors
    /// [`DeviceError::Netlink`].
    pub async fn by_index(&self, index: IfIndex) -> Result<Option<Device>, DeviceError> {
        Ok(self.message(index).await?.map(|message| device::describe(&message, self.netns.id())))
    }

    /// What the kernel reports of a netkit device beyond [`Device`]; none for other devices.
    ///
    /// # Errors
    /// [`DeviceError::NotFound`], [`DeviceError::Netlink`].
    pub async fn netkit(&self, index: IfIndex) -> Result<Option<NetkitDetails>, DeviceError> {
        Ok(device::netkit(&self.existing(index).await?))
    }

    /// Every device of the namespace.
    ///
    /// # Errors
    /// [`DeviceError::Netlink`].
    pub async fn list(&self) -> Result<Vec<Device>, DeviceError> {
        let messages = self.links().await.map_err(|error| self.failed("list the devices", error))?;
        Ok(messages.iter().map(|message| device::describe(message, self.netns.id())).collect())
    }

    /// Deletes a device, and with either end of a pair the other one, their routes, addresses and programs.
    /// Whether it was there.
    ///
    /// # Errors
    /// [`DeviceError::Netlink`].
    pub async fn delete(&self, index: IfIndex) -> Result<bool, DeviceError> {
        match self.asked(|handle| handle.link().del(index.0).execute()).await {
            Ok(()) => Ok(true),
            Err(error) if error::is(&error, libc::ENODEV) => Ok(false),
            Err(error) => Err(self.failed(&format!("delete the device with index {index}"), error)),
        }
    }

    /// Sets the policies of a netkit pair, through its primary: towards the endpoint, and from it.
    ///
    /// # Errors
    /// [`DeviceError::NotFound`], [`DeviceError::NotPrimary`], [`DeviceError::Ignored`],
    /// [`DeviceError::Netlink`].
    pub async fn set_policies(
        &self,
        index: IfIndex,
        primary: NetkitPolicy,
        peer: NetkitPolicy,
    ) -> Result<(), DeviceError> {
        let device = self.existing_device(index).await?;
        if device.netkit_primary != Some(true) {
            return Err(DeviceError::NotPrimary { device: device.name, netns: self.netns.id() });
        }
        let data = vec![
            InfoNetkit::Policy(device::policy_out(primary)),
            InfoNetkit::PeerPolicy(device::policy_out(peer)),
        ];
        let message = LinkMessageBuilder::<LinkNetkit>::new_with_info_kind(InfoKind::Netkit)
            .index(index.0)
            .set_info_data(InfoData::Netkit(data))
            .build();
        self.change(&device.name, "set the netkit policies", message).await?;
        let now = self.existing_device(index).await?;
        readback::equal(&now.name, "policy", &Some(primary), &now.policy, "Linux 6.7")?;
        readback::equal(&now.name, "peer policy", &Some(peer), &now.peer_policy, "Linux 6.7")
    }

    /// Sets a device's MTU and its GSO and GRO sizes, in one request; not its other end's. The kernel sets one after
    /// the other: if it refuses one, those before it are set.
    ///
    /// # Errors
    /// [`DeviceError::NotFound`], [`DeviceError::Mtu`], [`DeviceError::Ignored`], [`DeviceError::Netlink`].
    pub async fn set(&self, index: IfIndex, settings: &EndSettings) -> Result<Device, DeviceError> {
        let device = self.existing_device(index).await?;
        if let Some(mtu) = settings.mtu {
            check_mtu(&device.name, mtu, false)?;
        }
        let mut message = LinkMessageBuilder::<LinkUnspec>::new().index(index.0).build();
        message.attributes.extend(settings.mtu.map(LinkAttribute::Mtu));
        message.attributes.extend(pair::segmentation(&settings.segmentation));
        self.change(&device.name, "set the MTU, GSO and GRO sizes", message).await?;
        let now = self.existing_device(index).await?;
        readback::settings(&now, settings)?;
        Ok(now)
    }

    /// Sets a device up or down.
    ///
    /// # Errors
    /// [`DeviceError::NotFound`], [`DeviceError::Ignored`], [`DeviceError::Netlink`].
    pub async fn set_up(&self, index: IfIndex, up: bool) -> Result<(), DeviceError> {
        let device = self.existing_device(index).await?;
        let message = LinkMessageBuilder::<LinkUnspec>::new().index(index.0);
        let message = if up { message.up() } else { message.down() }.build();
        self.change(&device.name, if up { "set up" } else { "set down" }, message).await?;
        readback::equal(&device.name, "up", &up, &self.existing_device(index).await?.up, "a working driver")
    }

    /// Gives a device a hardware address.
    ///
    /// # Errors
    /// [`DeviceError::NotFound`], [`DeviceError::Ignored`], [`DeviceError::Netlink`].
    pub async fn set_mac(&self, index: IfIndex, mac: MacAddress) -> Result<(), DeviceError> {
        let device = self.existing_device(index).await?;
        let message = LinkMessageBuilder::<LinkUnspec>::new().index(index.0).address(mac.0.to_vec()).build();
        self.change(&device.name, "set the hardware address", message).await?;
        let found = self.existing_device(index).await?.mac;
        readback::equal(&device.name, "mac", &Some(mac), &found, "a mode with MACs")
    }

    /// `RTM_NEWLINK` without `NLM_F_CREATE`: `RTM_SETLINK` answers success to `IFLA_INFO_DATA` and drops it.
    async fn change(&self, device: &str, what: &str, message: LinkMessage) -> Result<(), DeviceError> {
        self.asked(|handle| handle.link().change(message).execute())
            .await
            .map_err(|error| self.failed(&format!("{what} of device {device}"), error))
    }

    async fn message_by_name(&self, name: &str) -> Result<Option<LinkMessage>, DeviceError> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Ok(None);
        }
        let name = name.to_owned();
        let what = format!("look up device {name}");
        let looked_up = |handle: rtnetlink::Handle| async move {
            handle.link().get().match_name(name).execute().try_next().await
        };
        let answer = self.asked(looked_up).await;
        self.found(answer, &what)
    }

    async fn message(&self, index: IfIndex) -> Result<Option<LinkMessage>, DeviceError> {
        if index.0 == 0 {
            return Ok(None);
        }
        let looked_up = |handle: rtnetlink::Handle| async move {
            handle.link().get().match_index(index.0).execute().try_next().await
        };
        let answer = self.asked(looked_up).await;
        self.found(answer, &format!("look up the device with index {index}"))
    }

    fn found(
        &self,
        answer: Result<Option<LinkMessage>, rtnetlink::Error>,
        what: &str,
    ) -> Result<Option<LinkMessage>, DeviceError> {
        match answer {
            Err(error) if error::is(&error, libc::ENODEV) => Ok(None),
            other => other.map_err(|error| self.failed(what, error)),
        }
    }

    async fn existing(&self, index: IfIndex) -> Result<LinkMessage, DeviceError> {
        self.message(index).await?.ok_or_else(|| DeviceError::NotFound {
            device: format!("with index {index}"),
            netns: self.netns.id(),
        })
    }

    async fn existing_device(&self, index: IfIndex) -> Result<Device, DeviceError> {
        Ok(device::describe(&self.existing(index).await?, self.netns.id()))
    }

    fn failed(&self, what: &str, error: rtnetlink::Error) -> DeviceError {
        DeviceError::Netlink { what: what.to_owned(), netns: self.netns.id(), source: error.into() }
    }
}

/// The attribute of a list that a closure picks.
fn attribute<'a, T>(message: &'a LinkMessage, pick: impl Fn(&'a LinkAttribute) -> Option<T>) -> Option<T> {
    message.attributes.iter().find_map(pick)
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn a_connection_whose_answer_does_not_come_is_lost_and_one_that_is_lost_answers_nothing() {
        let (lost, moment) = (AtomicBool::new(false), Duration::from_millis(10));
        assert!(answered(ready(Ok(())), &lost, moment).await.is_ok());
        let silent = answered(pending::<Result<(), _>>(), &lost, moment).await.unwrap_err();
        assert!(error::is(&silent, libc::ETIMEDOUT) && lost.load(Ordering::Acquire));
        let late = answered(ready(Ok(())), &lost, moment).await.unwrap_err();
        assert!(matches!(late, rtnetlink::Error::RequestFailed));
    }
}
