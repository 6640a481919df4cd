//! Columns that are filled row by row, each in the form that Arrow holds.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, BooleanBufferBuilder, PrimitiveArray, StringArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use lakehead_core::{Error, Result};

use crate::cell::{Cell, to_array};
use crate::scan::{self, POWERS};

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
    /// Lists, and what no file can be read into: told when the column ends.
    Cells(Vec<Cell<'static>>, DataType),
}

/// The digits of a decimal column.
struct Digits {
    data_type: DataType,
    scale: usize,
    /// The least number that is too large.
    bound: i128,
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

    /// Adds a text to the row under way, where the column holds texts; `None` else.
    #[inline]
    pub(crate) fn put_text(&mut self, column: usize, text: &[u8]) -> Option<()> {
        let Filling::Text(texts) = self.open(column)? else { return None };
        texts.push(text);
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
            Self::Decimal(values, digits) => {
                let more = *POWERS.get(digits.scale.checked_sub(number.behind)?)?;
                let value = i128::from(number.digits) * i128::from(more);
                if value.abs() >= digits.bound {
                    return None;
                }
                values.push(value);
            }
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
            Self::Cells(cells, _) => cells.push(cell.into_owned()),
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
            Self::Cells(cells, _) => cells.truncate(rows),
        }
    }

    fn finish(self) -> Result<ArrayRef> {
        Ok(match self {
            Self::Bool(values) => {
                let nulls = values.missing.finish();
                Arc::new(BooleanArray::new(BooleanBuffer::from(values.list), nulls))
            }
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
            Self::Cells(cells, data_type) => to_array(&data_type, cells)?,
        })
    }
}

/// Which values are none: nothing is noted before the first of them.
#[derive(Default)]
struct Missing(Option<BooleanBufferBuilder>);

impl Missing {
    #[inline]
    fn present(&mut self) {
        if let Some(valid) = &mut self.0 {
            valid.append(true);
        }
    }

    /// Notes a value that is none, behind `before` others.
    fn absent(&mut self, before: usize) {
        let valid = self.0.get_or_insert_with(|| {
            let mut valid = BooleanBufferBuilder::new(before + 1);
            valid.append_n(before, true);
            valid
        });
        valid.append(false);
    }

    fn truncate(&mut self, rows: usize) {
        if let Some(valid) = &mut self.0 {
            valid.truncate(rows);
        }
    }

    fn finish(self) -> Option<NullBuffer> {
        self.0.map(|mut valid| NullBuffer::new(valid.finish())).filter(|nulls| nulls.null_count() > 0)
    }
}

/// Values of one size.
struct Values<T> {
    list: Vec<T>,
    missing: Missing,
}

impl<T: Copy + Default> Values<T> {
    fn new(rows: usize) -> Self {
        Self { list: Vec::with_capacity(rows), missing: Missing::default() }
    }

    #[inline]
    fn push(&mut self, value: T) {
        self.list.push(value);
        self.missing.present();
    }

    fn push_option(&mut self, value: Option<T>) {
        match value {
            Some(value) => self.push(value),
            None => {
                self.missing.absent(self.list.len());
                self.list.push(T::default());
            }
        }
    }

    fn truncate(&mut self, rows: usize) {
        self.list.truncate(rows);
        self.missing.truncate(rows);
    }

    fn finish<P: ArrowPrimitiveType<Native = T>>(self) -> PrimitiveArray<P>
    where
        T: arrow::datatypes::ArrowNativeType,
    {
        PrimitiveArray::new(ScalarBuffer::from(self.list), self.missing.finish())
    }
}

/// Texts behind one another.
struct Texts {
    bytes: Vec<u8>,
    /// Where each ends, behind a zero.
    ends: Vec<i32>,
    missing: Missing,
}

impl Texts {
    fn new(rows: usize) -> Self {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        Self { bytes: Vec::with_capacity(rows * 8), ends, missing: Missing::default() }
    }

    #[inline]
    fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.end();
        self.missing.present();
    }

    fn push_null(&mut self) {
        self.missing.absent(self.ends.len() - 1);
        self.end();
    }

    #[inline]
    fn end(&mut self) {
        // A batch that grew too long is told when it ends.
        self.ends.push(i32::try_from(self.bytes.len()).unwrap_or(i32::MAX));
    }

    fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows + 1);
        let end = self.ends.last().map_or(0, |end| usize::try_from(*end).unwrap_or_default());
        self.bytes.truncate(end);
        self.missing.truncate(rows);
    }

    fn finish(self) -> Result<(OffsetBuffer<i32>, Buffer, Option<NullBuffer>)> {
        if i32::try_from(self.bytes.len()).is_err() {
            return Err(Error::bug("a batch holds more text than Arrow counts").with("bytes", self.bytes.len()));
        }
        let ends = OffsetBuffer::new(ScalarBuffer::from(self.ends));
        Ok((ends, Buffer::from_vec(self.bytes), self.missing.finish()))
    }
}
