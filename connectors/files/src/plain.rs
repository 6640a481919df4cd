//! Values of JSON that are read where they lie: strings without escapes, numbers without exponents. Whatever is less plain,
//! or wrong, is for the reader that knows everything; both come to the same values.

use arrow::datatypes::DataType;
use serde_json::Value;

use crate::cell::{Cell, from_json, from_text};
use crate::grid::Form;
use crate::members::space;
use crate::rows::Column;
use crate::scan::string_end;

/// Names of nested objects that are looked through for one like another.
const NAMES_MAX: usize = 32;
/// How deep a value is nested that is read where it lies.
const DEPTH_MAX: usize = 16;

/// A JSON value, as far as it need not be copied.
#[derive(Debug)]
pub(crate) enum Plain<'a> {
    Null,
    Bool(bool),
    /// Digits without an exponent.
    Number(&'a str),
    Text(&'a str),
    /// A list or an object, written as every reader would write it anew: no spaces, no name twice.
    Compact(&'a str),
    /// Another list or object.
    Nested(Value),
}

/// Reads the value that begins at `at`, and returns where it ends; `None` where another reader is to look at it.
pub(crate) fn value(line: &str, at: usize) -> Option<(Plain<'_>, usize)> {
    let bytes = line.as_bytes();
    let word = |word: &str, plain| bytes[at..].starts_with(word.as_bytes()).then_some((plain, at + word.len()));
    match bytes.get(at)? {
        b'"' => expect_quote(bytes, string_end(bytes, at + 1)).map(|end| (Plain::Text(&line[at + 1..end - 1]), end)),
        b't' => word("true", Plain::Bool(true)),
        b'f' => word("false", Plain::Bool(false)),
        b'n' => word("null", Plain::Null),
        b'[' | b'{' => {
            if let Some(end) = compact(bytes, at, 0, &mut Names::default()) {
                return Some((Plain::Compact(&line[at..end]), end));
            }
            let mut values = serde_json::Deserializer::from_str(&line[at..]).into_iter::<Value>();
            let value = values.next()?.ok()?;
            Some((Plain::Nested(value), at + values.byte_offset()))
        }
        _ => number_end(bytes, at).map(|end| (Plain::Number(&line[at..end]), end)),
    }
}

/// Returns where the number of JSON at `at` ends; `None` where there is none, or one with an exponent.
fn number_end(bytes: &[u8], at: usize) -> Option<usize> {
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
    (!matches!(bytes.get(end), Some(b'e' | b'E'))).then_some(end)
}

/// The names of the objects around a place, those of the innermost last.
#[derive(Default)]
struct Names {
    places: [(u32, u32); NAMES_MAX],
    count: usize,
}

/// Returns where the compact value at `at` ends; `None` where it is not compact, or no value.
fn compact(bytes: &[u8], at: usize, depth: usize, names: &mut Names) -> Option<usize> {
    match bytes.get(at)? {
        b'"' => expect_quote(bytes, string_end(bytes, at + 1)),
        b't' => bytes[at..].starts_with(b"true").then_some(at + 4),
        b'f' => bytes[at..].starts_with(b"false").then_some(at + 5),
        b'n' => bytes[at..].starts_with(b"null").then_some(at + 4),
        b'[' if bytes.get(at + 1) == Some(&b']') => Some(at + 2),
        b'{' if bytes.get(at + 1) == Some(&b'}') => Some(at + 2),
        open @ (b'[' | b'{') if depth < DEPTH_MAX => {
            let (mut at, outer) = (at, names.count);
            loop {
                at += 1;
                if *open == b'{' {
                    at = name(bytes, at, outer, names)?;
                }
                at = compact(bytes, at, depth + 1, names)?;
                match (open, bytes.get(at)?) {
                    (_, b',') => {}
                    (b'[', b']') | (b'{', b'}') => {
                        names.count = outer;
                        return Some(at + 1);
                    }
                    _ => return None,
                }
            }
        }
        _ => number_end(bytes, at),
    }
}

/// Passes over the name at `at` and its colon, where the object has none like it; its names begin at `first`.
fn name(bytes: &[u8], at: usize, first: usize, names: &mut Names) -> Option<usize> {
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let end = expect_quote(bytes, string_end(bytes, at + 1))?;
    let found = &bytes[at..end];
    let is_same =
        |(from, to): &(u32, u32)| (to - from) as usize == found.len() && bytes[*from as usize..*to as usize] == *found;
    if names.places[first..names.count].iter().any(is_same) {
        return None;
    }
    *names.places.get_mut(names.count)? = (u32::try_from(at).ok()?, u32::try_from(end).ok()?);
    names.count += 1;
    (bytes.get(end) == Some(&b':')).then_some(end + 1)
}

fn expect_quote(bytes: &[u8], at: usize) -> Option<usize> {
    (bytes.get(at) == Some(&b'"')).then_some(at + 1)
}

/// Reads a value with nothing but spaces behind it. Where line ends were taken for quotes of the values before, it seems to go on
/// behind its line: that is none.
pub(crate) fn whole(written: &str) -> Option<Plain<'_>> {
    let (found, end) = value(written, 0)?;
    let bytes = written.as_bytes();
    (space(bytes, end) == bytes.len() && memchr::memchr(b'\n', bytes).is_none()).then_some(found)
}

/// Returns the value of a column that is written so, and nothing else; the inner `None` where it is none of the type. `None` where
/// another reader is to look at it.
pub(crate) fn of_cell<'a>(column: &Column, written: &'a str, form: Form<'_>) -> Option<Option<Cell<'a>>> {
    let found = if form == Form::Text { Plain::Text(written) } else { whole(written)? };
    Some(from_plain(column, found))
}

/// Returns the value of a column, as [`from_json`] does; `None` where it is none of the type.
pub(crate) fn from_plain<'a>(column: &Column, found: Plain<'a>) -> Option<Cell<'a>> {
    match found {
        Plain::Text(text) if column.json && *column.field.data_type() == DataType::Utf8 => {
            Some(Cell::Text(format!("\"{text}\"").into()))
        }
        found => of_type(column.field.data_type(), found),
    }
}

fn of_type<'a>(data_type: &DataType, found: Plain<'a>) -> Option<Cell<'a>> {
    match (data_type, found) {
        (_, Plain::Null) => Some(Cell::Null),
        (DataType::Utf8, Plain::Text(text) | Plain::Number(text) | Plain::Compact(text)) => {
            Some(Cell::Text(text.into()))
        }
        (DataType::Utf8, Plain::Bool(value)) => Some(Cell::Text(if value { "true" } else { "false" }.into())),
        (_, Plain::Nested(value)) => from_json(data_type, &value).map(Cell::into_owned),
        (DataType::List(item), Plain::Compact(text)) => list(item.data_type(), text).map(Cell::List),
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

/// Reads the values of a compact list.
fn list<'a>(item: &DataType, text: &'a str) -> Option<Vec<Cell<'a>>> {
    let mut cells = Vec::new();
    let mut at = usize::from(text.strip_prefix('[')? == "]") + 1;
    while at < text.len() - 1 {
        let (found, end) = value(text, at)?;
        cells.push(of_type(item, found)?);
        at = end + 1;
    }
    Some(cells)
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
    const VALUES: [&str; 47] = [
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
        "[\"a\",null,\"b\"]",
        "[]",
        "[\"a\\\"\",1]",
        "{\"a\":{\"a\":1,\"b\":[{\"a\":-0.50},{}]}}",
        "{\"a\":1,\"b\":{\"c\":2},\"a\":3}",
        "{\"a\":1,}",
        "{\"a\":1e2}",
        "{\"a\":01}",
        "[true,false,nul]",
        "{1:2}",
        "[1}",
        "{\"a\":1]",
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
