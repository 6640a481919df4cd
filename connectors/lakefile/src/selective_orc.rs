//! Some rows of one ORC file: stripes and groups of rows are left out by their least and greatest values, and columns that
//! are only shown are read where the condition holds.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use lakehead_core::{Error, Result};
use lakehead_orcfile::{OrcColumn, OrcFile, OrcStripe};

use crate::Location;
use crate::orc::{open_parts, waiting};
use crate::selective::Condition;

/// Rows that a condition is asked for at once.
const BATCH_ROWS: u64 = 8192;

/// An ORC file, its footer read.
pub(crate) struct OrcParts {
    place: String,
    file: OrcFile,
}

impl OrcParts {
    pub(crate) async fn open(location: &Location, name: &str, bytes: Arc<AtomicU64>) -> Result<Self> {
        Ok(Self { place: location.place(name), file: open_parts(location, name, bytes).await? })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        self.file.schema()
    }

    /// Reads the columns `columns` of the first `limit` rows that are wanted, stripe by stripe.
    pub(crate) fn read(
        self,
        columns: &[String],
        condition: Option<Condition>,
        limit: usize,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        let Self { place, file } = self;
        let has = |name: &&String| file.schema().field_with_name(name).is_ok();
        let shown = columns.iter().filter(has).cloned().collect();
        let scan = Scan { file, shown, condition, left: limit, stripes: None };
        let stripes = futures::stream::try_unfold(scan, async |mut scan| {
            waiting(move || Ok(scan.next_stripe()?.map(|rows| (rows, scan)))).await
        });
        let rows = stripes.map_ok(|rows| futures::stream::iter(rows.into_iter().map(Ok))).try_flatten();
        rows.map_err(move |error: Error| error.with("file", &place)).boxed()
    }
}

/// What is read, and how far.
struct Scan {
    file: OrcFile,
    shown: Vec<String>,
    condition: Option<Condition>,
    /// Rows that are still wanted.
    left: usize,
    /// The stripes that are left; none before the first was chosen.
    stripes: Option<std::vec::IntoIter<usize>>,
}

impl Scan {
    /// Returns the wanted rows of the next stripe that may hold some; `None` at the end.
    fn next_stripe(&mut self) -> Result<Option<Vec<RecordBatch>>> {
        if self.left == 0 {
            return Ok(None);
        }
        let stripes = match &mut self.stripes {
            Some(stripes) => stripes,
            None => {
                let kept = self.kept_stripes()?;
                self.stripes.insert(kept.into_iter())
            }
        };
        let Some(number) = stripes.next() else { return Ok(None) };
        let mut stripe = self.file.stripe(number)?;
        if let Some(condition) = &self.condition {
            stripe = stripe.with_indexes(&[condition.columns.as_slice(), &self.shown].concat())?;
        }
        let groups = self.kept_groups(&stripe)?;
        self.rows(&stripe, groups).map(Some)
    }

    fn kept_stripes(&self) -> Result<Vec<usize>> {
        let all = self.file.stripes();
        let Some(condition) = &self.condition else { return Ok((0..all).collect()) };
        let flags = (condition.keeps)(all, &self.file.stripe_extremes(&condition.columns)?);
        Ok((0..all).filter(|stripe| flags.get(*stripe).copied().unwrap_or(true)).collect())
    }

    /// Returns the rows of the stripe's groups that may hold wanted ones.
    fn kept_groups(&self, stripe: &OrcStripe) -> Result<Vec<Range<u64>>> {
        let all = 0..stripe.rows();
        let Some(condition) = &self.condition else { return Ok(vec![all]) };
        let extremes = stripe.group_extremes(&condition.columns)?;
        if extremes.is_empty() {
            return Ok(vec![all]);
        }
        let flags = (condition.keeps)(stripe.groups(), &extremes);
        let rows = |group: usize| {
            let from = group as u64 * stripe.group_rows();
            from..stripe.rows().min(from + stripe.group_rows())
        };
        Ok((0..stripe.groups()).filter(|group| flags.get(*group).copied().unwrap_or(true)).map(rows).collect())
    }

    fn rows(&mut self, stripe: &OrcStripe, groups: Vec<Range<u64>>) -> Result<Vec<RecordBatch>> {
        let mut columns = Columns::default();
        let mut found = Vec::new();
        for group in groups {
            let mut from = group.start;
            while from < group.end && self.left > 0 {
                let most = if self.condition.is_some() { BATCH_ROWS } else { self.left as u64 };
                let rows = from..group.end.min(from.saturating_add(most.min(BATCH_ROWS)));
                from = rows.end;
                let wanted = match &mut self.condition {
                    None => None,
                    Some(condition) => {
                        let asked = columns.read(stripe, self.file.schema(), &condition.columns, &rows)?;
                        let holds = (condition.holds)(&asked)?;
                        if holds.true_count() == 0 {
                            continue;
                        }
                        Some(holds)
                    }
                };
                let rows = columns.read(stripe, self.file.schema(), &self.shown, &rows)?;
                let rows = match wanted {
                    None => rows,
                    Some(wanted) => filter_record_batch(&rows, &wanted)?,
                };
                let rows = rows.slice(0, rows.num_rows().min(self.left));
                self.left -= rows.num_rows();
                found.push(rows);
            }
        }
        Ok(found)
    }
}

/// The columns of a stripe, opened when they are first read.
#[derive(Default)]
struct Columns {
    open: BTreeMap<String, OrcColumn>,
    /// The values that were last read, and of which rows.
    last: BTreeMap<String, (Range<u64>, ArrayRef)>,
}

impl Columns {
    /// Returns some rows of columns. What a condition has read is not read again to be shown.
    fn read(
        &mut self,
        stripe: &OrcStripe,
        schema: &SchemaRef,
        names: &[String],
        rows: &Range<u64>,
    ) -> Result<RecordBatch> {
        let count = usize::try_from(rows.end - rows.start).unwrap_or(usize::MAX);
        let mut fields = Vec::with_capacity(names.len());
        let mut arrays = Vec::with_capacity(names.len());
        for name in names {
            let last = self.last.get(name).filter(|(of, _)| of == rows);
            let values = match last {
                Some((_, values)) => Arc::clone(values),
                None => {
                    let values = self.column(stripe, name)?.read(rows.start, count)?;
                    self.last.insert(name.clone(), (rows.clone(), Arc::clone(&values)));
                    values
                }
            };
            fields.push(schema.field_with_name(name)?.clone());
            arrays.push(values);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?)
    }

    fn column(&mut self, stripe: &OrcStripe, name: &str) -> Result<&mut OrcColumn> {
        if !self.open.contains_key(name) {
            self.open.insert(name.to_owned(), stripe.column(name)?);
        }
        self.open.get_mut(name).ok_or_else(|| Error::bug("a column that was opened is not there"))
    }
}
