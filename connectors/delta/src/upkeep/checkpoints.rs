//! When a checkpoint is due. It holds what the table holds, its entries what changed: written each so many entries, it would
//! cost more than they do as soon as it outweighs them.

/// Entries between two checkpoints at least.
const ENTRIES_MIN: u64 = 50;
/// Entries that whoever opens the table reads at most, or nearly so.
const ENTRIES_MAX: u64 = 200;

/// The checkpoints of a table, as this process knows them.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    /// The version of the newest one.
    pub(crate) version: u64,
    /// Its bytes; zero where they are not known.
    pub(crate) bytes: u64,
    /// Bytes of entries that this process had written by then.
    written: u64,
}

impl Checkpoints {
    /// Returns whether the next one is to be written: behind enough entries, and as many bytes of them as it has itself.
    pub(crate) fn are_due(&self, version: u64, written: u64) -> bool {
        let entries = version.saturating_sub(self.version);
        let outweighed = written.saturating_sub(self.written) >= self.bytes;
        entries >= ENTRIES_MAX || (entries >= ENTRIES_MIN && outweighed)
    }

    /// Returns whether rounds outrun the checkpoints.
    pub(crate) fn are_late(&self, version: u64) -> bool {
        version.saturating_sub(self.version) >= 2 * ENTRIES_MAX
    }

    /// Notes that one of `version` is being written.
    pub(crate) fn began(&mut self, version: u64, written: u64) {
        (self.version, self.written) = (version, written);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_waits_for_entries_that_weigh_as_much() {
        let mut checkpoints = Checkpoints { version: 100, bytes: 1000, written: 500 };
        assert!(!checkpoints.are_due(149, 9000), "too few entries");
        assert!(checkpoints.are_due(150, 1500));
        assert!(!checkpoints.are_due(150, 1499), "too few bytes");
        assert!(checkpoints.are_due(300, 501), "many entries");
        checkpoints.began(300, 1500);
        assert!(!checkpoints.are_due(310, 1600));
        assert!(!checkpoints.are_late(699) && checkpoints.are_late(700));
    }
}
