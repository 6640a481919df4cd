//! The values of one column while it grows, in the form that Arrow holds.

use std::ops::Range;

use arrow::array::{ArrowPrimitiveType, BooleanArray, BooleanBufferBuilder, PrimitiveArray};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use lakehead_core::{Error, Result};

use crate::grid::Cells;

/// Returns the rows from `first` on that are not `odd`, those behind one another together.
fn fitting(first: usize, odd: &[bool]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut row = first;
    odd.split(|odd| *odd).map(move |rows| {
        let begin = row;
        row += rows.len() + 1;
        begin..begin + rows.len()
    })
}

/// Which values are none: nothing is noted before the first of them, nor once there are none any more.
#[derive(Default)]
struct Missing {
    valid: Option<BooleanBufferBuilder>,
    count: usize,
}

impl Missing {
    #[inline]
    fn present(&mut self) {
        if let Some(valid) = &mut self.valid {
            valid.append(true);
        }
    }

    fn present_all(&mut self, count: usize) {
        if let Some(valid) = &mut self.valid {
            valid.append_n(count, true);
        }
    }

    /// Notes a value that is none, behind `before` others.
    fn absent(&mut self, before: usize) {
        self.count += 1;
        let valid = self.valid.get_or_insert_with(|| {
            let mut valid = BooleanBufferBuilder::new(before + 1);
            valid.append_n(before, true);
            valid
        });
        valid.append(false);
    }

    fn truncate(&mut self, rows: usize) {
        let Some(valid) = &mut self.valid else { return };
        self.count -= (rows..valid.len()).filter(|row| !valid.get_bit(*row)).count();
        valid.truncate(rows);
        self.forget_none();
    }

    fn forget_none(&mut self) {
        if self.count == 0 {
            self.valid = None;
        }
    }

    /// Takes out the rows from `first` on that are `odd`.
    fn drop_odd(&mut self, first: usize, odd: &[bool]) {
        let Some(valid) = &mut self.valid else { return };
        // Mostly none but these are none.
        self.count -= (first..).zip(odd).filter(|(row, odd)| **odd && !valid.get_bit(*row)).count();
        if self.count > 0 {
            let mut kept = first;
            for (row, _) in (first..).zip(odd).filter(|(_, odd)| !**odd) {
                let value = valid.get_bit(row);
                valid.set_bit(kept, value);
                kept += 1;
            }
            valid.truncate(kept);
        }
        self.forget_none();
    }

    fn finish(self) -> Option<NullBuffer> {
        self.valid.map(|mut valid| NullBuffer::new(valid.finish())).filter(|nulls| nulls.null_count() > 0)
    }
}

/// Values of one size.
pub(crate) struct Values<T> {
    list: Vec<T>,
    missing: Missing,
}

impl<T: Copy + Default> Values<T> {
    pub(crate) fn new(rows: usize) -> Self {
        Self { list: Vec::with_capacity(rows), missing: Missing::default() }
    }

    #[inline]
    pub(crate) fn push(&mut self, value: T) {
        self.list.push(value);
        self.missing.present();
    }

    pub(crate) fn push_option(&mut self, value: Option<T>) {
        match value {
            Some(value) => self.push(value),
            None => {
                self.missing.absent(self.list.len());
                self.list.push(T::default());
            }
        }
    }

    /// Adds a value that is one or, as it says, is none.
    pub(crate) fn push_marked(&mut self, value: T, is_there: bool) {
        if is_there {
            self.missing.present();
        } else {
            self.missing.absent(self.list.len());
        }
        self.list.push(value);
    }

    pub(crate) fn get(&self, row: usize) -> Option<T> {
        self.list.get(row).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Returns the values from a row on, to be changed.
    pub(crate) fn rows_from(&mut self, first: usize) -> impl Iterator<Item = &mut T> {
        self.list.iter_mut().skip(first)
    }

    /// Returns the values, and which of them are none.
    pub(crate) fn finish_parts(self) -> (Vec<T>, Option<NullBuffer>) {
        (self.list, self.missing.finish())
    }

    pub(crate) fn truncate(&mut self, rows: usize) {
        self.list.truncate(rows);
        self.missing.truncate(rows);
    }

    /// Adds the values of cells from the row `from` on, as far as `read` knows how they are written; returns the row of the
    /// first that it does not, or that means NULL.
    #[inline]
    pub(crate) fn extend(
        &mut self,
        cells: &Cells<'_>,
        from: usize,
        read: impl Fn(&[u8], usize, usize) -> Option<T>,
    ) -> usize {
        let before = self.list.len();
        for (begin, end) in cells.places(from) {
            if cells.is_null(begin, end) {
                break;
            }
            let Some(value) = read(cells.bytes(), begin, end) else { break };
            self.list.push(value);
        }
        let count = self.list.len() - before;
        self.missing.present_all(count);
        from + count
    }

    /// Takes out the rows from `first` on that are `odd`.
    pub(crate) fn drop_odd(&mut self, first: usize, odd: &[bool]) {
        let mut kept = first;
        for rows in fitting(first, odd) {
            let count = rows.len();
            if rows.start > kept {
                self.list.copy_within(rows, kept);
            }
            kept += count;
        }
        self.list.truncate(kept);
        self.missing.drop_odd(first, odd);
    }

    pub(crate) fn finish<P: ArrowPrimitiveType<Native = T>>(self) -> PrimitiveArray<P>
    where
        T: arrow::datatypes::ArrowNativeType,
    {
        PrimitiveArray::new(ScalarBuffer::from(self.list), self.missing.finish())
    }
}

impl Values<bool> {
    pub(crate) fn finish_bool(self) -> BooleanArray {
        BooleanArray::new(BooleanBuffer::from(self.list), self.missing.finish())
    }
}

/// Bytes that a short text is copied with, so that each is one load and one store.
const SHORT_BYTES: usize = 16;

/// Texts behind one another.
pub(crate) struct Texts {
    bytes: Vec<u8>,
    /// Where each ends, behind a zero.
    ends: Vec<i32>,
    missing: Missing,
}

impl Texts {
    pub(crate) fn new(rows: usize) -> Self {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        Self { bytes: Vec::with_capacity(rows * 8), ends, missing: Missing::default() }
    }

    #[inline]
    pub(crate) fn push(&mut self, text: &[u8]) {
        self.push_part(text, 0, text.len());
    }

    /// Adds the text between two places.
    #[inline]
    pub(crate) fn push_part(&mut self, bytes: &[u8], begin: usize, end: usize) {
        self.append(bytes, begin, end);
        self.missing.present();
    }

    #[inline]
    fn append(&mut self, bytes: &[u8], begin: usize, end: usize) {
        let length = end - begin;
        match bytes.get(begin..).and_then(|rest| rest.first_chunk::<SHORT_BYTES>()) {
            Some(chunk) if length <= SHORT_BYTES => {
                let end = self.bytes.len() + length;
                self.bytes.extend_from_slice(chunk);
                self.bytes.truncate(end);
            }
            _ => self.bytes.extend_from_slice(&bytes[begin..end]),
        }
        self.end();
    }

    pub(crate) fn push_null(&mut self) {
        self.missing.absent(self.ends.len() - 1);
        self.end();
    }

    /// Adds the texts of cells from the row `from` on; returns the row of the first that has quotes or means NULL.
    pub(crate) fn extend(&mut self, cells: &Cells<'_>, from: usize) -> usize {
        let (before, bytes) = (self.ends.len(), cells.bytes());
        for (begin, end) in cells.places(from) {
            if cells.is_null(begin, end) || bytes.get(begin) == Some(&b'"') {
                break;
            }
            self.append(bytes, begin, end);
        }
        let count = self.ends.len() - before;
        self.missing.present_all(count);
        from + count
    }

    /// Takes out the rows from `first` on that are `odd`.
    pub(crate) fn drop_odd(&mut self, first: usize, odd: &[bool]) {
        let place = |end: i32| usize::try_from(end).unwrap_or_default();
        let (mut kept, mut length) = (first, place(self.ends[first]));
        for rows in fitting(first, odd) {
            let bytes = place(self.ends[rows.start])..place(self.ends[rows.end]);
            let (by, count) = (self.ends[rows.start] - self.ends[kept], rows.len());
            if rows.start > kept {
                self.ends.copy_within(rows.start + 1..rows.end + 1, kept + 1);
                self.ends[kept + 1..=kept + count].iter_mut().for_each(|end| *end -= by);
                self.bytes.copy_within(bytes.clone(), length);
            }
            kept += count;
            length += bytes.len();
        }
        self.missing.drop_odd(first, odd);
        self.truncate(kept);
    }

    #[inline]
    fn end(&mut self) {
        // A batch that grew too long is told when it ends.
        self.ends.push(i32::try_from(self.bytes.len()).unwrap_or(i32::MAX));
    }

    pub(crate) fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows + 1);
        let end = self.ends.last().map_or(0, |end| usize::try_from(*end).unwrap_or_default());
        self.bytes.truncate(end);
        self.missing.truncate(rows);
    }

    pub(crate) fn finish(self) -> Result<(OffsetBuffer<i32>, Buffer, Option<NullBuffer>)> {
        if i32::try_from(self.bytes.len()).is_err() {
            return Err(Error::bug("a batch holds more text than Arrow counts").with("bytes", self.bytes.len()));
        }
        let ends = OffsetBuffer::new(ScalarBuffer::from(self.ends));
        Ok((ends, Buffer::from_vec(self.bytes), self.missing.finish()))
    }
}
