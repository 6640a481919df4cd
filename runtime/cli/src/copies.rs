//! Keeps the copies of a pipeline's tables behind the commits: beside the run, retried on their own, never in a round's way.
//!
//! ```text
//! Event::Committed ─► bell of each copy of the table ─► its task: brings the copy up to the newest version
//!                                                         └─ failed: told, noted in the ledger, tried again later
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lakehead_core::{Clock, CopySpec, Error, Result, TableCopy, format_micros};
use lakehead_engine::{Event, Observer, Stop};
use lakehead_plan::{CopyPlan, Plan, SinkPlan};
use lakehead_state::{CopyRecord, Ledger};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::catalogs::sinks;
use crate::parts::owner;
use crate::verbs::run::Runner;

/// The first pause behind a failure; each next one is twice as long.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause: a place that is back is noticed within it.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// How often a table is looked at without a commit of ours: merges and others write too.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How long a run that was asked to stop waits for its copies; the next run goes on with them.
const STOPPING: Duration = Duration::from_secs(10);

/// Says of a copy how it stands: `copy in dr: version 12, 3 versions behind`.
pub(crate) fn standing(copy: &CopyRecord, version: u64) -> String {
    let mut text = format!("copy in {}: version {}", copy.to, copy.version);
    match version.saturating_sub(copy.version) {
        0 => text.push_str(", up to date"),
        1 => text.push_str(", 1 version behind"),
        many => text.push_str(&format!(", {many} versions behind")),
    }
    if let Some(error) = &copy.error {
        text.push_str(&format!("; {} {error}", format_micros(copy.looked / 1_000_000 * 1_000_000)));
    }
    text
}

/// Keeps the copies of one attempt.
pub(crate) struct Copier {
    bells: Bells,
    tasks: JoinSet<()>,
}

/// Wakes the tasks.
#[derive(Clone)]
pub(crate) struct Bells {
    /// A bell for each copy, with the table as commits name it.
    bells: Arc<Vec<(String, Arc<Notify>)>>,
    closing: Arc<AtomicBool>,
}

impl Bells {
    /// Says that a table has changed.
    pub(crate) fn ring(&self, table: &str) {
        self.bells.iter().filter(|(known, _)| known == table).for_each(|(_, bell)| bell.notify_one());
    }
}

impl Copier {
    /// Starts a task for each copy of a plan whose secrets are filled in; none where nothing is copied.
    pub(crate) fn start(runner: &Runner, plan: &Plan, stop: Stop) -> Result<Self> {
        let closing = Arc::new(AtomicBool::new(false));
        let (mut bells, mut tasks) = (Vec::new(), JoinSet::new());
        for sink in sinks(plan) {
            for copy in &sink.copies {
                let bell = Arc::new(Notify::new());
                let table = format!("{}:{}", sink.connection_name, sink.table);
                let task = Task {
                    copy: build(runner, plan, sink, copy)?,
                    record: CopyRecord {
                        pipeline: plan.name.clone(),
                        connection: sink.connection_name.clone(),
                        table: sink.table.clone(),
                        to: copy.connection_name.clone(),
                        version: 0,
                        looked: 0,
                        error: None,
                    },
                    table: table.clone(),
                    bell: Arc::clone(&bell),
                    closing: Arc::clone(&closing),
                    stop: stop.clone(),
                    clock: Arc::clone(&runner.engine.clock),
                    ledger: Arc::clone(&runner.ledger),
                    observer: Arc::clone(&runner.engine.observer),
                };
                tasks.spawn(task.run());
                bells.push((table, bell));
            }
        }
        Ok(Self { bells: Bells { bells: Arc::new(bells), closing }, tasks })
    }

    /// Returns what the run rings.
    pub(crate) fn bells(&self) -> Bells {
        self.bells.clone()
    }

    /// Brings every copy up to date once more and ends the tasks. What fails is gone on with by the next run.
    pub(crate) async fn close(mut self) {
        self.bells.closing.store(true, Ordering::Release);
        self.bells.bells.iter().for_each(|(_, bell)| bell.notify_one());
        while self.tasks.join_next().await.is_some() {}
    }
}

fn build(runner: &Runner, plan: &Plan, sink: &SinkPlan, copy: &CopyPlan) -> Result<Box<dyn TableCopy>> {
    let role = lakehead_registry::connector(&sink.connector).and_then(|connector| connector.sink);
    let replicate =
        role.and_then(|role| role.replicate).ok_or_else(|| Error::bug("a planned copy has no connector"))?;
    replicate(CopySpec {
        pipeline: owner(&plan.id).to_owned(),
        table: sink.table.clone(),
        connection: sink.connection.clone(),
        to: copy.connection.clone(),
        deletes: copy.deletes,
        root: runner.root.clone(),
        cache: runner.state.clone(),
        clock: Arc::clone(&runner.engine.clock),
    })
}

/// One copy.
struct Task {
    copy: Box<dyn TableCopy>,
    record: CopyRecord,
    table: String,
    bell: Arc<Notify>,
    closing: Arc<AtomicBool>,
    stop: Stop,
    clock: Arc<dyn Clock>,
    ledger: Arc<Ledger>,
    observer: Arc<dyn Observer>,
}

impl Task {
    async fn run(mut self) {
        let mut failures = 0;
        loop {
            let closing = self.closing.load(Ordering::Acquire);
            let (clock, stop, ending) = (Arc::clone(&self.clock), self.stop.clone(), Arc::clone(&self.closing));
            let outcome = tokio::select! {
                outcome = self.copy.catch_up() => outcome,
                () = given_up(clock, stop, ending) => Err(Error::external("R0570", "the run was stopped before the copy was up to date")
                    .help("the next run goes on with it")),
            };
            let failed = outcome.is_err();
            self.tell(outcome);
            if closing || (failed && self.closing.load(Ordering::Acquire)) {
                return;
            }
            failures = if failed { failures + 1 } else { 0 };
            let pause = match failures {
                0 => LOOK_EVERY,
                _ => (PAUSE * 2_u32.saturating_pow(failures - 1)).min(PAUSE_MAX),
            };
            tokio::select! {
                () = self.bell.notified(), if failures == 0 => {}
                () = self.clock.sleep(pause) => {}
                () = closed(&self.closing, &self.bell), if failures > 0 => {}
            }
        }
    }

    fn tell(&mut self, outcome: Result<Option<lakehead_core::Copied>>) {
        let (table, to) = (self.table.clone(), self.record.to.clone());
        let event = match outcome {
            Ok(None) => return,
            Ok(Some(copied)) => {
                (self.record.version, self.record.error) = (copied.version, None);
                Event::Copied { table, to, copied }
            }
            Err(error) => {
                tracing::info!(%table, %to, %error, "a copy is not up to date");
                let text = format!("{}: {}", error.code(), error.message());
                self.record.error = Some(text.clone());
                Event::NotCopied { table, to, error: text }
            }
        };
        self.record.looked = self.clock.now();
        if let Err(error) = self.ledger.record_copy(&self.record) {
            tracing::error!(%error, "the ledger could not be written");
        }
        self.observer.event(event);
    }
}

/// Ends once the run is over, asked to stop, and its copies have had their time.
async fn given_up(clock: Arc<dyn Clock>, mut stop: Stop, closing: Arc<AtomicBool>) {
    if stop.wait_for(|stopped| *stopped).await.is_err() {
        // Nobody can ask any more.
        std::future::pending::<()>().await;
    }
    while !closing.load(Ordering::Acquire) {
        clock.sleep(PAUSE).await;
    }
    clock.sleep(STOPPING).await;
}

/// Ends once the run is over; a table that changes meanwhile does not end the pause behind a failure.
async fn closed(closing: &AtomicBool, bell: &Notify) {
    while !closing.load(Ordering::Acquire) {
        bell.notified().await;
    }
}
