//! Bucket numbers as Hive and Spark compute them, so that their readers find a key in one file of many.
//!
//! A bucket number is a promise to every engine that reads the table: one wrong bit, and a reader that prunes misses
//! rows without a word. Each rule here follows the code of its engine, and `tests/vectors.tsv` holds the answers of the
//! engines themselves.

mod cell;
mod hive;
mod murmur;
mod spark;

use std::num::NonZeroU32;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use lakehead_core::{Error, Result, column_type_name, has_bucket_hash};

use crate::cell::{Cell, cells};

/// Whose rule says which bucket a row is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BucketHash {
    /// Hive 3 and later, where the table says `bucketing_version = 2`: Murmur3 over big-endian bytes.
    #[default]
    Hive2,
    /// Hive before 3, and tables that name no version: the hash codes of Java.
    Hive1,
    /// Spark: Murmur3 with its own tail, several columns chained.
    Spark,
}

impl BucketHash {
    /// Every rule, the default first.
    pub const ALL: [Self; 3] = [Self::Hive2, Self::Hive1, Self::Spark];

    /// Returns the word of the language.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Hive2 => "hive2",
            Self::Hive1 => "hive1",
            Self::Spark => "spark",
        }
    }

    /// Reads the word of the language.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| hash.word() == word)
    }

    /// Returns the bucket of every row, each below `count`.
    ///
    /// A column that is missing is a bug of the caller; one whose type no engine buckets by is an error (`R0412`).
    pub fn numbers(self, rows: &RecordBatch, columns: &[String], count: NonZeroU32) -> Result<Vec<u32>> {
        let hashes = self.hashes(rows, columns)?;
        Ok(hashes.into_iter().map(|hash| self.number(hash, count)).collect())
    }

    /// Returns the bucket of a hash. Hive drops the sign, Spark takes the positive remainder: not the same.
    fn number(self, hash: i32, count: NonZeroU32) -> u32 {
        match self {
            Self::Hive2 | Self::Hive1 => (hash & i32::MAX).unsigned_abs() % count,
            Self::Spark => {
                let number = i64::from(hash).rem_euclid(i64::from(count.get()));
                u32::try_from(number).unwrap_or(0)
            }
        }
    }

    /// Returns the hash of every row over `columns`, in their order.
    pub fn hashes(self, rows: &RecordBatch, columns: &[String]) -> Result<Vec<i32>> {
        let seed = if self == Self::Spark { spark::SEED } else { 0 };
        let mut hashes = vec![seed; rows.num_rows()];
        for name in columns {
            let column = rows
                .column_by_name(name)
                .ok_or_else(|| Error::bug("a bucket column is missing").with("column", name))?;
            if !has_bucket_hash(column.data_type()) {
                return Err(unhashable(name, column.data_type()));
            }
            cells(column, &mut |row, cell| {
                if let Some(hash) = hashes.get_mut(row) {
                    *hash = self.step(*hash, cell);
                }
            })?;
        }
        Ok(hashes)
    }

    fn step(self, so_far: i32, cell: Option<Cell<'_>>) -> i32 {
        // Hive counts NULL as 0, Spark passes it over.
        let hive = |hash: fn(Cell<'_>) -> i32| so_far.wrapping_mul(31).wrapping_add(cell.map_or(0, hash));
        match self {
            Self::Hive2 => hive(hive::hash_v2),
            Self::Hive1 => hive(hive::hash_v1),
            Self::Spark => cell.map_or(so_far, |cell| spark::hash(cell, so_far)),
        }
    }
}

fn unhashable(column: &str, data_type: &DataType) -> Error {
    Error::user("R0412", "rows cannot be put into buckets by a column of this type")
        .with("column", column)
        .with("type", column_type_name(data_type))
        .help("bucket_by = [a column of whole numbers, text, binary, date, timestamp, decimal, real, double or bool]")
}
