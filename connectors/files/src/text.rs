//! Rows of a text, block after block: lines of JSON, CSV rows, the values of one JSON array.

use std::borrow::Cow;

use arrow::array::ArrayRef;
use lakehead_core::{BatchBudget, Result, column_type_name};
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::blocks::Cut;
use crate::cell::{Cell, from_json, from_text};
use crate::columns::Columns;
use crate::feed::Feed;
use crate::grid::{Limit, row_start};
use crate::json::Values;
use crate::members::misfit;
use crate::records::{Records, cells, push_json_text};
use crate::rows::{Column, Layout};
use crate::runs::Lines;

/// Rows for which the first batch has room.
const ROWS_FIRST: usize = 8192;
/// Rows of a batch behind the first: few enough for the memory of one to serve another. The first is as large as it may be, for
/// by it sinks choose how columns are encoded.
const BATCH_ROWS: usize = 16_384;

/// Reads the rows of one text.
#[derive(Debug)]
pub(crate) struct TextReader {
    feed: Feed,
    text: Text,
    form: Form,
    batch: Option<Batch>,
    /// Rows that the next batch may have.
    rows_expected: usize,
    /// Whether there was a batch.
    begun: bool,
}

#[derive(Debug)]
enum Form {
    Rows(Records),
    Lines(Lines),
    Values(Values),
}

/// Some rows, by column; and those that do not fit: what they are, why, and their lines.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) columns: Vec<ArrayRef>,
    pub(crate) rows: usize,
    pub(crate) misfits: Vec<(String, String, u64)>,
}

/// Rows under way.
#[derive(Debug)]
struct Batch {
    columns: Columns,
    misfits: Vec<(String, String, u64)>,
    /// Rows that were read, those that do not fit among them, and their bytes.
    read: usize,
    bytes: usize,
}

/// The block that is read.
#[derive(Debug, Default)]
struct Text {
    text: String,
    at: usize,
    /// Line ends before `counted`, those of the blocks before too.
    lines: u64,
    /// Lines are counted when one has to be told, and where a block ends.
    counted: usize,
}

impl Text {
    fn is_at_end(&self) -> bool {
        self.at >= self.text.len()
    }

    /// Goes on to the next block; returns the one before.
    fn go_on(&mut self, next: String) -> String {
        self.line_of(self.text.len());
        (self.at, self.counted) = (0, 0);
        std::mem::replace(&mut self.text, next)
    }

    /// Goes on to the next CSV row; returns whether there is none.
    fn skip_empty_lines(&mut self) -> bool {
        self.at = row_start(self.text.as_bytes(), self.at);
        self.is_at_end()
    }

    /// Passes over a line and its end; returns its number. All lines before it were passed over, too.
    fn pass_line(&mut self, end: usize) -> u64 {
        self.counted = (end + 1).min(self.text.len());
        self.lines += 1;
        self.lines
    }

    /// Passes over so many lines, up to where the last one ends.
    fn pass_lines(&mut self, count: usize, end: usize) {
        (self.at, self.counted) = (end, end);
        self.lines += count as u64;
    }

    /// Returns the number of the line of a place behind those that were asked for before.
    fn line_of(&mut self, at: usize) -> u64 {
        self.lines += memchr::memchr_iter(b'\n', &self.text.as_bytes()[self.counted..at]).count() as u64;
        self.counted = at;
        self.lines + 1
    }
}

/// One row, read or refused.
enum Row {
    /// It is in the columns.
    Read,
    Fits(Vec<Cell<'static>>),
    Misfit {
        raw: String,
        reason: String,
        line: u64,
    },
}

impl TextReader {
    /// Opens a text; the inner error says why none of it can be read.
    pub(crate) async fn open(
        mut feed: Feed,
        cut: Cut,
        delimiter: u8,
        layout: &Layout,
    ) -> Result<std::result::Result<Self, String>> {
        let mut text = Text { text: feed.next().await?.unwrap_or_default(), ..Text::default() };
        let form = match cut {
            Cut::Lines => Form::Lines(Lines::new()),
            Cut::Values => Form::Values(Values::default()),
            Cut::Rows(_) => {
                // A block may hold nothing but empty lines.
                while text.skip_empty_lines()
                    && let Some(next) = feed.next().await?
                {
                    text.go_on(next);
                }
                match open_rows(&mut text, delimiter, layout) {
                    Ok(records) => Form::Rows(records),
                    Err(reason) => return Ok(Err(reason)),
                }
            }
        };
        Ok(Ok(Self { feed, text, form, batch: None, rows_expected: ROWS_FIRST, begun: false }))
    }

    /// Returns the next rows; `None` at the end. Nothing is lost where this is dropped before it is done.
    pub(crate) async fn next_rows(&mut self, layout: &Layout, budget: BatchBudget) -> Result<Option<Rows>> {
        let data: Vec<&Column> = layout.data_columns().collect();
        let rows_max = if self.begun { budget.rows_max.min(BATCH_ROWS) } else { budget.rows_max };
        let budget = BatchBudget { rows_max, ..budget };
        loop {
            let expected = budget.rows_max.min(self.rows_expected);
            let batch = self.batch.get_or_insert_with(|| Batch::new(&data, expected));
            if batch.fill(&mut self.text, &mut self.form, &data, budget) {
                break;
            }
            let Some(next) = self.feed.next().await? else { break };
            self.feed.give_back(self.text.go_on(next));
            match &mut self.form {
                Form::Values(values) => values.restart(),
                Form::Lines(lines) => lines.restart(),
                Form::Rows(_) => {}
            }
        }
        let Some(batch) = self.batch.take().filter(|batch| batch.read > 0) else { return Ok(None) };
        let rows = batch.columns.rows();
        self.begun = true;
        self.rows_expected = rows + rows / 8;
        Ok(Some(Rows { columns: batch.columns.finish()?, rows, misfits: batch.misfits }))
    }
}

impl Batch {
    fn new(data: &[&Column], rows: usize) -> Self {
        let columns = Columns::new(data.iter().map(|column| column.field.data_type()), rows);
        Self { columns, misfits: Vec::new(), read: 0, bytes: 0 }
    }

    /// Reads rows until the budget is spent, which it tells, or the block ends.
    fn fill(&mut self, text: &mut Text, form: &mut Form, data: &[&Column], budget: BatchBudget) -> bool {
        loop {
            if self.read >= budget.rows_max.max(1) || self.bytes >= budget.bytes_max.max(1) {
                return true;
            }
            let taken = match form {
                Form::Rows(records) => {
                    if !self.csv_rows(text, records, data, budget) {
                        return false;
                    }
                    continue;
                }
                Form::Lines(lines) => {
                    if self.run(text, lines, data, budget) {
                        continue;
                    }
                    line(text, lines, data, &mut self.columns)
                }
                Form::Values(values) => array_value(text, values, data),
            };
            let Some((row, size)) = taken else { return false };
            self.read += 1;
            self.bytes += size;
            self.take(row);
        }
    }

    fn take(&mut self, row: Row) {
        match row {
            Row::Read => {}
            Row::Fits(mut values) => self.columns.push(&mut values),
            Row::Misfit { raw, reason, line } => self.misfits.push((raw, reason, line)),
        }
    }

    /// Returns what is left of a budget.
    fn limit(&self, budget: BatchBudget) -> Limit {
        Limit {
            rows: budget.rows_max.saturating_sub(self.read).max(1),
            bytes: budget.bytes_max.saturating_sub(self.bytes).max(1),
        }
    }

    /// Reads the next lines of JSON that have one shape; returns whether there are any.
    fn run(&mut self, text: &mut Text, lines: &mut Lines, data: &[&Column], budget: BatchBudget) -> bool {
        if text.is_at_end() {
            return false;
        }
        let limit = self.limit(budget);
        let Some(run) = lines.read_run(&text.text, text.at, limit, data, &mut self.columns) else {
            return false;
        };
        for (line, begin, end) in run.misfits {
            let number = text.lines + line as u64 + 1;
            self.take(json_line(text.text[begin..end].trim(), data, number));
        }
        self.read += run.lines;
        self.bytes += run.end - text.at;
        text.pass_lines(run.lines, run.end);
        true
    }

    /// Reads the next CSV rows; returns whether there are any.
    fn csv_rows(&mut self, text: &mut Text, records: &mut Records, data: &[&Column], budget: BatchBudget) -> bool {
        if text.skip_empty_lines() {
            return false;
        }
        let limit = self.limit(budget);
        let found = records.read(&text.text, text.at, limit, data, &mut self.columns);
        for from in found.misfits {
            let line = text.line_of(from);
            let (cells, _) = cells(&text.text, from, records.delimiter());
            self.take(csv_misfit(records, data, &cells, line));
        }
        self.read += found.rows;
        self.bytes += found.end - text.at;
        text.at = found.end;
        true
    }
}

/// Reads the header of CSV rows, where they have one.
fn open_rows(text: &mut Text, delimiter: u8, layout: &Layout) -> std::result::Result<Records, String> {
    let (names, found) = if layout.header {
        let (header, end) = cells(&text.text, text.at, delimiter);
        let names: Vec<String> = header.iter().map(|name| name.trim().to_owned()).collect();
        let found = header_cells(&names, layout)?;
        text.at = end;
        (names, found)
    } else {
        let names: Vec<String> = layout.data_columns().map(|column| column.field.name().clone()).collect();
        let found = (0..names.len()).map(Some).collect();
        (names, found)
    };
    Ok(Records::new(delimiter, layout.null.clone(), names, found))
}

/// Reads the next value of an array; returns its size with it.
fn array_value(text: &Text, values: &mut Values, data: &[&Column]) -> Option<(Row, usize)> {
    let from = values.at();
    let value = values.next(&text.text)?;
    Some((json_row(&value, data, values.line(), || value.to_string()), values.at() - from))
}

fn misfit_reason(column: &Column) -> String {
    format!("column `{}` holds no {}", column.field.name(), column_type_name(column.field.data_type()))
}

/// Returns the cell of each column, by the names of a header.
fn header_cells(names: &[String], layout: &Layout) -> std::result::Result<Vec<Option<usize>>, String> {
    if names.iter().all(String::is_empty) {
        return Err("it has no header".into());
    }
    let cell = |column: &Column| names.iter().position(|name| name == column.field.name());
    let cells: Vec<Option<usize>> = layout.data_columns().map(cell).collect();
    let lacking = layout.data_columns().zip(&cells).find(|(_, cell)| cell.is_none());
    match lacking {
        Some((column, _)) if !layout.may_lack => Err(format!("its header lacks the column `{}`", column.field.name())),
        _ if !cells.is_empty() && cells.iter().all(Option::is_none) => {
            Err("its header names no declared column".into())
        }
        _ => Ok(cells),
    }
}

/// Reads the next line that is not empty; returns its size with it.
fn line(text: &mut Text, lines: &mut Lines, data: &[&Column], columns: &mut Columns) -> Option<(Row, usize)> {
    while !text.is_at_end() {
        let bytes = text.text.as_bytes();
        let end = memchr::memchr(b'\n', &bytes[text.at..]).map_or(bytes.len(), |length| text.at + length);
        let begin = std::mem::replace(&mut text.at, end + 1);
        let number = text.pass_line(end);
        let found = &text.text[begin..end];
        if lines.read(found, data, columns).is_some() {
            return Some((Row::Read, found.len()));
        }
        // A line that is not plain, or holds a value that does not fit, is read and told the long way.
        if !found.trim().is_empty() {
            let found = found.trim();
            return Some((json_line(found, data, number), found.len()));
        }
    }
    None
}

/// Says why a row does not fit.
fn csv_misfit(records: &Records, data: &[&Column], cells: &[Cow<'_, str>], line: u64) -> Row {
    let raw = || records.raw(cells);
    if cells.len() != records.names().len() {
        let reason = format!("the row has {} cells instead of {}", cells.len(), records.names().len());
        return Row::Misfit { raw: raw(), reason, line };
    }
    let mut values = Vec::with_capacity(data.len());
    for (column, cell) in data.iter().zip(records.cells()) {
        let text = cell.and_then(|n| cells.get(n)).filter(|text| **text != *records.null());
        let Some(value) = text.map_or(Some(Cell::Null), |text| from_text(column.field.data_type(), text)) else {
            return Row::Misfit { raw: raw(), reason: misfit_reason(column), line };
        };
        values.push(value.into_owned());
    }
    Row::Fits(values)
}

fn json_line(text: &str, data: &[&Column], line: u64) -> Row {
    if let Some(column) = misfit(text, data) {
        return Row::Misfit { raw: text.to_owned(), reason: misfit_reason(column), line };
    }
    // What is no JSON at all is found out without a value being made of it.
    let is_broken = serde_json::from_str::<IgnoredAny>(text).is_err();
    match serde_json::from_str::<Value>(if is_broken { "" } else { text }) {
        Ok(value) => json_row(&value, data, line, || text.to_owned()),
        Err(_) => Row::Misfit { raw: line_as_json(text), reason: "the line is not JSON".into(), line },
    }
}

/// Returns a line that is no object as one.
fn line_as_json(text: &str) -> String {
    let mut raw = String::with_capacity(text.len() + text.len() / 4 + 16);
    raw.push_str("{\"_line\":");
    push_json_text(&mut raw, text);
    raw.push('}');
    raw
}

fn json_row(value: &Value, data: &[&Column], line: u64, raw: impl Fn() -> String) -> Row {
    let Value::Object(object) = value else {
        return Row::Misfit { raw: line_as_json(&raw()), reason: "the row is no JSON object".into(), line };
    };
    let mut values = Vec::with_capacity(data.len());
    for column in data {
        let value = object.get(column.field.name()).unwrap_or(&Value::Null);
        let cell = match value {
            Value::String(_) if column.json => Some(Cell::Text(value.to_string().into())),
            value => from_json(column.field.data_type(), value),
        };
        let Some(cell) = cell else {
            return Row::Misfit { raw: raw(), reason: misfit_reason(column), line };
        };
        values.push(cell.into_owned());
    }
    Row::Fits(values)
}
