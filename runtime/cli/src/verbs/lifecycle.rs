//! `lakehead lifecycle emit`: storage rules of a pipeline's tables as rules of the bucket that they lie in.

use std::sync::Arc;

use lakehead_core::{Error, Result};
use lakehead_engine::Silent;
use lakehead_lifecycle::{Location, Merged, S3Rules, emit_json, emit_terraform, merge};
use lakehead_plan::{NodeKind, Plan, SinkPlan};
use lakehead_sql::Sql;

use super::run::{Runner, table_location};
use super::{Ended, find_plan};
use crate::args::{Common, Lifecycle};
use crate::project::load;

/// Prints the rules; sends nothing anywhere, and asks nobody.
pub(crate) fn lifecycle(arguments: &Lifecycle, common: &Common) -> Result<Ended> {
    let Lifecycle::Emit { pipeline, terraform, merge: present, path } = arguments;
    let sql = Arc::new(Sql::new());
    let loaded = load(path, common, &sql)?;
    let Some(plan) = find_plan(&loaded, pipeline, common)? else { return Ok(Ended::Errors) };
    let runner = Runner::new(&loaded, sql, Arc::new(Silent))?;
    let Some(rules) = rules_of(&plan, &runner)? else {
        eprintln!("{}: no table is under a lifecycle", plan.name);
        eprintln!("next:  lifecycle = NAME   in a sink, and   lifecycle NAME {{ transition to infrequent after 90d }}");
        return Ok(Ended::NothingMatched);
    };
    match present {
        Some(file) => show_merged(&merge(&read(file)?, &rules)?),
        None if *terraform => print!("{}", emit_terraform(&rules)),
        None => print!("{}", emit_json(&rules)),
    }
    if !common.quiet && !terraform {
        rules.notes().iter().for_each(|note| eprintln!("note: {note}"));
    }
    Ok(Ended::Done)
}

/// Makes the rules of every table with a lifecycle; none where no table has one.
fn rules_of(plan: &Plan, runner: &Runner) -> Result<Option<S3Rules>> {
    let sinks = plan.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Sink(sink) => Some(sink),
        _ => None,
    });
    let sinks: Vec<&SinkPlan> = sinks.chain(&plan.dead_letter).filter(|sink| sink.lifecycle.is_some()).collect();
    let mut rules: Option<S3Rules> = None;
    for sink in sinks {
        let Some(lifecycle) = &sink.lifecycle else { continue };
        let location = Location::parse(&table_location(&runner.root, sink))?;
        let rules = match &mut rules {
            Some(rules) => rules,
            none => none.insert(S3Rules::new(&plan.name, &location.bucket)?),
        };
        // Two connections may have a table of one name.
        rules.add(&format!("{}.{}", sink.connection_name, sink.table), &location, lifecycle)?;
    }
    Ok(rules)
}

fn read(file: &std::path::Path) -> Result<String> {
    std::fs::read_to_string(file).map_err(|error| {
        Error::user("R0114", "the bucket's present rules cannot be read").with("file", file.display()).caused_by(error)
    })
}

fn show_merged(merged: &Merged) {
    print!("{}", merged.json);
    for (what, ids) in [("added", &merged.added), ("changed", &merged.changed), ("removed", &merged.removed)] {
        ids.iter().for_each(|id| eprintln!("{what:<8} {id}"));
    }
    merged.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    if let Some(size) = &merged.minimum_object_size {
        eprintln!("note: the bucket has a rule on sizes: give   --transition-default-minimum-object-size {size}");
    }
}
