//! `lakehead verify`: counts and order-free checksums per key range, source against lake.

mod newest;
mod sums;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::filter_record_batch;
use lakehead_core::{
    BatchBudget, Checkpoint, Error, IS_CURRENT, IS_DELETED, Lifecycle, Micros, Result, RunContext, Settings,
    SourceEvent, Value, WriteMode,
};
use lakehead_engine::{Flow, Silent};
use lakehead_lakefile::expired_rows;
use lakehead_plan::{NodeKind, Plan, SinkPlan};
use lakehead_sql::{Parameters, Sql};
use serde_json::json;

use self::newest::Newest;
use self::sums::{RANGE_KEYS, Ranges};
use super::peek::table_source;
use super::run::Runner;
use super::{Ended, find_plan};
use crate::args::{Common, Format, Verify};
use crate::parts::Building;
use crate::project::load;
use crate::show::grouped;

/// Rows of one side.
#[derive(Debug, Default)]
struct Side {
    ranges: Ranges,
    /// Takes the rows instead, where a key may come again, until all are there.
    newest: Option<Newest>,
    /// Rows past the age at which they expire: the lake may still hold them, or not, and rightly so.
    expired: u64,
}

/// Reads the source anew through the same steps, and the lake, and compares.
pub(crate) async fn verify(arguments: &Verify, common: &Common) -> Result<Ended> {
    let sql = Arc::new(Sql::new());
    let loaded = load(&arguments.path, common, &sql)?;
    let Some(mut plan) = find_plan(&loaded, &arguments.pipeline, common)? else { return Ok(Ended::Errors) };
    crate::environment::fill_secrets(&mut plan, &loaded.planned.secrets)?;
    let runner = Runner::new(&loaded, sql, Arc::new(Silent))?;
    let mut expected: BTreeMap<usize, Side> = BTreeMap::new();
    // One moment for both sides: what expires while they are read would be on one alone.
    let now = runner.engine.clock.now();
    let rejected = read_source(&runner, &plan, arguments.table.as_deref(), now, &mut expected).await?;
    let mut differs = 0;
    for (number, node) in plan.nodes.iter().enumerate() {
        let NodeKind::Sink(sink) = &node.kind else { continue };
        let name = plan.streams[sink.input.0].name.clone();
        let wanted =
            arguments.table.as_deref().is_none_or(|table| name.rsplit('.').next() == Some(table) || name == table);
        if !wanted {
            continue;
        }
        if !matches!(sink.mode, WriteMode::Upsert | WriteMode::Append | WriteMode::Scd2) {
            not_compared(sink, common);
            continue;
        }
        let mut source = expected.remove(&number).unwrap_or_default();
        let older = source.settle()?;
        let lake = read_lake(&runner, &plan, sink, now).await?;
        differs += compare(sink, &source.ranges, &lake.ranges, common);
        say_older(sink, older, common);
        say_expired(sink, &source, &lake, common);
    }
    match common.format {
        Format::Json => {
            println!("{}", json!({ "event": "done", "ranges_that_differ": differs, "rows_rejected": rejected }));
        }
        Format::Text if rejected > 0 => {
            println!("{} rows of the source are rejected by rules, and not expected in the lake", grouped(rejected));
        }
        Format::Text => {}
    }
    Ok(if differs > 0 { Ended::Differences } else { Ended::Done })
}

fn not_compared(sink: &SinkPlan, common: &Common) {
    let mode = sink.mode.word();
    match common.format {
        Format::Json => println!("{}", json!({ "table": sink.table, "mode": mode, "compared": false })),
        Format::Text => eprintln!("{}: `mode = {mode}` holds more than the source does; not compared", sink.table),
    }
}

/// Says why the source has fewer rows here than it was read to have.
fn say_older(sink: &SinkPlan, older: u64, common: &Common) {
    match common.format {
        Format::Json if older > 0 => println!("{}", json!({ "table": sink.table, "source_rows_older": older })),
        Format::Text if older > 0 => {
            println!(" not compared: {} rows of the source that have a newer one of their key", grouped(older));
        }
        _ => {}
    }
}

/// What is left out is said, or a table that lost all its rows would look the same.
fn say_expired(sink: &SinkPlan, source: &Side, lake: &Side, common: &Common) {
    let Some(expiry) = sink.retention().expiry else { return };
    let days = Lifecycle::days(expiry.after).unwrap_or(0);
    match common.format {
        Format::Json => println!(
            "{}",
            json!({ "table": sink.table, "expires_after_days": days, "source_rows_expired": source.expired,
                "lake_rows_expired": lake.expired })
        ),
        Format::Text if source.expired + lake.expired > 0 => println!(
            " not compared, in partitions older than {days} days: {} rows of the source, {} of the lake",
            grouped(source.expired),
            grouped(lake.expired)
        ),
        Format::Text => {}
    }
}

async fn read_source(
    runner: &Runner,
    plan: &Plan,
    only: Option<&str>,
    now: Micros,
    expected: &mut BTreeMap<usize, Side>,
) -> Result<u64> {
    let run = RunContext { id: "verify".into(), start: now, end: now };
    let parameters = Parameters::new(&plan.parameters, &run, "", now);
    let mut flow = Flow::new(keeping(plan), Arc::clone(&runner.engine.sql), parameters);
    if !flow.is_row_wise() {
        return Err(Error::user("R0916", "only row-wise pipelines can be verified")
            .with("pipeline", &plan.name)
            .help("verify the pipelines that fill its inputs"));
    }
    let building = Building { plan, root: &runner.root, state: &runner.state, run: &run, clock: &runner.engine.clock };
    let mut rejected = 0;
    for node in &plan.nodes {
        let NodeKind::Source(source) = &node.kind else { continue };
        let mut spec = building.source_spec(&node.name, source);
        if source.changes {
            spec.settings = snapshot_settings(&spec.settings);
            spec.tables.retain(|table| {
                only.is_none_or(|only| table.name == only || table.name.rsplit('.').next() == Some(only))
            });
        }
        let role = lakehead_registry::connector(&source.connector).and_then(|connector| connector.source);
        let role = role.ok_or_else(|| Error::bug("a planned source has no connector"))?;
        if !role.comparable {
            return Err(Error::user("R0918", "this source cannot say again what it said")
                .with("source", &node.name)
                .with("connector", &source.connector)
                .help(
                    "verify compares databases, files and tables with the lake; made-up rows are another set each run",
                ));
        }
        let mut built = (role.build)(spec)?;
        built.open(&Checkpoint::default()).await?;
        loop {
            match built.next(BatchBudget::default()).await? {
                SourceEvent::Changes(batch) => {
                    let table = source.tables.iter().find(|table| table.name == batch.table);
                    let stream =
                        table.ok_or_else(|| Error::bug("a source delivered a table it was not asked for"))?.stream;
                    let rows = flow.source_rows(stream, &batch.rows)?;
                    let output = flow.push(vec![(stream, rows)]).await?;
                    rejected += output.rejected.len() as u64;
                    for (number, rows) in output.sinks {
                        let NodeKind::Sink(sink) = &plan.nodes[number].kind else { continue };
                        let side = expected.entry(number).or_insert_with(|| Side::of_source(plan, sink, &runner.state));
                        let rows = unexpired(&rows, sink, now, side)?;
                        side.add(&rows, sink)?;
                    }
                }
                SourceEvent::Misfits { rows, .. } => rejected += rows.len() as u64,
                SourceEvent::End => break,
                _ => {}
            }
        }
        built.close().await?;
    }
    Ok(rejected)
}

/// The plan, its tables keeping what they have of rows that are set aside: the source's rows are counted, not deletes.
fn keeping(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    for node in &mut plan.nodes {
        if let NodeKind::Sink(sink) = &mut node.kind {
            sink.deletes_rejected = false;
        }
    }
    plan
}

/// A change stream is verified against the rows that stand in its tables now.
fn snapshot_settings(settings: &Settings) -> Settings {
    let mut snapshot = settings.clone();
    snapshot.set("capture", Value::Name("snapshot".into()));
    snapshot
}

impl Side {
    /// Of a database each row comes once; files and tables may say a key again, and its newest row is what the lake holds.
    fn of_source(plan: &Plan, sink: &SinkPlan, state: &Path) -> Self {
        let snapshots = plan.nodes.iter().all(|node| match &node.kind {
            NodeKind::Source(source) => source.changes,
            _ => true,
        });
        let keeps_one = matches!(sink.mode, WriteMode::Upsert | WriteMode::Scd2) && !sink.key.is_empty();
        Self { newest: (keeps_one && !snapshots).then(|| Newest::new(state)), ..Self::default() }
    }

    fn add(&mut self, rows: &RecordBatch, sink: &SinkPlan) -> Result<()> {
        let columns = source_columns(sink);
        match &mut self.newest {
            Some(newest) => newest.add(rows, &columns, &sink.key, sink.sequence_by.as_deref()),
            None => sums::add(rows, &columns, &sink.key, &mut self.ranges),
        }
    }

    /// Takes the newest row of each key; returns how many others there were.
    fn settle(&mut self) -> Result<u64> {
        let Some(newest) = self.newest.take() else { return Ok(0) };
        let (ranges, older) = newest.finish()?;
        self.ranges = ranges;
        Ok(older)
    }
}

async fn read_lake(runner: &Runner, plan: &Plan, sink: &SinkPlan, now: Micros) -> Result<Side> {
    let mut source = table_source(runner, plan, sink).await?;
    let mut side = Side::default();
    loop {
        match source.next(BatchBudget::default()).await? {
            SourceEvent::Changes(batch) => {
                let rows = unexpired(&standing(&batch.rows, sink)?, sink, now, &mut side)?;
                side.add(&rows, sink)?;
            }
            SourceEvent::End => return Ok(side),
            _ => {}
        }
    }
}

/// Leaves out rows whose partition is past its age, and counts them.
fn unexpired(rows: &RecordBatch, sink: &SinkPlan, now: Micros, side: &mut Side) -> Result<RecordBatch> {
    let Some(expiry) = sink.retention().expiry else { return Ok(rows.clone()) };
    let stays = arrow::compute::not(&expired_rows(rows, &expiry, now)?)?;
    side.expired += stays.false_count() as u64;
    Ok(filter_record_batch(rows, &stays)?)
}

/// The columns that the source has too.
fn source_columns(sink: &SinkPlan) -> Vec<String> {
    let own = sink.added_columns();
    sink.schema.fields().iter().map(|field| field.name().clone()).filter(|name| !own.contains(&name.as_str())).collect()
}

/// Leaves out what the source no longer holds: versions that are closed, rows that say that they are deleted.
fn standing(rows: &RecordBatch, sink: &SinkPlan) -> Result<RecordBatch> {
    let flags = |name: &str| rows.column_by_name(name).and_then(|column| column.as_boolean_opt());
    let stands = match sink.mode {
        WriteMode::Scd2 => flags(IS_CURRENT).cloned(),
        _ if sink.added_columns().contains(&IS_DELETED) => {
            flags(IS_DELETED).map(|flags| flags.iter().map(|deleted| Some(deleted != Some(true))).collect())
        }
        _ => None,
    };
    match stands {
        Some(stands) => Ok(filter_record_batch(rows, &stands)?),
        None => Ok(rows.clone()),
    }
}

fn compare(sink: &SinkPlan, source: &Ranges, lake: &Ranges, common: &Common) -> usize {
    let mut all: Vec<Option<i64>> = source.keys().chain(lake.keys()).copied().collect();
    all.sort_unstable();
    all.dedup();
    let mut differs = 0;
    if common.format == Format::Text {
        println!("{}\n {:<28} {:>14} {:>14}   checksum", sink.table, "key range", "source rows", "lake rows");
    }
    for range in all {
        let (a, b) = (source.get(&range).copied().unwrap_or_default(), lake.get(&range).copied().unwrap_or_default());
        let same = a == b;
        differs += usize::from(!same);
        let shown = range.map_or_else(
            || "all".to_owned(),
            |range| format!("{} .. {}", range.saturating_mul(RANGE_KEYS), (range + 1).saturating_mul(RANGE_KEYS) - 1),
        );
        match common.format {
            Format::Json => println!(
                "{}",
                serde_json::json!({ "table": sink.table, "range": shown, "source_rows": a.rows, "lake_rows": b.rows,
                    "source_hash": format!("{:032x}", a.hash), "lake_hash": format!("{:032x}", b.hash), "same": same })
            ),
            Format::Text => println!(
                " {shown:<28} {:>14} {:>14}   {}",
                grouped(a.rows),
                grouped(b.rows),
                if same { "same" } else { "DIFFERS" }
            ),
        }
    }
    differs
}
