//! `lakehead plan`: what a first run would create. Writes nothing.

use std::path::Path;

use lakehead_core::{Result, column_type_name};
use lakehead_plan::{LayoutTransform, NodeKind, Plan, SinkPlan, SourcePlan};
use lakehead_sql::Sql;

use super::run::table_location;
use super::{Ended, find_plan};
use crate::args::{Common, Format, PlanArguments};
use crate::project::load;

/// Shows slots, publications, tables, columns and layouts of one pipeline, or of all.
pub(crate) async fn plan(arguments: &PlanArguments, common: &Common) -> Result<Ended> {
    let loaded = load(&arguments.path, common, &Sql::new())?;
    let plans = match &arguments.pipeline {
        Some(name) => match find_plan(&loaded, name, common)? {
            Some(plan) => vec![plan],
            None => return Ok(Ended::Errors),
        },
        None => {
            if super::check::show(&loaded, common) {
                return Ok(Ended::Errors);
            }
            loaded.planned.plans.clone()
        }
    };
    if common.format == Format::Json {
        println!("{}", serde_json::to_string_pretty(&plans).unwrap_or_default());
        return Ok(Ended::Done);
    }
    let mut creates = 0;
    for plan in &plans {
        creates += show(plan, &loaded.root);
    }
    println!("{creates} tables to create; nothing was written");
    Ok(if arguments.exit_code && creates > 0 { Ended::Changes } else { Ended::Done })
}

fn show(plan: &Plan, root: &Path) -> usize {
    println!("pipeline {}", plan.name);
    let mut creates = 0;
    for node in &plan.nodes {
        match &node.kind {
            NodeKind::Source(source) => show_source(&node.name, source, plan),
            NodeKind::Sink(sink) => creates += usize::from(show_sink(sink, root)),
            _ => {}
        }
    }
    if let Some(sink) = &plan.dead_letter {
        creates += usize::from(show_sink(sink, root));
    }
    for (setting, place) in &plan.not_yet {
        println!("   ! {setting} ({place}) is checked, and this version does not carry it out: `run` refuses");
    }
    println!();
    creates
}

fn show_source(name: &str, source: &SourcePlan, plan: &Plan) {
    println!("   source {name}  {} {}", source.connector, source.connection_name);
    if source.changes && source.connector != "generate" {
        let slot = source.settings.text("slot").unwrap_or("(named after the pipeline)");
        let publication = source.settings.text("publication").unwrap_or("(named after the slot)");
        println!("     + replication slot {slot}, publication {publication}");
    }
    for table in &source.tables {
        let stream = &plan.streams[table.stream.0];
        let key = if stream.key.is_empty() { "no key".to_owned() } else { format!("key {}", stream.key.join(", ")) };
        println!("     {} {} columns, {key}", table.name, stream.schema.fields().len());
    }
}

fn show_sink(sink: &SinkPlan, root: &Path) -> bool {
    let location = table_location(root, sink);
    let there = Path::new(&location).join("_delta_log").is_dir() || Path::new(&location).join("_manifest").is_dir();
    let mark = if there { "  " } else { " +" };
    println!("  {mark} {} {}  {} {}", sink.connector, sink.table, sink.mode.word(), location);
    if sink.mode == lakehead_core::WriteMode::Upsert && sink.connector == "delta" {
        println!("      key {}; an upsert rewrites the files that hold a changed key", sink.key.join(", "));
    }
    let partitions: Vec<String> = sink
        .layout
        .iter()
        .map(|part| match part.transform {
            LayoutTransform::Identity => part.name.clone(),
            _ => format!("{} from {}", part.name, part.source),
        })
        .collect();
    if !partitions.is_empty() {
        println!("      partitioned by {}", partitions.join(", "));
    }
    if !there {
        for field in sink.schema.fields() {
            println!("      {:<24} {}", field.name(), column_type_name(field.data_type()));
        }
    }
    !there
}
