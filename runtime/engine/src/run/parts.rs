//! What a run is given: sources, sinks, and the place of its records.

use std::sync::Arc;

use lakehead_core::{RecordStore, Result, Sink, Source};

/// A source and the number of its node.
pub struct SourcePart {
    /// The node's number in the plan.
    pub node: usize,
    /// The source, not yet opened.
    pub source: Box<dyn Source>,
}

/// A sink and the number of its node.
pub struct SinkPart {
    /// The node's number in the plan; `None` for the dead letters.
    pub node: Option<usize>,
    /// The table's name.
    pub table: String,
    /// Whether its commits carry our marks durably, so that a round that touches it alone needs no record.
    pub lake: bool,
    /// The sink, not yet opened.
    pub sink: Box<dyn Sink>,
}

/// What a plan is run with.
pub struct Parts {
    /// Sources.
    pub sources: Vec<SourcePart>,
    /// Sinks.
    pub sinks: Vec<SinkPart>,
    /// Where the epoch chain is kept; `None` where no output can hold one.
    pub records: Option<Arc<dyn RecordStore>>,
    /// Builds the sink of a table that another run of this pipeline wrote, by the name in its record; `None` where the
    /// pipeline writes no such table.
    pub reopen: Option<Reopen>,
}

/// Builds a sink by the name of its table.
pub type Reopen = Box<dyn Fn(&str) -> Result<Option<Box<dyn Sink>>> + Send + Sync>;
