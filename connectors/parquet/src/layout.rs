//! How a table's rows are divided into files: by partition, then by bucket, in an order.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use lakehead_buckets::BucketHash;
use lakehead_core::{BUCKETS_MAX, Error, Result, Settings, SinkSpec, Value};
use lakehead_lakefile::{FileKind, PartitionValues, partition_texts};
use serde::{Deserialize, Serialize};

/// The buckets of a table, as its manifests say them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Buckets {
    pub(crate) columns: Vec<String>,
    pub(crate) count: NonZeroU32,
    /// The word of [`BucketHash`].
    pub(crate) hash: String,
}

impl Buckets {
    fn from_settings(settings: &Settings) -> Result<Option<Self>> {
        let columns = settings.texts("bucket_by");
        let count = match settings.get("bucket_count") {
            Some(Value::Int(count)) => u32::try_from(*count).ok().and_then(NonZeroU32::new),
            _ => None,
        };
        match (columns.is_empty(), count) {
            (true, None) => Ok(None),
            (false, Some(count)) if count.get() <= BUCKETS_MAX => {
                let hash = settings.text("bucket_hash").and_then(BucketHash::parse).unwrap_or_default();
                Ok(Some(Self { columns, count, hash: hash.word().to_owned() }))
            }
            _ => Err(Error::user("R0413", "`bucket_by` and `bucket_count` go together")
                .with("buckets_max", BUCKETS_MAX)
                .help("bucket_by = [id], bucket_count = 16")),
        }
    }

    /// Whose rule it is; `None` for a word of a later version.
    pub(crate) fn rule(&self) -> Option<BucketHash> {
        BucketHash::parse(&self.hash)
    }

    /// For people: `hive2 of id, day into 16`.
    pub(crate) fn text(buckets: Option<&Self>) -> String {
        match buckets {
            None => "none".into(),
            Some(found) => format!("{} of {} into {}", found.hash, found.columns.join(", "), found.count),
        }
    }
}

/// How one table is laid out.
#[derive(Clone, Debug)]
pub(crate) struct TableLayout {
    pub(crate) partition_by: Vec<String>,
    pub(crate) buckets: Option<Buckets>,
    /// The order of rows in a file, without the columns that are the same in all of them.
    pub(crate) sort_by: Vec<String>,
    pub(crate) kind: FileKind,
}

impl TableLayout {
    pub(crate) fn of(spec: &SinkSpec, kind: FileKind) -> Result<Self> {
        let mut sort_by = spec.settings.texts("sort_by");
        sort_by.retain(|column| !spec.partition_by.contains(column));
        let buckets = Buckets::from_settings(&spec.settings)?;
        Ok(Self { partition_by: spec.partition_by.clone(), buckets, sort_by, kind })
    }
}

/// Where a file of a round belongs.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) partition: PartitionValues,
    pub(crate) bucket: Option<u32>,
}

/// Numbers the slots of a round in the order in which they occur.
pub(crate) struct Slots {
    layout: TableLayout,
    converter: RowConverter,
    numbers: HashMap<Box<[u8]>, u32>,
    slots: Vec<Slot>,
}

impl Slots {
    pub(crate) fn new(layout: &TableLayout) -> Result<Self> {
        let mut fields: Vec<_> = layout.partition_by.iter().map(|_| SortField::new(DataType::Utf8)).collect();
        if layout.buckets.is_some() {
            fields.push(SortField::new(DataType::UInt32));
        }
        let converter = RowConverter::new(fields)?;
        Ok(Self { layout: layout.clone(), converter, numbers: HashMap::new(), slots: Vec::new() })
    }

    /// Returns the slot that `number` stands for.
    pub(crate) fn get(&self, number: u32) -> Option<&Slot> {
        self.slots.get(number as usize)
    }

    /// Returns the slot of all rows, where the layout has one alone.
    pub(crate) fn only(&mut self) -> Option<u32> {
        if !self.layout.partition_by.is_empty() || self.layout.buckets.is_some() {
            return None;
        }
        if self.slots.is_empty() {
            self.slots.push(Slot { partition: Vec::new(), bucket: None });
        }
        Some(0)
    }

    /// Returns the number of every row's slot.
    pub(crate) fn number(&mut self, rows: &RecordBatch) -> Result<UInt32Array> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.layout.partition_by.len() + 1);
        for name in &self.layout.partition_by {
            let column = rows
                .column_by_name(name)
                .ok_or_else(|| Error::bug("a partition column is missing").with("column", name))?;
            columns.push(Arc::new(partition_texts(column)?));
        }
        if let Some(buckets) = &self.layout.buckets {
            let rule = buckets.rule().ok_or_else(|| Error::bug("a bucket hash is unknown"))?;
            columns.push(Arc::new(UInt32Array::from(rule.numbers(rows, &buckets.columns, buckets.count)?)));
        }
        if let Some(slot) = self.only() {
            return Ok(UInt32Array::from(vec![slot; rows.num_rows()]));
        }
        let keys = self.converter.convert_columns(&columns)?;
        let mut numbers = Vec::with_capacity(rows.num_rows());
        for (row, key) in keys.iter().enumerate() {
            let number = match self.numbers.get(key.as_ref()) {
                Some(number) => *number,
                None => self.add(key.as_ref().into(), &columns, row)?,
            };
            numbers.push(number);
        }
        Ok(UInt32Array::from(numbers))
    }

    fn add(&mut self, key: Box<[u8]>, columns: &[ArrayRef], row: usize) -> Result<u32> {
        use arrow::array::{Array, AsArray};
        let number = u32::try_from(self.slots.len())
            .map_err(|_| Error::user("R0414", "one round falls into more files than can be counted"))?;
        let value = |column: &ArrayRef| {
            let texts = column.as_string::<i32>();
            texts.is_valid(row).then(|| texts.value(row).to_owned())
        };
        let named = self.layout.partition_by.iter().cloned().zip(columns.iter().map(value));
        let partition = named.take(self.layout.partition_by.len()).collect();
        let bucket = self.layout.buckets.as_ref().and(columns.last());
        let bucket = bucket.map(|column| column.as_primitive::<arrow::datatypes::UInt32Type>().value(row));
        self.slots.push(Slot { partition, bucket });
        self.numbers.insert(key, number);
        Ok(number)
    }
}
