//! The arguments of bpf(2) commands: prefixes of `union bpf_attr`, `include/uapi/linux/bpf.h`.

/// Put the program in the place of another; in an update: only if that one is there.
pub(super) const F_REPLACE: u32 = 1 << 2;
/// Just before the anchor.
pub(super) const F_BEFORE: u32 = 1 << 3;
/// Just after the anchor.
pub(super) const F_AFTER: u32 = 1 << 4;
/// The anchor is given by id, not by fd.
pub(super) const F_ID: u32 = 1 << 5;
/// The anchor is a link, not a program.
pub(super) const F_LINK: u32 = 1 << 13;

/// The argument of one command.
///
/// # Safety
/// The type is `repr(C)` without padding, laid out as the kernel's argument of command `NUMBER`. Who makes a value
/// of it sees to it that its addresses point to live memory of the length beside them.
pub(super) unsafe trait Command {
    /// `enum bpf_cmd`.
    const NUMBER: u32;
}

macro_rules! command {
    ($name:ident = $number:literal, $size:literal bytes { $($field:ident: $type:ty),* $(,)? }) => {
        #[repr(C)]
        pub(super) struct $name { $(pub(super) $field: $type),* }
        const _: () = assert!(size_of::<$name>() == $size && 0 $(+ size_of::<$type>())* == $size);
        // SAFETY: the assertion shows that there is no padding; the fields follow the kernel's header.
        unsafe impl Command for $name {
            const NUMBER: u32 = $number;
        }
    };
}

command!(MapCreate = 0, 64 bytes {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner: u32,
    numa_node: u32,
    name: [u8; 16],
    ifindex: u32,
    btf: u32,
    btf_key: u32,
    btf_value: u32,
    vmlinux_value: u32,
});

/// The argument of commands on one element of a map.
#[repr(C)]
pub(super) struct MapElement {
    pub(super) map: u32,
    pub(super) reserved: u32,
    pub(super) key: u64,
    pub(super) value: u64,
    pub(super) flags: u64,
}
const _: () = assert!(size_of::<MapElement>() == 2 * 4 + 3 * 8);

#[repr(transparent)]
pub(super) struct MapLookup(pub(super) MapElement);
// SAFETY: two u32 and three u64 leave no padding; the fields follow the kernel's header.
unsafe impl Command for MapLookup {
    const NUMBER: u32 = 1;
}

#[repr(transparent)]
pub(super) struct MapUpdate(pub(super) MapElement);
// SAFETY: as for `MapLookup`.
unsafe impl Command for MapUpdate {
    const NUMBER: u32 = 2;
}

command!(MapUpdateBatch = 26, 56 bytes {
    from: u64,
    to: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
});

command!(MapById = 14, 12 bytes { id: u32, next: u32, open_flags: u32 });

command!(BtfById = 19, 12 bytes { id: u32, next: u32, open_flags: u32 });

command!(ProgLoad = 5, 112 bytes {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    device: u32,
    attach_type: u32,
    types: u32,
    function_info_size: u32,
    function_info: u64,
    function_info_count: u32,
    line_info_size: u32,
    line_info: u64,
    line_info_count: u32,
    attach_type_id: u32,
});

command!(ProgTestRun = 10, 72 bytes {
    program: u32,
    verdict: u32,
    size_in: u32,
    size_out: u32,
    frame_in: u64,
    frame_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
});

command!(Object = 6, 16 bytes { path: u64, fd: u32, flags: u32 });

#[repr(transparent)]
pub(super) struct ObjGet(pub(super) Object);
// SAFETY: pin and get share their argument.
unsafe impl Command for ObjGet {
    const NUMBER: u32 = 7;
}

/// The argument of both BPF_PROG_ATTACH and BPF_PROG_DETACH.
#[repr(C)]
pub(super) struct ProgChange {
    pub(super) ifindex: u32,
    pub(super) program: u32,
    pub(super) attach_type: u32,
    pub(super) flags: u32,
    pub(super) replace: u32,
    pub(super) relative: u32,
    pub(super) expected_revision: u64,
}
const _: () = assert!(size_of::<ProgChange>() == 6 * 4 + 8);

#[repr(transparent)]
pub(super) struct ProgAttach(pub(super) ProgChange);
// SAFETY: six u32 and a u64 leave no padding; the fields follow the kernel's header.
unsafe impl Command for ProgAttach {
    const NUMBER: u32 = 8;
}

#[repr(transparent)]
pub(super) struct ProgDetach(pub(super) ProgChange);
// SAFETY: as for `ProgAttach`.
unsafe impl Command for ProgDetach {
    const NUMBER: u32 = 9;
}

command!(ProgById = 13, 12 bytes { id: u32, next: u32, open_flags: u32 });

command!(InfoByFd = 15, 16 bytes { fd: u32, len: u32, info: u64 });

command!(ProgQuery = 16, 64 bytes {
    ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    program_ids: u64,
    count: u32,
    reserved: u32,
    program_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
});

command!(LinkCreateDevice = 28, 32 bytes {
    program: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    reserved: u32,
    expected_revision: u64,
});

command!(LinkCreateFd = 28, 16 bytes { program: u32, target: u32, attach_type: u32, flags: u32 });

command!(LinkCreateIter = 28, 32 bytes {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    info: u64,
    info_len: u32,
    reserved: u32,
});

/// `union bpf_iter_link_info`, as far as map iterators use it.
#[repr(C)]
pub(super) struct IterInfo {
    pub(super) map: u32,
}

command!(LinkUpdate = 29, 16 bytes { link: u32, new: u32, flags: u32, old: u32 });

command!(LinkById = 30, 12 bytes { id: u32, next: u32, open_flags: u32 });

command!(LinkNextId = 31, 12 bytes { start: u32, next: u32, open_flags: u32 });

command!(IterCreate = 33, 8 bytes { link: u32, flags: u32 });

command!(LinkDetach = 34, 4 bytes { link: u32 });

/// The first fields of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Default)]
pub(super) struct RawProgramInfo {
    pub(super) kind: u32,
    pub(super) id: u32,
    pub(super) tag: [u8; 8],
    pub(super) jited_len: u32,
    pub(super) translated_len: u32,
    pub(super) jited: u64,
    pub(super) translated: u64,
    pub(super) load_time: u64,
    pub(super) uid: u32,
    pub(super) map_count: u32,
    pub(super) maps: u64,
    pub(super) name: [u8; 16],
}
const _: () = assert!(size_of::<RawProgramInfo>() == 80);

/// The first fields of `struct bpf_map_info`.
#[repr(C)]
#[derive(Default)]
pub(super) struct RawMapInfo {
    pub(super) kind: u32,
    pub(super) id: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    pub(super) flags: u32,
    pub(super) name: [u8; 16],
    pub(super) ifindex: u32,
    pub(super) vmlinux_value: u32,
    pub(super) netns_device: u64,
    pub(super) netns_inode: u64,
    pub(super) btf: u32,
    pub(super) btf_key: u32,
    pub(super) btf_value: u32,
    pub(super) reserved: u32,
}
const _: () = assert!(size_of::<RawMapInfo>() == 80);

/// `struct bpf_link_info`: the fixed part, then the link type's own, as the words it is made of.
#[repr(C)]
#[derive(Default)]
pub(super) struct RawLinkInfo {
    pub(super) kind: u32,
    pub(super) id: u32,
    pub(super) program: u32,
    pub(super) reserved: u32,
    pub(super) own: [u32; 12],
}
const _: () = assert!(size_of::<RawLinkInfo>() == 64);
