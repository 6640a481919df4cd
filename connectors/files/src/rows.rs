//! Rows of one file, in batches; rows that do not fit, beside them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use lakehead_core::{BatchBudget, FILE, Result, column_type_name, reserved_field};
use lakehead_lakefile::{calmly, cast_exactly, load_metadata, whole_times};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use crate::blocks::Cut;
use crate::cell::{Cell, to_array};
use crate::feed::Feed;
use crate::listing::Entry;
use crate::text::{Rows, TextReader};

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

    /// Returns the columns that come from the file's contents.
    pub(crate) fn data_columns(&self) -> impl Iterator<Item = &Column> {
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
    /// The paths of rows, as many as the longest batch had.
    paths: ArrayRef,
}

#[derive(Debug)]
enum Input {
    Text(Box<TextReader>),
    Parquet { reader: ParquetRecordBatchReader, rest: Option<RecordBatch> },
}

impl RowReader {
    fn new(input: Input, layout: Arc<Layout>, entry: &Entry) -> Self {
        let (path, stars) = (entry.path.clone(), entry.stars.clone());
        Self { layout, path, stars, input, paths: Arc::new(StringArray::new_null(0)) }
    }

    /// Opens a text; the inner error says why none of it can be read.
    pub(crate) async fn open_text(
        feed: Feed,
        cut: Cut,
        delimiter: u8,
        layout: Arc<Layout>,
        entry: &Entry,
    ) -> Result<std::result::Result<Self, String>> {
        let opened = TextReader::open(feed, cut, delimiter, &layout).await?;
        Ok(opened.map(|reader| Self::new(Input::Text(Box::new(reader)), layout, entry)))
    }

    /// Opens a Parquet file after all of it was decoded once: its rows count only if every page can be read.
    pub(crate) fn open_parquet(bytes: &Bytes, layout: Arc<Layout>, entry: &Entry) -> std::result::Result<Self, String> {
        let input = open_parquet(bytes, &layout)?;
        Ok(Self::new(input, layout, entry))
    }

    /// Returns the next rows; `None` at the end of the file. Nothing is lost where this is dropped before it is done.
    pub(crate) async fn next_chunk(&mut self, budget: BatchBudget) -> Result<Option<Chunk>> {
        let (data, rows, misfits) = match &mut self.input {
            Input::Text(reader) => match reader.next_rows(&self.layout, budget).await? {
                Some(Rows { columns, rows, misfits }) => (columns, rows, misfits),
                None => return Ok(None),
            },
            Input::Parquet { reader, rest } => {
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
                (declared_columns(&batch.slice(0, rows), &self.layout)?, rows, Vec::new())
            }
        };
        let named = |(raw, reason, line)| (raw, reason, format!("{}:{line}", self.path));
        let misfits = misfits.into_iter().map(named).collect();
        let rows = if rows > 0 { Some(self.finish(data, rows)?) } else { None };
        Ok(Some(Chunk { rows, misfits }))
    }

    /// Adds the columns that come from the path, and `_file`. `data` are the data columns, in their order.
    fn finish(&mut self, data: Vec<ArrayRef>, count: usize) -> Result<RecordBatch> {
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
        if self.paths.len() < count {
            self.paths = Arc::new(StringArray::from(vec![self.path.as_str(); count]));
        }
        columns.push(self.paths.slice(0, count));
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        Ok(RecordBatch::try_new_with_options(self.layout.schema(), columns, &options)?)
    }
}

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
    use futures::executor::block_on;
    use lakehead_core::parse_column_type;

    use super::*;
    use crate::load::Format;

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

    fn open(format: Format, text: &str, layout: Layout) -> std::result::Result<RowReader, String> {
        let entry = Entry {
            path: "acme/a.csv".into(),
            size: 0,
            etag: None,
            identity: String::new(),
            stars: vec!["acme".into()],
        };
        let delimiter = layout.delimiter.unwrap_or(b',');
        let (feed, cut) = Feed::of_text(text, format, delimiter, 16)?;
        block_on(RowReader::open_text(feed, cut, delimiter, Arc::new(layout), &entry)).unwrap()
    }

    fn read(format: Format, text: &str, layout: Layout) -> std::result::Result<Chunk, String> {
        let mut reader = open(format, text, layout)?;
        Ok(block_on(reader.next_chunk(BatchBudget::default())).unwrap().unwrap_or_default())
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
        let mut reader = open(Format::Lines, &text, layout()).unwrap();
        let budget = BatchBudget { rows_max: 4, ..BatchBudget::default() };
        let mut sizes = vec![];
        while let Some(chunk) = block_on(reader.next_chunk(budget)).unwrap() {
            sizes.push(chunk.rows.unwrap().num_rows());
        }
        assert_eq!(sizes, [4, 4, 2]);
    }
}
