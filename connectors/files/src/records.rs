//! CSV rows, read where they lie and straight into columns. A row is what the `csv` crate takes for one: it ends with `\n`,
//! `\r` or both, empty lines are none, and a cell that begins with a quote ends behind the next one that is not doubled.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::cell::{Cell, from_text};
use crate::columns::Columns;
use crate::rows::Column;
use crate::scan::{cell_end, string_end};

/// The form of a file's rows.
#[derive(Debug)]
pub(crate) struct Records {
    delimiter: u8,
    /// The text that means NULL.
    null: String,
    /// The names of the cells, and each as JSON with its colon, where no two are the same.
    names: Vec<String>,
    keys: Option<Vec<String>>,
    /// The column that each cell goes to, where there is one.
    places: Vec<Option<usize>>,
    /// The cell of each column, where the file has one.
    cells: Vec<Option<usize>>,
}

impl Records {
    /// Takes the names of a file's cells, and the cell of each column.
    pub(crate) fn new(delimiter: u8, null: String, names: Vec<String>, cells: Vec<Option<usize>>) -> Self {
        let place = |cell: usize| cells.iter().position(|found| *found == Some(cell));
        let distinct: HashSet<&String> = names.iter().collect();
        let key = |name: &String| format!("{}:", Value::from(name.as_str()));
        let keys = (distinct.len() == names.len()).then(|| names.iter().map(key).collect());
        Self { delimiter, null, places: (0..names.len()).map(place).collect(), keys, names, cells }
    }

    pub(crate) fn delimiter(&self) -> u8 {
        self.delimiter
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
            let members = keys.iter().zip(cells).map(|(key, text)| format!("{key}{}", json_text(text)));
            return format!("{{{}}}", members.collect::<Vec<_>>().join(","));
        }
        let name = |n: usize| self.names.get(n).cloned().unwrap_or_else(|| format!("_{}", n + 1));
        let members = cells.iter().enumerate().map(|(n, text)| (name(n), Value::from(text.as_ref())));
        Value::Object(Map::from_iter(members)).to_string()
    }

    /// Reads the row that begins at `at` into a new row of `filling`, whose columns are `columns`; returns where it ends, with
    /// its line end. `None` where it does not fit; `filling` is then as it was.
    #[inline]
    pub(crate) fn read(&self, text: &str, at: usize, columns: &[&Column], filling: &mut Columns) -> Option<usize> {
        match self.read_row(text, at, columns, filling) {
            Some(end) => {
                filling.end_row();
                Some(end)
            }
            None => {
                filling.drop_row();
                None
            }
        }
    }

    fn read_row(&self, text: &str, mut at: usize, columns: &[&Column], filling: &mut Columns) -> Option<usize> {
        let bytes = text.as_bytes();
        let last = self.places.len().checked_sub(1)?;
        for (n, place) in self.places.iter().enumerate() {
            at = match place {
                Some(place) => self.cell(text, at, *place, columns[*place], filling)?,
                None => cell(text, at, self.delimiter).1,
            };
            let goes_on = bytes.get(at) == Some(&self.delimiter);
            if goes_on == (n == last) {
                return None;
            }
            at += usize::from(goes_on);
        }
        Some(row_end(bytes, at))
    }

    /// Reads a cell into its column and returns where it ends.
    #[inline]
    fn cell(&self, text: &str, at: usize, place: usize, column: &Column, filling: &mut Columns) -> Option<usize> {
        let (bytes, delimiter) = (text.as_bytes(), self.delimiter);
        let is_end = |byte: u8| byte == delimiter || byte == b'\n' || byte == b'\r';
        let Some(first) = bytes.get(at).filter(|byte| !is_end(**byte)) else {
            filling
                .put(place, if self.null.is_empty() { Cell::Null } else { from_text(column.field.data_type(), "")? })?;
            return Some(at);
        };
        if *first == b'"' {
            let (found, end) = cell(text, at, delimiter);
            if *found == self.null {
                filling.put(place, Cell::Null)?;
            } else if filling.put_text(place, found.as_bytes()).is_none() {
                filling.put(place, from_text(column.field.data_type(), &found)?)?;
            }
            return Some(end);
        }
        // What means NULL might be a number.
        if self.null.is_empty()
            && let Some(end) = filling.read(place, bytes, at, is_end)
        {
            return Some(end);
        }
        let end = cell_end(bytes, at, delimiter);
        if text[at..end] == *self.null {
            filling.put(place, Cell::Null)?;
        } else if filling.put_text(place, &bytes[at..end]).is_none() {
            filling.put(place, from_text(column.field.data_type(), &text[at..end])?)?;
        }
        Some(end)
    }
}

/// Writes a text as JSON.
fn json_text(text: &str) -> String {
    let bytes = text.as_bytes();
    if string_end(bytes, 0) == bytes.len() { format!("\"{text}\"") } else { Value::from(text).to_string() }
}

/// Returns where the first row from `at` on begins, behind line ends; the end of the text where there is none.
#[inline]
pub(crate) fn row_start(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b'\n' | b'\r')) {
        at += 1;
    }
    at
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
    let mut cells = Vec::new();
    loop {
        let (found, end) = cell(text, at, delimiter);
        cells.push(found);
        if text.as_bytes().get(end) != Some(&delimiter) {
            return (cells, row_end(text.as_bytes(), end));
        }
        at = end + 1;
    }
}

/// Returns the cell that begins at `at`, and where it ends.
fn cell(text: &str, at: usize, delimiter: u8) -> (Cow<'_, str>, usize) {
    let bytes = text.as_bytes();
    if bytes.get(at) != Some(&b'"') {
        let end = cell_end(bytes, at, delimiter);
        return (text[at..end].into(), end);
    }
    let mut from = at + 1;
    let mut found = Cow::Borrowed("");
    loop {
        let quote = memchr::memchr(b'"', &bytes[from..]).map_or(bytes.len(), |length| from + length);
        append(&mut found, &text[from..quote]);
        if bytes.get(quote + 1) != Some(&b'"') {
            // What stands behind the last quote belongs to the cell.
            let rest = (quote + 1).min(bytes.len());
            let end = cell_end(bytes, rest, delimiter);
            append(&mut found, &text[rest..end]);
            return (found, end);
        }
        append(&mut found, "\"");
        from = quote + 2;
    }
}

fn append<'a>(found: &mut Cow<'a, str>, part: &'a str) {
    if found.is_empty() {
        *found = Cow::Borrowed(part);
    } else if !part.is_empty() {
        found.to_mut().push_str(part);
    }
}
