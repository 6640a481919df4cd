//! Looking after a table beside its rounds, under the same fence: small files are merged, checkpoints written, and files
//! that no version needs any more are removed.
//!
//! Work runs in tasks of its own and never fails or delays a round: what a task has written is taken over between two
//! rounds, against the table as it is then. A daemon that was fenced off takes nothing over.

use std::collections::HashMap;
use std::time::Duration;

use lakehead_core::{Error, Patience, Result, Settings, Value};
use lakehead_lakefile::Moving;
use tokio::task::JoinSet;

mod checkpoints;
pub(crate) mod choose;
pub(crate) mod merge;
mod removed;
pub(crate) mod sweep;

use checkpoints::Checkpoints;
use choose::VectorsWritten;
use merge::Merged;
use sweep::Swept;

/// Bytes at which a data file is closed, where the sink says nothing.
const FILE_BYTES: u64 = 128 << 20;

/// What a file's author said of merging: `compact = { every, file_size, per_hour, enabled }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) enabled: bool,
    /// Pause between two looks; none where merging follows what is measured alone.
    pub(crate) every: Duration,
    /// Bytes at which a merged file is closed.
    pub(crate) file_bytes: u64,
    /// Bytes that may be read for merging in an hour.
    pub(crate) bytes_per_hour: u64,
}

impl Policy {
    pub(crate) fn from_settings(settings: &Settings) -> Self {
        let said = match settings.get("compact") {
            Some(Value::Map(pairs)) => Settings::new(pairs.iter().cloned()),
            _ => Settings::default(),
        };
        Self {
            enabled: said.bool_or("enabled", true),
            every: said.duration("every").unwrap_or_default(),
            file_bytes: said.size_or("file_size", settings.size_or("file_size", FILE_BYTES)),
            bytes_per_hour: said.size_or("per_hour", u64::MAX),
        }
    }
}

/// The work beside the rounds of one table.
pub(crate) struct Upkeep {
    pub(crate) policy: Policy,
    pub(crate) merging: JoinSet<Result<Merged>>,
    /// Each returns its bytes.
    pub(crate) checkpointing: JoinSet<u64>,
    /// Small things that nothing waits for.
    pub(crate) chores: JoinSet<()>,
    pub(crate) sweeping: JoinSet<Result<Swept>>,
    pub(crate) checkpoints: Checkpoints,
    /// When the table is swept again, microseconds since the epoch.
    pub(crate) sweep_at: Option<i64>,
    /// Bytes that merges wrote.
    pub(crate) merged_bytes: u64,
    /// What was written for the vectors of each live file.
    pub(crate) vectors: HashMap<String, VectorsWritten>,
    /// The version after which there was nothing to merge, and when that was looked at.
    quiet: Option<(u64, Duration)>,
    pub(crate) moving: Moving,
    /// When it was looked for rows that expire.
    expiry_looked: Option<Duration>,
    /// The first thing that went wrong, for who has asked for upkeep alone.
    pub(crate) trouble: Option<Error>,
    /// Bytes read for merging in the hour that began then.
    spent: (u64, Duration),
}

/// Versions that may go by before a table without anything to merge is looked at again: a look costs its files.
const LOOK_EVERY: u64 = 4;
const HOUR: Duration = Duration::from_secs(3600);

impl Upkeep {
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            policy,
            merging: JoinSet::new(),
            checkpointing: JoinSet::new(),
            chores: JoinSet::new(),
            sweeping: JoinSet::new(),
            checkpoints: Checkpoints::default(),
            sweep_at: None,
            merged_bytes: 0,
            vectors: HashMap::new(),
            quiet: None,
            moving: Moving::default(),
            expiry_looked: None,
            trouble: None,
            spent: (0, Duration::ZERO),
        }
    }

    /// Returns whether small files are merged at all.
    pub(crate) fn merges(&self) -> bool {
        self.policy.enabled
    }

    /// Returns whether it is time to look for files to merge.
    pub(crate) fn may_look(&self, version: u64, now: Duration, patience: Patience) -> bool {
        let pause = if patience == Patience::ToEnd { 1 } else { LOOK_EVERY };
        let rested = self
            .quiet
            .is_none_or(|(quiet, looked)| version >= quiet + pause && now.saturating_sub(looked) >= self.policy.every);
        self.policy.enabled && self.merging.is_empty() && rested
    }

    /// Notes that there was nothing to merge.
    pub(crate) fn rest(&mut self, version: u64, now: Duration) {
        self.quiet = Some((version, now));
    }

    /// Returns whether it is time to look for rows that expire, and notes the look: each hour, and at the end of a run.
    pub(crate) fn may_expire(&mut self, now: Duration, patience: Patience) -> bool {
        let rested = self.expiry_looked.is_none_or(|looked| now.saturating_sub(looked) >= HOUR);
        let may = rested || patience == Patience::ToEnd;
        if may {
            self.expiry_looked = Some(now);
        }
        may
    }

    /// Takes `bytes` out of the hour's budget, where they are left.
    pub(crate) fn spend(&mut self, bytes: u64, now: Duration) -> bool {
        if now.saturating_sub(self.spent.1) >= HOUR {
            self.spent = (0, now);
        }
        let left = self.spent.0 == 0 || self.spent.0.saturating_add(bytes) <= self.policy.bytes_per_hour;
        if left {
            self.spent.0 = self.spent.0.saturating_add(bytes);
            self.quiet = None;
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_a_file_says_holds_and_the_rest_is_usual() {
        let usual = Policy { enabled: true, every: Duration::ZERO, file_bytes: FILE_BYTES, bytes_per_hour: u64::MAX };
        assert_eq!(Policy::from_settings(&Settings::default()), usual);
        let pairs = vec![
            ("every".to_owned(), Value::Duration(HOUR)),
            ("file_size".to_owned(), Value::Size(1 << 20)),
            ("per_hour".to_owned(), Value::Size(5)),
            ("enabled".to_owned(), Value::Bool(false)),
        ];
        let said = Policy::from_settings(&Settings::new([("compact".to_owned(), Value::Map(pairs))]));
        assert_eq!(said, Policy { enabled: false, every: HOUR, file_bytes: 1 << 20, bytes_per_hour: 5 });
        let of_sink = Settings::new([("file_size".to_owned(), Value::Size(7))]);
        assert_eq!(Policy::from_settings(&of_sink).file_bytes, 7);
    }

    #[test]
    fn a_look_waits_for_versions_and_for_its_time() {
        let policy = Policy { every: at(60), ..Policy::from_settings(&Settings::default()) };
        let mut upkeep = Upkeep::new(policy);
        let may_look = |upkeep: &Upkeep, version, now| upkeep.may_look(version, at(now), Patience::Between);
        assert!(may_look(&upkeep, 1, 0));
        upkeep.rest(1, at(0));
        assert!(!may_look(&upkeep, 2, 100) && !may_look(&upkeep, 9, 10) && may_look(&upkeep, 5, 60));
        assert!(upkeep.may_look(2, at(60), Patience::ToEnd) && !upkeep.may_look(1, at(60), Patience::ToEnd));
    }

    #[test]
    fn what_expires_is_looked_for_each_hour_and_at_the_end() {
        let mut upkeep = Upkeep::new(Policy::from_settings(&Settings::default()));
        let mut look = |now, patience| upkeep.may_expire(at(now), patience);
        assert!(look(0, Patience::Between) && !look(3599, Patience::Between) && look(3600, Patience::Between));
        assert!(look(3700, Patience::ToEnd) && !look(7200, Patience::Between) && look(7300, Patience::Between));
    }

    #[test]
    fn an_hour_has_its_budget() {
        let policy = Policy { bytes_per_hour: 100, ..Policy::from_settings(&Settings::default()) };
        let mut upkeep = Upkeep::new(policy);
        assert!(upkeep.spend(60, at(0)) && !upkeep.spend(60, at(10)) && upkeep.spend(40, at(20)));
        assert!(upkeep.spend(500, at(3700)), "one step is taken however large, so that none waits for ever");
        assert!(!upkeep.spend(1, at(3800)));
    }
}
