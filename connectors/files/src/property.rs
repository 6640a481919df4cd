//! The rows of any text are those that a reader of whole texts finds, wherever the text is cut.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::concat;
use arrow::datatypes::Field;
use futures::executor::block_on;
use lakehead_core::{BatchBudget, column_type_name, parse_column_type};
use serde_json::{Map, Value};

use crate::cell::{Cell, from_json, from_text, to_array};
use crate::columns::Columns;
use crate::feed::Feed;
use crate::grid::{Grid, Limit};
use crate::load::Format;
use crate::rows::{Column, Layout};
use crate::text::TextReader;

/// Columns, and the rows that do not fit: what they are, why, and their lines.
type Read = (Vec<ArrayRef>, Vec<(String, String, u64)>);

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

const COLUMNS: [(&str, &str); 7] = [
    ("id", "bigint"),
    ("note", "varchar"),
    ("amount", "decimal(12, 2)"),
    ("at", "timestamptz"),
    ("rate", "double"),
    ("raw", "varchar"),
    ("tags", "list(varchar)"),
];

/// Right and wrong, short and long, of one form and of another.
const VALUES: [&str; 20] = [
    "1",
    "-2",
    "007",
    "1.50",
    "-0",
    "0.5",
    "1e2",
    "12345678901234567890",
    "abc",
    "a longer text",
    "\u{e9}",
    " 3 ",
    "",
    "2026-01-31T23:59:59.5Z",
    "2026-01-31 23:59:59+02:00",
    "true",
    "null",
    "99999999999.99",
    "3.141592",
    "x",
];

/// A value of JSON for each column.
const GOOD: [&str; 7] =
    ["17", "\"text\"", "-12.50", "\"2026-01-31T23:59:59.5Z\"", "0.25", "{\"a\":[1, \"x\"]}", "[\"a\",null,\"\"]"];

fn layout(null: &str) -> Layout {
    let column = |(name, of): (&str, &str)| Column {
        field: Arc::new(Field::new(name, parse_column_type(of).unwrap(), true)),
        star: None,
        json: name == "raw",
    };
    Layout {
        columns: COLUMNS.into_iter().map(column).collect(),
        header: true,
        delimiter: None,
        null: null.into(),
        may_lack: true,
    }
}

/// Reads a text in small blocks and small batches.
fn found(format: Format, text: &str, layout: &Layout, dice: &mut Dice) -> Result<Read, String> {
    let budget = BatchBudget { rows_max: 1 + dice.below(9), ..BatchBudget::default() };
    found_in(format, text, layout, 1 + dice.below(80), budget)
}

/// Reads a text in blocks of some size and batches of another.
fn found_in(
    format: Format,
    text: &str,
    layout: &Layout,
    block_bytes: usize,
    budget: BatchBudget,
) -> Result<Read, String> {
    let (feed, cut) = Feed::of_text(text, format, b',', block_bytes)?;
    let mut reader = block_on(TextReader::open(feed, cut, b',', layout)).unwrap()?;
    let (mut parts, mut misfits) = (vec![Vec::new(); COLUMNS.len()], Vec::new());
    while let Some(rows) = block_on(reader.next_rows(layout, budget)).unwrap() {
        for (part, column) in parts.iter_mut().zip(rows.columns) {
            assert_eq!(column.len(), rows.rows);
            part.push(column);
        }
        misfits.extend(rows.misfits);
    }
    let columns = parts.iter().zip(&layout.columns).map(|(parts, column)| {
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        if parts.is_empty() { to_array(column.field.data_type(), vec![]).unwrap() } else { concat(&parts).unwrap() }
    });
    Ok((columns.collect(), misfits))
}

/// Makes columns of rows, each of which fits or does not.
fn columns(layout: &Layout, rows: Vec<Result<Vec<Cell<'static>>, (String, String, u64)>>) -> Read {
    let (mut cells, mut misfits) = (vec![Vec::new(); COLUMNS.len()], Vec::new());
    for row in rows {
        match row {
            Ok(row) => row.into_iter().zip(&mut cells).for_each(|(cell, column)| column.push(cell)),
            Err(misfit) => misfits.push(misfit),
        }
    }
    let arrays = cells.into_iter().zip(&layout.columns).map(|(cells, c)| to_array(c.field.data_type(), cells).unwrap());
    (arrays.collect(), misfits)
}

fn reason(column: &Column) -> String {
    format!("column `{}` holds no {}", column.field.name(), column_type_name(column.field.data_type()))
}

fn object_row(
    value: &Value,
    raw: &str,
    line: u64,
    layout: &Layout,
) -> Result<Vec<Cell<'static>>, (String, String, u64)> {
    let Value::Object(object) = value else {
        let raw = Value::Object(Map::from_iter([("_line".to_owned(), raw.into())]));
        return Err((raw.to_string(), "the row is no JSON object".into(), line));
    };
    let cell = |column: &Column| {
        let cell = match object.get(column.field.name()).unwrap_or(&Value::Null) {
            text @ Value::String(_) if column.json => Some(Cell::Text(text.to_string().into())),
            value => from_json(column.field.data_type(), value).map(Cell::into_owned),
        };
        cell.ok_or_else(|| (raw.to_owned(), reason(column), line))
    };
    layout.columns.iter().map(cell).collect()
}

fn expected_lines(text: &str, layout: &Layout) -> Read {
    let row = |(line, text): (usize, &str)| {
        let line = line as u64 + 1;
        match serde_json::from_str::<Value>(text) {
            Ok(value) => object_row(&value, text, line, layout),
            Err(_) => {
                let raw = Value::Object(Map::from_iter([("_line".to_owned(), text.into())]));
                Err((raw.to_string(), "the line is not JSON".into(), line))
            }
        }
    };
    let lines = text.split('\n').map(str::trim).enumerate().filter(|(_, line)| !line.is_empty());
    columns(layout, lines.map(row).collect())
}

fn expected_csv(text: &str, layout: &Layout) -> Read {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
    let names: Vec<String> = reader.headers().unwrap().iter().map(|name| name.trim().to_owned()).collect();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.unwrap();
        let from = record.position().unwrap().byte() as usize;
        let start = from + text[from..].bytes().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
        let line = 1 + text[..start].matches('\n').count() as u64;
        let name = |n: usize| names.get(n).cloned().unwrap_or_else(|| format!("_{}", n + 1));
        let raw = Map::from_iter(record.iter().enumerate().map(|(n, cell)| (name(n), cell.into())));
        let misfit = |reason| (Value::Object(raw.clone()).to_string(), reason, line);
        if record.len() != names.len() {
            rows.push(Err(misfit(format!("the row has {} cells instead of {}", record.len(), names.len()))));
            continue;
        }
        let cell = |column: &Column| {
            let place = names.iter().position(|name| name == column.field.name());
            match place.and_then(|place| record.get(place)).filter(|text| *text != layout.null) {
                None => Ok(Cell::Null),
                Some(text) => from_text(column.field.data_type(), text)
                    .map(Cell::into_owned)
                    .ok_or_else(|| misfit(reason(column))),
            }
        };
        rows.push(layout.columns.iter().map(cell).collect());
    }
    columns(layout, rows)
}

fn expected_array(text: &str, layout: &Layout) -> Option<Read> {
    let Value::Array(values) = serde_json::from_str(text).ok()? else { return None };
    // Where each value begins is for the other forms to show.
    let row = |value: &Value| object_row(value, &value.to_string(), 0, layout);
    Some(columns(layout, values.iter().map(row).collect()))
}

/// Returns whether a quoted cell is open at the end, by a look at every byte.
fn is_open(text: &str) -> bool {
    let (mut at_start, mut quoted) = (true, false);
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        if quoted {
            quoted = byte != b'"' || bytes.next_if_eq(&b'"').is_some();
            continue;
        }
        quoted = at_start && byte == b'"';
        at_start = matches!(byte, b',' | b'\n' | b'\r');
    }
    quoted
}

fn json_value(dice: &mut Dice) -> String {
    match dice.below(12) {
        0..=3 => dice.pick(&VALUES).to_owned(),
        4..=7 => format!("\"{}\"", dice.pick(&VALUES)),
        8 => dice.pick(&["\"a\\nb\"", "\"\\u00e9\\\"\"", "\"\\ud800\"", "\"\t\""]).to_owned(),
        9 => dice.pick(&["[1, 2]", "{\"a\":{\"b\":[]}}", "[\"],[\"]", "{\"a\":1,\"a\":2}", "[1,]", "{ }"]).to_owned(),
        _ => dice.below(1_000_000).to_string(),
    }
}

fn json_object(dice: &mut Dice) -> String {
    let space = |dice: &mut Dice| dice.pick(&["", "", "", " ", "\t"]).to_owned();
    let mut members = Vec::new();
    for ((name, _), good) in COLUMNS.into_iter().zip(GOOD) {
        let name = if dice.below(9) == 0 { dice.pick(&["other", "id", "n\u{e9}", "r\\u0061w"]) } else { name };
        if dice.below(7) > 0 {
            let value = if dice.below(4) > 0 { good.to_owned() } else { json_value(dice) };
            members.push(format!("\"{name}\"{}:{}{value}", space(dice), space(dice)));
        }
    }
    if dice.below(3) == 0 {
        members.reverse();
    }
    format!("{}{{{}}}{}", space(dice), members.join(dice.pick(&[",", ",", ", ", " ,"])), space(dice))
}

#[test]
fn lines_of_json_have_the_rows_that_a_reader_of_whole_lines_finds() {
    let (mut dice, layout, mut fits) = (Dice(1), layout(""), 0);
    for _ in 0..1000 {
        let mut text = String::new();
        for _ in 0..dice.below(7) {
            let line = if dice.below(20) == 0 { json_value(&mut dice) } else { json_object(&mut dice) };
            text += &line;
            text += dice.pick(&["\n", "\n", "\r\n", "\n\n", "\n \n"]);
        }
        if dice.below(2) == 0 {
            text += &json_object(&mut dice);
        }
        let expected = expected_lines(&text, &layout);
        fits += expected.0[0].len();
        assert_eq!(found(Format::Lines, &text, &layout, &mut dice).unwrap(), expected, "{text}");
        // A mark of the encoding is no part of the text.
        assert_eq!(found(Format::Lines, &format!("\u{feff}{text}"), &layout, &mut dice).unwrap(), expected, "{text}");
    }
    assert!(fits > 300, "{fits}");
}

/// Makes a line of one of some shapes, mostly with values that fit.
fn shaped(dice: &mut Dice, shape: usize, wild: usize) -> String {
    let mut value = |n: usize| match dice.below(wild) {
        0 => json_value(dice),
        1 => number_or_time(dice),
        2 => format!("\"{}\"", number_or_time(dice)),
        _ => match n {
            0 => dice.below(1 << 30).to_string(),
            1 => format!(
                "\"{}\"",
                dice.pick(&["", "a", "short", "exactly sixteen.", "n\u{e9}", "more than sixteen bytes"])
            ),
            2 => format!("{}.{:02}", dice.below(99_999), dice.below(100)),
            3 => format!("\"2026-01-{:02}T{:02}:00:00.{:03}Z\"", 1 + dice.below(28), dice.below(24), dice.below(1000)),
            4 => format!("0.{:06}", dice.below(1_000_000)),
            5 => dice
                .pick(&["[1,{\"a\":\"b\"}]", "[2,{\"a\":\"\"}]", "[1, {\"a\":\"b\"}]", "{\"id\":1}", "7"])
                .to_owned(),
            _ => dice.pick(&["[]", "[\"a\",\"\"]", "[null,\"b\"]", "null", "[\"more\",\"\"]"]).to_owned(),
        },
    };
    let [id, note, amount, at, rate, raw, tags] = std::array::from_fn(&mut value);
    match shape {
        0 => format!(
            r#"{{"id":{id},"note":{note},"amount":{amount},"at":{at},"rate":{rate},"raw":{raw},"tags":{tags}}}"#
        ),
        1 => format!(
            r#"{{"at": {at}, "id": {id}, "rate": {rate}, "more": {raw}, "tags": {tags}, "amount": {amount}, "note": {note}}} "#
        ),
        2 => format!("{{\"other\":{raw} ,\"id\" :{id}\t,\"x\":{amount},\"y\":{note}}}"),
        3 => format!(r#"{{"id":{id},"id":{amount},"note":{note}}}"#),
        _ => format!(
            r#" {{"note":{note},"raw":{note},"n\u00e9":{id},"long name of a column that is none":{at},"id":{rate}}}"#
        ),
    }
}

#[test]
fn lines_of_one_shape_have_the_rows_that_a_reader_of_whole_lines_finds() {
    let (mut dice, layout, mut fits) = (Dice(6), layout(""), 0);
    for _ in 0..40 {
        let mut text = String::new();
        let wild = [5, 50, 500][dice.below(3)];
        while text.len() < 60_000 {
            let (shape, end) = (dice.below(5), dice.pick(&["\n", "\n", "\r\n"]));
            for _ in 0..dice.below(120) {
                text += &shaped(&mut dice, shape, wild);
                text += end;
            }
            match dice.below(4) {
                0 => text += dice.pick(&["\n", " \n", "x\n", "{}\n", "{\"id\":1\n", "}\n", "\"\n"]),
                1 => text += &format!("{{\"note\":\"{}\"}}\n", "long".repeat(dice.below(9000))),
                _ => {}
            }
        }
        let budget = BatchBudget { rows_max: 1 + dice.below(5000), bytes_max: 1 + dice.below(1 << 20) };
        let found = found_in(Format::Lines, &text, &layout, 1 + dice.below(200_000), budget).unwrap();
        let expected = expected_lines(&text, &layout);
        fits += expected.0[0].len();
        assert!(found.1 == expected.1, "{} of {} misfits", found.1.len(), expected.1.len());
        assert!(found.0 == expected.0, "{} of {} rows fit", found.0[0].len(), expected.0[0].len());
    }
    assert!(fits > 5000, "{fits}");
}

#[test]
fn a_value_goes_not_on_behind_its_line_where_many_lines_are_read_together() {
    // As many line ends as the values before had quotes.
    for (like, broken) in [("\"more\":[\"a\"]", "\"more\":7\n\n"), ("\"tags\":[\"a\"]", "\"tags\":[\n\n]")] {
        let like = format!("{{\"id\":1,{like}}}\n").repeat(100);
        let (text, layout) = (format!("{like}{{\"id\":2,{broken}}}\n{like}"), layout(""));
        let budget = BatchBudget { rows_max: 1000, bytes_max: 1 << 20 };
        let found = found_in(Format::Lines, &text, &layout, 1 << 20, budget).unwrap();
        assert_eq!((found.0[0].len(), found.1.len()), (200, 2), "{broken:?}");
        assert!(found == expected_lines(&text, &layout), "{broken:?}");
    }
}

/// Makes CSV rows of so many cells; `wild` ones have quotes where none belong, too.
fn csv_text(dice: &mut Dice, header: &str, rows: usize, wild: bool) -> String {
    let (mut text, cells) = (header.to_owned(), header.matches(',').count() + 1);
    for _ in 0..rows {
        let length = if dice.below(9) == 0 { dice.below(9) } else { cells };
        let row = (0..length).map(|_| match dice.below(14) {
            0 => "\"a \"\"quote\"\", and\r\nlines\"".to_owned(),
            1 => format!("\"{}\"", dice.pick(&VALUES)),
            2 if wild => dice.pick(&["\"", "a\"b", "\"a\"b\"", "\"\"\"\"", "\"\"x"]).to_owned(),
            3..=6 => dice.below(1_000_000).to_string(),
            _ => dice.pick(&VALUES).to_owned(),
        });
        text += &row.collect::<Vec<_>>().join(",");
        text += dice.pick(&["\n", "\n", "\r\n", "\r", "\n\n", "\r\n\r\n"]);
    }
    if dice.below(2) == 0 {
        text.truncate(text.trim_end_matches(['\n', '\r']).len());
    }
    text
}

#[test]
fn csv_rows_are_those_of_the_csv_crate() {
    let (mut dice, mut fits, mut open) = (Dice(2), 0, 0);
    for round in 0..1500 {
        let layout = layout(dice.pick(&["", "", "", "null", "1"]));
        let header = dice.pick(&["id,note,amount,at,rate,raw\n", "raw,x,id,note\r\n", "\n\"note\", id \r"]).to_owned();
        let rows = dice.below(8);
        let text = csv_text(&mut dice, &header, rows, round % 3 == 0);
        let found = found(Format::Csv, &text, &layout, &mut dice);
        if is_open(&text) {
            open += 1;
            assert!(found.unwrap_err().ends_with("never ends"), "{text:?}");
            continue;
        }
        let expected = expected_csv(&text, &layout);
        fits += expected.0[0].len();
        assert_eq!(found.unwrap(), expected, "{text:?}");
    }
    assert!(fits > 500 && open > 10, "{fits} {open}");
}

#[test]
fn many_csv_rows_are_those_of_the_csv_crate_too() {
    let (mut dice, mut fits) = (Dice(4), 0);
    for _ in 0..12 {
        let layout = layout(dice.pick(&["", "null", "007"]));
        let mut text = String::from("id,note,amount,at,rate,raw\n");
        while text.len() < 100_000 {
            // Rows that fit, and among them some of every kind, and some that are longer than what is looked through at once.
            for n in 0..dice.below(300) {
                let (note, n) = (dice.pick(&VALUES), n * 7919);
                text += &format!("{n},{note},{}.{:02},2026-01-31T23:59:59.{n:06}Z,0.{n},x\n", n % 99, n % 100);
            }
            let rows = 1 + dice.below(4);
            text += csv_text(&mut dice, "1,2,3,4,5,6\n", rows, false).trim_end_matches(['\n', '\r']);
            text += "\n\n";
            if dice.below(9) == 0 {
                text += &format!("1,\"{}\",,,,\n", "long\n\"\"".repeat(dice.below(9000)));
            }
        }
        let budget = BatchBudget { rows_max: 1 + dice.below(5000), bytes_max: 1 + dice.below(1 << 20) };
        let found = found_in(Format::Csv, &text, &layout, 1 + dice.below(200_000), budget).unwrap();
        let expected = expected_csv(&text, &layout);
        fits += expected.0[0].len();
        assert!(found == expected, "{} of {} rows fit", found.0[0].len(), expected.0[0].len());
    }
    assert!(fits > 5000, "{fits}");
}

/// Numbers and times, right and nearly so.
fn number_or_time(dice: &mut Dice) -> String {
    let mut digits = |most: usize| (0..dice.below(most + 1)).map(|_| dice.pick(&["0", "1", "5", "9"])).collect();
    let (before, behind, short): (String, String, String) = (digits(12), digits(9), digits(3));
    let mut text = match dice.below(6) {
        0 => before,
        1 => format!("-{before}"),
        2 => format!("{before}.{behind}"),
        3 => format!("-{short}.{behind}"),
        4 => format!("{before}{before}.{short}"),
        _ => format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{short}Z",
            dice.below(2100),
            dice.below(14),
            dice.below(33),
            dice.below(25),
            dice.below(61),
            dice.below(61)
        ),
    };
    if dice.below(6) == 0 && !text.is_empty() {
        let at = dice.below(text.len());
        text.replace_range(
            at..at + 1,
            dice.pick(&["/", ":", " ", "-", ".", "e", "T", "+", "\u{e9}", "", "9", "\u{1}"]),
        );
    }
    text
}

#[test]
fn cells_read_column_by_column_are_those_read_one_by_one() {
    let types = [
        "bool",
        "smallint",
        "int",
        "bigint",
        "real",
        "double",
        "decimal(12, 2)",
        "decimal(38, 10)",
        "date",
        "time",
        "timestamp",
        "timestamptz",
        "varchar",
        "bytea",
        "list(bigint)",
    ];
    let mut dice = Dice(5);
    for round in 0..300 {
        let name = types[round % types.len()];
        let data_type = parse_column_type(name).unwrap();
        let null = dice.pick(&["", "", "null", "1"]).to_owned();
        let texts: Vec<String> = (0..1 + dice.below(60))
            .map(|_| match dice.below(3) {
                0 => dice.pick(&VALUES).to_owned(),
                _ if name == "list(bigint)" => {
                    dice.pick(&["[1]", "[]", "[null]", " [ -7 ]", "[\"1\"]", "[x]"]).to_owned()
                }
                _ => number_or_time(&mut dice),
            })
            .collect();
        // What is wrong with another cell takes out the row, too.
        let gone: Vec<bool> = texts.iter().map(|_| dice.below(9) == 0).collect();
        let text = texts.iter().fold(String::new(), |text, cell| text + "x," + cell + "\n");
        let mut grid = Grid::new(b',', 2);
        grid.find(text.as_bytes(), 0, Limit { rows: usize::MAX, bytes: usize::MAX });
        assert_eq!((grid.rows(), grid.odd().len(), grid.end()), (texts.len(), 0, text.len()));
        let (mut columns, mut odd) = (Columns::new([&data_type].into_iter(), 1), vec![false; texts.len()]);
        // Two times, for what is taken out must leave what came before.
        for _ in 0..2 {
            odd.copy_from_slice(&gone);
            columns.extend(0, &data_type, &grid.cells(&text, 1, &null), &mut odd);
            columns.end_rows(&odd);
        }
        let expected: Vec<Option<Cell<'_>>> = texts
            .iter()
            .zip(&gone)
            .map(
                |(text, gone)| {
                    if *text == null { Some((Cell::Null, gone)) } else { Some((from_text(&data_type, text)?, gone)) }
                },
            )
            .map(|found| found.filter(|(_, gone)| !**gone).map(|(cell, _)| cell))
            .collect();
        assert_eq!(odd, expected.iter().map(Option::is_none).collect::<Vec<_>>(), "{name} {texts:?}");
        let fits: Vec<Cell<'_>> = expected.into_iter().flatten().collect();
        let expected = to_array(&data_type, [fits.clone(), fits].concat()).unwrap();
        assert_eq!(columns.finish().unwrap()[0].to_data(), expected.to_data(), "{name} {texts:?}");
    }
}

#[test]
fn an_array_is_cut_between_its_values() {
    let (mut dice, layout, mut whole) = (Dice(3), layout(""), 0);
    for _ in 0..1000 {
        let values: Vec<String> = (0..dice.below(6)).map(|_| json_object(&mut dice)).collect();
        let mut text = format!(" [{}]\n", values.join(dice.pick(&[",", ",\n", " , "])));
        if dice.below(8) == 0 {
            text.insert(1 + dice.below(2), dice.pick(&["]", "[", ",", "\""]).chars().next().unwrap());
        }
        let found = found(Format::Json, &text, &layout, &mut dice);
        match expected_array(&text, &layout) {
            Some((columns, misfits)) if text.starts_with(" [") => {
                whole += 1;
                let (found, told) = found.expect(&text);
                assert_eq!(found, columns, "{text}");
                let told: Vec<_> = told.into_iter().map(|(raw, reason, _)| (raw, reason, 0)).collect();
                assert_eq!(told, misfits, "{text}");
            }
            _ if text.trim_start().starts_with('[') => assert!(found.is_err(), "{text}"),
            _ => {}
        }
    }
    assert!(whole > 200, "{whole}");
}
