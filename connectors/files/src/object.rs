//! One text object for people to look at: its columns are told by its own rows.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use lakehead_core::{BatchBudget, Error, Result, Settings, data_fields};
use lakehead_lakefile::{Location, storage_error};
use object_store::ObjectStoreExt;

use crate::infer::Inference;
use crate::listing::Entry;
use crate::load::{load_rows, load_sample};
use crate::rows::{Column, Layout, RowReader};

/// A CSV or JSON object, packed or not.
#[derive(Debug)]
pub struct TextObject {
    schema: SchemaRef,
    reader: RowReader,
    /// Bytes that were read of it: all.
    pub bytes: u64,
    /// Rows that are none of its columns' types.
    pub misfits: usize,
}

impl TextObject {
    /// Reads an object whole.
    ///
    /// # Errors
    /// `R0429` where it cannot be read as what its name says; any error of the store.
    pub async fn open(location: &Location, name: &str) -> Result<Self> {
        let meta = location.store().head(&location.path(name)).await.map_err(|error| storage_error(error, name))?;
        let entry =
            Entry { path: name.into(), size: meta.size, etag: meta.e_tag, identity: String::new(), stars: vec![] };
        let settings = Settings::default();
        let unreadable = |reason: String| {
            Error::user("R0429", "the object cannot be read")
                .with("object", name)
                .with("reason", reason)
                .help("names end with .parquet, .orc, .csv, .tsv, .json, .ndjson, the texts with .gz or .zst too")
        };
        let contents = load_sample(location, &entry, &settings, None, usize::MAX).await?.map_err(unreadable)?;
        let mut inference = Inference::default();
        inference.add(&contents, usize::MAX, None, true).map_err(unreadable)?;
        let schema = inference.schema();
        let column =
            |field: &Arc<arrow::datatypes::Field>| Column { field: Arc::clone(field), star: None, json: false };
        let layout = Layout {
            columns: schema.fields().iter().map(column).collect(),
            header: true,
            delimiter: None,
            null: String::new(),
            may_lack: true,
        };
        let reader = load_rows(location, &entry, &settings, &Arc::new(layout)).await?.map_err(unreadable)?;
        Ok(Self { schema, reader, bytes: entry.size, misfits: 0 })
    }

    /// Returns its columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns the next rows; `None` at the end.
    ///
    /// # Errors
    /// Where the text breaks off.
    pub async fn next_rows(&mut self) -> Result<Option<RecordBatch>> {
        while let Some(chunk) = self.reader.next_chunk(BatchBudget::default()).await? {
            self.misfits += chunk.misfits.len();
            if let Some(rows) = chunk.rows {
                let columns: Vec<usize> = (0..data_fields(&rows.schema()).fields().len()).collect();
                return Ok(Some(rows.project(&columns)?));
            }
        }
        Ok(None)
    }
}
