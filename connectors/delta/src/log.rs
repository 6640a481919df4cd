//! The table's log: read through deltalake, written by our own put-if-absent.
//!
//! Commits never go through the library's transaction: its rebase does not know our `seq`, and a rebase of a rewrite
//! over a foreign OPTIMIZE doubles rows. Why, and what was tried: docs/decisions/0003-own-delta-commit.md.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use deltalake::kernel::transaction::TransactionError;
use deltalake::logstore::object_store::prefix::PrefixStore;
use deltalake::logstore::{CommitOrBytes, LogStoreRef, StorageConfig, default_logstore};
use deltalake::{DeltaTable, DeltaTableError};
use lakehead_core::{Clock, Error, Mark, Result, failpoint};
use lakehead_lakefile::Location;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::schema::parse_schema_string;

/// Unclear answers to one commit before it is reported: by then the store has been asked for a minute.
const RESOLVE_ATTEMPTS_MAX: u32 = 12;

/// A live file of the table.
#[derive(Clone, Debug)]
pub(crate) struct LiveFile {
    /// The name relative to the table, decoded.
    pub(crate) name: String,
    pub(crate) size: i64,
    pub(crate) partition: Vec<(String, Option<String>)>,
    pub(crate) run: Option<String>,
    pub(crate) stats: Option<Value>,
}

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
}

impl TableLog {
    /// Opens the log at `location`; reads nothing.
    pub(crate) fn new(location: &Location, clock: Arc<dyn Clock>) -> Self {
        let root = Arc::clone(location.store());
        let prefixed = Arc::new(PrefixStore::new(Arc::clone(&root), location.prefix().clone()));
        let store = default_logstore(prefixed, root, location.url(), &StorageConfig::default());
        Self { table: DeltaTable::new(Arc::clone(&store)), store, location: location.clone(), clock }
    }

    /// Brings the state up to the latest version; `None` where there is no table.
    pub(crate) async fn refresh(&mut self) -> Result<Option<TableState>> {
        if self.table.version().is_none() {
            let exists = self.store.is_delta_table_location().await.map_err(|e| self.failed(e))?;
            if !exists {
                return Ok(None);
            }
            self.table.load().await.map_err(|e| self.failed(e))?;
        } else {
            self.table.update_incremental(None).await.map_err(|e| self.failed(e))?;
        }
        let snapshot = self.table.snapshot().map_err(|e| self.failed(e))?;
        let metadata = serde_json::to_value(snapshot.metadata())
            .map_err(|error| Error::bug("a table's metadata is not JSON").caused_by(error))?;
        let schema = parse_schema_string(metadata["schemaString"].as_str().unwrap_or_default())
            .map_err(|error| error.with("table", self.location.url()))?;
        Ok(Some(TableState {
            version: snapshot.version(),
            identity: snapshot.metadata().id().to_owned(),
            schema,
            partition_by: snapshot.metadata().partition_columns().to_vec(),
        }))
    }

    /// Refuses what a foreign writer may have turned on and we cannot keep.
    pub(crate) fn check_protocol(&self) -> Result<()> {
        let snapshot = self.table.snapshot().map_err(|e| self.failed(e))?;
        let protocol = serde_json::to_value(snapshot.protocol())
            .map_err(|error| Error::bug("a table's protocol is not JSON").caused_by(error))?;
        let known = ["timestampNtz", "appendOnly", "invariants", "v2Checkpoint", "deletionVectors"];
        for list in ["readerFeatures", "writerFeatures"] {
            for feature in protocol[list].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !known.contains(&feature) {
                    return Err(Error::incident("R0206", "the table uses a feature that is not written here")
                        .with("table", self.location.url())
                        .with("feature", feature)
                        .help("write into a table of its own, or turn the feature off in its writer"));
                }
            }
        }
        let version = protocol["minWriterVersion"].as_i64().unwrap_or(0);
        if version > 2 && version != 7 {
            return Err(Error::incident("R0206", "the table uses a writer version that is not written here")
                .with("table", self.location.url())
                .with("minWriterVersion", version));
        }
        Ok(())
    }

    /// Reads the numbers of ours that the table carries for `pipeline`.
    pub(crate) async fn mark(&self, pipeline: &str, identity: &str) -> Result<Mark> {
        let read = async |what: &str| -> Result<Option<u64>> {
            let snapshot = self.table.snapshot().map_err(|e| self.failed(e))?;
            let found = snapshot
                .transaction_version(self.store.as_ref(), app_id(pipeline, identity, what))
                .await
                .map_err(|e| self.failed(e))?;
            Ok(found.map(i64::cast_unsigned))
        };
        Ok(Mark {
            seq: read("seq").await?.unwrap_or(0),
            fence: read("fence").await?.unwrap_or(0),
            document: read("doc").await?.filter(|name| *name != 0),
            record: read("record").await?.filter(|number| *number != 0),
        })
    }

    /// Returns the files of the latest version that was read.
    pub(crate) fn files(&self) -> Result<Vec<LiveFile>> {
        let snapshot = self.table.snapshot().map_err(|e| self.failed(e))?;
        let mut files = Vec::new();
        for view in snapshot.log_data().iter() {
            if view.deletion_vector_descriptor().is_some() {
                return Err(Error::incident("R0207", "the table has deletion vectors, which are not written here yet")
                    .with("table", self.location.url())
                    .help("fold them in with the writer that made them (OPTIMIZE), then start again"));
            }
            #[allow(deprecated, reason = "the only public way to a file's tags")]
            let add = view.add_action();
            let mut partition: Vec<_> = add.partition_values.into_iter().collect();
            partition.sort();
            files.push(LiveFile {
                name: add.path,
                size: add.size,
                partition,
                run: add.tags.and_then(|tags| tags.get("lakehead.run").cloned().flatten()),
                stats: add.stats.and_then(|stats| serde_json::from_str(&stats).ok()),
            });
        }
        Ok(files)
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
                return Ok(Put::Ours);
            }
            match self.store.read_commit_entry(version).await.map_err(|e| self.failed(e))? {
                Some(found) if found == body => return Ok(Put::Ours),
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

    /// Writes a checkpoint of the latest version that was read; its failure is not a failed commit.
    pub(crate) async fn checkpoint(&mut self) {
        let _ = self.table.update_incremental(None).await;
        if let Err(error) = deltalake::checkpoints::create_checkpoint(&self.table, None).await {
            tracing::warn!(table = %self.location.url(), %error, "a checkpoint could not be written");
        }
    }

    fn failed(&self, error: DeltaTableError) -> Error {
        let text = error.to_string();
        let known = if text.contains("No space left") || text.contains("os error 28") {
            Error::incident("R0401", "the disk of the lake is full")
                .help("free space, then start again: nothing was committed in part")
        } else if text.contains("Permission denied") {
            Error::user("R0402", "the lake's location cannot be written")
                .help("give the user who runs lakehead the right to write there, or change `path` of the connection")
        } else {
            Error::external("R0209", "the table's log could not be read")
        };
        known.with("table", self.location.url()).caused_by(error)
    }
}

/// Returns the appId of one number of ours (delivery 3.2).
pub(crate) fn app_id(pipeline: &str, identity: &str, what: &str) -> String {
    format!("lakehead/{pipeline}/{identity}/{what}")
}

/// Returns the `txn` actions of a mark. `lastUpdated` is left out, so that no reader ever expires them.
pub(crate) fn mark_actions(pipeline: &str, identity: &str, mark: Mark) -> Vec<Value> {
    let numbers = [
        ("seq", mark.seq),
        ("fence", mark.fence),
        ("doc", mark.document.unwrap_or(0)),
        ("record", mark.record.unwrap_or(0)),
    ];
    let action = |(what, number): (&str, u64)| json!({ "txn": { "appId": app_id(pipeline, identity, what), "version": number.cast_signed() } });
    numbers.into_iter().map(action).collect()
}
