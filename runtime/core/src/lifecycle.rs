//! Storage rules of a table: what the language's `lifecycle` says, as data that every crate may carry.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The key of the tag that says which lifecycle a data file is under; its value is the lifecycle's name.
///
/// Rules of a bucket filter by it, since their prefixes cannot leave a folder out: a table's log lies below the table.
/// Only data files may ever carry it.
pub const LIFECYCLE_TAG: &str = "lakehead-tier";

/// A class of storage, coldest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StorageClass {
    /// Cheaper to hold, dearer to read; read at once.
    Infrequent,
    /// Cheaper still; read at once.
    ArchiveInstant,
    /// Not to be read before it was restored, which takes hours.
    Archive,
}

impl StorageClass {
    /// Every class, coldest last.
    pub const ALL: [Self; 3] = [Self::Infrequent, Self::ArchiveInstant, Self::Archive];

    /// Returns the word of the language.
    pub fn word(self) -> &'static str {
        match self {
            Self::Infrequent => "infrequent",
            Self::ArchiveInstant => "archive_instant",
            Self::Archive => "archive",
        }
    }

    /// Reads the word of the language.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.word() == word)
    }

    /// Returns the days that S3 bills at least for an object in this class, however soon it leaves (its pricing page:
    /// Standard-IA 30, Glacier Instant and Flexible Retrieval 90; Deep Archive, which no word means, would be 180).
    pub fn billed_days_min(self) -> u64 {
        match self {
            Self::Infrequent => 30,
            Self::ArchiveInstant | Self::Archive => 90,
        }
    }

    /// Returns the age in days before which S3 refuses a rule that moves an object into this class (its API reference,
    /// `Transition.Days`: 30 for Standard-IA).
    pub fn age_days_min(self) -> u64 {
        match self {
            Self::Infrequent => 30,
            Self::ArchiveInstant | Self::Archive => 1,
        }
    }
}

/// A move to a colder class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Transition {
    /// Where to.
    pub class: StorageClass,
    /// The age of a partition at which it moves; whole days, 1 or more.
    pub after: Duration,
    /// Whether queries may fail on what has moved (`unreadable = allow`).
    pub unreadable_allowed: bool,
}

/// A copy kept elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Replica {
    /// The connection that takes it.
    pub connection: String,
    /// Whether what is deleted here is deleted there.
    pub deletes: bool,
}

/// The storage rules of a table, checked: ages rise from move to move, classes get colder, the expiry comes last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lifecycle {
    /// Its name.
    pub name: String,
    /// Moves to colder classes, in order of age.
    pub transitions: Vec<Transition>,
    /// The age of a partition at which its rows are deleted; whole days, 1 or more.
    pub expire_after: Option<Duration>,
    /// How long files that no version of the table needs are kept.
    pub vacuum_after: Option<Duration>,
    /// Copies kept elsewhere.
    pub replicas: Vec<Replica>,
}

impl Lifecycle {
    /// Returns the whole days of an age; `None` where it has a part of a day, or is none. Stores count in days.
    pub fn days(age: Duration) -> Option<u64> {
        const DAY: u64 = 86_400;
        let whole = age.subsec_nanos() == 0 && age.as_secs().is_multiple_of(DAY);
        let days = age.as_secs() / DAY;
        (whole && days > 0).then_some(days)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_whole_days_or_none() {
        let hours = |hours: u64| Lifecycle::days(Duration::from_secs(hours * 3600));
        assert_eq!([hours(0), hours(23), hours(24), hours(36), hours(720)], [None, None, Some(1), None, Some(30)]);
        assert_eq!(Lifecycle::days(Duration::from_millis(86_400_001)), None);
    }

    #[test]
    fn a_class_is_read_as_it_is_written() {
        for class in StorageClass::ALL {
            assert_eq!(StorageClass::parse(class.word()), Some(class));
        }
        assert_eq!(StorageClass::parse("cold"), None);
    }
}
