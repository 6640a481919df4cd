//! Keys as hashes.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Schema;
use lakehead_core::{IS_CURRENT, Result};
use lakehead_keyindex::KeyHash;
use lakehead_lakefile::KeyEncoder;
use twox_hash::XxHash3_128;

/// Stands for the hash of a row that its key does not lead to; no key has it (one in 10^38 would).
pub(crate) const UNINDEXED: KeyHash = 0;

/// Hashes the keys of rows: 128 bits, so that two keys of a table never share one (10^-20 at a milliard of keys).
pub(crate) struct KeyHasher {
    keys: KeyEncoder,
    /// The columns that are read for it.
    stored: Vec<String>,
}

impl KeyHasher {
    /// Prepares for the key columns of `schema`: every row is found by its key.
    pub(crate) fn new(schema: &Schema, key: &[String]) -> Result<Self> {
        Ok(Self { keys: KeyEncoder::new(schema, key)?, stored: key.to_vec() })
    }

    /// Prepares for a table of versions: only current rows are found by their keys.
    pub(crate) fn of_current_rows(schema: &Schema, key: &[String]) -> Result<Self> {
        let mut hasher = Self::new(schema, key)?;
        hasher.stored.push(IS_CURRENT.to_owned());
        Ok(hasher)
    }

    /// Returns the names of the key columns.
    pub(crate) fn columns(&self) -> &[String] {
        self.keys.columns()
    }

    /// Returns the names of the columns that say how a stored row is found.
    pub(crate) fn stored(&self) -> &[String] {
        &self.stored
    }

    /// Hashes the key of every row.
    pub(crate) fn hashes(&self, rows: &RecordBatch) -> Result<Vec<KeyHash>> {
        Ok(self.keys.encode(rows)?.iter().map(|key| XxHash3_128::oneshot(key.data())).collect())
    }

    /// Hashes the key of every row of the table; one that its key does not lead to has [`UNINDEXED`].
    pub(crate) fn stored_hashes(&self, rows: &RecordBatch) -> Result<Vec<KeyHash>> {
        let mut hashes = self.hashes(rows)?;
        if self.stored.len() > self.columns().len() {
            let flags = rows.column_by_name(IS_CURRENT).and_then(|flags| flags.as_boolean_opt());
            let is_current = |row: usize| flags.is_some_and(|flags| flags.is_valid(row) && flags.value(row));
            (0..hashes.len()).filter(|row| !is_current(*row)).for_each(|row| hashes[row] = UNINDEXED);
        }
        Ok(hashes)
    }
}
