//! The shard function in C and in Rust are the same, and it spreads.

#![allow(clippy::indexing_slicing)]

use std::{
    fmt::Write as _,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    process::{Command, Stdio},
};

use netloom_ebpf::{compile::find_clang, layout::Address, shard::Shard};

/// Neighbours in every way that backends are: addresses of one subnet, ports of one host, both protocols.
fn backends() -> Vec<(SocketAddr, u8)> {
    let mut backends = Vec::new();
    for i in 0..256u16 {
        let [high, low] = i.to_be_bytes();
        for address in [
            IpAddr::V4(Ipv4Addr::new(10, 0, high, low)),
            IpAddr::V4(Ipv4Addr::new(192, 168, low, 1)),
            IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, i)),
            IpAddr::V6(Ipv6Addr::new(0xfd00, 0, i, 0, 0xffff, 0, 1, 1)),
        ] {
            for port in [53, 443, 8080, 30_000 + i] {
                backends.push((SocketAddr::new(address, port), 6));
                backends.push((SocketAddr::new(address, port), 17));
            }
        }
    }
    backends
}

#[test]
fn c_and_rust_agree() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("shard");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shard.c");
    let status = Command::new(find_clang().unwrap()).arg("-w").arg(source).arg("-o").arg(&program).status();
    assert!(status.unwrap().success());

    let backends = backends();
    let mut input = String::new();
    for (backend, protocol) in &backends {
        for byte in Address::from(backend.ip()).to_bytes() {
            write!(input, "{byte:02x}").unwrap();
        }
        writeln!(input, " {} {protocol}", backend.port()).unwrap();
    }
    let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();

    let of_c: Vec<usize> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    let of_rust: Vec<usize> =
        backends.iter().map(|&(backend, protocol)| Shard::of(backend, protocol).index()).collect();
    assert_eq!(of_c, of_rust);
}

#[test]
fn neighbouring_backends_spread_evenly() {
    // Pods of one subnet behind one port: what a node really has.
    let mut counts = [0; Shard::COUNT];
    for i in 0..=255 {
        let backend = SocketAddr::new(Ipv4Addr::new(10, 1, 2, i).into(), 8080);
        counts[Shard::of(backend, 6).index()] += 1;
    }
    let even = 256 / Shard::COUNT;
    assert!(counts.iter().all(|&count| count >= even / 2 && count <= even * 2), "{counts:?}");
}
