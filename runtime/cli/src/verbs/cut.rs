//! `lakehead cut show`: the versions of a pipeline's tables that belong together.

use std::sync::Arc;

use lakehead_core::{Error, Result, RunContext, format_micros};
use lakehead_engine::{Engine, Progress, Silent};
use lakehead_plan::{NodeKind, Plan, SinkPlan};
use lakehead_sql::Sql;

use super::run::{Runner, table_location};
use super::{Ended, find_plan};
use crate::args::{Common, Cut, Format};
use crate::parts::{Building, refuse_not_yet};
use crate::project::load;

/// Reads the newest record of the pipeline's chain; takes nothing over and writes nothing.
pub(crate) async fn cut(arguments: &Cut, common: &Common) -> Result<Ended> {
    let Cut::Show { pipeline, path } = arguments;
    let sql = Arc::new(Sql::new());
    let loaded = load(path, common, &sql)?;
    let Some(mut plan) = find_plan(&loaded, pipeline, common)? else { return Ok(Ended::Errors) };
    refuse_not_yet(&plan)?;
    crate::environment::fill_secrets(&mut plan, &loaded.planned.secrets)?;
    let runner = Runner::new(&loaded, sql, Arc::new(Silent))?;
    let run = RunContext::default();
    let building =
        Building { plan: &plan, root: &runner.root, state: &runner.state, run: &run, clock: &runner.engine.clock };
    let Some(records) = building.parts()?.records else {
        return Err(Error::user("R0113", "no output of this pipeline has versions").with("pipeline", &plan.name));
    };
    if let Some(table) = the_one_table(&runner, &plan)? {
        match common.format {
            Format::Json => {
                println!("{}", serde_json::json!({ "pipeline": plan.name, "tables": [table] }));
            }
            Format::Text => {
                println!("{}: one table, of which every version holds whole rounds", plan.name);
                println!("  {:<32} version {:<8} {}", table.table, table.version, table.location);
            }
        }
        return Ok(Ended::Done);
    }
    let newest = Engine::newest_cut(&records).await?.filter(|progress| !progress.cut.is_empty());
    let Some(progress) = newest else {
        eprintln!("{}: no cut yet; it is written when a run ends, and each minute of a longer one", plan.name);
        eprintln!("next:  lakehead run {}", plan.name);
        return Ok(Ended::NothingMatched);
    };
    let tables: Vec<Shown> = shown(&runner, &plan, &progress);
    match common.format {
        Format::Json => println!(
            "{}",
            serde_json::json!({ "pipeline": plan.name, "round": progress.round, "at": format_micros(progress.now), "tables": tables })
        ),
        Format::Text => {
            println!("{}: tables as they belong together, {}", plan.name, format_micros(progress.now));
            for table in &tables {
                println!("  {:<32} version {:<8} {}", table.table, table.version, table.location);
            }
            if let Some(first) = tables.first() {
                println!("read:  polars.scan_delta(\"{}\", version={})", first.location, first.version);
            }
        }
    }
    Ok(Ended::Done)
}

/// One table of the cut.
#[derive(serde::Serialize)]
struct Shown {
    table: String,
    version: u64,
    location: String,
}

/// Returns the newest listed version of the table of a pipeline that writes one alone; it needs no cut.
fn the_one_table(runner: &Runner, plan: &Plan) -> Result<Option<Shown>> {
    let mut all = sinks(plan);
    let (Some(sink), None) = (all.next(), all.next()) else { return Ok(None) };
    let listed = runner.ledger.tables()?;
    let listed = listed.iter().find(|table| table.connection == sink.connection_name && table.table == sink.table);
    Ok(listed.map(|table| Shown {
        table: table.table.clone(),
        version: table.version,
        location: table_location(&runner.root, sink),
    }))
}

fn sinks(plan: &Plan) -> impl Iterator<Item = &SinkPlan> {
    let sinks = plan.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Sink(sink) => Some(sink),
        _ => None,
    });
    sinks.chain(&plan.dead_letter)
}

fn shown(runner: &Runner, plan: &Plan, progress: &Progress) -> Vec<Shown> {
    let of = |sink: &SinkPlan| {
        let version = *progress.cut.get(&format!("{}:{}", sink.connection_name, sink.table))?;
        Some(Shown { table: sink.table.clone(), version, location: table_location(&runner.root, sink) })
    };
    sinks(plan).filter_map(of).collect()
}
