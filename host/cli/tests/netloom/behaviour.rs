//! Given a daemon that is well, unwilling, absent or strange: exit codes, and what is said where.

use std::{io::Read, process::Command, process::Stdio};

use netloom_api::types::Done;
use serde_json::{Value, json};

use crate::{
    daemon::{Answers, BINARY, Ran},
    values::*,
};

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_refusal_names_the_way_out() {
    let refusal = r#"{"error": "no endpoint is called web", "hint": "`netloom endpoint list` shows them"}"#;
    let daemon = Answers::default().raw("GET /v1/endpoints/web", 404, refusal).serve();
    let stderr = daemon.netloom(&["endpoint", "show", "web"]).failure(1);
    assert_eq!(stderr, "error: no endpoint is called web\nhint: `netloom endpoint list` shows them\n");
    let stderr = daemon.netloom(&["endpoint", "show", "web", "-o", "json"]).failure(1);
    let expected =
        json!({"error": "no endpoint is called web", "hint": "`netloom endpoint list` shows them"});
    assert_eq!(json_of(&stderr), expected);
}

#[test]
fn a_refusal_without_a_hint_has_none() {
    let daemon = Answers::default().raw("GET /v1/status", 500, r#"{"error": "the store is broken"}"#).serve();
    assert_eq!(daemon.netloom(&["status"]).failure(1), "error: the store is broken\n");
    let stderr = daemon.netloom(&["status", "-o", "json"]).failure(1);
    assert_eq!(json_of(&stderr), json!({"error": "the store is broken"}));
}

#[test]
fn a_refusal_of_something_else_is_shown_as_it_is() {
    let daemon = Answers::default().raw("GET /v1/status", 502, "bad gateway").serve();
    let stderr = daemon.netloom(&["status"]).failure(1);
    assert_eq!(stderr, "error: netloomd answered 502 Bad Gateway to /v1/status: bad gateway\n");
}

#[test]
fn nobody_listens() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("none.sock");
    let stderr = Ran::new(Command::new(BINARY).arg("status").arg("--socket").arg(&socket)).failure(1);
    let expected = format!(
        "error: no netloomd answers on {}: No such file or directory (os error 2)\n\
         hint: start it with `netloomd`, or name its socket with --socket\n",
        socket.display()
    );
    assert_eq!(stderr, expected);
}

#[test]
fn the_socket_is_found_by_option_environment_and_instance() {
    let no_daemon = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = Command::new(BINARY);
        command.env_remove("NETLOOM_SOCKET").env_remove("NETLOOM_INSTANCE").arg("status").args(arguments);
        let output = command.envs(variables.iter().copied()).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    let by_instance = no_daemon(&["--instance", "cli-test"], &[]);
    assert!(by_instance.contains("/run/netloom-cli-test/netloomd.sock"), "{by_instance}");
    let by_variable = no_daemon(&[], &[("NETLOOM_INSTANCE", "cli-test")]);
    assert!(by_variable.contains("/run/netloom-cli-test/netloomd.sock"), "{by_variable}");
    let by_socket = no_daemon(&["--instance", "cli-test"], &[("NETLOOM_SOCKET", "/nowhere/x.sock")]);
    assert!(by_socket.contains("/nowhere/x.sock"), "{by_socket}");
}

#[test]
fn garbage_is_not_taken_for_an_answer() {
    let daemon = Answers::default().raw("GET /v1/status", 200, "<html>").serve();
    let stderr = daemon.netloom(&["status"]).failure(1);
    assert!(stderr.starts_with("error: netloomd's answer to /v1/status is not understood"), "{stderr}");
    assert!(stderr.contains("line 1 column 1"), "the reason is told: {stderr}");
    let daemon = Answers::default().raw("GET /v1/endpoints", 200, r#"[{"name": 3}]"#).serve();
    daemon.netloom(&["endpoint", "list"]).failure(1);
}

#[test]
fn a_listener_that_hangs_up_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("x.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let hang_up = std::thread::spawn(move || drop(listener.accept().unwrap()));
    let stderr = Ran::new(Command::new(BINARY).arg("status").arg("--socket").arg(&socket)).failure(1);
    hang_up.join().unwrap();
    assert!(stderr.starts_with("error: talking to netloomd on "), "{stderr}");
}

#[test]
fn wrong_usage_exits_with_2_and_asks_nothing() {
    let daemon = Answers::default().serve();
    for arguments in [
        &["frobnicate"][..],
        &["endpoint", "add", "web"],
        &["endpoint", "add", "Web", "--netns", "blue"],
        &["endpoint", "add", "web", "--netns", "blue", "--mac", "02:00"],
        &["service", "add", "shop", "10.0.0.1:80"],
        &["service", "add", "shop", "10.0.0.1:80/sctp"],
        &["reap", "10.0.0.2"],
        &["attach", "x.o", "--owner", "me"],
        &["attach", "x.o", "--device", "eth0"],
        &["attach", "x.o", "--device", "eth0", "--endpoint", "web", "--owner", "me"],
        &["attach", "x.o", "--device", "eth0", "--owner", "me", "--label", "observer"],
        &["chain", "show"],
        &["chain", "show", "eth0", "--point", "xdp"],
        &["explain", "--hook", "unknown"],
        &["status", "--output", "yaml"],
    ] {
        let ran = daemon.netloom(arguments);
        assert_eq!(ran.code, Some(2), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.starts_with("error: "), "{arguments:?}: {}", ran.stderr);
    }
    assert_eq!(daemon.requests(), []);
}

#[test]
fn what_a_deletion_left_behind_is_a_warning() {
    let done = Done { warnings: vec!["the pin x is busy".to_owned()] };
    let daemon = Answers::default().ok("DELETE /v1/attachments/a", &done).serve();
    let ran = daemon.netloom(&["detach", "a"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), "warning: the pin x is busy\n"));
    let json = daemon.netloom(&["detach", "a", "-o", "json"]).success();
    assert_eq!(json_of(&json), json!({"warnings": ["the pin x is busy"]}));
}

#[test]
fn a_reap_fails_if_a_socket_lives_or_nobody_decided() {
    for (report, code) in [(reap(), 0), (dry_reap(), 0), (failed_reap(), 1), (undecided_reap(), 1)] {
        let daemon = Answers::default().ok("POST /v1/reap", &report).serve();
        let ran = daemon.netloom(&["reap", "10.0.0.2:80", "-o", "json"]);
        assert_eq!(ran.code, Some(code), "{report:?}");
        assert_eq!(json_of(&ran.stdout), serde_json::to_value(&report).unwrap());
    }
}

#[test]
fn removing_a_backend_succeeds_where_nobody_decided_on_its_sockets() {
    let route = "DELETE /v1/services/shop/backends/10.0.0.2%3A80";
    let daemon = Answers::default().ok(route, &undecided_reap()).serve();
    let stdout = daemon.netloom(&["backend", "remove", "shop", "10.0.0.2:80"]).success();
    assert!(stdout.contains("Nothing was reaped: socket-reap trapped"), "{stdout}");
}

#[test]
fn the_doctor_fails_on_errors_alone() {
    for (doctor, code) in [(healthy(), 0), (warned(), 0), (ill(), 1)] {
        let daemon = Answers::default().ok("GET /v1/doctor", &doctor).serve();
        assert_eq!(daemon.netloom(&["doctor"]).code, Some(code), "{doctor:?}");
    }
}

#[test]
fn explain_shows_the_newest_of_one_hook() {
    let daemon = Answers::default().ok("GET /v1/decisions", &decisions()).serve();
    let shown = |arguments: &[&str]| {
        let arguments = [&["explain", "-o", "json"], arguments].concat();
        let answer = json_of(&daemon.netloom(&arguments).success());
        answer.as_array().unwrap().iter().map(|d| d["sequence"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(shown(&[]), [1, 2, 3]);
    assert_eq!(shown(&["--last", "2"]), [2, 3]);
    assert_eq!(shown(&["--last", "0"]), [0; 0]);
    assert_eq!(shown(&["--hook", "attach-order", "--last", "5"]), [2]);
}

#[test]
fn an_unknown_service_is_an_error() {
    let daemon = Answers::default().ok("GET /v1/services", &[service()]).serve();
    let stderr = daemon.netloom(&["backend", "list", "none"]).failure(1);
    assert!(stderr.starts_with("error: no service is called none\nhint: "), "{stderr}");
}

#[test]
fn a_configuration_that_cannot_be_read_is_told_before_netloomd_is_asked() {
    let daemon = Answers::default().serve();
    std::fs::write(daemon.folder().join("list.json"), "[1]").unwrap();
    std::fs::write(daemon.folder().join("bad.toml"), "a = ").unwrap();
    for (file, expected) in [
        ("none.toml", "cannot read the plugin's configuration none.toml: No such file"),
        ("list.json", "the plugin's configuration list.json is not an object in JSON"),
        ("bad.toml", "the plugin's configuration bad.toml is not an object in TOML"),
    ] {
        let stderr = daemon.netloom(&["plugin", "load", "x.wasm", "--config", file]).failure(1);
        assert!(stderr.starts_with(&format!("error: {expected}")), "{stderr}");
    }
    assert_eq!(daemon.requests(), []);
}

#[test]
fn completions_need_no_daemon() {
    for shell in ["bash", "zsh", "fish"] {
        let script = Ran::new(Command::new(BINARY).args(["completions", shell])).success();
        assert!(script.contains("netloom") && script.contains("endpoint"), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    // More than a pipe holds, so that netloom is still writing when its reader leaves.
    let text = "x".repeat(4 << 20);
    let daemon = Answers::default().raw("GET /metrics", 200, text).serve();
    let mut command = Command::new(BINARY);
    let socket = daemon.folder().join("netloomd.sock");
    command.arg("metrics").arg("--socket").arg(socket).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut reader = child.stdout.take().unwrap();
    reader.read_exact(&mut [0; 10]).unwrap();
    drop(reader);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn help_tells_the_exit_codes() {
    let help = Ran::new(Command::new(BINARY).arg("--help")).success();
    assert!(help.contains("Exit codes: 0 done, 1 refused or failed, 2 wrong usage"), "{help}");
}
