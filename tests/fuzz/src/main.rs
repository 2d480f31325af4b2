//! libFuzzer's program: `NETLOOM_FUZZ_TARGET` says what is fed.

#![no_main]

use std::{process::exit, sync::OnceLock};

use netloom_fuzz::Target;

static TARGET: OnceLock<Target> = OnceLock::new();

fn target() -> Target {
    *TARGET.get_or_init(|| {
        let name = std::env::var("NETLOOM_FUZZ_TARGET").unwrap_or_default();
        name.parse().unwrap_or_else(|error| {
            eprintln!("error: NETLOOM_FUZZ_TARGET: {error}");
            exit(2);
        })
    })
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| target().feed(input));
