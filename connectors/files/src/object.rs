//! One text object for people to look at: its columns are told by its first rows, and no more of it is read than is shown.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use lakehead_core::{BatchBudget, Error, Result, data_fields};
use lakehead_lakefile::{Location, storage_error};
use object_store::ObjectStoreExt;

use crate::feed::unreadable;
use crate::infer::Inference;
use crate::listing::Entry;
use crate::load::{Contents, begin_text};
use crate::rows::{Column, Layout, RowReader};

/// A CSV or JSON object, packed or not.
#[derive(Debug)]
pub struct TextObject {
    schema: SchemaRef,
    reader: RowReader,
    bytes: Arc<AtomicU64>,
    /// Rows that are none of its columns' types.
    pub misfits: usize,
}

impl TextObject {
    /// Reads the first block of an object, of about 1 MiB unpacked: its rows tell the columns.
    ///
    /// # Errors
    /// `R0429` where it cannot be read as what its name says; any error of the store.
    pub async fn open(location: &Location, name: &str) -> Result<Self> {
        let meta = location.store().head(&location.path(name)).await.map_err(|error| storage_error(error, name))?;
        let entry =
            Entry { path: name.into(), size: meta.size, etag: meta.e_tag, identity: String::new(), stars: vec![] };
        let refused = |reason: String| -> Error { unreadable(name).with("reason", reason) };
        let (origin, feed, cut) = begin_text(location, &entry).await?.map_err(refused)?;
        let mut inference = Inference::default();
        let first = Contents::Text(origin.format, feed.ready().to_owned());
        inference.add(&first, usize::MAX, None, true).map_err(refused)?;
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
        let reader = RowReader::open_text(feed, cut, origin.delimiter, Arc::new(layout), &entry).await?;
        Ok(Self { schema, reader: reader.map_err(refused)?, bytes: origin.bytes_read, misfits: 0 })
    }

    /// Returns its columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns the bytes of the object that were read so far, packed as it is.
    pub fn bytes_read(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns the next rows, `rows_max` at most, and reads no further than they are; `None` at the end.
    ///
    /// # Errors
    /// `R0429` where what follows cannot be read; any error of the store.
    pub async fn next_rows(&mut self, rows_max: usize) -> Result<Option<RecordBatch>> {
        let budget = BatchBudget { rows_max, ..BatchBudget::default() };
        while let Some(chunk) = self.reader.next_chunk(budget).await? {
            self.misfits += chunk.misfits.len();
            if let Some(rows) = chunk.rows {
                let columns: Vec<usize> = (0..data_fields(&rows.schema()).fields().len()).collect();
                return Ok(Some(rows.project(&columns)?));
            }
        }
        Ok(None)
    }
}
