//! A table as it is in one version, carried on from entry to entry of its log: a commit costs what it changes, however
//! long the history and however many files.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use deltalake::kernel::{Add, Remove};
use lakehead_core::{Error, Expiry, Micros, Result};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::actions::uri;
use crate::schema::parse_schema_string;
use crate::stats::Stats;
use crate::vectors::Descriptor;

/// A live file of the table.
#[derive(Clone, Debug)]
pub(crate) struct LiveFile {
    /// The name relative to the table, decoded.
    pub(crate) name: String,
    /// The same as the log has it. Writers escape in different ways, and to Spark a file under another spelling is another
    /// file: what takes it out must say the very same.
    pub(crate) path: String,
    pub(crate) size: i64,
    pub(crate) partition: Vec<(String, Option<String>)>,
    pub(crate) run: Option<String>,
    pub(crate) stats: Option<Stats>,
    /// Milliseconds since the epoch.
    pub(crate) modified: i64,
    pub(crate) tags: BTreeMap<String, Option<String>>,
    /// The rows that are gone.
    pub(crate) vector: Option<Descriptor>,
}

impl LiveFile {
    /// Reads the action that made the file live.
    pub(crate) fn of(add: Add) -> Result<Self> {
        let vector = add.deletion_vector.map(serde_json::to_value).transpose();
        let vector = vector.and_then(|vector| vector.map(serde_json::from_value).transpose());
        let mut partition: Vec<_> = add.partition_values.into_iter().collect();
        partition.sort();
        let tags: BTreeMap<_, _> = add.tags.unwrap_or_default().into_iter().collect();
        Ok(Self {
            path: uri(&add.path),
            name: add.path,
            size: add.size,
            partition,
            run: tags.get("lakehead.run").cloned().flatten(),
            stats: add.stats.and_then(|stats| Stats::read(&stats)),
            modified: add.modification_time,
            tags,
            vector: vector.map_err(unreadable)?,
        })
    }

    pub(crate) fn totals(&self) -> Totals {
        Totals {
            bytes: u64::try_from(self.size).unwrap_or(0),
            rows: self.rows().unwrap_or(0),
            gone: self.vector.as_ref().map_or(0, |vector| vector.cardinality),
        }
    }

    /// Takes over how the log spells the name.
    pub(crate) fn spelled(mut self, path: Option<&str>) -> Self {
        self.path = path.map_or(self.path, str::to_owned);
        self
    }

    /// Returns whether its partition is past the age at which rows expire.
    pub(crate) fn has_expired(&self, expiry: &Expiry, now: Micros) -> bool {
        let value = |name: &str| self.partition.iter().find(|(column, _)| column == name)?.1.as_deref();
        expiry.has_expired(value, now)
    }

    /// Returns the rows of the file, those that are gone included, where its statistics say.
    pub(crate) fn rows(&self) -> Option<u64> {
        self.stats.as_ref()?.rows()
    }
}

/// How long Delta keeps files that were taken out, where the table says nothing.
const RETENTION: Duration = Duration::from_secs(7 * DAY);
/// How long Delta keeps entries of the log, where the table says nothing.
const LOG_RETENTION: Duration = Duration::from_secs(30 * DAY);
const DAY: u64 = 24 * 3600;
/// Files that were taken out stay a day at least: readers of the version before, and rounds under way, name them.
const RETENTION_MIN: Duration = Duration::from_secs(DAY);
/// The property that says how long files stay that were taken out.
pub(crate) const FILE_RETENTION: &str = "delta.deletedFileRetentionDuration";
/// The property that says how long entries of the log stay.
pub(crate) const LOG_KEPT: &str = "delta.logRetentionDuration";

/// Sums over the live files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) bytes: u64,
    /// Rows, those that are gone included.
    pub(crate) rows: u64,
    pub(crate) gone: u64,
}

/// A table in one version.
#[derive(Clone, Debug)]
pub(crate) struct LiveTable {
    pub(crate) version: u64,
    pub(crate) identity: String,
    pub(crate) schema: SchemaRef,
    pub(crate) partition_by: Vec<String>,
    pub(crate) configuration: BTreeMap<String, String>,
    pub(crate) protocol: Value,
    /// The `metaData` action, whole.
    pub(crate) metadata: Value,
    pub(crate) files: HashMap<String, LiveFile>,
    pub(crate) totals: Totals,
    /// Numbers of applications that were seen since the table was loaded.
    pub(crate) numbers: HashMap<String, u64>,
}

impl LiveTable {
    pub(crate) fn add(&mut self, file: LiveFile) {
        let of = file.totals();
        let totals = &mut self.totals;
        (totals.bytes, totals.rows, totals.gone) =
            (totals.bytes + of.bytes, totals.rows + of.rows, totals.gone + of.gone);
        if let Some(before) = self.files.insert(file.name.clone(), file) {
            self.leave(&before);
        }
    }

    fn remove(&mut self, name: &str) {
        if let Some(file) = self.files.remove(name) {
            self.leave(&file);
        }
    }

    fn leave(&mut self, file: &LiveFile) {
        let of = file.totals();
        let totals = &mut self.totals;
        (totals.bytes, totals.rows, totals.gone) =
            (totals.bytes - of.bytes, totals.rows - of.rows, totals.gone - of.gone);
    }

    /// Returns how long files stay that were taken out.
    pub(crate) fn retention(&self) -> Duration {
        self.interval(FILE_RETENTION).unwrap_or(RETENTION)
    }

    /// Returns the action that has files that were taken out, and the log that tells of them, stay as long as a lifecycle
    /// asks; `None` where they do. The table says it, so that the sweeps of others keep to it too.
    pub(crate) fn kept_for(&self, vacuum_after: Option<Duration>) -> Option<Value> {
        let wanted = vacuum_after?.max(RETENTION_MIN);
        let mut said = Vec::new();
        if self.retention() != wanted {
            said.push(FILE_RETENTION);
        }
        // A version whose entry is gone cannot be read, whatever files are there.
        if self.log_retention() < wanted {
            said.push(LOG_KEPT);
        }
        let mut metadata = self.metadata.clone();
        for property in &said {
            metadata["configuration"][*property] = interval_text(wanted).into();
        }
        (!said.is_empty()).then(|| json!({ "metaData": metadata }))
    }

    /// Returns how long entries of the log stay.
    pub(crate) fn log_retention(&self) -> Duration {
        self.interval(LOG_KEPT).unwrap_or(LOG_RETENTION)
    }

    fn interval(&self, property: &str) -> Option<Duration> {
        interval(self.configuration.get(property)?)
    }

    /// Returns whether rows may be taken out by deletion vectors.
    pub(crate) fn allows_vectors(&self) -> bool {
        let features = self.protocol["writerFeatures"].as_array();
        let declared = features.is_some_and(|features| features.iter().any(|feature| feature == "deletionVectors"));
        declared && self.configuration.get("delta.enableDeletionVectors").is_some_and(|value| value == "true")
    }

    /// Takes over the `metaData` action.
    pub(crate) fn take_metadata(&mut self, metadata: &Value) -> Result<()> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        self.metadata.clone_from(metadata);
        self.identity = text(&metadata["id"]).unwrap_or_default();
        self.schema = parse_schema_string(metadata["schemaString"].as_str().unwrap_or_default())?;
        self.partition_by = metadata["partitionColumns"].as_array().into_iter().flatten().filter_map(text).collect();
        let pairs = metadata["configuration"].as_object().into_iter().flatten();
        self.configuration = pairs.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect();
        Ok(())
    }

    /// Carries the table on to `version`, whose entry is `body`.
    pub(crate) fn apply(&mut self, version: u64, body: &[u8]) -> Result<()> {
        let text = std::str::from_utf8(body).map_err(unreadable)?;
        let mut added = Vec::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let Value::Object(actions) = serde_json::from_str(line).map_err(unreadable)? else { continue };
            for (kind, action) in actions {
                match kind.as_str() {
                    "add" => {
                        let path = action["path"].as_str().map(str::to_owned);
                        added.push(LiveFile::of(parsed::<Add>(action)?)?.spelled(path.as_deref()));
                    }
                    // A file whose vector changed is removed and added by one entry, in any order.
                    "remove" => self.remove(&parsed::<Remove>(action)?.path),
                    "metaData" => self.take_metadata(&action)?,
                    "protocol" => self.protocol = action,
                    "txn" => {
                        let number = action["version"].as_i64().unwrap_or_default().cast_unsigned();
                        self.numbers.insert(action["appId"].as_str().unwrap_or_default().to_owned(), number);
                    }
                    _ => {}
                }
            }
        }
        added.into_iter().for_each(|file| self.add(file));
        self.version = version;
        Ok(())
    }
}

/// Writes a calendar interval as Delta does.
fn interval_text(length: Duration) -> String {
    let seconds = length.as_secs();
    if seconds.is_multiple_of(DAY) {
        format!("interval {} days", seconds / DAY)
    } else {
        format!("interval {seconds} seconds")
    }
}

/// Reads a calendar interval as Delta writes it: `interval 1 days`, `interval 2 weeks`.
fn interval(text: &str) -> Option<Duration> {
    let text = text.trim().to_ascii_lowercase();
    let mut words = text.strip_prefix("interval").unwrap_or(&text).split_whitespace();
    let (number, unit) = (words.next()?.parse::<u64>().ok()?, words.next()?);
    let seconds = match unit.trim_end_matches('s') {
        "second" => 1,
        "minute" => 60,
        "hour" => 3600,
        "day" => DAY,
        "week" => 7 * DAY,
        _ => return None,
    };
    // More than one part is not guessed at.
    words.next().is_none().then(|| Duration::from_secs(number.saturating_mul(seconds)))
}

fn parsed<T: DeserializeOwned>(action: Value) -> Result<T> {
    serde_json::from_value(action).map_err(unreadable)
}

fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::incident("R0218", "an entry of the table's log cannot be read")
        .help("the table was damaged, or written in a form that is not known here; restore it, or write a new one")
        .caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_read_as_delta_writes_them() {
        let read = |text: &str| interval(text).map(|length| length.as_secs());
        assert_eq!(read("interval 1 days"), Some(DAY));
        assert_eq!(read("INTERVAL 168 HOURS"), Some(7 * DAY));
        assert_eq!(read("interval 2 weeks"), Some(14 * DAY));
        assert_eq!(read("30 minutes"), Some(1800));
        for seconds in [14 * DAY, 36 * 3600, 1] {
            assert_eq!(read(&interval_text(Duration::from_secs(seconds))), Some(seconds));
        }
        assert_eq!([read("interval 1 month"), read("interval 1 day 2 hours"), read("")], [None; 3]);
    }
}
