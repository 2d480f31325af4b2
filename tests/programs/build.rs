//! Compiles every `*.bpf.c` beside this file and embeds the objects, so that tests run where there is no clang.

fn main() -> std::process::ExitCode {
    netloom_ebpf::embed::embed(".")
}
