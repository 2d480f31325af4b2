//! What the guest is told to do, and the part of it that is the same in every hook.

use std::hint::black_box;

use serde::Deserialize;

use crate::bindings::netloom::kernel::{kv, log};

/// The guest's configuration: `{ "in": "place", "do": "loop" }`.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(rename = "in")]
    pub hook: Hook,
    #[serde(rename = "do")]
    pub behaviour: Do,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    Init,
    Health,
    Place,
    Rebalance,
    Choose,
    Plan,
    Judge,
    JudgePacked,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Do {
    Nothing,
    Loop,
    Spin,
    Trap,
    Panic,
    Recurse,
    MemoryBomb,
    Hoard,
    Chatter,
    LogLongLine,
    HostCalls,
    Fail,
    UnknownEntry,
    ReplaceForeign,
    LongVeto,
    TooFew,
    TooMany,
    SmallMtu,
    MtuZero,
    MtuHuge,
    GsoHuge,
    GraceHuge,
}

/// Does what does not depend on the hook; false if it is about the hook's answer.
pub fn act(order: Do) -> bool {
    match order {
        Do::Nothing => {}
        Do::Loop => loop {
            black_box(());
        },
        Do::Spin => spin(),
        Do::Trap => trap(),
        Do::Panic => panic!("told to panic"),
        Do::Recurse => {
            black_box(recurse(0));
        }
        Do::MemoryBomb => memory_bomb(),
        Do::Hoard => hoard(),
        Do::Chatter => (0..100_000).for_each(|n| log::write(log::Level::Info, &format!("entry {n}"), &[])),
        Do::LogLongLine => {
            let fields: Vec<_> = (0..64).map(|n| (format!("key{n}"), "v".repeat(10_000))).collect();
            log::write(log::Level::Info, &"x".repeat(1 << 20), &fields);
        }
        Do::HostCalls => loop {
            black_box(kv::get("key").is_ok());
        },
        _ => return false,
    }
    true
}

/// Slow, and comes to an end.
fn spin() {
    (0..50_000_000_u64).for_each(|n| {
        black_box(n);
    });
}

fn trap() {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
}

fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 16]);
    recurse(depth + 1) + black_box(frame)[0]
}

/// Asks for memory until there is none, and does not survive that.
fn memory_bomb() {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    loop {
        hoard.push(black_box(vec![1; 1 << 20]));
    }
}

/// Takes all the memory it is given, and answers nevertheless.
fn hoard() {
    #[cfg(target_arch = "wasm32")]
    while core::arch::wasm32::memory_grow(0, 16) != usize::MAX {}
}
