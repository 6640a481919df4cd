//! Values of JSON that are read where they lie: strings without escapes, numbers without exponents. Whatever is less plain,
//! or wrong, is for the reader that knows everything; both come to the same values.

use arrow::datatypes::DataType;
use serde_json::Value;

use crate::cell::{Cell, from_json, from_text};
use crate::rows::Column;
use crate::scan::string_end;

/// A JSON value, as far as it need not be copied.
#[derive(Debug)]
pub(crate) enum Plain<'a> {
    Null,
    Bool(bool),
    /// Digits without an exponent.
    Number(&'a str),
    Text(&'a str),
    /// A list or an object.
    Nested(Value),
}

/// Reads the value that begins at `at`, and returns where it ends; `None` where another reader is to look at it.
pub(crate) fn value(line: &str, at: usize) -> Option<(Plain<'_>, usize)> {
    let bytes = line.as_bytes();
    let word = |word: &str, plain| bytes[at..].starts_with(word.as_bytes()).then_some((plain, at + word.len()));
    match bytes.get(at)? {
        b'"' => {
            let end = string_end(bytes, at + 1);
            (bytes.get(end) == Some(&b'"')).then(|| (Plain::Text(&line[at + 1..end]), end + 1))
        }
        b't' => word("true", Plain::Bool(true)),
        b'f' => word("false", Plain::Bool(false)),
        b'n' => word("null", Plain::Null),
        b'[' | b'{' => {
            let mut values = serde_json::Deserializer::from_str(&line[at..]).into_iter::<Value>();
            let value = values.next()?.ok()?;
            Some((Plain::Nested(value), at + values.byte_offset()))
        }
        _ => number(line, at),
    }
}

/// Reads a number of JSON without an exponent.
fn number(line: &str, at: usize) -> Option<(Plain<'_>, usize)> {
    let bytes = line.as_bytes();
    let digits = |from: usize| from + bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let from = at + usize::from(bytes.get(at) == Some(&b'-'));
    let mut end = digits(from);
    if end == from || (bytes[from] == b'0' && end > from + 1) {
        return None;
    }
    if bytes.get(end) == Some(&b'.') {
        let fraction = end + 1;
        end = digits(fraction);
        if end == fraction {
            return None;
        }
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        return None;
    }
    Some((Plain::Number(&line[at..end]), end))
}

/// Returns the value of a column, as [`from_json`] does; `None` where it is none of the type.
pub(crate) fn from_plain<'a>(column: &Column, found: Option<Plain<'a>>) -> Option<Cell<'a>> {
    let data_type = column.field.data_type();
    match (data_type, found.unwrap_or(Plain::Null)) {
        (_, Plain::Null) => Some(Cell::Null),
        (DataType::Utf8, Plain::Text(text)) if column.json => Some(Cell::Text(format!("\"{text}\"").into())),
        (DataType::Utf8, Plain::Text(text) | Plain::Number(text)) => Some(Cell::Text(text.into())),
        (DataType::Utf8, Plain::Bool(value)) => Some(Cell::Text(if value { "true" } else { "false" }.into())),
        (_, Plain::Nested(value)) => from_json(data_type, &value).map(Cell::into_owned),
        (DataType::Boolean, Plain::Bool(value)) => Some(Cell::Bool(value)),
        (DataType::Boolean | DataType::List(_), _) => None,
        (_, Plain::Text(text)) if !text.is_empty() || *data_type == DataType::Binary => from_text(data_type, text),
        (
            DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Float32
            | DataType::Float64
            | DataType::Decimal128(..),
            Plain::Number(digits),
        ) => from_text(data_type, digits),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Array;
    use arrow::datatypes::Field;
    use lakehead_core::parse_column_type;

    use crate::columns::Columns;
    use crate::members::Members;

    use super::*;

    fn columns() -> Vec<Column> {
        let types = [
            ("id", "bigint"),
            ("note", "varchar"),
            ("raw", "varchar"),
            ("ok", "boolean"),
            ("amount", "decimal(12, 2)"),
            ("tags", "list(varchar)"),
            ("at", "timestamptz"),
            ("rate", "double"),
        ];
        let column = |(name, of): (&str, &str)| Column {
            field: Arc::new(Field::new(name, parse_column_type(of).unwrap(), true)),
            star: None,
            json: name == "raw",
        };
        types.into_iter().map(column).collect()
    }

    /// Reads a line in the way that knows everything; the inner `None` is a value that does not fit.
    fn by_the_long_way(line: &str, columns: &[Column]) -> Option<Option<Vec<Cell<'static>>>> {
        let value: Value = serde_json::from_str(line).ok()?;
        let object = value.as_object()?;
        let cell = |column: &Column| match object.get(column.field.name()).unwrap_or(&Value::Null) {
            text @ Value::String(_) if column.json => Some(Cell::Text(text.to_string().into())),
            value => from_json(column.field.data_type(), value).map(Cell::into_owned),
        };
        Some(columns.iter().map(cell).collect())
    }

    /// Right and wrong, plain and not.
    const VALUES: [&str; 35] = [
        "1",
        "-1",
        "0",
        "-0",
        "01",
        "1.5",
        "1.",
        ".5",
        "1e2",
        "1E2",
        "\"a\"",
        "\"\"",
        "\"a\\nb\"",
        "\"é\"",
        "true",
        "false",
        "null",
        "nul",
        "truth",
        "[1,\"b\",null]",
        "{\"a\": [1, {}]}",
        "[",
        "{",
        "[1,]",
        "\"2026-01-01T00:00:00Z\"",
        "\"12.50\"",
        "\"x",
        "",
        "18446744073709551616",
        "99999999999999999999999999999999999999999",
        "\u{1}",
        "\"\u{1}\"",
        "-",
        "--1",
        "[[[[]]]]",
    ];

    #[test]
    fn a_plain_line_has_the_values_that_every_json_reader_finds() {
        let columns = columns();
        let places: Vec<&Column> = columns.iter().collect();
        let mut lines = vec![
            "{}",
            " { } ",
            "{",
            "}",
            "{,}",
            "{\"id\":1,}",
            "{\"id\":1 \"note\":2}",
            "{\"id\":1}x",
            "[1]",
            "1",
            "",
            "{\"id\":1,\"id\":2}",
            "{\"i\\u0064\":3}",
            "{\"other\":[1,2],\"id\":4}",
            "{\"id\":1,,\"note\":2}",
            "{id:1}",
        ]
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>();
        for column in &columns {
            for value in VALUES {
                lines.push(format!("{{ \"{}\" : {value} , \"unknown\": {value}}}", column.field.name()));
                lines.push(format!("{{\"note\":\"n\",\"{}\":{value}}}", column.field.name()));
            }
        }
        let types = || columns.iter().map(|column| column.field.data_type());
        let (mut plain, mut members) = (0, Members::new());
        for line in &lines {
            // What a line does not hold is what the line before it left.
            let mut filled = Columns::new(types(), 1);
            members.read("{\"id\":1,\"note\":null,\"rate\":2.5}", &places, &mut filled).unwrap();
            let Some(()) = members.read(line, &places, &mut filled) else {
                assert_eq!(filled.finish().unwrap()[0].len(), 1, "{line}");
                continue;
            };
            plain += 1;
            let mut expected = Columns::new(types(), 1);
            expected.push(&mut by_the_long_way(line, &columns).unwrap().expect(line));
            for (found, expected) in filled.finish().unwrap().iter().zip(expected.finish().unwrap()) {
                assert_eq!(&found.slice(1, 1), &expected, "{line}");
            }
        }
        assert!(plain > 100, "{plain} of {} are plain", lines.len());
    }
}
