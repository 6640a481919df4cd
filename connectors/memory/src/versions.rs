//! `mode = scd2`: every version of a row, with its validity.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use lakehead_core::{
    COMMITTED_AT, Error, IS_CURRENT, IS_DELETED, Micros, OP, Op, Result, UNCHANGED, VALID_FROM, VALID_TO,
    VERSION_COLUMNS,
};

use crate::sink::{Rules, is_older, keep_unsent, key_of, pad, text};

/// The versions of a table while a round is applied to it.
pub(crate) struct Versions<'a> {
    rows: &'a mut Vec<RecordBatch>,
    schema: &'a SchemaRef,
    rules: &'a Rules,
    /// When the round's rows came, for changes that do not say when they were made.
    at: Micros,
    /// The row that the change before has closed: a changed key keeps its unsent values.
    left: Option<RecordBatch>,
    /// Keys that were current when the table was emptied, and that nothing brought back yet.
    emptied: BTreeSet<Vec<String>>,
}

impl<'a> Versions<'a> {
    pub(crate) fn new(rows: &'a mut Vec<RecordBatch>, schema: &'a SchemaRef, rules: &'a Rules, at: Micros) -> Self {
        Self { rows, schema, rules, at, left: None, emptied: BTreeSet::new() }
    }

    /// Takes over that the source's table was emptied: every key is deleted that does not come again.
    pub(crate) fn empty(&mut self) -> Result<()> {
        for row in self.rows.iter().filter(|row| flag(row, IS_CURRENT)) {
            self.emptied.insert(key_of(row, &self.rules.key)?);
        }
        self.left = None;
        Ok(())
    }

    /// Closes what was emptied and did not come again.
    pub(crate) fn finish(mut self) -> Result<()> {
        if !self.rules.deletes {
            return Ok(());
        }
        for key in std::mem::take(&mut self.emptied) {
            if let Some(place) = self.current(&key)? {
                self.close(place, self.at, self.rules.soft)?;
            }
        }
        Ok(())
    }

    /// Applies one change.
    pub(crate) fn apply(&mut self, row: &RecordBatch) -> Result<()> {
        let op = Op::parse(text(row, OP).as_deref()).ok_or_else(|| Error::bug("a change of an unknown kind"))?;
        let data = pad(row, self.schema)?;
        let at = instant(row, COMMITTED_AT).unwrap_or(self.at);
        let key = key_of(&data, &self.rules.key)?;
        let mut left = self.left.take();
        let mut current = self.current(&key)?;
        let was_emptied = self.emptied.remove(&key);
        if let Some(place) = current
            && (op == Op::Delete || (was_emptied && op != Op::Read && self.rules.deletes))
        {
            left = Some(self.rows[place].clone());
            self.close(place, at, self.rules.soft)?;
            current = None;
        }
        if op == Op::Delete {
            self.left = left;
            return Ok(());
        }
        let known = current.map(|place| self.rows[place].clone()).or(left);
        let data = match (text(row, UNCHANGED), &known) {
            (None, _) => data,
            (Some(unsent), Some(known)) => keep_unsent(&data, known, &unsent)?,
            (Some(_), None) => {
                return Err(Error::incident("R0203", "a row that the table does not hold was changed in part"));
            }
        };
        match current {
            Some(place) => self.change(place, &data, at),
            None => {
                let from = at.max(self.newest_end(&key)?.unwrap_or(at));
                self.rows.push(version(&data, from, None, false)?);
                Ok(())
            }
        }
    }

    /// Puts a row in the place of the current version, or behind it as a new one.
    fn change(&mut self, place: usize, data: &RecordBatch, at: Micros) -> Result<()> {
        let old = self.rows[place].clone();
        if let Some(column) = &self.rules.sequence
            && is_older(data, &old, column)?
        {
            return Ok(());
        }
        let began = instant(&old, VALID_FROM).unwrap_or(at);
        if differs(&old, data, |column| !self.rules.ignored.contains(column)) {
            self.close(place, at, false)?;
            self.rows.push(version(data, at.max(began), None, false)?);
        } else if differs(&old, data, |_| true) {
            self.rows[place] = version(data, began, None, false)?;
        }
        Ok(())
    }

    fn close(&mut self, place: usize, at: Micros, deleted: bool) -> Result<()> {
        let row = &self.rows[place];
        let began = instant(row, VALID_FROM).unwrap_or(at);
        self.rows[place] = version(row, began, Some(at.max(began)), deleted)?;
        Ok(())
    }

    fn current(&self, key: &[String]) -> Result<Option<usize>> {
        for (place, row) in self.rows.iter().enumerate() {
            if flag(row, IS_CURRENT) && key_of(row, &self.rules.key)? == key {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    fn newest_end(&self, key: &[String]) -> Result<Option<Micros>> {
        let mut newest = None;
        for row in self.rows.iter() {
            if key_of(row, &self.rules.key)? == key {
                newest = newest.max(instant(row, VALID_TO));
            }
        }
        Ok(newest)
    }
}

fn differs(old: &RecordBatch, new: &RecordBatch, asked: impl Fn(&String) -> bool) -> bool {
    let schema = new.schema();
    let names = schema.fields().iter().map(|field| field.name());
    let mut asked = names.filter(|name| !VERSION_COLUMNS.contains(&name.as_str()) && asked(name));
    asked.any(|name| old.column_by_name(name).map(|a| a.to_data()) != new.column_by_name(name).map(|a| a.to_data()))
}

fn version(row: &RecordBatch, from: Micros, to: Option<Micros>, deleted: bool) -> Result<RecordBatch> {
    let instant =
        |at: Option<Micros>| -> ArrayRef { Arc::new(TimestampMicrosecondArray::from(vec![at]).with_timezone("UTC")) };
    let schema = row.schema();
    let mut columns = row.columns().to_vec();
    let is_true = |value: bool| -> ArrayRef { Arc::new(BooleanArray::from(vec![value])) };
    let values = [instant(Some(from)), instant(to), is_true(to.is_none()), is_true(deleted)];
    for (name, value) in VERSION_COLUMNS.iter().zip(values) {
        columns[schema.index_of(name)?] = value;
    }
    Ok(RecordBatch::try_new(schema, columns)?)
}

fn instant(row: &RecordBatch, name: &str) -> Option<Micros> {
    let column = row.column_by_name(name)?.as_primitive_opt::<TimestampMicrosecondType>()?;
    column.iter().next().flatten()
}

pub(crate) fn flag(row: &RecordBatch, name: &str) -> bool {
    let column = row.column_by_name(name).and_then(|column| column.as_boolean_opt());
    column.is_some_and(|column| column.iter().next().flatten() == Some(true))
}

/// Says of a row whether its source has deleted it.
pub(crate) fn with_deleted(row: &RecordBatch, deleted: bool) -> Result<RecordBatch> {
    let schema = row.schema();
    let mut columns = row.columns().to_vec();
    columns[schema.index_of(IS_DELETED)?] = Arc::new(BooleanArray::from(vec![deleted]));
    Ok(RecordBatch::try_new(schema, columns)?)
}
