//! The values of a column without their nulls, by kind.

use arrow::array::{Array, ArrayRef, AsArray, GenericListArray, OffsetSizeTrait};
use arrow::datatypes::{DataType, TimeUnit};
use lakehead_core::{Error, Result};

use super::column::Column;
use super::leaf::{self, Leaf};
use super::stream::{Booleans, Bytes, Chunks, Integers, StreamKind, StreamOut};
use super::text::Texts;
use crate::bloom::Bloom;
use crate::codec::Codec;
use crate::run::integer::Sign;
use crate::stats::{self, widen};

/// The streams that hold a column's values, and the columns below it.
pub(super) enum Values {
    Bool(Booleans),
    Byte(Bytes),
    /// Two, four or eight bytes, and dates.
    Whole(Integers),
    /// Floats and doubles, by their bits.
    Float(Chunks),
    Text(Texts),
    Binary {
        data: Chunks,
        lengths: Integers,
    },
    Decimal {
        data: Chunks,
        scales: Integers,
        precision: u8,
        scale: i8,
    },
    Time {
        seconds: Integers,
        nanos: Integers,
        unit: TimeUnit,
    },
    Struct(Vec<Column>),
    /// An element, or a key and a value.
    List {
        lengths: Integers,
        children: Vec<Column>,
    },
}

/// How a column's values are encoded in a stripe.
pub(super) enum Encoding {
    Direct,
    DirectV2,
    /// With how many texts.
    DictionaryV2(usize),
}

impl Encoding {
    pub(super) fn kind(&self) -> u64 {
        match self {
            Self::Direct => 0,
            Self::DirectV2 => 2,
            Self::DictionaryV2(_) => 3,
        }
    }

    pub(super) fn dictionary_len(&self) -> Option<usize> {
        match self {
            Self::DictionaryV2(texts) => Some(*texts),
            _ => None,
        }
    }
}

impl Values {
    /// Returns the streams for a leaf of a type that `schema::types_of` has accepted; none for types with children.
    pub(super) fn of_leaf(data_type: &DataType) -> Option<Self> {
        let signed = || Integers::new(Sign::Signed);
        let unsigned = || Integers::new(Sign::Unsigned);
        Some(match data_type {
            DataType::Boolean => Self::Bool(Booleans::default()),
            DataType::Int8 => Self::Byte(Bytes::default()),
            DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Date32 => Self::Whole(signed()),
            DataType::Float32 | DataType::Float64 => Self::Float(Chunks::default()),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text(Texts::new()),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
                Self::Binary { data: Chunks::default(), lengths: unsigned() }
            }
            DataType::Decimal128(precision, scale) => {
                Self::Decimal { data: Chunks::default(), scales: signed(), precision: *precision, scale: *scale }
            }
            DataType::Timestamp(unit, _) => Self::Time { seconds: signed(), nanos: unsigned(), unit: *unit },
            _ => return None,
        })
    }

    /// Returns the statistics of no values; a date, which is a whole number here, has its own kind.
    pub(super) fn stats(&self) -> stats::Values {
        match self {
            Self::Bool(_) => stats::Values::Bool { trues: 0 },
            Self::Byte(_) | Self::Whole(_) => stats::Values::Int { range: None, sum: Some(0) },
            Self::Float(_) => stats::Values::Float { range: None, sum: 0.0, nan: false },
            Self::Text(_) => stats::Values::Text { range: None, bytes: 0 },
            Self::Binary { .. } => stats::Values::Binary { bytes: 0 },
            Self::Decimal { scale, .. } => stats::Values::Decimal { range: None, sum: Some(0), scale: *scale },
            Self::Time { .. } => stats::Values::Time { range: None, last_second: 0 },
            Self::Struct(_) => stats::Values::None,
            Self::List { .. } => stats::Values::Children { range: None, total: 0 },
        }
    }

    pub(super) fn write(
        &mut self,
        array: &ArrayRef,
        path: &str,
        stats: &mut stats::Values,
        bloom: &mut Option<Bloom>,
        codec: &mut Codec,
    ) -> Result<()> {
        let mut leaf = Leaf { array, path, stats, bloom };
        match self {
            Self::Bool(out) => leaf::booleans(&mut leaf, out),
            Self::Byte(out) => leaf::bytes(&mut leaf, out),
            Self::Whole(out) => leaf::wholes(&mut leaf, out)?,
            Self::Float(out) => leaf::floats(&mut leaf, out)?,
            Self::Text(out) => leaf::texts(&mut leaf, out)?,
            Self::Binary { data, lengths } => leaf::binaries(&mut leaf, data, lengths)?,
            Self::Decimal { data, scales, precision, scale } => {
                leaf::decimals(&mut leaf, data, scales, (*precision, *scale))?;
            }
            Self::Time { seconds, nanos, unit } => leaf::times(&mut leaf, seconds, nanos, *unit)?,
            Self::Struct(children) => {
                for (child, array) in children.iter_mut().zip(array.as_struct().columns()) {
                    child.write(array, codec)?;
                }
            }
            Self::List { lengths, children } => lists(array, lengths, children, stats, codec)?,
        }
        self.settle(codec)
    }

    /// Compresses the chunks that are full.
    fn settle(&mut self, codec: &mut Codec) -> Result<()> {
        match self {
            Self::Bool(out) => out.settle(codec),
            Self::Byte(out) => out.settle(codec),
            Self::Whole(out) | Self::List { lengths: out, .. } => out.settle(codec),
            Self::Float(out) => out.settle(codec),
            Self::Text(out) => out.settle(codec),
            Self::Binary { data, lengths: numbers } | Self::Decimal { data, scales: numbers, .. } => {
                data.settle(codec)?;
                numbers.settle(codec)
            }
            Self::Time { seconds, nanos, .. } => {
                seconds.settle(codec)?;
                nanos.settle(codec)
            }
            Self::Struct(_) => Ok(()),
        }
    }

    /// Notes where a row group begins in each stream.
    pub(super) fn mark(&mut self, codec: &mut Codec) -> Result<()> {
        match self {
            Self::Bool(out) => out.mark(codec),
            Self::Byte(out) => out.mark(codec),
            Self::Whole(out) | Self::List { lengths: out, .. } => out.mark(codec),
            Self::Float(out) => out.mark(codec, &[]),
            Self::Text(out) => out.mark(codec),
            Self::Binary { data, lengths: numbers } | Self::Decimal { data, scales: numbers, .. } => {
                data.mark(codec, &[])?;
                numbers.mark(codec)
            }
            Self::Time { seconds, nanos, .. } => {
                seconds.mark(codec)?;
                nanos.mark(codec)
            }
            Self::Struct(_) => Ok(()),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Bool(out) => out.len(),
            Self::Byte(out) => out.len(),
            Self::Whole(out) | Self::List { lengths: out, .. } => out.len(),
            Self::Float(out) => out.len(),
            Self::Text(out) => out.len(),
            Self::Binary { data, lengths: numbers } | Self::Decimal { data, scales: numbers, .. } => {
                data.len() + numbers.len()
            }
            Self::Time { seconds, nanos, .. } => seconds.len() + nanos.len(),
            Self::Struct(_) => 0,
        }
    }

    /// Ends the stripe: the encoding, and the streams in the order in which positions name them.
    pub(super) fn finish(&mut self, codec: &mut Codec) -> Result<(Encoding, Vec<StreamOut>)> {
        use StreamKind::{Data, Length, Secondary};
        Ok(match self {
            Self::Bool(out) => (Encoding::Direct, vec![out.finish(Data, codec)?]),
            Self::Byte(out) => (Encoding::Direct, vec![out.finish(Data, codec)?]),
            Self::Whole(out) => (Encoding::DirectV2, vec![out.finish(Data, codec)?]),
            Self::Float(out) => (Encoding::Direct, vec![out.finish(Data, codec)?]),
            Self::Text(out) => {
                let (dictionary, streams) = out.finish(codec)?;
                (dictionary.map_or(Encoding::DirectV2, Encoding::DictionaryV2), streams)
            }
            Self::Binary { data, lengths } => {
                (Encoding::DirectV2, vec![data.finish(Data, codec)?, lengths.finish(Length, codec)?])
            }
            Self::Decimal { data, scales, .. } => {
                (Encoding::DirectV2, vec![data.finish(Data, codec)?, scales.finish(Secondary, codec)?])
            }
            Self::Time { seconds, nanos, .. } => {
                (Encoding::DirectV2, vec![seconds.finish(Data, codec)?, nanos.finish(Secondary, codec)?])
            }
            Self::Struct(_) => (Encoding::Direct, Vec::new()),
            Self::List { lengths, .. } => (Encoding::DirectV2, vec![lengths.finish(Length, codec)?]),
        })
    }

    pub(super) fn children(&self) -> &[Column] {
        match self {
            Self::Struct(children) | Self::List { children, .. } => children,
            _ => &[],
        }
    }

    pub(super) fn children_mut(&mut self) -> &mut [Column] {
        match self {
            Self::Struct(children) | Self::List { children, .. } => children,
            _ => &mut [],
        }
    }
}

/// Writes the lengths of lists or maps and what is in them. There are no nulls, so what is in them lies side by side.
fn lists(
    array: &ArrayRef,
    lengths: &mut Integers,
    children: &mut [Column],
    stats: &mut stats::Values,
    codec: &mut Codec,
) -> Result<()> {
    let (first, total, inner) = match array.data_type() {
        DataType::List(_) => elements(array.as_list::<i32>(), lengths, stats),
        DataType::LargeList(_) => elements(array.as_list::<i64>(), lengths, stats),
        DataType::Map(..) => {
            let map = array.as_map();
            let (first, total) = push_lengths(map.offsets(), lengths, stats);
            (first, total, map.entries().columns().to_vec())
        }
        _ => return Err(Error::bug("a list is of no kind of list")),
    };
    for (child, inner) in children.iter_mut().zip(inner) {
        child.write(&inner.slice(first, total), codec)?;
    }
    Ok(())
}

fn elements<O: OffsetSizeTrait>(
    list: &GenericListArray<O>,
    lengths: &mut Integers,
    stats: &mut stats::Values,
) -> (usize, usize, Vec<ArrayRef>) {
    let (first, total) = push_lengths(list.offsets(), lengths, stats);
    (first, total, vec![list.values().clone()])
}

fn push_lengths<O: OffsetSizeTrait>(
    offsets: &[O],
    lengths: &mut Integers,
    stats: &mut stats::Values,
) -> (usize, usize) {
    let mut all = 0;
    let mut ends = offsets.iter().map(|offset| offset.as_usize());
    let Some(first) = ends.next() else { return (0, 0) };
    let mut before = first;
    for end in ends {
        let length = end.saturating_sub(before);
        lengths.push(length as i64);
        if let stats::Values::Children { range, .. } = stats {
            widen(range, length as u64);
        }
        all += length;
        before = end;
    }
    if let stats::Values::Children { total, .. } = stats {
        *total += all as u64;
    }
    (first, all)
}
