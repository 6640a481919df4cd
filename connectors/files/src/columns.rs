//! Columns that are filled row by row, each in the form that Arrow holds.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, ListArray, StringArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, FieldRef, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use lakehead_core::{Error, Result};

use crate::cell::{Cell, from_text, to_array};
use crate::grid::{Cells, Form};
use crate::plain::of_cell;
use crate::records::content;
use crate::rows::Column;
use crate::scan::{self, POWERS};
use crate::values::{Texts, Values};

/// The columns of a batch under way.
pub(crate) struct Columns {
    list: Vec<Filling>,
    rows: usize,
    /// The row, counted from one, for which each column last got a value.
    rows_of: Vec<usize>,
    /// Columns of the row under way that have their value.
    filled: usize,
}

impl std::fmt::Debug for Columns {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Columns").field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// A column under way: its values, and which of them are none.
enum Filling {
    Bool(Values<bool>),
    Short(Values<i16>),
    Int(Values<i32>),
    Long(Values<i64>),
    Float(Values<f32>),
    Double(Values<f64>),
    Decimal(Values<i128>, Digits),
    Date(Values<i32>),
    Time(Values<i64>),
    Timestamp(Values<i64>, DataType),
    Text(Texts),
    Bytes(Texts),
    List(Lists),
    /// What no file can be read into: told when the column ends.
    Cells(Vec<Cell<'static>>, DataType),
}

/// Lists behind one another.
struct Lists {
    items: Box<Filling>,
    item: FieldRef,
    /// How many items there are up to the end of each list, which is not there where it is `None`.
    ends: Values<i32>,
    count: usize,
}

impl Lists {
    fn push(&mut self, list: Option<Vec<Cell<'_>>>) {
        let is_there = list.is_some();
        for cell in list.into_iter().flatten() {
            self.items.push(cell);
            self.count += 1;
        }
        // A batch that grew too long is told when it ends.
        let end = i32::try_from(self.count).unwrap_or(i32::MAX);
        self.ends.push_marked(end, is_there);
    }

    /// Adds lists of texts, as far as these are written plainly, from the row `from` on; returns the row of the first that is not.
    fn extend_texts(&mut self, cells: &Cells<'_>, from: usize) -> usize {
        let Filling::Text(texts) = &mut *self.items else { return from };
        let mut row = from;
        for (begin, end) in cells.places(from) {
            let Some(count) = plain_texts(cells.bytes(), begin, end, texts) else {
                texts.truncate(self.count);
                break;
            };
            self.count += count;
            self.ends.push(i32::try_from(self.count).unwrap_or(i32::MAX));
            row += 1;
        }
        row
    }

    /// Returns how many items there are in the first lists.
    fn items_of(&self, lists: usize) -> usize {
        lists
            .checked_sub(1)
            .and_then(|last| self.ends.get(last))
            .map_or(0, |end| usize::try_from(end).unwrap_or_default())
    }

    fn truncate(&mut self, lists: usize) {
        self.count = self.items_of(lists.min(self.ends.len()));
        self.items.truncate(self.count);
        self.ends.truncate(lists);
    }

    /// Takes out the lists from `first` on that are `odd`, and their items.
    fn drop_odd(&mut self, first: usize, odd: &[bool]) {
        let from = self.items_of(first);
        let (mut items_odd, mut begin, mut dropped) = (Vec::with_capacity(self.count - from), from, 0);
        for (end, odd) in self.ends.rows_from(first).zip(odd) {
            let items = usize::try_from(*end).unwrap_or_default() - begin;
            begin += items;
            items_odd.resize(items_odd.len() + items, *odd);
            dropped += if *odd { items } else { 0 };
            *end = i32::try_from(begin - dropped).unwrap_or(i32::MAX);
        }
        self.ends.drop_odd(first, odd);
        self.items.drop_odd(from, &items_odd);
        self.count -= dropped;
    }

    fn finish(self) -> Result<ArrayRef> {
        if i32::try_from(self.count).is_err() {
            return Err(Error::bug("a batch holds more items of lists than Arrow counts").with("items", self.count));
        }
        let (ends, nulls) = self.ends.finish_parts();
        let ends: Vec<i32> = std::iter::once(0).chain(ends).collect();
        let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
        Ok(Arc::new(ListArray::try_new(self.item, offsets, self.items.finish()?, nulls)?))
    }
}

/// Adds the texts of a list, all the bytes between two places, that has no spaces and nothing but texts without escapes; returns how many.
/// `None` where it is written in another way; some may be there then.
fn plain_texts(bytes: &[u8], begin: usize, end: usize, texts: &mut Texts) -> Option<usize> {
    if bytes.get(begin..end)? == b"[]" {
        return Some(0);
    }
    let (mut at, mut count, mut before) = (begin, 0, b'[');
    loop {
        if bytes.get(at) != Some(&before) || bytes.get(at + 1) != Some(&b'"') {
            return None;
        }
        let behind = scan::string_end(bytes, at + 2);
        if bytes.get(behind) != Some(&b'"') || behind >= end {
            return None;
        }
        texts.push_part(bytes, at + 2, behind);
        (at, count, before) = (behind + 1, count + 1, b',');
        if at + 1 == end && bytes.get(at) == Some(&b']') {
            return Some(count);
        }
    }
}

/// The digits of a decimal column.
struct Digits {
    data_type: DataType,
    scale: usize,
    /// The least number that is too large.
    bound: i128,
}

impl Digits {
    /// Returns a number in smallest units; `None` where the column may not hold it.
    #[inline]
    fn of(&self, number: scan::Number) -> Option<i128> {
        let more = *POWERS.get(self.scale.checked_sub(number.behind)?)?;
        let value = i128::from(number.digits) * i128::from(more);
        (value.abs() < self.bound).then_some(value)
    }
}

impl Columns {
    /// Begins columns of these types, with room for so many rows.
    pub(crate) fn new<'a>(types: impl Iterator<Item = &'a DataType>, rows: usize) -> Self {
        let list: Vec<Filling> = types.map(|data_type| Filling::new(data_type, rows)).collect();
        Self { rows_of: vec![0; list.len()], list, rows: 0, filled: 0 }
    }

    /// Adds a row that was read for the types, and empties `row`.
    pub(crate) fn push(&mut self, row: &mut Vec<Cell<'_>>) {
        for (column, cell) in self.list.iter_mut().zip(row.drain(..)) {
            column.push(cell);
        }
        self.rows += 1;
    }

    /// Adds a value to the row under way; `None` where the row has one of that column.
    #[inline]
    pub(crate) fn put(&mut self, column: usize, cell: Cell<'_>) -> Option<()> {
        self.open(column)?.push(cell);
        self.note(column);
        Some(())
    }

    /// Adds the text between two places to the row under way, where the column holds texts; `None` else.
    #[inline]
    pub(crate) fn put_text(&mut self, column: usize, bytes: &[u8], begin: usize, end: usize) -> Option<()> {
        let Filling::Text(texts) = self.open(column)? else { return None };
        texts.push_part(bytes, begin, end);
        self.note(column);
        Some(())
    }

    /// Adds the number or time that begins at `at` and ends before a byte for which `is_end` holds, or with the text; returns
    /// where it ends. `None` where nothing was added, for it is written in another way.
    #[inline]
    pub(crate) fn read(
        &mut self,
        column: usize,
        bytes: &[u8],
        at: usize,
        is_end: impl Fn(u8) -> bool,
    ) -> Option<usize> {
        let Filling::Timestamp(values, DataType::Timestamp(_, Some(_))) = self.open(column)? else {
            return self.read_number(column, bytes, at, is_end);
        };
        let (micros, end) = scan::timestamp(bytes, at)?;
        if bytes.get(end).is_some_and(|byte| !is_end(*byte)) {
            return None;
        }
        values.push(micros);
        self.note(column);
        Some(end)
    }

    /// The same for numbers alone.
    #[inline]
    pub(crate) fn read_number(
        &mut self,
        column: usize,
        bytes: &[u8],
        at: usize,
        is_end: impl Fn(u8) -> bool,
    ) -> Option<usize> {
        let filling = self.open(column)?;
        if !filling.is_numeric() {
            return None;
        }
        let (number, end) = scan::number(bytes, at)?;
        if bytes.get(end).is_some_and(|byte| !is_end(*byte)) {
            return None;
        }
        filling.push_number(number)?;
        self.note(column);
        Some(end)
    }

    /// Returns a column that the row under way has no value of.
    #[inline]
    fn open(&mut self, column: usize) -> Option<&mut Filling> {
        if *self.rows_of.get(column)? > self.rows { None } else { self.list.get_mut(column) }
    }

    #[inline]
    fn note(&mut self, column: usize) {
        self.rows_of[column] = self.rows + 1;
        self.filled += 1;
    }

    /// Ends the row under way: columns that got no value are NULL.
    #[inline]
    pub(crate) fn end_row(&mut self) {
        if self.filled < self.list.len() {
            for (column, _) in self.list.iter_mut().zip(&self.rows_of).filter(|(_, row)| **row <= self.rows) {
                column.push(Cell::Null);
            }
        }
        self.filled = 0;
        self.rows += 1;
    }

    /// Takes back what the row under way has got.
    pub(crate) fn drop_row(&mut self) {
        for (column, row) in self.list.iter_mut().zip(&mut self.rows_of) {
            column.truncate(self.rows);
            *row = (*row).min(self.rows);
        }
        self.filled = 0;
    }

    /// Adds the cells of a column in new rows; notes those rows whose cell is no value of its type.
    pub(crate) fn extend(&mut self, column: usize, data_type: &DataType, cells: &Cells<'_>, odd: &mut [bool]) {
        if let Some(column) = self.list.get_mut(column) {
            column.extend(data_type, cells, odd);
        }
    }

    /// Adds the values of a column in new lines, as far as they are plain; returns how many. Notes those lines whose value is none of
    /// its type.
    pub(crate) fn extend_lines(&mut self, place: usize, column: &Column, cells: &Cells<'_>, odd: &mut [bool]) -> usize {
        self.list.get_mut(place).map_or(0, |filling| filling.extend_lines(column, cells, odd))
    }

    /// Ends new lines, of which all columns have got their values: those that are `odd` are taken out again, and what the columns
    /// have got of later ones.
    pub(crate) fn end_lines(&mut self, odd: &[bool]) {
        let rows = self.rows + odd.len();
        self.list.iter_mut().for_each(|column| column.truncate(rows));
        self.end_rows(odd);
    }

    /// Adds NULL to a column in so many new rows.
    pub(crate) fn extend_null(&mut self, column: usize, rows: usize) {
        if let Some(column) = self.list.get_mut(column) {
            (0..rows).for_each(|_| column.push(Cell::Null));
        }
    }

    /// Ends new rows, of which all columns have got their cells; those that are `odd` are taken out again.
    pub(crate) fn end_rows(&mut self, odd: &[bool]) {
        let dropped = odd.iter().filter(|odd| **odd).count();
        if dropped > 0 {
            self.list.iter_mut().for_each(|column| column.drop_odd(self.rows, odd));
        }
        self.rows += odd.len() - dropped;
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn finish(self) -> Result<Vec<ArrayRef>> {
        self.list.into_iter().map(Filling::finish).collect()
    }
}

impl Filling {
    fn new(data_type: &DataType, rows: usize) -> Self {
        match data_type {
            DataType::Boolean => Self::Bool(Values::new(rows)),
            DataType::Int16 => Self::Short(Values::new(rows)),
            DataType::Int32 => Self::Int(Values::new(rows)),
            DataType::Int64 => Self::Long(Values::new(rows)),
            DataType::Float32 => Self::Float(Values::new(rows)),
            DataType::Float64 => Self::Double(Values::new(rows)),
            DataType::Decimal128(precision, scale) => {
                let bound = 10_i128.checked_pow((*precision).into()).unwrap_or(i128::MAX);
                let scale = usize::try_from(*scale).unwrap_or(usize::MAX);
                Self::Decimal(Values::new(rows), Digits { data_type: data_type.clone(), scale, bound })
            }
            DataType::Date32 => Self::Date(Values::new(rows)),
            DataType::Time64(TimeUnit::Microsecond) => Self::Time(Values::new(rows)),
            DataType::Timestamp(TimeUnit::Microsecond, _) => Self::Timestamp(Values::new(rows), data_type.clone()),
            DataType::Utf8 => Self::Text(Texts::new(rows)),
            DataType::Binary => Self::Bytes(Texts::new(rows)),
            DataType::List(item) => {
                let items = Box::new(Self::new(item.data_type(), rows));
                Self::List(Lists { items, item: Arc::clone(item), ends: Values::new(rows), count: 0 })
            }
            other => Self::Cells(Vec::new(), other.clone()),
        }
    }

    fn is_numeric(&self) -> bool {
        matches!(
            self,
            Self::Short(_) | Self::Int(_) | Self::Long(_) | Self::Float(_) | Self::Double(_) | Self::Decimal(..)
        )
    }

    /// Adds a number that the type holds exactly; `None` where nothing was added.
    #[inline]
    fn push_number(&mut self, number: scan::Number) -> Option<()> {
        let whole = (number.behind == 0).then_some(number.digits);
        match self {
            Self::Long(values) => values.push(whole?),
            Self::Int(values) => values.push(i32::try_from(whole?).ok()?),
            Self::Short(values) => values.push(i16::try_from(whole?).ok()?),
            Self::Double(values) => values.push(number.double()?),
            Self::Float(values) => values.push(number.double()? as f32),
            Self::Decimal(values, digits) => values.push(digits.of(number)?),
            _ => return None,
        }
        Some(())
    }

    fn push(&mut self, cell: Cell<'_>) {
        let whole = if let Cell::Whole(number) = cell { Some(number) } else { None };
        // A whole number was read for the column's type, so that it is in its bounds.
        let long = || whole.map(|number| i64::try_from(number).unwrap_or_default());
        let int = || whole.map(|number| i32::try_from(number).unwrap_or_default());
        let double = if let Cell::Double(value) = cell { Some(value) } else { None };
        match self {
            Self::Bool(values) => values.push_option(if let Cell::Bool(value) = cell { Some(value) } else { None }),
            Self::Short(values) => values.push_option(whole.map(|number| i16::try_from(number).unwrap_or_default())),
            Self::Int(values) | Self::Date(values) => values.push_option(int()),
            Self::Long(values) | Self::Time(values) | Self::Timestamp(values, _) => values.push_option(long()),
            Self::Decimal(values, _) => values.push_option(whole),
            Self::Float(values) => values.push_option(double.map(|value| value as f32)),
            Self::Double(values) => values.push_option(double),
            Self::Text(texts) => match &cell {
                Cell::Text(text) => texts.push(text.as_bytes()),
                _ => texts.push_null(),
            },
            Self::Bytes(texts) => match &cell {
                Cell::Bytes(bytes) => texts.push(bytes),
                _ => texts.push_null(),
            },
            Self::List(lists) => lists.push(if let Cell::List(items) = cell { Some(items) } else { None }),
            Self::Cells(cells, _) => cells.push(cell.into_owned()),
        }
    }

    /// Adds cells, NULL where one is no value of the type.
    fn extend(&mut self, data_type: &DataType, cells: &Cells<'_>, odd: &mut [bool]) {
        let mut row = 0;
        loop {
            row = self.extend_plain(cells, row);
            let Some(odd) = odd.get_mut(row) else { return };
            let content = content(cells.written(row));
            let is_null = cells.form == Form::Cell { null: &content };
            let found = if is_null { Some(Cell::Null) } else { from_text(data_type, &content) };
            *odd |= found.is_none();
            self.push(found.unwrap_or(Cell::Null));
            row += 1;
        }
    }

    /// Adds values of JSON, as far as they are plain, NULL where one is none of the type; returns how many.
    fn extend_lines(&mut self, column: &Column, cells: &Cells<'_>, odd: &mut [bool]) -> usize {
        let (mut row, rows) = (0, cells.rows());
        // A text that is kept as JSON keeps its quotes.
        let is_plain = !(column.json && cells.form == Form::Text);
        loop {
            if is_plain {
                row = self.extend_plain(cells, row);
            }
            if row >= rows {
                return rows;
            }
            let Some(found) = of_cell(column, cells.written(row), cells.form) else { return row };
            odd[row] |= found.is_none();
            self.push(found.unwrap_or(Cell::Null));
            row += 1;
        }
    }

    /// Adds cells from the row `from` on, as far as they are written plainly; returns the row of the first that is not.
    fn extend_plain(&mut self, cells: &Cells<'_>, from: usize) -> usize {
        use scan::{bool_between, has_zeros, number_between, timestamp, whole_between};
        // Zeros before a number are none of JSON's.
        let is_bare = cells.form == Form::Bare;
        let odd = |b: &[u8], at| is_bare && has_zeros(b, at);
        let whole = |b: &[u8], at, to| if odd(b, at) { None } else { whole_between(b, at, to) };
        let number = |b: &[u8], at, to| if odd(b, at) { None } else { number_between(b, at, to) };
        match self {
            Self::Bool(values) if cells.form != Form::Text => values.extend(cells, from, bool_between),
            Self::Short(values) => values.extend(cells, from, |b, at, to| whole(b, at, to)?.try_into().ok()),
            Self::Int(values) => values.extend(cells, from, |b, at, to| whole(b, at, to)?.try_into().ok()),
            Self::Long(values) => values.extend(cells, from, whole),
            Self::Float(values) => {
                values.extend(cells, from, |b, at, to| number(b, at, to)?.double().map(|number| number as f32))
            }
            Self::Double(values) => values.extend(cells, from, |b, at, to| number(b, at, to)?.double()),
            Self::Decimal(values, digits) => values.extend(cells, from, |b, at, to| digits.of(number(b, at, to)?)),
            Self::Timestamp(values, DataType::Timestamp(_, Some(_))) if !is_bare => {
                values.extend(cells, from, |b, at, to| timestamp(b, at).filter(|(_, end)| *end == to).map(|(at, _)| at))
            }
            Self::Text(texts) if !is_bare => texts.extend(cells, from),
            Self::List(lists) if is_bare => lists.extend_texts(cells, from),
            _ => from,
        }
    }

    /// Takes out the rows from `first` on that are `odd`.
    fn drop_odd(&mut self, first: usize, odd: &[bool]) {
        match self {
            Self::Bool(values) => values.drop_odd(first, odd),
            Self::Short(values) => values.drop_odd(first, odd),
            Self::Int(values) | Self::Date(values) => values.drop_odd(first, odd),
            Self::Long(values) | Self::Time(values) | Self::Timestamp(values, _) => values.drop_odd(first, odd),
            Self::Float(values) => values.drop_odd(first, odd),
            Self::Double(values) => values.drop_odd(first, odd),
            Self::Decimal(values, _) => values.drop_odd(first, odd),
            Self::Text(texts) | Self::Bytes(texts) => texts.drop_odd(first, odd),
            Self::List(lists) => lists.drop_odd(first, odd),
            Self::Cells(cells, _) => {
                let mut rows = 0..;
                cells.retain(|_| rows.next().and_then(|row: usize| odd.get(row.checked_sub(first)?)) != Some(&true));
            }
        }
    }

    fn truncate(&mut self, rows: usize) {
        match self {
            Self::Bool(values) => values.truncate(rows),
            Self::Short(values) => values.truncate(rows),
            Self::Int(values) | Self::Date(values) => values.truncate(rows),
            Self::Long(values) | Self::Time(values) | Self::Timestamp(values, _) => values.truncate(rows),
            Self::Float(values) => values.truncate(rows),
            Self::Double(values) => values.truncate(rows),
            Self::Decimal(values, _) => values.truncate(rows),
            Self::Text(texts) | Self::Bytes(texts) => texts.truncate(rows),
            Self::List(lists) => lists.truncate(rows),
            Self::Cells(cells, _) => cells.truncate(rows),
        }
    }

    fn finish(self) -> Result<ArrayRef> {
        Ok(match self {
            Self::Bool(values) => Arc::new(values.finish_bool()),
            Self::Short(values) => Arc::new(values.finish::<Int16Type>()),
            Self::Int(values) => Arc::new(values.finish::<Int32Type>()),
            Self::Long(values) => Arc::new(values.finish::<Int64Type>()),
            Self::Float(values) => Arc::new(values.finish::<Float32Type>()),
            Self::Double(values) => Arc::new(values.finish::<Float64Type>()),
            Self::Decimal(values, digits) => {
                Arc::new(values.finish::<Decimal128Type>().with_data_type(digits.data_type))
            }
            Self::Date(values) => Arc::new(values.finish::<Date32Type>()),
            Self::Time(values) => Arc::new(values.finish::<Time64MicrosecondType>()),
            Self::Timestamp(values, data_type) => {
                Arc::new(values.finish::<TimestampMicrosecondType>().with_data_type(data_type))
            }
            Self::Text(texts) => {
                let (ends, bytes, nulls) = texts.finish()?;
                Arc::new(StringArray::try_new(ends, bytes, nulls)?)
            }
            Self::Bytes(texts) => {
                let (ends, bytes, nulls) = texts.finish()?;
                Arc::new(BinaryArray::try_new(ends, bytes, nulls)?)
            }
            Self::List(lists) => lists.finish()?,
            Self::Cells(cells, data_type) => to_array(&data_type, cells)?,
        })
    }
}
