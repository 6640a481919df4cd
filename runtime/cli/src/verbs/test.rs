//! `lakehead test`: the given/then tables of the files, on the same plan and operators as `run`.

use std::sync::Arc;

use lakehead_core::{Clock, ManualClock, Result, RunContext, SystemClock, parse_micros};
use lakehead_engine::{Engine, Limits, Parts, Silent, SinkPart, SourcePart, Until};
use lakehead_memory::{MemoryRecords, MemorySink, MemorySource, MemoryStore};
use lakehead_plan::{NodeKind, Plan, TestCase};
use lakehead_sql::Sql;
use tokio::sync::watch;

use super::Ended;
use crate::args::{Common, Format, Test};
use crate::project::{Loaded, load};
use crate::show::counted;

mod compare;
mod given;

/// The time of a test that names none.
const DEFAULT_NOW: &str = "2026-01-01T00:00:00Z";

/// Runs the tests whose file, pipeline or title the filter matches.
pub(crate) async fn test(arguments: &Test, common: &Common) -> Result<Ended> {
    let clock = SystemClock::default();
    let sql = Arc::new(Sql::new());
    let loaded = load(&arguments.path, common, &sql)?;
    let filter = arguments.filter.as_deref();
    let errors = loaded.diagnostics().iter().any(|d| d.is_error() && d.code != "E0212");
    if errors {
        super::check::show(&loaded, common);
        return Ok(Ended::Errors);
    }
    let cases: Vec<&TestCase> = loaded.planned.tests.iter().filter(|case| matches(&loaded, case, filter)).collect();
    if cases.is_empty() {
        eprintln!(
            "no test matches; a test stands beside its pipeline:  test \"title\" of pipeline {{ given … then … }}"
        );
        return Ok(Ended::NothingMatched);
    }
    let mut failed = 0;
    for case in &cases {
        let before = clock.monotonic();
        let outcome = Box::pin(run_case(&loaded, case, &sql)).await;
        let millis = (clock.monotonic() - before).as_millis();
        let failures = match outcome {
            Ok(failures) => failures,
            Err(error) => vec![crate::failure::render(&error)],
        };
        failed += usize::from(!failures.is_empty());
        show(&loaded, case, &failures, millis, common);
    }
    if common.format == Format::Text && !common.quiet {
        println!(
            "{}, {} ok, {failed} failed   {:.1} s",
            counted(cases.len() as u64, "test"),
            cases.len() - failed,
            clock.monotonic().as_secs_f64()
        );
    }
    Ok(if failed > 0 { Ended::Errors } else { Ended::Done })
}

fn matches(loaded: &Loaded, case: &TestCase, filter: Option<&str>) -> bool {
    filter.is_none_or(|filter| {
        loaded.sources.path(case.file).contains(filter) || case.pipeline.contains(filter) || case.title.contains(filter)
    })
}

fn show(loaded: &Loaded, case: &TestCase, failures: &[String], millis: u128, common: &Common) {
    let file = loaded.sources.path(case.file);
    if common.format == Format::Json {
        let line = serde_json::json!({
            "file": file, "pipeline": case.pipeline, "title": case.title, "ok": failures.is_empty(), "failures": failures,
            "millis": u64::try_from(millis).unwrap_or(u64::MAX),
        });
        println!("{line}");
        return;
    }
    if failures.is_empty() {
        if !common.quiet {
            println!("{file:<26} {:.<56} ok   {millis:>5} ms", format!("{} ", case.title));
        }
        return;
    }
    println!("{file:<26} {:.<56} FAILED", format!("{} ", case.title));
    for failure in failures {
        println!("  error[E0801]: test \"{}\" failed", case.title);
        for line in failure.lines() {
            println!("  │ {line}");
        }
    }
}

/// Runs one test; the texts say what differs.
async fn run_case(loaded: &Loaded, case: &TestCase, sql: &Arc<Sql>) -> Result<Vec<String>> {
    let plan = loaded.planned.plans.iter().find(|plan| plan.name == case.pipeline);
    let plan = plan.ok_or_else(|| lakehead_core::Error::bug("a test has no plan"))?;
    let now = case.now.or(case.run_start).or_else(|| parse_micros(DEFAULT_NOW)).unwrap_or(0);
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(now));
    let run = RunContext {
        id: "test".into(),
        start: case.run_start.unwrap_or(now),
        end: case.run_end.unwrap_or(case.run_start.unwrap_or(now)),
    };
    let store = MemoryStore::default();
    let parts = parts(loaded, plan, case, &store, &clock)?;
    let engine = Engine { sql: Arc::clone(sql), clock, observer: Arc::new(Silent) };
    let (_stop, stopped) = watch::channel(false);
    engine.run(plan, parts, run, Limits::default(), Until::Stopped, stopped).await?;
    compare::compare(loaded, plan, case, &store)
}

fn parts(loaded: &Loaded, plan: &Plan, case: &TestCase, store: &MemoryStore, clock: &Arc<dyn Clock>) -> Result<Parts> {
    let mut parts = Parts {
        sources: Vec::new(),
        sinks: Vec::new(),
        records: Some(Arc::new(MemoryRecords::default())),
        reopen: None,
    };
    for (number, node) in plan.nodes.iter().enumerate() {
        match &node.kind {
            NodeKind::Source(source) => {
                let events = given::events(loaded, plan, &node.name, source, case)?;
                let source = Box::new(MemorySource::new(&node.name, events));
                parts.sources.push(SourcePart { node: number, source });
            }
            NodeKind::Sink(sink) => {
                let name = compare::sink_key(number);
                let built = MemorySink::new(store, &plan.id, &name, sink.mode, &sink.key, &sink.schema)
                    .changing(&sink.settings, clock);
                parts.sinks.push(SinkPart { node: Some(number), table: name, lake: true, sink: Box::new(built) });
            }
            _ => {}
        }
    }
    if let Some(sink) = &plan.dead_letter {
        let name = compare::DEAD_LETTER.to_owned();
        let built = MemorySink::new(store, &plan.id, &name, sink.mode, &sink.key, &sink.schema);
        parts.sinks.push(SinkPart { node: None, table: name, lake: true, sink: Box::new(built) });
    }
    Ok(parts)
}
