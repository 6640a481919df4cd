//! The errors of this crate, one function each, so that a code has one sentence.

use lakehead_core::Error;

/// A file whose bytes contradict the format; the same bytes fail again.
pub(crate) fn damaged(what: &'static str) -> Error {
    Error::incident("R1502", "the ORC file is damaged")
        .with("what", what)
        .help("bring it back as it was written, or have it written anew")
}

/// A file that uses a part of the format that is not read here.
pub(crate) fn unread(what: &'static str) -> Error {
    Error::incident("R1503", "the ORC file uses what is not read").with("what", what)
}

/// A column whose type ORC has no place for.
pub(crate) fn untyped(column: &str, data_type: &arrow::datatypes::DataType) -> Error {
    Error::user("R1501", "a column's type cannot be written as ORC")
        .with("column", column)
        .with("type", data_type)
        .help("cast the column to a type that ORC has")
}

/// A setting of the writer or reader outside its bounds.
pub(crate) fn option(name: &'static str, expected: &'static str) -> Error {
    Error::user("R1504", "an ORC option is out of bounds").with("option", name).with("expected", expected)
}

/// What the sink of bytes answered.
pub(crate) fn unwritten(error: std::io::Error) -> Error {
    Error::external("R1505", "an ORC file could not be written").caused_by(error)
}

/// What the source of bytes answered.
pub(crate) fn unreadable(error: std::io::Error) -> Error {
    Error::external("R1509", "an ORC file could not be read").caused_by(error)
}

/// A batch that is not of the schema that the writer was opened with.
pub(crate) fn foreign(column: &str) -> Error {
    Error::user("R1506", "a batch differs from the schema of its ORC file").with("column", column)
}

/// A time that the format's 64-bit seconds or milliseconds cannot hold.
pub(crate) fn far_time(column: &str) -> Error {
    Error::user("R1507", "a time is outside of what ORC can hold").with("column", column)
}

/// A call on a writer that failed before: its file is not whole and never will be.
pub(crate) fn spent() -> Error {
    Error::user("R1508", "an ORC writer was used after it failed")
}

/// A value of the file that its Arrow type cannot hold.
pub(crate) fn unfit(column: &str, what: &'static str) -> Error {
    Error::incident("R1510", "an ORC value does not fit its Arrow type").with("column", column).with("what", what)
}

/// A decimal with more digits than its column's precision says.
pub(crate) fn unfit_decimal(column: &str) -> Error {
    Error::user("R1511", "a decimal has more digits than its type").with("column", column)
}
