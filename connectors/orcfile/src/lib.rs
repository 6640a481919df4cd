//! ORC files from and to Arrow record batches (the format's version 1, <https://orc.apache.org/specification/ORCv1/>).
//!
//! [`OrcWriter`] writes the types below, nulls at every level, with statistics, row indexes and Bloom
//! filters; [`OrcReader`] reads such files and those of others. Both work on bytes and files and wait for nobody: an
//! object store's bytes come and go through the caller. [`OrcFile`] reads parts: those stripes and groups of rows that may
//! hold what is looked for, and of them the columns that are asked for.
//!
//! | Arrow | ORC |
//! |---|---|
//! | Boolean, Int8, Int16, Int32, Int64, Float32, Float64 | BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE |
//! | Utf8, LargeUtf8, Utf8View | STRING |
//! | Binary, LargeBinary, BinaryView | BINARY |
//! | Date32 | DATE |
//! | Timestamp of any unit without a zone | TIMESTAMP: what a clock on a wall shows |
//! | Timestamp of any unit in UTC | TIMESTAMP_INSTANT |
//! | Decimal128, scale not negative | DECIMAL |
//! | List, LargeList; Map; Struct | ARRAY; MAP; STRUCT |
//!
//! ```
//! use std::sync::Arc;
//!
//! use arrow::array::{ArrayRef, Int64Array, RecordBatch};
//! use lakehead_orcfile::{OrcOptions, OrcReadOptions, OrcReader, OrcWriter};
//!
//! # fn main() -> lakehead_core::Result<()> {
//! let batch = RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef)])?;
//! let mut file = Vec::new();
//! let mut writer = OrcWriter::try_new(&mut file, batch.schema(), OrcOptions::default())?;
//! writer.write(&batch)?;
//! assert_eq!(writer.finish()?.rows, 2);
//! let back: Vec<RecordBatch> = OrcReader::from_bytes(file.into(), &OrcReadOptions::default())?.collect::<Result<_, _>>()?;
//! assert_eq!(back[0].column(0), batch.column(0));
//! # Ok(())
//! # }
//! ```

mod bloom;
mod codec;
#[cfg(test)]
mod dice;
mod fault;
mod read;
mod run;
mod schema;
mod stats;
mod wire;
mod write;

pub use codec::Compression;
pub use read::{FetchRanges, OrcColumn, OrcFile, OrcReadOptions, OrcReader, OrcStripe, PartExtremes};
pub use write::{Bound, ColumnSummary, OrcOptions, OrcSummary, OrcWriter};
