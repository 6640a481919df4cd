//! The table's log: read through deltalake, written by our own put-if-absent.
//!
//! Commits never go through the library's transaction: its rebase does not know our `seq`, and a rebase of a rewrite
//! over a foreign OPTIMIZE doubles rows. Why, and what was tried: docs/decisions/0003-own-delta-commit.md.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use bytes::Bytes;
use deltalake::kernel::transaction::TransactionError;
use deltalake::logstore::object_store::prefix::PrefixStore;
use deltalake::logstore::{CommitOrBytes, LogStoreRef, StorageConfig, default_logstore};
use deltalake::{DeltaTable, DeltaTableError};
use lakehead_core::{Clock, Error, Mark, Result, failpoint};
use lakehead_lakefile::{Location, disk_error, storage_error};
use object_store::ObjectStoreExt;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::actions::decoded;
use crate::checkpoint::{Checkpoint, Hint};
use crate::live::{LiveFile, LiveTable, Totals};

/// Unclear answers to one commit before it is reported: by then the store has been asked for a minute.
const RESOLVE_ATTEMPTS_MAX: u32 = 12;

/// How long the table is followed entry by entry without looking at the whole log again: entries are kept for days, so
/// that the next one of a log that was cleaned up is never taken for a free place.
const FOLLOWED: Duration = Duration::from_secs(15 * 60);

/// Entries that are looked at behind the last round at most: others may write into the table too.
const LOOKED_BACK: u64 = 1000;

/// Looks for a table that is there and not listed, before the listing is said to lag.
const LOOKS_FOR_A_TABLE: u32 = 3;

/// What the latest version says.
#[derive(Clone, Debug)]
pub(crate) struct TableState {
    pub(crate) version: u64,
    pub(crate) identity: String,
    pub(crate) schema: SchemaRef,
    pub(crate) partition_by: Vec<String>,
}

/// Whether our entry is the one at its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    Ours,
    Lost,
}

pub(crate) struct TableLog {
    table: DeltaTable,
    store: LogStoreRef,
    location: Location,
    clock: Arc<dyn Clock>,
    live: Option<LiveTable>,
    /// Whether somebody took the table back to an older version behind our last round.
    pub(crate) restored: bool,
    /// When the log was last looked at as a whole.
    loaded: Duration,
    /// Bytes of the entries that were written.
    pub(crate) written: u64,
    recent: Recent,
}

/// The newest entries that this process wrote or read, so that a checkpoint need not read them again.
#[derive(Default)]
struct Recent {
    entries: VecDeque<(u64, Bytes)>,
    bytes: usize,
}

/// Bytes of entries that are held: a few hundred of small rounds.
const RECENT_BYTES_MAX: usize = 1 << 20;

impl Recent {
    fn push(&mut self, version: u64, entry: Bytes) {
        if self.entries.back().is_some_and(|(last, _)| last + 1 != version) {
            *self = Self::default();
        }
        self.bytes += entry.len();
        self.entries.push_back((version, entry));
        while self.bytes > RECENT_BYTES_MAX
            && let Some((_, oldest)) = self.entries.pop_front()
        {
            self.bytes -= oldest.len();
        }
    }
}

impl TableLog {
    /// Opens the log at `location`; reads nothing.
    pub(crate) fn new(location: &Location, clock: Arc<dyn Clock>) -> Self {
        let root = Arc::clone(location.store());
        let prefixed = Arc::new(PrefixStore::new(Arc::clone(&root), location.prefix().clone()));
        let store = default_logstore(prefixed, root, location.url(), &StorageConfig::default());
        let table = DeltaTable::new(Arc::clone(&store));
        Self {
            table,
            store,
            location: location.untagged(),
            clock,
            live: None,
            restored: false,
            loaded: Duration::ZERO,
            written: 0,
            recent: Recent::default(),
        }
    }

    /// Brings the state up to the latest version; `None` where there is no table.
    pub(crate) async fn refresh(&mut self) -> Result<Option<TableState>> {
        let followed = self.clock.monotonic().saturating_sub(self.loaded) < FOLLOWED;
        self.live = match self.live.take() {
            Some(live) => Some(self.follow(live).await?),
            None => None,
        };
        if self.live.is_none() || !followed {
            // A listing that lags knows an older version; what it leaves out is asked for by name.
            self.live = match self.load().await? {
                Some(live) => Some(self.follow(live).await?),
                None => None,
            };
        }
        Ok(self.live.as_ref().map(|live| TableState {
            version: live.version,
            identity: live.identity.clone(),
            schema: Arc::clone(&live.schema),
            partition_by: live.partition_by.clone(),
        }))
    }

    /// Takes over the entries behind the version that is held.
    async fn follow(&mut self, mut live: LiveTable) -> Result<LiveTable> {
        loop {
            let next = live.version + 1;
            match self.store.read_commit_entry(next).await.map_err(|e| self.failed(e))? {
                Some(body) => {
                    self.restored |= takes_back(&body);
                    live.apply(next, &body).map_err(|e| e.with("table", self.location.url()))?;
                    self.recent.push(next, body);
                }
                None => return Ok(live),
            }
        }
    }

    /// Looks behind the last round of `pipeline` for a RESTORE: entries of the log, the newest first, up to that round's.
    pub(crate) async fn look_for_restore(&mut self, pipeline: &str) -> Result<()> {
        let (version, seq) = match self.live() {
            Ok(live) => (live.version, app_id(pipeline, &live.identity, "seq")),
            Err(error) => return Err(error),
        };
        for version in (version.saturating_sub(LOOKED_BACK)..=version).rev() {
            let Some(body) = self.store.read_commit_entry(version).await.map_err(|e| self.failed(e))? else { break };
            if String::from_utf8_lossy(&body).contains(&seq) {
                break;
            }
            self.restored |= takes_back(&body);
        }
        Ok(())
    }

    /// Reads the table whole, from its newest checkpoint on.
    async fn load(&mut self) -> Result<Option<LiveTable>> {
        self.loaded = self.clock.monotonic();
        self.recent = Recent::default();
        self.table = DeltaTable::new(Arc::clone(&self.store));
        if !self.is_there().await? {
            return Ok(None);
        }
        self.table.load().await.map_err(|e| self.failed(e))?;
        let snapshot = self.table.snapshot().map_err(|e| self.failed(e))?;
        let as_json = |value: serde_json::Result<Value>| {
            value.map_err(|error| Error::bug("a table's metadata is not JSON").caused_by(error))
        };
        let mut live = LiveTable {
            version: snapshot.version(),
            identity: String::new(),
            schema: Arc::new(Schema::empty()),
            partition_by: Vec::new(),
            configuration: BTreeMap::new(),
            protocol: as_json(serde_json::to_value(snapshot.protocol()))?,
            metadata: Value::Null,
            files: HashMap::new(),
            totals: Totals::default(),
            numbers: HashMap::new(),
        };
        let metadata = as_json(serde_json::to_value(snapshot.metadata()))?;
        live.take_metadata(&metadata).map_err(|error| error.with("table", self.location.url()))?;
        for view in snapshot.log_data().iter() {
            #[allow(deprecated, reason = "the only public way to a file's tags")]
            live.add(LiveFile::of(view.add_action())?);
        }
        if live.files.keys().any(|name| may_be_spelled_otherwise(name)) {
            for batch in snapshot.add_actions_batches(false).map_err(|e| self.failed(e))? {
                let paths = batch.column_by_name("path").map(|column| cast(column, &DataType::Utf8)).transpose()?;
                for path in paths.iter().filter_map(|paths| paths.as_string_opt::<i32>()).flatten().flatten() {
                    if let Some(file) = live.files.get_mut(&decoded(path)) {
                        path.clone_into(&mut file.path);
                    }
                }
            }
        }
        Ok(Some(live))
    }

    /// Returns whether there is a table. One that is not listed and yet there was made between the two looks, and the
    /// next listing has it; or else the store's listings lag, and such a table is neither gone nor to be made.
    async fn is_there(&self) -> Result<bool> {
        for _ in 0..LOOKS_FOR_A_TABLE {
            if self.store.is_delta_table_location().await.map_err(|e| self.failed(e))? {
                return Ok(true);
            }
            if !self.is_there_after_all().await? {
                return Ok(false);
            }
        }
        Err(self.lags())
    }

    /// Asks for what every table has, its first entry or a checkpoint, by name: a listing that lags does not know what was
    /// just written.
    async fn is_there_after_all(&self) -> Result<bool> {
        if self.store.read_commit_entry(0).await.map_err(|e| self.failed(e))?.is_some() {
            return Ok(true);
        }
        let hint = self.location.path("_delta_log/_last_checkpoint");
        match self.location.store().head(&hint).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(storage_error(error, self.location.url().as_str())),
        }
    }

    fn lags(&self) -> Error {
        Error::external("R0642", "the store's listing does not know a table that is there")
            .with("table", self.location.url())
            .help("nothing to do: it is tried again, and by then the store lists what it holds")
    }

    /// Returns the table as it was last read.
    pub(crate) fn live(&self) -> Result<&LiveTable> {
        self.live.as_ref().ok_or_else(|| Error::bug("a table's log was not read"))
    }

    /// Refuses what a foreign writer may have turned on and we cannot keep.
    pub(crate) fn check_protocol(&self) -> Result<()> {
        self.live()?.check_writable().map_err(|error| error.with("table", self.location.url()))
    }

    /// Refuses what a foreign writer may have turned on and we cannot read.
    pub(crate) fn check_readable(&self) -> Result<()> {
        self.live()?.check_readable().map_err(|error| error.with("table", self.location.url()))
    }

    /// Refuses a round that breaks what the table says of its rows.
    pub(crate) fn check_round(&self, actions: &[Value]) -> Result<()> {
        self.live()?.check_round(actions).map_err(|error| error.with("table", self.location.url()))
    }

    /// Reads the numbers of ours that the table carries for `pipeline`.
    pub(crate) async fn mark(&self, pipeline: &str, identity: &str) -> Result<Mark> {
        let numbers = &self.live()?.numbers;
        let read = async |what: &str| -> Result<Option<u64>> {
            let id = app_id(pipeline, identity, what);
            if let Some(number) = numbers.get(&id) {
                return Ok(Some(*number));
            }
            // Not changed since the table was loaded.
            let snapshot = self.table.snapshot().map_err(|e| self.failed(e))?;
            let found = snapshot.transaction_version(self.store.as_ref(), id).await.map_err(|e| self.failed(e))?;
            Ok(found.map(i64::cast_unsigned))
        };
        Ok(Mark {
            seq: read("seq").await?.unwrap_or(0),
            fence: read("fence").await?.unwrap_or(0),
            document: read("doc").await?.filter(|name| *name != 0),
            record: read("record").await?.filter(|number| *number != 0),
        })
    }

    /// Writes `actions` as `version` unless somebody was first. Any unclear answer is resolved by reading the entry
    /// and comparing its uuid (delivery 3.3); the body stays the same over all attempts.
    pub(crate) async fn put(&mut self, version: u64, operation: &str, actions: &[Value]) -> Result<Put> {
        let uuid = Uuid::new_v4();
        let info = json!({ "commitInfo": {
            "timestamp": self.clock.now().div_euclid(1000),
            "operation": operation,
            "operationParameters": {},
            "engineInfo": concat!("lakehead/", env!("CARGO_PKG_VERSION")),
            "txnId": uuid.to_string(),
        }});
        let mut body = info.to_string();
        for action in actions {
            body.push('\n');
            body.push_str(&action.to_string());
        }
        let body = Bytes::from(body);
        failpoint::hit("delta.put").await?;
        for attempt in 0..RESOLVE_ATTEMPTS_MAX {
            let entry = CommitOrBytes::LogBytes(body.clone());
            let answer = self.store.write_commit_entry(version, entry, uuid).await;
            let answer = match failpoint::hit("delta.put.answer").await {
                Ok(()) => answer,
                Err(_) => Err(TransactionError::VersionAlreadyExists(version)),
            };
            if answer.is_ok() {
                return self.put_is_ours(version, body);
            }
            match self.store.read_commit_entry(version).await.map_err(|e| self.failed(e))? {
                Some(found) if found == body => return self.put_is_ours(version, body),
                Some(_) => return Ok(Put::Lost),
                None => {}
            }
            let pause = std::time::Duration::from_millis(50 << attempt.min(7));
            self.clock.sleep(pause).await;
        }
        Err(Error::external("R0208", "the store neither took nor refused a commit")
            .with("table", self.location.url())
            .with("version", version))
    }

    /// What we wrote need not be read.
    fn put_is_ours(&mut self, version: u64, body: Bytes) -> Result<Put> {
        self.written += body.len() as u64;
        match &mut self.live {
            Some(live) if live.version + 1 == version => live.apply(version, &body)?,
            _ => self.live = None,
        }
        self.recent.push(version, body);
        Ok(Put::Ours)
    }

    /// Writes a checkpoint of the version that is held, beside whatever else goes on; its failure is not a failed commit.
    /// Returns its bytes, where they are known.
    pub(crate) fn checkpoint(&self) -> Result<impl Future<Output = u64> + Send + use<>> {
        let own = self.checkpoint_into(&self.location)?;
        let (store, url) = (Arc::clone(&self.store), self.location.url().clone());
        Ok(async move {
            match own.write().await {
                Ok(Some(bytes)) => return bytes,
                Ok(None) => {}
                Err(error) => tracing::info!(table = %url, %error, "a checkpoint is written by way of the whole table"),
            }
            // The library knows forms that are not carried on here.
            let mut table = DeltaTable::new(store);
            let written = match table.load().await {
                Ok(()) => deltalake::checkpoints::create_checkpoint(&table, None).await,
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                tracing::warn!(table = %url, %error, "a checkpoint could not be written");
            }
            0
        })
    }

    /// Returns what writes a checkpoint of the version that is held into the log of another folder, or of this one.
    pub(crate) fn checkpoint_into(&self, into: &Location) -> Result<Checkpoint> {
        let live = self.live()?;
        let kept = i64::try_from(live.retention().as_millis()).unwrap_or(i64::MAX);
        Ok(Checkpoint {
            location: self.location.clone(),
            into: into.clone(),
            log: Arc::clone(&self.store),
            version: live.version,
            since: self.clock.now().div_euclid(1000).saturating_sub(kept),
            known: self.recent.entries.iter().cloned().collect(),
        })
    }

    /// Returns what reads the log on its own.
    pub(crate) fn reader(&self) -> LogStoreRef {
        Arc::clone(&self.store)
    }

    /// Returns version and bytes of the newest checkpoint; zero where there is none, or it does not say.
    pub(crate) async fn checkpointed(&self) -> (u64, u64) {
        Hint::read(&self.location).await.map_or((0, 0), |hint| (hint.version, hint.size_in_bytes.unwrap_or(0)))
    }

    fn failed(&self, error: DeltaTableError) -> Error {
        let known = disk_error(&error).unwrap_or_else(|| Error::external("R0209", "the table's log could not be read"));
        known.with("table", self.location.url()).caused_by(error)
    }
}

/// Returns whether writers differ in how they escape a name.
fn may_be_spelled_otherwise(name: &str) -> bool {
    !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./=".contains(&byte))
}

/// Returns whether an entry takes the table back to an older version: rows of later rounds went with it, and the numbers of
/// these rounds did not.
fn takes_back(body: &[u8]) -> bool {
    let infos = body.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{\"commitInfo\""));
    infos.filter_map(|line| serde_json::from_slice::<Value>(line).ok()).any(|info| {
        info["commitInfo"]["operation"].as_str().is_some_and(|operation| operation.eq_ignore_ascii_case("restore"))
    })
}

/// Returns the appId of one number of ours (delivery 3.2).
pub(crate) fn app_id(pipeline: &str, identity: &str, what: &str) -> String {
    format!("lakehead/{pipeline}/{identity}/{what}")
}

/// Returns the `txn` actions of a mark. Each says when: where a table is told to forget numbers, Spark drops those without
/// a time at once, and others when their time has come.
pub(crate) fn mark_actions(pipeline: &str, identity: &str, mark: Mark, millis: i64) -> Vec<Value> {
    let numbers = [
        ("seq", mark.seq),
        ("fence", mark.fence),
        ("doc", mark.document.unwrap_or(0)),
        ("record", mark.record.unwrap_or(0)),
    ];
    let action = |(what, number): (&str, u64)| {
        json!({ "txn": {
            "appId": app_id(pipeline, identity, what), "version": number.cast_signed(), "lastUpdated": millis,
        }})
    };
    numbers.into_iter().map(action).collect()
}
