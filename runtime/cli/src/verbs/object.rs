//! `lakehead peek`: rows of one object, and no more of it read than they need.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt;
use lakehead_core::{Clock, Error, Result, RunContext, Settings, SystemClock};
use lakehead_engine::rows_to_json;
use lakehead_files::TextObject;
use lakehead_lakefile::{Condition, Location, SelectiveFile, object_size};
use lakehead_plan::{Scope, SqlAnalyzer, SqlText};
use lakehead_sql::{Parameters, Predicate, Sql};
use lakehead_syntax::{FileId, SourceMap, Span, render_text};

use super::Ended;
use crate::args::{Common, Format, Peek};
use crate::show::grouped;

/// Rows that are shown at most: they are held for the width of their columns.
const ROWS_MAX: usize = 100_000;
/// Rows of a text that a condition is asked for at once.
const CONDITION_ROWS: usize = 1024;

/// What was asked for.
struct Wanted {
    condition: Option<Compiled>,
    /// The columns to show, in their order.
    columns: Vec<String>,
    limit: usize,
}

/// A condition over some of the object's columns.
struct Compiled {
    schema: SchemaRef,
    predicate: Predicate,
}

/// What was found.
#[derive(Default)]
struct Found {
    rows: Vec<RecordBatch>,
    bytes_read: u64,
    misfits: usize,
}

/// Shows rows of one object.
pub(crate) async fn peek(arguments: &Peek, common: &Common) -> Result<Ended> {
    let (location, name) = place(&arguments.object)?;
    let size = object_size(&location, &name).await?.ok_or_else(|| {
        Error::user("R0428", "there is no such object")
            .with("object", &arguments.object)
            .help("name one file, not a folder: lakehead peek lake/orders/part-0.parquet")
    })?;
    let text = condition_text(&arguments.condition)?;
    let columns = arguments.columns.as_deref();
    let limit = arguments.limit.min(ROWS_MAX);
    let ending = name.to_ascii_lowercase();
    let found = if ending.ends_with(".parquet") || ending.ends_with(".orc") {
        let file = SelectiveFile::open(&location, &name).await?;
        let Some(wanted) = wanted(&Arc::clone(file.schema()), &text, columns, limit)? else { return Ok(Ended::Errors) };
        from_parts(file, wanted).await?
    } else {
        let mut object = TextObject::open(&location, &name).await?;
        let Some(wanted) = wanted(&Arc::clone(object.schema()), &text, columns, limit)? else {
            return Ok(Ended::Errors);
        };
        // Where all rows are shown, no more of them is read; a condition is not asked row by row.
        let rows = if wanted.condition.is_some() { CONDITION_ROWS } else { wanted.limit };
        let found = from_batches(async || object.next_rows(rows).await, &wanted).await?;
        Found { bytes_read: object.bytes_read(), misfits: object.misfits, ..found }
    };
    show(&found, size, common)?;
    Ok(Ended::Done)
}

/// Parts a path or URL into its folder and its last name.
fn place(object: &str) -> Result<(Location, String)> {
    let here =
        std::env::current_dir().map_err(|error| Error::user("R0428", "there is no folder here").caused_by(error))?;
    if object.contains("://") {
        let (folder, name) = object.rsplit_once('/').unwrap_or((object, ""));
        return Ok((Location::open(folder, &here, &Settings::default())?, name.to_owned()));
    }
    let path = PathBuf::from(object);
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let folder = path.parent().unwrap_or(Path::new("")).to_string_lossy().into_owned();
    Ok((Location::open(&folder, &here, &Settings::default())?, name))
}

/// Reads `where { SQL }`; the braces may be left out.
fn condition_text(words: &[String]) -> Result<String> {
    let text = words.join(" ");
    let text = text.trim();
    let rest = match text.strip_prefix("where") {
        _ if text.is_empty() => return Ok(String::new()),
        Some(rest) if rest.starts_with([' ', '{']) => rest.trim(),
        _ => {
            return Err(Error::user("R0430", "behind the object comes `where { SQL }`")
                .with("given", text)
                .help("lakehead peek a.parquet \"where { id > 5 }\""));
        }
    };
    let inner = rest.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(rest);
    Ok(inner.trim().to_owned())
}

/// Checks what was asked for against the object's columns; `None` where the condition has mistakes, which are told.
fn wanted(schema: &SchemaRef, text: &str, columns: Option<&[String]>, limit: usize) -> Result<Option<Wanted>> {
    let all: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let columns = columns.map_or_else(|| all.clone(), <[String]>::to_vec);
    if let Some(missing) = columns.iter().find(|column| !all.contains(column)) {
        return Err(Error::user("R0431", "the object has no such column")
            .with("column", missing)
            .help(format!("it has: {}", all.join(", "))));
    }
    if text.is_empty() {
        return Ok(Some(Wanted { condition: None, columns, limit }));
    }
    let sql = Sql::new();
    let sql_text = SqlText { text: text.to_owned(), file: FileId(0), span: Span::new(0, text.len()) };
    let scope = |schema: &SchemaRef| Scope {
        inputs: vec![("object".to_owned(), Arc::clone(schema))],
        parameters: BTreeMap::new(),
        origin: "the object's own columns".to_owned(),
    };
    let shape = match sql.expression(&sql_text, &scope(schema), false) {
        Ok(shape) => shape,
        Err(found) => {
            eprint!("{}", render_text(&found, &SourceMap::single("where", text), false));
            return Ok(None);
        }
    };
    if shape.data_type != DataType::Boolean {
        return Err(Error::user("R0430", "the condition is neither true nor false")
            .with("type", lakehead_core::column_type_name(&shape.data_type))
            .help("where { amount > 0 }"));
    }
    let mut read: Vec<_> =
        schema.fields().iter().filter(|field| shape.inputs.contains(field.name())).cloned().collect();
    if read.is_empty() {
        // `true`, say: some column must tell how many rows there are.
        read.extend(schema.fields().first().cloned());
    }
    let restricted: SchemaRef = Arc::new(Schema::new(read));
    let parameters = Parameters::new(&BTreeMap::new(), &RunContext::default(), "", SystemClock::default().now());
    let predicate = sql.predicate(&sql_text, &scope(&restricted), &parameters)?;
    Ok(Some(Wanted { condition: Some(Compiled { schema: restricted, predicate }), columns, limit }))
}

async fn from_parts(file: SelectiveFile, wanted: Wanted) -> Result<Found> {
    let bytes = file.bytes_read();
    let condition = wanted.condition.map(|Compiled { schema, predicate }| {
        let pruner = predicate.pruner(&schema);
        Condition {
            columns: schema.fields().iter().map(|field| field.name().clone()).collect(),
            keeps: Box::new(move |parts, extremes| match &pruner {
                Some(pruner) => pruner.keeps(parts, extremes),
                None => vec![true; parts],
            }),
            holds: Box::new(move |rows| predicate.evaluate(rows)),
        }
    });
    let rows: Vec<RecordBatch> = file.read(&wanted.columns, condition, wanted.limit)?.try_collect().await?;
    let rows = rows.iter().map(|rows| picked(rows, &wanted.columns)).collect::<Result<_>>()?;
    Ok(Found { rows, bytes_read: bytes.load(Ordering::Relaxed), misfits: 0 })
}

async fn from_batches(mut next: impl AsyncFnMut() -> Result<Option<RecordBatch>>, wanted: &Wanted) -> Result<Found> {
    let mut found = Found::default();
    let mut left = wanted.limit;
    while left > 0 {
        let Some(mut rows) = next().await? else { break };
        if let Some(Compiled { schema, predicate }) = &wanted.condition {
            let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
            let holds = predicate.evaluate(&picked(&rows, &names)?)?;
            let holds: BooleanArray =
                (0..holds.len()).map(|row| Some(holds.is_valid(row) && holds.value(row))).collect();
            rows = filter_record_batch(&rows, &holds)?;
        }
        let rows = rows.slice(0, rows.num_rows().min(left));
        left -= rows.num_rows();
        if rows.num_rows() > 0 {
            found.rows.push(picked(&rows, &wanted.columns)?);
        }
    }
    Ok(found)
}

fn picked(rows: &RecordBatch, columns: &[String]) -> Result<RecordBatch> {
    let places =
        columns.iter().map(|column| rows.schema_ref().index_of(column)).collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(rows.project(&places)?)
}

fn show(found: &Found, size: u64, common: &Common) -> Result<()> {
    let rows: usize = found.rows.iter().map(RecordBatch::num_rows).sum();
    match common.format {
        Format::Json => {
            for batch in &found.rows {
                rows_to_json(batch)?.iter().for_each(|row| println!("{row}"));
            }
        }
        Format::Text if rows > 0 => println!("{}", pretty_format_batches(&found.rows)?),
        Format::Text => {}
    }
    if !common.quiet {
        eprintln!("{} rows, {} of {} bytes read", grouped(rows as u64), grouped(found.bytes_read), grouped(size));
    }
    if found.misfits > 0 {
        eprintln!("{} rows are none of the object's own columns and are not shown", grouped(found.misfits as u64));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_may_be_one_word_or_many_with_braces_or_without() {
        let read = |words: &[&str]| condition_text(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        for words in [&["where { id > 5 }"][..], &["where", "{", "id", ">", "5", "}"], &["where", "id > 5"]] {
            assert_eq!(read(words).unwrap(), "id > 5", "{words:?}");
        }
        assert_eq!(read(&[]).unwrap(), "");
        for words in [&["id > 5"][..], &["wherever"]] {
            assert_eq!(read(words).unwrap_err().code(), "R0430");
        }
    }
}
