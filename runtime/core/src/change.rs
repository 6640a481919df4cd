//! Rows as changes: the reserved columns that travel with them, and what they mean.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, TimeUnit};

/// `_op`: text, `c` created, `u` updated, `d` deleted, `r` read by a snapshot. Absent or null means `c`.
///
/// A row with `d` carries only the columns of its key; every other column is null and means nothing.
pub const OP: &str = "_op";
/// `_source_position`: text, the position of the change in its source, comparable only within one source.
pub const POSITION: &str = "_source_position";
/// `_source_ts`: timestamp in microseconds UTC, when the source committed the change.
pub const COMMITTED_AT: &str = "_source_ts";
/// `_unchanged`: text, comma-separated names of the columns that the source did not send (an unchanged large value).
///
/// Null means that every column was sent. A column named here is null in the row, and that null means "keep what the
/// table holds", never NULL (case 33 of the correctness list).
pub const UNCHANGED: &str = "_unchanged";
/// `_table`: text, the table of the source that the row came from.
pub const TABLE: &str = "_table";
/// `_file`: text, the file that the row came from.
pub const FILE: &str = "_file";

/// `valid_from`: timestamp in microseconds UTC, when a version of a row began to hold (`mode = scd2`).
pub const VALID_FROM: &str = "valid_from";
/// `valid_to`: timestamp in microseconds UTC, the first instant at which a version no longer holds; null while it does.
pub const VALID_TO: &str = "valid_to";
/// `is_current`: boolean, whether a version is its key's newest and was not deleted.
pub const IS_CURRENT: &str = "is_current";
/// `is_deleted`: boolean, whether a row was deleted at the source and stays (`on_delete = soft`).
pub const IS_DELETED: &str = "is_deleted";

/// The columns that `mode = scd2` adds behind those of the source.
pub const VERSION_COLUMNS: [&str; 4] = [VALID_FROM, VALID_TO, IS_CURRENT, IS_DELETED];

/// Returns the field of a column that a sink adds: an instant or a boolean, nullable like every column of a table.
pub fn added_field(name: &str) -> Field {
    let is_instant = name == VALID_FROM || name == VALID_TO;
    let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Field::new(name, if is_instant { instant } else { DataType::Boolean }, true)
}

/// Every reserved column name, in the order they stand behind the data columns.
pub const RESERVED: [&str; 6] = [OP, POSITION, COMMITTED_AT, UNCHANGED, TABLE, FILE];

/// Returns whether `name` is a reserved column.
pub fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

/// Returns the field of a reserved column; every one is nullable.
pub fn reserved_field(name: &str) -> Field {
    let data_type = if name == COMMITTED_AT {
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
    } else {
        DataType::Utf8
    };
    Field::new(name, data_type, true)
}

/// Returns the schema without reserved columns.
pub fn data_fields(schema: &Schema) -> Schema {
    let fields: Vec<_> = schema.fields().iter().filter(|field| !is_reserved(field.name())).map(Arc::clone).collect();
    Schema::new(fields)
}

/// Returns whether the text of `_unchanged` names `column`.
pub fn is_unchanged(unchanged: Option<&str>, column: &str) -> bool {
    unchanged.is_some_and(|names| names.split(',').any(|name| name == column))
}

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// A new row.
    Create,
    /// New values for a row of the same key. A changed key is a delete of the old and a create of the new.
    Update,
    /// The row is gone.
    Delete,
    /// The row was read by a snapshot; each key occurs once in one.
    Read,
}

impl Op {
    /// Reads the letter of an `_op` column; null means created. Anything unknown is `None`, and the caller must fail:
    /// unknown input is an error, never a skip (delivery decision 7).
    pub fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("c" | "") => Some(Self::Create),
            Some("u") => Some(Self::Update),
            Some("d") => Some(Self::Delete),
            Some("r") => Some(Self::Read),
            Some(_) => None,
        }
    }

    /// Returns the letter of the `_op` column.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Create => "c",
            Self::Update => "u",
            Self::Delete => "d",
            Self::Read => "r",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_read_as_they_are_written_and_unknown_ones_are_refused() {
        for op in [Op::Create, Op::Update, Op::Delete, Op::Read] {
            assert_eq!(Op::parse(Some(op.letter())), Some(op));
        }
        assert_eq!(Op::parse(Some("t")), None);
    }

    #[test]
    fn a_column_is_unchanged_only_by_its_whole_name() {
        assert!(is_unchanged(Some("body,note"), "note"));
        assert!(!is_unchanged(Some("body,note"), "not"));
        assert!(!is_unchanged(None, "note"));
    }
}
