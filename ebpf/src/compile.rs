//! From C to a BPF object, with clang.

use std::{
    env,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::Command,
};

/// The environment variable that names the clang to use.
pub const CLANG_VARIABLE: &str = "NETLOOM_CLANG";

/// Newest first. 17 is the oldest that the programs are known to build with.
const CLANGS: [&str; 7] = ["clang-22", "clang-21", "clang-20", "clang-19", "clang-18", "clang-17", "clang"];

/// A BPF program could not be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// No clang was found.
    #[error(
        "no clang to compile BPF programs with: run `cargo xtask setup`, or install it (Debian, Ubuntu: \
         apt install clang libbpf-dev), or name one in {CLANG_VARIABLE}"
    )]
    NoClang,
    /// clang could not be started.
    #[error("cannot start {clang:?} to compile {program:?}: {source}")]
    Start {
        /// The clang.
        clang: OsString,
        /// The program's C file.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// libbpf's or the kernel's headers are missing.
    #[error(
        "{program:?} needs headers that are not installed: run `cargo xtask setup`, or install them (Debian, \
         Ubuntu: apt install libbpf-dev linux-libc-dev)\n{output}"
    )]
    NoHeaders {
        /// The program's C file.
        program: PathBuf,
        /// What clang said.
        output: String,
    },
    /// The program has errors.
    #[error("{clang:?} cannot compile {program:?}:\n{output}")]
    Source {
        /// The clang.
        clang: OsString,
        /// The program's C file.
        program: PathBuf,
        /// What clang said.
        output: String,
    },
}

/// Compiles one C file to a BPF object with type information, for any kernel since 5.12.
///
/// Headers are looked up beside the file, then where libbpf and the kernel's UAPI are installed.
///
/// # Errors
/// [`CompileError`]: no clang, no headers, or errors in the program.
pub fn compile(program: &Path, object: &Path) -> Result<(), CompileError> {
    let clang = find_clang()?;
    let mut command = Command::new(&clang);
    command.args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror"]);
    // Not in clang's search path for this target: Debian keeps <asm/types.h> in a folder for each architecture.
    command.arg(format!("-I/usr/include/{}-linux-gnu", env::consts::ARCH));
    if let Some(folder) = program.parent() {
        // The file's name is in the type information; where the source happened to lie is not.
        command.arg(format!("-ffile-prefix-map={}/=", folder.display()));
    }
    let start = |source| CompileError::Start { clang: clang.clone(), program: program.to_owned(), source };
    let output = command.arg("-c").arg(program).arg("-o").arg(object).output().map_err(start)?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let program = program.to_owned();
    let missing = |header| text.contains(&format!("fatal error: '{header}"));
    if missing("bpf/") || missing("linux/") || missing("asm/") {
        return Err(CompileError::NoHeaders { program, output: text });
    }
    Err(CompileError::Source { clang, program, output: text })
}

/// The clang to use: the one [`CLANG_VARIABLE`] names, else the newest found in `PATH`.
///
/// # Errors
/// [`CompileError::NoClang`].
pub fn find_clang() -> Result<OsString, CompileError> {
    if let Some(clang) = env::var_os(CLANG_VARIABLE) {
        return Ok(clang);
    }
    let path = env::var_os("PATH").ok_or(CompileError::NoClang)?;
    CLANGS
        .into_iter()
        .find(|clang| env::split_paths(&path).any(|folder| folder.join(clang).is_file()))
        .map(OsString::from)
        .ok_or(CompileError::NoClang)
}
