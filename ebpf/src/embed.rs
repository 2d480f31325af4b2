//! BPF objects in a crate: for build scripts.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use crate::compile::{self, CompileError};

/// The objects could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// This is no build script.
    #[error("{0} is not set: build this crate with cargo")]
    NotCargo(&'static str),
    /// A source cannot be listed, or a result not written.
    #[error("cannot read or write {path}: {source}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program could not be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
}

/// Compiles every `NAME.bpf.c` of a folder (relative to the crate) and writes `objects.rs` to `OUT_DIR`, which gives
/// each object as `NAME: &[u8]`, aligned as its ELF structs want it. The build script's exit code.
pub fn embed(folder: &str) -> ExitCode {
    match try_embed(folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn try_embed(folder: &str) -> Result<(), EmbedError> {
    let variable = |name| env::var_os(name).map(PathBuf::from).ok_or(EmbedError::NotCargo(name));
    let folder = variable("CARGO_MANIFEST_DIR")?.join(folder);
    let out = variable("OUT_DIR")?;
    // The folder, for programs that are added and for the headers beside them.
    println!("cargo::rerun-if-changed={}", folder.display());
    println!("cargo::rerun-if-env-changed={}", compile::CLANG_VARIABLE);

    let mut text = "/// Aligns an object as its ELF structs want it.\n\
                    #[repr(C, align(8))]\n\
                    struct Aligned<T: ?Sized>(T);\n"
        .to_owned();
    for source in files(&folder).map_err(|source| EmbedError::File { path: folder.clone(), source })? {
        let Some(name) = source.file_name().and_then(|name| name.to_str()?.strip_suffix(".bpf.c")) else {
            continue;
        };
        let object = out.join(format!("{name}.bpf.o"));
        compile::compile(&source, &object)?;
        text += &format!(
            "/// The object built from `{name}.bpf.c`.\n\
             pub static {constant}: &[u8] = &Aligned(*include_bytes!({object:?})).0;\n",
            constant = name.to_uppercase(),
        );
    }
    let path = out.join("objects.rs");
    fs::write(&path, text).map_err(|source| EmbedError::File { path, source })
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
