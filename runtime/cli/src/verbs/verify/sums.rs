//! Counts and sums of hashes by range of keys: what two sides are compared by.

use std::collections::BTreeMap;

use arrow::array::{Array, Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use lakehead_core::Result;

/// Keys of one range, where the first key column is a whole number.
pub(super) const RANGE_KEYS: i64 = 1_000_000;

/// Rows of one range: how many, and a sum of their hashes that does not depend on their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) rows: u64,
    pub(super) hash: u128,
}

impl Sum {
    /// Adds a row.
    pub(super) fn add(&mut self, hash: u128) {
        self.rows += 1;
        self.hash = self.hash.wrapping_add(hash);
    }
}

pub(super) type Ranges = BTreeMap<Option<i64>, Sum>;

/// Adds rows, hashed over `columns`, to their ranges.
pub(super) fn add(rows: &RecordBatch, columns: &[String], key: &[String], sums: &mut Ranges) -> Result<()> {
    for (range, hash) in ranges(rows, key)?.into_iter().zip(hashes(rows, columns)?) {
        sums.entry(range).or_default().add(hash);
    }
    Ok(())
}

/// Returns each row's hash over some columns; values are hashed as texts, so that a type that the lake holds otherwise
/// (time as text) hashes the same.
pub(super) fn hashes(rows: &RecordBatch, columns: &[String]) -> Result<Vec<u128>> {
    let options = FormatOptions::default();
    let mut formatters = Vec::with_capacity(columns.len());
    for name in columns {
        if let Some(column) = rows.column_by_name(name) {
            formatters.push((name, column, ArrayFormatter::try_new(column, &options)?));
        }
    }
    let hash = |row: usize| {
        let mut hasher = twox_hash::xxhash3_128::Hasher::new();
        for (name, column, formatter) in &formatters {
            if column.is_valid(row) {
                hasher.write(name.as_bytes());
                hasher.write(b"=");
                hasher.write(formatter.value(row).to_string().as_bytes());
                hasher.write(b"\0");
            }
        }
        hasher.finish_128()
    };
    Ok((0..rows.num_rows()).map(hash).collect())
}

/// Returns the range that each row's key lies in; none where the first column of the key is no whole number.
pub(super) fn ranges(rows: &RecordBatch, key: &[String]) -> Result<Vec<Option<i64>>> {
    let first = key.first().and_then(|column| rows.column_by_name(column));
    let Some(first) = first.filter(|column| column.data_type().is_integer()) else {
        return Ok(vec![None; rows.num_rows()]);
    };
    let wide = cast(first, &DataType::Int64)?;
    let numbers = wide.as_any().downcast_ref::<Int64Array>();
    Ok(numbers.into_iter().flat_map(|numbers| numbers.values()).map(|n| Some(n.div_euclid(RANGE_KEYS))).collect())
}
