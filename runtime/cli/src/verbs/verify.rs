//! `lakehead verify`: counts and order-free checksums per key range, source against lake.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use lakehead_core::{
    BatchBudget, Checkpoint, Error, IS_CURRENT, IS_DELETED, Lifecycle, Micros, Result, RunContext, Settings,
    SourceEvent, Value, WriteMode,
};
use lakehead_engine::{Flow, Silent};
use lakehead_lakefile::expired_rows;
use lakehead_plan::{NodeKind, Plan, SinkPlan};
use lakehead_sql::{Parameters, Sql};
use serde_json::json;

use super::peek::table_source;
use super::run::Runner;
use super::{Ended, find_plan};
use crate::args::{Common, Format, Verify};
use crate::parts::Building;
use crate::project::load;
use crate::show::grouped;

/// Keys of one range, where the first key column is a whole number.
const RANGE_KEYS: i64 = 1_000_000;

/// Rows of one range: how many, and a sum of their hashes that does not depend on their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    rows: u64,
    hash: u128,
}

type Ranges = BTreeMap<Option<i64>, Sum>;

/// Rows of one side.
#[derive(Debug, Default)]
struct Side {
    ranges: Ranges,
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
    let mut expected: BTreeMap<usize, (Side, SchemaRef)> = BTreeMap::new();
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
        let (source, _) = expected.remove(&number).unwrap_or_else(|| (Side::default(), source_columns(sink)));
        let lake = read_lake(&runner, &plan, sink, now).await?;
        differs += compare(sink, &source.ranges, &lake.ranges, common);
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
    expected: &mut BTreeMap<usize, (Side, SchemaRef)>,
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
                        add(plan, number, &rows, now, expected)?;
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

fn add(
    plan: &Plan,
    number: usize,
    rows: &RecordBatch,
    now: Micros,
    expected: &mut BTreeMap<usize, (Side, SchemaRef)>,
) -> Result<()> {
    let NodeKind::Sink(sink) = &plan.nodes[number].kind else { return Ok(()) };
    let (side, schema) = expected.entry(number).or_insert_with(|| (Side::default(), source_columns(sink)));
    let schema = Arc::clone(schema);
    let rows = unexpired(rows, sink, now, side)?;
    sum(&rows, &schema, &sink.key, &mut side.ranges)
}

async fn read_lake(runner: &Runner, plan: &Plan, sink: &SinkPlan, now: Micros) -> Result<Side> {
    let mut source = table_source(runner, plan, sink).await?;
    let (mut side, columns) = (Side::default(), source_columns(sink));
    loop {
        match source.next(BatchBudget::default()).await? {
            SourceEvent::Changes(batch) => {
                let rows = unexpired(&standing(&batch.rows, sink)?, sink, now, &mut side)?;
                sum(&rows, &columns, &sink.key, &mut side.ranges)?;
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
fn source_columns(sink: &SinkPlan) -> SchemaRef {
    let own = sink.added_columns();
    let fields = sink.schema.fields().iter().filter(|field| !own.contains(&field.name().as_str())).cloned();
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
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

/// Adds each row's hash over the columns of `schema` to its range; values are hashed as texts, so that a type that the
/// lake holds otherwise (time as text) hashes the same.
fn sum(rows: &RecordBatch, schema: &SchemaRef, key: &[String], ranges: &mut Ranges) -> Result<()> {
    let options = FormatOptions::default();
    let mut formatters = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        if let Some(column) = rows.column_by_name(field.name()) {
            formatters.push((field.name(), column, ArrayFormatter::try_new(column, &options)?));
        }
    }
    let numbers = match key.first().and_then(|column| rows.column_by_name(column)) {
        Some(column) if column.data_type().is_integer() => {
            let wide = arrow::compute::cast(column, &DataType::Int64)?;
            wide.as_any().downcast_ref::<Int64Array>().cloned()
        }
        _ => None,
    };
    for row in 0..rows.num_rows() {
        let mut hasher = twox_hash::xxhash3_128::Hasher::new();
        for (name, column, formatter) in &formatters {
            if column.is_valid(row) {
                hasher.write(name.as_bytes());
                hasher.write(b"=");
                hasher.write(formatter.value(row).to_string().as_bytes());
                hasher.write(b"\0");
            }
        }
        let range = numbers.as_ref().map(|numbers| numbers.value(row).div_euclid(RANGE_KEYS));
        let sum = ranges.entry(range).or_default();
        sum.rows += 1;
        sum.hash = sum.hash.wrapping_add(hasher.finish_128());
    }
    Ok(())
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
