//! Plugins in Go: bindings to the world of the folder's `wit/`, compiled with it by Go itself. Go's runtime wants a
//! system, and gets one in which there is nothing: `wasi.wat`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, anyhow};
use netloom_plugin_build::encode_adapted;
use wit_bindgen_core::Files;
use wit_bindgen_go::{Format, Opts};
use wit_component::StringEncoding;

use super::{compilers, run, world, write};

/// The system of Go's runtime.
const SYSTEM: (&str, &str) = ("wasi_snapshot_preview1", include_str!("wasi.wat"));

/// What the bindings call, where `go.mod` looks for it.
const CALLED: [(&str, &str); 3] = [
    ("bindings/go.mod", include_str!("../../../../templates/go/pkg/go.mod")),
    ("bindings/wit/runtime/runtime.go", include_str!("../../../../templates/go/pkg/wit/runtime/runtime.go")),
    ("bindings/wit/types/types.go", include_str!("../../../../templates/go/pkg/wit/types/types.go")),
];

pub(super) fn build(folder: &Path, out: &Path, names: bool) -> anyhow::Result<()> {
    let go = compilers::go()?;
    let (mut resolve, world) = world(folder)?;
    let mut files = Files::default();
    // gofmt may be of another version, or none.
    let options = Opts { format: Format::False, ..Opts::default() };
    options.build().generate(&mut resolve, world, &mut files).context("making Go bindings")?;
    for (name, contents) in files.iter().filter(|(name, _)| *name != "go.mod") {
        write(&folder.join(name), contents)?;
    }
    for (name, contents) in CALLED {
        write(&folder.join(name), contents.as_bytes())?;
    }

    let scratch = tempfile::tempdir().context("a folder for the module cannot be made")?;
    let path: PathBuf = scratch.path().join("plugin.wasm");
    let mut command = Command::new(go);
    command.current_dir(folder).args(["build", "-trimpath", "-buildvcs=false", "-buildmode=c-shared"]);
    command.arg(if names { "-ldflags=-buildid=" } else { "-ldflags=-buildid= -s -w" });
    command.arg("-o").arg(&path).arg(".");
    command.envs([("GOOS", "wasip1"), ("GOARCH", "wasm"), ("GOTOOLCHAIN", "local"), ("GOWORK", "off")]);
    run(&mut command, "compile the Go")?;

    let mut module = std::fs::read(&path).context("Go wrote no module")?;
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .context("adding the plugin's world to its module")?;
    let (name, system) = SYSTEM;
    let system = wat::parse_str(system).map_err(|error| anyhow!("the system of Go's runtime: {error}"))?;
    write(out, &encode_adapted(&module, name, &system)?)
}
