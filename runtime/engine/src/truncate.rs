//! `truncate(c, n)` of a layout: `code` 3 gives the first three characters, `id` 1000 the thousands, as Iceberg does.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, Decimal128Type, Int8Type, Int16Type, Int32Type, Int64Type};
use lakehead_core::{Error, Result};

/// Truncates every value; its type stays. A number goes down to a multiple of `width`, below zero too; a decimal does
/// so in its smallest unit; a text keeps `width` characters.
pub(crate) fn truncate(source: &ArrayRef, width: u32) -> Result<ArrayRef> {
    // A width beyond the type leaves one value for zero and above and one for below, the least that there is.
    Ok(match source.data_type() {
        DataType::Int8 => Arc::new(
            source
                .as_primitive::<Int8Type>()
                .unary::<_, Int8Type>(|n| i8::try_from(down(n.into(), width)).unwrap_or(i8::MIN)),
        ),
        DataType::Int16 => Arc::new(
            source
                .as_primitive::<Int16Type>()
                .unary::<_, Int16Type>(|n| i16::try_from(down(n.into(), width)).unwrap_or(i16::MIN)),
        ),
        DataType::Int32 => Arc::new(
            source
                .as_primitive::<Int32Type>()
                .unary::<_, Int32Type>(|n| i32::try_from(down(n.into(), width)).unwrap_or(i32::MIN)),
        ),
        DataType::Int64 => Arc::new(
            source
                .as_primitive::<Int64Type>()
                .unary::<_, Int64Type>(|n| i64::try_from(down(n.into(), width)).unwrap_or(i64::MIN)),
        ),
        DataType::Decimal128(precision, scale) => {
            let least = -(10_i128.pow(u32::from(*precision)) - 1);
            let decimals = source.as_primitive::<Decimal128Type>();
            let cut = decimals.unary::<_, Decimal128Type>(|n| down(n, width).max(least));
            Arc::new(cut.with_precision_and_scale(*precision, *scale)?)
        }
        DataType::Utf8 => {
            let first = |text: &str| text.chars().take(width as usize).collect::<String>();
            Arc::new(source.as_string::<i32>().iter().map(|text| text.map(first)).collect::<StringArray>())
        }
        _ => return Err(Error::bug("a layout column's source can not be truncated")),
    })
}

fn down(value: i128, width: u32) -> i128 {
    value.saturating_sub(value.rem_euclid(i128::from(width.max(1))))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, Decimal128Array, Int8Array, Int64Array};

    use super::*;

    #[test]
    fn numbers_go_down_and_texts_keep_characters() {
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![Some(1999), Some(-1), Some(0), None, Some(i64::MIN)]));
        let cut = truncate(&ids, 1000).unwrap();
        let expected = Int64Array::from(vec![Some(1000), Some(-1000), Some(0), None, Some(i64::MIN)]);
        assert_eq!(cut.as_primitive::<Int64Type>(), &expected);
        let small: ArrayRef = Arc::new(Int8Array::from(vec![-128, -1, 127]));
        assert_eq!(truncate(&small, 1000).unwrap().as_primitive::<Int8Type>().values(), &[-128, -128, 0]);
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("日本語"), Some("é"), Some(""), None]));
        let expected = StringArray::from(vec![Some("日本"), Some("é"), Some(""), None]);
        assert_eq!(truncate(&texts, 2).unwrap().as_string::<i32>(), &expected);
        let decimals = Decimal128Array::from(vec![665, -999]).with_precision_and_scale(3, 2).unwrap();
        let cut = truncate(&(Arc::new(decimals) as ArrayRef), 50).unwrap();
        assert_eq!(cut.as_primitive::<Decimal128Type>().values(), &[650, -999]);
        assert_eq!(cut.data_type(), &DataType::Decimal128(3, 2));
    }
}
