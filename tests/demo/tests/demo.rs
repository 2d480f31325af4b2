//! The demo itself, on whatever devices the kernel has.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::process::Command;

use netloom_test_support::binary;
use serde_json::Value;

#[test]
fn each_step_is_as_it_should_be() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_netloom-demo"));
    demo.arg("--json").arg("--netloomd").arg(binary("netloomd")).arg("--netloom").arg(binary("netloom"));
    let output = demo.output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<&str> =
        report["steps"].as_array().unwrap().iter().map(|step| step["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["endpoints", "ping", "order", "service", "reap", "custom-plugin", "restart", "cleanup"],
        "{said}"
    );
}
