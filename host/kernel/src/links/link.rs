use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use netloom_core::model::{HookPoint, IfIndex, LinkId, ProgramId};
use netloom_sys::bpf::{self, AttachType};

use super::LinkError;
use crate::programs::{self, Program, ProgramError};

/// A tcx or netkit link. The program is attached as long as a process holds the link or a pin names it.
#[derive(Debug)]
pub struct Link {
    fd: OwnedFd,
    id: LinkId,
}

/// What the kernel says of a link now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Its id.
    pub id: LinkId,
    /// The program it runs.
    pub program: ProgramId,
    /// The device's index, in the namespace the device is in; none when the device is gone or the link was detached.
    /// For netkit-peer that is the endpoint's end, whereas its hook goes by the primary's.
    pub ifindex: Option<IfIndex>,
    /// Where on it.
    pub point: HookPoint,
}

impl Link {
    /// Takes over an fd.
    pub(super) fn from_fd(fd: OwnedFd) -> Result<Self, LinkError> {
        let info = raw_info(fd.as_fd(), "a new link")?;
        Ok(Self { fd, id: LinkId(info.id) })
    }

    /// Opens a pinned link.
    ///
    /// # Errors
    /// [`LinkError::NoPin`]; [`LinkError::NotALink`] if it is another object, or a link of another kind.
    pub fn open_pinned(path: &Path) -> Result<Self, LinkError> {
        Self::checked(get_pinned(path)?, &path.display().to_string())
    }

    /// Opens a link by its id.
    ///
    /// # Errors
    /// [`LinkError::LinkGone`]; [`LinkError::NotALink`] if it is a link of another kind.
    pub fn from_id(id: LinkId) -> Result<Self, LinkError> {
        let on = format!("link {id}");
        let fd = bpf::link_by_id(id.0).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => LinkError::LinkGone { link: id },
            _ => LinkError::sys(bpf::command::LINK_GET_FD_BY_ID, on.clone(), source),
        })?;
        Self::checked(fd, &on)
    }

    fn checked(fd: OwnedFd, on: &str) -> Result<Self, LinkError> {
        let not_a_link = || LinkError::NotALink { on: on.to_owned() };
        // Programs and maps have descriptions too, of other fields in the same place: only the fd's file tells
        // them apart.
        let file = fs::read_link(format!("/proc/thread-self/fd/{}", fd.as_raw_fd()));
        let name = file.map(|file| file.to_string_lossy().replace('-', "_")).unwrap_or_default();
        // Written with a hyphen or an underscore, by the way the fd was got.
        if !name.contains("bpf_link") {
            return Err(not_a_link());
        }
        let info = raw_info(fd.as_fd(), on)?;
        info.attach_type.and_then(point).ok_or_else(not_a_link)?;
        Ok(Self { fd, id: LinkId(info.id) })
    }

    /// Its file descriptor.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The kernel's id of it.
    #[must_use]
    pub fn id(&self) -> LinkId {
        self.id
    }

    /// What the kernel says of it now.
    ///
    /// # Errors
    /// [`LinkError::Sys`].
    pub fn info(&self) -> Result<LinkInfo, LinkError> {
        let info = raw_info(self.fd(), &self.to_text())?;
        let point = info.attach_type.and_then(point);
        Ok(LinkInfo {
            id: self.id,
            program: ProgramId(info.program),
            ifindex: info.ifindex.filter(|ifindex| *ifindex != 0).map(IfIndex),
            point: point.ok_or_else(|| LinkError::NotALink { on: self.to_text() })?,
        })
    }

    /// Gives it a path in a bpf filesystem, which keeps it attached when this process ends. Folders are made.
    ///
    /// # Errors
    /// [`ProgramError::PinTaken`] and its like, within [`LinkError::Program`].
    pub fn pin(&self, path: &Path) -> Result<(), LinkError> {
        Ok(programs::pin(self.fd(), path)?)
    }

    /// Makes it run another program, in the same place of its chain; no packet misses both.
    ///
    /// # Errors
    /// [`LinkError::LinkRunsAnother`] if it does not run `old`, [`LinkError::AlreadyAttached`] if `new` is in the
    /// chain otherwise, [`LinkError::LinkWithoutDevice`].
    pub fn update(&self, new: &Program, old: ProgramId) -> Result<(), LinkError> {
        let running = Program::from_id(old).map_err(|error| match error {
            // A program that is gone is not the one the link runs.
            ProgramError::Gone { .. } => LinkError::LinkRunsAnother { link: self.id },
            error => LinkError::Program(error),
        })?;
        bpf::link_update(self.fd(), new.fd(), Some(running.fd()))
            .map_err(|source| self.not_updated(new, &running, source))
    }

    /// As [`Link::update`], of a pinned link, in the fewest steps: what is pinned there is looked at only if the
    /// kernel refuses to update it.
    ///
    /// # Errors
    /// Those of [`Link::open_pinned`] and of [`Link::update`].
    pub fn update_pinned(path: &Path, new: &Program, old: &Program) -> Result<(), LinkError> {
        let fd = get_pinned(path)?;
        let Err(source) = bpf::link_update(fd.as_fd(), new.fd(), Some(old.fd())) else {
            return Ok(());
        };
        Err(Self::checked(fd, &path.display().to_string())?.not_updated(new, old, source))
    }

    fn not_updated(&self, new: &Program, old: &Program, source: io::Error) -> LinkError {
        match source.raw_os_error() {
            Some(libc::ENOLINK | libc::ENODEV) => LinkError::LinkWithoutDevice { link: self.id },
            // EPERM is also what a missing capability gives: the link itself tells which.
            Some(libc::EPERM) if self.info().is_ok_and(|info| info.program != old.id()) => {
                LinkError::LinkRunsAnother { link: self.id }
            }
            Some(libc::EEXIST) => {
                LinkError::AlreadyAttached { on: self.to_text(), program: new.name().to_owned() }
            }
            _ => LinkError::sys(bpf::command::LINK_UPDATE, self.to_text(), source),
        }
    }

    /// Takes its program out of the chain, whoever else holds the link. Without a device there is nothing to do.
    ///
    /// # Errors
    /// [`LinkError::Denied`], [`LinkError::Sys`].
    pub fn detach(&self) -> Result<(), LinkError> {
        bpf::link_detach(self.fd())
            .map_err(|source| LinkError::sys(bpf::command::LINK_DETACH, self.to_text(), source))
    }

    fn to_text(&self) -> String {
        format!("link {}", self.id)
    }
}

/// Removes a pin; one that is gone is no error. The object lives on as long as something else holds it.
///
/// # Errors
/// [`LinkError::Sys`].
pub fn unpin(path: &Path) -> Result<(), LinkError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(LinkError::sys("unlink", path.display().to_string(), source))
        }
        _ => Ok(()),
    }
}

fn get_pinned(path: &Path) -> Result<OwnedFd, LinkError> {
    bpf::obj_get(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => LinkError::NoPin { path: path.to_owned() },
        _ => LinkError::sys(bpf::command::OBJ_GET, path.display().to_string(), source),
    })
}

fn raw_info(fd: BorrowedFd<'_>, on: &str) -> Result<bpf::LinkInfo, LinkError> {
    bpf::link_info(fd)
        .map_err(|source| LinkError::sys(bpf::command::OBJ_GET_INFO_BY_FD, on.to_owned(), source))
}

fn point(attach_type: AttachType) -> Option<HookPoint> {
    HookPoint::ALL.into_iter().find(|point| super::attach_type(*point) == Some(attach_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_that_cannot_be_removed_is_told_and_one_that_is_gone_is_not() {
        let folder = tempfile::tempdir().unwrap();
        unpin(&folder.path().join("gone")).unwrap();
        assert!(matches!(unpin(folder.path()), Err(LinkError::Sys { .. })), "it is a folder");
    }
}
