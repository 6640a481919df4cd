//! What a finished file holds.

use arrow::datatypes::Schema;

use super::column::Column;
use crate::stats::Values;

/// A finished file.
#[derive(Clone, Debug, PartialEq)]
pub struct OrcSummary {
    /// All rows.
    pub rows: u64,
    /// All bytes, from the first to the last.
    pub bytes: u64,
    /// How many stripes.
    pub stripes: usize,
    /// The columns of the top, in the schema's order.
    pub columns: Vec<ColumnSummary>,
    /// Times in the last second before 1970 with a millisecond or more of fraction, in all columns. The format has no
    /// place for them: pyarrow and ClickHouse give them exactly, Spark refuses to read their column.
    pub last_second_times: u64,
}

/// A column of the top.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnSummary {
    /// Its name.
    pub name: String,
    /// Rows without a value.
    pub nulls: u64,
    /// The smallest value; none without values, with a NaN among them, or for types without an order.
    pub min: Option<Bound>,
    /// The greatest value, as `min`.
    pub max: Option<Bound>,
}

/// A smallest or greatest value.
#[derive(Clone, Debug, PartialEq)]
pub enum Bound {
    /// A boolean.
    Bool(bool),
    /// A whole number of any width.
    Int(i64),
    /// A float or double.
    Float(f64),
    /// A text, whole.
    Text(String),
    /// Days since 1970.
    Date(i64),
    /// A decimal: the digits, and how many of them are behind the point.
    Decimal(i128, i8),
    /// Nanoseconds since 1970.
    Time(i128),
}

pub(super) fn of(schema: &Schema, root: &Column, (rows, bytes, stripes): (u64, u64, usize)) -> OrcSummary {
    let columns = schema.fields().iter().zip(root.values.children()).map(|(field, column)| {
        let (min, max) = bounds(column).unzip();
        ColumnSummary { name: field.name().clone(), nulls: column.file.nulls, min, max }
    });
    OrcSummary { rows, bytes, stripes, columns: columns.collect(), last_second_times: last_second_times(root) }
}

fn bounds(column: &Column) -> Option<(Bound, Bound)> {
    fn both<T>((min, max): (T, T), bound: impl Fn(T) -> Bound) -> (Bound, Bound) {
        (bound(min), bound(max))
    }
    let count = column.file.count;
    match &column.file.values {
        Values::Bool { trues } => (count > 0).then_some((Bound::Bool(*trues == count), Bound::Bool(*trues > 0))),
        Values::Int { range, .. } => range.map(|range| both(range, Bound::Int)),
        Values::Date { range } => range.map(|range| both(range, Bound::Date)),
        Values::Float { range, nan: false, .. } => range.map(|range| both(range, Bound::Float)),
        Values::Text { range, .. } => range.clone().map(|range| both(range, |text| Bound::Text(text.into()))),
        Values::Decimal { range, scale, .. } => range.map(|range| both(range, |digits| Bound::Decimal(digits, *scale))),
        Values::Time { range, .. } => range.map(|range| both(range, Bound::Time)),
        Values::Float { nan: true, .. } | Values::None | Values::Binary { .. } | Values::Children { .. } => None,
    }
}

fn last_second_times(column: &Column) -> u64 {
    let own = match &column.file.values {
        Values::Time { last_second, .. } => *last_second,
        _ => 0,
    };
    own + column.values.children().iter().map(last_second_times).sum::<u64>()
}
