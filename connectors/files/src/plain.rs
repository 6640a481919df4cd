//! Lines that are read where they lie: a JSON object whose strings hold no escapes, a CSV row without quotes. Whatever is
//! less plain, or wrong, is for the readers that know everything; both come to the same values.

use arrow::datatypes::DataType;
use serde_json::Value;

use crate::cell::{Cell, from_json, from_text};
use crate::rows::Column;

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

/// Reads the declared members of one object; `None` where another reader is to look at the line. `found` has a place for each
/// of `columns`, and is emptied first.
pub(crate) fn object<'a>(line: &'a str, columns: &[&Column], found: &mut Vec<Option<Plain<'a>>>) -> Option<()> {
    found.clear();
    found.resize_with(columns.len(), || None);
    let bytes = line.as_bytes();
    let mut at = expect(bytes, space(bytes, 0), b'{')?;
    at = space(bytes, at);
    // Members mostly come in the order of the columns.
    let mut next = 0;
    while *bytes.get(at)? != b'}' {
        let (name, behind) = text(line, at)?;
        at = space(bytes, expect(bytes, space(bytes, behind), b':')?);
        let is = |place: usize| columns.get(place).is_some_and(|column| column.field.name() == name);
        let place = if is(next) { Some(next) } else { (0..columns.len()).find(|place| is(*place)) };
        let (read, behind) = value(line, at)?;
        if let Some(place) = place {
            next = place + 1;
            // Of two members of one name the last counts: not looked for here.
            if found[place].replace(read).is_some() {
                return None;
            }
        }
        at = space(bytes, behind);
        match bytes.get(at)? {
            b',' => {
                at = space(bytes, at + 1);
                if *bytes.get(at)? != b'"' {
                    return None;
                }
            }
            b'}' => {}
            _ => return None,
        }
    }
    (space(bytes, at + 1) == bytes.len()).then_some(())
}

fn space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
        at += 1;
    }
    at
}

fn expect(bytes: &[u8], at: usize, byte: u8) -> Option<usize> {
    (*bytes.get(at)? == byte).then_some(at + 1)
}

/// Reads a string without escapes; returns it and where it ends.
fn text(line: &str, at: usize) -> Option<(&str, usize)> {
    let bytes = line.as_bytes();
    let from = expect(bytes, at, b'"')?;
    let length = bytes[from..].iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
    let end = expect(bytes, from + length, b'"')?;
    Some((&line[from..end - 1], end))
}

fn value(line: &str, at: usize) -> Option<(Plain<'_>, usize)> {
    let bytes = line.as_bytes();
    let word = |word: &str, plain| bytes[at..].starts_with(word.as_bytes()).then_some((plain, at + word.len()));
    match bytes.get(at)? {
        b'"' => text(line, at).map(|(text, end)| (Plain::Text(text), end)),
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

/// Rows of a CSV text without quotes, where every line is a row.
#[derive(Debug)]
pub(crate) struct PlainRows {
    text: String,
    at: usize,
    line: u64,
    delimiter: u8,
}

impl PlainRows {
    /// Takes a text whose rows begin at `at`; gives it back where its rows are not plain.
    pub(crate) fn new(text: String, at: usize, delimiter: u8) -> Result<Self, String> {
        if text.contains(['"', '\r']) || !delimiter.is_ascii() {
            return Err(text);
        }
        let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() as u64;
        Ok(Self { text, at, line, delimiter })
    }

    /// Reads the next row that is not empty: puts the place of each cell into `places`, and returns the row's line and its
    /// size. `None` at the end.
    pub(crate) fn next(&mut self, places: &mut Vec<(usize, usize)>) -> Option<(u64, usize)> {
        places.clear();
        let bytes = self.text.as_bytes();
        while bytes.get(self.at) == Some(&b'\n') {
            self.at += 1;
            self.line += 1;
        }
        if self.at >= bytes.len() {
            return None;
        }
        let (from, delimiter) = (self.at, self.delimiter);
        let (mut begun, mut end) = (from, bytes.len());
        for (length, byte) in bytes[from..].iter().enumerate() {
            if *byte == delimiter {
                places.push((begun, from + length));
                begun = from + length + 1;
            } else if *byte == b'\n' {
                end = from + length;
                break;
            }
        }
        places.push((begun, end));
        self.at = end + 1;
        self.line += 1;
        Some((self.line, end - from + 1))
    }

    /// Returns a cell by its place.
    pub(crate) fn cell(&self, (from, to): (usize, usize)) -> &str {
        &self.text[from..to]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Field;
    use lakehead_core::parse_column_type;

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
        let (mut plain, mut found) = (0, Vec::new());
        for line in &lines {
            let Some(()) = object(line, &places, &mut found) else { continue };
            plain += 1;
            let row: Option<Vec<Cell<'_>>> =
                places.iter().zip(found.drain(..)).map(|(column, found)| from_plain(column, found)).collect();
            assert_eq!(Some(row), by_the_long_way(line, &columns), "{line}");
        }
        assert!(plain > 150, "{plain} of {} are plain", lines.len());
    }

    #[test]
    fn plain_rows_are_lines() {
        assert!(
            PlainRows::new("a\n\"b\"".into(), 0, b',').is_err() && PlainRows::new("a\r\nb".into(), 0, b',').is_err()
        );
        let mut rows = PlainRows::new("h\n\n1,é,\n,\n\nlast".into(), 2, b',').unwrap();
        let (mut places, mut found) = (Vec::new(), Vec::new());
        while let Some((line, _)) = rows.next(&mut places) {
            found.push((line, places.iter().map(|place| rows.cell(*place).to_owned()).collect::<Vec<_>>()));
        }
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        assert_eq!(found, [(3, row(&["1", "é", ""])), (4, row(&["", ""])), (6, row(&["last"]))]);
    }
}
