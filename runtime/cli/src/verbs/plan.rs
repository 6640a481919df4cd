//! `lakehead plan`: what a first run would create. Writes nothing.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use lakehead_catalog::{Book, Catalog, Difference};
use lakehead_core::{Clock, Expired, Listing, OptionSpec, Result, RunContext, SystemClock, column_type_name};
use lakehead_plan::{CatalogPlan, LayoutTransform, NodeKind, Plan, SinkPlan, SourcePlan};
use lakehead_sql::Sql;
use lakehead_syntax::render_text;

use super::catalog::listing_of;
use super::compacted::refused;
use super::cost::cost_lines;
use super::propose::{Measured, files_in_folder, layout_lines};
use super::run::table_location;
use super::{Ended, find_plan};
use crate::args::{Common, Format, PlanArguments};
use crate::catalogs::entry_of;
use crate::environment::{color, fill_secrets};
use crate::parts::Building;
use crate::project::load;
use crate::show::{grouped, size};

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
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let (mut seen, mut found, state) = (Seen::default(), Vec::new(), loaded.state_folder());
    for plan in &plans {
        let mut filled = plan.clone();
        // Without its secrets a location may still be one that needs none.
        let _ = fill_secrets(&mut filled, &loaded.planned.secrets);
        let look = Look { root: &loaded.root, state: &state, filled: &filled, clock: &clock };
        show(plan, &look, &mut seen).await;
        found.extend(refused(plan, &look).await);
    }
    if !found.is_empty() {
        eprintln!("{}", render_text(&found, &loaded.sources, color()));
        return Ok(Ended::Errors);
    }
    let unknown = if seen.unknown == 0 { String::new() } else { format!(", {} that cannot be seen", seen.unknown) };
    println!("{} tables to create{unknown}; nothing was written", seen.creates);
    Ok(if arguments.exit_code && seen.creates + seen.unknown > 0 { Ended::Changes } else { Ended::Done })
}

/// What the tables are looked for with.
pub(super) struct Look<'a> {
    pub(super) root: &'a Path,
    pub(super) state: &'a Path,
    pub(super) filled: &'a Plan,
    pub(super) clock: &'a Arc<dyn Clock>,
}

/// Tables that are not there, and tables of which nobody knows.
#[derive(Default)]
struct Seen {
    creates: usize,
    unknown: usize,
}

impl Look<'_> {
    /// Returns whether a sink's table is there; `None` where it keeps none.
    pub(super) async fn exists(&self, sink: &SinkPlan) -> Option<Result<bool>> {
        let exists = lakehead_registry::connector(&sink.connector)?.sink?.exists?;
        let run = RunContext::default();
        let building = Building { plan: self.filled, root: self.root, state: self.state, run: &run, clock: self.clock };
        Some(exists(&building.sink_spec(sink)).await)
    }

    /// Lists what a sink's table consists of: a folder also holds what merges and expiry have left for readers under way.
    async fn data_files(&self, sink: &SinkPlan) -> Result<Vec<(String, u64)>> {
        let role = lakehead_registry::connector(&sink.connector).and_then(|connector| connector.sink);
        if let Some(data_files) = role.and_then(|role| role.data_files) {
            let run = RunContext::default();
            let building =
                Building { plan: self.filled, root: self.root, state: self.state, run: &run, clock: self.clock };
            if let Some(found) = data_files(&building.sink_spec(sink)).await? {
                return Ok(found);
            }
        }
        files_in_folder(sink, self.root).await
    }

    /// Shows what the next run would take out for its age.
    async fn show_expired(&self, sink: &SinkPlan) {
        let role = lakehead_registry::connector(&sink.connector).and_then(|connector| connector.sink);
        let Some(past_age) = role.and_then(|role| role.past_age) else { return };
        let run = RunContext::default();
        let building = Building { plan: self.filled, root: self.root, state: self.state, run: &run, clock: self.clock };
        match past_age(&building.sink_spec(sink)).await {
            Ok(Some(Expired { files: 0, .. })) => println!("      expires now: nothing"),
            Ok(Some(Expired { partitions, files, rows, bytes })) => println!(
                "      expires now: {} partitions, {} files, {} rows, {}",
                grouped(partitions),
                grouped(files),
                grouped(rows),
                size(bytes)
            ),
            Ok(None) => {}
            Err(error) => println!("      what expires cannot be seen: {} ({})", error.message(), error.code()),
        }
    }

    /// Shows what registering a table would change in catalogs that the file names.
    async fn show_catalogs(&self, sink: &SinkPlan, seen: &mut Seen) {
        for catalog in &sink.catalogs {
            if lakehead_catalog::kind(&catalog.kind).is_none_or(|kind| kind.is_default) {
                continue;
            }
            let (kind, table) = (&catalog.kind, &catalog.table);
            match Box::pin(self.look(sink, catalog)).await {
                Ok(found) if found.contains(&Difference::Missing) => {
                    println!("      catalog: create {kind} table {table}");
                }
                Ok(found) => found.iter().for_each(|one| println!("      catalog: {kind} table {table}: {one}")),
                Err(error) => {
                    seen.unknown += 1;
                    println!(
                        "      catalog: {kind} table {table} cannot be seen: {} ({})",
                        error.message(),
                        error.code()
                    );
                }
            }
        }
    }

    async fn look(&self, sink: &SinkPlan, catalog: &CatalogPlan) -> Result<Vec<Difference>> {
        let listing = listing_of(self.filled, sink, self.root, self.state, self.clock).await?;
        let is_new = listing.is_none();
        let listing = listing.unwrap_or_else(|| Listing {
            schema: Arc::clone(&sink.schema),
            partition_by: Vec::new(),
            partitions: BTreeSet::new(),
            buckets: None,
            sort_by: Vec::new(),
        });
        let entry = entry_of(self.root, self.filled, sink, catalog, &listing);
        let opened = Catalog::open(&catalog.name, &catalog.kind, &catalog.settings, &Book::open(self.state)?)?;
        let found = opened.look(&entry).await?;
        // What a table will be like, its first commit says.
        Ok(if is_new { found.into_iter().filter(|one| *one == Difference::Missing).collect() } else { found })
    }
}

async fn show(plan: &Plan, look: &Look<'_>, seen: &mut Seen) {
    println!("pipeline {}", plan.name);
    for (node, filled) in plan.nodes.iter().zip(&look.filled.nodes) {
        match (&node.kind, &filled.kind) {
            (NodeKind::Source(source), _) => show_source(&node.name, source, plan),
            (NodeKind::Sink(_), NodeKind::Sink(sink)) => show_sink(&plan.name, sink, look, seen).await,
            _ => {}
        }
    }
    if let Some(sink) = &look.filled.dead_letter {
        show_sink(&plan.name, sink, look, seen).await;
    }
    for (setting, place) in &plan.not_yet {
        println!("   ! {setting} ({place}) is checked, and this version does not carry it out: `run` refuses");
    }
    println!();
}

fn show_source(name: &str, source: &SourcePlan, plan: &Plan) {
    println!("   source {name}  {} {}", source.connector, source.connection_name);
    let role = lakehead_registry::connector(&source.connector).and_then(|connector| connector.source);
    for made in role.map(|role| (role.makes)(&source.settings)).unwrap_or_default() {
        println!("     + {made}");
    }
    for table in &source.tables {
        let stream = &plan.streams[table.stream.0];
        let key = if stream.key.is_empty() { "no key".to_owned() } else { format!("key {}", stream.key.join(", ")) };
        println!("     {} {} columns, {key}", table.name, stream.schema.fields().len());
    }
}

async fn show_sink(pipeline: &str, sink: &SinkPlan, look: &Look<'_>, seen: &mut Seen) {
    let location = table_location(look.root, sink);
    let there = look.exists(sink).await;
    let mark = match &there {
        Some(Ok(true)) => "  ",
        Some(Err(_)) => " ?",
        _ => " +",
    };
    println!("  {mark} {} {}  {} {}", sink.connector, sink.table, sink.mode.word(), location);
    match &there {
        Some(Ok(false)) => seen.creates += 1,
        Some(Err(error)) => {
            seen.unknown += 1;
            println!("      cannot be seen: {} ({})", error.message(), error.code());
        }
        _ => {}
    }
    look.show_catalogs(sink, seen).await;
    if !sink.key.is_empty() {
        println!("      key {}", sink.key.join(", "));
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
    let role = lakehead_registry::connector(&sink.connector).and_then(|connector| connector.sink);
    let options = role.map_or(&[][..], |role| role.options);
    layout_lines(sink, options, pipeline).iter().for_each(|line| println!("      {line}"));
    if matches!(there, Some(Ok(true))) {
        // A table that cannot be listed is passed over: `plan` has said that it is there.
        let files = look.data_files(sink).await.unwrap_or_default();
        show_measured(sink, options, &files);
        cost_lines(sink, &files, look.clock.now()).iter().for_each(|line| println!("      {line}"));
        look.show_expired(sink).await;
    } else {
        for field in sink.schema.fields() {
            println!("      {:<24} {}", field.name(), column_type_name(field.data_type()));
        }
    }
}

/// Says what the table measures, and what its layout might be instead.
fn show_measured(sink: &SinkPlan, options: &[OptionSpec], files: &[(String, u64)]) {
    let measured = Measured::of(files);
    if measured.files == 0 {
        return;
    }
    println!("      {}", measured.line());
    measured.proposals(sink, options).iter().for_each(|proposal| println!("      propose  {proposal}"));
}
