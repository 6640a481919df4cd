//! One entry: the hash of a key and the place of a row.

use std::cmp::{Ordering, Reverse};

use crate::{FileId, KeyHash, Place};

/// Bytes of an entry on disk: 16 of the hash, 4 of the file, 4 of the row.
pub(crate) const ENTRY_BYTES: usize = 24;

/// The hash is kept as two halves, so that an entry takes 24 bytes in memory as on disk instead of 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    high: u64,
    low: u64,
    place: Place,
}

impl Entry {
    pub(crate) fn new(hash: KeyHash, place: Place) -> Self {
        Self { high: high(hash), low: low(hash), place }
    }

    pub(crate) fn hash(&self) -> KeyHash {
        (u128::from(self.high) << 64) | u128::from(self.low)
    }

    pub(crate) fn high(&self) -> u64 {
        self.high
    }

    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// Orders the entries of one batch: by hash, and of one hash the later file and the later row first.
    pub(crate) fn cmp_in_batch(&self, other: &Self) -> Ordering {
        self.hash().cmp(&other.hash()).then_with(|| Reverse(self.place).cmp(&Reverse(other.place)))
    }

    pub(crate) fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..16].copy_from_slice(&self.hash().to_le_bytes());
        bytes[16..20].copy_from_slice(&self.place.file.0.to_le_bytes());
        bytes[20..].copy_from_slice(&self.place.row.to_le_bytes());
        bytes
    }

    /// Reads entry `at` of a block or a segment.
    pub(crate) fn decode(bytes: &[u8], at: usize) -> Self {
        let (file, row) = (read_u32(bytes, at * ENTRY_BYTES + 16), read_u32(bytes, at * ENTRY_BYTES + 20));
        Self::new(hash_at(bytes, at), Place { file: FileId(file), row })
    }
}

pub(crate) fn high(hash: KeyHash) -> u64 {
    (hash >> 64) as u64
}

pub(crate) fn low(hash: KeyHash) -> u64 {
    hash as u64
}

/// Reads the hash of entry `at` alone.
pub(crate) fn hash_at(bytes: &[u8], at: usize) -> KeyHash {
    let start = at * ENTRY_BYTES;
    KeyHash::from_le_bytes(bytes[start..start + 16].try_into().expect("sixteen bytes"))
}

pub(crate) fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn read_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Puts a newer sorted batch before the older sorted entries, hash by hash.
pub(crate) fn add_newer(entries: &mut Vec<Entry>, newer: &[Entry]) {
    let mut all = Vec::with_capacity(entries.len() + newer.len());
    let mut old = entries.iter().peekable();
    for entry in newer {
        let hash = entry.hash();
        while let Some(older) = old.next_if(|older| older.hash() < hash) {
            all.push(*older);
        }
        all.push(*entry);
    }
    all.extend(old);
    *entries = all;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(hash: KeyHash, row: u32) -> Entry {
        Entry::new(hash, Place { file: FileId(7), row })
    }

    #[test]
    fn an_entry_survives_its_encoding() {
        assert_eq!(size_of::<Entry>(), ENTRY_BYTES);
        let written = entry(u128::MAX - 5, 9);
        assert_eq!(Entry::decode(&[entry(0, 0).encode(), written.encode()].concat(), 1), written);
    }

    #[test]
    fn a_newer_batch_comes_first_in_each_hash() {
        let mut entries = vec![entry(1, 1), entry(5, 1), entry(5, 0), entry(9, 1)];
        add_newer(&mut entries, &[entry(0, 2), entry(5, 3), entry(5, 2), entry(10, 2)]);
        let rows: Vec<_> = entries.iter().map(|entry| (entry.hash(), entry.place().row)).collect();
        assert_eq!(rows, [(0, 2), (1, 1), (5, 3), (5, 2), (5, 1), (5, 0), (9, 1), (10, 2)]);
    }
}
