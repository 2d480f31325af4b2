use std::{
    ffi::CString,
    io,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use super::{address_mut, attr, call, call_fd, raw};

/// What the kernel says of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramInfo {
    /// `enum bpf_prog_type`.
    pub kind: u32,
    /// Its id.
    pub id: u32,
    /// A hash of its instructions.
    pub tag: [u8; 8],
    /// Its name, at most 15 bytes.
    pub name: String,
    /// The ids of its maps.
    pub maps: Vec<u32>,
}

impl ProgramInfo {
    /// `BPF_PROG_TYPE_SCHED_CLS`, the type of all programs on tc, tcx and netkit.
    pub const SCHED_CLS: u32 = 3;

    /// The tag as 16 hexadecimal digits.
    #[must_use]
    pub fn tag_hex(&self) -> String {
        format!("{:016x}", u64::from_be_bytes(self.tag))
    }
}

/// What the kernel says of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// `enum bpf_link_type`.
    pub kind: u32,
    /// Its id.
    pub id: u32,
    /// Its program's id.
    pub program: u32,
    /// tcx and netkit: the device in its own namespace; 0 when it is gone.
    pub ifindex: Option<u32>,
    /// tcx, netkit and cgroup: where it is attached.
    pub attach_type: Option<super::AttachType>,
    /// cgroup: the cgroup's id.
    pub cgroup: Option<u64>,
}

impl LinkInfo {
    /// `BPF_LINK_TYPE_CGROUP`.
    pub const CGROUP: u32 = 3;
    /// `BPF_LINK_TYPE_TCX`.
    pub const TCX: u32 = 11;
    /// `BPF_LINK_TYPE_NETKIT`.
    pub const NETKIT: u32 = 13;
}

/// Gives an object a name in a bpf filesystem, which keeps it alive.
///
/// # Errors
/// EEXIST: the path is taken. EPERM: not in a bpf filesystem. ENOENT: its folder is missing.
pub fn obj_pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    call(&mut attr::Object { path: path.as_ptr() as u64, fd: raw(fd), flags: 0 }).map(drop)
}

/// Opens a pinned object.
///
/// # Errors
/// ENOENT: nothing is pinned there. EACCES: not in a bpf filesystem, or not readable and writable.
pub fn obj_get(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    call_fd(&mut attr::ObjGet(attr::Object { path: path.as_ptr() as u64, fd: 0, flags: 0 }))
}

/// Opens a link by its id.
///
/// # Errors
/// ENOENT: there is no such link.
pub fn link_by_id(id: u32) -> io::Result<OwnedFd> {
    call_fd(&mut attr::LinkById { id, next: 0, open_flags: 0 })
}

/// Opens a program by its id.
///
/// # Errors
/// ENOENT: there is no such program.
pub fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    call_fd(&mut attr::ProgById { id, next: 0, open_flags: 0 })
}

/// Describes a program.
///
/// # Errors
/// EBADF: not a program.
pub fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    // The most maps a program can use (`MAX_USED_MAPS`, `include/linux/bpf_verifier.h`).
    let mut maps = [0u32; 64];
    let mut info = attr::RawProgramInfo {
        map_count: maps.len() as u32,
        maps: address_mut(&mut maps),
        ..attr::RawProgramInfo::default()
    };
    describe(program, &mut info)?;
    Ok(ProgramInfo {
        kind: info.kind,
        id: info.id,
        tag: info.tag,
        name: text(&info.name),
        maps: maps.into_iter().take(info.map_count as usize).collect(),
    })
}

/// A program's instructions as the verifier left them, each a `struct bpf_insn`; none where the kernel does not
/// show them to the caller.
///
/// # Errors
/// EBADF: not a program.
pub fn program_instructions(program: BorrowedFd<'_>) -> io::Result<Vec<u64>> {
    let mut info = attr::RawProgramInfo::default();
    describe(program, &mut info)?;
    let mut instructions = vec![0_u64; info.translated_len as usize / size_of::<u64>()];
    if instructions.is_empty() {
        return Ok(instructions);
    }
    let mut info = attr::RawProgramInfo {
        translated_len: info.translated_len,
        translated: instructions.as_mut_ptr() as u64,
        ..attr::RawProgramInfo::default()
    };
    describe(program, &mut info)?;
    // The kernel clears the address where it gives no instructions away.
    if info.translated == 0 {
        instructions.clear();
    }
    Ok(instructions)
}

/// Describes a link.
///
/// # Errors
/// EBADF: not a link.
pub fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut info = attr::RawLinkInfo::default();
    describe(link, &mut info)?;
    let [first, second, third, ..] = info.own;
    let device = matches!(info.kind, LinkInfo::TCX | LinkInfo::NETKIT);
    let cgroup = info.kind == LinkInfo::CGROUP;
    Ok(LinkInfo {
        kind: info.kind,
        id: info.id,
        program: info.program,
        ifindex: device.then_some(first),
        attach_type: match () {
            () if device => Some(super::AttachType(second)),
            () if cgroup => Some(super::AttachType(third)),
            () => None,
        },
        cgroup: cgroup.then(|| u64::from_ne_bytes(words_to_bytes(first, second))),
    })
}

/// The id of the next link after `after`; the first with 0.
///
/// # Errors
/// EPERM: CAP_SYS_ADMIN is missing.
pub fn link_next_id(after: u32) -> io::Result<Option<u32>> {
    let mut next = attr::LinkNextId { start: after, next: 0, open_flags: 0 };
    match call(&mut next) {
        Ok(_) => Ok(Some(next.next)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Every link of the machine, by id.
#[must_use]
pub fn link_ids() -> LinkIds {
    LinkIds { last: Some(0) }
}

/// The ids of the links there are. Links may come and go meanwhile. Ends after an error.
#[derive(Debug)]
pub struct LinkIds {
    last: Option<u32>,
}

impl Iterator for LinkIds {
    type Item = io::Result<u32>;

    fn next(&mut self) -> Option<Self::Item> {
        let answer = link_next_id(self.last?);
        self.last = answer.as_ref().ok().copied().flatten();
        answer.transpose()
    }
}

/// Marks a type the kernel may fill in as an object's description.
///
/// # Safety
/// `repr(C)`, valid for every bit pattern, a prefix of the kernel's type (or longer, where the kernel leaves the
/// rest alone).
pub(super) unsafe trait Description {}
// SAFETY: integers and arrays of integers only; the first fields of `struct bpf_prog_info`.
unsafe impl Description for attr::RawProgramInfo {}
// SAFETY: integers and arrays of integers only; as long as `struct bpf_link_info` or zero where longer.
unsafe impl Description for attr::RawLinkInfo {}

pub(super) fn describe<T: Description>(fd: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    call(&mut attr::InfoByFd { fd: raw(fd), len: size_of::<T>() as u32, info: address_mut(info) }).map(drop)
}

// SAFETY: integers and arrays of integers only; the kernel fills as much of it as it is long.
unsafe impl Description for attr::RawMapInfo {}

fn words_to_bytes(first: u32, second: u32) -> [u8; 8] {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    [a, b, c, d, e, f, g, h]
}

fn text(bytes: &[u8]) -> String {
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}
