//! CSV rows, read where they lie and straight into columns; and those that do not fit, to be told.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::columns::Columns;
use crate::grid::{Grid, Limit, end_of_cell};
use crate::rows::Column;
use crate::scan::string_end;

/// Cells more than the header has that a row is told with by prepared names: a delimiter too many is the usual mistake.
const EXTRA_KEYS: usize = 4;

/// The form of a file's rows.
#[derive(Debug)]
pub(crate) struct Records {
    grid: Grid,
    /// The text that means NULL.
    null: String,
    /// The names of the cells, and each as JSON with its colon, where no two are the same; some for more cells behind them.
    names: Vec<String>,
    keys: Option<Vec<String>>,
    keys_bytes: usize,
    /// The cell of each column, where the file has one.
    cells: Vec<Option<usize>>,
    /// Which of the rows that are read do not fit.
    odd: Vec<bool>,
}

impl Records {
    /// Takes the names of a file's cells, and the cell of each column.
    pub(crate) fn new(delimiter: u8, null: String, names: Vec<String>, cells: Vec<Option<usize>>) -> Self {
        let distinct: HashSet<&String> = names.iter().collect();
        let key = |name: &str| format!("{}:", Value::from(name));
        let extra: Vec<String> = (0..EXTRA_KEYS).map(|n| extra_name(names.len() + n)).collect();
        let is_distinct = distinct.len() == names.len() && !extra.iter().any(|name| distinct.contains(name));
        let keys: Option<Vec<String>> = is_distinct.then(|| names.iter().chain(&extra).map(|name| key(name)).collect());
        let keys_bytes = keys.iter().flatten().map(String::len).sum();
        Self { grid: Grid::new(delimiter, names.len()), null, keys, keys_bytes, names, cells, odd: Vec::new() }
    }

    pub(crate) fn delimiter(&self) -> u8 {
        self.grid.delimiter()
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns the cell of each column, where the file has one.
    pub(crate) fn cells(&self) -> &[Option<usize>] {
        &self.cells
    }

    pub(crate) fn null(&self) -> &str {
        &self.null
    }

    /// Returns a row as a JSON object.
    pub(crate) fn raw(&self, cells: &[Cow<'_, str>]) -> String {
        if let Some(keys) = self.keys.as_ref().filter(|keys| cells.len() <= keys.len()) {
            let mut raw =
                String::with_capacity(cells.iter().map(|text| text.len() + 3).sum::<usize>() + self.keys_bytes + 2);
            raw.push('{');
            for (n, (key, text)) in keys.iter().zip(cells).enumerate() {
                raw.push_str(if n > 0 { "," } else { "" });
                raw.push_str(key);
                push_json_text(&mut raw, text);
            }
            raw.push('}');
            return raw;
        }
        let name = |n: usize| self.names.get(n).cloned().unwrap_or_else(|| extra_name(n));
        let members = cells.iter().enumerate().map(|(n, text)| (name(n), Value::from(text.as_ref())));
        Value::Object(Map::from_iter(members)).to_string()
    }

    /// Reads rows from `at` on into new rows of `filling`, whose columns are `columns`, all those that fit.
    pub(crate) fn read(
        &mut self,
        text: &str,
        at: usize,
        limit: Limit,
        columns: &[&Column],
        filling: &mut Columns,
    ) -> Found {
        self.grid.find(text.as_bytes(), at, limit);
        let rows = self.grid.rows();
        self.odd.clear();
        self.odd.resize(rows, false);
        for (n, (column, cell)) in columns.iter().zip(&self.cells).enumerate() {
            match cell {
                Some(cell) => {
                    let cells = self.grid.cells(text, *cell, &self.null);
                    filling.extend(n, column.field.data_type(), &cells, &mut self.odd);
                }
                None => filling.extend_null(n, rows),
            }
        }
        filling.end_rows(&self.odd);
        let mut misfits = self.grid.odd().to_vec();
        let odd = self.odd.iter().enumerate().filter(|(_, odd)| **odd);
        misfits.extend(odd.map(|(row, _)| self.grid.row_begin(row)));
        misfits.sort_unstable();
        Found { rows: rows + self.grid.odd().len(), misfits, end: self.grid.end() }
    }
}

/// Returns the name of a cell that the header has none for.
fn extra_name(cell: usize) -> String {
    format!("_{}", cell + 1)
}

/// Rows that were read.
#[derive(Debug)]
pub(crate) struct Found {
    /// How many, those that do not fit among them.
    pub(crate) rows: usize,
    /// Where those begin that do not fit.
    pub(crate) misfits: Vec<usize>,
    /// Where the rows end.
    pub(crate) end: usize,
}

/// Writes a text as JSON.
pub(crate) fn push_json_text(raw: &mut String, text: &str) {
    if string_end(text.as_bytes(), 0) < text.len() {
        raw.push_str(&Value::from(text).to_string());
        return;
    }
    raw.push('"');
    raw.push_str(text);
    raw.push('"');
}

/// Passes over the line end at `at`.
fn row_end(bytes: &[u8], at: usize) -> usize {
    match (bytes.get(at), bytes.get(at + 1)) {
        (Some(b'\r'), Some(b'\n')) => at + 2,
        (Some(b'\r' | b'\n'), _) => at + 1,
        _ => at,
    }
}

/// Returns the cells of the row that begins at `at`, and where it ends, with its line end.
pub(crate) fn cells(text: &str, mut at: usize, delimiter: u8) -> (Vec<Cow<'_, str>>, usize) {
    let (mut cells, bytes) = (Vec::new(), text.as_bytes());
    loop {
        let end = end_of_cell(bytes, at, delimiter);
        cells.push(content(&text[at..end]));
        if bytes.get(end) != Some(&delimiter) {
            return (cells, row_end(bytes, end));
        }
        at = end + 1;
    }
}

/// Returns what a cell holds, without its quotes.
pub(crate) fn content(cell: &str) -> Cow<'_, str> {
    let Some(mut rest) = cell.strip_prefix('"') else { return cell.into() };
    let mut found = Cow::Borrowed("");
    while let Some((part, behind)) = rest.split_once('"') {
        append(&mut found, part);
        rest = behind;
        let Some(behind) = rest.strip_prefix('"') else { break };
        append(&mut found, "\"");
        rest = behind;
    }
    // What stands behind the last quote belongs to the cell.
    append(&mut found, rest);
    found
}

fn append<'a>(found: &mut Cow<'a, str>, part: &'a str) {
    if found.is_empty() {
        *found = Cow::Borrowed(part);
    } else if !part.is_empty() {
        found.to_mut().push_str(part);
    }
}
