//! What the daemon needs of the program around it.

use std::sync::Arc;

use async_trait::async_trait;
use lakehead_core::{Arrived, Result, RunContext};
use lakehead_engine::{Observer, Stop, Summary};
use lakehead_plan::{AlertPlan, Plan};
use lakehead_state::RunState;
use serde::Serialize;

/// Loads, runs, looks and tells, for a [`crate::Daemon`].
#[async_trait]
pub trait Host: Send + Sync + 'static {
    /// Reads and checks the whole directory. Blocks.
    ///
    /// # Errors
    /// The diagnostics as people read them; nothing of the directory is taken over then.
    fn load(&self) -> Result<Vec<Plan>, String>;

    /// Returns a number that changes when a file does that [`Host::load`] reads. Blocks, shortly.
    fn fingerprint(&self) -> u64;

    /// Runs one attempt of a plan, until its sources end or `stop` is set. Retries are not its business.
    async fn run(&self, plan: &Plan, run: RunContext, stop: Stop, observer: Arc<dyn Observer>) -> Result<Summary>;

    /// Looks for objects that an `arrival` pipeline reads, and for intervals that have gained some since they were read.
    async fn arrivals(&self, plan: &Plan) -> Result<Arrived>;

    /// Sends an alert.
    async fn alert(&self, plan: &Plan, alert: &AlertPlan, text: &str) -> Result<()>;

    /// Returns the tables of the catalog beside the ledger, as its HTTP interface shows them. Blocks, shortly.
    fn tables(&self) -> Result<Vec<serde_json::Value>> {
        Ok(Vec::new())
    }

    /// Shows what happened. Returns at once.
    fn notice(&self, notice: &Notice);
}

/// Why an occasion did not become a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftOut {
    /// Its time passed while nobody could start it, and `catchup` does not make up for it.
    Missed,
    /// A run was on, and the trigger says `overlap = skip`.
    Overlap,
    /// As many occasions wait as may.
    QueueFull,
}

/// What a change of the directory did to a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It is new.
    Added,
    /// Its text is another.
    Changed,
    /// It is gone.
    Removed,
}

/// One thing that happened, for a line.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Notice {
    /// The directory was taken over as a whole.
    Loaded {
        /// Pipelines it holds.
        pipelines: usize,
    },
    /// The directory has mistakes; what ran before goes on.
    LoadFailed {
        /// The diagnostics as people read them.
        diagnostics: String,
    },
    /// A pipeline came, changed or went.
    PipelineChanged {
        /// Its name.
        pipeline: String,
        /// How.
        change: Change,
    },
    /// A run started.
    RunStarted {
        /// The pipeline.
        pipeline: String,
        /// The run's id.
        run: String,
        /// Attempts before this one.
        retries: u32,
    },
    /// A run ended.
    RunEnded {
        /// The pipeline.
        pipeline: String,
        /// The run's id.
        run: String,
        /// How.
        state: RunState,
        /// Rows read.
        rows_read: u64,
        /// Rows written, dead letters left out.
        rows_written: u64,
        /// Rows set aside.
        rows_rejected: u64,
        /// Code and sentence, where it failed.
        error: Option<String>,
    },
    /// An attempt failed and is made again.
    RunRetried {
        /// The pipeline.
        pipeline: String,
        /// The run's id.
        run: String,
        /// Code and sentence.
        error: String,
        /// The pause before the next attempt.
        pause_seconds: f64,
    },
    /// Occasions did not become runs.
    LeftOut {
        /// The pipeline.
        pipeline: String,
        /// The first of them, RFC 3339.
        first: String,
        /// The last of them.
        last: String,
        /// Why.
        why: LeftOut,
    },
    /// An alert could not be sent.
    AlertFailed {
        /// The pipeline.
        pipeline: String,
        /// Code and sentence.
        error: String,
    },
    /// Every run was asked to stop at its next consistent point.
    Stopping {
        /// Runs that are on.
        runs: usize,
    },
}
