//! What the daemon shows of itself: the state of each pipeline, and counters that only rise.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lakehead_core::{Clock, Micros};
use lakehead_engine::{Event, Observer};
use lakehead_plan::Plan;
use lakehead_state::{RunRecord, RunState};
use serde::Serialize;
use serde_json::json;

use crate::freshness::Rows;

/// How a pipeline stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PipelineState {
    /// It waits for its next occasion.
    Waiting,
    /// An occasion has come, and no run may start yet.
    Queued,
    /// A run is on.
    Running,
    /// An attempt failed; the next one follows a pause.
    Retrying,
    /// It is asked to stop.
    Stopping,
    /// It is not started again until its text changes.
    Failed,
    /// It was always on, and its sources ended.
    Ended,
    /// Its trigger says `enabled = false`.
    Disabled,
}

/// What `/status` says of a pipeline.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PipelineStatus {
    /// Its name.
    pub name: String,
    /// How it stands.
    pub state: PipelineState,
    /// Whether it is always on.
    pub continuous: bool,
    /// The id of the run that is on.
    pub run: Option<String>,
    /// Occasions that wait.
    pub waiting: usize,
    /// Failures since the last success.
    pub failures: u32,
    /// The newest run that ended.
    pub last_run: Option<RunRecord>,
    /// The next occasion, RFC 3339, `delay` included.
    pub next_run: Option<String>,
    /// The code of the newest error, until a run ends well.
    pub last_error_code: Option<String>,
    /// Its sentence.
    pub last_error: Option<String>,
}

/// What `/status` says.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    /// Why the directory as it is now was not taken over.
    pub load_error: Option<String>,
    /// Whether the daemon is on its way out.
    pub stopping: bool,
    /// Each pipeline, by name.
    pub pipelines: Vec<PipelineStatus>,
}

/// Counters of one pipeline, since the daemon started.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    rows_read: AtomicU64,
    rows_written: AtomicU64,
    rows_rejected: AtomicU64,
    rounds: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    stopped: AtomicU64,
    /// Registrations in catalogs that were carried out, and that failed.
    registered: AtomicU64,
    not_registered: AtomicU64,
    /// Looks at copies that brought them up to date, and that failed.
    copied: AtomicU64,
    not_copied: AtomicU64,
    /// Copies by table and connection: the monotonic time since which the table has what the copy has not.
    copies: Mutex<BTreeMap<(String, String), Option<Duration>>>,
    /// Wall clock of the last commit, microseconds; 0 before the first.
    last_commit: AtomicI64,
    /// Wall clock of the newest change that was read, microseconds, as its source says; 0 where none says.
    newest_read: AtomicI64,
    /// How old the newest change was when it was committed, microseconds; 0 where nothing more had come since.
    behind: AtomicU64,
    /// Whether the source has nothing more for now.
    level: AtomicBool,
    /// Monotonic time since which something waits to be committed, microseconds plus 1; 0 where nothing does.
    pending_since: AtomicU64,
}

impl Counters {
    pub(crate) fn count_run(&self, state: RunState) {
        match state {
            RunState::Running => return,
            RunState::Succeeded => &self.succeeded,
            RunState::Failed => &self.failed,
            RunState::Stopped => &self.stopped,
        }
        .fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that work waits; the first note since the last commit counts.
    pub(crate) fn note_pending(&self, now: Duration) {
        let micros = u64::try_from(now.as_micros()).unwrap_or(u64::MAX).saturating_add(1);
        let _ = self.pending_since.compare_exchange(0, micros, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Notes that nothing waits.
    pub(crate) fn note_done(&self) {
        self.pending_since.store(0, Ordering::Relaxed);
    }

    /// Notes that everything read is committed: what it was late by is how late the tables are.
    fn note_committed(&self, now: Micros) {
        self.last_commit.store(now, Ordering::Relaxed);
        let newest = self.newest_read.load(Ordering::Relaxed);
        let is_late = newest != 0 && !self.level.load(Ordering::Relaxed);
        let behind = if is_late { u64::try_from(now.saturating_sub(newest)).unwrap_or(0) } else { 0 };
        self.behind.store(behind, Ordering::Relaxed);
        self.note_done();
    }

    /// Returns how far the tables are behind: as late as the last commit was, or as long as work has waited.
    pub(crate) fn lag(&self, now: Duration) -> Duration {
        let behind = Duration::from_micros(self.behind.load(Ordering::Relaxed));
        self.pending_for(now).map_or(behind, |pending| behind.max(pending))
    }

    /// Returns the rows read and set aside since the daemon started.
    pub(crate) fn rows(&self) -> Rows {
        let count = |rows: &AtomicU64| rows.load(Ordering::Relaxed);
        Rows { read: count(&self.rows_read), rejected: count(&self.rows_rejected) }
    }

    /// Notes that a table has something that its copies have not.
    fn note_uncopied(&self, table: &str, now: Duration) {
        for (_, since) in locked(&self.copies).iter_mut().filter(|((copied, _), _)| copied == table) {
            since.get_or_insert(now);
        }
    }

    /// Notes how a copy stands.
    fn note_copy(&self, table: String, to: String, behind_since: Option<Duration>) {
        let mut copies = locked(&self.copies);
        let known = copies.entry((table, to)).or_default();
        *known = behind_since.map(|since| known.unwrap_or(since));
    }

    /// Returns for how long the copy that is the furthest behind has been so; none where there is no copy.
    fn copy_lag(&self, now: Duration) -> Option<Duration> {
        let lag = |since: &Option<Duration>| since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        locked(&self.copies).values().map(lag).max()
    }

    fn pending_for(&self, now: Duration) -> Option<Duration> {
        let since = self.pending_since.load(Ordering::Relaxed).checked_sub(1)?;
        Some(now.saturating_sub(Duration::from_micros(since)))
    }
}

/// Counts the events of one attempt.
pub(crate) struct Counting {
    counters: Arc<Counters>,
    clock: Arc<dyn Clock>,
    /// The dead letters' table as commits name it; its rows are not counted as written.
    dead_letters: Option<String>,
    round: AtomicU64,
    /// Rows read, written and set aside by this attempt.
    rows: [AtomicU64; 3],
}

impl Counting {
    pub(crate) fn new(plan: &Plan, counters: Arc<Counters>, clock: Arc<dyn Clock>) -> Self {
        let dead_letters = plan.dead_letter.as_ref().map(|sink| format!("{}:{}", sink.connection_name, sink.table));
        Self { counters, clock, dead_letters, round: AtomicU64::new(0), rows: Default::default() }
    }

    /// Returns rows read, written and set aside by this attempt.
    pub(crate) fn rows(&self) -> [u64; 3] {
        self.rows.each_ref().map(|rows| rows.load(Ordering::Relaxed))
    }

    /// Returns whether this attempt has committed anything.
    pub(crate) fn committed(&self) -> bool {
        self.round.load(Ordering::Relaxed) > 0
    }

    fn add(&self, column: usize, total: &AtomicU64, rows: u64) {
        self.rows[column].fetch_add(rows, Ordering::Relaxed);
        total.fetch_add(rows, Ordering::Relaxed);
    }
}

impl Observer for Counting {
    fn event(&self, event: Event) {
        let counters = &self.counters;
        match event {
            Event::Read { rows, newest, .. } => {
                self.add(0, &counters.rows_read, rows);
                if let Some(newest) = newest {
                    counters.newest_read.fetch_max(newest, Ordering::Relaxed);
                }
                counters.level.store(false, Ordering::Relaxed);
                counters.note_pending(self.clock.monotonic());
            }
            Event::Committed { round, table, rows, .. } => {
                if self.dead_letters.as_ref() != Some(&table) {
                    self.add(1, &counters.rows_written, rows);
                }
                if self.round.swap(round, Ordering::Relaxed) != round {
                    counters.rounds.fetch_add(1, Ordering::Relaxed);
                }
                counters.note_committed(self.clock.now());
                counters.note_uncopied(&table, self.clock.monotonic());
            }
            Event::Copied { table, to, .. } => {
                counters.copied.fetch_add(1, Ordering::Relaxed);
                counters.note_copy(table, to, None);
            }
            Event::NotCopied { table, to, .. } => {
                counters.not_copied.fetch_add(1, Ordering::Relaxed);
                counters.note_copy(table, to, Some(self.clock.monotonic()));
            }
            Event::Rejected { rows } => self.add(2, &counters.rows_rejected, rows),
            // To have taken the pipeline over is not to have reached its sources.
            Event::Taken { .. }
            | Event::Recovered { .. }
            | Event::Holds { .. }
            | Event::Warned { .. }
            | Event::InputRejected { .. }
            | Event::Evolved { .. }
            | Event::Listed { .. } => {}
            Event::Registered { .. } => drop(counters.registered.fetch_add(1, Ordering::Relaxed)),
            Event::NotRegistered { .. } => drop(counters.not_registered.fetch_add(1, Ordering::Relaxed)),
            Event::Level { .. } => counters.level.store(true, Ordering::Relaxed),
            Event::Idle | Event::CaughtUp => {
                counters.behind.store(0, Ordering::Relaxed);
                counters.note_done();
            }
        }
    }
}

/// Where the daemon writes and the addresses read.
pub struct Board {
    clock: Arc<dyn Clock>,
    /// A continuous pipeline whose work waits longer than this is stalled.
    stalled_after: Duration,
    status: Mutex<Status>,
    counters: Mutex<BTreeMap<String, Arc<Counters>>>,
}

impl std::fmt::Debug for Board {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Board").finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    pub(crate) fn new(clock: Arc<dyn Clock>, stalled_after: Duration) -> Self {
        Self { clock, stalled_after, status: Mutex::default(), counters: Mutex::default() }
    }

    pub(crate) fn show(&self, status: Status) {
        *locked(&self.status) = status;
    }

    /// Returns the counters of a pipeline; they outlive a change of it.
    pub(crate) fn counters(&self, pipeline: &str) -> Arc<Counters> {
        Arc::clone(locked(&self.counters).entry(pipeline.to_owned()).or_default())
    }

    /// Returns how everything stands.
    pub fn status(&self) -> Status {
        locked(&self.status).clone()
    }

    /// Returns why the daemon makes no progress, as JSON; empty where it does.
    pub fn not_ready(&self) -> Vec<serde_json::Value> {
        let (status, now) = (self.status(), self.clock.monotonic());
        let mut reasons = Vec::new();
        if status.stopping {
            reasons.push(json!({ "reason": "stopping" }));
        }
        if let Some(diagnostics) = &status.load_error {
            reasons.push(json!({ "reason": "load_failed", "diagnostics": diagnostics }));
        }
        for pipeline in status.pipelines.iter().filter(|pipeline| pipeline.continuous) {
            let (name, error) = (&pipeline.name, &pipeline.last_error_code);
            let pending = self.counters(name).pending_for(now).filter(|pending| *pending > self.stalled_after);
            if pipeline.state == PipelineState::Failed {
                reasons.push(json!({ "reason": "failed", "pipeline": name, "error": error }));
            } else if let Some(pending) = pending {
                let seconds = pending.as_secs();
                reasons.push(json!({ "reason": "stalled", "pipeline": name, "error": error, "seconds": seconds }));
            }
        }
        reasons
    }

    /// Returns the counters in the text format of Prometheus.
    pub fn metrics(&self) -> String {
        let counters = locked(&self.counters).clone();
        let mut text = String::new();
        let mut family =
            |name: &str, kind: &str, help: &str, values: &dyn Fn(&Counters) -> Vec<(&'static str, f64)>| {
                let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
                for (pipeline, counters) in &counters {
                    let label = label(pipeline);
                    for (state, value) in values(counters) {
                        let _ = writeln!(text, "{name}{{pipeline=\"{label}\"{state}}} {value}");
                    }
                }
            };
        let one = |value: &AtomicU64| vec![("", count(value))];
        family("lakehead_rows_read_total", "counter", "Rows read.", &|c| one(&c.rows_read));
        family("lakehead_rows_written_total", "counter", "Rows committed, dead letters left out.", &|c| {
            one(&c.rows_written)
        });
        family("lakehead_rows_rejected_total", "counter", "Rows set aside.", &|c| one(&c.rows_rejected));
        family("lakehead_rounds_total", "counter", "Rounds committed.", &|c| one(&c.rounds));
        family("lakehead_runs_total", "counter", "Runs that ended, by state.", &|c| {
            vec![
                (",state=\"succeeded\"", count(&c.succeeded)),
                (",state=\"failed\"", count(&c.failed)),
                (",state=\"stopped\"", count(&c.stopped)),
            ]
        });
        family("lakehead_catalog_registrations_total", "counter", "Tables registered in catalogs, by outcome.", &|c| {
            vec![(",state=\"succeeded\"", count(&c.registered)), (",state=\"failed\"", count(&c.not_registered))]
        });
        family("lakehead_copies_total", "counter", "Looks at copies of tables, by outcome.", &|c| {
            vec![(",state=\"succeeded\"", count(&c.copied)), (",state=\"failed\"", count(&c.not_copied))]
        });
        family("lakehead_last_commit_timestamp_seconds", "gauge", "When a table last changed.", &|c| {
            let at = c.last_commit.load(Ordering::Relaxed);
            (at != 0).then(|| ("", seconds(at))).into_iter().collect()
        });
        let now = self.clock.monotonic();
        family("lakehead_lag_seconds", "gauge", "How far the tables are behind their sources.", &|c| {
            vec![("", c.lag(now).as_secs_f64())]
        });
        family("lakehead_copy_lag_seconds", "gauge", "For how long copies have been behind their tables.", &|c| {
            c.copy_lag(now).map(|lag| ("", lag.as_secs_f64())).into_iter().collect()
        });
        text
    }
}

#[allow(clippy::cast_precision_loss, reason = "Prometheus counts in floating point")]
fn count(value: &AtomicU64) -> f64 {
    value.load(Ordering::Relaxed) as f64
}

#[allow(clippy::cast_precision_loss, reason = "Prometheus counts in floating point")]
fn seconds(at: Micros) -> f64 {
    at as f64 / 1e6
}

fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
