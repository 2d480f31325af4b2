//! bpf(2): links with revisions, chain queries, iterators, cgroup links, pins, objects by id.
//!
//! Every command goes through `call`, the one place that enters the kernel. Each function is one command; its
//! error is the plain errno, because its meaning depends on the caller's intent, and the caller names the command
//! with the constants in [`command`].
//!
//! An interface index means a device in the *calling thread's* network namespace.
//!
//! - `attr`: the commands' arguments, laid out as the kernel has them
//! - `map`: maps of maps
//! - `object`: pins, ids and descriptions of programs and links
//! - `position`: where in a chain a program goes

mod attr;
mod map;
mod object;
mod position;

use std::{
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

pub use map::{map_at, map_by_id, maps_like, set_maps};
pub use object::{
    LinkIds, LinkInfo, ProgramInfo, link_by_id, link_ids, link_info, link_next_id, obj_get, obj_pin,
    program_by_id, program_info, program_instructions,
};
pub use position::{Position, Relative};

use attr::Command;

/// The commands' names, for error texts.
pub mod command {
    /// `BPF_MAP_CREATE`.
    pub const MAP_CREATE: &str = "BPF_MAP_CREATE";
    /// `BPF_MAP_LOOKUP_ELEM`.
    pub const MAP_LOOKUP_ELEM: &str = "BPF_MAP_LOOKUP_ELEM";
    /// `BPF_MAP_UPDATE_BATCH`.
    pub const MAP_UPDATE_BATCH: &str = "BPF_MAP_UPDATE_BATCH";
    /// `BPF_MAP_GET_FD_BY_ID`.
    pub const MAP_GET_FD_BY_ID: &str = "BPF_MAP_GET_FD_BY_ID";
    /// `BPF_LINK_CREATE`.
    pub const LINK_CREATE: &str = "BPF_LINK_CREATE";
    /// `BPF_LINK_UPDATE`.
    pub const LINK_UPDATE: &str = "BPF_LINK_UPDATE";
    /// `BPF_LINK_DETACH`.
    pub const LINK_DETACH: &str = "BPF_LINK_DETACH";
    /// `BPF_LINK_GET_FD_BY_ID`.
    pub const LINK_GET_FD_BY_ID: &str = "BPF_LINK_GET_FD_BY_ID";
    /// `BPF_LINK_GET_NEXT_ID`.
    pub const LINK_GET_NEXT_ID: &str = "BPF_LINK_GET_NEXT_ID";
    /// `BPF_MAP_UPDATE_ELEM`.
    pub const MAP_UPDATE_ELEM: &str = "BPF_MAP_UPDATE_ELEM";
    /// `BPF_PROG_LOAD`.
    pub const PROG_LOAD: &str = "BPF_PROG_LOAD";
    /// `BPF_PROG_QUERY`.
    pub const PROG_QUERY: &str = "BPF_PROG_QUERY";
    /// `BPF_PROG_TEST_RUN`.
    pub const PROG_TEST_RUN: &str = "BPF_PROG_TEST_RUN";
    /// `BPF_PROG_ATTACH`.
    pub const PROG_ATTACH: &str = "BPF_PROG_ATTACH";
    /// `BPF_PROG_DETACH`.
    pub const PROG_DETACH: &str = "BPF_PROG_DETACH";
    /// `BPF_PROG_GET_FD_BY_ID`.
    pub const PROG_GET_FD_BY_ID: &str = "BPF_PROG_GET_FD_BY_ID";
    /// `BPF_OBJ_PIN`.
    pub const OBJ_PIN: &str = "BPF_OBJ_PIN";
    /// `BPF_OBJ_GET`.
    pub const OBJ_GET: &str = "BPF_OBJ_GET";
    /// `BPF_OBJ_GET_INFO_BY_FD`.
    pub const OBJ_GET_INFO_BY_FD: &str = "BPF_OBJ_GET_INFO_BY_FD";
    /// `BPF_ITER_CREATE`.
    pub const ITER_CREATE: &str = "BPF_ITER_CREATE";
}

/// Where a program attaches: `enum bpf_attach_type`, `include/uapi/linux/bpf.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttachType(pub u32);

impl AttachType {
    /// `connect()` of an IPv4 socket.
    pub const CGROUP_INET4_CONNECT: Self = Self(10);
    /// `connect()` of an IPv6 socket.
    pub const CGROUP_INET6_CONNECT: Self = Self(11);
    /// `sendmsg()` with an address on an IPv4 UDP socket.
    pub const CGROUP_UDP4_SENDMSG: Self = Self(14);
    /// `sendmsg()` with an address on an IPv6 UDP socket.
    pub const CGROUP_UDP6_SENDMSG: Self = Self(15);
    /// `recvmsg()` on an IPv4 UDP socket.
    pub const CGROUP_UDP4_RECVMSG: Self = Self(19);
    /// `recvmsg()` on an IPv6 UDP socket.
    pub const CGROUP_UDP6_RECVMSG: Self = Self(20);
    /// An iterator.
    pub const TRACE_ITER: Self = Self(28);
    /// `getpeername()` of an IPv4 socket.
    pub const CGROUP_INET4_GETPEERNAME: Self = Self(29);
    /// `getpeername()` of an IPv6 socket.
    pub const CGROUP_INET6_GETPEERNAME: Self = Self(30);
    /// tcx, arriving packets (Linux 6.6).
    pub const TCX_INGRESS: Self = Self(46);
    /// tcx, leaving packets (Linux 6.6).
    pub const TCX_EGRESS: Self = Self(47);
    /// The node's end of a netkit pair (Linux 6.7).
    pub const NETKIT_PRIMARY: Self = Self(54);
    /// The endpoint's end of a netkit pair, addressed by the primary's index (Linux 6.7).
    pub const NETKIT_PEER: Self = Self(55);
}

/// One entry of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryEntry {
    /// The program's id.
    pub program: u32,
    /// The link's id; none where the program was attached without a link.
    pub link: Option<u32>,
}

/// A chain: its programs, first to run first, and its revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Changes with every change of the chain. 1 for a chain that never had a program.
    pub revision: u64,
    /// The programs.
    pub entries: Vec<QueryEntry>,
}

/// Attaches a program to a device with a link. The link lives as long as its last fd or pin.
///
/// # Errors
/// ESTALE: the chain's revision is not `expected_revision`. ERANGE: 63 programs are there. EEXIST: this program is
/// in the chain. ENOENT: the anchor is not. ENODEV: no such device in this namespace. ENXIO: not a netkit device.
/// EACCES: a netkit pair addressed through its peer. EINVAL: also a kernel without this attach type.
pub fn link_create(
    program: BorrowedFd<'_>,
    ifindex: u32,
    attach_type: AttachType,
    position: Position<'_>,
    expected_revision: Option<u64>,
) -> io::Result<OwnedFd> {
    let (flags, relative) = position.encode();
    call_fd(&mut attr::LinkCreateDevice {
        program: raw(program),
        ifindex,
        attach_type: attach_type.0,
        flags,
        relative,
        reserved: 0,
        expected_revision: expected_revision.unwrap_or(0),
    })
}

/// Makes a link run another program, in the same place of its chain, with no packet in between missing both.
///
/// # Errors
/// EPERM: the link does not run `old`. ENOLINK: its device is gone. EEXIST: `new` is in the chain.
pub fn link_update(link: BorrowedFd<'_>, new: BorrowedFd<'_>, old: Option<BorrowedFd<'_>>) -> io::Result<()> {
    call(&mut attr::LinkUpdate {
        link: raw(link),
        new: raw(new),
        flags: if old.is_some() { attr::F_REPLACE } else { 0 },
        old: old.map_or(0, raw),
    })
    .map(drop)
}

/// Takes a link's program out of its chain now, whoever else holds the link. Links without a device stay as they
/// are.
///
/// # Errors
/// EOPNOTSUPP: links of this type cannot be detached.
pub fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    call(&mut attr::LinkDetach { link: raw(link) }).map(drop)
}

/// Reads a device's chain.
///
/// # Errors
/// ENODEV: no such device in this namespace. ENXIO: not a netkit device. EACCES: a netkit pair addressed through
/// its peer. EINVAL: also a kernel without this attach type.
pub fn prog_query(ifindex: u32, attach_type: AttachType) -> io::Result<Query> {
    // One more than the kernel takes on a hook, so that one call always sees the whole chain.
    const CAPACITY: usize = 64;
    let mut programs = [0u32; CAPACITY];
    let mut links = [0u32; CAPACITY];
    let mut query = attr::ProgQuery {
        program_ids: address_mut(&mut programs),
        count: CAPACITY as u32,
        link_ids: address_mut(&mut links),
        ..bare_query(ifindex, attach_type)
    };
    call(&mut query)?;
    let entries = programs
        .into_iter()
        .zip(links)
        .take(query.count as usize)
        .map(|(program, link)| QueryEntry { program, link: (link != 0).then_some(link) })
        .collect();
    Ok(Query { revision: query.revision, entries })
}

/// The revision of a chain and how many programs it has, without the programs.
///
/// # Errors
/// As [`prog_query`].
pub fn prog_query_revision(ifindex: u32, attach_type: AttachType) -> io::Result<(u64, u32)> {
    let mut query = bare_query(ifindex, attach_type);
    call(&mut query)?;
    Ok((query.revision, query.count))
}

/// A query without buffers: the kernel tells the count and the revision.
fn bare_query(target: u32, attach_type: AttachType) -> attr::ProgQuery {
    attr::ProgQuery {
        ifindex: target,
        attach_type: attach_type.0,
        query_flags: 0,
        attach_flags: 0,
        program_ids: 0,
        count: 0,
        reserved: 0,
        program_attach_flags: 0,
        link_ids: 0,
        link_attach_flags: 0,
        revision: 0,
    }
}

/// Attaches a program to a device without a link: it stays until it is detached. With `replace`, in the place of
/// that program, which must have no link either.
///
/// # Errors
/// As [`link_create`].
pub fn prog_attach(
    program: BorrowedFd<'_>,
    ifindex: u32,
    attach_type: AttachType,
    position: Position<'_>,
    replace: Option<BorrowedFd<'_>>,
    expected_revision: Option<u64>,
) -> io::Result<()> {
    let (flags, relative) = match replace {
        Some(_) => (attr::F_REPLACE, 0),
        None => position.encode(),
    };
    call(&mut attr::ProgAttach(attr::ProgChange {
        ifindex,
        program: raw(program),
        attach_type: attach_type.0,
        flags,
        replace: replace.map_or(0, raw),
        relative,
        expected_revision: expected_revision.unwrap_or(0),
    }))
    .map(drop)
}

/// Detaches a program that has no link from a device.
///
/// # Errors
/// ENOENT: it is not in the chain. ESTALE: the revision differs. EBUSY: a link holds it.
pub fn prog_detach(
    program: BorrowedFd<'_>,
    ifindex: u32,
    attach_type: AttachType,
    expected_revision: Option<u64>,
) -> io::Result<()> {
    call(&mut attr::ProgDetach(attr::ProgChange {
        ifindex,
        program: raw(program),
        attach_type: attach_type.0,
        flags: 0,
        replace: 0,
        relative: 0,
        expected_revision: expected_revision.unwrap_or(0),
    }))
    .map(drop)
}

/// How many programs are attached to a cgroup.
///
/// # Errors
/// EINVAL: a kernel without this attach type. EBADF: not a cgroup2 directory.
pub fn cgroup_query(cgroup: BorrowedFd<'_>, attach_type: AttachType) -> io::Result<u32> {
    // No buffers: kernels before 6.6 refuse the one for link ids, and the count is given without any.
    // The kernel keeps an index or, for cgroups, an fd in this place.
    let mut query = bare_query(raw(cgroup), attach_type);
    call(&mut query)?;
    Ok(query.count)
}

/// Attaches a cgroup program to a cgroup and all below it, beside whatever else is attached there.
///
/// # Errors
/// EINVAL: the program was loaded for another attach type. EBADF: not a cgroup2 directory.
pub fn cgroup_link(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: AttachType,
) -> io::Result<OwnedFd> {
    call_fd(&mut attr::LinkCreateFd {
        program: raw(program),
        target: raw(cgroup),
        attach_type: attach_type.0,
        flags: 0,
    })
}

/// Asks to attach a cgroup program to a cgroup that is none, in front of all others or with a flag that no kernel
/// knows: nothing is ever attached.
///
/// # Errors
/// EBADF: the kernel accepted the flag, and looked for the cgroup. EINVAL: it does not know the flag.
pub fn cgroup_link_nowhere(
    program: BorrowedFd<'_>,
    attach_type: AttachType,
    before: bool,
) -> io::Result<OwnedFd> {
    const NO_FLAG: u32 = 1 << 31;
    call_fd(&mut attr::LinkCreateFd {
        program: raw(program),
        target: u32::MAX,
        attach_type: attach_type.0,
        flags: if before { attr::F_BEFORE } else { NO_FLAG },
    })
}

/// Makes a link of an iterator program, over one map's elements if its target is a map.
///
/// # Errors
/// EINVAL: the program's target needs a map and got none or one of another type.
pub fn iter_link(program: BorrowedFd<'_>, map: Option<BorrowedFd<'_>>) -> io::Result<OwnedFd> {
    let info = attr::IterInfo { map: map.map_or(0, raw) };
    call_fd(&mut attr::LinkCreateIter {
        program: raw(program),
        target: 0,
        attach_type: AttachType::TRACE_ITER.0,
        flags: 0,
        info: if map.is_some() { address(&info) } else { 0 },
        info_len: if map.is_some() { size_of_val(&info) as u32 } else { 0 },
        reserved: 0,
    })
}

/// Starts one pass of an iterator's link: reading the fd runs the program.
///
/// # Errors
/// EINVAL: not an iterator's link.
pub fn iter_create(link: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    call_fd(&mut attr::IterCreate { link: raw(link), flags: 0 })
}

/// Runs a classifier once over a frame, as if it had come in by a device of this namespace: its verdict, and the frame
/// as it left it. Where it sends the frame to is not carried out.
///
/// # Errors
/// EINVAL: the frame is shorter than an Ethernet header, or there is no such device. ENOSPC: the program made the frame
/// longer than [`TEST_RUN_ROOM`] bytes more than it was.
pub fn test_run(program: BorrowedFd<'_>, ifindex: u32, frame: &[u8]) -> io::Result<(i32, Vec<u8>)> {
    // `struct __sk_buff` up to the device's index.
    let mut context = [0_u32; 11];
    if let Some(last) = context.last_mut() {
        *last = ifindex;
    }
    let mut out = vec![0_u8; frame.len() + TEST_RUN_ROOM];
    let mut attr = attr::ProgTestRun {
        program: raw(program),
        verdict: 0,
        size_in: frame.len() as u32,
        size_out: out.len() as u32,
        frame_in: frame.as_ptr() as u64,
        frame_out: out.as_mut_ptr() as u64,
        repeat: 1,
        duration: 0,
        context_size_in: mem::size_of_val(&context) as u32,
        context_size_out: 0,
        context_in: address(&context),
        context_out: 0,
        flags: 0,
        cpu: 0,
    };
    call(&mut attr)?;
    out.truncate(attr.size_out as usize);
    Ok((attr.verdict.cast_signed(), out))
}

/// Bytes by which [`test_run`] lets a frame grow.
pub const TEST_RUN_ROOM: usize = 256;

/// Puts a program into a map of programs, for tail calls.
///
/// The map forgets its programs when the last fd and pin of it go, also while programs use it.
///
/// # Errors
/// EINVAL: not such a map, or a program of another kind than those it holds. E2BIG: no such index.
pub fn prog_array_set(map: BorrowedFd<'_>, index: u32, program: BorrowedFd<'_>) -> io::Result<()> {
    let value = raw(program);
    call(&mut attr::MapUpdate(attr::MapElement {
        map: raw(map),
        reserved: 0,
        key: address(&index),
        value: address(&value),
        flags: 0,
    }))
    .map(drop)
}

/// Loads a two-instruction classifier that answers "next program" to every packet: something to attach when all
/// that is of interest is whether the kernel can.
///
/// # Errors
/// EPERM: CAP_BPF and CAP_NET_ADMIN are missing.
pub fn load_next(name: &str) -> io::Result<OwnedFd> {
    const SCHED_CLS: u32 = 3;
    // r0 = -1 (TCX_NEXT, NETKIT_NEXT and TC_ACT_UNSPEC alike); exit
    load(name, SCHED_CLS, None, 0, &[0xffff_ffff_0000_00b7, EXIT])
}

/// Loads a cgroup program that lets every `connect()` of an IPv4 socket be.
///
/// # Errors
/// EPERM: CAP_BPF and CAP_NET_ADMIN are missing.
pub fn load_connect(name: &str) -> io::Result<OwnedFd> {
    const CGROUP_SOCK_ADDR: u32 = 18;
    // r0 = 1; exit
    load(name, CGROUP_SOCK_ADDR, Some(AttachType::CGROUP_INET4_CONNECT), 0, &[0x1_0000_00b7, EXIT])
}

/// Loads an iterator over TCP sockets that would call a kernel function with each, given the ids of the iterator and
/// of the function in the kernel's type information. Nothing runs until somebody makes a link of it.
///
/// # Errors
/// EINVAL or EACCES: the kernel does not let iterators call the function. EPERM: CAP_BPF is missing.
pub fn load_tcp_iterator(name: &str, iterator: u32, function: u32) -> io::Result<OwnedFd> {
    let instructions = [
        // r1 = ctx->sk_common, the second pointer of struct bpf_iter__tcp
        0x0008_1179,
        // if (!r1) goto exit
        0x0001_0115,
        // call the function: BPF_PSEUDO_KFUNC_CALL in the source register
        (u64::from(function) << 32) | 0x2085,
        // r0 = 0; exit
        0xb7,
        EXIT,
    ];
    load(name, TRACING, Some(AttachType::TRACE_ITER), iterator, &instructions)
}

/// Loads an iterator that does nothing, given its id in the kernel's type information: where its name is known, the
/// kernel may refuse it nevertheless. Nothing runs until somebody makes a link of it.
///
/// # Errors
/// EPERM: CAP_BPF is missing, or the kernel was built to refuse iterators of this kind. EINVAL: it is no iterator.
pub fn load_iterator(name: &str, iterator: u32) -> io::Result<OwnedFd> {
    // r0 = 0; exit
    load(name, TRACING, Some(AttachType::TRACE_ITER), iterator, &[0xb7, EXIT])
}

/// How often a load is tried: the kernel gives up with EAGAIN when a signal arrives during verification.
pub const LOAD_ATTEMPTS: usize = 10;

/// `BPF_PROG_TYPE_TRACING`.
const TRACING: u32 = 26;

/// The instruction that ends a program.
const EXIT: u64 = 0x95;

/// Loads a program; `target` is the kernel function or type it is for, by its id in the kernel's type information.
fn load(
    name: &str,
    kind: u32,
    attach_type: Option<AttachType>,
    target: u32,
    instructions: &[u64],
) -> io::Result<OwnedFd> {
    let instructions: Vec<u64> = instructions.iter().map(|instruction| instruction.to_le()).collect();
    // bpf_sock_destroy is for programs under the GPL; this one is under both.
    let license = c"Dual BSD/GPL";
    let mut name_bytes = [0; 16];
    for (to, from) in name_bytes.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    call_fd(&mut attr::ProgLoad {
        kind,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: name_bytes,
        device: 0,
        attach_type: attach_type.map_or(0, |attach_type| attach_type.0),
        types: 0,
        function_info_size: 0,
        function_info: 0,
        function_info_count: 0,
        line_info_size: 0,
        line_info: 0,
        line_info_count: 0,
        attach_type_id: target,
    })
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn address<T>(value: &T) -> u64 {
    ptr::from_ref(value) as u64
}

fn address_mut<T>(value: &mut T) -> u64 {
    ptr::from_mut(value) as u64
}

fn call_fd<A: Command>(attr: &mut A) -> io::Result<OwnedFd> {
    let fd = call(attr)?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: callers pass only commands that answer with a new fd, which nobody else owns yet.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Enters the kernel.
///
/// A kernel that knows more fields than the struct has takes the missing ones as 0; one that knows fewer refuses
/// with E2BIG or EINVAL if one it does not know is not 0.
fn call<A: Command>(attr: &mut A) -> io::Result<i64> {
    let mut attempts = LOAD_ATTEMPTS;
    loop {
        // SAFETY: `Command` promises that `A` has the layout the kernel expects for this command, without padding,
        // and that each address in it points to memory that lives through the call with the length given beside
        // it, writable where the kernel writes.
        let answer =
            unsafe { libc::syscall(libc::SYS_bpf, A::NUMBER, ptr::from_mut(attr), mem::size_of::<A>()) };
        if answer >= 0 {
            return Ok(answer);
        }
        let error = io::Error::last_os_error();
        attempts -= 1;
        if error.raw_os_error() != Some(libc::EAGAIN) || attempts == 0 {
            return Err(error);
        }
    }
}
