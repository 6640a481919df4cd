//! `lakehead status`.

use lakehead_catalog::{Book, Registration};
use lakehead_core::{Result, TableFigures, format_micros};
use lakehead_plan::When;
use lakehead_sql::Sql;
use lakehead_state::{CopyRecord, Ledger, RunState, TableRecord};

use super::Ended;
use crate::args::{Common, Format, Status};
use crate::copies::standing;
use crate::project::load;
use crate::show::{grouped, size};

/// Shows the last run of each pipeline and the tables it wrote.
pub(crate) fn status(arguments: &Status, common: &Common) -> Result<Ended> {
    let loaded = load(&arguments.path, common, &Sql::new())?;
    let ledger = Ledger::open(&loaded.state_folder().join("ledger.sqlite"))?;
    let wanted = |name: &&String| arguments.pipeline.as_ref().is_none_or(|only| only == *name);
    let names: Vec<&String> = loaded.planned.names.iter().filter(wanted).collect();
    if names.is_empty() {
        eprintln!("no such pipeline; there are: {}", loaded.planned.names.join(", "));
        return Ok(Ended::NothingMatched);
    }
    let tables = ledger.tables()?;
    let registrations = Book::open(&loaded.state_folder())?.registrations()?;
    let mut records = Vec::new();
    if common.format == Format::Text {
        println!("{:<24} {:<11} {:<21} {:>12} {:>10}  next", "pipeline", "state", "last run", "rows", "set aside");
    }
    for name in names {
        let runs = ledger.runs(name, if arguments.pipeline.is_some() { 10 } else { 1 })?;
        let own: Vec<_> = tables.iter().filter(|table| table.pipeline == *name).collect();
        let lease = ledger.lease(name)?;
        let copies = ledger.copies(name)?;
        let listed: Vec<_> = registrations.iter().filter(|found| found.pipeline == *name).collect();
        if common.format == Format::Json {
            records.push(serde_json::json!({
                "pipeline": name, "runs": runs, "tables": own, "lease": lease, "catalogs": listed,
                "copies": copies,
            }));
            continue;
        }
        let when = loaded.planned.plans.iter().find(|plan| plan.name == *name).map(|plan| words(&plan.trigger.when));
        let Some(last) = runs.first() else {
            println!(
                "{name:<24} {:<11} {:<21} {:>12} {:>10}  {}",
                "never ran",
                "-",
                "-",
                "-",
                when.unwrap_or_default()
            );
            continue;
        };
        println!(
            "{name:<24} {:<11} {:<21} {:>12} {:>10}  {}",
            word(last.state),
            format_micros(last.started / 1_000_000 * 1_000_000),
            grouped(last.rows_written),
            grouped(last.rows_rejected),
            when.unwrap_or_default()
        );
        if let Some(lease) = lease.filter(|_| last.state == RunState::Running) {
            println!("{:<24}   held by {} (generation {})", "", lease.owner, lease.fence);
        }
        if let Some(error) = &last.error {
            println!("{:<24} {error}", "");
        }
        own.iter().for_each(|table| show_table(table, &copies));
        listed.iter().for_each(|found| show_unlisted(found));
    }
    if common.format == Format::Text {
        registrations.iter().filter(|found| found.pipeline.is_empty()).for_each(show_unlisted);
    }
    if common.format == Format::Json {
        println!("{}", serde_json::to_string_pretty(&records).unwrap_or_default());
    }
    Ok(Ended::Done)
}

/// Says what a table holds, and how its copies stand.
fn show_table(table: &TableRecord, copies: &[CopyRecord]) {
    println!("{:<24}   {:<30} version {:<6} {}", "", table.table, table.version, table.location);
    if let Some(figures) = &table.figures {
        println!("{:<24}   {:<30} {}", "", "", held(figures));
    }
    for copy in copies.iter().filter(|copy| copy.connection == table.connection && copy.table == table.table) {
        println!("{:<24}   {:<30} {}", "", "", standing(copy, table.version));
    }
}

/// Says that a catalog does not list a table as it is, and since when.
fn show_unlisted(found: &Registration) {
    let Some(error) = &found.error else { return };
    let since = format_micros(found.since / 1_000_000 * 1_000_000);
    let (catalog, table, attempts) = (&found.catalog, &found.table, found.attempts);
    println!("{:<24}   catalog {catalog} does not list {table} since {since}, {attempts} attempts: {error}", "");
}

/// Says what a table holds: `3 files, 12.1 MiB, 1,204 rows; 3 % marked as deleted; log and vectors 0.4 x data`.
fn held(figures: &TableFigures) -> String {
    let mut text = format!(
        "{} file{}, {}, {} rows",
        grouped(figures.files),
        if figures.files == 1 { "" } else { "s" },
        size(figures.bytes),
        grouped(figures.rows)
    );
    let all = figures.rows + figures.rows_gone;
    if figures.rows_gone > 0 {
        text.push_str(&format!("; {} % marked as deleted", (figures.rows_gone * 100).div_ceil(all)));
    }
    if let Some(tenths) = (figures.overhead_bytes * 10).checked_div(figures.payload_bytes) {
        text.push_str(&format!("; log and vectors {}.{} x data", tenths / 10, tenths % 10));
    }
    if let Some(at) = figures.sweep_at {
        text.push_str(&format!("; swept next {}", format_micros(at / 1_000_000 * 1_000_000)));
    }
    text
}

fn word(state: RunState) -> &'static str {
    match state {
        RunState::Running => "running",
        RunState::Succeeded => "ok",
        RunState::Failed => "FAILED",
        RunState::Stopped => "stopped",
    }
}

fn words(when: &When) -> String {
    match when {
        When::Continuous => "continuous".into(),
        When::Manual => "by hand".into(),
        When::Arrival => "on arrival".into(),
        When::Cron(text) => text.clone(),
        When::Every(length) => format!("every {} s", length.as_secs()),
        When::Event(kind) => format!("event {kind}"),
        When::After(names, _) => format!("after {}", names.join(", ")),
    }
}
