use std::{error::Error, io, path::PathBuf};

use aya::{EbpfError, programs::ProgramError as AyaProgramError};
use aya_obj::ParseError;
use netloom_core::model::ProgramId;

use super::elf;

/// A program in the kernel could not be opened, described or pinned.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// Nothing is pinned there.
    #[error("nothing is pinned at {path}: it was removed, or the machine was booted since")]
    NoPin {
        /// Where.
        path: PathBuf,
    },
    /// Another kind of object is pinned there.
    #[error("what is pinned at {path} is not a program: remove it, or use another path")]
    NotAProgram {
        /// Where.
        path: PathBuf,
    },
    /// There is a pin already.
    #[error("something is pinned at {path} already: remove it, or use another path")]
    PinTaken {
        /// Where.
        path: PathBuf,
    },
    /// Not in a bpf filesystem.
    #[error(
        "{path} is not in a bpf filesystem: mount one (`mount -t bpf bpf /sys/fs/bpf`) and pin in it, as root"
    )]
    NotBpffs {
        /// Where.
        path: PathBuf,
    },
    /// It has left the kernel.
    #[error("there is no BPF program with id {id} any more: look at the chain again")]
    Gone {
        /// Which.
        id: ProgramId,
    },
    /// A capability is missing.
    #[error("{call} of {on} was denied: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN")]
    Denied {
        /// The call.
        call: &'static str,
        /// On what.
        on: String,
    },
    /// Anything else.
    #[error("{call} of {on} failed")]
    Sys {
        /// The call.
        call: &'static str,
        /// On what.
        on: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl ProgramError {
    pub(super) fn sys(call: &'static str, on: String, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM) => Self::Denied { call, on },
            _ => Self::Sys { call, on, source },
        }
    }
}

/// An ELF object gave no program.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the BPF object {path}: check the path and its permissions")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not an ELF file, or not one of BPF code.
    #[error(
        "{object} is not a BPF object: {detail}. Give an ELF file as `clang -target bpf -g -O2 -c prog.bpf.c` makes it"
    )]
    NotBpf {
        /// Which.
        object: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A section of it is of no known program type.
    #[error(
        "{object} has a section {section:?}, which is no program type known here: programs on devices are in {}",
        elf::SECTIONS
    )]
    UnknownSection {
        /// Which.
        object: String,
        /// Its name.
        section: String,
    },
    /// No program that could be attached.
    #[error(
        "{object} has no program that attaches to a device (it has: {available}): put one into a section {}",
        elf::SECTIONS
    )]
    NoProgram {
        /// Which.
        object: String,
        /// What it has.
        available: String,
    },
    /// The program asked for is not there.
    #[error("{object} has no program {program:?}: it has {available}")]
    NoSuchProgram {
        /// Which.
        object: String,
        /// The name asked for.
        program: String,
        /// What it has.
        available: String,
    },
    /// Several programs, and none was asked for.
    #[error("{object} has several programs: say which of {available}")]
    Several {
        /// Which.
        object: String,
        /// What it has.
        available: String,
    },
    /// The program asked for is of another type.
    #[error(
        "program {program:?} of {object} is in section {section:?} and does not attach to a device: use one in {}",
        elf::SECTIONS
    )]
    WrongType {
        /// Which.
        object: String,
        /// Which program.
        program: String,
        /// Its section.
        section: String,
    },
    /// A global variable cannot be set.
    #[error("cannot set a global variable of {object}: {detail}")]
    Global {
        /// Which.
        object: String,
        /// Which variable, and why.
        detail: String,
    },
    /// The folder for maps cannot be made.
    #[error(
        "cannot make the folder {folder} for pinned maps: it must be in a bpf filesystem, mounted and writable"
    )]
    PinFolder {
        /// Which.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A map is to be pinned, and no folder was given.
    #[error("map {map:?} of {object} is to be pinned by name: say in which folder of a bpf filesystem")]
    NoPinFolder {
        /// Which.
        object: String,
        /// Which map.
        map: String,
    },
    /// Its maps, types or relocations do not work here.
    #[error("cannot prepare {object} for this kernel")]
    Prepare {
        /// Which.
        object: String,
        /// Why.
        source: Box<EbpfError>,
    },
    /// The kernel refused the program.
    #[error(
        "the kernel refused program {program:?} of {object} ({reason}). The verifier says:\n{}",
        tail(log)
    )]
    Rejected {
        /// Which.
        object: String,
        /// Which program.
        program: String,
        /// What BPF_PROG_LOAD returned.
        reason: io::Error,
        /// The verifier's log, complete.
        log: String,
    },
    /// A capability is missing.
    #[error("the kernel denied loading {object}: run as root, or with CAP_BPF and CAP_NET_ADMIN")]
    Denied {
        /// Which.
        object: String,
    },
    /// The program was loaded, but not to be handled.
    #[error(transparent)]
    Program(#[from] ProgramError),
}

/// How many lines of a verifier's log are shown: the reason is at its end, and a whole one may have megabytes.
const LOG_LINES: usize = 60;

fn tail(log: &str) -> String {
    let lines = log.trim_end().lines().count();
    let skipped = lines.saturating_sub(LOG_LINES);
    let shown: Vec<_> = log.lines().skip(skipped).take(LOG_LINES).collect();
    match (skipped, shown.is_empty()) {
        (_, true) => "(nothing)".to_owned(),
        (0, _) => shown.join("\n"),
        _ => format!("({skipped} lines before)\n{}", shown.join("\n")),
    }
}

impl LoadError {
    pub(super) fn parse(object: &str, error: ParseError) -> Self {
        let object = object.to_owned();
        match error {
            ParseError::InvalidProgramSection { section } => Self::UnknownSection { object, section },
            error @ (ParseError::SymbolNotFound { .. } | ParseError::InvalidGlobalData { .. }) => {
                Self::Global { object, detail: error.to_string() }
            }
            error => Self::NotBpf { object, detail: chain(&error) },
        }
    }

    pub(super) fn prepare(object: &str, error: EbpfError) -> Self {
        match error {
            EbpfError::ParseError(error) => Self::parse(object, error),
            error if is_denied(&error) => Self::Denied { object: object.to_owned() },
            error => Self::Prepare { object: object.to_owned(), source: Box::new(error) },
        }
    }

    pub(super) fn reject(object: &str, program: &str, error: AyaProgramError) -> Self {
        match error {
            AyaProgramError::LoadError { io_error, verifier_log } => {
                let log = verifier_log.to_string();
                // A program that does not verify is refused with EACCES, EINVAL and sometimes EPERM, but then there
                // is a log.
                if io_error.raw_os_error() == Some(libc::EPERM) && log.trim().is_empty() {
                    return Self::Denied { object: object.to_owned() };
                }
                Self::Rejected {
                    object: object.to_owned(),
                    program: program.to_owned(),
                    reason: io_error,
                    log,
                }
            }
            error => Self::prepare(object, EbpfError::ProgramError(error)),
        }
    }
}

fn is_denied(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.raw_os_error() == Some(libc::EPERM)) {
            return true;
        }
        next = error.source();
    }
    false
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_log_the_end_is_shown() {
        let log: String = (0..100).map(|line| format!("line {line}\n")).collect();
        let shown = tail(&log);
        assert!(shown.starts_with("(40 lines before)\nline 40\n"), "{shown}");
        assert!(shown.ends_with("line 99"), "{shown}");
        assert_eq!(tail("one\ntwo\n"), "one\ntwo");
        assert_eq!(tail(""), "(nothing)");
    }
}
