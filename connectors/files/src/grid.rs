//! The cells of CSV rows, found many rows at a time, so that column after column is read and not row after row. A row is what
//! the `csv` crate takes for one: it ends with `\n`, `\r` or both, empty lines are none, and a cell that begins with a quote ends
//! behind the next one that is not doubled.

use crate::marks::{self, WINDOW_BYTES, place};
use crate::scan::cell_end;

/// Where the cells of some rows are.
#[derive(Debug)]
pub(crate) struct Grid {
    delimiter: u8,
    /// Cells that each row has.
    width: usize,
    /// Places of what may end a cell or begin a quoted one, behind one another.
    marks: Vec<u32>,
    /// For each row the place before it, then those where its cells end.
    places: Vec<u32>,
    /// Where rows begin that have another number of cells.
    odd: Vec<usize>,
    /// Where the rows end.
    end: usize,
}

/// How many rows, and bytes of them, may be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

impl Grid {
    pub(crate) fn new(delimiter: u8, width: usize) -> Self {
        Self { delimiter, width, marks: Vec::new(), places: Vec::new(), odd: Vec::new(), end: 0 }
    }

    pub(crate) fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// Returns where the rows end that were found last.
    pub(crate) fn end(&self) -> usize {
        self.end
    }

    /// Returns where the rows begin that have another number of cells.
    pub(crate) fn odd(&self) -> &[usize] {
        &self.odd
    }

    /// Returns how many rows were found that have as many cells as they should.
    pub(crate) fn rows(&self) -> usize {
        self.places.len() / (self.width + 1)
    }

    /// Returns where a row begins.
    pub(crate) fn row_begin(&self, row: usize) -> usize {
        self.places.get(row * (self.width + 1)).map_or(0, |before| before.wrapping_add(1) as usize)
    }

    /// Returns the cells of one column.
    pub(crate) fn cells<'a>(&'a self, text: &'a str, cell: usize, null: &'a str) -> Cells<'a> {
        let (begin, end) = ((cell, 1), (cell + 1, 0));
        Cells { text, places: &self.places, stride: self.width + 1, begin, end, form: Form::Cell { null } }
    }

    /// Finds the next rows from `at` on, at least one where there is one; `bytes` end with a row.
    pub(crate) fn find(&mut self, bytes: &[u8], at: usize, limit: Limit) {
        let begin = row_start(bytes, at);
        let looked = bytes.len().min(begin.saturating_add(WINDOW_BYTES));
        marks::look(marks::Cell(self.delimiter), bytes, begin, looked, &mut self.marks);
        self.places.clear();
        self.odd.clear();
        let (mut next, mut row, mut count) = (0, begin, 0);
        while row < bytes.len() && count < limit.rows && row - begin < limit.bytes {
            while self.marks.get(next).is_some_and(|mark| (*mark as usize) < row) {
                next += 1;
            }
            let end = match self.marks.get(next..next + self.width) {
                Some(marks) if is_row(bytes, marks, self.delimiter) => {
                    self.places.push(place(row).wrapping_sub(1));
                    self.places.extend_from_slice(marks);
                    next += self.width;
                    marks.last().map_or(row, |mark| *mark as usize)
                }
                None if looked < bytes.len() && count > 0 => break,
                _ => self.walk(bytes, row),
            };
            count += 1;
            row = row_start(bytes, end);
        }
        self.end = row;
    }

    /// Passes over a row cell by cell; returns where it ends.
    fn walk(&mut self, bytes: &[u8], row: usize) -> usize {
        let (begin, mut at, mut count) = (self.places.len(), row, 0);
        self.places.push(place(row).wrapping_sub(1));
        loop {
            let end = end_of_cell(bytes, at, self.delimiter);
            count += 1;
            if count <= self.width {
                self.places.push(place(end));
            }
            if bytes.get(end) != Some(&self.delimiter) {
                if count != self.width {
                    self.places.truncate(begin);
                    self.odd.push(row);
                }
                return end;
            }
            at = end + 1;
        }
    }
}

/// The cells of one column, row by row.
#[derive(Clone, Copy)]
pub(crate) struct Cells<'a> {
    pub(crate) text: &'a str,
    /// Places by which cells are found, as many for each row.
    pub(crate) places: &'a [u32],
    pub(crate) stride: usize,
    /// Which of a row's places a cell begins behind, and how many bytes behind.
    pub(crate) begin: (usize, u32),
    /// Which of a row's places a cell ends before, and how many bytes before.
    pub(crate) end: (usize, u32),
    pub(crate) form: Form<'a>,
}

/// How the values of cells are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form<'a> {
    /// As CSV, where a text means NULL.
    Cell { null: &'a str },
    /// As the text of a JSON string without escapes.
    Text,
    /// As any other value of JSON.
    Bare,
}

impl<'a> Cells<'a> {
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    /// Returns how many there are.
    pub(crate) fn rows(&self) -> usize {
        self.places.len() / self.stride
    }

    /// Returns where each cell begins and ends, from a row on.
    #[inline]
    pub(crate) fn places(&self, row: usize) -> impl Iterator<Item = (usize, usize)> + 'a {
        let ((begin, behind), (end, before)) = (self.begin, self.end);
        let rows = self.places[row * self.stride..].chunks_exact(self.stride);
        rows.map(move |row| (row[begin].wrapping_add(behind) as usize, row[end].wrapping_sub(before) as usize))
    }

    /// Returns whether a cell without quotes means NULL.
    #[inline]
    pub(crate) fn is_null(&self, begin: usize, end: usize) -> bool {
        match self.form {
            Form::Cell { null } => end - begin == null.len() && self.bytes()[begin..end] == *null.as_bytes(),
            Form::Text | Form::Bare => false,
        }
    }

    /// Returns the cell of a row as it is written, quotes with it.
    pub(crate) fn written(&self, row: usize) -> &'a str {
        self.places(row).next().map_or("", |(begin, end)| &self.text[begin..end])
    }
}

/// Returns whether the marks are the ends of all cells of one row.
#[inline]
fn is_row(bytes: &[u8], marks: &[u32], delimiter: u8) -> bool {
    let byte = |mark: &u32| bytes[*mark as usize];
    let Some((last, others)) = marks.split_last() else { return false };
    let is_plain = others.iter().fold(true, |all, mark| all & (byte(mark) == delimiter));
    // Where quotes part cells, none of them is plain.
    is_plain && delimiter != b'"' && matches!(byte(last), b'\n' | b'\r')
}

/// Returns where the first row from `at` on begins, behind line ends; the end of the text where there is none.
#[inline]
pub(crate) fn row_start(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// Returns where the cell that begins at `at` ends.
#[inline]
pub(crate) fn end_of_cell(bytes: &[u8], at: usize, delimiter: u8) -> usize {
    let mut from = at + 1;
    if bytes.get(at) != Some(&b'"') {
        return cell_end(bytes, at, delimiter);
    }
    loop {
        let quote = bytes.get(from..).and_then(|rest| memchr::memchr(b'"', rest)).map_or(bytes.len(), |n| from + n);
        if bytes.get(quote + 1) != Some(&b'"') {
            // What stands behind the last quote belongs to the cell.
            return cell_end(bytes, (quote + 1).min(bytes.len()), delimiter);
        }
        from = quote + 2;
    }
}
