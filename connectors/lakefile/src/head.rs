//! What a file says of itself, without its rows.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use lakehead_core::Result;
use parquet::file::metadata::SortingColumn;

use crate::reader::{BATCH_ROWS, open};
use crate::{FileKind, Location, parquet_error};

/// The head of one file.
#[derive(Clone, Debug, PartialEq)]
pub struct FileHead {
    /// Its columns.
    pub schema: SchemaRef,
    /// Its rows.
    pub rows: u64,
    /// The order that it says its rows are in.
    pub order: FileOrder,
}

/// The order of a file's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileOrder {
    /// It says none. ORC files never do.
    None,
    /// Rising by these columns, NULL first.
    Rising(Vec<String>),
    /// Another one, which is not written here.
    Other,
}

/// Reads the head of a file.
pub async fn read_head(location: &Location, name: &str) -> Result<FileHead> {
    if FileKind::of_name(name) == FileKind::Orc {
        let reader = crate::orc::read_orc(location, name, None, BATCH_ROWS).await?;
        return Ok(FileHead { schema: Arc::clone(reader.schema()), rows: reader.rows(), order: FileOrder::None });
    }
    let builder = open(location, name).await.map_err(|error| parquet_error(error, &location.place(name)))?;
    let schema = Arc::clone(builder.schema());
    let metadata = builder.metadata();
    let rows = u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0);
    let order = match metadata.row_groups().first().and_then(|group| group.sorting_columns()) {
        Some(columns) if !columns.is_empty() => order_of(columns, &builder),
        _ => FileOrder::None,
    };
    Ok(FileHead { schema, rows, order })
}

fn order_of<T>(columns: &[SortingColumn], builder: &parquet::arrow::arrow_reader::ArrowReaderBuilder<T>) -> FileOrder {
    let leaves = builder.parquet_schema();
    let name = |column: &SortingColumn| {
        let leaf = usize::try_from(column.column_idx).ok().filter(|place| *place < leaves.num_columns())?;
        let path = leaves.column(leaf).path().parts().to_vec();
        (path.len() == 1 && !column.descending && column.nulls_first).then(|| path[0].clone())
    };
    columns.iter().map(name).collect::<Option<Vec<String>>>().map_or(FileOrder::Other, FileOrder::Rising)
}
