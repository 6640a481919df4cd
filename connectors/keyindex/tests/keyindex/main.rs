//! The index as its caller uses it: against a model, over damage, within its bounds.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bounds;
mod damage;
mod dice;
mod model;

use std::path::Path;

use lakehead_keyindex::{KeyHash, KeyIndex, Limits, Opened, Place};

/// Limits so small that every mechanism runs in a test of a thousand keys.
const SMALL: Limits =
    Limits { memory_entries: 200, bloom_bytes: 1 << 20, block_bytes: 40_000, fan_in: 3, builder_bytes: 24 * 150 };

#[track_caller]
fn open(folder: &Path, limits: Limits) -> KeyIndex {
    match KeyIndex::open(folder, limits).unwrap() {
        Opened::Ready(index) => index,
        Opened::Rebuild(_, reason) => panic!("{reason}"),
    }
}

#[track_caller]
fn create(folder: &Path, limits: Limits) -> KeyIndex {
    match KeyIndex::open(folder, limits).unwrap() {
        Opened::Rebuild(index, _) => index,
        Opened::Ready(_) => panic!("there is an index already"),
    }
}

fn lookup(index: &KeyIndex, hashes: &[KeyHash], is_live: impl FnMut(Place) -> bool) -> Vec<Option<Place>> {
    let mut found = Vec::new();
    index.lookup(hashes, is_live, &mut found).unwrap();
    found
}

/// Returns the names of the files in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
