//! What the changes of a round make of the versions of their keys (`mode = scd2`).
//!
//! Each change that changes something closes its key's current version and opens another, in the order of the log. The
//! table holds one current version a key, which [`Round::know`] brings in before the first change of the key.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::interleave;
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use arrow::row::{OwnedRow, RowConverter, Rows, SortField};
use lakehead_core::{
    COMMITTED_AT, Error, IS_CURRENT, IS_DELETED, Micros, OP, Op, Result, Settings, UNCHANGED, VALID_FROM, VALID_TO,
};
use lakehead_keyindex::Place;
use lakehead_lakefile::KeyEncoder;

use crate::history::source_columns;
use crate::net::text_column;
use crate::schema::to_lake;

/// Rows of one batch that are handed on.
const TAKEN_ROWS: usize = 65_536;

/// How changes become versions, as the sink's settings say.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Columns whose change alone opens no version.
    pub(crate) ignored: Vec<String>,
    /// The column that says which row of a key is newer.
    pub(crate) sequence: Option<String>,
    /// Whether the last version of a deleted row says so.
    pub(crate) soft: bool,
    /// Whether deletes close anything.
    pub(crate) deletes: bool,
}

impl Rules {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            ignored: settings.texts("ignore_columns"),
            sequence: settings.text("sequence_by").map(str::to_owned),
            soft: settings.text("on_delete") == Some("soft"),
            deletes: settings.text("on_delete") != Some("ignore"),
        }
    }
}

/// Where a value stands: batch and row.
type Cell = (usize, usize);

/// The values of a version: those of one row, some of them of others.
#[derive(Clone, Debug)]
struct Values {
    row: Cell,
    /// Columns whose value an earlier row holds.
    other: Vec<(usize, Cell)>,
}

impl Values {
    fn cell(&self, column: usize) -> Cell {
        self.other.iter().find(|(n, _)| *n == column).map_or(self.row, |(_, cell)| *cell)
    }
}

#[derive(Debug)]
struct Version {
    values: Values,
    from: Micros,
    to: Option<Micros>,
    deleted: bool,
    /// Whether the table holds it as it is.
    stored: bool,
}

impl Version {
    fn close(&mut self, at: Micros, deleted: bool) {
        (self.to, self.deleted, self.stored) = (Some(at.max(self.from)), deleted, false);
    }
}

/// One key: what the table holds of it, and what the round makes of it.
#[derive(Debug, Default)]
struct Entry {
    /// Where the current version stands in the table, which is then the first of `versions`.
    place: Option<Place>,
    versions: Vec<Version>,
    /// How often the table had been emptied when the key came last.
    seen: u32,
}

impl Entry {
    fn current(&mut self) -> Option<&mut Version> {
        self.versions.last_mut().filter(|version| version.to.is_none())
    }
}

/// Rows whose values versions point to.
struct Pooled {
    rows: RecordBatch,
    /// Each column's values as comparable bytes.
    bytes: Vec<Rows>,
}

/// What a round comes to, as far as it went.
pub(crate) struct Taken {
    /// Rows of the table: closed versions and current ones.
    pub(crate) rows: Vec<RecordBatch>,
    /// Rows of the table that others take the place of.
    pub(crate) replaced: Vec<Place>,
    /// Every row of the table that was looked at.
    pub(crate) met: Vec<Place>,
}

/// The versions of one round.
pub(crate) struct Round {
    table: SchemaRef,
    data: SchemaRef,
    keys: KeyEncoder,
    converters: Vec<RowConverter>,
    /// Whether a column's change opens a version, by column of `data`.
    opens: Vec<bool>,
    sequence: Option<usize>,
    rules: Rules,
    at: Micros,
    pool: Vec<Pooled>,
    entries: HashMap<OwnedRow, Entry>,
    order: Vec<OwnedRow>,
    /// The values of the version that the change before has closed: a changed key keeps what it does not send.
    left: Option<Values>,
    emptied: u32,
}

impl Round {
    /// Begins a round for a table with the columns `table`; `at` is the time of changes that have none.
    pub(crate) fn new(table: &SchemaRef, key: &[String], rules: &Rules, at: Micros) -> Result<Self> {
        let data = source_columns(table);
        let converter = |data_type| Ok(RowConverter::new(vec![SortField::new(data_type)])?);
        let converters = data.fields().iter().map(|f| converter(f.data_type().clone())).collect::<Result<_>>()?;
        Ok(Self {
            table: Arc::clone(table),
            keys: KeyEncoder::new(&data, key)?,
            converters,
            opens: data.fields().iter().map(|field| !rules.ignored.contains(field.name())).collect(),
            sequence: rules.sequence.as_ref().map(|column| data.index_of(column)).transpose()?,
            rules: rules.clone(),
            at,
            pool: Vec::new(),
            entries: HashMap::new(),
            order: Vec::new(),
            left: None,
            emptied: 0,
            data,
        })
    }

    /// Returns the keys among `rows` that the round does not know yet, each with the number of its first row.
    pub(crate) fn unknown(&self, rows: &RecordBatch) -> Result<(Vec<OwnedRow>, Vec<u64>)> {
        let mut found: HashMap<OwnedRow, u64> = HashMap::new();
        for (number, key) in (0_u64..).zip(self.keys.encode(rows)?.iter()) {
            let key = key.owned();
            if !self.entries.contains_key(&key) {
                found.entry(key).or_insert(number);
            }
        }
        Ok(found.into_iter().unzip())
    }

    /// Returns the key of every row.
    pub(crate) fn keys(&self, rows: &RecordBatch) -> Result<Vec<OwnedRow>> {
        Ok(self.keys.encode(rows)?.iter().map(|key| key.owned()).collect())
    }

    /// Takes over where the current versions of keys stand in the table, and those versions.
    pub(crate) fn know(&mut self, keys: Vec<OwnedRow>, places: Vec<Option<Place>>, rows: &[RecordBatch]) -> Result<()> {
        for (key, place) in keys.into_iter().zip(places) {
            self.order.push(key.clone());
            self.entries.insert(key, Entry { place, ..Entry::default() });
        }
        for rows in rows {
            let keys = self.keys(rows)?;
            let starts = instants(rows, VALID_FROM);
            let batch = self.pool(to_lake(rows, &self.data)?)?;
            for (row, key) in keys.iter().enumerate() {
                let Some(entry) = self.entries.get_mut(key) else {
                    return Err(Error::bug("the key index leads to a row of another key"));
                };
                let from = starts.and_then(|starts| starts.is_valid(row).then(|| starts.value(row)));
                let values = Values { row: (batch, row), other: Vec::new() };
                let from = from.unwrap_or(Micros::MIN);
                entry.versions = vec![Version { values, from, to: None, deleted: false, stored: true }];
            }
        }
        Ok(())
    }

    fn pool(&mut self, rows: RecordBatch) -> Result<usize> {
        let convert = |(converter, column): (&RowConverter, &ArrayRef)| {
            Ok(converter.convert_columns(std::slice::from_ref(column))?)
        };
        let bytes = self.converters.iter().zip(rows.columns()).map(convert).collect::<Result<_>>()?;
        self.pool.push(Pooled { rows, bytes });
        Ok(self.pool.len() - 1)
    }

    /// Takes over that the source's table was emptied: every key is deleted that does not come again.
    pub(crate) fn empty(&mut self) {
        self.emptied += 1;
        self.left = None;
    }

    /// Returns whether keys that do not come again are to be deleted.
    pub(crate) fn deletes_the_rest(&self) -> bool {
        self.emptied > 0 && self.rules.deletes
    }

    /// Takes changes in their order; the round knows their keys.
    pub(crate) fn add(&mut self, changes: &RecordBatch) -> Result<()> {
        let (ops, unchanged) = (text_column(changes, OP)?, text_column(changes, UNCHANGED)?);
        let times = instants(changes, COMMITTED_AT).cloned();
        let keys = self.keys(changes)?;
        let batch = self.pool(to_lake(changes, &self.data)?)?;
        for (row, key) in keys.iter().enumerate() {
            let letter = ops.as_ref().filter(|ops| ops.is_valid(row)).map(|ops| ops.value(row));
            let op = Op::parse(letter).ok_or_else(|| Error::bug("a change of an unknown kind reached a sink"))?;
            let at = times.as_ref().filter(|times| times.is_valid(row)).map_or(self.at, |times| times.value(row));
            let unsent = unchanged.as_ref().filter(|names| names.is_valid(row)).map_or("", |names| names.value(row));
            let unsent: Vec<usize> = unsent.split(',').filter_map(|name| self.data.index_of(name).ok()).collect();
            self.change(key, op, at, (batch, row), &unsent)?;
        }
        Ok(())
    }

    fn change(&mut self, key: &OwnedRow, op: Op, at: Micros, row: Cell, unsent: &[usize]) -> Result<()> {
        let before = self.left.take();
        let Some(entry) = self.entries.get_mut(key) else {
            return Err(Error::bug("a key was changed that was not looked up"));
        };
        let was_emptied = entry.seen < self.emptied && self.rules.deletes;
        entry.seen = self.emptied;
        let mut closed = None;
        if (op == Op::Delete || (was_emptied && op != Op::Read))
            && let Some(current) = entry.current()
        {
            current.close(at, self.rules.soft);
            closed = Some(current.values.clone());
        }
        if op == Op::Delete {
            self.left = closed;
            return Ok(());
        }
        let known = entry.current().map(|current| current.values.clone()).or(closed).or(before);
        let mut values = Values { row, other: Vec::new() };
        if !unsent.is_empty() {
            let known = known.ok_or_else(|| {
                Error::incident("R0203", "a row that the table does not hold was changed in part by the source")
                    .help("read the table anew: the lake lost a row, or the table was written by somebody else")
            })?;
            values.other = unsent.iter().map(|&column| (column, known.cell(column))).collect();
        }
        self.open(key, values, at);
        Ok(())
    }

    /// Puts values in the place of the current version, or behind it as a new one.
    fn open(&mut self, key: &OwnedRow, values: Values, at: Micros) {
        let Some(entry) = self.entries.get(key) else { return };
        let version = |values, from| Version { values, from, to: None, deleted: false, stored: false };
        let Some(current) = entry.versions.last().filter(|version| version.to.is_none()) else {
            let from = entry.versions.last().and_then(|version| version.to).map_or(at, |end| at.max(end));
            let opened = version(values, from);
            self.entries.entry(key.clone()).or_default().versions.push(opened);
            return;
        };
        if self.sequence.is_some_and(|column| self.bytes(&values, column) < self.bytes(&current.values, column)) {
            return;
        }
        let differs = |column: usize| self.bytes(&values, column) != self.bytes(&current.values, column);
        let opens = (0..self.opens.len()).any(|column| self.opens[column] && differs(column));
        let changes = opens || (0..self.opens.len()).any(differs);
        let from = at.max(current.from);
        let entry = self.entries.entry(key.clone()).or_default();
        match entry.current() {
            Some(current) if opens => {
                current.close(at, false);
                entry.versions.push(version(values, from));
            }
            Some(current) if changes => (current.values, current.stored) = (values, false),
            _ => {}
        }
    }

    fn bytes(&self, values: &Values, column: usize) -> &[u8] {
        let (batch, row) = values.cell(column);
        let rows = &self.pool[batch].bytes[column];
        rows.row(row).data()
    }

    /// Returns the keys that the table holds no current version of, and when their first version begins.
    pub(crate) fn openings(&self) -> HashMap<OwnedRow, Micros> {
        let opened = self.entries.iter().filter(|(_, entry)| entry.place.is_none());
        opened.filter_map(|(key, entry)| Some((key.clone(), entry.versions.first()?.from))).collect()
    }

    /// Moves versions behind the end of the one that the table closed last, where a clock went back between them.
    pub(crate) fn raise(&mut self, ends: &HashMap<OwnedRow, Micros>) {
        for (key, end) in ends {
            let Some(entry) = self.entries.get_mut(key) else { continue };
            let mut end = *end;
            for version in &mut entry.versions {
                version.from = version.from.max(end);
                version.to = version.to.map(|to| to.max(version.from));
                end = version.to.unwrap_or(version.from);
            }
        }
    }

    /// Returns what is to be written, and forgets it. Keys that were emptied and did not come again are closed.
    pub(crate) fn take(&mut self) -> Result<Taken> {
        let (at, soft, emptied, deletes) = (self.at, self.rules.soft, self.emptied, self.rules.deletes);
        for entry in self.entries.values_mut().filter(|entry| deletes && entry.seen < emptied) {
            if let Some(current) = entry.current() {
                current.close(at, soft);
            }
        }
        let entries: Vec<&Entry> = self.order.iter().filter_map(|key| self.entries.get(key)).collect();
        let met = entries.iter().filter_map(|entry| entry.place).collect();
        let is_replaced = |entry: &&&Entry| entry.versions.first().is_some_and(|version| !version.stored);
        let replaced = entries.iter().filter(is_replaced).filter_map(|entry| entry.place).collect();
        let new: Vec<&Version> =
            entries.iter().flat_map(|entry| &entry.versions).filter(|version| !version.stored).collect();
        let rows = new.chunks(TAKEN_ROWS).map(|chunk| self.gather(chunk)).collect::<Result<_>>()?;
        self.pool.clear();
        self.entries.clear();
        self.order.clear();
        self.left = None;
        Ok(Taken { rows, replaced, met })
    }

    fn gather(&self, versions: &[&Version]) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.table.fields().len());
        for field in self.table.fields() {
            columns.push(match field.name().as_str() {
                VALID_FROM => instant_column(versions.iter().map(|version| Some(version.from))),
                VALID_TO => instant_column(versions.iter().map(|version| version.to)),
                IS_CURRENT => flag_column(versions.iter().map(|version| version.to.is_none())),
                IS_DELETED => flag_column(versions.iter().map(|version| version.deleted)),
                name => {
                    let column = self.data.index_of(name)?;
                    let arrays: Vec<&dyn Array> = self.pool.iter().map(|p| p.rows.column(column).as_ref()).collect();
                    let cells: Vec<Cell> = versions.iter().map(|version| version.values.cell(column)).collect();
                    interleave(&arrays, &cells)?
                }
            });
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.table), columns)?)
    }
}

fn instants<'a>(rows: &'a RecordBatch, name: &str) -> Option<&'a TimestampMicrosecondArray> {
    rows.column_by_name(name)?.as_primitive_opt::<TimestampMicrosecondType>()
}

fn instant_column(values: impl Iterator<Item = Option<Micros>>) -> ArrayRef {
    Arc::new(values.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

fn flag_column(values: impl Iterator<Item = bool>) -> ArrayRef {
    Arc::new(values.map(Some).collect::<BooleanArray>())
}
