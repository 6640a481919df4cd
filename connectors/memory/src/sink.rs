//! Tables in memory, one row a batch: slow, and plainly right.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use lakehead_core::{
    Error, Mark, OP, Op, Outcome, Prepared, Result, Sink, SinkPosition, UNCHANGED, WriteMode, is_unchanged,
};

/// One table.
#[derive(Clone, Debug, Default)]
pub struct MemoryTable {
    /// Rows in the order they came, one a batch.
    pub rows: Vec<RecordBatch>,
    /// Versions committed so far.
    pub version: u64,
    marks: BTreeMap<String, Mark>,
    staged: BTreeMap<u64, Vec<RecordBatch>>,
    next_staged: u64,
}

/// Tables by name; clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore(Arc<Mutex<BTreeMap<String, MemoryTable>>>);

impl MemoryStore {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, MemoryTable>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a table's rows as one batch; `None` where it has none.
    pub fn rows(&self, table: &str) -> Option<RecordBatch> {
        let tables = self.lock();
        let rows = &tables.get(table)?.rows;
        let last = rows.last()?;
        let schema = last.schema();
        let padded: Vec<_> = rows.iter().map(|row| pad(row, &schema)).collect::<Result<_>>().ok()?;
        concat_batches(&schema, &padded).ok()
    }

    /// Returns the newest version of a table.
    pub fn version(&self, table: &str) -> u64 {
        self.lock().get(table).map_or(0, |table| table.version)
    }
}

/// Writes one table of a [`MemoryStore`].
#[derive(Debug)]
pub struct MemorySink {
    store: MemoryStore,
    table: String,
    pipeline: String,
    mode: WriteMode,
    key: Vec<String>,
    schema: SchemaRef,
    open: Vec<RecordBatch>,
    truncate: bool,
    rows: u64,
}

impl MemorySink {
    /// Creates a sink for `table`.
    pub fn new(
        store: &MemoryStore,
        pipeline: &str,
        table: &str,
        mode: WriteMode,
        key: &[String],
        schema: &SchemaRef,
    ) -> Self {
        Self {
            store: store.clone(),
            table: table.to_owned(),
            pipeline: pipeline.to_owned(),
            mode,
            key: key.to_vec(),
            schema: Arc::new(Schema::new(schema.fields().clone())),
            open: Vec::new(),
            truncate: false,
            rows: 0,
        }
    }

    fn apply(&self, table: &mut Vec<RecordBatch>, rows: &RecordBatch) -> Result<()> {
        let mut left = None;
        for n in 0..rows.num_rows() {
            let row = rows.slice(n, 1);
            match self.mode {
                WriteMode::Upsert => left = self.upsert(table, &row, left)?,
                _ => table.push(pad(&row, &self.schema)?),
            }
        }
        Ok(())
    }

    /// Applies one change; returns the row that a delete took out, whose unsent values a create right behind it keeps (a
    /// changed key).
    fn upsert(
        &self,
        table: &mut Vec<RecordBatch>,
        row: &RecordBatch,
        left: Option<RecordBatch>,
    ) -> Result<Option<RecordBatch>> {
        let op = Op::parse(text(row, OP).as_deref()).ok_or_else(|| Error::bug("a change of an unknown kind"))?;
        let data = pad(row, &self.schema)?;
        let key = self.key_of(&data)?;
        let mut old = None;
        for (place, known) in table.iter().enumerate() {
            if self.key_of(known)? == key {
                old = Some(place);
                break;
            }
        }
        if op == Op::Delete {
            return Ok(old.map(|place| table.remove(place)));
        }
        let known = old.map(|place| table[place].clone()).or(left);
        let data = match (text(row, UNCHANGED), known) {
            (None, _) => data,
            (Some(unsent), Some(known)) => keep_unsent(&data, &known, &unsent)?,
            (Some(_), None) => {
                return Err(Error::incident("R0203", "a row that the table does not hold was changed in part"));
            }
        };
        match old {
            Some(place) => table[place] = data,
            None => table.push(data),
        }
        Ok(None)
    }

    fn key_of(&self, row: &RecordBatch) -> Result<Vec<String>> {
        let options = FormatOptions::default().with_null("\u{0}null");
        let mut key = Vec::with_capacity(self.key.len());
        for column in &self.key {
            let array = row
                .column_by_name(column)
                .ok_or_else(|| Error::bug("a key column is missing").with("column", column))?;
            key.push(ArrayFormatter::try_new(array, &options)?.value(0).to_string());
        }
        Ok(key)
    }
}

fn pad(row: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let fields: Vec<_> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    let column = |field: &Arc<arrow::datatypes::Field>| match row.column_by_name(field.name()) {
        Some(column) => Arc::clone(column),
        None => arrow::array::new_null_array(field.data_type(), row.num_rows()),
    };
    let columns = schema.fields().iter().map(column).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

fn keep_unsent(new: &RecordBatch, old: &RecordBatch, unsent: &str) -> Result<RecordBatch> {
    let schema = new.schema();
    let column = |field: &Arc<arrow::datatypes::Field>| {
        let side = if is_unchanged(Some(unsent), field.name()) { old } else { new };
        side.column_by_name(field.name()).map(Arc::clone).ok_or_else(|| Error::bug("a column is missing"))
    };
    let columns = schema.fields().iter().map(column).collect::<Result<_>>()?;
    Ok(RecordBatch::try_new(schema, columns)?)
}

fn text(row: &RecordBatch, name: &str) -> Option<String> {
    let column = row.column_by_name(name)?.as_any().downcast_ref::<StringArray>()?;
    column.is_valid(0).then(|| column.value(0).to_owned())
}

#[async_trait]
impl Sink for MemorySink {
    async fn open(&mut self, fence: u64) -> Result<SinkPosition> {
        let mut tables = self.store.lock();
        let table = tables.entry(self.table.clone()).or_default();
        let mark = table.marks.entry(self.pipeline.clone()).or_default();
        if mark.fence > fence {
            return Err(Error::incident("R0201", "another daemon has taken this pipeline over"));
        }
        let before = *mark;
        mark.fence = fence;
        table.version += 1;
        Ok(SinkPosition { identity: self.table.clone(), version: table.version, mark: before })
    }

    async fn evolve(&mut self, schema: &SchemaRef) -> Result<()> {
        for field in schema.fields() {
            if self.schema.field_with_name(field.name()).is_ok_and(|known| known.data_type() != field.data_type()) {
                return Err(Error::incident("R0202", "a column changed its type").with("column", field.name()));
            }
        }
        self.schema = Arc::clone(schema);
        Ok(())
    }

    async fn stage(&mut self, rows: RecordBatch) -> Result<()> {
        self.rows += rows.num_rows() as u64;
        self.open.push(rows);
        Ok(())
    }

    async fn truncate(&mut self) -> Result<()> {
        self.open.clear();
        self.truncate = true;
        Ok(())
    }

    async fn prepare(&mut self) -> Result<Option<Prepared>> {
        let (rows, truncate) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.truncate));
        let open = std::mem::take(&mut self.open);
        if rows == 0 && !truncate && self.mode != WriteMode::Overwrite {
            return Ok(None);
        }
        let bytes = open.iter().map(|batch| batch.get_array_memory_size() as u64).sum();
        let mut tables = self.store.lock();
        let table = tables.entry(self.table.clone()).or_default();
        let staged = table.next_staged;
        table.next_staged += 1;
        table.staged.insert(staged, open);
        let payload = serde_json::json!({ "staged": staged, "truncate": truncate });
        Ok(Some(Prepared { table: self.table.clone(), identity: self.table.clone(), rows, bytes, payload }))
    }

    async fn commit(&mut self, prepared: &Prepared, mark: Mark) -> Result<Outcome> {
        let mut tables = self.store.lock();
        let table =
            tables.get_mut(&self.table).ok_or_else(|| Error::bug("a table was committed before it was opened"))?;
        let found = table.marks.get(&self.pipeline).copied().unwrap_or_default();
        if found.fence > mark.fence {
            return Ok(Outcome::Fenced(found.fence));
        }
        if found.seq >= mark.seq {
            return Ok(Outcome::AlreadyCommitted);
        }
        let staged = prepared.payload["staged"].as_u64().unwrap_or(u64::MAX);
        let batches =
            table.staged.get(&staged).cloned().ok_or_else(|| Error::incident("R0403", "staged rows are gone"))?;
        let clears = prepared.payload["truncate"] == true || self.mode == WriteMode::Overwrite;
        let mut rows = if clears { Vec::new() } else { table.rows.clone() };
        for batch in &batches {
            self.apply(&mut rows, batch)?;
        }
        table.rows = rows;
        table.staged.remove(&staged);
        table.version += 1;
        table.marks.insert(self.pipeline.clone(), mark);
        Ok(Outcome::Committed(table.version))
    }

    async fn abort(&mut self) -> Result<()> {
        self.open.clear();
        self.rows = 0;
        self.truncate = false;
        Ok(())
    }
}
