//! Arrow types as ORC types. A type has a number, which is its place when the tree is walked from the top.

use std::collections::HashSet;

use arrow::datatypes::{DataType, Fields, Schema, TimeUnit};
use lakehead_core::{Error, Result};

use crate::fault::untyped;
use crate::wire::Message;

/// Spark's own word for a type, put on instants: it cannot read the name that ORC's Java library gives them
/// ("timestamp with local time zone") and refuses the file without it.
const SPARK_TYPE: (&[u8], &[u8]) = (b"spark.sql.catalyst.type", b"timestamp");

/// How deep types may nest: readers and this writer walk them by recursion.
pub(crate) const DEPTH_MAX: usize = 64;

/// The numbers of the format's kinds of types.
pub(crate) mod kind {
    pub(crate) const BOOLEAN: u64 = 0;
    pub(crate) const BYTE: u64 = 1;
    pub(crate) const SHORT: u64 = 2;
    pub(crate) const INT: u64 = 3;
    pub(crate) const LONG: u64 = 4;
    pub(crate) const FLOAT: u64 = 5;
    pub(crate) const DOUBLE: u64 = 6;
    pub(crate) const STRING: u64 = 7;
    pub(crate) const BINARY: u64 = 8;
    pub(crate) const TIMESTAMP: u64 = 9;
    pub(crate) const LIST: u64 = 10;
    pub(crate) const MAP: u64 = 11;
    pub(crate) const STRUCT: u64 = 12;
    pub(crate) const DECIMAL: u64 = 14;
    pub(crate) const DATE: u64 = 15;
    pub(crate) const VARCHAR: u64 = 16;
    pub(crate) const CHAR: u64 = 17;
    pub(crate) const TIMESTAMP_INSTANT: u64 = 18;
}

/// One type of a file's tree.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct OrcType {
    pub(crate) kind: u64,
    pub(crate) children: Vec<u64>,
    pub(crate) names: Vec<String>,
    pub(crate) precision: u64,
    pub(crate) scale: u64,
}

impl OrcType {
    pub(crate) fn message(&self) -> Message {
        let mut message = Message::default();
        message.uint(1, self.kind);
        if !self.children.is_empty() {
            message.packed(2, self.children.iter().copied());
        }
        for name in &self.names {
            message.bytes(3, name.as_bytes());
        }
        if self.kind == kind::DECIMAL {
            message.uint(5, self.precision).uint(6, self.scale);
        }
        if self.kind == kind::TIMESTAMP_INSTANT {
            let mut attribute = Message::default();
            attribute.bytes(1, SPARK_TYPE.0).bytes(2, SPARK_TYPE.1);
            message.nested(7, attribute);
        }
        message
    }
}

/// Returns the types of `schema`, the row itself first.
///
/// # Errors
///
/// `R1501` for a type that ORC has no place for, and for two columns of one name.
pub(crate) fn types_of(schema: &Schema) -> Result<Vec<OrcType>> {
    let mut types = Vec::new();
    add_struct(schema.fields(), "", 0, &mut types)?;
    Ok(types)
}

fn add_struct(fields: &Fields, path: &str, depth: usize, types: &mut Vec<OrcType>) -> Result<()> {
    let mut seen = HashSet::new();
    if let Some(twice) = fields.iter().find(|field| !seen.insert(field.name())) {
        return Err(Error::user("R1501", "two columns of an ORC file have one name").with("column", twice.name()));
    }
    let at = types.len();
    types.push(OrcType::default());
    let mut row = OrcType { kind: kind::STRUCT, ..OrcType::default() };
    for field in fields {
        row.children.push(types.len() as u64);
        row.names.push(field.name().clone());
        let path = if path.is_empty() { field.name().clone() } else { format!("{path}.{}", field.name()) };
        add(field.data_type(), &path, depth + 1, types)?;
    }
    put(types, at, row);
    Ok(())
}

fn put(types: &mut [OrcType], at: usize, orc_type: OrcType) {
    if let Some(place) = types.get_mut(at) {
        *place = orc_type;
    }
}

fn add(data_type: &DataType, path: &str, depth: usize, types: &mut Vec<OrcType>) -> Result<()> {
    if depth > DEPTH_MAX {
        return Err(Error::user("R1501", "a column nests too deep for ORC").with("column", path));
    }
    let at = types.len();
    let children = match data_type {
        DataType::Struct(fields) => return add_struct(fields, path, depth, types),
        DataType::List(item) | DataType::LargeList(item) => {
            types.push(OrcType { kind: kind::LIST, ..OrcType::default() });
            let first = types.len() as u64;
            add(item.data_type(), &format!("{path}.element"), depth + 1, types)?;
            vec![first]
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(pair) = entries.data_type() else { return Err(untyped(path, data_type)) };
            let [key, value] = &**pair else { return Err(untyped(path, data_type)) };
            types.push(OrcType { kind: kind::MAP, ..OrcType::default() });
            let first = types.len() as u64;
            add(key.data_type(), &format!("{path}.key"), depth + 1, types)?;
            let second = types.len() as u64;
            add(value.data_type(), &format!("{path}.value"), depth + 1, types)?;
            vec![first, second]
        }
        leaf => {
            types.push(leaf_of(leaf, path)?);
            return Ok(());
        }
    };
    let kind = types.get(at).map_or(0, |this| this.kind);
    put(types, at, OrcType { kind, children, ..OrcType::default() });
    Ok(())
}

fn leaf_of(data_type: &DataType, path: &str) -> Result<OrcType> {
    let kind = match data_type {
        DataType::Boolean => kind::BOOLEAN,
        DataType::Int8 => kind::BYTE,
        DataType::Int16 => kind::SHORT,
        DataType::Int32 => kind::INT,
        DataType::Int64 => kind::LONG,
        DataType::Float32 => kind::FLOAT,
        DataType::Float64 => kind::DOUBLE,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => kind::STRING,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => kind::BINARY,
        DataType::Date32 => kind::DATE,
        DataType::Timestamp(_, None) => kind::TIMESTAMP,
        DataType::Timestamp(_, Some(zone)) if is_utc(zone) => kind::TIMESTAMP_INSTANT,
        // A negative scale has no number in the format, and digits behind the point need room.
        DataType::Decimal128(precision, scale) if (0..=precision.cast_signed()).contains(scale) => {
            let (precision, scale) = (u64::from(*precision), u64::from(scale.unsigned_abs()));
            return Ok(OrcType { kind: kind::DECIMAL, precision, scale, ..OrcType::default() });
        }
        _ => return Err(untyped(path, data_type)),
    };
    Ok(OrcType { kind, ..OrcType::default() })
}

fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "utc" | "+00:00" | "+0000" | "+00" | "Etc/UTC" | "Z")
}

/// Whether values of `actual` can be written where `expected` was announced: the same types with the same names of
/// fields inside; whether a field may be null and what its metadata say does not matter to the file.
pub(crate) fn same_type(expected: &DataType, actual: &DataType) -> bool {
    match (expected, actual) {
        (DataType::Struct(left), DataType::Struct(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .zip(right)
                    .all(|(left, right)| left.name() == right.name() && same_type(left.data_type(), right.data_type()))
        }
        (DataType::List(left), DataType::List(right)) | (DataType::LargeList(left), DataType::LargeList(right)) => {
            same_type(left.data_type(), right.data_type())
        }
        (DataType::Map(left, _), DataType::Map(right, _)) => match (left.data_type(), right.data_type()) {
            (DataType::Struct(left), DataType::Struct(right)) => {
                left.len() == right.len()
                    && left.iter().zip(right).all(|(left, right)| same_type(left.data_type(), right.data_type()))
            }
            _ => false,
        },
        (expected, actual) => expected == actual,
    }
}

/// Returns the time of one unit in nanoseconds.
pub(crate) const fn nanos_of(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}
