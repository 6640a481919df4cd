//! `lakehead lifecycle`: storage rules of a pipeline's tables as rules of the buckets that they lie in.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use lakehead_core::{Error, Result};
use lakehead_engine::Silent;
use lakehead_lifecycle::{BucketRules, Location, Merged, S3Rules, emit_json, emit_terraform, merge};
use lakehead_plan::{NodeKind, Plan, SinkPlan};
use lakehead_sql::Sql;
use serde_json::json;

use super::run::{Runner, table_location};
use super::{Ended, find_plan};
use crate::args::{Common, Format, Lifecycle};
use crate::environment::fill_secrets;
use crate::project::load;

/// Prints the rules, or puts them there.
pub(crate) async fn lifecycle(arguments: &Lifecycle, common: &Common) -> Result<Ended> {
    let (Lifecycle::Emit { pipeline, path, .. } | Lifecycle::Apply { pipeline, path, .. }) = arguments;
    let sql = Arc::new(Sql::new());
    let loaded = load(path, common, &sql)?;
    let Some(mut plan) = find_plan(&loaded, pipeline, common)? else { return Ok(Ended::Errors) };
    let runner = Runner::new(&loaded, sql, Arc::new(Silent))?;
    match arguments {
        Lifecycle::Emit { terraform, merge, .. } => emit(&plan, &runner, *terraform, merge.as_deref(), common),
        Lifecycle::Apply { dry_run, .. } => {
            fill_secrets(&mut plan, &loaded.planned.secrets)?;
            apply(&plan, &runner, *dry_run, common).await
        }
    }
}

/// Prints the rules; sends nothing anywhere, and asks nobody.
fn emit(plan: &Plan, runner: &Runner, terraform: bool, present: Option<&Path>, common: &Common) -> Result<Ended> {
    let Some(rules) = rules_of(plan, runner)? else { return Ok(none(plan)) };
    match present {
        Some(file) => show_merged(&merge(&read(file)?, &rules)?),
        None if terraform => print!("{}", emit_terraform(&rules)),
        None => print!("{}", emit_json(&rules)),
    }
    if !common.quiet && !terraform {
        rules.notes().iter().for_each(|note| eprintln!("note: {note}"));
    }
    Ok(Ended::Done)
}

fn none(plan: &Plan) -> Ended {
    eprintln!("{}: no table is under a lifecycle", plan.name);
    eprintln!("next:  lifecycle = NAME   in a sink, and   lifecycle NAME {{ transition to infrequent after 90d }}");
    Ended::NothingMatched
}

/// Puts the rules into each bucket where the pipeline has tables, one bucket after the other. A bucket whose tables are
/// under no lifecycle any more loses the pipeline's rules.
async fn apply(plan: &Plan, runner: &Runner, dry_run: bool, common: &Common) -> Result<Ended> {
    let mut buckets: BTreeMap<String, Vec<&SinkPlan>> = BTreeMap::new();
    for sink in sinks(plan).filter(|sink| !sink.table.is_empty()) {
        let location = table_location(&runner.root, sink);
        if sink.lifecycle.is_some() || location.starts_with("s3://") {
            buckets.entry(Location::parse(&location)?.bucket).or_default().push(sink);
        }
    }
    if buckets.is_empty() {
        return Ok(none(plan));
    }
    for (bucket, sinks) in buckets {
        let mut rules = S3Rules::new(&plan.name, &bucket)?;
        for sink in &sinks {
            add(&mut rules, sink, runner)?;
        }
        let Some(first) = sinks.first() else { continue };
        let there = BucketRules::open(
            &table_location(&runner.root, first),
            &first.connection,
            Arc::clone(&runner.engine.clock),
        )?;
        let seen = there.read().await?;
        let merged = merge(&seen, &rules)?;
        show_change(&rules, &merged, common);
        let write = !dry_run && !merged.is_there();
        if write {
            let kept = there.write(&seen, &merged, &rules).await?;
            kept.iter().for_each(|note| eprintln!("warning: {note}"));
        }
        show_outcome(&rules, &merged, write, common);
    }
    Ok(Ended::Done)
}

fn show_change(rules: &S3Rules, merged: &Merged, common: &Common) {
    merged.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    if common.format == Format::Json || common.quiet {
        return;
    }
    println!("bucket {}: {} rules of others stay as they are", rules.bucket(), merged.foreign_count);
    let said = |id: &String| rules.rules().iter().find(|rule| rule.id == *id).map(|rule| rule.sentence());
    for (mark, ids) in [('+', &merged.added), ('~', &merged.changed), ('-', &merged.removed)] {
        ids.iter().for_each(|id| println!("  {mark} {id}  {}", said(id).unwrap_or_else(|| "is taken away".into())));
    }
}

fn show_outcome(rules: &S3Rules, merged: &Merged, written: bool, common: &Common) {
    if common.format == Format::Json {
        let line = json!({
            "bucket": rules.bucket(), "rules": merged.count, "foreign": merged.foreign_count, "added": merged.added,
            "changed": merged.changed, "removed": merged.removed, "written": written,
        });
        println!("{line}");
    } else if !common.quiet {
        let said = match (written, merged.is_there()) {
            (true, _) => "written, and read back",
            (false, true) => "nothing to change",
            (false, false) => "nothing was written",
        };
        println!("  {said}");
        rules.notes().iter().for_each(|note| eprintln!("note: {note}"));
    }
}

fn sinks(plan: &Plan) -> impl Iterator<Item = &SinkPlan> {
    let sinks = plan.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Sink(sink) => Some(sink),
        _ => None,
    });
    sinks.chain(&plan.dead_letter)
}

/// Makes the rules of every table with a lifecycle; none where no table has one.
fn rules_of(plan: &Plan, runner: &Runner) -> Result<Option<S3Rules>> {
    let mut rules: Option<S3Rules> = None;
    for sink in sinks(plan).filter(|sink| sink.lifecycle.is_some()) {
        let location = Location::parse(&table_location(&runner.root, sink))?;
        let rules = match &mut rules {
            Some(rules) => rules,
            none => none.insert(S3Rules::new(&plan.name, &location.bucket)?),
        };
        add(rules, sink, runner)?;
    }
    Ok(rules)
}

fn add(rules: &mut S3Rules, sink: &SinkPlan, runner: &Runner) -> Result<()> {
    let Some(lifecycle) = &sink.lifecycle else { return Ok(()) };
    let location = Location::parse(&table_location(&runner.root, sink))?;
    // Two connections may have a table of one name.
    rules.add(&format!("{}.{}", sink.connection_name, sink.table), &location, lifecycle)
}

fn read(file: &Path) -> Result<String> {
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
