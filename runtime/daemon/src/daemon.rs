//! The loop: what is due starts, what ends is written down, what changed is taken over.
//!
//! One task owns everything here. Runs, looks at the directory, looks for arrivals and alerts are tasks of their own,
//! joined by the loop, so nothing outside can hold it up.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use lakehead_core::{Arrived, Clock, Error, Micros, Result, Settings, format_micros};
use lakehead_engine::Summary;
use lakehead_plan::{Plan, When};
use lakehead_state::Ledger;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};

use crate::board::{Board, Status};
use crate::host::{Host, LeftOut, Notice};
use crate::http;
use crate::pipeline::{Phase, Pipeline};

mod directory;
mod freshness;
mod runs;
#[cfg(test)]
mod tests;

use directory::Directory;

/// Looks, loads and alerts that may be on at once; an alert beyond is only logged.
const CHORES_MAX: usize = 256;

/// How long the daemon waits for alerts that are on their way when everything has stopped.
const FAREWELL: Duration = Duration::from_secs(10);

/// Bounds of a daemon.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Runs at once, those of continuous pipelines left out.
    pub batch_runs_max: usize,
    /// Pause between two looks at the directory; also the longest sleep, so that a clock that is set is noticed.
    pub directory_poll: Duration,
    /// Pause between two looks for arrivals; longer where a look takes long, see [`Limits::arrival_share`].
    pub arrival_poll: Duration,
    /// Pause between two looks for intervals that have gained inputs since they were read.
    pub late_poll: Duration,
    /// Looks for arrivals take at most one part in so many of the time: listing a large bucket costs requests.
    pub arrival_share: u32,
    /// A continuous pipeline whose work waits for longer than this is not ready.
    pub stalled_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch_runs_max: 4,
            directory_poll: Duration::from_secs(2),
            arrival_poll: Duration::from_secs(5),
            late_poll: Duration::from_secs(60),
            arrival_share: 20,
            stalled_after: Duration::from_secs(15 * 60),
        }
    }
}

/// What may be asked of a daemon that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Stop every run at its next consistent point and return; asked twice, drop what is on.
    Stop,
    /// Load the directory now.
    Reload,
}

/// How a daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every run reached a consistent point.
    Drained,
    /// Runs were dropped; each goes on from its last complete round.
    Aborted,
}

/// Work beside the runs.
enum Chore {
    Looked(directory::Look),
    Arrivals { plan: Arc<Plan>, found: Result<Arrived>, took: Duration },
    Alerted { pipeline: String, sent: Result<()> },
}

/// Runs the pipelines of one directory as their triggers say.
pub struct Daemon {
    host: Arc<dyn Host>,
    clock: Arc<dyn Clock>,
    ledger: Arc<Ledger>,
    limits: Limits,
    board: Arc<Board>,
    pipelines: BTreeMap<String, Pipeline>,
    runs: JoinSet<Result<Summary>>,
    /// Which pipeline a run is of.
    running: HashMap<Id, String>,
    chores: JoinSet<Chore>,
    directory: Directory,
    stopping: bool,
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Daemon").field("pipelines", &self.pipelines.keys()).finish_non_exhaustive()
    }
}

impl Daemon {
    /// Creates a daemon that holds nothing yet.
    pub fn new(host: Arc<dyn Host>, clock: Arc<dyn Clock>, ledger: Arc<Ledger>, limits: Limits) -> Self {
        let board = Arc::new(Board::new(Arc::clone(&clock), limits.stalled_after));
        Self {
            host,
            clock,
            ledger,
            limits,
            board,
            pipelines: BTreeMap::new(),
            runs: JoinSet::new(),
            running: HashMap::new(),
            chores: JoinSet::new(),
            directory: Directory::default(),
            stopping: false,
        }
    }

    /// Returns what the daemon shows of itself.
    pub fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// Runs until asked to stop, or for ever where nobody can ask any more.
    pub async fn run(mut self, mut requests: mpsc::Receiver<Request>) -> Ended {
        let mut heard = true;
        loop {
            let pause = self.turn();
            if self.stopping && self.runs.is_empty() {
                self.farewell().await;
                return Ended::Drained;
            }
            let clock = Arc::clone(&self.clock);
            tokio::select! {
                biased;
                request = requests.recv(), if heard => match request {
                    None => heard = false,
                    Some(Request::Reload) => self.directory.load_at_once(),
                    Some(Request::Stop) if self.stopping => {
                        self.abort().await;
                        return Ended::Aborted;
                    }
                    Some(Request::Stop) => self.stop(),
                },
                Some(joined) = self.runs.join_next_with_id() => self.run_joined(joined),
                Some(joined) = self.chores.join_next() => self.chore_joined(joined),
                () = clock.sleep(pause) => {}
            }
        }
    }

    /// Does everything that is due; returns how long nothing more will be.
    fn turn(&mut self) -> Duration {
        let (now, ticks) = (self.clock.now(), self.clock.monotonic());
        if !self.stopping {
            self.look_at_directory(ticks);
            self.take_due(now);
            self.look_for_arrivals(ticks);
            self.start_ready(now, ticks);
            self.look_after_freshness(ticks);
        }
        self.show();
        self.pause(now, ticks)
    }

    /// Asks every run to stop at its next consistent point; nothing starts any more.
    fn stop(&mut self) {
        self.stopping = true;
        for pipeline in self.pipelines.values() {
            if let Phase::Running { stop, .. } = &pipeline.phase {
                stop.send_replace(true);
            }
        }
        self.host.notice(&Notice::Stopping { runs: self.runs.len() });
    }

    async fn abort(&mut self) {
        self.runs.shutdown().await;
        self.chores.shutdown().await;
    }

    /// Lets alerts that are on their way arrive, but not for ever.
    async fn farewell(&mut self) {
        let clock = Arc::clone(&self.clock);
        let patience = clock.sleep(FAREWELL);
        tokio::pin!(patience);
        while !self.chores.is_empty() {
            tokio::select! {
                Some(joined) = self.chores.join_next() => self.chore_joined(joined),
                () = &mut patience => break,
            }
        }
        self.chores.shutdown().await;
        self.show();
    }

    fn show(&self) {
        self.board.show(Status {
            load_error: self.directory.error().map(str::to_owned),
            stopping: self.stopping,
            pipelines: self.pipelines.values().map(Pipeline::status).collect(),
        });
    }

    fn pause(&self, now: Micros, ticks: Duration) -> Duration {
        let mut pause = self.limits.directory_poll;
        for pipeline in self.pipelines.values() {
            if let Phase::Retrying { until, .. } = pipeline.phase {
                pause = pause.min(until.saturating_sub(ticks));
            }
            // What is ready and waits for a place starts when a run ends, not when time passes.
            let next = pipeline.next_occasion().filter(|next| *next > now);
            if let Some(micros) = next.and_then(|next| u64::try_from(next.saturating_sub(now)).ok()) {
                pause = pause.min(Duration::from_micros(micros));
            }
        }
        pause.max(Duration::from_millis(1))
    }

    /// Takes the occasions of every schedule.
    fn take_due(&mut self, now: Micros) {
        for name in self.names() {
            let Some(pipeline) = self.pipelines.get_mut(&name) else { continue };
            if pipeline.replacement.is_some() {
                continue;
            }
            let left_out = pipeline.take_due(now);
            let moved = std::mem::take(&mut pipeline.moved).then_some(pipeline.last);
            if let Some(last) = moved {
                self.note_fired(&name, last);
            }
            for (first, last, why) in left_out {
                self.left_out(&name, first, last, why);
            }
        }
    }

    /// Says that occasions became no runs, and sees to it that no restart takes them for missed.
    fn left_out(&mut self, name: &str, first: Micros, last: Micros, why: LeftOut) {
        self.note_fired(name, last);
        let (first, last) = (format_micros(first), format_micros(last));
        let text = match why {
            LeftOut::Missed => format!("pipeline `{name}` missed its runs from {first} to {last}"),
            LeftOut::Overlap => format!("pipeline `{name}` left out its run of {last}: the one before is still on"),
            LeftOut::QueueFull => format!("pipeline `{name}` left out its runs from {first} to {last}: too many wait"),
        };
        self.host.notice(&Notice::LeftOut { pipeline: name.to_owned(), first, last, why });
        self.alert(name, &text, |settings| settings.bool_or("missed", false));
    }

    fn note_fired(&self, name: &str, instant: Micros) {
        if let Err(error) = self.ledger.set_fired(name, instant) {
            tracing::error!(pipeline = name, %error, "an occasion could not be written down");
        }
    }

    fn look_for_arrivals(&mut self, ticks: Duration) {
        for pipeline in self.pipelines.values_mut() {
            let looks = pipeline.plan.trigger.when == When::Arrival || pipeline.records_inputs();
            let waits = looks
                && pipeline.plan.trigger.enabled
                && matches!(pipeline.phase, Phase::Idle)
                && pipeline.waiting.is_empty();
            if !waits || pipeline.look.is_none_or(|look| look > ticks) || self.chores.len() >= CHORES_MAX {
                continue;
            }
            pipeline.look = None;
            let (host, plan, clock) = (Arc::clone(&self.host), Arc::clone(&pipeline.plan), Arc::clone(&self.clock));
            self.chores.spawn(async move {
                let began = clock.monotonic();
                let found = host.arrivals(&plan).await;
                let took = clock.monotonic().saturating_sub(began);
                Chore::Arrivals { plan, found, took }
            });
        }
    }

    fn arrivals_seen(&mut self, plan: &Plan, found: Result<Arrived>, took: Duration) {
        let (now, ticks) = (self.clock.now(), self.clock.monotonic());
        let Some(pipeline) = self.pipelines.get_mut(&plan.name) else { return };
        let by_arrival = pipeline.plan.trigger.when == When::Arrival;
        let pause = if by_arrival { self.limits.arrival_poll } else { self.limits.late_poll };
        pipeline.look = Some(ticks + pause.max(took * self.limits.arrival_share));
        let settle = pipeline.plan.trigger.within;
        match found {
            Ok(Arrived { fingerprint, late }) => {
                pipeline.late.seen(late);
                let starts = by_arrival && pipeline.arrivals.seen(fingerprint, settle, ticks);
                if let Some(why) = starts.then(|| pipeline.take_occasion(now, None)).flatten() {
                    self.left_out(&plan.name, now, now, why);
                }
            }
            Err(error) => {
                tracing::warn!(pipeline = %plan.name, %error, "arrivals could not be looked for");
                pipeline.last_error = Some((error.code().to_owned(), error.message().to_owned()));
            }
        }
    }

    /// Sends an alert to those who want it.
    fn alert(&mut self, name: &str, text: &str, wants: impl Fn(&Settings) -> bool) {
        let Some(pipeline) = self.pipelines.get(name) else { return };
        for alert in pipeline.plan.alerts.iter().filter(|alert| wants(&alert.settings)) {
            if self.chores.len() >= CHORES_MAX {
                tracing::error!(pipeline = name, text, "an alert was not sent: too many are on their way");
                return;
            }
            let (host, plan, alert) = (Arc::clone(&self.host), Arc::clone(&pipeline.plan), alert.clone());
            let text = text.to_owned();
            self.chores.spawn(async move {
                let sent = host.alert(&plan, &alert, &text).await;
                Chore::Alerted { pipeline: plan.name.clone(), sent }
            });
        }
    }

    fn chore_joined(&mut self, joined: std::result::Result<Chore, JoinError>) {
        match joined {
            Ok(Chore::Looked(look)) => self.looked(look),
            Ok(Chore::Arrivals { plan, found, took }) => self.arrivals_seen(&plan, found, took),
            Ok(Chore::Alerted { sent: Ok(()), .. }) => {}
            Ok(Chore::Alerted { pipeline, sent: Err(error) }) => {
                self.host.notice(&Notice::AlertFailed { pipeline, error: sentence(&error) });
            }
            Err(error) => {
                tracing::error!(%error, "a look or an alert panicked");
                // Whichever it was, everybody may look again.
                let ticks = self.clock.monotonic();
                self.directory.look_again(ticks + self.limits.directory_poll);
                for pipeline in self.pipelines.values_mut() {
                    pipeline.look.get_or_insert(ticks + self.limits.arrival_poll);
                }
            }
        }
    }

    fn names(&self) -> Vec<String> {
        self.pipelines.keys().cloned().collect()
    }
}

/// An error for a line: code and sentence, without values.
fn sentence(error: &Error) -> String {
    format!("{}: {}", error.code(), error.message())
}

/// Runs a daemon and answers its addresses, until it ends.
///
/// # Errors
/// Where the listener breaks; every run is dropped then, and goes on from its last complete round when started again.
pub async fn serve(daemon: Daemon, listener: TcpListener, requests: mpsc::Receiver<Request>) -> Result<Ended> {
    let (board, host) = (daemon.board(), Arc::clone(&daemon.host));
    let tables: http::Tables = Arc::new(move || host.tables());
    tokio::select! {
        ended = daemon.run(requests) => Ok(ended),
        broken = http::serve(listener, board, tables) => broken.and(Err(Error::bug("the listener ended by itself"))),
    }
}
