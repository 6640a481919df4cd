//! Keys of rows as comparable bytes.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::Schema;
use arrow::row::{OwnedRow, RowConverter, Rows, SortField};
use lakehead_core::{Error, Result};

/// Turns the key columns of batches into rows of bytes that are equal exactly where the keys are.
///
/// Floats compare by total order here, so -0.0 and 0.0 are two keys, as in the source (case 52).
pub struct KeyEncoder {
    columns: Vec<String>,
    converter: RowConverter,
    types: Vec<arrow::datatypes::DataType>,
}

impl KeyEncoder {
    /// Prepares for the key columns of `schema`.
    pub fn new(schema: &Schema, columns: &[String]) -> Result<Self> {
        let mut types = Vec::with_capacity(columns.len());
        for column in columns {
            let field = schema.field_with_name(column).map_err(|error| {
                Error::user("R0409", "a key column is not among the columns of the table")
                    .with("column", column)
                    .caused_by(error)
            })?;
            types.push(field.data_type().clone());
        }
        let fields = types.iter().cloned().map(SortField::new).collect();
        Ok(Self { columns: columns.to_vec(), converter: RowConverter::new(fields)?, types })
    }

    /// Returns the names of the key columns.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Encodes the key of every row.
    pub fn encode(&self, rows: &RecordBatch) -> Result<Rows> {
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for (column, data_type) in self.columns.iter().zip(&self.types) {
            let array = rows
                .column_by_name(column)
                .ok_or_else(|| Error::bug("a key column is missing from the rows").with("column", column))?;
            arrays.push(if array.data_type() == data_type {
                Arc::clone(array)
            } else {
                arrow::compute::cast(array, data_type)?
            });
        }
        Ok(self.converter.convert_columns(&arrays)?)
    }
}

/// A set of keys.
#[derive(Debug, Default)]
pub struct KeySet(HashSet<OwnedRow>);

impl KeySet {
    /// Adds the key of every row.
    pub fn add(&mut self, keys: &Rows) {
        self.0.extend(keys.iter().map(|key| key.owned()));
    }

    /// Returns whether a key is in the set.
    pub fn contains(&self, key: &OwnedRow) -> bool {
        self.0.contains(key)
    }

    /// Returns how many keys it holds.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
