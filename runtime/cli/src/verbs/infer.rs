//! `lakehead infer`: the columns of files or of a table, with what speaks for them.

use std::path::Path;
use std::sync::Arc;

use arrow::array::Array;
use lakehead_core::{
    BatchBudget, Checkpoint, Clock, Discovery, Error, Result, RunContext, Settings, SourceEvent, SourceRole,
    SourceSpec, SystemClock, TableSpec, Value, column_type_name,
};
use serde_json::json;

use super::Ended;
use super::register::look_at;
use crate::args::{Common, Format, Infer};
use crate::show::grouped;

/// Rows that are counted for the evidence.
const ROWS_MAX: usize = 10_000;
/// What a source's node is called here.
const NODE: &str = "rows";

/// What was seen of the rows.
#[derive(Default)]
struct Evidence {
    rows: usize,
    /// Rows with a value, by column.
    filled: Vec<usize>,
    misfits: usize,
    /// Inputs that could not be read, and why.
    rejected: Vec<String>,
}

/// Prints a `columns` contract.
pub(crate) async fn infer(arguments: &Infer, common: &Common) -> Result<Ended> {
    let is_pattern = arguments.place.contains(['*', '?', '{', '%']);
    if !is_pattern && let Some(found) = look_at(&arguments.place).await? {
        let table = TableSpec { name: NODE.into(), schema: found.listing.schema, key: Vec::new() };
        show(&table, None, &format!("as the {} table says", found.format), common);
        return Ok(Ended::Done);
    }
    let (role, connection, settings) = files(&arguments.place, arguments.sample)?;
    let root = std::env::current_dir().unwrap_or_default();
    let mut asked = settings.clone();
    asked.set("columns", Value::Name("infer".into()));
    let discovery =
        Discovery { connection: connection.clone(), settings: asked, node: NODE.into(), root: root.clone() };
    let tables = (role.discover)(&discovery).await?;
    let table = tables.into_iter().next().ok_or_else(|| Error::bug("a source has no table"))?;
    let evidence = look(&role, &table, connection, settings, &root).await?;
    let source = format!("from {} rows looked at", grouped(evidence.rows as u64));
    show(&table, Some(&evidence), &source, common);
    Ok(Ended::Done)
}

/// The source that reads files by their names, and the settings that name these.
fn files(place: &str, sample: u32) -> Result<(SourceRole, Settings, Settings)> {
    // Inputs that arrive by themselves are files.
    let roles = lakehead_registry::CONNECTORS.iter().filter_map(|connector| connector.source);
    let role = roles.into_iter().find(|role| role.arrivals.is_some());
    let role = role.ok_or_else(|| Error::bug("no connector reads files"))?;
    let first_hole = place.find(['*', '?', '{', '%']).unwrap_or(place.len());
    let (folder, pattern) = match place[..first_hole].rfind('/') {
        Some(slash) => (&place[..slash.max(1)], &place[slash + 1..]),
        None => (".", place),
    };
    let pattern = if pattern.is_empty() { "**" } else { pattern };
    let text = |name: &str, text: &str| (name.to_owned(), Value::Text(text.to_owned()));
    let settings = [text("path", pattern), ("sample".to_owned(), Value::Int(i64::from(sample)))];
    Ok((role, Settings::new([text("path", folder)]), Settings::new(settings)))
}

/// Reads the first rows as a run would, and keeps none.
async fn look(
    role: &SourceRole,
    table: &TableSpec,
    connection: Settings,
    settings: Settings,
    root: &Path,
) -> Result<Evidence> {
    let mut source = (role.build)(SourceSpec {
        pipeline: "infer".into(),
        node: NODE.into(),
        connection,
        settings,
        tables: vec![table.clone()],
        root: root.to_path_buf(),
        run: RunContext::default(),
        clock: Arc::new(SystemClock::default()) as Arc<dyn Clock>,
    })?;
    source.open(&Checkpoint::default()).await?;
    let mut evidence = Evidence { filled: vec![0; table.schema.fields().len()], ..Evidence::default() };
    while evidence.rows < ROWS_MAX {
        match source.next(BatchBudget::default()).await? {
            SourceEvent::Changes(batch) => {
                let rows = batch.rows.slice(0, batch.rows.num_rows().min(ROWS_MAX - evidence.rows));
                evidence.rows += rows.num_rows();
                for (filled, field) in evidence.filled.iter_mut().zip(table.schema.fields()) {
                    let column = rows.column_by_name(field.name());
                    *filled += column.map_or(0, |column| column.len() - column.logical_null_count());
                }
            }
            SourceEvent::Misfits { rows, .. } => evidence.misfits += rows.len(),
            SourceEvent::Rejected { origin, reason } => evidence.rejected.push(format!("{origin}: {reason}")),
            SourceEvent::End | SourceEvent::CaughtUp => break,
            _ => {}
        }
    }
    source.close().await?;
    Ok(evidence)
}

fn show(table: &TableSpec, evidence: Option<&Evidence>, source: &str, common: &Common) {
    let fields = table.schema.fields();
    let filled = |number: usize| evidence.and_then(|evidence| evidence.filled.get(number)).copied();
    if common.format == Format::Json {
        let column = |(number, field): (usize, &Arc<arrow::datatypes::Field>)| json!({ "name": field.name(), "type": column_type_name(field.data_type()), "filled": filled(number) });
        let columns: Vec<_> = fields.iter().enumerate().map(column).collect();
        let (rows, misfits) = (evidence.map(|found| found.rows), evidence.map(|found| found.misfits));
        println!("{}", json!({ "columns": columns, "rows": rows, "misfits": misfits }));
        return;
    }
    println!("# {source}");
    println!("columns = {{");
    let names: Vec<String> = fields.iter().map(|field| quoted(field.name())).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let types: Vec<String> = fields.iter().map(|field| column_type_name(field.data_type()) + ",").collect();
    let wide = types.iter().map(String::len).max().unwrap_or(0);
    for (number, (name, type_name)) in names.iter().zip(&types).enumerate() {
        let note = match (filled(number), evidence) {
            (Some(filled), Some(evidence)) if filled < evidence.rows => {
                format!("  # {} of {} rows", grouped(filled as u64), grouped(evidence.rows as u64))
            }
            _ => String::new(),
        };
        println!("{}", format!("  {name:<width$} = {type_name:<wide$}{note}").trim_end());
    }
    println!("}}");
    let Some(evidence) = evidence else { return };
    if evidence.misfits > 0 {
        println!(
            "# {} rows do not fit: on_misfit = dead_letter   sets such rows aside",
            grouped(evidence.misfits as u64)
        );
    }
    evidence.rejected.iter().for_each(|line| println!("# not read: {line}"));
}

fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_word = name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty();
    if is_word { name.to_owned() } else { format!("\"{name}\"") }
}
