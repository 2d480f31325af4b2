//! BPF programs: loading one out of any ELF object, pins, programs that are already in the kernel.
//!
//! - `error`: what can go wrong with an object, and the way out
//! - `elf`: the names of program sections, so that objects written for other loaders load too
//! - `globals`: values of global variables, as people write them

mod elf;
mod error;
mod globals;

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use aya::EbpfLoader;
use aya_obj::{ProgramSection, maps::PinningType};
use netloom_core::model::{IfIndex, ProgramId};
use netloom_sys::bpf;

use crate::{loader, maps::MapSizes, netns::Netns};

pub use self::{
    error::{LoadError, ProgramError},
    globals::global,
};

/// How an object is loaded.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Which of its programs; its only one if none.
    pub program: Option<String>,
    /// The folder in a bpf filesystem where the maps are that the object wants pinned by name. Maps found there
    /// are used, others are made and pinned. Made if missing.
    pub pin_maps: Option<PathBuf>,
    /// Values of global variables (`const volatile`), by name, in the byte order of this machine.
    pub globals: BTreeMap<String, Vec<u8>>,
}

/// A program in the kernel: it stays there at least as long as this lives.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
    info: bpf::ProgramInfo,
    tag: String,
}

impl Program {
    fn new(fd: OwnedFd, on: impl FnOnce() -> String) -> Result<Self, ProgramError> {
        match bpf::program_info(fd.as_fd()) {
            Ok(info) => Ok(Self { tag: info.tag_hex(), fd, info }),
            Err(source) => Err(ProgramError::sys(bpf::command::OBJ_GET_INFO_BY_FD, on(), source)),
        }
    }

    /// Opens a pinned program.
    ///
    /// # Errors
    /// [`ProgramError::NoPin`], [`ProgramError::NotAProgram`], [`ProgramError::Denied`].
    pub fn open_pinned(path: &Path) -> Result<Self, ProgramError> {
        let fd = bpf::obj_get(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ProgramError::NoPin { path: path.to_owned() },
            _ => ProgramError::sys(bpf::command::OBJ_GET, path.display().to_string(), source),
        })?;
        let info = bpf::program_info(fd.as_fd()).ok().filter(|_| is_program(fd.as_fd()));
        let info = info.ok_or_else(|| ProgramError::NotAProgram { path: path.to_owned() })?;
        Ok(Self { tag: info.tag_hex(), fd, info })
    }

    /// Opens a program by its id.
    ///
    /// # Errors
    /// [`ProgramError::Gone`] if there is none, [`ProgramError::Denied`].
    pub fn from_id(id: ProgramId) -> Result<Self, ProgramError> {
        let on = || format!("program {id}");
        let fd = bpf::program_by_id(id.0).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ProgramError::Gone { id },
            _ => ProgramError::sys(bpf::command::PROG_GET_FD_BY_ID, on(), source),
        })?;
        Self::new(fd, on)
    }

    /// Takes over a program that was loaded otherwise.
    ///
    /// # Errors
    /// [`ProgramError::Sys`] if the fd is no program's.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, ProgramError> {
        Self::new(fd, || "a program".to_owned())
    }

    /// Gives it a path in a bpf filesystem, which keeps it in the kernel. Folders are made.
    ///
    /// # Errors
    /// [`ProgramError::PinTaken`], [`ProgramError::NotBpffs`], [`ProgramError::Denied`].
    pub fn pin(&self, path: &Path) -> Result<(), ProgramError> {
        pin(self.fd(), path)
    }

    /// Its file descriptor.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The kernel's id of it.
    #[must_use]
    pub fn id(&self) -> ProgramId {
        ProgramId(self.info.id)
    }

    /// Its name, at most 15 bytes.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// Its tag, 16 hexadecimal digits.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The kernel's ids of its maps.
    #[must_use]
    pub fn maps(&self) -> &[u32] {
        &self.info.maps
    }

    /// Runs it over a frame, as if that had come in by a device of a namespace: its verdict, and the frame as it left
    /// it. The verdict is not carried out.
    ///
    /// # Errors
    /// [`ProgramError::Sys`]: it is no classifier, there is no such device, or the frame is shorter than its link
    /// header.
    pub fn test(&self, netns: &Netns, device: IfIndex, frame: &[u8]) -> Result<(i32, Vec<u8>), ProgramError> {
        let failed = |source| ProgramError::sys(bpf::command::PROG_TEST_RUN, self.name().to_owned(), source);
        netns
            .run(|| bpf::test_run(self.fd(), device.0, frame))
            .map_err(|error| failed(io::Error::other(error)))?
            .map_err(failed)
    }

    /// Whether it is of the type that attaches to tc, tcx and netkit.
    #[must_use]
    pub fn is_classifier(&self) -> bool {
        self.info.kind == bpf::ProgramInfo::SCHED_CLS
    }
}

/// Maps and links have a description too, of other fields in the same place: only the fd's file tells them apart.
fn is_program(fd: BorrowedFd<'_>) -> bool {
    use std::os::fd::AsRawFd;
    fs::read_link(format!("/proc/thread-self/fd/{}", fd.as_raw_fd()))
        .is_ok_and(|target| target.to_string_lossy().contains("bpf-prog"))
}

/// Pins any BPF object.
pub(crate) fn pin(fd: BorrowedFd<'_>, path: &Path) -> Result<(), ProgramError> {
    let mut pinned = bpf::obj_pin(fd, path);
    // Nearly always the folder is there: it is looked for only where it turns out to be missing.
    if let (Err(error), Some(folder)) = (&pinned, path.parent())
        && error.kind() == io::ErrorKind::NotFound
    {
        fs::create_dir_all(folder)
            .map_err(|source| ProgramError::sys("mkdir", path.display().to_string(), source))?;
        pinned = bpf::obj_pin(fd, path);
    }
    pinned.map_err(|source| match source.raw_os_error() {
        Some(libc::EEXIST) => ProgramError::PinTaken { path: path.to_owned() },
        Some(libc::EPERM | libc::EINVAL) => ProgramError::NotBpffs { path: path.to_owned() },
        _ => ProgramError::sys(bpf::command::OBJ_PIN, path.display().to_string(), source),
    })
}

/// Loads a program from an ELF file.
///
/// # Errors
/// [`LoadError`].
pub fn load_file(path: &Path, options: &LoadOptions) -> Result<Program, LoadError> {
    let bytes = fs::read(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
    load(&path.display().to_string(), &bytes, options)
}

/// Loads a program from the bytes of an ELF object; `object` names it in errors.
///
/// # Errors
/// [`LoadError`].
pub fn load(object: &str, bytes: &[u8], options: &LoadOptions) -> Result<Program, LoadError> {
    let chosen = |elf: &elf::Elf, parsed: &aya_obj::Object| {
        choose(object, elf, parsed, options.program.as_deref()).map(|name| vec![name])
    };
    let mut programs = load_chosen(object, bytes, options, chosen)?.programs;
    programs.pop().map(|(_, program)| program).ok_or_else(|| LoadError::NoSuchProgram {
        object: object.to_owned(),
        program: options.program.clone().unwrap_or_default(),
        available: "none".to_owned(),
    })
}

/// Programs of one object that share its maps.
#[derive(Debug)]
pub struct Loaded {
    /// Each with its name in the object, in the order they were asked for.
    pub programs: Vec<(String, Program)>,
    /// The object's maps, by name.
    pub maps: BTreeMap<String, OwnedFd>,
}

/// Loads several programs of an ELF object together: they share its maps and global variables.
///
/// # Errors
/// [`LoadError`].
pub fn load_several(
    object: &str,
    bytes: &[u8],
    names: &[String],
    options: &LoadOptions,
) -> Result<Loaded, LoadError> {
    load_chosen(object, bytes, options, |elf, parsed| {
        names.iter().map(|name| choose(object, elf, parsed, Some(name))).collect()
    })
}

/// The names of an object's programs that attach to devices, sorted.
///
/// # Errors
/// [`LoadError`] if it is no BPF object.
pub fn classifiers(object: &str, bytes: &[u8]) -> Result<Vec<String>, LoadError> {
    with_parsed(object, bytes, |_, _, parsed| {
        let classifiers = parsed
            .programs
            .iter()
            .filter(|(_, program)| matches!(program.section, ProgramSection::SchedClassifier))
            .map(|(name, _)| name.clone());
        let mut names: Vec<String> = classifiers.collect();
        names.sort_unstable();
        Ok(names)
    })
}

fn load_chosen(
    object: &str,
    bytes: &[u8],
    options: &LoadOptions,
    chosen: impl FnOnce(&elf::Elf, &aya_obj::Object) -> Result<Vec<String>, LoadError>,
) -> Result<Loaded, LoadError> {
    with_parsed(object, bytes, |bytes, elf, parsed| {
        load_elf(object, bytes, parsed, &chosen(elf, parsed)?, options)
    })
}

/// Reads an object, and keeps what a damaged one does to the parser within the request.
fn with_parsed<T>(
    object: &str,
    bytes: &[u8],
    work: impl FnOnce(&[u8], &elf::Elf, &aya_obj::Object) -> Result<T, LoadError>,
) -> Result<T, LoadError> {
    let elf =
        elf::Elf::parse(bytes).map_err(|detail| LoadError::NotBpf { object: object.to_owned(), detail })?;
    // The parser meets bytes from anywhere, and has been seen to panic on damaged ones. That must end the request,
    // not the daemon. Nothing it had in its hands is used afterwards.
    let parse_and_work = || {
        let bytes = elf.for_aya();
        let parsed = aya_obj::Object::parse(&bytes).map_err(|error| LoadError::parse(object, error))?;
        work(&bytes, &elf, &parsed)
    };
    catch_unwind(AssertUnwindSafe(parse_and_work)).unwrap_or_else(|_| {
        Err(LoadError::NotBpf {
            object: object.to_owned(),
            detail: "its sections contradict each other".into(),
        })
    })
}

fn load_elf(
    object: &str,
    bytes: &[u8],
    parsed: &aya_obj::Object,
    names: &[String],
    options: &LoadOptions,
) -> Result<Loaded, LoadError> {
    let wants_pin = parsed.maps.iter().find(|(_, map)| map.pinning() == PinningType::ByName);

    let folder = match (&options.pin_maps, wants_pin) {
        (Some(folder), Some(_)) => {
            fs::create_dir_all(folder)
                .map_err(|source| LoadError::PinFolder { folder: folder.clone(), source })?;
            Some(folder.as_path())
        }
        (None, Some((map, _))) => {
            return Err(LoadError::NoPinFolder { object: object.to_owned(), map: map.clone() });
        }
        (_, None) => None,
    };
    // Named like maps of the datapath, they would be given its sizes.
    let like_ours = parsed.maps.keys().any(|map| MapSizes::default().of(map).is_some());
    let ebpf = if options.globals.is_empty() && !like_ours {
        let types = parsed.has_btf_relocations().then(loader::all_types).flatten();
        loader::load(types, folder, [], bytes)
    } else {
        let mut loader = EbpfLoader::new();
        for (global, value) in &options.globals {
            loader.override_global(global, value.as_slice(), true);
        }
        loader::load_with(&mut loader, folder, bytes)
    };
    let mut ebpf = ebpf.map_err(|error| LoadError::prepare(object, error))?;
    let programs = names
        .iter()
        .map(|name| load_one(object, &mut ebpf, name).map(|program| (name.clone(), program)))
        .collect::<Result<_, _>>()?;
    let mut maps = BTreeMap::new();
    for (name, map) in ebpf.maps() {
        if let Some(fd) = map_fd(map) {
            let fd = fd.try_clone_to_owned();
            let fd = fd.map_err(|source| ProgramError::sys("dup", object.to_owned(), source))?;
            maps.insert(name.to_owned(), fd);
        }
    }
    Ok(Loaded { programs, maps })
}

fn load_one(object: &str, ebpf: &mut aya::Ebpf, name: &str) -> Result<Program, LoadError> {
    let Some(aya::programs::Program::SchedClassifier(program)) = ebpf.program_mut(name) else {
        return Err(LoadError::NoSuchProgram {
            object: object.to_owned(),
            program: name.to_owned(),
            available: "none".to_owned(),
        });
    };
    loader::load_program(|| program.load()).map_err(|error| LoadError::reject(object, name, error))?;
    let fd = program.fd().map_err(|error| LoadError::reject(object, name, error))?;
    let fd = fd
        .as_fd()
        .try_clone_to_owned()
        .map_err(|source| ProgramError::sys("dup", object.to_owned(), source))?;
    Ok(Program::new(fd, || object.to_owned())?)
}

/// None for kinds of maps that aya has no type for.
fn map_fd(map: &aya::maps::Map) -> Option<BorrowedFd<'_>> {
    use aya::maps::Map;
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuHashMap(data)
        | Map::PerCpuLruHashMap(data)
        | Map::LpmTrie(data)
        | Map::ProgramArray(data)
        | Map::RingBuf(data)
        | Map::PerfEventArray(data) => Some(data.fd().as_fd()),
        _ => None,
    }
}

/// The program that is meant: the one asked for, or the only classifier.
fn choose(
    object: &str,
    elf: &elf::Elf,
    parsed: &aya_obj::Object,
    wanted: Option<&str>,
) -> Result<String, LoadError> {
    let object = || object.to_owned();
    let mut programs: Vec<_> = parsed
        .programs
        .iter()
        .map(|(name, program)| {
            let section = elf.section(program.section_index).unwrap_or("?");
            (name.as_str(), section, matches!(program.section, ProgramSection::SchedClassifier))
        })
        .collect();
    programs.sort_unstable();
    let classifiers: Vec<_> =
        programs.iter().filter(|(_, _, usable)| *usable).map(|(name, ..)| *name).collect();
    let listing = || {
        let listing: Vec<_> =
            programs.iter().map(|(name, section, _)| format!("{name} ({section})")).collect();
        if listing.is_empty() { "none".to_owned() } else { listing.join(", ") }
    };
    match (wanted, classifiers.as_slice()) {
        (Some(wanted), _) => match programs.iter().find(|(name, ..)| *name == wanted) {
            Some((name, _, true)) => Ok((*name).to_owned()),
            Some((name, section, false)) => Err(LoadError::WrongType {
                object: object(),
                program: (*name).to_owned(),
                section: (*section).to_owned(),
            }),
            None => Err(LoadError::NoSuchProgram {
                object: object(),
                program: wanted.to_owned(),
                available: listing(),
            }),
        },
        (None, [only]) => Ok((*only).to_owned()),
        (None, []) => Err(LoadError::NoProgram { object: object(), available: listing() }),
        (None, several) => Err(LoadError::Several { object: object(), available: several.join(", ") }),
    }
}
