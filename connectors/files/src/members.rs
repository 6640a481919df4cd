//! JSON objects, one a line, read where they lie and straight into columns. Members mostly come as they came in the line
//! before, so that a name is compared and not looked for.

use std::collections::HashMap;

use crate::columns::Columns;
use crate::plain::{Plain, from_plain, value};
use crate::rows::Column;
use crate::scan::string_end;

/// Names that are remembered: more than any table has columns; a file may have as many names as it has rows.
const NAMES_MAX: usize = 4096;

/// The names of members seen so far.
#[derive(Debug)]
pub(crate) struct Members {
    /// The first stands for the beginning of a line.
    known: Vec<Member>,
    by_name: HashMap<Box<str>, usize>,
}

#[derive(Debug)]
struct Member {
    /// The name as it was last written, its quotes and the colon with it.
    written: Box<[u8]>,
    /// The place of its column, where it has one.
    column: Option<usize>,
    /// The member that last came behind it.
    next: usize,
}

impl Members {
    pub(crate) fn new() -> Self {
        Self { known: vec![Member { written: [].into(), column: None, next: 0 }], by_name: HashMap::new() }
    }

    /// Reads a line into a new row of `filling`, whose columns are `columns`. `None` where another reader is to look at the
    /// line; `filling` is then as it was.
    #[inline]
    pub(crate) fn read(&mut self, line: &str, columns: &[&Column], filling: &mut Columns) -> Option<()> {
        match self.read_row(line, columns, filling) {
            Some(()) => {
                filling.end_row();
                Some(())
            }
            None => {
                filling.drop_row();
                None
            }
        }
    }

    fn read_row(&mut self, line: &str, columns: &[&Column], filling: &mut Columns) -> Option<()> {
        let bytes = line.as_bytes();
        let mut at = space(bytes, expect(bytes, space(bytes, 0), b'{')?);
        let mut member = 0;
        if bytes.get(at) == Some(&b'}') {
            return (space(bytes, at + 1) == bytes.len()).then_some(());
        }
        loop {
            let expected = &self.known[self.known[member].next];
            let column = if expected.written.len() > 1 && begins_with(&bytes[at..], &expected.written) {
                at += expected.written.len();
                member = self.known[member].next;
                expected.column
            } else {
                let (name, behind) = text(line, at)?;
                let colon = expect(bytes, space(bytes, behind), b':')?;
                member = self.look_up(member, name, &bytes[at..colon], columns);
                at = colon;
                if member == 0 { place(columns, name) } else { self.known[member].column }
            };
            at = space(bytes, at);
            at = match column {
                Some(place) => cell(line, at, place, columns[place], filling)?,
                None => value(line, at)?.1,
            };
            at = space(bytes, at);
            match bytes.get(at)? {
                b',' => at = space(bytes, at + 1),
                b'}' => return (space(bytes, at + 1) == bytes.len()).then_some(()),
                _ => return None,
            }
        }
    }

    /// Returns the member of a name, and remembers that it came behind `before`; 0 where there are too many names.
    #[cold]
    fn look_up(&mut self, before: usize, name: &str, written: &[u8], columns: &[&Column]) -> usize {
        let found = match self.by_name.get(name) {
            Some(found) => *found,
            None if self.known.len() > NAMES_MAX => return 0,
            None => {
                self.known.push(Member { written: [].into(), column: place(columns, name), next: 0 });
                self.by_name.insert(name.into(), self.known.len() - 1);
                self.known.len() - 1
            }
        };
        if *self.known[found].written != *written {
            self.known[found].written = written.into();
        }
        self.known[before].next = found;
        found
    }
}

/// Returns the first of `columns` whose value in a line is none of its type; `None` where all are, or the line is not plain.
pub(crate) fn misfit<'c>(line: &str, columns: &[&'c Column]) -> Option<&'c Column> {
    let mut found: Vec<Option<Plain<'_>>> = columns.iter().map(|_| None).collect();
    let bytes = line.as_bytes();
    let mut at = space(bytes, expect(bytes, space(bytes, 0), b'{')?);
    loop {
        let (name, behind) = text(line, at)?;
        at = space(bytes, expect(bytes, space(bytes, behind), b':')?);
        let (read, behind) = value(line, at)?;
        if let Some(place) = place(columns, name)
            && found[place].replace(read).is_some()
        {
            return None;
        }
        at = space(bytes, behind);
        match bytes.get(at)? {
            b',' => at = space(bytes, at + 1),
            b'}' if space(bytes, at + 1) == bytes.len() => break,
            _ => return None,
        }
    }
    let fits =
        |column: &Column, found: Option<Plain<'_>>| found.is_none_or(|found| from_plain(column, found).is_some());
    columns.iter().zip(found).find_map(|(column, found)| (!fits(column, found)).then_some(*column))
}

/// Compares word by word: names are short, and a call would cost more than it does.
#[inline]
fn begins_with(bytes: &[u8], name: &[u8]) -> bool {
    let Some(found) = bytes.get(..name.len()) else { return false };
    let (words, rest) = name.as_chunks::<8>();
    let (found_words, found_rest) = found.as_chunks::<8>();
    words.iter().zip(found_words).all(|(word, found)| u64::from_le_bytes(*word) == u64::from_le_bytes(*found))
        && rest.iter().zip(found_rest).all(|(byte, found)| byte == found)
}

pub(crate) fn place(columns: &[&Column], name: &str) -> Option<usize> {
    columns.iter().position(|column| column.field.name() == name)
}

/// Reads one value into its column and returns where it ends.
#[inline]
fn cell(line: &str, at: usize, place: usize, column: &Column, filling: &mut Columns) -> Option<usize> {
    let bytes = line.as_bytes();
    match *bytes.get(at)? {
        b'"' => {
            if let Some(end) = filling.read(place, bytes, at + 1, |byte| byte == b'"') {
                return (bytes.get(end) == Some(&b'"')).then_some(end + 1);
            }
            let end = string_end(bytes, at + 1);
            if bytes.get(end) != Some(&b'"') {
                return None;
            }
            let (from, to) = if column.json { (at, end + 1) } else { (at + 1, end) };
            if filling.put_text(place, bytes, from, to).is_none() {
                filling.put(place, from_plain(column, Plain::Text(&line[at + 1..end]))?)?;
            }
            return Some(end + 1);
        }
        // Zeros before a number are none of JSON's.
        b'0' if bytes.get(at + 1).is_some_and(u8::is_ascii_digit) => return None,
        b'-' if bytes.get(at + 1) == Some(&b'0') => {}
        b'0'..=b'9' | b'-' => {
            let is_end = |byte| matches!(byte, b',' | b'}' | b' ' | b'\t' | b'\r');
            if let Some(end) = filling.read_number(place, bytes, at, is_end) {
                return Some(end);
            }
        }
        _ => {}
    }
    let (found, end) = value(line, at)?;
    filling.put(place, from_plain(column, found)?)?;
    Some(end)
}

pub(crate) fn space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
        at += 1;
    }
    at
}

pub(crate) fn expect(bytes: &[u8], at: usize, byte: u8) -> Option<usize> {
    (*bytes.get(at)? == byte).then_some(at + 1)
}

/// Reads a string without escapes; returns it and where it ends.
pub(crate) fn text(line: &str, at: usize) -> Option<(&str, usize)> {
    let bytes = line.as_bytes();
    let from = expect(bytes, at, b'"')?;
    let end = string_end(bytes, from);
    Some((&line[from..end], expect(bytes, end, b'"')?))
}
