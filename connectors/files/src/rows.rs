//! Rows of one file, in batches; rows that do not fit, beside them.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use lakehead_core::{BatchBudget, FILE, Result, column_type_name, reserved_field};
use lakehead_lakefile::{cast_exactly, whole_times};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use serde_json::{Map, Value};

use crate::cell::{Cell, from_json, from_text, to_array};
use crate::columns::Columns;
use crate::json::Values;
use crate::listing::Entry;
use crate::load::{Contents, Format};
use crate::members::Members;
use crate::records::{Records, cells, row_start};

/// Rows of a batch read from a Parquet file.
const BATCH_ROWS: usize = 8192;

/// One declared column, and the star of the path that it comes from, where it does.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) field: Arc<Field>,
    pub(crate) star: Option<usize>,
    /// Whether it holds JSON text: then a JSON string keeps its quotes.
    pub(crate) json: bool,
}

/// How rows are read: the declared columns, and the habits of CSV files.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) columns: Vec<Column>,
    pub(crate) header: bool,
    pub(crate) delimiter: Option<u8>,
    pub(crate) null: String,
    /// Whether a file may lack a column.
    pub(crate) may_lack: bool,
}

impl Layout {
    /// Returns the columns of the batches: the declared ones, then `_file`.
    fn schema(&self) -> SchemaRef {
        let mut fields: Vec<Arc<Field>> = self.columns.iter().map(|column| Arc::clone(&column.field)).collect();
        fields.push(Arc::new(reserved_field(FILE)));
        Arc::new(Schema::new(fields))
    }

    fn data_columns(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| column.star.is_none())
    }
}

/// Some rows of a file.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    pub(crate) rows: Option<RecordBatch>,
    /// Raw row, reason, origin.
    pub(crate) misfits: Vec<(String, String, String)>,
}

/// Reads one file.
#[derive(Debug)]
pub(crate) struct RowReader {
    layout: Arc<Layout>,
    path: String,
    stars: Vec<String>,
    input: Input,
    /// Rows that the next batch may have.
    rows_expected: usize,
}

#[derive(Debug)]
enum Input {
    Csv { text: Text, records: Records },
    Lines { text: Text, members: Members },
    Array { text: String, values: Values },
    Parquet { reader: ParquetRecordBatchReader, rest: Option<RecordBatch> },
}

/// A text that is read from its beginning on.
#[derive(Debug)]
struct Text {
    text: String,
    at: usize,
    /// Line ends before `at`.
    lines: u64,
}

impl Text {
    fn new(text: String) -> Self {
        Self { text, at: 0, lines: 0 }
    }

    fn is_at_end(&self) -> bool {
        self.at >= self.text.len()
    }

    /// Goes on to `at`, counting lines.
    fn pass(&mut self, at: usize) {
        let passed = &self.text.as_bytes()[self.at..at];
        self.lines += memchr::memchr_iter(b'\n', passed).count() as u64;
        self.at = at;
    }
}

/// One row, read or refused.
enum Row {
    /// It is in the columns.
    Read,
    Fits(Vec<Cell<'static>>),
    Misfit {
        raw: String,
        reason: String,
        line: u64,
    },
}

impl RowReader {
    /// Opens a file; the inner error says why none of it can be read.
    pub(crate) fn open(
        contents: Contents,
        layout: Arc<Layout>,
        entry: &Entry,
    ) -> Result<std::result::Result<Self, String>> {
        let input = match contents {
            Contents::Binary(bytes) => open_parquet(&bytes, &layout),
            Contents::Text(format @ (Format::Csv | Format::Tsv), text) => {
                let delimiter = layout.delimiter.unwrap_or(if format == Format::Tsv { b'\t' } else { b',' });
                open_csv(text, delimiter, &layout)
            }
            Contents::Text(Format::Json, text) if text.trim_start().starts_with('[') => {
                Values::check(&text).map(|()| Input::Array { values: Values::default(), text })
            }
            Contents::Text(_, text) => Ok(Input::Lines { text: Text::new(text), members: Members::new() }),
        };
        let (path, stars) = (entry.path.clone(), entry.stars.clone());
        Ok(input.map(|input| Self { layout, path, stars, input, rows_expected: BATCH_ROWS }))
    }

    /// Returns the next rows; `None` at the end of the file.
    pub(crate) fn next_chunk(&mut self, budget: BatchBudget) -> Result<Option<Chunk>> {
        if let Input::Parquet { reader, rest } = &mut self.input {
            let batch = match rest.take() {
                Some(batch) => batch,
                None => match reader.next() {
                    Some(batch) => batch?,
                    None => return Ok(None),
                },
            };
            let rows = batch.num_rows().min(budget.rows_max.max(1));
            if rows < batch.num_rows() {
                *rest = Some(batch.slice(rows, batch.num_rows() - rows));
            }
            let data = declared_columns(&batch.slice(0, rows), &self.layout)?;
            let rows = self.finish(data, rows)?;
            return Ok(Some(Chunk { rows: Some(rows), misfits: Vec::new() }));
        }
        let layout = Arc::clone(&self.layout);
        let data: Vec<&Column> = layout.data_columns().collect();
        let types = data.iter().map(|column| column.field.data_type());
        let mut columns = Columns::new(types, budget.rows_max.min(self.rows_expected));
        let mut misfits = Vec::new();
        if self.fill(&data, &mut columns, &mut misfits, budget)? == 0 {
            return Ok(None);
        }
        let rows = columns.rows();
        self.rows_expected = rows + rows / 8;
        let rows = if rows > 0 { Some(self.finish(columns.finish()?, rows)?) } else { None };
        Ok(Some(Chunk { rows, misfits }))
    }

    /// Reads rows into columns until the budget is spent or the file ends; returns how many were read, those that do not fit
    /// among them.
    fn fill(
        &mut self,
        data: &[&Column],
        columns: &mut Columns,
        misfits: &mut Vec<(String, String, String)>,
        budget: BatchBudget,
    ) -> Result<usize> {
        let (mut read, mut bytes) = (0, 0);
        while read < budget.rows_max.max(1) && bytes < budget.bytes_max.max(1) {
            let taken = match &mut self.input {
                Input::Csv { text, records } => csv_row(text, records, data, columns),
                Input::Lines { text, members } => line(text, members, data, columns),
                Input::Array { text, values } => {
                    let from = values.at();
                    let value = values.next(text);
                    value.map(|value| (json_row(&value, data, values.line(), || value.to_string()), values.at() - from))
                }
                Input::Parquet { .. } => None,
            };
            let Some((row, size)) = taken else { break };
            read += 1;
            bytes += size;
            match row {
                Row::Read => {}
                Row::Fits(mut values) => columns.push(&mut values),
                Row::Misfit { raw, reason, line } => misfits.push((raw, reason, format!("{}:{line}", self.path))),
            }
        }
        Ok(read)
    }

    /// Adds the columns that come from the path, and `_file`. `data` are the data columns, in their order.
    fn finish(&self, data: Vec<ArrayRef>, count: usize) -> Result<RecordBatch> {
        let mut data = data.into_iter();
        let mut columns = Vec::with_capacity(self.layout.columns.len() + 1);
        for column in &self.layout.columns {
            match column.star {
                Some(star) => {
                    let text = self.stars.get(star).map(String::as_str);
                    let cell = |_| Cell::Text(text.unwrap_or_default().into());
                    columns.push(to_array(column.field.data_type(), (0..count).map(cell).collect())?);
                }
                None => columns.extend(data.next()),
            }
        }
        columns.push(Arc::new(StringArray::from(vec![self.path.as_str(); count])));
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        Ok(RecordBatch::try_new_with_options(self.layout.schema(), columns, &options)?)
    }
}

fn misfit_reason(column: &Column) -> String {
    format!("column `{}` holds no {}", column.field.name(), column_type_name(column.field.data_type()))
}

fn open_csv(text: String, delimiter: u8, layout: &Layout) -> std::result::Result<Input, String> {
    if let Some(line) = open_quote(text.as_bytes(), delimiter) {
        return Err(format!("the quote that begins in line {line} never ends"));
    }
    let mut text = Text::new(text);
    let (names, found) = if layout.header {
        let start = row_start(text.text.as_bytes(), 0);
        let (header, end) = cells(&text.text, start, delimiter);
        let names: Vec<String> = header.iter().map(|name| name.trim().to_owned()).collect();
        let found = header_cells(&names, layout)?;
        text.pass(end);
        (names, found)
    } else {
        let names: Vec<String> = layout.data_columns().map(|column| column.field.name().clone()).collect();
        let found = (0..names.len()).map(Some).collect();
        (names, found)
    };
    Ok(Input::Csv { text, records: Records::new(delimiter, layout.null.clone(), names, found) })
}

/// Returns the cell of each column, by the names of a header.
fn header_cells(names: &[String], layout: &Layout) -> std::result::Result<Vec<Option<usize>>, String> {
    if names.iter().all(String::is_empty) {
        return Err("it has no header".into());
    }
    let cell = |column: &Column| names.iter().position(|name| name == column.field.name());
    let cells: Vec<Option<usize>> = layout.data_columns().map(cell).collect();
    let lacking = layout.data_columns().zip(&cells).find(|(_, cell)| cell.is_none());
    match lacking {
        Some((column, _)) if !layout.may_lack => Err(format!("its header lacks the column `{}`", column.field.name())),
        _ if !cells.is_empty() && cells.iter().all(Option::is_none) => {
            Err("its header names no declared column".into())
        }
        _ => Ok(cells),
    }
}

/// Reads the next line that is not empty; returns its size with it.
fn line(text: &mut Text, members: &mut Members, data: &[&Column], columns: &mut Columns) -> Option<(Row, usize)> {
    while !text.is_at_end() {
        let bytes = text.text.as_bytes();
        let end = memchr::memchr(b'\n', &bytes[text.at..]).map_or(bytes.len(), |length| text.at + length);
        let found = &text.text[text.at..end];
        text.at = end + 1;
        text.lines += 1;
        if members.read(found, data, columns).is_some() {
            return Some((Row::Read, found.len()));
        }
        // A line that is not plain, or holds a value that does not fit, is read and told the long way.
        let found = found.trim();
        if !found.is_empty() {
            return Some((json_line(found, data, text.lines), found.len()));
        }
    }
    None
}

/// Reads the next CSV row; returns its size with it.
fn csv_row(text: &mut Text, records: &Records, data: &[&Column], columns: &mut Columns) -> Option<(Row, usize)> {
    text.pass(row_start(text.text.as_bytes(), text.at));
    if text.is_at_end() {
        return None;
    }
    let (from, line) = (text.at, text.lines + 1);
    if let Some(end) = records.read(&text.text, from, data, columns) {
        text.pass(end);
        return Some((Row::Read, end - from));
    }
    let (cells, end) = cells(&text.text, from, records.delimiter());
    let row = csv_misfit(records, data, &cells, line);
    text.pass(end);
    Some((row, end - from))
}

/// Says why a row does not fit.
fn csv_misfit(records: &Records, data: &[&Column], cells: &[Cow<'_, str>], line: u64) -> Row {
    let raw = csv_raw(records.names(), cells);
    if cells.len() != records.names().len() {
        let reason = format!("the row has {} cells instead of {}", cells.len(), records.names().len());
        return Row::Misfit { raw, reason, line };
    }
    let mut values = Vec::with_capacity(data.len());
    for (column, cell) in data.iter().zip(records.cells()) {
        let text = cell.and_then(|n| cells.get(n)).filter(|text| **text != *records.null());
        let Some(value) = text.map_or(Some(Cell::Null), |text| from_text(column.field.data_type(), text)) else {
            return Row::Misfit { raw, reason: misfit_reason(column), line };
        };
        values.push(value.into_owned());
    }
    Row::Fits(values)
}

fn csv_raw(names: &[String], cells: &[Cow<'_, str>]) -> String {
    let mut raw = Map::new();
    for (n, text) in cells.iter().enumerate() {
        let name = names.get(n).cloned().unwrap_or_else(|| format!("_{}", n + 1));
        raw.insert(name, Value::String(text.clone().into_owned()));
    }
    Value::Object(raw).to_string()
}

/// Returns the line of a quote that is still open at the end of a text: all that follows it would be one cell.
fn open_quote(text: &[u8], delimiter: u8) -> Option<usize> {
    let mut at = 0;
    let next = |at: usize| memchr::memchr(b'"', &text[at.min(text.len())..]).map(|length| at + length);
    while let Some(quote) = next(at) {
        at = quote + 1;
        // Any other quote is a part of its cell.
        if quote > 0 && ![delimiter, b'\n', b'\r'].contains(&text[quote - 1]) {
            continue;
        }
        loop {
            let Some(end) = next(at) else {
                return Some(1 + memchr::memchr_iter(b'\n', &text[..quote]).count());
            };
            at = end + 2;
            // Two quotes are one; anything else behind a quote ends the quoted part.
            if text.get(end + 1) != Some(&b'"') {
                at = end + 1;
                break;
            }
        }
    }
    None
}

fn json_line(text: &str, data: &[&Column], line: u64) -> Row {
    match serde_json::from_str::<Value>(text) {
        Ok(value) => json_row(&value, data, line, || text.to_owned()),
        Err(_) => {
            let raw = Value::Object(Map::from_iter([("_line".to_owned(), Value::String(text.to_owned()))]));
            Row::Misfit { raw: raw.to_string(), reason: "the line is not JSON".into(), line }
        }
    }
}

fn json_row(value: &Value, data: &[&Column], line: u64, raw: impl Fn() -> String) -> Row {
    let Value::Object(object) = value else {
        let raw = Value::Object(Map::from_iter([("_line".to_owned(), Value::String(raw()))])).to_string();
        return Row::Misfit { raw, reason: "the row is no JSON object".into(), line };
    };
    let mut values = Vec::with_capacity(data.len());
    for column in data {
        let value = object.get(column.field.name()).unwrap_or(&Value::Null);
        let cell = match value {
            Value::String(_) if column.json => Some(Cell::Text(value.to_string().into())),
            value => from_json(column.field.data_type(), value),
        };
        let Some(cell) = cell else {
            return Row::Misfit { raw: raw(), reason: misfit_reason(column), line };
        };
        values.push(cell.into_owned());
    }
    Row::Fits(values)
}

/// Opens a Parquet file after all of it was decoded once: its rows count only if every page can be read.
fn open_parquet(bytes: &Bytes, layout: &Layout) -> std::result::Result<Input, String> {
    let reader = || -> std::result::Result<ParquetRecordBatchReader, String> {
        let metadata = ArrowReaderMetadata::load(bytes, ArrowReaderOptions::new()).and_then(whole_times);
        let metadata = metadata.map_err(|error| broken(&error))?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes.clone(), metadata);
        builder.with_batch_size(BATCH_ROWS).build().map_err(|error| broken(&error))
    };
    for batch in reader()? {
        declared_columns(&batch.map_err(|error| broken(&error))?, layout)
            .map_err(|error| error.message().to_owned())?;
    }
    Ok(Input::Parquet { reader: reader()?, rest: None })
}

fn broken(error: &dyn std::fmt::Display) -> String {
    format!("its Parquet data are broken: {error}")
}

/// Brings the columns of a Parquet file to the declared types; a value that does not fit is an error.
fn declared_columns(batch: &RecordBatch, layout: &Layout) -> Result<Vec<ArrayRef>> {
    let mut columns = Vec::with_capacity(layout.columns.len());
    for column in layout.data_columns() {
        let (name, data_type) = (column.field.name(), column.field.data_type());
        let lacks = |what: &str| lakehead_core::Error::user("R0608", format!("column `{name}` {what}"));
        columns.push(match batch.column_by_name(name) {
            Some(found) if found.data_type() == data_type => Arc::clone(found),
            Some(found) => cast_exactly(found, data_type).map_err(|_| {
                let (from, to) = (column_type_name(found.data_type()), column_type_name(data_type));
                lacks(&format!("holds {from}, and some of it is no {to}"))
            })?,
            None if layout.may_lack => arrow::array::new_null_array(data_type, batch.num_rows()),
            None => return Err(lacks("is not in the file")),
        });
    }
    Ok(columns)
}

/// Refuses declared types that no file can be read into.
pub(crate) fn check_types(columns: &[Column]) -> Result<()> {
    for column in columns {
        to_array(column.field.data_type(), Vec::new())?;
        if column.star.is_some() && column.field.data_type() != &DataType::Utf8 {
            return Err(crate::cell::unreadable_type(column.field.data_type()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::Int64Type;
    use lakehead_core::parse_column_type;

    use super::*;

    fn layout() -> Layout {
        let column = |name: &str, type_name: &str, star| Column {
            field: Arc::new(Field::new(name, parse_column_type(type_name).unwrap(), true)),
            star,
            json: false,
        };
        Layout {
            columns: vec![
                column("partner", "varchar", Some(0)),
                column("id", "bigint", None),
                column("amount", "decimal(12, 2)", None),
                column("note", "varchar", None),
            ],
            header: true,
            delimiter: None,
            null: String::new(),
            may_lack: false,
        }
    }

    fn read(format: Format, text: &str, layout: Layout) -> std::result::Result<Chunk, String> {
        let entry = Entry {
            path: "acme/a.csv".into(),
            size: 0,
            etag: None,
            identity: String::new(),
            stars: vec!["acme".into()],
        };
        let mut reader = RowReader::open(Contents::Text(format, text.into()), Arc::new(layout), &entry).unwrap()?;
        Ok(reader.next_chunk(BatchBudget::default()).unwrap().unwrap_or_default())
    }

    fn ids(chunk: &Chunk) -> Vec<i64> {
        let Some(rows) = &chunk.rows else { return vec![] };
        rows.column_by_name("id").unwrap().as_primitive::<Int64Type>().values().to_vec()
    }

    #[test]
    fn rows_that_do_not_fit_are_set_aside_and_the_others_go_on() {
        let text = "id,note,amount,extra\n1,\"a,\nb\",9.50,x\n2,b\nthree,c,1,x\n4,,,x\n5,d,1.005,x\n";
        let chunk = read(Format::Csv, text, layout()).unwrap();
        assert_eq!(ids(&chunk), [1, 4]);
        let rows = chunk.rows.unwrap();
        assert_eq!(rows.column(0).as_string::<i32>().value(1), "acme");
        assert_eq!(rows.column_by_name(FILE).unwrap().as_string::<i32>().value(0), "acme/a.csv");
        assert!(rows.column(2).is_null(1) && rows.column(3).is_null(1));
        let origins: Vec<_> = chunk.misfits.iter().map(|(_, _, origin)| origin.as_str()).collect();
        assert_eq!(origins, ["acme/a.csv:4", "acme/a.csv:5", "acme/a.csv:7"]);
        assert_eq!(chunk.misfits[0].0, r#"{"id":"2","note":"b"}"#);
        assert_eq!(chunk.misfits[1].1, "column `id` holds no bigint");
    }

    #[test]
    fn json_is_read_by_line_or_as_an_array() {
        let line = r#"{"id": 1, "amount": 9.50, "note": "a", "unknown": [1]}"#;
        let lines = format!("{line}\n\n{{broken\n[1]\n{{\"id\": \"x\"}}\n{{\"id\": 2}}\n");
        let chunk = read(Format::Json, &lines, layout()).unwrap();
        assert_eq!((ids(&chunk), chunk.misfits.len()), (vec![1, 2], 3));
        assert_eq!(
            chunk.misfits[0],
            (r#"{"_line":"{broken"}"#.to_owned(), "the line is not JSON".to_owned(), "acme/a.csv:3".to_owned())
        );
        let chunk = read(Format::Json, &format!(" [{line},\n {{\"id\": true}} , {line}]\n"), layout()).unwrap();
        assert_eq!((ids(&chunk), chunk.misfits.len()), (vec![1, 1], 1));
        assert_eq!(chunk.misfits[0].2, "acme/a.csv:2");
        assert!(read(Format::Json, &format!("[{line}, {{"), layout()).is_err());
    }

    #[test]
    fn a_header_that_lacks_a_column_rejects_the_file_unless_columns_may_come_and_go() {
        let text = "id,note\n1,a\n";
        assert!(read(Format::Csv, text, layout()).unwrap_err().contains("`amount`"));
        assert_eq!(ids(&read(Format::Csv, text, Layout { may_lack: true, ..layout() }).unwrap()), [1]);
        assert!(read(Format::Csv, "", layout()).unwrap_err().contains("no header"));
        let bare = Layout { header: false, delimiter: Some(b';'), null: "-".into(), ..layout() };
        let chunk = read(Format::Csv, "7;1;-\n", bare).unwrap();
        assert_eq!(ids(&chunk), [7]);
        assert!(chunk.rows.unwrap().column(3).is_null(0));
    }

    #[test]
    fn a_chunk_holds_no_more_than_the_budget() {
        let text = "{\"id\":1}\n".repeat(10);
        let entry = Entry { path: "a".into(), size: 0, etag: None, identity: String::new(), stars: vec![] };
        let contents = Contents::Text(Format::Lines, text);
        let mut reader = RowReader::open(contents, Arc::new(layout()), &entry).unwrap().unwrap();
        let budget = BatchBudget { rows_max: 4, ..BatchBudget::default() };
        let mut sizes = vec![];
        while let Some(chunk) = reader.next_chunk(budget).unwrap() {
            sizes.push(chunk.rows.unwrap().num_rows());
        }
        assert_eq!(sizes, [4, 4, 2]);
    }
}
