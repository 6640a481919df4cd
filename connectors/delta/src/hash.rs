//! Keys as hashes.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use lakehead_core::Result;
use lakehead_keyindex::KeyHash;
use lakehead_lakefile::KeyEncoder;
use twox_hash::XxHash3_128;

/// Hashes the keys of rows: 128 bits, so that two keys of a table never share one (10^-20 at a milliard of keys).
pub(crate) struct KeyHasher(KeyEncoder);

impl KeyHasher {
    /// Prepares for the key columns of `schema`.
    pub(crate) fn new(schema: &Schema, key: &[String]) -> Result<Self> {
        Ok(Self(KeyEncoder::new(schema, key)?))
    }

    /// Returns the names of the key columns.
    pub(crate) fn columns(&self) -> &[String] {
        self.0.columns()
    }

    /// Hashes the key of every row.
    pub(crate) fn hashes(&self, rows: &RecordBatch) -> Result<Vec<KeyHash>> {
        Ok(self.0.encode(rows)?.iter().map(|key| XxHash3_128::oneshot(key.data())).collect())
    }
}
