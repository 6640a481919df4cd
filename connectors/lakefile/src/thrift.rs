//! The shape of a message in Thrift's compact form, walked without believing a length of it. It allocates nothing.

use parquet::errors::{ParquetError, Result};

/// Structs within structs: Parquet's own go six deep.
const DEPTH_MAX: u32 = 32;
/// Entries of a list of structs: row groups, columns of one, pages of a chunk, types. Room is made for all of them at once.
const STRUCTS_MAX: u64 = 1 << 20;

const END: u8 = 0;
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const STRUCT: u8 = 12;

/// Checks that `message` is whole, and that nothing in it is longer than its bytes.
pub(crate) fn check(message: &[u8]) -> Result<()> {
    Walk::new(message).fields(&mut |_, _, _| {})
}

/// A place in a message.
pub(crate) struct Walk<'a> {
    rest: &'a [u8],
}

fn cut_short() -> ParquetError {
    ParquetError::EOF("a message is cut short".to_owned())
}

impl<'a> Walk<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// Returns what lies behind what was walked.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Walks a struct, and hands out each of its fields: its number, its value where that is a whole number, and the bytes
    /// that begin with it.
    pub(crate) fn fields(&mut self, each: &mut impl FnMut(i64, Option<i64>, &'a [u8])) -> Result<()> {
        self.structure(0, each)
    }

    fn structure(&mut self, depth: u32, each: &mut impl FnMut(i64, Option<i64>, &'a [u8])) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(ParquetError::General("a message is nested too deeply".to_owned()));
        }
        let mut field: i64 = 0;
        loop {
            let head = self.byte()?;
            if head == END {
                return Ok(());
            }
            field = match head >> 4 {
                0 => self.signed()?,
                step => field.saturating_add(i64::from(step)),
            };
            let kind = head & 15;
            let value = self.rest;
            // A flag's value is its kind.
            let number = if matches!(kind, TRUE | FALSE) { None } else { self.value(kind, depth)? };
            each(field, number, value);
        }
    }

    fn value(&mut self, kind: u8, depth: u32) -> Result<Option<i64>> {
        match kind {
            TRUE | FALSE | 3 => self.skip(1)?,
            4..=6 => return self.signed().map(Some),
            7 => self.skip(8)?,
            8 => {
                let length = self.varint()?;
                self.skip(length)?;
            }
            9 | 10 => self.list(depth)?,
            11 => self.map(depth)?,
            STRUCT => self.structure(depth + 1, &mut |_, _, _| {})?,
            13 => self.skip(16)?,
            _ => return Err(ParquetError::General("a value is of an unknown kind".to_owned())),
        }
        Ok(None)
    }

    fn list(&mut self, depth: u32) -> Result<()> {
        let head = self.byte()?;
        let kind = head & 15;
        let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
        self.may_hold(count)?;
        if kind == STRUCT && count > STRUCTS_MAX {
            return Err(ParquetError::General("a list is longer than it can be".to_owned()));
        }
        for _ in 0..count {
            self.value(kind, depth + 1)?;
        }
        Ok(())
    }

    fn map(&mut self, depth: u32) -> Result<()> {
        let count = self.varint()?;
        self.may_hold(count)?;
        if count == 0 {
            return Ok(());
        }
        let kinds = self.byte()?;
        for _ in 0..count {
            self.value(kinds >> 4, depth + 1)?;
            self.value(kinds & 15, depth + 1)?;
        }
        Ok(())
    }

    /// Each entry takes a byte or more.
    fn may_hold(&self, count: u64) -> Result<()> {
        if count > self.rest.len() as u64 { Err(cut_short()) } else { Ok(()) }
    }

    fn byte(&mut self) -> Result<u8> {
        let (first, rest) = self.rest.split_first().ok_or_else(cut_short)?;
        self.rest = rest;
        Ok(*first)
    }

    fn skip(&mut self, bytes: u64) -> Result<()> {
        let bytes = usize::try_from(bytes).map_err(|_| cut_short())?;
        self.rest = self.rest.get(bytes..).ok_or_else(cut_short)?;
        Ok(())
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ParquetError::General("a number is too long".to_owned()))
    }

    fn signed(&mut self) -> Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_depths_are_held_against_the_bytes_that_are_there() {
        // Field 1, a list of structs: one that is there, 2^31 of which none is, and more than are ever made room for.
        assert!(check(&[0x19, 0x1c, 0, 0]).is_ok());
        assert!(check(&[0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07, 0]).is_err());
        let mut many = vec![0x19, 0xfc, 0x80, 0x80, 0x80, 0x01];
        many.resize(many.len() + (1 << 21) + 1, 0);
        assert!(check(&many).is_err());
        // Structs in structs, and a text that is longer than the message.
        assert!(check(&[0x1c; 10_000]).is_err());
        assert!(check(&[0x18, 0xff, 0xff, 0xff, 0xff, 0x0f, 0]).is_err());
        assert!(check(&[0x18, 0x02, b'a', b'b', 0x15, 0x02, 0]).is_ok());
    }
}
