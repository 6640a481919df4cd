//! How columns are encoded, by their first rows.

use std::collections::HashSet;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use lakehead_core::Result;
use parquet::schema::types::ColumnPath;

/// Rows that are looked at, at least where there are as many: a small file is not worth more.
const SAMPLE_ROWS: usize = 512;
/// Rows that are looked at in a large first batch, a quarter of it: among so many, some thousand words repeat themselves.
const SAMPLE_ROWS_MAX: usize = 16_384;

/// Returns the columns that zstd would take the most work for and make smaller by less than a tenth: those of floating point
/// numbers that are as good as random. They are no others than those without a dictionary.
pub(crate) fn incompressible(rows: &RecordBatch, without_dictionary: &[ColumnPath]) -> Vec<ColumnPath> {
    let rows = rows.slice(0, rows.num_rows().min(SAMPLE_ROWS_MAX));
    let is_random = |column: &dyn Array| {
        let data = column.to_data();
        // The bytes of these are in a file what they are in memory.
        if !matches!(data.data_type(), DataType::Float32 | DataType::Float64) || data.len() < SAMPLE_ROWS {
            return false;
        }
        let width = data.data_type().primitive_width().unwrap_or_default();
        let bytes = data.buffers().first().and_then(|all| all.get(data.offset() * width..)).unwrap_or_default();
        let bytes = bytes.get(..data.len() * width).unwrap_or_default();
        zstd::bulk::compress(bytes, 1).is_ok_and(|packed| packed.len() * 10 > bytes.len() * 9)
    };
    let is_random = |path: &&ColumnPath| matches!(path.parts(), [name] if rows.column_by_name(name).is_some_and(|column| is_random(column)));
    without_dictionary.iter().filter(is_random).cloned().collect()
}

/// Returns the columns for which a dictionary would not pay: more than half of the first values differ. Each value would be
/// hashed, and stand in the dictionary and as a number beside it, until the encoder gave up at a megabyte.
pub(crate) fn without_dictionary(rows: &RecordBatch) -> Result<Vec<ColumnPath>> {
    let sample = rows.slice(0, rows.num_rows().min((rows.num_rows() / 4).clamp(SAMPLE_ROWS, SAMPLE_ROWS_MAX)));
    let mut columns = Vec::new();
    for (field, column) in sample.schema_ref().fields().iter().zip(sample.columns()) {
        // The leaves of a nested column keep theirs.
        if field.data_type().is_nested() {
            continue;
        }
        let converter = RowConverter::new(vec![SortField::new(field.data_type().clone())])?;
        let values = converter.convert_columns(std::slice::from_ref(column))?;
        let different: HashSet<&[u8]> = values.iter().map(|value| value.data()).collect();
        if different.len() * 2 > sample.num_rows() {
            columns.push(ColumnPath::new(vec![field.name().clone()]));
        }
    }
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float32Array, Float64Array, Int64Array, StringArray};

    use super::*;

    #[test]
    fn numbers_that_are_as_good_as_random_are_not_packed() {
        let noise = |n: u64| {
            let bits = (n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let bits = (bits ^ (bits >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            bits ^ (bits >> 32)
        };
        let columns: [(&str, ArrayRef); 4] = [
            ("noise", Arc::new((0..5000).map(|n| f64::from_bits(noise(n))).collect::<Float64Array>())),
            ("even", Arc::new((0..5000).map(f64::from).collect::<Float64Array>())),
            ("single", Arc::new((0..5000).map(|n| f32::from_bits(noise(n) as u32)).collect::<Float32Array>())),
            ("whole", Arc::new((0..5000).map(|n| noise(n).cast_signed()).collect::<Int64Array>())),
        ];
        let all: Vec<ColumnPath> = columns.iter().map(|(name, _)| ColumnPath::from(*name)).collect();
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let names = |rows: &RecordBatch| incompressible(rows, &all).iter().map(ColumnPath::string).collect::<Vec<_>>();
        assert_eq!(names(&rows), ["noise", "single"]);
        assert_eq!(names(&rows.slice(1000, 3000)), ["noise", "single"]);
        assert!(names(&rows.slice(0, 100)).is_empty(), "a small file is not worth it");
        assert!(incompressible(&rows, &[]).is_empty());
    }

    #[test]
    fn what_repeats_itself_gets_a_dictionary() {
        let numbers: ArrayRef = Arc::new((0..1000).collect::<Int64Array>());
        let words: ArrayRef = Arc::new((0..1000).map(|n| Some(["red", "green"][n % 2])).collect::<StringArray>());
        let sparse: ArrayRef = Arc::new((0..1000).map(|n| (n % 3 == 0).then_some(n)).collect::<Int64Array>());
        let rows = [("numbers", numbers), ("words", words), ("sparse", sparse)];
        let rows = RecordBatch::try_from_iter_with_nullable(rows.map(|(name, column)| (name, column, true))).unwrap();
        let names =
            |rows: &RecordBatch| without_dictionary(rows).unwrap().iter().map(ColumnPath::string).collect::<Vec<_>>();
        assert_eq!(names(&rows), ["numbers"]);
        assert!(names(&rows.slice(0, 0)).is_empty(), "nothing is known of no rows");
        assert_eq!(names(&rows.slice(0, 1)).len(), 3, "one row needs none");
        let many: ArrayRef =
            Arc::new((0..50_000_u64).map(|n| Some((n * 7919 % 5003).to_string())).collect::<StringArray>());
        let rows = RecordBatch::try_from_iter([("many", many)]).unwrap();
        assert!(names(&rows).is_empty(), "ten times each");
        assert_eq!(names(&rows.slice(0, 2000)), ["many"], "few of them");
    }
}
