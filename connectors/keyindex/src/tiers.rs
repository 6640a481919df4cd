//! Which runs are worth merging.

use std::ops::Range;

/// Runs that are merged at once at most: what a merge holds in memory and in open files is bounded by it.
const MERGED_MAX: usize = 64;
/// More runs than this are merged even where their sizes do not match: every run costs each lookup a probe.
const RUNS_MAX: usize = 48;

/// How many entries a run has, and how many of them lie in live files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) count: u64,
    pub(crate) live: u64,
}

/// Chooses neighbours to merge among runs in the order of their age; only neighbours, since age decides which of two
/// entries is newer.
///
/// Runs fall into tiers by their size, each `fan_in` times the last. A stretch of one tier and smaller ones with
/// `fan_in` runs of that tier is merged, so an entry is written once a tier. A run that is mostly of dropped files is
/// written anew alone.
pub(crate) fn choose(sizes: &[Size], smallest: u64, fan_in: usize) -> Option<Range<usize>> {
    let tiers: Vec<u32> = sizes.iter().map(|size| tier(size.live, smallest, fan_in)).collect();
    let highest = tiers.iter().copied().max()?;
    (0..=highest)
        .find_map(|tier| stretch(&tiers, tier, fan_in))
        .or_else(|| sizes.iter().position(|size| size.live * 2 < size.count).map(|at| at..at + 1))
        .or_else(|| (sizes.len() > RUNS_MAX).then(|| cheapest(sizes, fan_in)))
}

fn tier(live: u64, smallest: u64, fan_in: usize) -> u32 {
    (live / smallest).max(1).ilog(fan_in as u64)
}

fn stretch(tiers: &[u32], tier: u32, fan_in: usize) -> Option<Range<usize>> {
    let mut start = 0;
    for runs in tiers.chunk_by(|a, b| (*a <= tier) == (*b <= tier)) {
        let range = start..start + runs.len().min(MERGED_MAX);
        start += runs.len();
        if tiers[range.clone()].iter().filter(|other| **other == tier).count() >= fan_in {
            return Some(range);
        }
    }
    None
}

fn cheapest(sizes: &[Size], fan_in: usize) -> Range<usize> {
    let cost = |at: &usize| sizes[*at..at + fan_in].iter().map(|size| size.live).sum::<u64>();
    let at = (0..=sizes.len() - fan_in).min_by_key(cost).expect("more runs than are merged");
    at..at + fan_in
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(counts: &[u64], expected: Option<Range<usize>>) {
        let sizes: Vec<_> = counts.iter().map(|count| Size { count: *count, live: *count }).collect();
        assert_eq!(choose(&sizes, 10, 4), expected, "{counts:?}");
    }

    #[test]
    fn neighbours_of_one_tier_are_merged() {
        check(&[], None);
        check(&[10, 10, 10], None);
        check(&[10, 10, 10, 10], Some(0..4));
        check(&[5000, 10, 12, 39, 1], Some(1..5));
        check(&[40, 10, 10, 10], None);
        check(&[40, 40, 10, 40, 40, 10], Some(0..6));
        check(&[5000, 40, 40, 5000, 40, 40], None);
        check(&[1; 100], Some(0..64));
    }

    #[test]
    fn a_run_of_dropped_files_is_written_anew_and_too_many_runs_are_fewer() {
        let size = |count, live| Size { count, live };
        assert_eq!(choose(&[size(100, 60), size(100, 40)], 10, 4), Some(1..2));
        let alternating: Vec<_> = (0..60_u32).map(|i| size(10 * 4_u64.pow(i % 20), 10 * 4_u64.pow(i % 20))).collect();
        assert_eq!(choose(&alternating, 10, 4), Some(0..4));
    }
}
