//! Columns of a stripe as Arrow arrays: values are decoded without their nulls and spread over the rows then.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListArray, MapArray, StructArray, UInt32Array};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use lakehead_core::Result;

use super::index::Indexes;
use super::integer::IntegerRuns;
use super::leaf::Leaf;
use super::stream::{BitRuns, Position};
use super::stripe::Streams;
use crate::fault::{damaged, unread};
use crate::schema::OrcType;

/// Elements of one batch's lists; more are refused rather than allocated, for a short stream can claim any number.
const ELEMENTS_MAX: usize = 1 << 26;

/// A column being read.
pub(super) struct Column {
    number: u64,
    field: FieldRef,
    present: Option<BitRuns>,
    values: Values,
}

enum Values {
    Leaf(Box<Leaf>),
    Struct(Vec<Column>),
    /// An element, or a key and a value.
    List(Box<IntegerRuns>, Vec<Column>),
}

impl Column {
    /// Opens the column `number` and those below it. `field` was made from the same types.
    pub(super) fn open(types: &[OrcType], number: u64, field: &FieldRef, streams: &mut Streams<'_>) -> Result<Self> {
        let orc_type = usize::try_from(number).ok().and_then(|number| types.get(number));
        let orc_type = orc_type.ok_or_else(|| damaged("a type that is not there"))?;
        let present = streams.present(number)?;
        let mut children = |fields: &[FieldRef]| -> Result<Vec<Self>> {
            let pairs = orc_type.children.iter().zip(fields);
            pairs.map(|(number, field)| Self::open(types, *number, field, streams)).collect()
        };
        let values = match field.data_type() {
            DataType::Struct(fields) => Values::Struct(children(fields)?),
            DataType::List(item) => {
                let children = children(std::slice::from_ref(item))?;
                Values::List(Box::new(streams.lengths(number)?), children)
            }
            DataType::Map(entries, _) => {
                let children = children(entry_fields(entries))?;
                Values::List(Box::new(streams.lengths(number)?), children)
            }
            _ => Values::Leaf(Box::new(Leaf::open(number, field, streams)?)),
        };
        Ok(Self { number, field: field.clone(), present, values })
    }

    /// Returns whether `index` says where each row group begins in this column and those below it.
    pub(super) fn is_indexed(&self, index: &Indexes, groups: usize) -> bool {
        let present = self.present.as_ref().map_or(0, BitRuns::position_numbers);
        let (numbers, children): (_, &[Self]) = match &self.values {
            Values::Leaf(leaf) => (leaf.position_numbers(), &[]),
            Values::Struct(children) => (0, children),
            Values::List(lengths, children) => (lengths.position_numbers(), children),
        };
        let known = index.get(&self.number).is_some_and(|entries| {
            entries.len() == groups && entries.iter().all(|entry| entry.position.len() == present + numbers)
        });
        known && children.iter().all(|child| child.is_indexed(index, groups))
    }

    /// Goes to the beginning of a row group of a column that is indexed.
    pub(super) fn seek(&mut self, index: &Indexes, group: usize) -> Result<()> {
        let entry = index.get(&self.number).and_then(|entries| entries.get(group));
        let mut position = Position::new(entry.map_or(&[], |entry| &entry.position));
        if let Some(present) = &mut self.present {
            present.seek(&mut position)?;
        }
        match &mut self.values {
            Values::Leaf(leaf) => leaf.seek(&mut position),
            Values::Struct(children) => children.iter_mut().try_for_each(|child| child.seek(index, group)),
            Values::List(lengths, children) => {
                lengths.seek(&mut position)?;
                children.iter_mut().try_for_each(|child| child.seek(index, group))
            }
        }
    }

    /// Returns the next `rows` values.
    pub(super) fn read(&mut self, rows: usize) -> Result<ArrayRef> {
        let nulls = match &mut self.present {
            None => None,
            Some(present) => {
                let bits = (0..rows).map(|_| present.next()).collect::<Result<Vec<bool>>>()?;
                Some(NullBuffer::from(bits)).filter(|nulls| nulls.null_count() > 0)
            }
        };
        let count = rows - nulls.as_ref().map_or(0, NullBuffer::null_count);
        let dense = self.read_dense(count)?;
        match nulls {
            None => Ok(dense),
            Some(nulls) => spread(&dense, nulls),
        }
    }

    fn read_dense(&mut self, count: usize) -> Result<ArrayRef> {
        match (&mut self.values, self.field.data_type()) {
            (Values::Leaf(leaf), _) => leaf.read(count),
            (Values::Struct(children), DataType::Struct(fields)) => Ok(Arc::new(structs(children, fields, count)?)),
            (Values::List(lengths, children), data_type) => {
                let (offsets, total) = offsets(lengths, count)?;
                match (data_type, children.as_mut_slice()) {
                    (DataType::List(item), [child]) => {
                        let values = child.read(total)?;
                        Ok(Arc::new(ListArray::try_new(item.clone(), offsets, values, None)?))
                    }
                    (DataType::Map(entries, _), children) => map(children, entries, offsets, total),
                    _ => Err(damaged("a list without its element")),
                }
            }
            _ => Err(damaged("a column of another type")),
        }
    }
}

fn entry_fields(entries: &Field) -> &[FieldRef] {
    match entries.data_type() {
        DataType::Struct(fields) => fields,
        _ => &[],
    }
}

fn structs(children: &mut [Column], fields: &Fields, count: usize) -> Result<StructArray> {
    if children.is_empty() {
        return Ok(StructArray::new_empty_fields(count, None));
    }
    let arrays = children.iter_mut().map(|child| child.read(count)).collect::<Result<_>>()?;
    Ok(StructArray::try_new(fields.clone(), arrays, None)?)
}

fn map(children: &mut [Column], entries: &FieldRef, offsets: OffsetBuffer<i32>, total: usize) -> Result<ArrayRef> {
    let fields: Fields = entry_fields(entries).into();
    let arrays: Vec<ArrayRef> = children.iter_mut().map(|child| child.read(total)).collect::<Result<_>>()?;
    // Arrow's keys are never null; ORC does not say so.
    if arrays.first().is_some_and(|keys| keys.null_count() > 0) {
        return Err(unread("a map with a null key"));
    }
    let pairs = StructArray::try_new(fields, arrays, None)?;
    Ok(Arc::new(MapArray::try_new(entries.clone(), offsets, pairs, None, false)?))
}

fn offsets(lengths: &mut IntegerRuns, count: usize) -> Result<(OffsetBuffer<i32>, usize)> {
    let mut offsets = vec![0i32];
    let mut total = 0usize;
    for length in lengths.take(count)? {
        let length = usize::try_from(length).map_err(|_| damaged("a list of negative length"))?;
        total = total.checked_add(length).filter(|total| *total <= ELEMENTS_MAX).ok_or_else(|| {
            unread("lists of more than 67,108,864 elements in one batch").help("ask for fewer rows in a batch")
        })?;
        offsets.push(total as i32);
    }
    Ok((OffsetBuffer::new(ScalarBuffer::from(offsets)), total))
}

/// Puts dense values where `nulls` says that there are values.
fn spread(dense: &ArrayRef, nulls: NullBuffer) -> Result<ArrayRef> {
    if let DataType::Struct(fields) = dense.data_type()
        && fields.is_empty()
    {
        return Ok(Arc::new(StructArray::new_empty_fields(nulls.len(), Some(nulls))));
    }
    let mut next = 0;
    let places: Vec<u32> = nulls
        .iter()
        .map(|present| {
            let place = next;
            next += u32::from(present);
            if present { place } else { 0 }
        })
        .collect();
    let places = UInt32Array::new(ScalarBuffer::from(places), Some(nulls));
    Ok(take(dense.as_ref(), &places, None)?)
}
