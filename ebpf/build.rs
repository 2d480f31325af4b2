//! Compiles every `src/bpf/*.bpf.c` and embeds the objects.

use std::process::ExitCode;

// Public for the crate's users; a build script has none.
#[allow(unreachable_pub)]
#[path = "src/compile.rs"]
mod compile;
#[allow(unreachable_pub)]
#[path = "src/embed.rs"]
mod embed;

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=src/compile.rs");
    println!("cargo::rerun-if-changed=src/embed.rs");
    embed::embed("src/bpf")
}
