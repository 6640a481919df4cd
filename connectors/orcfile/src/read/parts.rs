//! Parts of a file: some stripes, some groups of their rows, some columns, and of the file no more than these.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use lakehead_core::Result;

use super::column::Column;
use super::index::{self, Indexes};
use super::source::{FetchRanges, Source};
use super::stripe::Streams;
use super::tail::{self, StripeFooter, Tail};
use super::{Columns, extremes, unknown};
use crate::fault::damaged;

/// Rows that are decoded at once where rows are passed over.
const PASSED_ROWS: u64 = 8192;

/// By column the least values, the greatest values and the numbers of nulls, one of each per part. What is not known is
/// null; a column of whose type nothing is known is not there.
pub type PartExtremes = BTreeMap<String, [ArrayRef; 3]>;

/// A file of which parts are read; times are in microseconds.
#[derive(Clone)]
pub struct OrcFile(Arc<Inner>);

struct Inner {
    source: Arc<Source>,
    tail: Tail,
    columns: Columns,
}

impl OrcFile {
    /// Reads the end of a file of `length` bytes.
    ///
    /// # Errors
    ///
    /// `R1502` for a damaged file, `R1503` for one that uses what is not read, and what `ranges` answers.
    pub fn open(length: u64, ranges: Box<dyn FetchRanges>) -> Result<Self> {
        let mut source = Source::fetched(length, ranges);
        let tail = tail::read(&mut source)?;
        let columns = Columns::all(&tail, arrow::datatypes::TimeUnit::Microsecond)?;
        Ok(Self(Arc::new(Inner { source: Arc::new(source), tail, columns })))
    }

    /// Returns the file's columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.0.columns.schema
    }

    /// Returns how many stripes there are.
    pub fn stripes(&self) -> usize {
        self.0.tail.stripes.len()
    }

    /// Returns what the file says of its stripes.
    ///
    /// # Errors
    ///
    /// As [`OrcFile::open`], and `R1504` for a column that the file does not have.
    pub fn stripe_extremes(&self, columns: &[String]) -> Result<PartExtremes> {
        let Inner { source, tail, .. } = &*self.0;
        let numbers = self.numbers(columns)?;
        let stats = tail.stripe_stats(source, &numbers)?;
        if stats.len() != tail.stripes.len() {
            return Ok(PartExtremes::new());
        }
        let part = |column: usize, stripe: usize| stats.get(stripe).and_then(|stats| stats.get(column)?.as_deref());
        let rows: Vec<u64> = tail.stripes.iter().map(|stripe| stripe.rows).collect();
        self.extremes(columns, |column, _| {
            Some(rows.iter().enumerate().map(|(stripe, rows)| (part(column, stripe), *rows)).collect())
        })
    }

    /// Begins to read a stripe.
    ///
    /// # Errors
    ///
    /// As [`OrcFile::open`].
    pub fn stripe(&self, number: usize) -> Result<OrcStripe> {
        let Inner { source, tail, .. } = &*self.0;
        let stripe = tail.stripes.get(number).ok_or_else(|| damaged("a stripe that is not there"))?;
        let footer = tail::stripe_footer(source, stripe, tail)?;
        Ok(OrcStripe { file: self.clone(), footer, rows: stripe.rows, indexes: Arc::default() })
    }

    fn numbers(&self, columns: &[String]) -> Result<Vec<u64>> {
        let find = |name: &String| Ok(self.0.columns.find(name).ok_or_else(|| unknown(name))?.0);
        columns.iter().map(find).collect()
    }

    /// Reads the statistics of the parts of each column, which `parts` finds by its place and its number.
    fn extremes<'a>(
        &self,
        columns: &[String],
        parts: impl Fn(usize, u64) -> Option<Vec<extremes::Part<'a>>>,
    ) -> Result<PartExtremes> {
        let Inner { tail, columns: all, .. } = &*self.0;
        let mut found = PartExtremes::new();
        for (place, name) in columns.iter().enumerate() {
            let (number, field) = all.find(name).ok_or_else(|| unknown(name))?;
            let kind = usize::try_from(number).ok().and_then(|number| tail.types.get(number)).map(|of| of.kind);
            let (Some(kind), Some(parts)) = (kind, parts(place, number)) else { continue };
            if let Some(read) = extremes::read(field, kind, tail.writer, &parts)? {
                found.insert(name.clone(), read);
            }
        }
        Ok(found)
    }
}

/// One stripe.
pub struct OrcStripe {
    file: OrcFile,
    footer: StripeFooter,
    rows: u64,
    indexes: Arc<Indexes>,
}

impl OrcStripe {
    /// Reads the row indexes of columns: with them, groups are told apart and their rows are sought.
    ///
    /// # Errors
    ///
    /// As [`OrcFile::stripe_extremes`].
    pub fn with_indexes(mut self, columns: &[String]) -> Result<Self> {
        let Inner { source, tail, .. } = &*self.file.0;
        if tail.group_rows > 0 {
            let numbers = self.file.numbers(columns)?;
            self.indexes = Arc::new(index::read(&mut Streams::new(source, tail, &self.footer), &numbers)?);
        }
        Ok(self)
    }

    /// Returns how many rows it has.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns the rows of each group but the last, which may have fewer: all, where the file has no indexes.
    pub fn group_rows(&self) -> u64 {
        match self.file.0.tail.group_rows {
            0 => self.rows.max(1),
            rows => rows,
        }
    }

    /// Returns how many groups it has.
    pub fn groups(&self) -> usize {
        usize::try_from(self.rows.div_ceil(self.group_rows())).unwrap_or(usize::MAX)
    }

    /// Returns what the indexes say of the groups of columns.
    ///
    /// # Errors
    ///
    /// As [`OrcFile::stripe_extremes`].
    pub fn group_extremes(&self, columns: &[String]) -> Result<PartExtremes> {
        let group_rows = self.group_rows();
        self.file.extremes(columns, |_, number| {
            let entries = self.indexes.get(&number).filter(|entries| entries.len() == self.groups())?;
            let rows = |group: usize| (self.rows - group as u64 * group_rows).min(group_rows);
            Some(entries.iter().enumerate().map(|(group, entry)| (entry.stats.as_deref(), rows(group))).collect())
        })
    }

    /// Begins to read a column, whose streams are fetched piece by piece.
    ///
    /// # Errors
    ///
    /// As [`OrcFile::stripe_extremes`].
    pub fn column(&self, name: &str) -> Result<OrcColumn> {
        let Inner { source, tail, columns } = &*self.file.0;
        let (number, field) = columns.find(name).ok_or_else(|| unknown(name))?;
        let column = Column::open(&tail.types, number, field, &mut Streams::new(source, tail, &self.footer))?;
        let is_indexed = column.is_indexed(&self.indexes, self.groups());
        let group_rows = is_indexed.then(|| self.group_rows());
        Ok(OrcColumn { column, indexes: Arc::clone(&self.indexes), group_rows, at: 0, rows: self.rows })
    }
}

/// One column of a stripe.
pub struct OrcColumn {
    column: Column,
    indexes: Arc<Indexes>,
    /// Rows of a group whose beginning can be sought.
    group_rows: Option<u64>,
    /// The row that is read next.
    at: u64,
    rows: u64,
}

impl OrcColumn {
    /// Returns the values of `count` rows from `from` on. Rows are read forwards; those between are not decoded where an
    /// index leads past them.
    ///
    /// # Errors
    ///
    /// As [`OrcFile::open`].
    pub fn read(&mut self, from: u64, count: usize) -> Result<ArrayRef> {
        let end = from.checked_add(count as u64).filter(|end| *end <= self.rows && from >= self.at);
        let end = end.ok_or_else(|| damaged("rows beyond their stripe"))?;
        if let Some(group_rows) = self.group_rows {
            let group = from / group_rows;
            if group * group_rows > self.at {
                self.column.seek(&self.indexes, usize::try_from(group).unwrap_or(usize::MAX))?;
                self.at = group * group_rows;
            }
        }
        while self.at < from {
            let passed = (from - self.at).min(PASSED_ROWS);
            self.column.read(passed as usize)?;
            self.at += passed;
        }
        let values = self.column.read(count)?;
        self.at = end;
        Ok(values)
    }
}
