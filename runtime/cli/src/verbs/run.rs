//! `lakehead run`.

use std::path::Path;
use std::sync::Arc;

use lakehead_catalog::Book;
use lakehead_core::{Clock, Result, Retry, RunContext, SystemClock, format_micros};
use lakehead_engine::{Engine, Event, Limits, Observer, Stop, Summary, Until};
use lakehead_plan::{NodeKind, Plan, SinkPlan, When};
use lakehead_sql::Sql;
use lakehead_state::{LeaseRecord, Ledger, RunRecord, RunState, TableRecord};
use tokio::sync::watch;

use super::{Ended, find_plan};
use crate::args::{Common, Format, Run, UntilArgument};
use crate::catalogs::{Listener, Registrar};
use crate::copies::{Bells, Copier, standing};
use crate::parts::{Building, refuse_not_yet};
use crate::project::{Loaded, load};
use crate::show::{Display, grouped};

/// Everything that running plans of one project needs.
#[derive(Clone)]
pub(crate) struct Runner {
    pub(crate) root: std::path::PathBuf,
    pub(crate) state: std::path::PathBuf,
    pub(crate) engine: Engine,
    pub(crate) ledger: Arc<Ledger>,
    /// What was registered in which catalog.
    pub(crate) book: Book,
}

impl Runner {
    /// Opens the ledger of a loaded project.
    pub(crate) fn new(loaded: &Loaded, sql: Arc<Sql>, observer: Arc<dyn Observer>) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let ledger = Ledger::open(&loaded.state_folder().join("ledger.sqlite"))?;
        let (root, state) = (loaded.root.clone(), loaded.state_folder());
        let book = Book::open(&state)?;
        Ok(Self { root, state, engine: Engine { sql, clock, observer }, ledger: Arc::new(ledger), book })
    }

    /// Runs one attempt of a plan whose secrets are filled in, and lists the tables it wrote.
    pub(crate) async fn attempt(&self, plan: &Plan, run: &RunContext, until: Until, stop: Stop) -> Result<Summary> {
        let building = Building { plan, root: &self.root, state: &self.state, run, clock: &self.engine.clock };
        let parts = building.parts()?;
        let (clock, observer) = (Arc::clone(&self.engine.clock), Arc::clone(&self.engine.observer));
        let registrar = Registrar::start(&self.root, self.book.clone(), plan, clock, observer);
        let copier = Copier::start(self, plan, stop.clone())?;
        let keeping = Keeping {
            runner: self.clone(),
            pipeline: plan.name.clone(),
            listener: registrar.listener(),
            copies: copier.bells(),
        };
        let engine = Engine { observer: Arc::new(keeping), ..self.engine.clone() };
        let outcome = engine.run(plan, parts, run.clone(), Limits::default(), until, stop).await;
        // What was committed is listed, also where the run failed behind it.
        registrar.close().await;
        copier.close().await;
        let summary = outcome?;
        self.list_tables(plan, &summary)?;
        Ok(summary)
    }

    /// Runs a plan with its retries, and writes the run into the ledger.
    pub(crate) async fn run(&self, plan: &Plan, run: &RunContext, until: Until, stop: Stop) -> Result<Summary> {
        let started = self.engine.clock.now();
        self.record(plan, run, started, RunState::Running, None)?;
        let mut pause = plan.retry.backoff;
        let mut attempts = 0;
        let outcome = loop {
            let outcome = Box::pin(self.attempt(plan, run, until, stop.clone())).await;
            match outcome {
                Err(error) if error.retry() == Retry::Backoff && attempts < plan.retry.max && !*stop.borrow() => {
                    attempts += 1;
                    tracing::warn!(pipeline = %plan.name, %error, attempt = attempts, "a run failed and is tried again");
                    self.engine.clock.sleep(pause).await;
                    pause = (pause * 2).min(plan.retry.backoff_max);
                }
                outcome => break outcome,
            }
        };
        let state = match &outcome {
            Ok(summary) if summary.stopped => RunState::Stopped,
            Ok(_) => RunState::Succeeded,
            Err(_) => RunState::Failed,
        };
        self.record(plan, run, started, state, Some(&outcome))?;
        outcome
    }

    fn record(
        &self,
        plan: &Plan,
        run: &RunContext,
        started: i64,
        state: RunState,
        outcome: Option<&Result<Summary>>,
    ) -> Result<()> {
        let summary = outcome.and_then(|outcome| outcome.as_ref().ok()).cloned().unwrap_or_default();
        let error =
            outcome.and_then(|outcome| outcome.as_ref().err()).map(|e| format!("{}: {}", e.code(), e.message()));
        self.ledger.record_run(&RunRecord {
            pipeline: plan.name.clone(),
            run: run.id.clone(),
            state,
            started,
            ended: outcome.map(|_| self.engine.clock.now()),
            interval_start: run.start,
            interval_end: run.end,
            rows_read: summary.rows_read,
            rows_written: summary.rows_written,
            rows_rejected: summary.rows_rejected,
            error,
        })
    }

    pub(crate) fn list_tables(&self, plan: &Plan, summary: &Summary) -> Result<()> {
        let sinks = plan.nodes.iter().filter_map(|node| match &node.kind {
            NodeKind::Sink(sink) => Some(sink),
            _ => None,
        });
        for sink in sinks.chain(&plan.dead_letter).filter(|sink| !sink.table.is_empty()) {
            let Some(version) = summary.tables.get(&format!("{}:{}", sink.connection_name, sink.table)) else {
                continue;
            };
            self.ledger.record_table(&TableRecord {
                pipeline: plan.name.clone(),
                connection: sink.connection_name.clone(),
                table: sink.table.clone(),
                format: sink.connector.clone(),
                location: table_location(&self.root, sink),
                version: *version,
                updated: self.engine.clock.now(),
                figures: None,
            })?;
        }
        Ok(())
    }
}

/// Notes who has the pipeline and what its tables hold, has tables registered, and passes every other event on.
struct Keeping {
    runner: Runner,
    pipeline: String,
    listener: Listener,
    copies: Bells,
}

impl Observer for Keeping {
    fn event(&self, event: Event) {
        if let Event::Committed { table, .. } = &event {
            self.copies.ring(table);
        }
        let kept = match &event {
            Event::Taken { fence } => {
                let (pipeline, owner) = (self.pipeline.clone(), process_name());
                let lease = LeaseRecord { pipeline, fence: *fence, owner, taken: self.runner.engine.clock.now() };
                self.runner.ledger.record_lease(&lease)
            }
            Event::Holds { table, figures } => match table.split_once(':') {
                Some((connection, table)) => self.runner.ledger.record_figures(connection, table, figures),
                None => Ok(()),
            },
            Event::Listed { table, listing } => {
                self.listener.listed(table, listing);
                return;
            }
            _ => Ok(()),
        };
        if let Err(error) = kept {
            tracing::error!(pipeline = %self.pipeline, %error, "the ledger could not be written");
        }
        self.runner.engine.observer.event(event);
    }
}

/// Names this machine and process.
fn process_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "this machine" } else { host.trim() };
    format!("{host}, process {}", std::process::id())
}

/// Returns where people find a table.
pub(crate) fn table_location(root: &Path, sink: &SinkPlan) -> String {
    let path = sink.connection.text("path").unwrap_or("");
    let prefix = sink.connection.text("prefix").unwrap_or("");
    // A table's dots are folders; a files sink names its path as it is.
    let is_table = sink.settings.get("table").is_some();
    let below = if is_table { format!("{prefix}{}", sink.table.replace('.', "/")) } else { sink.table.clone() };
    if path.is_empty() {
        return sink.connection_name.clone();
    }
    if path.contains("://") {
        format!("{}/{below}", path.trim_end_matches('/'))
    } else {
        root.join(path).join(below).display().to_string()
    }
}

/// Hears ctrl-c and SIGTERM: the first asks the run to stop at a consistent point, the second ends the process.
pub(crate) fn stop_on_signal() -> Stop {
    let (stop, stopped) = watch::channel(false);
    #[allow(clippy::disallowed_methods, reason = "lives as long as the process, and ends with it")]
    tokio::spawn(async move {
        loop {
            let terminated = async {
                match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
                    Ok(mut signal) => signal.recv().await,
                    Err(_) => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminated => {}
            }
            if stop.send_replace(true) {
                eprintln!("aborted: what was not committed is read again");
                std::process::exit(130);
            }
            eprintln!("stopping at the next consistent point; once more aborts");
        }
    });
    stopped
}

/// Runs one pipeline in the foreground.
pub(crate) async fn run(arguments: &Run, common: &Common) -> Result<Ended> {
    let sql = Arc::new(Sql::new());
    let loaded = load(&arguments.path, common, &sql)?;
    let Some(mut plan) = find_plan(&loaded, &arguments.pipeline, common)? else { return Ok(Ended::Errors) };
    refuse_not_yet(&plan)?;
    crate::environment::fill_secrets(&mut plan, &loaded.planned.secrets)?;
    let display = Arc::new(Display::new(common));
    let observer: Arc<dyn Observer> = Arc::clone(&display) as Arc<dyn Observer>;
    let runner = Runner::new(&loaded, sql, observer)?;
    let clock = Arc::clone(&runner.engine.clock);
    let run = manual_run(&plan, clock.now())?;
    let until = match arguments.until {
        Some(UntilArgument::CaughtUp) => Until::CaughtUp,
        None => Until::Stopped,
    };
    let began = clock.monotonic();
    let outcome = Box::pin(runner.run(&plan, &run, until, stop_on_signal())).await;
    display.finish();
    let summary = outcome?;
    let seconds = (clock.monotonic() - began).as_secs_f64();
    match common.format {
        Format::Json => println!("{}", serde_json::json!({ "event": "done", "summary": summary, "seconds": seconds })),
        Format::Text if common.quiet => {}
        Format::Text => {
            say_done(&runner, &plan, &summary, seconds);
            super::peek::first_rows(&runner, &plan, arguments.rows).await?;
        }
    }
    Ok(Ended::Done)
}

/// Returns the run that a person starts by hand: for a schedule, its newest whole interval.
pub(crate) fn manual_run(plan: &Plan, now: i64) -> Result<RunContext> {
    let (start, end) = match plan.trigger.when {
        When::Cron(_) | When::Every(_) => lakehead_daemon::schedule::latest_interval(&plan.trigger, now)?,
        _ => (now, now),
    };
    Ok(RunContext { id: format!("manual {}", format_micros(now)), start, end })
}

fn say_done(runner: &Runner, plan: &Plan, summary: &Summary, seconds: f64) {
    let word = if summary.stopped { "stopped" } else { "done" };
    println!(
        "{word} in {seconds:.1} s.  {} rows read, {} written, {} set aside",
        grouped(summary.rows_read),
        grouped(summary.rows_written),
        grouped(summary.rows_rejected)
    );
    if summary.inputs_rejected > 0 {
        println!("{} inputs could not be read and were set aside", summary.inputs_rejected);
    }
    let tables = runner.ledger.tables().unwrap_or_default();
    for table in tables.iter().filter(|table| table.pipeline == plan.name) {
        println!("  {:<32} version {:<5} {}", table.table, table.version, table.location);
        for copy in runner.ledger.copies(&plan.name).unwrap_or_default() {
            if copy.connection == table.connection && copy.table == table.table {
                println!("  {:<32} {}", "", standing(&copy, table.version));
            }
        }
    }
    let main = plan.nodes.iter().find_map(|node| match &node.kind {
        NodeKind::Sink(sink) => tables.iter().find(|t| t.table == sink.table && t.connection == sink.connection_name),
        _ => None,
    });
    if let Some(line) = main.and_then(query_line) {
        println!("query it:  {line}");
    }
}

/// Returns a command that reads a table with a reader of another house.
fn query_line(table: &TableRecord) -> Option<String> {
    let role = lakehead_registry::connector(&table.format).and_then(|connector| connector.sink)?;
    (role.query)(&table.location)
}
