//! Least and greatest values, as the head and the page index of a Parquet file tell them.

use arrow::datatypes::ArrowNativeType;
use parquet::basic::Type;
use parquet::data_type::ByteArray;
use parquet::file::statistics::{Statistics, ValueStatistics};

/// One bound of a column or a page, in the form that the file holds.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
pub(super) enum Bound {
    Bool(bool),
    Int(i32),
    Long(i64),
    Float(f32),
    Double(f64),
    Text(Vec<u8>),
}

/// The least value and the greatest.
pub(super) type Bounds = (Bound, Bound);

impl Bound {
    /// Returns it as the page index holds it; a long text is cut to `length` bytes.
    fn bytes(&self, cut: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        match self {
            Self::Bool(value) => vec![u8::from(*value)],
            Self::Int(value) => value.to_le_bytes().to_vec(),
            Self::Long(value) => value.to_le_bytes().to_vec(),
            Self::Float(value) => value.to_le_bytes().to_vec(),
            Self::Double(value) => value.to_le_bytes().to_vec(),
            Self::Text(text) => cut(text),
        }
    }
}

/// Returns bounds as the page index holds them, texts with no more than `length` bytes.
pub(super) fn index_bytes((low, high): &Bounds, length: Option<usize>) -> (Vec<u8>, Vec<u8>) {
    (low.bytes(|text| below(text, length).0), high.bytes(|text| above(text, length).0))
}

/// Widens bounds by others.
pub(super) fn widen(bounds: &mut Option<Bounds>, (low, high): Bounds) {
    match bounds {
        None => *bounds = Some((low, high)),
        Some(known) => {
            if low < known.0 {
                known.0 = low;
            }
            if high > known.1 {
                known.1 = high;
            }
        }
    }
}

/// A number that a column holds as it lies in memory.
pub(super) trait Number: ArrowNativeType {
    /// Returns the bounds that two numbers are: a zero is both of a column's, below and above.
    fn bounds(low: Self, high: Self) -> Bounds;
}

impl Number for i32 {
    fn bounds(low: Self, high: Self) -> Bounds {
        (Bound::Int(low), Bound::Int(high))
    }
}

impl Number for i64 {
    fn bounds(low: Self, high: Self) -> Bounds {
        (Bound::Long(low), Bound::Long(high))
    }
}

impl Number for f32 {
    fn bounds(low: Self, high: Self) -> Bounds {
        let low = if low == 0.0 { -0.0 } else { low };
        (Bound::Float(low), Bound::Float(if high == 0.0 { 0.0 } else { high }))
    }
}

impl Number for f64 {
    fn bounds(low: Self, high: Self) -> Bounds {
        let low = if low == 0.0 { -0.0 } else { low };
        (Bound::Double(low), Bound::Double(if high == 0.0 { 0.0 } else { high }))
    }
}

/// Returns the least and the greatest of numbers; what is not a number is neither.
#[inline]
pub(super) fn extremes<N: Number>(numbers: &[N]) -> Option<(N, N)> {
    let is_number = |number: &&N| number.partial_cmp(number).is_some();
    let first = *numbers.iter().find(is_number)?;
    let wider = |(low, high): (N, N), number: &N| {
        (if *number < low { *number } else { low }, if *number > high { *number } else { high })
    };
    Some(numbers.iter().fold((first, first), wider))
}

/// Returns what the head of a column chunk says of its values.
pub(super) fn statistics(
    physical: Type,
    bounds: Option<Bounds>,
    nulls: u64,
    is_signed: bool,
    length: Option<usize>,
) -> Option<Statistics> {
    // A function cannot be made of it: the crate keeps the trait of its values to itself.
    macro_rules! of {
        ($bound:ident, $statistics:ident) => {{
            let value = |bound| if let Bound::$bound(value) = bound { Some(value) } else { None };
            let (low, high) = bounds.map_or((None, None), |(low, high)| (value(low), value(high)));
            let found = ValueStatistics::new(low, high, None, Some(nulls), false);
            Statistics::$statistics(found.with_backwards_compatible_min_max(is_signed))
        }};
    }
    Some(match physical {
        Type::BOOLEAN => of!(Bool, Boolean),
        Type::INT32 => of!(Int, Int32),
        Type::INT64 => of!(Long, Int64),
        Type::FLOAT => of!(Float, Float),
        Type::DOUBLE => of!(Double, Double),
        Type::BYTE_ARRAY => texts(bounds, nulls, is_signed, length),
        Type::INT96 | Type::FIXED_LEN_BYTE_ARRAY => return None,
    })
}

fn texts(bounds: Option<Bounds>, nulls: u64, is_signed: bool, length: Option<usize>) -> Statistics {
    let (mut low, mut high) = (None, None);
    if let Some((Bound::Text(least), Bound::Text(greatest))) = bounds {
        low = Some(below(&least, length));
        high = Some(above(&greatest, length));
    }
    let is_exact = |bound: &Option<(Vec<u8>, bool)>| bound.as_ref().is_none_or(|(_, is_exact)| *is_exact);
    let exact = (is_exact(&low), is_exact(&high));
    let bytes = |bound: Option<(Vec<u8>, bool)>| bound.map(|(bytes, _)| ByteArray::from(bytes));
    let found = ValueStatistics::new(bytes(low), bytes(high), None, Some(nulls), false);
    let found = found.with_backwards_compatible_min_max(is_signed);
    Statistics::ByteArray(found.with_min_is_exact(exact.0).with_max_is_exact(exact.1))
}

/// Returns a text of at most so many bytes that no text above this one is below; says whether it is this one.
fn below(text: &[u8], length: Option<usize>) -> (Vec<u8>, bool) {
    match length.filter(|length| text.len() > *length).and_then(|length| head(text, length)) {
        Some(head) => (head.as_bytes().to_vec(), false),
        None => (text.to_vec(), true),
    }
}

/// Returns a text of at most so many bytes that no text below this one is above; says whether it is this one.
fn above(text: &[u8], length: Option<usize>) -> (Vec<u8>, bool) {
    match length.filter(|length| text.len() > *length).and_then(|length| raised(head(text, length)?)) {
        Some(raised) => (raised.into_bytes(), false),
        None => (text.to_vec(), true),
    }
}

/// Returns the whole characters of a text's first bytes, at least one.
fn head(text: &[u8], length: usize) -> Option<&str> {
    let text = std::str::from_utf8(text).ok()?;
    let end = (1..=length).rev().find(|end| text.is_char_boundary(*end))?;
    text.get(..end)
}

/// Returns a text above all that begin with this one: its last character that has a next one of as many bytes is that one.
fn raised(text: &str) -> Option<String> {
    text.char_indices().rev().find_map(|(at, last)| {
        let next = char::from_u32(u32::from(last) + 1).filter(|next| next.len_utf8() == last.len_utf8())?;
        Some(format!("{}{next}", &text[..at]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_to_a_bound() {
        for (text, length, low, high) in [
            ("abc", Some(3), "abc", "abc"),
            ("abcd", Some(3), "abc", "abd"),
            ("abcd", None, "abcd", "abcd"),
            ("a\u{e9}bc", Some(2), "a", "b"),
            ("\u{e9}bc", Some(1), "\u{e9}bc", "\u{e9}bc"),
            ("a\u{10FFFF}b", Some(5), "a\u{10FFFF}", "b"),
            ("\u{10FFFF}b", Some(4), "\u{10FFFF}", "\u{10FFFF}b"),
            ("a\u{7f}\u{7f}b", Some(3), "a\u{7f}\u{7f}", "b"),
            ("\u{D7FF}x", Some(3), "\u{D7FF}", "\u{D7FF}x"),
        ] {
            let (below, above) = (below(text.as_bytes(), length), above(text.as_bytes(), length));
            assert_eq!(below, (low.into(), low == text), "{text}");
            assert_eq!(above, (high.into(), high == text), "{text}");
            assert!(below.0.as_slice() <= text.as_bytes() && text.as_bytes() <= above.0.as_slice(), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_number_is_no_bound() {
        assert_eq!(extremes(&[f64::NAN, 2.0, -1.5, f64::NAN]), Some((-1.5, 2.0)));
        assert_eq!(extremes(&[f64::NAN]), None);
        assert_eq!(extremes::<i64>(&[]), None);
        assert_eq!(extremes(&[3, -7, 5]), Some((-7, 5)));
        let (low, high) = f64::bounds(0.0, -0.0);
        assert_eq!(
            index_bytes(&(low, high), None),
            ((-0.0_f64).to_le_bytes().to_vec(), 0.0_f64.to_le_bytes().to_vec())
        );
    }
}
