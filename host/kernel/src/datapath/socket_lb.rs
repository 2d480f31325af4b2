use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use netloom_core::model::{LinkId, NetnsCookie};
use netloom_sys::bpf::{self, AttachType, command};

use super::{
    Datapath, DatapathError,
    loader::load_program,
    maps::SOCKLB_OBJECT,
    tables::{all, delete, put},
};
use crate::{maps::UNTRANSLATED, programs::Program};

/// A cgroup hook of the socket-LB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the kernel's")]
pub enum SocketLbHook {
    Connect4,
    Connect6,
    Sendmsg4,
    Sendmsg6,
    Recvmsg4,
    Recvmsg6,
    Getpeername4,
    Getpeername6,
}

impl SocketLbHook {
    /// Every hook, in the order in which they are attached: an answer can be translated back before the first
    /// request is translated.
    pub const ALL: [Self; 8] = [
        Self::Recvmsg4,
        Self::Recvmsg6,
        Self::Getpeername4,
        Self::Getpeername6,
        Self::Sendmsg4,
        Self::Sendmsg6,
        Self::Connect4,
        Self::Connect6,
    ];

    /// Its name, which its pin has too.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect4 => "connect4",
            Self::Connect6 => "connect6",
            Self::Sendmsg4 => "sendmsg4",
            Self::Sendmsg6 => "sendmsg6",
            Self::Recvmsg4 => "recvmsg4",
            Self::Recvmsg6 => "recvmsg6",
            Self::Getpeername4 => "getpeername4",
            Self::Getpeername6 => "getpeername6",
        }
    }

    const fn program(self) -> &'static str {
        match self {
            Self::Connect4 => "nl_connect4",
            Self::Connect6 => "nl_connect6",
            Self::Sendmsg4 => "nl_sendmsg4",
            Self::Sendmsg6 => "nl_sendmsg6",
            Self::Recvmsg4 => "nl_recvmsg4",
            Self::Recvmsg6 => "nl_recvmsg6",
            Self::Getpeername4 => "nl_getpeername4",
            Self::Getpeername6 => "nl_getpeername6",
        }
    }

    const fn attach_type(self) -> AttachType {
        match self {
            Self::Connect4 => AttachType::CGROUP_INET4_CONNECT,
            Self::Connect6 => AttachType::CGROUP_INET6_CONNECT,
            Self::Sendmsg4 => AttachType::CGROUP_UDP4_SENDMSG,
            Self::Sendmsg6 => AttachType::CGROUP_UDP6_SENDMSG,
            Self::Recvmsg4 => AttachType::CGROUP_UDP4_RECVMSG,
            Self::Recvmsg6 => AttachType::CGROUP_UDP6_RECVMSG,
            Self::Getpeername4 => AttachType::CGROUP_INET4_GETPEERNAME,
            Self::Getpeername6 => AttachType::CGROUP_INET6_GETPEERNAME,
        }
    }
}

impl Datapath {
    /// Has the sockets of a namespace see services' addresses as they are, or not any more. What is connected already
    /// stays as it is.
    ///
    /// # Errors
    /// [`DatapathError::Full`], [`DatapathError::Map`].
    pub fn set_untranslated(&self, netns: NetnsCookie, untranslated: bool) -> Result<(), DatapathError> {
        let (mut maps, key) = (self.maps(), netns.0.to_ne_bytes());
        if untranslated {
            put(&mut maps.untranslated, UNTRANSLATED, self.sizes, key, 1_u32.to_ne_bytes())
        } else {
            delete(&mut maps.untranslated, UNTRANSLATED, &key)
        }
    }

    /// The namespaces whose sockets see services' addresses as they are.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn untranslated(&self) -> Result<Vec<NetnsCookie>, DatapathError> {
        let entries = all(&self.maps().untranslated, UNTRANSLATED)?;
        Ok(entries.into_iter().map(|(key, _)| NetnsCookie(u64::from_ne_bytes(key))).collect())
    }

    /// Translates services for every process in a cgroup and below. Links that are pinned already are adopted: one
    /// that runs another program, or this one over other maps, is made to run the present one, in place and without
    /// a gap; one of another cgroup is replaced after the new one is in place.
    ///
    /// # Errors
    /// [`DatapathError::NotCgroup`], [`DatapathError::Rejected`], [`DatapathError::Sys`]. Hooks that were attached
    /// before the error stay attached.
    pub fn attach_socket_lb(&self, cgroup: &Path) -> Result<Vec<LinkId>, DatapathError> {
        let not_cgroup = || DatapathError::NotCgroup { path: cgroup.to_owned() };
        let directory = File::open(cgroup).map_err(|_| not_cgroup())?;
        // `CGROUP2_SUPER_MAGIC`, include/uapi/linux/magic.h
        if rustix::fs::fstatfs(&directory).map_or(true, |info| info.f_type != 0x6367_7270) {
            return Err(not_cgroup());
        }
        // A cgroup's id is its directory's inode number: `cgroup_id`, include/linux/cgroup.h
        let cgroup_id = directory.metadata().map_err(|_| not_cgroup())?.ino();
        let target = Target { cgroup: directory.into(), cgroup_id };

        let folder = self.folder.join("socklb");
        fs::create_dir_all(&folder)
            .map_err(|source| DatapathError::sys("mkdir", display(&folder), source))?;
        let mut object = self.loader.load(SOCKLB_OBJECT, netloom_ebpf::SOCKLB)?;
        SocketLbHook::ALL
            .into_iter()
            .map(|hook| {
                attach(
                    &target,
                    hook,
                    &load_program(&mut object, hook.program())?,
                    &folder.join(hook.as_str()),
                )
            })
            .collect()
    }

    /// Whether the hooks at which sockets are bound are attached already, by an earlier daemon or this one.
    #[must_use]
    pub fn binds_sockets(&self) -> bool {
        let folder = self.folder.join("socklb");
        [SocketLbHook::Connect4, SocketLbHook::Connect6]
            .into_iter()
            .all(|hook| bpf::obj_get(&folder.join(hook.as_str())).is_ok())
    }

    /// Ends the translation and removes the pins. Sockets that are connected stay so.
    ///
    /// # Errors
    /// [`DatapathError::Sys`] with the first failure; all hooks are tried.
    pub fn detach_socket_lb(&self) -> Result<(), DatapathError> {
        let folder = self.folder.join("socklb");
        let mut result = Ok(());
        for hook in SocketLbHook::ALL.into_iter().rev() {
            let pin = folder.join(hook.as_str());
            result = result.and(detach(&pin));
        }
        let removed = match fs::remove_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(DatapathError::sys("rmdir", display(&folder), error))
            }
            _ => Ok(()),
        };
        result.and(removed)
    }
}

struct Target {
    cgroup: OwnedFd,
    cgroup_id: u64,
}

/// Attaches a hook, or adopts the link that is pinned.
fn attach(
    target: &Target,
    hook: SocketLbHook,
    program: &Program,
    pin: &Path,
) -> Result<LinkId, DatapathError> {
    let attach_type = hook.attach_type();
    let failed = |call| move |source| DatapathError::sys(call, display(pin), source);
    let present = match bpf::obj_get(pin) {
        Ok(link) => Some(link),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(command::OBJ_GET)(error)),
    };
    if let Some(link) = present {
        let info = bpf::link_info(link.as_fd()).map_err(failed(command::OBJ_GET_INFO_BY_FD))?;
        if info.attach_type == Some(attach_type) && info.cgroup == Some(target.cgroup_id) {
            // A tag covers instructions, not which maps they refer to.
            let same = Program::from_id(netloom_core::model::ProgramId(info.program))
                .is_ok_and(|old| old.tag() == program.tag() && old.maps() == program.maps());
            if !same {
                bpf::link_update(link.as_fd(), program.fd(), None).map_err(failed(command::LINK_UPDATE))?;
            }
            return Ok(LinkId(info.id));
        }
    }

    let link = bpf::cgroup_link(program.fd(), target.cgroup.as_fd(), attach_type)
        .map_err(failed(command::LINK_CREATE))?;
    let info = bpf::link_info(link.as_fd()).map_err(failed(command::OBJ_GET_INFO_BY_FD))?;
    // Renamed over the old pin, so that at each moment there is one, and the old link goes after the new one came.
    let fresh = fresh(pin);
    unpin(&fresh)?;
    bpf::obj_pin(link.as_fd(), &fresh).map_err(failed(command::OBJ_PIN))?;
    fs::rename(&fresh, pin).map_err(failed("rename"))?;
    Ok(LinkId(info.id))
}

fn detach(pin: &Path) -> Result<(), DatapathError> {
    unpin(&fresh(pin))?;
    if let Ok(link) = bpf::obj_get(pin) {
        // At once, while removing the last pin would detach a moment later.
        bpf::link_detach(link.as_fd())
            .map_err(|source| DatapathError::sys(command::LINK_DETACH, display(pin), source))?;
    }
    unpin(pin)
}

/// Where a link is pinned until it takes the place of another. A bpf filesystem takes no names with a dot.
fn fresh(pin: &Path) -> PathBuf {
    let mut name = pin.as_os_str().to_owned();
    name.push("-new");
    name.into()
}

fn unpin(pin: &Path) -> Result<(), DatapathError> {
    match fs::remove_file(pin) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DatapathError::sys("unlink", display(pin), error))
        }
        _ => Ok(()),
    }
}

fn display(path: &Path) -> String {
    path.display().to_string()
}
