//! Tables in memory, one row a batch: slow, and plainly right.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, RecordBatch, StringArray, make_comparator};
use arrow::compute::{SortOptions, concat_batches};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use lakehead_core::{
    Clock, Error, IS_DELETED, Mark, Micros, OP, Op, Outcome, Prepared, Result, Settings, Sink, SinkPosition,
    SystemClock, UNCHANGED, WriteMode, is_unchanged,
};

use crate::versions::{Versions, flag, with_deleted};

/// One table.
#[derive(Clone, Debug, Default)]
pub struct MemoryTable {
    /// Rows in the order they came, one a batch.
    pub rows: Vec<RecordBatch>,
    /// Versions committed so far.
    pub version: u64,
    marks: BTreeMap<String, Mark>,
    staged: BTreeMap<u64, Vec<Staged>>,
    next_staged: u64,
}

/// What a round brings, in order.
#[derive(Clone, Debug)]
enum Staged {
    Rows(RecordBatch),
    Emptied,
}

impl Staged {
    fn bytes(&self) -> u64 {
        match self {
            Self::Rows(rows) => rows.get_array_memory_size() as u64,
            Self::Emptied => 0,
        }
    }
}

/// How changes meet the rows that are there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) key: Vec<String>,
    /// Columns whose change alone opens no version.
    pub(crate) ignored: Vec<String>,
    /// The column that says which row of a key is newer.
    pub(crate) sequence: Option<String>,
    /// Whether a row that its source deleted stays, and says so.
    pub(crate) soft: bool,
    /// Whether deletes delete.
    pub(crate) deletes: bool,
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
pub struct MemorySink {
    store: MemoryStore,
    table: String,
    pipeline: String,
    mode: WriteMode,
    rules: Rules,
    schema: SchemaRef,
    clock: Arc<dyn Clock>,
    open: Vec<Staged>,
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
            rules: Rules { key: key.to_vec(), deletes: true, ..Rules::default() },
            schema: Arc::new(Schema::new(schema.fields().clone())),
            clock: Arc::new(SystemClock::default()),
            open: Vec::new(),
            rows: 0,
        }
    }

    /// Takes over what a `sink` block says of changes, and the time of rounds whose rows have none.
    #[must_use]
    pub fn changing(mut self, settings: &Settings, clock: &Arc<dyn Clock>) -> Self {
        self.rules.ignored = settings.texts("ignore_columns");
        self.rules.sequence = settings.text("sequence_by").map(str::to_owned);
        self.rules.soft = settings.text("on_delete") == Some("soft");
        self.rules.deletes = settings.text("on_delete") != Some("ignore");
        self.clock = Arc::clone(clock);
        self
    }

    /// Applies a round to the rows of the table.
    fn apply_round(&self, table: &mut Vec<RecordBatch>, staged: &[Staged], at: Micros) -> Result<()> {
        if self.mode == WriteMode::Scd2 {
            let mut versions = Versions::new(table, &self.schema, &self.rules, at);
            for part in staged {
                match part {
                    Staged::Emptied => versions.empty()?,
                    Staged::Rows(rows) => (0..rows.num_rows()).try_for_each(|n| versions.apply(&rows.slice(n, 1)))?,
                }
            }
            return versions.finish();
        }
        let mut left = None;
        for part in staged {
            match part {
                Staged::Emptied if self.keeps_deleted() => {
                    for row in table.iter_mut() {
                        *row = with_deleted(row, true)?;
                    }
                }
                Staged::Emptied => table.clear(),
                Staged::Rows(rows) => self.apply(table, rows, &mut left)?,
            }
        }
        Ok(())
    }

    /// Whether rows that their source has deleted stay.
    fn keeps_deleted(&self) -> bool {
        self.mode == WriteMode::Upsert && self.rules.soft
    }

    fn apply(&self, table: &mut Vec<RecordBatch>, rows: &RecordBatch, left: &mut Option<RecordBatch>) -> Result<()> {
        for n in 0..rows.num_rows() {
            let row = rows.slice(n, 1);
            match self.mode {
                WriteMode::Upsert => *left = self.upsert(table, &row, left.take())?,
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
        let key = key_of(&data, &self.rules.key)?;
        let mut old = None;
        for (place, known) in table.iter().enumerate() {
            if key_of(known, &self.rules.key)? == key {
                old = Some(place);
                break;
            }
        }
        if op == Op::Delete && self.keeps_deleted() {
            let row = old.map(|place| table[place].clone());
            if let Some(place) = old {
                table[place] = with_deleted(&table[place], true)?;
            }
            return Ok(row.filter(|row| !flag(row, IS_DELETED)));
        }
        if op == Op::Delete {
            return Ok(old.map(|place| table.remove(place)));
        }
        let data = if self.keeps_deleted() { with_deleted(&data, false)? } else { data };
        let known = old.map(|place| table[place].clone());
        let known = known.clone().filter(|row| !flag(row, IS_DELETED)).or(left).or(known);
        let data = match (text(row, UNCHANGED), known) {
            (None, _) => data,
            (Some(unsent), Some(known)) => keep_unsent(&data, &known, &unsent)?,
            (Some(_), None) => {
                return Err(Error::incident("R0203", "a row that the table does not hold was changed in part"));
            }
        };
        if let (Some(place), Some(column)) = (old, &self.rules.sequence)
            && is_older(&data, &table[place], column)?
        {
            return Ok(None);
        }
        match old {
            Some(place) => table[place] = data,
            None => table.push(data),
        }
        Ok(None)
    }
}

/// Returns the key of a row as texts.
pub(crate) fn key_of(row: &RecordBatch, columns: &[String]) -> Result<Vec<String>> {
    let options = FormatOptions::default().with_null("\u{0}null");
    let mut key = Vec::with_capacity(columns.len());
    for column in columns {
        let array =
            row.column_by_name(column).ok_or_else(|| Error::bug("a key column is missing").with("column", column))?;
        key.push(ArrayFormatter::try_new(array, &options)?.value(0).to_string());
    }
    Ok(key)
}

/// Returns whether the value of `column` says that `row` is older than `than`; one without a value is older than any.
pub(crate) fn is_older(row: &RecordBatch, than: &RecordBatch, column: &str) -> Result<bool> {
    let value = |row: &RecordBatch| {
        row.column_by_name(column).cloned().ok_or_else(|| Error::bug("a column is missing").with("column", column))
    };
    let options = SortOptions { descending: false, nulls_first: true };
    Ok(make_comparator(&value(row)?, &value(than)?, options)?(0, 0).is_lt())
}

pub(crate) fn pad(row: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let fields: Vec<_> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    let column = |field: &Arc<arrow::datatypes::Field>| match row.column_by_name(field.name()) {
        Some(column) => Arc::clone(column),
        None => arrow::array::new_null_array(field.data_type(), row.num_rows()),
    };
    let columns = schema.fields().iter().map(column).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

pub(crate) fn keep_unsent(new: &RecordBatch, old: &RecordBatch, unsent: &str) -> Result<RecordBatch> {
    let schema = new.schema();
    let column = |field: &Arc<arrow::datatypes::Field>| {
        let side = if is_unchanged(Some(unsent), field.name()) { old } else { new };
        side.column_by_name(field.name()).map(Arc::clone).ok_or_else(|| Error::bug("a column is missing"))
    };
    let columns = schema.fields().iter().map(column).collect::<Result<_>>()?;
    Ok(RecordBatch::try_new(schema, columns)?)
}

pub(crate) fn text(row: &RecordBatch, name: &str) -> Option<String> {
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
        self.open.push(Staged::Rows(rows));
        Ok(())
    }

    async fn truncate(&mut self) -> Result<()> {
        if self.mode != WriteMode::Scd2 {
            self.open.clear();
        }
        self.open.push(Staged::Emptied);
        Ok(())
    }

    async fn prepare(&mut self) -> Result<Option<Prepared>> {
        let rows = std::mem::take(&mut self.rows);
        let open = std::mem::take(&mut self.open);
        let empties = open.iter().any(|part| matches!(part, Staged::Emptied));
        if rows == 0 && !empties && self.mode != WriteMode::Overwrite {
            return Ok(None);
        }
        let bytes = open.iter().map(Staged::bytes).sum();
        let mut tables = self.store.lock();
        let table = tables.entry(self.table.clone()).or_default();
        let staged = table.next_staged;
        table.next_staged += 1;
        table.staged.insert(staged, open);
        let payload = serde_json::json!({ "staged": staged, "at": self.clock.now() });
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
        let parts =
            table.staged.get(&staged).cloned().ok_or_else(|| Error::incident("R0403", "staged rows are gone"))?;
        let mut rows = if self.mode == WriteMode::Overwrite { Vec::new() } else { table.rows.clone() };
        self.apply_round(&mut rows, &parts, prepared.payload["at"].as_i64().unwrap_or_default())?;
        table.rows = rows;
        table.staged.remove(&staged);
        table.version += 1;
        table.marks.insert(self.pipeline.clone(), mark);
        Ok(Outcome::Committed(table.version))
    }

    async fn abort(&mut self) -> Result<()> {
        self.open.clear();
        self.rows = 0;
        Ok(())
    }
}
