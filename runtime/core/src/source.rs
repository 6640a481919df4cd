//! The contract of a source.

use arrow_array::RecordBatch;
use async_trait::async_trait;

use crate::{Checkpoint, Result};

/// How much one call of [`Source::next`] may return at most.
#[derive(Clone, Copy, Debug)]
pub struct BatchBudget {
    /// Rows of one batch.
    pub rows_max: usize,
    /// Bytes of one batch in memory, as far as the source can tell while it fills it.
    pub bytes_max: usize,
}

impl BatchBudget {
    /// Takes the first rows that fit out of a batch that waits, at least one, and leaves the others there.
    pub fn take_from(&self, waiting: &mut Option<RecordBatch>) -> Option<RecordBatch> {
        let batch = waiting.take()?;
        let rows = batch.num_rows();
        let row_bytes = (batch.get_array_memory_size() / rows.max(1)).max(1);
        let taken = rows.min(self.rows_max.min(self.bytes_max / row_bytes).max(1));
        *waiting = (taken < rows).then(|| batch.slice(taken, rows - taken));
        Some(batch.slice(0, taken))
    }
}

impl Default for BatchBudget {
    /// 64 Ki rows or 16 MiB: large enough to amortise the work per batch, small enough that four fit any budget.
    fn default() -> Self {
        Self { rows_max: 65_536, bytes_max: 16 << 20 }
    }
}

/// Rows that changed in one table, in source order: the table's columns, then any reserved columns.
#[derive(Clone, Debug)]
pub struct ChangeBatch {
    /// The source's name of the table, as in `SourceSpec::tables`.
    pub table: String,
    /// The rows. The schema is the table's, as last announced, plus reserved columns.
    pub rows: RecordBatch,
}

/// What a source has to say next.
#[derive(Clone, Debug)]
pub enum SourceEvent {
    /// Rows changed.
    Changes(ChangeBatch),
    /// A table was emptied, in order with the changes around it.
    Truncate {
        /// The table's name.
        table: String,
    },
    /// The columns of a table changed; the batches that follow have this schema.
    Schema {
        /// The table's name.
        table: String,
        /// All columns it has now.
        schema: arrow_schema::SchemaRef,
    },
    /// Everything up to this checkpoint has been delivered, and it is a consistent point: no source transaction is cut
    /// in two there. A round may end only here.
    Progress(Checkpoint),
    /// Nothing more is waiting in the source at this moment; later events may follow. Comes after a `Progress`.
    CaughtUp,
    /// The source is bounded and at its end. The last event before it is a `Progress`.
    End,
    /// An input could not be read and is set aside; the run goes on with the others (a corrupt file, say).
    Rejected {
        /// What was set aside: a file name.
        origin: String,
        /// Why, in a sentence without row values.
        reason: String,
    },
    /// An input came after its interval was closed: what the interval was made of is gone, so that it cannot be made
    /// again. It is not read.
    WindowClosed {
        /// The input: a file name.
        origin: String,
        /// The time that its name stands for, half-open.
        interval: (crate::Micros, crate::Micros),
    },
    /// Rows that do not fit the declared columns. Each is the raw text with the reason, for the dead letters.
    Misfits {
        /// The table's name.
        table: String,
        /// (raw row as JSON text, reason, origin) per row.
        rows: Vec<(String, String, String)>,
    },
}

/// Reads a source from a position on.
///
/// # Laws (each is a function in `lakehead-conformance`)
///
/// 1. **Resume**: opened at a checkpoint it emitted as `Progress`, a source delivers exactly the changes that follow
///    it: none twice, none left out. Opened at an empty checkpoint, it starts at the beginning its settings declare.
/// 2. **Order**: changes of one key come in the order the source committed them.
/// 3. **Whole transactions**: between two `Progress` events lie whole source transactions.
///    Rows that a snapshot read (`r`) end with a `Progress`: one lies between them and the first change.
/// 4. **Cancel-safety**: dropping the future of `next` loses nothing; the next call goes on.
/// 5. **Acknowledge**: after `acknowledge(c)`, and only then, the source system may forget what lies before `c`. The
///    source never moves it on its own. `acknowledge` is idempotent.
/// 6. **No guess**: a gap between the checkpoint and what the system still holds is an incident, never a jump.
/// 7. **Bounded**: one event holds at most the budget, plus one row.
#[async_trait]
pub trait Source: Send {
    /// Connects and positions the source behind `from`. Called once.
    async fn open(&mut self, from: &Checkpoint) -> Result<()>;

    /// Returns the next event; waits where there is none yet. Cancel-safe.
    async fn next(&mut self, budget: BatchBudget) -> Result<SourceEvent>;

    /// Tells the source that everything up to `durable` is committed in the lake.
    async fn acknowledge(&mut self, durable: &Checkpoint) -> Result<()>;

    /// Ends cleanly: connections closed, nothing acknowledged that was not.
    async fn close(&mut self) -> Result<()>;
}
