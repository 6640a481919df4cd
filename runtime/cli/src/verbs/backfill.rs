//! `lakehead backfill`: a pipeline once for each interval of a span, resumable and idempotent.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use lakehead_core::{Error, RECORDED, Result, RunContext, WriteMode, format_micros, parse_micros};
use lakehead_engine::{Silent, Until};
use lakehead_plan::{NodeKind, Plan, SinkPlan};
use lakehead_sql::Sql;

use super::run::{Runner, stop_on_signal};
use super::{Ended, find_plan};
use crate::args::{Backfill, Common, Format};
use crate::parts::{Building, of_worker, refuse_not_yet};
use crate::project::load;
use crate::show::{counted, grouped};

/// Workers beyond this only fight for the disk and the commits.
const WORKERS_MAX: usize = 64;

/// Runs the intervals that are not done yet.
pub(crate) async fn backfill(arguments: &Backfill, common: &Common) -> Result<Ended> {
    let sql = Arc::new(Sql::new());
    let loaded = load(&arguments.path, common, &sql)?;
    let Some(mut plan) = find_plan(&loaded, &arguments.pipeline, common)? else { return Ok(Ended::Errors) };
    refuse(&plan)?;
    refuse_not_yet(&plan)?;
    let (from, to) = (moment("--from", &arguments.from)?, moment("--to", &arguments.to)?);
    if to <= from {
        return Err(Error::user("R0911", "`--to` is not behind `--from`").help("--from 2026-11-01 --to 2026-11-08"));
    }
    let intervals = lakehead_daemon::schedule::intervals(&plan.trigger, from, to)?;
    let runner = Arc::new(Runner::new(&loaded, sql, Arc::new(Silent))?);
    crate::environment::fill_secrets(&mut plan, &loaded.planned.secrets)?;
    let late = late_intervals(&runner, &plan).await?;
    let mut waiting = VecDeque::new();
    let mut done = 0_usize;
    let mut last = RunContext::default();
    for (start, end) in intervals {
        let run = RunContext { id: format!("backfill {}", format_micros(start)), start, end };
        last.clone_from(&run);
        if late.contains(&(start, end)) {
            let id = format!("{} again {}", run.id, format_micros(runner.engine.clock.now()));
            waiting.push_back(RunContext { id, ..run });
        } else if runner.ledger.succeeded(&plan.name, &run.id)? {
            done += 1;
        } else {
            waiting.push_back(run);
        }
    }
    say_plan(common, done + waiting.len(), waiting.len(), done);
    if arguments.dry_run {
        if common.format == Format::Json {
            for run in &waiting {
                let (start, end) = (format_micros(run.start), format_micros(run.end));
                println!("{}", serde_json::json!({ "event": "would_run", "start": start, "end": end }));
            }
            return Ok(Ended::Done);
        }
        for run in waiting.iter().take(20) {
            println!("  {} .. {}", format_micros(run.start), format_micros(run.end));
        }
        if waiting.len() > 20 {
            println!("  and {} more", waiting.len() - 20);
        }
        return Ok(Ended::Done);
    }
    if waiting.is_empty() && done > 0 {
        return look_after(&runner, &plan, &last).await;
    }
    run_all(&runner, &plan, waiting, arguments.workers.clamp(1, WORKERS_MAX), common).await
}

/// There is nothing to fill: the tables are merged, aged and listed as behind any other run.
async fn look_after(runner: &Runner, plan: &Plan, last: &RunContext) -> Result<Ended> {
    Box::pin(runner.attempt(&of_worker(plan, 0), last, Until::Tended, stop_on_signal())).await?;
    Ok(Ended::Done)
}

/// Returns the intervals that have gained inputs since they were read: done or not, they are made again.
async fn late_intervals(runner: &Runner, plan: &Plan) -> Result<HashSet<(i64, i64)>> {
    let run = RunContext::default();
    let building = Building { plan, root: &runner.root, state: &runner.state, run: &run, clock: &runner.engine.clock };
    let recorded = plan
        .nodes
        .iter()
        .any(|node| matches!(&node.kind, NodeKind::Source(source) if source.settings.bool_or(RECORDED, false)));
    let found = if recorded { building.arrivals().await?.late } else { Vec::new() };
    Ok(found.into_iter().map(|late| (late.start, late.end)).collect())
}

fn say_plan(common: &Common, all: usize, waiting: usize, done: usize) {
    match common.format {
        Format::Json => {
            println!("{}", serde_json::json!({ "event": "planned", "intervals": all, "to_do": waiting, "done": done }));
        }
        Format::Text if common.quiet => {}
        Format::Text => println!(
            "{}: {} to do, {} already done (skipped)",
            counted(all as u64, "interval"),
            grouped(waiting as u64),
            grouped(done as u64)
        ),
    }
}

/// A backfill repeats intervals: the source must be readable again, and a repeated interval must replace itself.
fn refuse(plan: &Plan) -> Result<()> {
    for node in &plan.nodes {
        match &node.kind {
            NodeKind::Source(source) if source.changes || source.endless => {
                return Err(Error::user("R0912", "a change stream has no intervals to fill")
                    .with("pipeline", &plan.name)
                    .with("source", &node.name)
                    .help(format!("lakehead run {} --until caught-up   reads what is missing", plan.name))
                    .help(format!("lakehead resync {}   has the next run read everything anew", plan.name)));
            }
            NodeKind::Sink(sink) if sink.mode == WriteMode::Overwrite && !replaces_others(sink) => {
                return Err(Error::user(
                    "R0919",
                    "files of an interval are replaced by the pipeline alone that wrote them",
                )
                .with("pipeline", &plan.name)
                .with("sink", &sink.node)
                .help("backfill into a delta or parquet table, which knows the files of every writer"));
            }
            NodeKind::Sink(sink) => {
                let repeatable = matches!(sink.mode, WriteMode::Overwrite | WriteMode::Upsert);
                if !repeatable {
                    return Err(Error::user("R0913", "an interval that runs twice would be in the table twice")
                        .with("pipeline", &plan.name)
                        .with("table", &sink.table)
                        .with("mode", sink.mode.word())
                        .help("mode = overwrite, overwrite_by = run_interval"));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether the sink replaces what another writer wrote: a backfill's workers are writers of their own.
fn replaces_others(sink: &SinkPlan) -> bool {
    let role = lakehead_registry::connector(&sink.connector).and_then(|connector| connector.sink);
    role.is_some_and(|role| role.exists.is_some())
}

fn moment(name: &str, text: &str) -> Result<i64> {
    parse_micros(text).ok_or_else(|| {
        Error::user("R0914", "this is not a moment")
            .with("option", name)
            .with("given", text)
            .help("2026-11-01   or   2026-11-01T00:00:00Z")
    })
}

async fn run_all(
    runner: &Arc<Runner>,
    plan: &Plan,
    waiting: VecDeque<RunContext>,
    workers: usize,
    common: &Common,
) -> Result<Ended> {
    let all = waiting.len();
    let queue = Arc::new(Mutex::new(waiting));
    let stop = stop_on_signal();
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..workers.min(all.max(1)) {
        let (runner, queue, stop) = (Arc::clone(runner), Arc::clone(&queue), stop.clone());
        // A repeated interval replaces itself.
        let plan = of_worker(plan, worker);
        let quiet = common.quiet || common.format == Format::Json;
        tasks.spawn(async move {
            let mut failed = 0_usize;
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some(run) = next.filter(|_| !*stop.borrow()) else { return failed };
                match Box::pin(runner.run(&plan, &run, Until::Stopped, stop.clone())).await {
                    Ok(summary) if !quiet => {
                        println!(" {}  {} rows", format_micros(run.start), grouped(summary.rows_written));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        failed += 1;
                        eprintln!(" {}  {error}", format_micros(run.start));
                    }
                }
            }
        });
    }
    let mut failed = 0;
    while let Some(joined) = tasks.join_next().await {
        failed += joined.map_err(|error| Error::bug("a worker panicked").caused_by(error))?;
    }
    if failed > 0 {
        eprintln!("{failed} of {all} intervals failed; the same command tries them again");
        return Ok(Ended::Errors);
    }
    Ok(Ended::Done)
}
