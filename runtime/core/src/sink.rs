//! The contract of a sink: one lake table.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Listing, Micros, Result};

/// What the table itself calls one of its states.
pub type TableVersion = u64;

/// The numbers of ours that one table commit carries (delivery 3.2 and 3.12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The number of the pipeline's round; rises in each table.
    pub seq: u64,
    /// The generation of the daemon that wrote it; higher wins.
    pub fence: u64,
    /// The name of the position document, where the round touched this table alone.
    pub document: Option<u64>,
    /// The number of the epoch record, where the round touched several outputs.
    pub record: Option<u64>,
}

/// What an opened table says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkPosition {
    /// The table's own identity, new when it is dropped and made again.
    pub identity: String,
    /// The version that the fence commit made.
    pub version: TableVersion,
    /// What the last commit of this pipeline carried; zeroes where there is none.
    pub mark: Mark,
}

/// A round's rows for one table: staged, closed, durable, not yet visible. Survives the process, so that a restart
/// commits the same files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prepared {
    /// The table's name.
    pub table: String,
    /// The table's identity when the files were staged.
    pub identity: String,
    /// Rows that the round brings, deletes included.
    pub rows: u64,
    /// Bytes of the staged files.
    pub bytes: u64,
    /// What the sink needs to commit: file names, sizes, statistics. Only the sink reads it.
    pub payload: serde_json::Value,
}

/// What a commit attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The rows are in this version.
    Committed(TableVersion),
    /// The table had this round already; nothing was changed.
    AlreadyCommitted,
    /// Another daemon with this higher fence owns the table; nothing was changed, and nothing ever will be.
    Fenced(u64),
}

/// How long [`Sink::tend`] may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Another round may come: what is finished is taken over, what is worth it is begun, nothing is waited for.
    Between,
    /// The run ends: what is worth doing is done before the call returns.
    ToEnd,
}

/// What a table holds, and what keeping it has cost since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFigures {
    /// Live files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rows that readers see.
    pub rows: u64,
    /// Rows of live files that are marked as gone.
    pub rows_gone: u64,
    /// Bytes of data that rounds wrote.
    pub payload_bytes: u64,
    /// Bytes of log entries and deletion vectors that rounds wrote beside it.
    pub overhead_bytes: u64,
    /// Objects that rounds wrote and looked at in the store: what it bills them for.
    #[serde(default)]
    pub requests: u64,
    /// Bytes that merging files wrote.
    pub merged_bytes: u64,
    /// When files that no version needs are looked for again.
    pub sweep_at: Option<Micros>,
}

/// Writes one table.
///
/// # Laws (each is a function in `lakehead-conformance`)
///
/// 1. **Invisible until commit**: staged rows are in no version of the table, whatever happens to the process.
/// 2. **Atomic**: `commit` makes all rows of a round and its [`Mark`] visible in one version, or nothing.
/// 3. **Once**: committing a round again, from any process, returns `AlreadyCommitted`.
/// 4. **Fenced**: after `open(f)` returned, no commit with a lower fence succeeds, not even one that was under way.
/// 5. **Unclear answers are resolved** by reading the table, never by assuming; files of an attempt whose outcome is
///    unknown are never deleted.
/// 6. **Prepared survives**: a `Prepared` that was written down and read back commits the same rows.
/// 7. **Meaning of changes**: in `upsert`, a row replaces the row of its key, `d` removes it, a column named in
///    `_unchanged` keeps the table's value; within a round the last change of a key wins, in staging order.
/// 8. **Meaning of versions**: in `scd2`, each change that changes something opens a version of its key and closes the one
///    before, in staging order; the intervals of a key never overlap, and at most one version is current. `truncate`
///    closes versions and drops none.
/// 9. **Letting go changes nothing**: a round of which rows were let go of (`let_go`) comes to the same.
#[async_trait]
pub trait Sink: Send {
    /// Creates the table where it is missing, commits `fence`, and returns what the table says. A higher fence in the
    /// table is an error (`R0201`).
    async fn open(&mut self, fence: u64) -> Result<SinkPosition>;

    /// Takes over a schema with added columns, for the rows staged from now on. A dropped, renamed or retyped column is
    /// an error (`R0202`) that stops the table and loses nothing.
    async fn evolve(&mut self, schema: &SchemaRef) -> Result<()>;

    /// Takes rows of the open round: data columns as in `SinkSpec::schema`, then reserved columns.
    async fn stage(&mut self, rows: RecordBatch) -> Result<()>;

    /// Empties the table, in order with the staged rows: those before it are dropped, those after it stay. In `scd2` it
    /// is a delete of every key that no row behind it brings back; a snapshot's row (`r`) that is as the current version
    /// leaves that version as it is.
    async fn truncate(&mut self) -> Result<()>;

    /// Closes what was staged; `None` where there is nothing to commit. The staged files are durable when it returns.
    async fn prepare(&mut self) -> Result<Option<Prepared>>;

    /// Commits a prepared round, of this process or of an earlier one.
    async fn commit(&mut self, prepared: &Prepared, mark: Mark) -> Result<Outcome>;

    /// Drops what was staged and not prepared.
    async fn abort(&mut self) -> Result<()>;

    /// Looks after the table between two rounds: merges small files, removes what no version needs. Called after the
    /// unfinished round of an earlier process, if any, was committed, and never while a round is staged and prepared. It
    /// changes no row, never fails or delays a round, and tells of its own troubles.
    async fn tend(&mut self, _patience: Patience) {}

    /// Returns about how many bytes of memory the staged rows take that [`Sink::let_go`] could free.
    fn held_bytes(&self) -> u64 {
        0
    }

    /// Frees memory that staged rows take, by way of files; the round goes on. Asked of the sink that holds the most,
    /// when those of a pipeline hold too much together.
    async fn let_go(&mut self) -> Result<()> {
        Ok(())
    }

    /// Returns what the table holds, where that is known without reading it.
    fn figures(&self) -> Option<TableFigures> {
        None
    }

    /// Returns what a catalog must know of the table as it was last committed or opened, where that is known without
    /// reading it; `None` for what no catalog lists. Asked after every commit, and after [`Sink::tend`].
    fn listing(&self) -> Option<Arc<Listing>> {
        None
    }
}
