//! What a run tells those who watch it.

use std::sync::Arc;

use lakehead_core::{Copied, Listing, Micros, TableFigures, TableVersion};
use serde::Serialize;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run owns the pipeline, under this fence.
    Taken {
        /// The generation.
        fence: u64,
    },
    /// An unfinished round of an earlier process was committed.
    Recovered {
        /// Its number.
        round: u64,
    },
    /// Rows came from a source.
    Read {
        /// The source's node.
        node: String,
        /// How many.
        rows: u64,
        /// Their bytes in memory.
        bytes: u64,
        /// When the source committed the newest of them, microseconds UTC; `None` where it does not say.
        newest: Option<Micros>,
    },
    /// A table has a new version.
    Committed {
        /// The round.
        round: u64,
        /// The table.
        table: String,
        /// What the table calls the version.
        version: TableVersion,
        /// Rows that the round brought, deletes included.
        rows: u64,
        /// Bytes of the files written.
        bytes: u64,
    },
    /// What a table holds now.
    Holds {
        /// The table.
        table: String,
        /// Its figures.
        figures: TableFigures,
    },
    /// What a catalog must know of a table, where it has changed since it was last told.
    Listed {
        /// The table.
        table: String,
        /// How the catalog lists it.
        #[serde(skip)]
        listing: Arc<Listing>,
    },
    /// A catalog lists a table as it is.
    Registered {
        /// The catalog.
        catalog: String,
        /// The table, as the catalog names it.
        table: String,
        /// What was done.
        change: String,
    },
    /// A catalog does not list a table as it is: it is tried again, and the data is not touched by it.
    NotRegistered {
        /// The catalog.
        catalog: String,
        /// The table, as the catalog names it.
        table: String,
        /// Why: code and sentence.
        error: String,
    },
    /// A copy of a table is up to date.
    Copied {
        /// The table.
        table: String,
        /// The connection that keeps the copy.
        to: String,
        /// Its version, and what was copied or removed to get there.
        copied: Copied,
    },
    /// A copy of a table could not be brought up to date: it is tried again, and the table is not touched by it.
    NotCopied {
        /// The table.
        table: String,
        /// The connection that keeps the copy.
        to: String,
        /// Why: code and sentence.
        error: String,
    },
    /// Rows were set aside.
    Rejected {
        /// How many.
        rows: u64,
    },
    /// A rule that only warns was broken.
    Warned {
        /// The rule.
        expectation: String,
        /// By how many rows.
        rows: u64,
    },
    /// An input was set aside whole.
    InputRejected {
        /// Its name.
        origin: String,
        /// Why.
        reason: String,
    },
    /// A table's columns changed.
    Evolved {
        /// The source's table.
        table: String,
        /// The added columns.
        added: Vec<String>,
    },
    /// The position moved without rows, and was written down.
    Idle,
    /// A source has nothing more for now; what it gave may not be in the lake yet.
    Level {
        /// The source's node.
        node: String,
    },
    /// Everything that the sources had is in the lake.
    CaughtUp,
}

/// Watches a run. Calls must return at once.
pub trait Observer: Send + Sync {
    /// Takes one event.
    fn event(&self, event: Event);
}

/// Watches nothing.
#[derive(Debug)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _event: Event) {}
}
