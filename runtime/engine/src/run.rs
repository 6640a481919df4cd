//! The loop: take, fence, recover, then round after round.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use lakehead_core::{
    Checkpoint, Clock, Error, Listing, Patience, Result, RunContext, Sink, SourceEvent, TableFigures, failpoint,
};
use lakehead_plan::{NodeKind, Plan, SinkPlan, SourcePlan, StreamId};
use lakehead_sql::{Parameters, Sql};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::chain::Progress;
use crate::event::{Event, Observer};
use crate::fate::rejected_as_deletes;
use crate::flow::{Flow, Output};
use crate::reject::{Letters, Rejected};
use crate::source_task::{SourceTask, gone};
use held::Held;
use pace::Pace;
use published::Published;

mod commit;
mod held;
mod inputs;
mod pace;
mod parts;
mod published;
mod recover;
mod tables;

pub use parts::{Parts, Reopen, SinkPart, SourcePart};

/// What every run shares.
#[derive(Clone)]
pub struct Engine {
    /// Reads and runs SQL.
    pub sql: Arc<Sql>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Watches.
    pub observer: Arc<dyn Observer>,
}

/// When a round ends.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Rows of a round.
    pub rows: u64,
    /// Bytes of a round in memory, before encoding.
    pub bytes: u64,
    /// Age of a round, where the file says nothing (`commit_every`); it grows up to eight times where what commits write
    /// beside their rows outweighs these.
    pub age: Duration,
    /// Pause between two records of a position that moved without rows.
    pub idle: Duration,
    /// Bytes that a pipeline which needs its whole input may hold.
    pub whole_input_bytes: u64,
    /// Bytes that staged rows of all tables may take in memory together, on their way to files: a transaction that
    /// is larger than a round goes on, and the largest table lets go first.
    pub held_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rows: 1_000_000,
            bytes: 128 << 20,
            age: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            whole_input_bytes: 4 << 30,
            held_bytes: 128 << 20,
        }
    }
}

/// When a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// When its sources end, or when it is stopped.
    Stopped,
    /// When everything that the sources had at the start is in the lake.
    CaughtUp,
    /// When the tables are looked after; no source is read.
    Tended,
}

/// A request to stop, heard at the next consistent point.
pub type Stop = watch::Receiver<bool>;

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Summary {
    /// Rounds committed.
    pub rounds: u64,
    /// Rows read.
    pub rows_read: u64,
    /// Rows written, dead letters left out.
    pub rows_written: u64,
    /// Rows set aside.
    pub rows_rejected: u64,
    /// Inputs set aside whole.
    pub inputs_rejected: u64,
    /// Each table's newest version.
    pub tables: BTreeMap<String, u64>,
    /// Whether it was stopped before its end.
    pub stopped: bool,
}

/// One source while the run is on.
struct Reading {
    node: String,
    plan: SourcePlan,
    task: SourceTask,
    boundary: bool,
    caught_up: bool,
    ended: bool,
}

/// One run.
struct Run<'a> {
    engine: &'a Engine,
    flow: Flow,
    run: RunContext,
    limits: Limits,
    pace: Pace,
    chain: Option<crate::Chain>,
    sinks: Vec<SinkPart>,
    reopen: Option<Reopen>,
    /// The sink of another run's table, while its round is finished.
    earlier: Option<Box<dyn Sink>>,
    readings: Vec<Reading>,
    streams: HashMap<(String, String), StreamId>,
    /// What is committed.
    progress: Progress,
    published: Published,
    /// Where the sources stand at the last consistent point.
    pending: BTreeMap<String, Checkpoint>,
    /// Rows that wait for the whole input.
    collected: Vec<(StreamId, RecordBatch)>,
    collect: bool,
    /// Rows that wait to be ordered by `sequence_by`, by sink.
    unordered: HashMap<usize, Vec<RecordBatch>>,
    rejected: Letters,
    rows: u64,
    bytes: u64,
    held: Held,
    began: Option<Duration>,
    last_idle: Duration,
    /// Whether the round holds rows that a snapshot read: it ends where the snapshot does, so that a sink may take them
    /// as they are, without looking for a later change of the same key.
    snapshot: bool,
    whole_runs: bool,
    /// What was last told of each table.
    told: HashMap<usize, TableFigures>,
    /// What catalogs were last told of each table.
    listed: HashMap<usize, Arc<Listing>>,
    summary: Summary,
}

impl Engine {
    /// Runs a plan until its sources end, it is caught up or stopped.
    ///
    /// # Errors
    /// Any error leaves the lake at a complete round; running again goes on from there.
    pub async fn run(
        &self,
        plan: &Plan,
        parts: Parts,
        run: RunContext,
        limits: Limits,
        until: Until,
        mut stop: Stop,
    ) -> Result<Summary> {
        let mut tasks = JoinSet::new();
        let outcome = self.run_in(plan, parts, run, limits, until, &mut stop, &mut tasks).await;
        // Dropping the run closed the queues; every source closes before we return.
        let mut closed = Ok(());
        while let Some(joined) = tasks.join_next().await {
            let ended = joined.unwrap_or_else(|error| Err(Error::bug("a source's task panicked").caused_by(error)));
            closed = closed.and(ended);
        }
        match (outcome, closed) {
            (Ok(summary), closed) => closed.map(|()| summary),
            // What ended the task says more than that it ended.
            (Err(error), Err(cause)) if crate::source_task::is_gone(&error) => Err(cause),
            (Err(error), _) => Err(error),
        }
    }

    #[allow(clippy::too_many_arguments, reason = "a run and everything it is given")]
    async fn run_in(
        &self,
        plan: &Plan,
        parts: Parts,
        run: RunContext,
        limits: Limits,
        until: Until,
        stop: &mut Stop,
        tasks: &mut JoinSet<Result<()>>,
    ) -> Result<Summary> {
        let profile = String::new();
        let parameters = Parameters::new(&plan.parameters, &run, &profile, self.clock.now());
        let flow = Flow::new(plan.clone(), Arc::clone(&self.sql), parameters);
        let mut state = Run::new(self, flow, run, limits, parts.sinks);
        state.reopen = parts.reopen;
        state.take_over(parts.records).await?;
        if state.progress.run == state.run.id && !state.run.id.is_empty() {
            state.acknowledge_again(plan, parts.sources).await?;
            state.tend(Patience::ToEnd).await;
            return Ok(state.summary);
        }
        if until == Until::Tended {
            state.tend(Patience::ToEnd).await;
            return Ok(state.summary);
        }
        if sink_plans(plan).any(|sink| sink.mode == lakehead_core::WriteMode::Compact) {
            return state.compact().await;
        }
        if state.progress.anew {
            state.empty_tables().await?;
        }
        state.open_sources(plan, parts.sources, tasks).await?;
        state.read(until, stop).await?;
        Ok(state.summary)
    }

    /// Forgets where the sources stand: the next run reads them anew, and its first round replaces all that the tables
    /// hold, in one commit each.
    ///
    /// # Errors
    /// Where no output can hold a position, and any error of taking the pipeline over; nothing is forgotten then.
    pub async fn forget_position(&self, plan: &Plan, parts: Parts) -> Result<()> {
        let parameters = Parameters::new(&plan.parameters, &RunContext::default(), "", self.clock.now());
        let flow = Flow::new(plan.clone(), Arc::clone(&self.sql), parameters);
        let mut state = Run::new(self, flow, RunContext::default(), Limits::default(), parts.sinks);
        state.reopen = parts.reopen;
        state.take_over(parts.records).await?;
        let anew = Progress { sources: BTreeMap::new(), run: String::new(), anew: true, ..state.progress.clone() };
        match &mut state.chain {
            Some(chain) => chain.idle(&anew).await.map(|_| ()),
            None => Err(Error::user("R0111", "no output of this pipeline holds a position to forget")
                .help("lakehead run   reads everything anew as it is")),
        }
    }
}

/// What a sink's author said of its requests.
fn requests_per_hour(plan: &Plan, part: &SinkPart) -> Option<u64> {
    let NodeKind::Sink(sink) = &plan.nodes.get(part.node?)?.kind else { return None };
    u64::try_from(sink.settings.int_or("requests_per_hour", 0)).ok().filter(|budget| *budget > 0)
}

impl<'a> Run<'a> {
    fn new(engine: &'a Engine, flow: Flow, run: RunContext, limits: Limits, sinks: Vec<SinkPart>) -> Self {
        let plan = flow.plan();
        let whole_runs = sink_plans(plan).any(|sink| sink.mode == lakehead_core::WriteMode::Overwrite);
        let collect = !flow.is_row_wise();
        let budgets =
            sinks.iter().enumerate().filter_map(|(number, part)| Some((number, requests_per_hour(plan, part)?)));
        let pace = Pace::new(limits.age, sink_plans(plan).filter_map(|sink| sink.commit_every).min()).within(budgets);
        Self {
            engine,
            run,
            limits,
            pace,
            chain: None,
            sinks,
            reopen: None,
            earlier: None,
            readings: Vec::new(),
            streams: HashMap::new(),
            progress: Progress::default(),
            published: Published::default(),
            pending: BTreeMap::new(),
            collected: Vec::new(),
            collect,
            unordered: HashMap::new(),
            rejected: Letters::default(),
            rows: 0,
            bytes: 0,
            held: Held::default(),
            began: None,
            last_idle: engine.clock.monotonic(),
            snapshot: false,
            whole_runs: whole_runs || collect,
            told: HashMap::new(),
            listed: HashMap::new(),
            summary: Summary::default(),
            flow,
        }
    }

    fn tell(&self, event: Event) {
        self.engine.observer.event(event);
    }

    async fn open_sources(
        &mut self,
        plan: &Plan,
        sources: Vec<SourcePart>,
        tasks: &mut JoinSet<Result<()>>,
    ) -> Result<()> {
        for SourcePart { node, mut source } in sources {
            let NodeKind::Source(source_plan) = &plan.nodes[node].kind else {
                return Err(Error::bug("a source stands for a node that is none"));
            };
            if source_plan.endless && self.collect {
                return Err(Error::user(
                    "R0104",
                    "this pipeline needs its whole input at once, and a source never ends",
                )
                .with("node", &plan.nodes[node].name)
                .help("aggregate, join and dedupe run over sources that end, in this version"));
            }
            let name = plan.nodes[node].name.clone();
            for table in &source_plan.tables {
                self.streams.insert((name.clone(), table.name.clone()), table.stream);
            }
            let from = self.progress.sources.get(&name).cloned().unwrap_or_default();
            source.open(&from).await?;
            if !from.is_empty() {
                source.acknowledge(&from).await?;
            }
            self.readings.push(Reading {
                node: name,
                plan: source_plan.clone(),
                task: SourceTask::start(source, tasks),
                boundary: true,
                caught_up: false,
                ended: false,
            });
        }
        Ok(())
    }

    async fn read(&mut self, until: Until, stop: &mut Stop) -> Result<()> {
        loop {
            let stopping = *stop.borrow();
            let ended = self.readings.iter().all(|reading| reading.ended);
            let caught_up = until == Until::CaughtUp && self.readings.iter().all(|r| r.caught_up || r.ended);
            let at_boundary = self.readings.iter().all(|reading| reading.boundary);
            let wanted = ended || caught_up || stopping || self.is_full();
            if wanted && at_boundary {
                if self.whole_runs && stopping && !ended {
                    // A run that replaces rows is committed whole or not at all.
                    self.abort().await?;
                } else {
                    self.cut(ended || caught_up || stopping, ended && self.whole_runs).await?;
                }
                if ended || caught_up || stopping {
                    self.publish_cut().await?;
                    self.summary.stopped = stopping && !ended;
                    self.tend(if stopping { Patience::Between } else { Patience::ToEnd }).await;
                    self.tell(Event::CaughtUp);
                    return Ok(());
                }
                continue;
            }
            self.step(wanted, stop).await?;
        }
    }

    /// Waits for the next event of a source that may go on, the age of the round, or a stop.
    async fn step(&mut self, wanted: bool, stop: &mut Stop) -> Result<()> {
        let clock = Arc::clone(&self.engine.clock);
        let age = self.began.map(|began| (began + self.pace.age()).saturating_sub(clock.monotonic()));
        // Nothing is due while the position stands still.
        let moved = self.pending != self.progress.sources;
        let due = (self.last_idle + self.limits.idle).saturating_sub(clock.monotonic());
        let idle = if moved { due } else { self.limits.idle };
        let pause = if wanted { Duration::from_secs(3600) } else { age.unwrap_or(idle).max(Duration::from_millis(1)) };
        let next = {
            let readings = &mut self.readings;
            let next = std::future::poll_fn(move |context| {
                for (number, reading) in readings.iter_mut().enumerate() {
                    // While a round is to be cut, only those move that are inside a transaction.
                    if reading.ended || (wanted && reading.boundary) {
                        continue;
                    }
                    if let std::task::Poll::Ready(event) = reading.task.events.poll_recv(context) {
                        return std::task::Poll::Ready((number, event));
                    }
                }
                std::task::Poll::Pending
            });
            tokio::select! {
                next = next => Some(next),
                () = clock.sleep(pause) => None,
                changed = stop.changed(), if !*stop.borrow() => {
                    if changed.is_err() {
                        // Nobody can stop this run any more: only its sources end it.
                        clock.sleep(pause).await;
                    }
                    None
                }
            }
        };
        match next {
            None => {
                self.tend(Patience::Between).await;
                Ok(())
            }
            Some((_, None)) => Err(gone()),
            Some((_, Some(Err(error)))) => {
                self.save_complete().await?;
                Err(error)
            }
            Some((number, Some(Ok(event)))) => self.take(number, event).await,
        }
    }

    /// Before an error ends the run: what the sources gave up to their last consistent points is committed, so that the
    /// next run starts behind it. A table whose columns changed is then met at its change, not before.
    async fn save_complete(&mut self) -> Result<()> {
        let at_boundary = self.readings.iter().all(|reading| reading.boundary);
        if at_boundary && !self.whole_runs { self.cut(true, false).await } else { Ok(()) }
    }

    fn is_full(&self) -> bool {
        if self.whole_runs {
            return false;
        }
        let old = self.began.is_some_and(|began| self.engine.clock.monotonic() >= began + self.pace.age());
        let moved = self.pending != self.progress.sources;
        let idle = moved && self.engine.clock.monotonic() >= self.last_idle + self.limits.idle;
        self.snapshot || self.rows >= self.limits.rows || self.bytes >= self.limits.bytes || old || idle
    }

    async fn take(&mut self, number: usize, event: SourceEvent) -> Result<()> {
        match event {
            SourceEvent::Changes(batch) => {
                let node = self.readings[number].node.clone();
                self.readings[number].boundary = false;
                let (rows, bytes) = (batch.rows.num_rows() as u64, batch.rows.get_array_memory_size() as u64);
                self.begin();
                self.summary.rows_read += rows;
                self.rows += rows;
                self.bytes += bytes;
                let newest = crate::rows::newest(&batch.rows);
                self.tell(Event::Read { node: node.clone(), rows, bytes, newest });
                let stream = self.stream(&node, &batch.table)?;
                let rows = self.flow.source_rows(stream, &batch.rows)?;
                self.snapshot |= crate::rows::holds_read_rows(&rows)?;
                if self.collect { self.collect_rows(stream, rows) } else { self.pass(vec![(stream, rows)]).await }
            }
            SourceEvent::Progress(checkpoint) => {
                let reading = &mut self.readings[number];
                reading.boundary = true;
                self.pending.entry(reading.node.clone()).or_default().merge(&checkpoint);
                Ok(())
            }
            SourceEvent::CaughtUp => {
                self.readings[number].caught_up = true;
                self.tell(Event::Level { node: self.readings[number].node.clone() });
                Ok(())
            }
            SourceEvent::End => {
                let reading = &mut self.readings[number];
                (reading.ended, reading.boundary) = (true, true);
                Ok(())
            }
            SourceEvent::Truncate { table } => self.truncate(number, &table).await,
            SourceEvent::Schema { table, schema } => self.evolve(number, &table, &schema).await,
            SourceEvent::Rejected { origin, reason } => self.input_rejected(number, origin, reason),
            SourceEvent::WindowClosed { origin, interval } => self.window_closed(number, origin, interval),
            SourceEvent::Misfits { rows, .. } => {
                self.misfits(number, rows)?;
                self.stage_many_dead_letters().await
            }
        }
    }

    fn begin(&mut self) {
        if self.began.is_none() {
            self.began = Some(self.engine.clock.monotonic());
            let now = self.engine.clock.now();
            self.flow.set_now(now);
        }
    }

    fn stream(&self, node: &str, table: &str) -> Result<StreamId> {
        let found = self.streams.get(&(node.to_owned(), table.to_owned())).copied();
        found.ok_or_else(|| Error::bug("a source delivered a table it was not asked for").with("table", table))
    }

    fn collect_rows(&mut self, stream: StreamId, rows: RecordBatch) -> Result<()> {
        if self.bytes > self.limits.whole_input_bytes {
            return Err(Error::user("R0105", "the input is larger than a pipeline that needs it whole may hold")
                .with("bytes", self.bytes)
                .with("limit", self.limits.whole_input_bytes)
                .help("run it by smaller intervals, or filter before aggregate, join and dedupe"));
        }
        self.collected.push((stream, rows));
        Ok(())
    }

    /// Sends rows through the plan and stages what reaches the sinks.
    async fn pass(&mut self, inputs: Vec<(StreamId, RecordBatch)>) -> Result<()> {
        let Output { sinks, rejected, warned } = self.flow.push(inputs).await?;
        for (expectation, rows) in warned {
            self.tell(Event::Warned { expectation, rows });
        }
        self.set_aside(rejected)?;
        for (node, rows) in sinks {
            self.stage(node, rows).await?;
        }
        self.stage_many_dead_letters().await
    }

    async fn stage(&mut self, node: usize, rows: RecordBatch) -> Result<()> {
        let NodeKind::Sink(plan) = &self.flow.plan().nodes[node].kind else {
            return Err(Error::bug("rows reached a node that is no sink"));
        };
        let ordered = plan.sequence_by.is_none();
        let rows = if plan.deletes { rows } else { without_deletes(&rows)? };
        let rows = if plan.deletes_rejected { rejected_as_deletes(&rows)? } else { rows };
        if !ordered {
            self.unordered.entry(node).or_default().push(rows);
            return Ok(());
        }
        self.stage_rows(node, rows).await
    }

    async fn stage_rows(&mut self, node: usize, rows: RecordBatch) -> Result<()> {
        self.summary.rows_written += rows.num_rows() as u64;
        let number = self.sinks.iter().position(|part| part.node == Some(node));
        let number = number.ok_or_else(|| Error::bug("a sink of the plan was not built"))?;
        self.sinks[number].sink.stage(rows).await?;
        self.held.settle(&mut self.sinks, number, self.limits.held_bytes).await
    }

    fn set_aside(&mut self, rejected: Vec<Rejected>) -> Result<()> {
        self.note_rejected(rejected.len());
        if self.flow.plan().dead_letter.is_some() {
            rejected.iter().for_each(|letter| self.rejected.push(letter));
        }
        Ok(())
    }

    /// Counts rows that are set aside.
    fn note_rejected(&mut self, rows: usize) {
        if rows > 0 {
            self.begin();
            self.summary.rows_rejected += rows as u64;
            self.tell(Event::Rejected { rows: rows as u64 });
        }
    }

    /// Looks after the tables, between two rounds.
    async fn tend(&mut self, patience: Patience) {
        for number in 0..self.sinks.len() {
            self.sinks[number].sink.tend(patience).await;
            self.tell_figures(number);
            self.tell_listing(number);
        }
    }

    async fn abort(&mut self) -> Result<()> {
        for part in &mut self.sinks {
            part.sink.abort().await?;
        }
        Ok(())
    }
}

fn without_deletes(rows: &RecordBatch) -> Result<RecordBatch> {
    let ops = crate::rows::texts(rows, lakehead_core::OP)?;
    let stays = ops.iter().map(|op| Some(op != Some(lakehead_core::Op::Delete.letter()))).collect();
    Ok(arrow::compute::filter_record_batch(rows, &stays)?)
}

fn sink_plans(plan: &Plan) -> impl Iterator<Item = &SinkPlan> {
    plan.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Sink(sink) => Some(sink),
        _ => None,
    })
}
