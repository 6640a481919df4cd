//! How much a round merges in the index, and of which rows it asks whether they are gone.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use crate::vectors::{Descriptor, Vector};

/// Entries that one commit merges in the index for each that it adds: an entry is merged once a tier, some five times, so that
/// a debt is paid off too, by and by.
const MERGED_PER_ENTRY: u64 = 16;
/// Bounds of that: a small round does its share, and a large one delays no other by more than a tenth of a second,
const MERGED_ENTRIES: RangeInclusive<u64> = 16 * 1024..=256 * 1024;
/// or, where it adds more than that, by more than its own entries cost: a load that left them to the rounds behind it would
/// have each of them look into every run.
const OWN_MERGES: u64 = 4;
/// Of so many rows of a file one must be gone for merges in the index to ask which: the answer lies in the vector, a miss of
/// the cache for each entry, and entries of dead rows do no harm until their file goes.
const GONE_ASKED_FOR: u64 = 8;

/// Returns how many entries are merged behind a round that adds `rows` of them.
pub(super) fn merged_after(rows: u64) -> usize {
    let most = rows.saturating_mul(OWN_MERGES).max(*MERGED_ENTRIES.end());
    let share = rows.saturating_mul(MERGED_PER_ENTRY).clamp(*MERGED_ENTRIES.start(), most);
    usize::try_from(share).unwrap_or(usize::MAX)
}

/// Returns the vectors of the files of which much is gone, in the order of the files. How many rows a file has is taken
/// from the last that is gone.
pub(super) fn worn<Id: Copy + Ord>(vectors: &HashMap<Id, (Descriptor, Vector)>) -> Vec<(Id, &Vector)> {
    let much = |descriptor: &Descriptor, gone: &Vector| {
        gone.max().is_some_and(|last| descriptor.cardinality.saturating_mul(GONE_ASKED_FOR) > last)
    };
    let worn = vectors.iter().filter(|(_, (descriptor, gone))| much(descriptor, gone));
    let mut worn: Vec<_> = worn.map(|(file, (_, gone))| (*file, gone)).collect();
    worn.sort_unstable_by_key(|(file, _)| *file);
    worn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_leaves_no_merges_to_the_rounds_behind_it() {
        assert_eq!(merged_after(0), 16 * 1024, "a debt is paid off by small rounds too");
        assert_eq!(merged_after(2_000), 32_000);
        assert_eq!(merged_after(50_000), 256 * 1024, "no round is delayed by much");
        assert_eq!(merged_after(500_000), 2_000_000, "but for one that adds as much");
    }

    #[test]
    fn only_files_of_which_much_is_gone_are_asked() {
        let gone = |rows: &mut dyn Iterator<Item = u64>| {
            let vector: Vector = rows.collect();
            let descriptor = serde_json::json!({
                "storageType": "i", "pathOrInlineDv": "", "sizeInBytes": 0, "cardinality": vector.len()
            });
            (serde_json::from_value::<Descriptor>(descriptor).unwrap(), vector)
        };
        let vectors = HashMap::from([
            (3, gone(&mut (0..1000).step_by(4))),
            (1, gone(&mut (0..1000).step_by(100))),
            (2, gone(&mut (0..1000).step_by(2))),
            (4, gone(&mut (0..0))),
        ]);
        let asked: Vec<_> = worn(&vectors).into_iter().map(|(file, _)| file).collect();
        assert_eq!(asked, [2, 3]);
    }
}
