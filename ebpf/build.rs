//! Compiles every `src/bpf/*.bpf.c` and embeds the objects.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

// Public for the crate's users; a build script has none.
#[allow(unreachable_pub)]
#[path = "src/compile.rs"]
mod compile;

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum BuildError {
    #[error("{0} is not set: build this crate with cargo")]
    NotCargo(&'static str),
    #[error("cannot read or write {path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Compile(#[from] compile::CompileError),
}

fn build() -> Result<(), BuildError> {
    let variable = |name| env::var_os(name).map(PathBuf::from).ok_or(BuildError::NotCargo(name));
    let folder = variable("CARGO_MANIFEST_DIR")?.join("src/bpf");
    let out = variable("OUT_DIR")?;
    println!("cargo::rerun-if-changed={}", folder.display());
    println!("cargo::rerun-if-changed=src/compile.rs");
    println!("cargo::rerun-if-env-changed={}", compile::CLANG_VARIABLE);

    let mut embedded = String::new();
    for source in programs(&folder).map_err(|source| BuildError::File { path: folder.clone(), source })? {
        let Some(name) = source.file_name().and_then(|name| name.to_str()?.strip_suffix(".bpf.c")) else {
            continue;
        };
        let object = out.join(format!("{name}.bpf.o"));
        compile::compile(&source, &object)?;
        embedded += &format!(
            "/// The object built from `{name}.bpf.c`.\n\
             pub static {constant}: &[u8] = &Aligned(*include_bytes!({object:?})).0;\n",
            constant = name.to_uppercase(),
        );
    }
    let path = out.join("objects.rs");
    fs::write(&path, embedded).map_err(|source| BuildError::File { path, source })
}

fn programs(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
