//! The shape of a line of JSON: what stands between the values of its members. Lines that one program writes mostly have one
//! shape, so that their values are found by their places, many lines at a time, and read column after column.

use crate::columns::Columns;
use crate::grid::{Cells, Form};
use crate::marks::{self, WINDOW_BYTES};
use crate::members::{expect, place, space, text};
use crate::plain::{Plain, value, whole};
use crate::rows::Column;

/// The shape of a line with at least one member.
#[derive(Debug)]
pub(crate) struct Shape {
    /// What stands before each value, and behind the last one.
    between: Vec<Between>,
    values: Vec<Member>,
    /// The columns that no member is for.
    absent: Vec<usize>,
    /// Marks of a line, its end counted.
    marks: usize,
}

/// What stands between two values.
#[derive(Debug)]
struct Between {
    written: Box<[u8]>,
    /// The first mark in it, counted from the first of the line.
    mark: usize,
    /// Bytes before that mark, and from it on.
    before: u32,
    behind: u32,
}

#[derive(Debug)]
struct Member {
    form: Form<'static>,
    /// The column that it is for, where there is one.
    column: Option<usize>,
}

/// Lines that were read together.
#[derive(Debug)]
pub(crate) struct Run {
    /// How many, those that do not fit among them.
    pub(crate) lines: usize,
    /// Where they end.
    pub(crate) end: usize,
    /// Those that do not fit: which of the lines, and from where to where they go.
    pub(crate) misfits: Vec<(usize, usize, usize)>,
    /// Whether more lines have the shape, and some value of the next one is not plain.
    pub(crate) is_cut: bool,
}

/// Where the value of a member is.
struct Found {
    begin: usize,
    end: usize,
    form: Form<'static>,
    column: Option<usize>,
}

impl Shape {
    /// Returns the shape of a line; `None` where it is not plain, two members are for one column, or it is too long for many
    /// like it to be looked at together.
    pub(crate) fn of(line: &str, columns: &[&Column]) -> Option<Self> {
        if line.len() > WINDOW_BYTES {
            return None;
        }
        let found = members(line, columns)?;
        let bytes = line.as_bytes();
        let (mut between, mut from, mut counted, mut marks) = (Vec::new(), 0, 0, 0);
        for to in found.iter().map(|member| member.begin).chain([bytes.len()]) {
            let is_last = between.len() == found.len();
            let end: &[u8] = if is_last { b"\n" } else { b"" };
            let written = [&bytes[from..to], end].concat();
            marks += count_marks(&bytes[counted..from]);
            let before = written.iter().position(|byte| marks::Member::is(*byte))?;
            let (mark, behind) = (marks, marks::place(written.len() - before));
            between.push(Between { written: written.into(), mark, before: marks::place(before), behind });
            (counted, from) = (from, found.get(between.len() - 1).map_or(to, |member| member.end));
        }
        marks += count_marks(&bytes[counted..]) + 1;
        let absent =
            (0..columns.len()).filter(|place| found.iter().all(|member| member.column != Some(*place))).collect();
        let values = found.into_iter().map(|Found { form, column, .. }| Member { form, column }).collect();
        Some(Self { between, values, absent, marks })
    }

    /// Returns how many marks a line has, its end counted.
    pub(crate) fn marks(&self) -> usize {
        self.marks
    }

    /// Reads lines of this shape into `filling`, whose columns are `columns`: those from `at` on, whose marks these are, at most
    /// `most`, that begin before `limit`, as far as all their values are plain; a line with one that does not fit is left out.
    pub(crate) fn read(
        &self,
        text: &str,
        at: usize,
        marks: &[u32],
        (most, limit): (usize, usize),
        columns: &[&Column],
        filling: &mut Columns,
    ) -> Run {
        let shaped = self.lines(text.as_bytes(), at, marks, (most, limit));
        let (mut lines, mut odd) = (shaped, vec![false; shaped]);
        for (n, member) in self.values.iter().enumerate() {
            if lines == 0 {
                break;
            }
            let (behind, before) = (&self.between[n], &self.between[n + 1]);
            let cells = Cells {
                text,
                places: &marks[..lines * self.marks],
                stride: self.marks,
                begin: (behind.mark, behind.behind),
                end: (before.mark, before.before),
                form: member.form,
            };
            lines = match member.column {
                Some(place) => filling.extend_lines(place, columns[place], &cells, &mut odd),
                None => sound(&cells),
            };
        }
        self.absent.iter().for_each(|place| filling.extend_null(*place, lines));
        odd.truncate(lines);
        filling.end_lines(&odd);
        let end = |line: usize| marks[line * self.marks + self.marks - 1] as usize;
        let begin = |line: usize| line.checked_sub(1).map_or(at, |before| end(before) + 1);
        let misfits = (0..lines).filter(|line| odd[*line]).map(|line| (line, begin(line), end(line))).collect();
        Run { lines, end: begin(lines), misfits, is_cut: lines < shaped }
    }

    /// Returns how many lines have this shape, as far as it shows between their values.
    fn lines(&self, bytes: &[u8], at: usize, marks: &[u32], (most, limit): (usize, usize)) -> usize {
        let (mut count, mut begin) = (0, at);
        let first = &self.between[0];
        for line in marks.chunks_exact(self.marks).take(most) {
            let end = line[self.marks - 1];
            let is_begin = line[first.mark].wrapping_sub(first.before) as usize == begin;
            if begin >= limit || !is_begin || bytes.get(end as usize) != Some(&b'\n') {
                break;
            }
            count += 1;
            begin = end as usize + 1;
        }
        let mut behind = (first.mark, 0);
        for between in &self.between {
            count = between.agreeing(bytes, marks[..count * self.marks].chunks_exact(self.marks), behind);
            behind = (between.mark, between.behind);
        }
        count
    }
}

impl Between {
    /// Returns how many lines have this where their marks are, none of it before so many bytes behind another mark.
    fn agreeing<'a>(
        &self,
        bytes: &[u8],
        lines: impl Iterator<Item = &'a [u32]>,
        (other, behind): (usize, u32),
    ) -> usize {
        let mut count = 0;
        for line in lines {
            let begin = line[self.mark].wrapping_sub(self.before);
            let is_behind = other == self.mark || begin >= line[other].wrapping_add(behind);
            if !is_behind || !begins_with(bytes.get(begin as usize..).unwrap_or_default(), &self.written) {
                break;
            }
            count += 1;
        }
        count
    }
}

/// Compares word by word, the last one perhaps a second time in part: a call would cost more.
#[inline]
fn begins_with(bytes: &[u8], written: &[u8]) -> bool {
    let Some(found) = bytes.get(..written.len()) else { return false };
    let (Some(last), Some(found_last)) = (written.last_chunk::<8>(), found.last_chunk::<8>()) else {
        return found.iter().zip(written).all(|(found, byte)| found == byte);
    };
    let (words, _) = written.as_chunks::<8>();
    let (found_words, _) = found.as_chunks::<8>();
    found_last == last && words.iter().zip(found_words).all(|(word, found)| word == found)
}

/// Returns how many of the values of a member that no column is for are values of JSON, up to the first that is none.
fn sound(cells: &Cells<'_>) -> usize {
    if cells.form == Form::Text {
        return cells.rows();
    }
    (0..cells.rows()).take_while(|row| whole(cells.written(*row)).is_some()).count()
}

/// Returns the members of a line, one after another.
fn members(line: &str, columns: &[&Column]) -> Option<Vec<Found>> {
    let (bytes, mut found) = (line.as_bytes(), Vec::<Found>::new());
    let mut at = space(bytes, expect(bytes, space(bytes, 0), b'{')?);
    loop {
        let (name, behind) = text(line, at)?;
        let begin = space(bytes, expect(bytes, space(bytes, behind), b':')?);
        let (read, end) = value(line, begin)?;
        let column = place(columns, name);
        if column.is_some() && found.iter().any(|member| member.column == column) {
            return None;
        }
        found.push(match read {
            Plain::Text(_) => Found { begin: begin + 1, end: end - 1, form: Form::Text, column },
            _ => Found { begin, end, form: Form::Bare, column },
        });
        at = space(bytes, end);
        match bytes.get(at)? {
            b',' => at = space(bytes, at + 1),
            b'}' if space(bytes, at + 1) == bytes.len() => return Some(found),
            _ => return None,
        }
    }
}

fn count_marks(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| marks::Member::is(**byte)).count()
}
