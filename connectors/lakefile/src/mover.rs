//! Files of old partitions moved to a colder place: another class in a bucket, the cold root on a disk.
//!
//! A bucket's own rules count from the day a file was written; what was merged or filled in later they move late. Here the
//! age of the partition counts. Only data files that the table names are ever given to a mover: never a log, a manifest, a
//! vector.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lakehead_core::{Clock, Error, Micros, Patience, Result, Settings, SinkSpec, StorageClass};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::location::Location;

mod bucket;
mod disk;

use bucket::BucketMover;
use disk::{Chilled, DiskMover};

/// Requests that one table's mover makes in an hour, and files that it moves: a move of a million files takes weeks, and
/// costs what it costs in any case.
const REQUESTS_PER_HOUR: u64 = 2_000;
/// Files of this many bytes or fewer stay: S3 bills at least 128 KB in the colder classes, and every move costs.
const BYTES_OVER: u64 = 128 * 1024;
const HOUR: Duration = Duration::from_secs(3600);

/// A live data file whose partition is old enough for a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aged {
    /// Its name in the table's folder.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// Where it is to be.
    pub class: StorageClass,
}

/// Moves files of one table.
#[derive(Debug)]
pub struct Mover {
    place: Place,
    memory: PathBuf,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
enum Place {
    Bucket(Box<BucketMover>),
    Disk(DiskMover),
}

/// What a mover remembers: it can be lost, and is found out again.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Memory {
    /// When the hour began that is counted, microseconds since the epoch.
    hour: Micros,
    /// Requests in it.
    requests: u64,
    /// Files that are where they are to be.
    there: BTreeMap<String, StorageClass>,
}

impl Memory {
    fn read(file: &Path, now: Micros) -> Self {
        let found = std::fs::read(file).ok().and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        let mut memory = found.unwrap_or_default();
        let hour = i64::try_from(HOUR.as_micros()).unwrap_or(i64::MAX);
        if memory.hour > now || now.saturating_sub(memory.hour) >= hour {
            (memory.hour, memory.requests) = (now, 0);
        }
        memory
    }

    /// Returns whether requests are left in this hour, and counts them.
    fn may_ask(&mut self, requests: u64) -> bool {
        let may = self.requests + requests <= REQUESTS_PER_HOUR;
        if may {
            self.requests += requests;
        }
        may
    }

    /// A memory that cannot be kept costs requests.
    fn write(&self, file: &Path) {
        let folder = file.parent().map(std::fs::create_dir_all).transpose();
        let written = folder.and_then(|_| std::fs::write(file, serde_json::to_vec(self).unwrap_or_default()));
        if let Err(error) = written {
            tracing::debug!(file = %file.display(), %error, "what was moved was not noted");
        }
    }
}

/// The moves of one table beside its rounds: begun where it is time to look, taken over between two rounds.
#[derive(Debug, Default)]
pub struct Moving {
    under_way: JoinSet<Result<Moved>>,
    looked: Option<Duration>,
}

impl Moving {
    /// Begins to move the files that `aged` gives, each hour and at the end of a run. No round waits for it.
    pub fn begin(
        &mut self,
        spec: &SinkSpec,
        location: &Location,
        patience: Patience,
        aged: impl FnOnce() -> Option<Vec<Aged>>,
    ) {
        if !self.under_way.is_empty() || !self.may_look(spec.clock.monotonic(), patience) {
            return;
        }
        let Some(aged) = aged() else { return };
        let below = format!("{}{}", spec.connection.text("prefix").unwrap_or(""), spec.table.replace('.', "/"));
        let folders = (spec.root.as_path(), spec.cache.as_path());
        match Mover::of(location, &spec.connection, &below, folders, &spec.clock) {
            Ok(Some(mover)) => drop(self.under_way.spawn(mover.work(aged))),
            Ok(None) => {}
            Err(error) => tracing::warn!(table = %location.url(), %error, "old files could not be moved"),
        }
    }

    fn may_look(&mut self, now: Duration, patience: Patience) -> bool {
        let rested = self.looked.is_none_or(|looked| now.saturating_sub(looked) >= HOUR);
        let may = rested || patience == Patience::ToEnd;
        if may {
            self.looked = Some(now);
        }
        may
    }

    /// Returns what a move came to that has ended; at the end of a run it is waited for.
    pub async fn ended(&mut self, patience: Patience) -> Option<Result<Moved>> {
        let under_way = &mut self.under_way;
        let joined = if patience == Patience::ToEnd { under_way.join_next().await } else { under_way.try_join_next() };
        joined.map(|joined| {
            joined.unwrap_or_else(|error| Err(Error::bug("a move of files ended early").caused_by(error)))
        })
    }
}

/// Takes over what was moved, and tells of it; returns the files that the move may have brought back.
pub fn take_over(moved: Result<Moved>, location: &Location, is_live: impl Fn(&str) -> bool) -> Vec<String> {
    match moved.and_then(|moved| moved.settle(is_live)) {
        Ok(settled) => {
            if settled.files > 0 {
                tracing::info!(
                    table = %location.url(), files = settled.files, bytes = settled.bytes,
                    "files of old partitions were moved to a colder place"
                );
            }
            settled.needless
        }
        Err(error) => {
            tracing::warn!(table = %location.url(), %error, "old files could not be moved");
            Vec::new()
        }
    }
}

/// What a mover has done beside the rounds; it holds once it is settled between two of them.
#[derive(Debug, Default)]
pub struct Moved {
    /// Files in a bucket that are in another class now.
    classes: Vec<(String, u64)>,
    /// Files whose cold copies are whole.
    chilled: Vec<Chilled>,
}

/// What was moved in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that the table no longer names, which the move may have brought back: to be removed.
    pub needless: Vec<String>,
}

impl Mover {
    /// Builds a mover of the table at `location`, which lies `below` its connection's folder; `None` where nothing moves:
    /// neither a bucket of S3 nor a connection with `cold`.
    ///
    /// # Errors
    ///
    /// Where a client for the bucket cannot be made.
    pub fn of(
        location: &Location,
        connection: &Settings,
        below: &str,
        (root, cache): (&Path, &Path),
        clock: &Arc<dyn Clock>,
    ) -> Result<Option<Self>> {
        let place = match (location.url().scheme(), connection.text("cold"), location.url().to_file_path()) {
            ("s3" | "s3a", _, _) => Place::Bucket(Box::new(BucketMover::open(location, connection)?)),
            ("file", Some(cold), Ok(hot)) => Place::Disk(DiskMover::new(hot, root.join(cold).join(below))),
            _ => return Ok(None),
        };
        let name: String =
            location.url().as_str().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let memory = cache.join("movers").join(format!(
            "{:08x}-{}.json",
            crc32fast::hash(location.url().as_str().as_bytes()),
            &name[name.len().saturating_sub(80)..]
        ));
        Ok(Some(Self { place, memory, clock: Arc::clone(clock) }))
    }

    /// Moves what is not where it is to be, as far as this hour's requests go. Takes as long as it takes: to be run beside
    /// the rounds. What a crash leaves is gone on with.
    ///
    /// # Errors
    ///
    /// What the store or the disk says; what was moved before is noted.
    pub async fn work(self, aged: Vec<Aged>) -> Result<Moved> {
        let mut memory = Memory::read(&self.memory, self.clock.now());
        let names: HashSet<&str> = aged.iter().map(|file| file.name.as_str()).collect();
        memory.there.retain(|name, _| names.contains(name.as_str()));
        let outcome = match &self.place {
            Place::Bucket(bucket) => bucket.work(&aged, &mut memory).await,
            Place::Disk(disk) => disk.work(aged, self.clock.now()).await,
        };
        memory.write(&self.memory);
        outcome
    }
}

impl Moved {
    /// Puts cold copies in the place of their files, where the table still names these: fast, and to be done while no round
    /// is under way. Each file changes at once for all who open it.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub fn settle(self, is_live: impl Fn(&str) -> bool) -> Result<Settled> {
        let mut settled = Settled::default();
        for (name, bytes) in self.classes {
            if is_live(&name) {
                (settled.files, settled.bytes) = (settled.files + 1, settled.bytes + bytes);
            } else {
                settled.needless.push(name);
            }
        }
        for chilled in self.chilled.into_iter().filter(|chilled| is_live(&chilled.name)) {
            let bytes = chilled.bytes;
            if chilled.link()? {
                (settled.files, settled.bytes) = (settled.files + 1, settled.bytes + bytes);
            }
        }
        Ok(settled)
    }
}
