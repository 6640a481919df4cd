//! `lakehead resync`: the next run reads everything anew.

use std::sync::Arc;

use lakehead_core::{Result, RunContext};
use lakehead_engine::Silent;
use lakehead_plan::NodeKind;
use lakehead_sql::Sql;

use super::run::Runner;
use super::{Ended, find_plan};
use crate::args::{Common, Format, Resync};
use crate::parts::{Building, refuse_not_yet};
use crate::project::load;

/// Takes the pipeline over and forgets where its sources stand. No table is touched.
pub(crate) async fn resync(arguments: &Resync, common: &Common) -> Result<Ended> {
    let sql = Arc::new(Sql::new());
    let loaded = load(&arguments.path, common, &sql)?;
    let Some(mut plan) = find_plan(&loaded, &arguments.pipeline, common)? else { return Ok(Ended::Errors) };
    refuse_not_yet(&plan)?;
    crate::environment::fill_secrets(&mut plan, &loaded.planned.secrets)?;
    let runner = Runner::new(&loaded, sql, Arc::new(Silent))?;
    let run = RunContext::default();
    let building =
        Building { plan: &plan, root: &runner.root, state: &runner.state, run: &run, clock: &runner.engine.clock };
    runner.engine.forget_position(&plan, building.parts()?).await?;
    let tables = plan.nodes.iter().filter(|node| matches!(node.kind, NodeKind::Sink(_))).count();
    match common.format {
        Format::Json => {
            println!("{}", serde_json::json!({ "event": "forgotten", "pipeline": plan.name, "tables": tables }));
        }
        Format::Text if common.quiet => {}
        Format::Text => {
            println!(
                "{}: the next run reads everything anew and replaces {tables} tables, in one commit each",
                plan.name
            );
            println!("next:  lakehead run {}", plan.name);
        }
    }
    Ok(Ended::Done)
}
