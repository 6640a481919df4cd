//! What the runs of intervals have read, recorded beside the inputs for as long as these are kept.
//!
//! ```text
//! read/<start>_<end>_<due>_<run>_<files>.json   what one run read; `run` and `files` are hashes, so that names tell enough
//! closed/<start>_<end>                          the inputs of these intervals are gone, or go now
//! told/<hash>.json                              objects of closed intervals that a dead letter names
//!
//! no record ──read──> open ──late object: read again──> open ──`keep_inputs` is over──> closed
//! ```
//!
//! Each object states one fact and is never changed, so that several processes may write at once: a file counts as read
//! where every record of its interval names it, and two records are one as soon as a run has seen both.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt};
use lakehead_core::{
    Arrived, Created, Error, LateInterval, Micros, RecordStore, Result, RunContext, Settings, failpoint, format_micros,
};
use lakehead_lakefile::{Location, ObjectRecords};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::listing::{Entry, Ledger};
use crate::pattern::Pattern;
use crate::retire::{keep_inputs, remove};

/// Intervals that one start removes at most: days of a schedule of minutes, and a start that still begins soon.
const REMOVED_MAX: usize = 1000;
/// Objects that one run tells of at most; the others are the next run's.
const TOLD_MAX: usize = 10_000;
/// Small objects of one kind before they are put together.
const FACTS_MAX: usize = 64;
/// Files removed at once.
const REMOVALS_MAX: usize = 16;

/// Path to identity.
type Files = BTreeMap<String, String>;
/// A half-open interval.
type Span = (Micros, Micros);

/// What one run read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Body {
    run: String,
    seen: Files,
    /// Files that could not be read: they are known, and never removed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    rejected: Files,
}

impl Body {
    fn knows(&self, entry: &Entry) -> bool {
        let known = self.seen.get(&entry.path).or_else(|| self.rejected.get(&entry.path));
        known == Some(&entry.identity)
    }
}

/// The name of a record, read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    name: String,
    span: Span,
    due: Micros,
    run: String,
    files: String,
}

impl Record {
    fn parse(name: &str) -> Option<Self> {
        let parts: Vec<&str> = name.strip_prefix("read/")?.strip_suffix(".json")?.split('_').collect();
        let [start, end, due, run, files] = parts[..] else { return None };
        Some(Self {
            name: name.to_owned(),
            span: (start.parse().ok()?, end.parse().ok()?),
            due: due.parse().ok()?,
            run: run.to_owned(),
            files: files.to_owned(),
        })
    }
}

/// What one opening has to do.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    /// The files of the run's interval: all are read, those that were read before among them.
    pub(crate) waiting: Vec<Entry>,
    /// Objects that came after their interval was closed, each with its interval.
    pub(crate) late: Vec<(Entry, Span)>,
}

/// The records of one source.
#[derive(Clone, Debug)]
pub(crate) struct Windows {
    location: Location,
    records: ObjectRecords,
    keep: Micros,
    /// Records of this run's interval when it began: its own takes their place.
    superseded: Vec<String>,
}

impl Windows {
    /// Opens the records; `None` where the files of a run are not read again.
    pub(crate) fn new(location: &Location, settings: &Settings, pipeline: &str, node: &str) -> Result<Option<Self>> {
        if !settings.bool_or(lakehead_core::RECORDED, false) {
            return Ok(None);
        }
        let folder = location.child(&format!("_lakehead/{pipeline}/inputs/{node}"))?;
        Ok(Some(Self {
            location: location.clone(),
            records: ObjectRecords::new(folder),
            keep: i64::try_from(keep_inputs(settings).as_micros()).unwrap_or(i64::MAX),
            superseded: Vec::new(),
        }))
    }

    /// Says what a run reads. An interval whose recorded inputs are not all there is refused: what it would write
    /// takes the place of rows that come from them.
    pub(crate) async fn open(
        &mut self,
        run: &RunContext,
        listed: Vec<Entry>,
        pattern: &Pattern,
        versions: bool,
    ) -> Result<Opened> {
        let span = (run.start, run.end);
        let closed = self.closed().await?;
        if closed.iter().any(|closed| overlaps(*closed, span)) {
            return Err(Error::user(
                "R0420",
                "the interval is closed: its inputs were removed when `keep_inputs` was over",
            )
            .with("interval", shown(span))
            .help("its rows stay in the table as they are; late objects of it go to the dead letters of other runs"));
        }
        let records = self.read().await?;
        if let Some(other) = records.iter().find(|record| record.span != span && overlaps(record.span, span)) {
            return Err(Error::user("R0421", "another interval that was read holds part of this one")
                .with("interval", shown(span))
                .with("read", shown(other.span))
                .help("run the intervals as they were, or read into a new table: rows would be there twice"));
        }
        let (own, others): (Vec<_>, Vec<_>) = listed.into_iter().partition(|entry| is_within(pattern, entry, span));
        for record in records.iter().filter(|record| record.span == span) {
            self.check_inputs(record, &own, versions).await?;
            self.superseded.push(record.name.clone());
        }
        let late = self.closed_late(others, &closed, pattern).await?;
        Ok(Opened { waiting: own, late })
    }

    async fn check_inputs(&self, record: &Record, own: &[Entry], versions: bool) -> Result<()> {
        let Some(body) = self.body(&record.name).await? else { return Ok(()) };
        for (path, identity) in &body.seen {
            match own.iter().find(|entry| entry.path == *path) {
                None => {
                    return Err(gone(record.span).with("file", path).with("recorded", body.seen.len()).help(
                        "bring the files back under their names and run again; until then the interval's rows stay as they are",
                    ));
                }
                Some(entry) if entry.identity != *identity && !versions => {
                    return Err(Error::incident("R0607", "a file that was read has changed").with("file", path).help(
                        "bring the old file back, or set `on_changed = version`: the interval is then made anew from the file as it is",
                    ));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Returns objects of closed intervals that no dead letter names yet.
    async fn closed_late(&self, listed: Vec<Entry>, closed: &[Span], pattern: &Pattern) -> Result<Vec<(Entry, Span)>> {
        let told = self.told().await?;
        let records = self.read().await?;
        let mut late = Vec::new();
        for entry in listed {
            let Some(time) = pattern.time_of(&entry.path) else { continue };
            let open = records.iter().any(|record| overlaps(record.span, time));
            let is_told = told.get(&entry.path) == Some(&entry.identity);
            if open || is_told || !closed.iter().any(|closed| overlaps(*closed, time)) {
                continue;
            }
            late.push((entry, time));
            if late.len() == TOLD_MAX {
                break;
            }
        }
        Ok(late)
    }

    /// Writes down what the last run read, unless a later one of the same interval has read all of it too.
    pub(crate) async fn write_down_before(&self, ledger: &Ledger, now: Micros) -> Result<()> {
        for record in self.read().await?.iter().filter(|record| Some(record.span) == ledger.interval) {
            let Some(body) = self.body(&record.name).await? else { continue };
            if ledger.seen.iter().all(|(path, identity)| body.seen.get(path) == Some(identity)) {
                return self.tell(&ledger.late).await;
            }
        }
        self.write_down(ledger, now).await
    }

    /// Writes down what a run read whose rows are in the lake. Told twice, it is written once.
    pub(crate) async fn write_down(&self, ledger: &Ledger, now: Micros) -> Result<()> {
        self.tell(&ledger.late).await?;
        let Some(span) = ledger.interval else { return Ok(()) };
        let run = short_hash([ledger.run.as_str()]);
        let is_known = |record: &Record| record.span == span && record.run == run;
        if self.read().await?.iter().any(is_known) {
            return Ok(());
        }
        if self.closed().await?.iter().any(|closed| overlaps(*closed, span)) {
            // Another process closed it meanwhile: its files stay, and their rows are in the lake.
            return self.tell(&ledger.seen).await;
        }
        let body = Body { run: ledger.run.clone(), seen: ledger.seen.clone(), rejected: ledger.rejected.clone() };
        let files = hash_of(body.seen.iter().chain(&body.rejected));
        let due = now.saturating_add(self.keep);
        let name = format!("read/{:020}_{:020}_{due:020}_{run}_{files}.json", span.0, span.1);
        self.create(&name, &body).await?;
        failpoint::hit("files.recorded").await?;
        for name in self.superseded.iter().filter(|old| **old != name) {
            self.records.delete(name).await?;
        }
        Ok(())
    }

    /// Closes the intervals whose inputs were kept for long enough, and removes these: only what every record names.
    pub(crate) async fn remove_due(&self, now: Micros) -> Result<()> {
        let mut windows: BTreeMap<Span, Vec<Record>> = BTreeMap::new();
        for record in self.read().await? {
            windows.entry(record.span).or_default().push(record);
        }
        let is_due = |records: &Vec<Record>| records.iter().all(|record| record.due <= now);
        for (span, records) in windows.into_iter().filter(|(_, records)| is_due(records)).take(REMOVED_MAX) {
            let mut bodies = Vec::with_capacity(records.len());
            for record in &records {
                bodies.extend(self.body(&record.name).await?);
            }
            let Some((first, others)) = bodies.split_first() else { continue };
            for body in &bodies {
                self.tell(&body.rejected).await?;
            }
            // From here on nobody makes the interval anew: what is removed now would be missed.
            self.records.create(&format!("closed/{:020}_{:020}", span.0, span.1), Vec::new()).await?;
            failpoint::hit("files.closed").await?;
            let in_all = |(path, identity): &(&String, &String)| {
                others.iter().all(|other| other.seen.get(*path) == Some(*identity))
            };
            let removals =
                first.seen.iter().filter(in_all).map(|(path, identity)| remove(&self.location, path, identity));
            let removals: Vec<_> = removals.collect();
            futures::stream::iter(removals).buffer_unordered(REMOVALS_MAX).try_collect::<Vec<()>>().await?;
            failpoint::hit("files.removed").await?;
            for record in &records {
                self.records.delete(&record.name).await?;
            }
        }
        self.join_closed().await
    }

    /// Returns the intervals that were read and have gained objects since, while their inputs are kept.
    pub(crate) async fn late(&self, listed: &[Entry], pattern: &Pattern, now: Micros) -> Result<Vec<LateInterval>> {
        let mut windows: BTreeMap<Span, (Vec<Record>, Vec<&Entry>)> = BTreeMap::new();
        for record in self.read().await?.into_iter().filter(|record| record.due > now) {
            windows.entry(record.span).or_default().0.push(record);
        }
        for entry in listed {
            let Some((start, _)) = pattern.time_of(&entry.path) else { continue };
            // Intervals do not overlap, so that the last to begin at or before the file's time is the one.
            if let Some((span, (_, entries))) = windows.range_mut(..=(start, Micros::MAX)).next_back()
                && start < span.1
            {
                entries.push(entry);
            }
        }
        let mut late = Vec::new();
        for (span, (records, entries)) in windows {
            let files = hash_of(entries.iter().map(|entry| (&entry.path, &entry.identity)));
            if records.iter().all(|record| record.files == files) {
                continue;
            }
            let mut is_late = false;
            for record in &records {
                let Some(body) = self.body(&record.name).await? else { continue };
                is_late |= entries.iter().any(|entry| !body.knows(entry));
            }
            if is_late {
                late.push(LateInterval { start: span.0, end: span.1, fingerprint: files });
            }
        }
        Ok(late)
    }

    async fn read(&self) -> Result<Vec<Record>> {
        Ok(self.records.list("read").await?.iter().filter_map(|name| Record::parse(name)).collect())
    }

    /// Returns a record's contents; `None` where another process removed it meanwhile.
    async fn body(&self, name: &str) -> Result<Option<Body>> {
        let Some(body) = self.records.get(name).await? else { return Ok(None) };
        serde_json::from_slice(&body).map(Some).map_err(|error| {
            Error::incident("R0422", "a record of inputs cannot be read")
                .with("record", name)
                .help("bring the file back from a backup; without it nobody knows what the interval's rows come from")
                .caused_by(error)
        })
    }

    async fn create(&self, name: &str, body: &impl Serialize) -> Result<Created> {
        let body = serde_json::to_vec(body).map_err(|error| Error::bug("a record is not JSON").caused_by(error))?;
        self.records.create(name, body).await
    }

    async fn closed(&self) -> Result<Vec<Span>> {
        Ok(joined(self.records.list("closed").await?.iter().filter_map(|name| span_of(name)).collect()))
    }

    /// Puts the facts of neighbours into one, which is there before the parts go.
    async fn join_closed(&self) -> Result<()> {
        let names = self.records.list("closed").await?;
        if names.len() <= FACTS_MAX {
            return Ok(());
        }
        let whole = joined(names.iter().filter_map(|name| span_of(name)).collect());
        for span in &whole {
            self.records.create(&format!("closed/{:020}_{:020}", span.0, span.1), Vec::new()).await?;
        }
        for name in names.iter().filter(|name| span_of(name).is_some_and(|span| !whole.contains(&span))) {
            self.records.delete(name).await?;
        }
        Ok(())
    }

    async fn tell(&self, files: &Files) -> Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        let name = format!("told/{}.json", hash_of(files.iter()));
        self.create(&name, files).await.map(drop)
    }

    /// Returns the objects that a dead letter names. Many small lists are put into one.
    async fn told(&self) -> Result<Files> {
        let names = self.records.list("told").await?;
        let mut told = Files::new();
        for name in &names {
            let Some(body) = self.records.get(name).await? else { continue };
            let files: Files = serde_json::from_slice(&body).map_err(|error| {
                Error::incident("R0422", "a record of inputs cannot be read")
                    .with("record", name)
                    .help("remove the file: its objects are told of once more")
                    .caused_by(error)
            })?;
            told.extend(files);
        }
        if names.len() > FACTS_MAX {
            self.tell(&told).await?;
            let whole = format!("told/{}.json", hash_of(told.iter()));
            for name in names.iter().filter(|name| **name != whole) {
                self.records.delete(name).await?;
            }
        }
        Ok(told)
    }
}

/// Returns what a look at the inputs finds.
pub(crate) async fn look(
    windows: Option<&Windows>,
    listed: &[Entry],
    pattern: &Pattern,
    now: Micros,
    fingerprint: Option<String>,
) -> Result<Arrived> {
    let late = match windows {
        Some(windows) => windows.late(listed, pattern, now).await?,
        None => Vec::new(),
    };
    Ok(Arrived { fingerprint, late })
}

fn gone(span: Span) -> Error {
    Error::user("R0420", "inputs that the interval was made of are gone, and its rows would be replaced by fewer")
        .with("interval", shown(span))
}

fn shown(span: Span) -> String {
    format!("{} .. {}", format_micros(span.0), format_micros(span.1))
}

fn overlaps(a: Span, b: Span) -> bool {
    a.0 < b.1 && b.0 < a.1
}

fn is_within(pattern: &Pattern, entry: &Entry, span: Span) -> bool {
    // A time that there is not, `0000/00/00`, is that of no interval.
    !pattern.has_times() || pattern.time_of(&entry.path).is_some_and(|time| overlaps(time, span))
}

fn span_of(name: &str) -> Option<Span> {
    let (start, end) = name.strip_prefix("closed/")?.split_once('_')?;
    Some((start.parse().ok()?, end.parse().ok()?))
}

/// Puts spans that touch into one.
fn joined(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    let mut whole: Vec<Span> = Vec::new();
    for span in spans {
        match whole.last_mut() {
            Some(last) if span.0 <= last.1 => last.1 = last.1.max(span.1),
            _ => whole.push(span),
        }
    }
    whole
}

fn hash_of<'a>(files: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    let sorted: BTreeSet<_> = files.collect();
    short_hash(sorted.into_iter().flat_map(|(path, identity)| [path.as_str(), identity.as_str()]))
}

fn short_hash<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let text: Vec<&str> = parts.into_iter().collect();
    Uuid::new_v5(&Uuid::NAMESPACE_OID, text.join("\n").as_bytes()).simple().to_string()
}
