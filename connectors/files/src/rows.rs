//! Rows of one file, in batches; rows that do not fit, beside them.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use csv::{ReaderBuilder, StringRecord};
use lakehead_core::{BatchBudget, FILE, Result, column_type_name, reserved_field};
use lakehead_lakefile::{calmly, cast_exactly, load_metadata, whole_times};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use serde_json::{Map, Value};

use crate::cell::{Cell, from_json, from_text, to_array};
use crate::columns::Columns;
use crate::json::Values;
use crate::listing::Entry;
use crate::load::{Contents, Format};
use crate::plain::{PlainRows, from_plain, object};

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
}

#[derive(Debug)]
enum Input {
    Csv(CsvInput),
    PlainCsv { rows: PlainRows, names: Vec<String>, cells: Vec<Option<usize>> },
    Lines { text: String, at: usize, line: u64 },
    Array { text: String, values: Values },
    Parquet { reader: ParquetRecordBatchReader, rest: Option<RecordBatch> },
}

#[derive(Debug)]
struct CsvInput {
    reader: csv::Reader<std::io::Cursor<String>>,
    record: StringRecord,
    names: Vec<String>,
    /// The cell of each data column; `None` where the file has none.
    cells: Vec<Option<usize>>,
}

/// One row, read or refused.
enum Row {
    Fits(Vec<Cell<'static>>),
    Misfit { raw: String, reason: String, line: u64 },
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
            Contents::Text(_, text) => Ok(Input::Lines { text, at: 0, line: 0 }),
        };
        Ok(input.map(|input| Self { layout, path: entry.path.clone(), stars: entry.stars.clone(), input }))
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
        let mut columns = Columns::new(self.layout.data_columns().map(|column| column.field.data_type()));
        let mut chunk = Chunk::default();
        if self.fill(&mut columns, &mut chunk.misfits, budget)? == 0 {
            return Ok(None);
        }
        let rows = columns.rows();
        if rows > 0 {
            chunk.rows = Some(self.finish(columns.finish()?, rows)?);
        }
        Ok(Some(chunk))
    }

    /// Reads rows into columns until the budget is spent or the file ends; returns how many were read, those that do not fit
    /// among them.
    fn fill(
        &mut self,
        columns: &mut Columns,
        misfits: &mut Vec<(String, String, String)>,
        budget: BatchBudget,
    ) -> Result<usize> {
        let (mut read, mut bytes) = (0, 0);
        let layout = Arc::clone(&self.layout);
        let data: Vec<&Column> = layout.data_columns().collect();
        let mut places = Vec::new();
        while read < budget.rows_max.max(1) && bytes < budget.bytes_max.max(1) {
            let taken = match &mut self.input {
                Input::PlainCsv { rows, names, cells } => plain_row(rows, names, cells, &layout, &mut places, columns),
                Input::Lines { text, at, line } => {
                    let Some(json) = next_line(text, at, line) else { break };
                    // A line that is not plain, or holds a value that does not fit, is read and told the long way.
                    let row = match plain_line(json, &data) {
                        Some(mut row) => {
                            columns.push(&mut row);
                            None
                        }
                        None => Some(json_line(json, &layout, *line)),
                    };
                    Some((row, json.len()))
                }
                _ => self.next_row()?.map(|(row, size)| (Some(row), size)),
            };
            let Some((row, size)) = taken else { break };
            read += 1;
            bytes += size;
            match row {
                None => {}
                Some(Row::Fits(mut values)) => columns.push(&mut values),
                Some(Row::Misfit { raw, reason, line }) => misfits.push((raw, reason, format!("{}:{line}", self.path))),
            }
        }
        Ok(read)
    }

    fn next_row(&mut self) -> Result<Option<(Row, usize)>> {
        match &mut self.input {
            Input::Csv(csv) => csv.next(&self.layout),
            Input::Array { text, values } => {
                let from = values.at();
                let Some(value) = values.next(text) else { return Ok(None) };
                let row = json_row(&value, &self.layout, values.line(), || value.to_string());
                Ok(Some((row, values.at() - from)))
            }
            Input::Lines { .. } | Input::PlainCsv { .. } | Input::Parquet { .. } => Ok(None),
        }
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
    if text.contains('"')
        && let Some(line) = open_quote(text.as_bytes(), delimiter)
    {
        return Err(format!("the quote that begins in line {line} never ends"));
    }
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(layout.header)
        .flexible(true)
        .from_reader(std::io::Cursor::new(text));
    if !layout.header {
        let names: Vec<String> = layout.data_columns().map(|column| column.field.name().clone()).collect();
        let cells = (0..names.len()).map(Some).collect();
        return Ok(csv_input(reader, delimiter, names, cells));
    }
    let header = reader.headers().map_err(|error| format!("its header cannot be read: {error}"))?;
    let names: Vec<String> = header.iter().map(|name| name.trim().to_owned()).collect();
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
        _ => Ok(csv_input(reader, delimiter, names, cells)),
    }
}

/// Goes on behind the header, in the short way where the text allows for it.
fn csv_input(
    reader: csv::Reader<std::io::Cursor<String>>,
    delimiter: u8,
    names: Vec<String>,
    cells: Vec<Option<usize>>,
) -> Input {
    let at = usize::try_from(reader.position().byte()).unwrap_or(usize::MAX);
    let has_headers = reader.has_headers();
    let text = reader.into_inner().into_inner();
    match PlainRows::new(text, at, delimiter) {
        Ok(rows) => Input::PlainCsv { rows, names, cells },
        Err(text) => {
            let mut reader = ReaderBuilder::new();
            let reader = reader.delimiter(delimiter).has_headers(has_headers).flexible(true);
            let reader = reader.from_reader(std::io::Cursor::new(text));
            Input::Csv(CsvInput { reader, record: StringRecord::new(), names, cells })
        }
    }
}

/// Returns the next line that is not empty, without the blanks around it.
fn next_line<'a>(text: &'a str, at: &mut usize, line: &mut u64) -> Option<&'a str> {
    while *at < text.len() {
        let end = text[*at..].find('\n').map_or(text.len(), |n| *at + n);
        let found = text[*at..end].trim();
        *at = end + 1;
        *line += 1;
        if !found.is_empty() {
            return Some(found);
        }
    }
    None
}

/// Reads a row of a plain text into the columns, or returns why it does not fit; its size is beside it.
fn plain_row(
    rows: &mut PlainRows,
    names: &[String],
    cells: &[Option<usize>],
    layout: &Layout,
    places: &mut Vec<(usize, usize)>,
    columns: &mut Columns,
) -> Option<(Option<Row>, usize)> {
    let (line, size) = rows.next(places)?;
    let raw = || csv_raw(names, places.iter().map(|place| rows.cell(*place)));
    if places.len() != names.len() {
        let reason = format!("the row has {} cells instead of {}", places.len(), names.len());
        return Some((Some(Row::Misfit { raw: raw(), reason, line }), size));
    }
    let mut row = Vec::with_capacity(cells.len());
    for (column, cell) in layout.data_columns().zip(cells) {
        let text = cell.and_then(|n| places.get(n)).map(|place| rows.cell(*place)).filter(|text| *text != layout.null);
        let Some(value) = text.map_or(Some(Cell::Null), |text| from_text(column.field.data_type(), text)) else {
            return Some((Some(Row::Misfit { raw: raw(), reason: misfit_reason(column), line }), size));
        };
        row.push(value);
    }
    columns.push(&mut row);
    Some((None, size))
}

/// Reads a row of a plain line; `None` where another reader is to look at it.
fn plain_line<'a>(line: &'a str, columns: &[&Column]) -> Option<Vec<Cell<'a>>> {
    let mut found = Vec::with_capacity(columns.len());
    object(line, columns, &mut found)?;
    columns.iter().zip(found).map(|(column, found)| from_plain(column, found)).collect()
}

fn csv_raw<'a>(names: &[String], cells: impl Iterator<Item = &'a str>) -> String {
    let mut raw = Map::new();
    for (n, text) in cells.enumerate() {
        let name = names.get(n).cloned().unwrap_or_else(|| format!("_{}", n + 1));
        raw.insert(name, Value::String(text.to_owned()));
    }
    Value::Object(raw).to_string()
}

/// Returns the line of a quote that is still open at the end of a text: all that follows it would be one cell.
fn open_quote(text: &[u8], delimiter: u8) -> Option<usize> {
    let (mut line, mut began) = (1, 1);
    let (mut at_start, mut quoted) = (true, false);
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        line += usize::from(byte == b'\n');
        if quoted {
            // Two quotes are one; anything else behind a quote ends the quoted part.
            if byte == b'"' && bytes.next_if_eq(&b'"').is_none() {
                quoted = false;
            }
            continue;
        }
        if at_start && byte == b'"' {
            (quoted, began) = (true, line);
        }
        at_start = byte == delimiter || byte == b'\n' || byte == b'\r';
    }
    quoted.then_some(began)
}

impl CsvInput {
    fn next(&mut self, layout: &Layout) -> Result<Option<(Row, usize)>> {
        let found = self.reader.read_record(&mut self.record);
        let record = &self.record;
        let line = record.position().map_or(0, csv::Position::line);
        match found {
            Ok(false) => return Ok(None),
            Ok(true) => {}
            Err(error) => {
                return Err(lakehead_core::Error::bug("a text that was checked is no CSV").caused_by(error));
            }
        }
        let size = record.as_slice().len() + record.len();
        if record.len() != self.names.len() {
            let reason = format!("the row has {} cells instead of {}", record.len(), self.names.len());
            return Ok(Some((Row::Misfit { raw: csv_raw(&self.names, record.iter()), reason, line }, size)));
        }
        let mut values = Vec::with_capacity(self.cells.len());
        for (column, cell) in layout.data_columns().zip(&self.cells) {
            let text = cell.and_then(|n| record.get(n)).filter(|text| *text != layout.null);
            let value = text.map_or(Some(Cell::Null), |text| from_text(column.field.data_type(), text));
            let Some(value) = value else {
                let raw = csv_raw(&self.names, record.iter());
                return Ok(Some((Row::Misfit { raw, reason: misfit_reason(column), line }, size)));
            };
            values.push(value.into_owned());
        }
        Ok(Some((Row::Fits(values), size)))
    }
}

fn json_line(text: &str, layout: &Layout, line: u64) -> Row {
    match serde_json::from_str::<Value>(text) {
        Ok(value) => json_row(&value, layout, line, || text.to_owned()),
        Err(_) => {
            let raw = Value::Object(Map::from_iter([("_line".to_owned(), Value::String(text.to_owned()))]));
            Row::Misfit { raw: raw.to_string(), reason: "the line is not JSON".into(), line }
        }
    }
}

fn json_row(value: &Value, layout: &Layout, line: u64, raw: impl Fn() -> String) -> Row {
    let Value::Object(object) = value else {
        let raw = Value::Object(Map::from_iter([("_line".to_owned(), Value::String(raw()))])).to_string();
        return Row::Misfit { raw, reason: "the row is no JSON object".into(), line };
    };
    let mut values = Vec::with_capacity(layout.columns.len());
    for column in layout.data_columns() {
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
    calmly(|| decoded_once(bytes, layout)).unwrap_or_else(|error| Err(broken(&error)))
}

fn decoded_once(bytes: &Bytes, layout: &Layout) -> std::result::Result<Input, String> {
    let reader = || -> std::result::Result<ParquetRecordBatchReader, String> {
        let metadata = load_metadata(bytes).and_then(whole_times);
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
