//! The end of a file and the ends of its stripes, checked before anything is believed.

use std::collections::HashMap;

use bytes::Bytes;
use lakehead_core::Result;

use super::source::Source;
use super::stream::Plain;
use crate::codec::{CHUNK_BYTES, CHUNK_BYTES_MAX, Kind};
use crate::fault::{damaged, unread};
use crate::schema::{DEPTH_MAX, OrcType, kind};
use crate::wire::Fields;

/// A footer larger than this is no footer: at some dozens of bytes for a stripe or column, a million of them fit.
pub(super) const FOOTER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Stripes of a file, types of it, encodings of a stripe: few bytes of a damaged footer could claim very many.
const ENTRIES_MAX: usize = 1 << 20;
/// Bytes at the end of a file that are fetched at once: the footer of most files lies in them.
const END_BYTES: u64 = 64 << 10;
/// A postscript's length is one byte, and one byte more says it.
const POSTSCRIPT_BYTES_MAX: u64 = 256;

/// Where a stripe lies.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stripe {
    pub(super) offset: u64,
    pub(super) index_len: u64,
    pub(super) data_len: u64,
    pub(super) footer_len: u64,
    pub(super) rows: u64,
}

/// What the end of a file says.
pub(super) struct Tail {
    pub(super) compression: Kind,
    pub(super) chunk_bytes: usize,
    pub(super) stripes: Vec<Stripe>,
    pub(super) types: Vec<OrcType>,
    pub(super) metadata: Vec<(String, Vec<u8>)>,
    pub(super) rows: u64,
    /// Rows of a group that an index speaks of; 0 without indexes.
    pub(super) group_rows: u64,
    /// Which program wrote the file, and its version, by the format's numbers.
    pub(super) writer: (u64, u64),
    /// Where the statistics of the stripes lie: offset and length.
    stripe_stats: (u64, u64),
}

/// Reads the end of a file, which stays at hand.
pub(super) fn read(source: &mut Source) -> Result<Tail> {
    source.hold_end(END_BYTES)?;
    let end = source.len();
    let last = source.read(end.saturating_sub(POSTSCRIPT_BYTES_MAX), end.min(POSTSCRIPT_BYTES_MAX))?;
    let (&length, rest) = last.split_last().ok_or_else(|| damaged("an empty file"))?;
    let from = rest.len().checked_sub(usize::from(length)).ok_or_else(|| damaged("a postscript beyond the file"))?;
    let (_, postscript) = rest.split_at(from);
    let (mut footer_len, mut compression, mut chunk_bytes, mut magic) = (0, 0, 0, false);
    let (mut stats_len, mut writer_version) = (0, 0);
    let mut fields = Fields(postscript);
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => footer_len = value.number()?,
            2 => compression = value.number()?,
            3 => chunk_bytes = value.number()?,
            5 => stats_len = value.number()?,
            6 => writer_version = value.number()?,
            8000 => magic = value.bytes()? == b"ORC",
            _ => {}
        }
    }
    if !magic {
        return Err(damaged("no ORC at the end"));
    }
    let compression = Kind::of_number(compression)?;
    let chunk_bytes = match usize::try_from(chunk_bytes) {
        Ok(0) => CHUNK_BYTES,
        Ok(bytes) if bytes <= CHUNK_BYTES_MAX => bytes,
        _ => return Err(damaged("chunks are too large")),
    };
    let behind = 1 + u64::from(length);
    let footer_end = end.checked_sub(behind).ok_or_else(|| damaged("a postscript beyond the file"))?;
    let from = footer_end.checked_sub(footer_len).ok_or_else(|| damaged("a footer beyond the file"))?;
    let footer = message(source.read(from, footer_len)?, compression, chunk_bytes)?;
    let mut tail = Tail {
        compression,
        chunk_bytes,
        stripes: Vec::new(),
        types: Vec::new(),
        metadata: Vec::new(),
        rows: 0,
        group_rows: 0,
        writer: (0, writer_version),
        stripe_stats: from.checked_sub(stats_len).map_or((0, 0), |offset| (offset, stats_len)),
    };
    tail.read_footer(&footer)?;
    check_types(&tail.types)?;
    Ok(tail)
}

/// Unpacks a whole message.
pub(super) fn message(bytes: Bytes, compression: Kind, chunk_bytes: usize) -> Result<Vec<u8>> {
    let mut whole = Vec::new();
    Plain::new(compression, chunk_bytes, bytes).take_rest(FOOTER_BYTES_MAX, &mut whole)?;
    Ok(whole)
}

pub(super) fn add<T>(entries: &mut Vec<T>, entry: T) -> Result<()> {
    if entries.len() == ENTRIES_MAX {
        return Err(damaged("a footer with too many entries"));
    }
    entries.push(entry);
    Ok(())
}

impl Tail {
    /// Reads the statistics of the stripes: of each those of `columns`, none where the file says nothing.
    pub(super) fn stripe_stats(&self, source: &Source, columns: &[u64]) -> Result<Vec<Vec<Option<Vec<u8>>>>> {
        let (offset, length) = self.stripe_stats;
        let bytes = message(source.read(offset, length)?, self.compression, self.chunk_bytes)?;
        let mut stripes = Vec::new();
        let mut fields = Fields(&bytes);
        while let Some((field, value)) = fields.next()? {
            if field == 1 {
                add(&mut stripes, stats_of(value.bytes()?, columns)?)?;
            }
        }
        Ok(stripes)
    }

    fn read_footer(&mut self, footer: &[u8]) -> Result<()> {
        let mut fields = Fields(footer);
        while let Some((field, value)) = fields.next()? {
            match field {
                3 => add(&mut self.stripes, stripe(value.bytes()?)?)?,
                4 => add(&mut self.types, orc_type(value.bytes()?)?)?,
                5 => add(&mut self.metadata, item(value.bytes()?)?)?,
                6 => self.rows = value.number()?,
                8 => self.group_rows = value.number()?,
                9 => self.writer.0 = value.number()?,
                10 => return Err(unread("encryption")),
                _ => {}
            }
        }
        let sum = self.stripes.iter().try_fold(0u64, |sum, stripe| sum.checked_add(stripe.rows));
        if sum != Some(self.rows) {
            return Err(damaged("stripes and file differ in their rows"));
        }
        Ok(())
    }
}

/// Returns the statistics of some columns of a stripe.
fn stats_of(bytes: &[u8], columns: &[u64]) -> Result<Vec<Option<Vec<u8>>>> {
    let mut found = vec![None; columns.len()];
    let mut fields = Fields(bytes);
    let mut column = 0;
    while let Some((field, value)) = fields.next()? {
        if field == 1 {
            for (_, place) in columns.iter().zip(&mut found).filter(|(wanted, _)| **wanted == column) {
                *place = Some(value.bytes()?.to_vec());
            }
            column += 1;
        }
    }
    Ok(found)
}

fn stripe(bytes: &[u8]) -> Result<Stripe> {
    let mut stripe = Stripe::default();
    let mut fields = Fields(bytes);
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => stripe.offset = value.number()?,
            2 => stripe.index_len = value.number()?,
            3 => stripe.data_len = value.number()?,
            4 => stripe.footer_len = value.number()?,
            5 => stripe.rows = value.number()?,
            _ => {}
        }
    }
    Ok(stripe)
}

fn orc_type(bytes: &[u8]) -> Result<OrcType> {
    let mut orc_type = OrcType::default();
    let mut fields = Fields(bytes);
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => orc_type.kind = value.number()?,
            2 => value.numbers(&mut orc_type.children)?,
            3 => orc_type.names.push(value.text()?),
            5 => orc_type.precision = value.number()?,
            6 => orc_type.scale = value.number()?,
            _ => {}
        }
    }
    Ok(orc_type)
}

fn item(bytes: &[u8]) -> Result<(String, Vec<u8>)> {
    let mut item = (String::new(), Vec::new());
    let mut fields = Fields(bytes);
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => item.0 = value.text()?,
            2 => item.1 = value.bytes()?.to_vec(),
            _ => {}
        }
    }
    Ok(item)
}

/// Refuses types that are no tree: a type that holds itself would be walked without an end.
fn check_types(types: &[OrcType]) -> Result<()> {
    let root = types.first().ok_or_else(|| damaged("no types"))?;
    if root.kind != kind::STRUCT {
        return Err(unread("a file whose rows are no struct"));
    }
    let mut depths = vec![None; types.len()];
    if let Some(depth) = depths.first_mut() {
        *depth = Some(0);
    }
    for (number, orc_type) in types.iter().enumerate() {
        let Some(depth) = depths.get(number).copied().flatten() else { return Err(damaged("a type of no column")) };
        let children = orc_type.children.len();
        let right = match orc_type.kind {
            kind::STRUCT => orc_type.names.len() == children,
            kind::LIST => children == 1,
            kind::MAP => children == 2,
            _ => children == 0,
        };
        if !right || depth > DEPTH_MAX {
            return Err(damaged("a type with children that it cannot have"));
        }
        for child in &orc_type.children {
            let child = usize::try_from(*child).ok().filter(|child| *child > number);
            match child.and_then(|child| depths.get_mut(child)) {
                Some(place @ None) => *place = Some(depth + 1),
                _ => return Err(damaged("types that are no tree")),
            }
        }
    }
    Ok(())
}

/// What a stripe's footer says.
#[derive(Default)]
pub(super) struct StripeFooter {
    /// By kind and column, where the stream lies in the file: offset and length.
    pub(super) streams: HashMap<(u64, u64), (u64, u64)>,
    /// Kind, and how many texts the dictionary has.
    pub(super) encodings: Vec<(u64, u64)>,
    pub(super) time_zone: String,
}

pub(super) fn stripe_footer(source: &Source, stripe: &Stripe, tail: &Tail) -> Result<StripeFooter> {
    let far = || damaged("a stripe beyond the file");
    let data = stripe.offset.checked_add(stripe.index_len).ok_or_else(far)?;
    let from = data.checked_add(stripe.data_len).ok_or_else(far)?;
    let bytes = message(source.read(from, stripe.footer_len)?, tail.compression, tail.chunk_bytes)?;
    let mut footer = StripeFooter::default();
    let mut offset = stripe.offset;
    let mut fields = Fields(&bytes);
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => {
                let (kind, column, length) = numbers(value.bytes()?)?;
                let end = offset.checked_add(length).filter(|end| *end <= from).ok_or_else(far)?;
                footer.streams.insert((kind, column), (offset, length));
                offset = end;
            }
            2 => {
                let (kind, texts, _) = numbers(value.bytes()?)?;
                add(&mut footer.encodings, (kind, texts))?;
            }
            3 => footer.time_zone = value.text()?,
            4 => return Err(unread("encryption")),
            _ => {}
        }
    }
    Ok(footer)
}

/// Returns the first three fields of a message of numbers.
fn numbers(bytes: &[u8]) -> Result<(u64, u64, u64)> {
    let mut numbers = (0, 0, 0);
    let mut fields = Fields(bytes);
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => numbers.0 = value.number()?,
            2 => numbers.1 = value.number()?,
            3 => numbers.2 = value.number()?,
            _ => {}
        }
    }
    Ok(numbers)
}
