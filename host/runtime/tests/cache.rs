//! Compiled components are kept, and trusted only as far as they can be.

// Clippy's exception for tests does not reach the functions beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use netloom_core::answer::{Answer, RawPlacement};
use netloom_runtime::{HostConfig, HostError, PluginHost};
use support::{Guest, TAIL, patient, place};

fn host(directory: &Path) -> Result<PluginHost, HostError> {
    PluginHost::new(HostConfig { cache_dir: Some(directory.to_owned()), ..patient() })
}

fn compiled(directory: &Path) -> PathBuf {
    let mut files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files
        .find(|path| path.extension().is_some_and(|extension| extension == "cwasm"))
        .expect("a compiled component")
}

/// Loads the guest with a host of its own, and sees that it works.
async fn load(directory: &Path) -> Duration {
    let host = host(directory).unwrap();
    let component = Guest::placing(TAIL).build();
    let start = Instant::now();
    let plugin = host.load(support::request("p", component)).await.unwrap();
    let took = start.elapsed();
    assert_eq!(place(&plugin).await, Ok(Answer::Decide(RawPlacement::Tail)));
    took
}

#[tokio::test]
async fn a_second_load_does_not_compile() {
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path().join("a/cache");
    let cold = load(&cache).await;
    assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o700);
    let written = fs::metadata(compiled(&cache)).unwrap().modified().unwrap();
    let warm = load(&cache).await;
    assert_eq!(fs::metadata(compiled(&cache)).unwrap().modified().unwrap(), written, "not compiled again");
    assert!(warm < cold, "cached {warm:?}, compiled {cold:?}");
}

#[tokio::test]
async fn what_does_not_match_its_checksum_is_compiled_anew() {
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path().join("cache");
    load(&cache).await;
    let file = compiled(&cache);
    let good = fs::read(&file).unwrap();

    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for damaged in [flipped, good[..good.len() / 2].to_vec(), vec![], b"not machine code".to_vec()] {
        fs::write(&file, &damaged).unwrap();
        load(&cache).await;
        assert_eq!(fs::read(&file).unwrap(), good, "compiled anew");
    }
}

#[tokio::test]
async fn what_matches_its_checksum_but_is_from_elsewhere_is_compiled_anew() {
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path().join("cache");
    load(&cache).await;
    let file = compiled(&cache);
    let good = fs::read(&file).unwrap();
    let foreign = b"\x7fELF of another engine".to_vec();
    fs::write(&file, &foreign).unwrap();
    fs::write(file.with_extension("crc32"), format!("{:08x}", crc32fast::hash(&foreign))).unwrap();
    load(&cache).await;
    assert_eq!(fs::read(&file).unwrap(), good, "compiled anew");
}

#[tokio::test]
async fn what_others_could_write_is_compiled_anew() {
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path().join("cache");
    load(&cache).await;
    let file = compiled(&cache);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    load(&cache).await;
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "written anew");
}

#[tokio::test]
async fn a_directory_that_others_can_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let open = directory.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let error = host(&open).err().expect("refused").to_string();
    assert!(error.contains("not safe to use: others can use it (mode 777)"), "{error}");

    let link = directory.path().join("link");
    let target = directory.path().join("target");
    fs::create_dir(&target).unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let error = host(&link).err().expect("refused").to_string();
    assert!(error.contains("not a directory"), "{error}");

    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let error = host(&file).err().expect("refused").to_string();
    assert!(error.starts_with("could not create the plugin cache"), "{error}");
}
