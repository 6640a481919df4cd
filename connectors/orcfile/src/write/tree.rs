//! From a schema to the columns that are written.

use arrow::datatypes::{DataType, Field, Schema};
use lakehead_core::{Error, Result};

use super::column::Column;
use super::options::OrcOptions;
use super::stream::Integers;
use super::values::Values;
use crate::bloom::Bloom;
use crate::fault::{option, untyped};
use crate::run::integer::Sign;
use crate::stats::{self, Stats};

/// Builds the row's column and all below it, numbered as `schema::types_of` numbers them.
pub(super) fn columns(schema: &Schema, options: &OrcOptions) -> Result<Column> {
    let mut builder = Builder { options, next: 1, blooms: 0 };
    let children = schema.fields().iter().map(|field| builder.column(field, field.name().clone()));
    let values = Values::Struct(children.collect::<Result<_>>()?);
    if builder.blooms < options.bloom_columns.len() {
        return Err(option("bloom_columns", "each column once, a leaf of the schema and no boolean"));
    }
    Ok(Column::new(0, String::new(), values, Stats::new(stats::Values::None), None))
}

struct Builder<'a> {
    options: &'a OrcOptions,
    next: u32,
    /// Columns of `bloom_columns` that were found.
    blooms: usize,
}

impl Builder<'_> {
    fn column(&mut self, field: &Field, path: String) -> Result<Column> {
        let number = self.next;
        self.next += 1;
        let data_type = field.data_type();
        if let Some(values) = Values::of_leaf(data_type) {
            let stats = match data_type {
                DataType::Date32 => stats::Values::Date { range: None },
                _ => values.stats(),
            };
            let bloom = self.bloom(&path, data_type);
            return Ok(Column::new(number, path, values, Stats::new(stats), bloom));
        }
        let values = match data_type {
            DataType::Struct(fields) => {
                let children = fields.iter().map(|field| self.column(field, format!("{path}.{}", field.name())));
                Values::Struct(children.collect::<Result<_>>()?)
            }
            DataType::List(item) | DataType::LargeList(item) => {
                let children = vec![self.column(item, format!("{path}.element"))?];
                Values::List { lengths: Integers::new(Sign::Unsigned), children }
            }
            DataType::Map(entries, _) => {
                let DataType::Struct(pair) = entries.data_type() else { return Err(untyped(&path, data_type)) };
                let names = ["key", "value"];
                let children = pair.iter().zip(names).map(|(field, name)| self.column(field, format!("{path}.{name}")));
                let children = children.collect::<Result<_>>()?;
                Values::List { lengths: Integers::new(Sign::Unsigned), children }
            }
            _ => return Err(Error::bug("a type was accepted that has no column").with("column", path)),
        };
        let stats = Stats::new(values.stats());
        Ok(Column::new(number, path, values, stats, None))
    }

    fn bloom(&mut self, path: &str, data_type: &DataType) -> Option<Bloom> {
        let wanted = self.options.bloom_columns.iter().any(|column| column == path);
        if !wanted || matches!(data_type, DataType::Boolean) {
            return None;
        }
        self.blooms += 1;
        Some(Bloom::new(self.options.row_group_rows, self.options.bloom_false_positives))
    }
}
