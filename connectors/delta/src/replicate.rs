//! A copy of a table elsewhere: data files, files of vectors, entries of the log in their order, pointers last.
//!
//! ```text
//! the copy holds nothing, or entries between are gone      the copy holds version n, entry n + 1 is there
//!   live files and vectors ─► checkpoint ─► its entry         files and vectors of the entry ─► the entry
//!   ─► `_last_checkpoint`                                     … and so on; then checkpoints of the table, their pointer
//! ```
//!
//! Entries are copied as they stand, put where there is none: the copy has the versions, times and numbers of the table.
//! What a copy holds says how far it is, so that any process goes on with it. A reader finds whole versions at every
//! moment: the first thing that names a file comes behind the file.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use lakehead_core::{Copied, CopySpec, Created, Error, RecordStore, Result, TableCopy, failpoint};
use lakehead_lakefile::{Carried, Carrier, Location, ObjectRecords};
use serde_json::Value;

use crate::actions::decoded;
use crate::checkpoint::{self, Hint};
use crate::log::TableLog;
use crate::stage::Owner;
use crate::upkeep::sweep::{self, Sweep};
use crate::vectors;

/// Files that are copied at once: parts of each are held.
const FILES_AT_ONCE: usize = 4;
/// How long entries are followed without listing both logs: they are kept for days, so that the next one of a log that was
/// cleaned up is never taken for the end.
const FOLLOWED: Duration = Duration::from_secs(15 * 60);

/// Keeps one copy of one Delta table.
pub(crate) struct DeltaCopy {
    spec: CopySpec,
    from: Location,
    to: Location,
    carrier: Carrier,
    /// Entries of the table, and of the copy.
    here: ObjectRecords,
    there: ObjectRecords,
    /// The version that the copy has, where it has one.
    at: Option<u64>,
    /// The newest version of the table when both logs were listed last, and when that was.
    looked: Option<(u64, Duration)>,
    /// The newest checkpoint of the table that the copy has.
    checkpoint: u64,
    /// When the copy is swept again, microseconds since the epoch.
    sweep_at: i64,
}

impl DeltaCopy {
    /// Builds it; reads and writes nothing.
    pub(crate) fn new(spec: CopySpec) -> Result<Self> {
        let (from, to, carrier) = Carrier::of(&spec)?;
        let (here, there) = (ObjectRecords::new(from.clone()), ObjectRecords::new(to.clone()));
        Ok(Self { spec, from, to, carrier, here, there, at: None, looked: None, checkpoint: 0, sweep_at: 0 })
    }

    async fn advance(&mut self) -> Result<Option<Copied>> {
        let now = self.spec.clock.monotonic();
        if self.looked.is_none_or(|(_, looked)| now.saturating_sub(looked) >= FOLLOWED) {
            let Some(newest) = self.look().await? else { return Ok(None) };
            self.looked = Some((newest, now));
        }
        let mut done = Copied::default();
        if self.at.is_none() {
            self.begin_anew(&mut done).await?;
        }
        while let Some(at) = self.at {
            let next = at + 1;
            match self.here.get(&entry(next)).await? {
                Some(body) if self.follow(next, &body, &mut done).await? => self.at = Some(next),
                None if self.looked.is_none_or(|(newest, _)| at >= newest) => break,
                // Files or entries between are gone: no version between can be read any more.
                _ => self.begin_anew(&mut done).await?,
            }
        }
        self.carry_checkpoint().await?;
        self.sweep(&mut done).await?;
        done.version = self.at.unwrap_or(0);
        Ok(Some(done))
    }

    /// Lists both logs: says what the copy has, refuses one that is none of this table, and returns the table's newest
    /// version.
    async fn look(&mut self) -> Result<Option<u64>> {
        let here = Standing::read(&self.here).await?;
        let there = Standing::read(&self.there).await?;
        let Some(newest) = here.newest() else { return Ok(None) };
        self.at = there.newest();
        let Some(at) = self.at else { return Ok(Some(newest)) };
        if at > newest {
            return Err(self.conflict("it has a version that the table does not have", at));
        }
        let common = here.entries.intersection(&there.entries).max().copied();
        match common {
            Some(version) => {
                let (ours, theirs) = (self.here.get(&entry(version)).await?, self.there.get(&entry(version)).await?);
                if ours.is_some() && ours != theirs {
                    return Err(self.conflict("its version is not the table's", version));
                }
            }
            None => {
                // So far behind that the table has none of its entries any more.
                let identity = async |location: &Location| -> Result<Option<String>> {
                    let mut log = TableLog::new(location, Arc::clone(&self.spec.clock));
                    Ok(log.refresh().await?.map(|state| state.identity))
                };
                if identity(&self.from).await? != identity(&self.to).await? {
                    return Err(self.conflict("it is a copy of another table", at));
                }
            }
        }
        // A crash behind a checkpoint: its entry follows.
        if !there.entries.contains(&at)
            && let Some(body) = self.here.get(&entry(at)).await?
        {
            self.put(at, body).await?;
        }
        self.checkpoint = Hint::read(&self.to).await.map_or(0, |hint| hint.version);
        Ok(Some(newest))
    }

    fn conflict(&self, why: &'static str, version: u64) -> Error {
        Error::incident("R0564", "the copy was written by others, and is left as it is")
            .with("copy", self.to.url())
            .with("reason", why)
            .with("version", version)
            .help("move it away, and the next look makes a new one; or replicate to another place")
    }

    /// Copies what an entry names, then the entry; false where a file is gone that it names.
    async fn follow(&self, version: u64, body: &[u8], done: &mut Copied) -> Result<bool> {
        let names = self.named_by(body)?;
        if !self.carry(&names, done).await? {
            return Ok(false);
        }
        self.put(version, body.to_vec()).await?;
        Ok(true)
    }

    async fn put(&self, version: u64, body: Vec<u8>) -> Result<()> {
        failpoint::hit("replicate.entry").await?;
        match self.there.create(&entry(version), body).await? {
            Created::Ours => Ok(()),
            Created::Exists => Err(self.conflict("somebody else wrote its next version", version)),
        }
    }

    /// Makes the newest version the next one of the copy, whatever was between.
    async fn begin_anew(&mut self, done: &mut Copied) -> Result<()> {
        let mut log = TableLog::new(&self.from, Arc::clone(&self.spec.clock));
        let Some(state) = log.refresh().await? else {
            self.at = None;
            return Err(Error::incident("R0212", "the table is gone").with("table", self.from.url()));
        };
        log.check_readable()?;
        let mut names = BTreeSet::new();
        for file in log.live()?.files.values() {
            names.insert(self.relative(&file.name)?);
            if let Some(vector) = &file.vector {
                names.extend(self.file_of(&serde_json::json!(vector))?);
            }
        }
        if !self.carry(&names, done).await? {
            return Err(Error::external("R0403", "an object that must be there is gone")
                .with("table", self.from.url())
                .help("the table moved on while it was copied; it is copied as it is by then"));
        }
        let form = || {
            Error::user("R0568", "the table's log has a form that is not copied")
                .with("table", self.from.url())
                .help("checkpoints of version 2 and in several parts: have its writer make classic ones")
        };
        let body = self.here.get(&entry(state.version)).await?.ok_or_else(form)?;
        let checkpoint = log.checkpoint_into(&self.to)?;
        failpoint::hit("replicate.checkpoint").await?;
        let written = checkpoint.write_file().await?.ok_or_else(form)?;
        self.put(state.version, body).await?;
        failpoint::hit("replicate.pointer").await?;
        checkpoint.point_to(&written).await?;
        (self.at, self.checkpoint) = (Some(state.version), state.version);
        Ok(())
    }

    /// Copies files; false where one is gone.
    async fn carry(&self, names: &BTreeSet<String>, done: &mut Copied) -> Result<bool> {
        let one = |name: &String| {
            let name = name.clone();
            async move {
                failpoint::hit("replicate.file").await?;
                self.carrier.carry(&name).await
            }
        };
        let mut carried = futures::stream::iter(names.iter().map(one)).buffer_unordered(FILES_AT_ONCE);
        let mut whole = true;
        while let Some(outcome) = carried.try_next().await? {
            match outcome {
                Carried::Copied(bytes) => (done.files, done.bytes) = (done.files + 1, done.bytes + bytes),
                Carried::There => {}
                Carried::Gone => whole = false,
            }
        }
        Ok(whole)
    }

    /// The files that an entry names for readers: rows, changes, vectors.
    fn named_by(&self, body: &[u8]) -> Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for line in body.split(|byte| *byte == b'\n').filter(|line| !line.iter().all(u8::is_ascii_whitespace)) {
            let action: Value = serde_json::from_slice(line).map_err(|error| {
                Error::incident("R0218", "an entry of the table's log cannot be read")
                    .with("table", self.from.url())
                    .help("the table was damaged; restore it, or write a new one")
                    .caused_by(error)
            })?;
            for action in [&action["add"], &action["cdc"]] {
                if let Some(path) = action["path"].as_str() {
                    names.insert(self.relative(&decoded(path))?);
                }
                names.extend(self.file_of(&action["deletionVector"])?);
            }
        }
        Ok(names)
    }

    /// A copy that named files of the table by their place would be none without the table.
    fn relative(&self, name: &str) -> Result<String> {
        let climbs = name.split('/').any(|part| part == "..");
        if name.starts_with('/') || name.contains("://") || name.starts_with("file:") || climbs {
            return Err(self.outside(name));
        }
        Ok(name.to_owned())
    }

    fn outside(&self, name: &str) -> Error {
        Error::user("R0565", "the table names a file outside its folder: a copy would still need it")
            .with("table", self.from.url())
            .with("file", name)
            .help("rewrite the table (a deep clone, or an OPTIMIZE of these files), so that its paths are relative")
    }

    /// The file that holds a vector; none where the log itself does.
    fn file_of(&self, vector: &Value) -> Result<Option<String>> {
        let text = vector["pathOrInlineDv"].as_str().unwrap_or_default();
        match vector["storageType"].as_str() {
            Some("u") => vectors::file_name(text).map(Some).ok_or_else(|| self.outside(text)),
            Some("p") => Err(self.outside(text)),
            _ => Ok(None),
        }
    }

    /// Copies the table's newest checkpoint, then has the pointer name it: the copy's log opens as fast as the table's.
    async fn carry_checkpoint(&mut self) -> Result<()> {
        let Some(text) = self.here.get(checkpoint::LAST).await? else { return Ok(()) };
        let Ok(hint) = serde_json::from_slice::<Hint>(&text) else { return Ok(()) };
        let is_next = hint.version > self.checkpoint && self.at.is_some_and(|at| hint.version <= at);
        if !is_next || !hint.is_one_file() {
            return Ok(());
        }
        if self.carrier.carry(&checkpoint::name(hint.version)).await? != Carried::Gone {
            failpoint::hit("replicate.pointer").await?;
            self.carrier.point(checkpoint::LAST, text).await?;
            self.checkpoint = hint.version;
        }
        Ok(())
    }

    /// Removes what no version of the copy within its retention needs, where that was asked for.
    async fn sweep(&mut self, done: &mut Copied) -> Result<()> {
        let now = self.spec.clock.now();
        if !self.spec.deletes || self.sweep_at > now {
            return Ok(());
        }
        let mut log = TableLog::new(&self.to, Arc::clone(&self.spec.clock));
        if log.refresh().await?.is_none() {
            return Ok(());
        }
        let live = log.live()?;
        let sweep = Sweep {
            location: self.to.clone(),
            staging: self.to.child(&format!("_lakehead/{}", self.spec.pipeline))?,
            memory: sweep::memory(&self.spec.cache, &self.to),
            retention: live.retention(),
            log_retention: live.log_retention(),
            own: Owner::new(&self.spec.pipeline, u64::MAX),
            pending: std::collections::HashSet::new(),
            clock: Arc::clone(&self.spec.clock),
        };
        let due = sweep.due_at();
        if due <= now {
            done.removed += sweep.run(log.reader()).await?.files;
        }
        self.sweep_at = if due <= now { sweep::after(now) } else { due };
        Ok(())
    }
}

#[async_trait]
impl TableCopy for DeltaCopy {
    async fn catch_up(&mut self) -> Result<Option<Copied>> {
        let outcome = self.advance().await;
        if outcome.is_err() {
            // What the copy holds by now, a listing says.
            self.looked = None;
        }
        outcome
    }
}

/// What a log holds, by its listing.
#[derive(Default)]
struct Standing {
    entries: BTreeSet<u64>,
    checkpoints: BTreeSet<u64>,
}

impl Standing {
    async fn read(log: &ObjectRecords) -> Result<Self> {
        let mut standing = Self::default();
        for name in log.list("_delta_log").await? {
            let Some((version, rest)) = name.strip_prefix("_delta_log/").and_then(|name| name.split_once('.')) else {
                continue;
            };
            let Ok(version) = version.parse() else { continue };
            if rest == "json" {
                standing.entries.insert(version);
            } else if rest.starts_with("checkpoint.") && rest.ends_with("parquet") {
                standing.checkpoints.insert(version);
            }
        }
        Ok(standing)
    }

    fn newest(&self) -> Option<u64> {
        self.entries.iter().chain(&self.checkpoints).max().copied()
    }
}

fn entry(version: u64) -> String {
    format!("_delta_log/{version:020}.json")
}
