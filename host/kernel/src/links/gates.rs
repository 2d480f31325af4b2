//! Moving a program to another place such that every packet meets it exactly once, which no single operation of
//! the kernel does: its moves are an attach and a detach, and between them packets meet the program twice or not
//! at all.
//!
//! Two gates stand in for the program, one in its old place and one in the new, and call it. A third program, the
//! turn, decides packet by packet which of them lets it through. Attaching the turn in front of both is one atomic
//! step of the kernel, and so the whole move is. `ebpf/src/bpf/gate.bpf.c` has the programs.

use std::{
    fs,
    io::ErrorKind,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    time::Duration,
};

use netloom_sys::bpf;
use rustix::thread::{MembarrierCommand, membarrier};

use super::LinkError;
use crate::programs::{self, LoadError, LoadOptions, Program, ProgramError};

/// The gates' names begin so, as chains show them.
pub const GATE_PREFIX: &str = "nl_gate_";
/// The name of the program that turns packets to the new place.
pub const TURN: &str = "nl_turn";

const OLD: &str = "nl_gate_old";
const NEW: &str = "nl_gate_new";
const MOVED: &str = "nl_moved";

/// The gates of one move. They are pinned, so that a move goes on working when its daemon is killed.
#[derive(Debug)]
pub struct Gates {
    folder: PathBuf,
    program: Program,
    old: Program,
    new: Program,
    turn: Program,
}

/// Gates could not be made.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The gates cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A program or pin is not usable.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The pins cannot be removed.
    #[error("the pins of a move in {} cannot be removed: remove the folder", folder.display())]
    Folder {
        /// Where they are.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The kernel does not let a gate call the program.
    #[error(
        "program {program:?} cannot be moved without packets missing it, since nothing can call it in its place: \
         detach it and attach it anew"
    )]
    NotCallable {
        /// Its name.
        program: String,
        /// What the kernel said.
        source: std::io::Error,
    },
}

impl Gates {
    /// Loads the gates of a program and pins them, all closed in the new place and open in the old.
    ///
    /// # Errors
    /// [`GateError`].
    pub fn make(folder: &Path, program: Program) -> Result<Self, GateError> {
        Self::remove(folder)?;
        let names = [OLD, NEW, TURN].map(str::to_owned);
        let loaded =
            programs::load_several("gate.bpf.o", netloom_ebpf::GATE, &names, &LoadOptions::default())?;
        let missing = |name: &str| LoadError::NoSuchProgram {
            object: "gate.bpf.o".into(),
            program: name.to_owned(),
            available: "other programs".into(),
        };
        let moved = loaded.maps.get(MOVED).ok_or_else(|| missing(MOVED))?;
        bpf::prog_array_set(moved.as_fd(), 0, program.fd())
            .map_err(|source| GateError::NotCallable { program: program.name().to_owned(), source })?;
        let mut found = loaded.programs.into_iter().map(|(_, program)| program);
        let mut next = |name| found.next().ok_or_else(|| missing(name));
        let gates =
            Self { folder: folder.to_owned(), program, old: next(OLD)?, new: next(NEW)?, turn: next(TURN)? };
        programs::pin(moved.as_fd(), &folder.join("moved"))?;
        gates.program.pin(&folder.join("program"))?;
        gates.new.pin(&folder.join("new"))?;
        gates.turn.pin(&folder.join("turn"))?;
        // Last: it says that the others are there.
        gates.old.pin(&folder.join("old"))?;
        Ok(gates)
    }

    /// The gates that were made for a move, by this process or an earlier one. None if they were not, or not all.
    ///
    /// # Errors
    /// [`GateError::Program`] if something else is pinned there.
    pub fn open(folder: &Path) -> Result<Option<Self>, GateError> {
        let pinned = |name: &str| match Program::open_pinned(&folder.join(name)) {
            Ok(program) => Ok(Some(program)),
            Err(ProgramError::NoPin { .. }) => Ok(None),
            Err(error) => Err(error),
        };
        let (program, old) = (pinned("program")?, pinned("old")?);
        let (new, turn) = (pinned("new")?, pinned("turn")?);
        let (Some(program), Some(old), Some(new), Some(turn)) = (program, old, new, turn) else {
            return Ok(None);
        };
        Ok(Some(Self { folder: folder.to_owned(), program, old, new, turn }))
    }

    /// Forgets a move: whatever is left of its pins.
    ///
    /// # Errors
    /// [`GateError::Folder`].
    pub fn remove(folder: &Path) -> Result<(), GateError> {
        match fs::remove_dir_all(folder) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                Err(GateError::Folder { folder: folder.to_owned(), source })
            }
            _ => Ok(()),
        }
    }

    /// The program that is moved.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Stands in its old place.
    #[must_use]
    pub fn old(&self) -> &Program {
        &self.old
    }

    /// Stands in its new place.
    #[must_use]
    pub fn new_gate(&self) -> &Program {
        &self.new
    }

    /// Goes in front of both.
    #[must_use]
    pub fn turn(&self) -> &Program {
        &self.turn
    }

    /// Where the link in the new place is pinned while the move lasts.
    #[must_use]
    pub fn next_pin(&self) -> PathBuf {
        self.folder.join("next")
    }

    /// Where the turn's link is pinned.
    #[must_use]
    pub fn turn_pin(&self) -> PathBuf {
        self.folder.join("turning")
    }

    /// Where the program is pinned.
    #[must_use]
    pub fn program_pin(&self) -> PathBuf {
        self.folder.join("program")
    }
}

/// Waits until every packet that was under way has left the chain it was in.
///
/// A change of a tcx or netkit chain waits by itself; one of legacy tc does not.
pub fn wait_for_packets() {
    // `membarrier(2)`: the global command waits for an RCU grace period, and packets run through chains within one.
    if membarrier(MembarrierCommand::Global).is_err() {
        // Kernels with nohz_full refuse it. A packet is through its chain within microseconds.
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Gives an object that has a pin another one, in one step; what was pinned there before loses it.
///
/// # Errors
/// [`LinkError::Sys`]. That there is nothing to move is none.
pub fn repin(from: &Path, to: &Path) -> Result<(), LinkError> {
    match fs::rename(from, to) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            Err(LinkError::sys("rename", from.display().to_string(), source))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_takes_the_place_of_another_and_one_that_is_gone_takes_none() {
        let folder = tempfile::tempdir().unwrap();
        let [new, old] = ["new", "old"].map(|name| folder.path().join(name));
        fs::write(&new, "new").unwrap();
        fs::write(&old, "old").unwrap();
        repin(&new, &old).unwrap();
        assert_eq!(fs::read_to_string(&old).unwrap(), "new");
        repin(&new, &old).unwrap();
        assert_eq!(fs::read_to_string(&old).unwrap(), "new");
        assert!(matches!(repin(&old, folder.path()), Err(LinkError::Sys { .. })), "it is a folder");
    }
}
