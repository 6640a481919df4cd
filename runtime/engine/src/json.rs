//! Rows as JSON texts, for dead letters and people.

use arrow::array::RecordBatch;
use arrow::json::LineDelimitedWriter;
use lakehead_core::{Error, Result};

/// Writes each row as one JSON text; NULLs are written, so that a replay sees every column.
pub fn rows_to_json(rows: &RecordBatch) -> Result<Vec<String>> {
    if rows.num_rows() == 0 {
        return Ok(Vec::new());
    }
    let mut bytes = Vec::new();
    let builder = arrow::json::WriterBuilder::new().with_explicit_nulls(true);
    let mut writer: LineDelimitedWriter<_> = builder.build(&mut bytes);
    writer.write(rows)?;
    writer.finish()?;
    drop(writer);
    let text = String::from_utf8(bytes).map_err(|error| Error::bug("JSON is not UTF-8").caused_by(error))?;
    Ok(text.lines().map(str::to_owned).collect())
}
