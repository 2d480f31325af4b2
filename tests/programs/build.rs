//! Compiles every `*.bpf.c` beside this file and embeds the objects, so that tests run where there is no clang.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use netloom_ebpf::compile::{self, CompileError};

#[derive(Debug, thiserror::Error)]
enum BuildError {
    #[error("{0} is not set: build this crate with cargo")]
    NotCargo(&'static str),
    #[error("cannot read or write {path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Compile(#[from] CompileError),
}

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), BuildError> {
    let variable = |name| env::var_os(name).map(PathBuf::from).ok_or(BuildError::NotCargo(name));
    let folder = variable("CARGO_MANIFEST_DIR")?;
    let out = variable("OUT_DIR")?;
    println!("cargo::rerun-if-env-changed={}", compile::CLANG_VARIABLE);
    // The folder, for programs that are added.
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut sources = sources(&folder).map_err(|source| BuildError::File { path: folder, source })?;
    sources.sort();
    let mut embedded = String::new();
    for (name, source) in sources {
        println!("cargo::rerun-if-changed={}", source.display());
        let object = out.join(format!("{name}.bpf.o"));
        compile::compile(&source, &object)?;
        embedded += &format!(
            "/// The object built from `{name}.bpf.c`.\npub static {}: &[u8] = include_bytes!({object:?});\n",
            name.to_uppercase(),
        );
    }
    let path = out.join("objects.rs");
    fs::write(&path, embedded).map_err(|source| BuildError::File { path, source })
}

fn sources(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut sources = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".bpf.c"));
        if let Some(name) = name {
            sources.push((name.to_owned(), path.clone()));
        }
    }
    Ok(sources)
}
