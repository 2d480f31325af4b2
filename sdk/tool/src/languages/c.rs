//! Plugins in C: bindings to the world of the folder's `wit/`, compiled with it by clang against wasi-libc, of which
//! only what asks nothing of a system can be used.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};
use netloom_plugin_build::encode;
use wit_bindgen_core::Files;

use super::{run, world, write};

/// Where the bindings go in the plugin's folder.
const BINDINGS: &str = "bindings";

/// clang for WebAssembly. Code and linker may be of different versions, so only what every one knows is used.
const FLAGS: [&str; 11] = [
    "--target=wasm32-wasi",
    "-mcpu=mvp",
    "-mexec-model=reactor",
    "-std=c11",
    "-Oz",
    "-Wall",
    "-Wextra",
    "-Ibindings",
    "-nostartfiles",
    // Neither of clang's own run-time library, which is a package of its own, nor of anything else than libc.
    "-nodefaultlibs",
    "-Wl,--no-entry",
];

pub(super) fn build(folder: &Path, out: &Path, names: bool) -> anyhow::Result<()> {
    let (clang, linker) = compiler()?;
    let generated = bindings(folder)?;
    let scratch = tempfile::tempdir().context("a folder for the module cannot be made")?;
    let module = scratch.path().join("plugin.wasm");
    let mut command = Command::new(&clang);
    command.current_dir(folder).args(FLAGS).arg(format!("-fuse-ld={}", linker.display()));
    // Paths of this machine stay out of the bytes.
    command.arg(format!("-ffile-prefix-map={}=.", folder.display()));
    command.arg(if names { "-g" } else { "-Wl,--strip-all" });
    command.args(sources(folder)?).args(generated).args(["-lc", "-o"]).arg(&module);
    run(&mut command, "compile the C")?;
    let module = std::fs::read(&module).context("clang wrote no module")?;
    write(out, &encode(&module)?)
}

/// The plugin's own files.
fn sources(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let names = entries.filter_map(|entry| Some(PathBuf::from(entry.ok()?.file_name())));
    let mut sources: Vec<PathBuf> =
        names.filter(|name| name.extension().is_some_and(|extension| extension == "c")).collect();
    // The order of files is that of the code in the module.
    sources.sort();
    Ok(sources)
}

/// Writes the bindings, where editors find the header too; the files to compile and link.
fn bindings(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let (mut resolve, world) = world(folder)?;
    let mut files = Files::default();
    wit_bindgen_c::Opts::default()
        .build()
        .generate(&mut resolve, world, &mut files)
        .context("making C bindings")?;
    let mut compiled = Vec::new();
    for (name, contents) in files.iter() {
        write(&folder.join(BINDINGS).join(name), contents)?;
        if !name.ends_with(".h") {
            compiled.push(Path::new(BINDINGS).join(name));
        }
    }
    Ok(compiled)
}

/// clang and its linker, which may be of another version.
pub(super) fn compiler() -> anyhow::Result<(PathBuf, PathBuf)> {
    let (Some(clang), Some(linker)) = (find("clang"), find("wasm-ld")) else {
        bail!("C is compiled by clang 11 or newer with wasm-ld: apt-get install clang lld wasi-libc");
    };
    let mut probe = Command::new(&clang);
    probe.args(["--target=wasm32-wasi", "-E", "-include", "stdlib.h", "-x", "c", "/dev/null"]);
    if !probe.output().is_ok_and(|answer| answer.status.success()) {
        bail!("{} does not find the C library for WebAssembly: apt-get install wasi-libc", clang.display());
    }
    Ok((clang, linker))
}

/// A program of LLVM's: the one that is called so, or else the newest that has its version behind its name.
fn find(name: &str) -> Option<PathBuf> {
    let versions = (11..=40).rev().map(|version| format!("{name}-{version}"));
    let folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    std::iter::once(name.to_owned())
        .chain(versions)
        .find_map(|name| folders.iter().map(|folder| folder.join(&name)).find(|path| path.is_file()))
}
