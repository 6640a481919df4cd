//! Streams of a stripe: chunks become bytes as they are asked for, bytes become bytes, booleans or numbers.
//!
//! Nothing is allocated because a file says that it is long; only what it really holds is.

use bytes::Bytes;
use lakehead_core::Result;

use super::packed::Packed;
use crate::codec::{Kind, unpack};
use crate::fault::damaged;

/// Bytes of the longest run of the byte coder.
const BYTE_RUN_MAX: usize = 130;

/// Bytes of a stream, chunk by chunk.
pub(crate) struct Plain {
    kind: Kind,
    /// The most bytes of a chunk.
    limit: usize,
    packed: Packed,
    /// Where the chunk at hand begins among the packed bytes.
    begin: u64,
    chunk: Bytes,
    /// Bytes of the chunk that are gone.
    gone: usize,
}

/// The numbers by which an index says where a row group begins in the streams of a column, one stream behind the other.
pub(crate) struct Position<'a>(std::slice::Iter<'a, u64>);

impl<'a> Position<'a> {
    pub(crate) fn new(numbers: &'a [u64]) -> Self {
        Self(numbers.iter())
    }

    fn next(&mut self) -> Result<u64> {
        self.0.next().copied().ok_or_else(|| damaged("a position is cut short"))
    }

    /// Returns the next number, which says how much of a run is passed over: `most` at most.
    pub(crate) fn part_of_run(&mut self, most: usize) -> Result<usize> {
        let part = usize::try_from(self.next()?).ok().filter(|part| *part <= most);
        part.ok_or_else(|| damaged("a position beyond its run"))
    }
}

impl Plain {
    pub(crate) fn new(kind: Kind, limit: usize, bytes: Bytes) -> Self {
        Self::packed(kind, limit, Packed::whole(bytes))
    }

    pub(crate) fn packed(kind: Kind, limit: usize, packed: Packed) -> Self {
        Self { kind, limit, packed, begin: 0, chunk: Bytes::new(), gone: 0 }
    }

    /// Returns the bytes that are ready: at least one, or none at the end.
    fn ready(&mut self) -> Result<&[u8]> {
        while self.gone == self.chunk.len() && !self.packed.ready(1)?.is_empty() {
            self.begin = self.packed.at();
            self.chunk = self.next_chunk()?;
            self.gone = 0;
        }
        Ok(self.chunk.get(self.gone..).unwrap_or_default())
    }

    fn next_chunk(&mut self) -> Result<Bytes> {
        if self.kind == Kind::Plain {
            let length = self.packed.ready(1)?.len();
            return Ok(self.packed.take(length));
        }
        let cut = || damaged("a chunk is cut short");
        let (header, _) = self.packed.ready(3)?.split_first_chunk::<3>().ok_or_else(cut)?;
        let [low, middle, high] = *header;
        let header = u32::from_le_bytes([low, middle, high, 0]);
        let end = 3 + (header >> 1) as usize;
        if self.packed.ready(end)?.len() < end {
            return Err(cut());
        }
        let body = self.packed.take(end).slice(3..);
        Ok(if header & 1 == 1 { body } else { unpack(self.kind, &body, self.limit)?.into() })
    }

    /// Returns how many numbers of a position are this stream's.
    pub(crate) fn position_numbers(&self) -> usize {
        if self.kind == Kind::Plain { 1 } else { 2 }
    }

    /// Goes to a position. A chunk that is at hand is not unpacked again.
    pub(crate) fn seek(&mut self, position: &mut Position<'_>) -> Result<()> {
        let (chunk, offset) = match self.kind {
            // All of it is one chunk.
            Kind::Plain => {
                let at = position.next()?;
                let inside = at.checked_sub(self.begin).filter(|offset| *offset <= self.chunk.len() as u64);
                inside.map_or((at, 0), |offset| (self.begin, offset))
            }
            _ => (position.next()?, position.next()?),
        };
        if self.chunk.is_empty() || self.begin != chunk {
            self.packed.go_to(chunk)?;
            (self.begin, self.chunk, self.gone) = (chunk, Bytes::new(), 0);
            if offset > 0 {
                self.ready()?;
            }
        }
        let offset = usize::try_from(offset).ok().filter(|offset| *offset <= self.chunk.len());
        self.gone = offset.ok_or_else(|| damaged("a position beyond its chunk"))?;
        Ok(())
    }

    pub(crate) fn byte(&mut self) -> Result<u8> {
        let byte = self.ready()?.first().copied().ok_or_else(|| damaged("a stream is cut short"))?;
        self.gone += 1;
        Ok(byte)
    }

    /// Appends exactly `count` bytes.
    pub(crate) fn take(&mut self, mut count: usize, into: &mut Vec<u8>) -> Result<()> {
        while count > 0 {
            let ready = self.ready()?;
            let part = ready.get(..count.min(ready.len())).unwrap_or_default();
            if part.is_empty() {
                return Err(damaged("a stream is cut short"));
            }
            into.extend_from_slice(part);
            let taken = part.len();
            count -= taken;
            self.gone += taken;
        }
        Ok(())
    }

    /// Appends all that is left, at most `limit` bytes.
    pub(crate) fn take_rest(&mut self, limit: usize, into: &mut Vec<u8>) -> Result<()> {
        loop {
            let ready = self.ready()?;
            let taken = ready.len();
            if taken == 0 {
                return Ok(());
            }
            if taken > limit.saturating_sub(into.len()) {
                return Err(damaged("a message or dictionary is too large"));
            }
            into.extend_from_slice(ready);
            self.gone += taken;
        }
    }

    pub(crate) fn varint(&mut self) -> Result<u64> {
        Ok(self.wide_varint(10)? as u64)
    }

    /// Returns a number of up to `bytes_max` groups of seven bits; bits above 128 are refused.
    pub(crate) fn wide_varint(&mut self, bytes_max: u32) -> Result<u128> {
        let mut value = 0u128;
        for at in 0..bytes_max {
            let byte = self.byte()?;
            let bits = u128::from(byte & 0x7f);
            let shifted = bits.checked_shl(at * 7).filter(|shifted| shifted >> (at * 7) == bits);
            value |= shifted.ok_or_else(|| damaged("a number is too long"))?;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(damaged("a number is too long"))
    }
}

/// The byte coder's runs.
pub(crate) struct ByteRuns {
    plain: Plain,
    left: usize,
    /// The byte that repeats; none among literals.
    repeat: Option<u8>,
}

impl ByteRuns {
    pub(crate) fn new(plain: Plain) -> Self {
        Self { plain, left: 0, repeat: None }
    }

    pub(crate) fn position_numbers(&self) -> usize {
        self.plain.position_numbers() + 1
    }

    pub(crate) fn seek(&mut self, position: &mut Position<'_>) -> Result<()> {
        self.plain.seek(position)?;
        (self.left, self.repeat) = (0, None);
        for _ in 0..position.part_of_run(BYTE_RUN_MAX)? {
            self.next()?;
        }
        Ok(())
    }

    pub(crate) fn next(&mut self) -> Result<u8> {
        if self.left == 0 {
            let control = self.plain.byte()?.cast_signed();
            if control < 0 {
                self.left = usize::from(control.unsigned_abs());
                self.repeat = None;
            } else {
                self.left = usize::from(control.unsigned_abs()) + 3;
                self.repeat = Some(self.plain.byte()?);
            }
        }
        self.left -= 1;
        match self.repeat {
            Some(byte) => Ok(byte),
            None => self.plain.byte(),
        }
    }
}

/// Booleans of a stream.
pub(crate) struct BitRuns {
    bytes: ByteRuns,
    byte: u8,
    left: u8,
}

impl BitRuns {
    pub(crate) fn new(plain: Plain) -> Self {
        Self { bytes: ByteRuns::new(plain), byte: 0, left: 0 }
    }

    pub(crate) fn position_numbers(&self) -> usize {
        self.bytes.position_numbers() + 1
    }

    pub(crate) fn seek(&mut self, position: &mut Position<'_>) -> Result<()> {
        self.bytes.seek(position)?;
        self.left = 0;
        for _ in 0..position.part_of_run(8)? {
            self.next()?;
        }
        Ok(())
    }

    pub(crate) fn next(&mut self) -> Result<bool> {
        if self.left == 0 {
            self.byte = self.bytes.next()?;
            self.left = 8;
        }
        self.left -= 1;
        Ok(self.byte >> self.left & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;
    use crate::run::boolean::Bits;
    use crate::run::byte::encode;

    fn plain(bytes: Vec<u8>) -> Plain {
        Plain::new(Kind::Plain, 0, bytes.into())
    }

    #[test]
    fn bytes_come_back_from_their_runs() {
        let mut dice = Dice::new(11);
        for _ in 0..300 {
            let mut values = Vec::new();
            for _ in 0..dice.below(20) {
                let byte = dice.next() as u8;
                let count = if dice.below(2) == 0 { 1 } else { dice.below(400) };
                values.resize(values.len() + count as usize, byte);
            }
            let mut bytes = Vec::new();
            encode(&values, &mut bytes);
            let mut runs = ByteRuns::new(plain(bytes));
            let back: Vec<u8> = values.iter().map(|_| runs.next().unwrap()).collect();
            assert_eq!(back, values);
            assert!(runs.next().is_err());
        }
    }

    #[test]
    fn booleans_come_back_from_their_bits() {
        let mut dice = Dice::new(12);
        for count in 0..200 {
            let values: Vec<bool> = (0..count).map(|_| dice.below(3) > 0).collect();
            let mut bits = Bits::default();
            values.iter().for_each(|value| bits.push(*value));
            bits.pad();
            let mut bytes = Vec::new();
            encode(&bits.bytes, &mut bytes);
            let mut runs = BitRuns::new(plain(bytes));
            let back: Vec<bool> = values.iter().map(|_| runs.next().unwrap()).collect();
            assert_eq!(back, values);
        }
    }

    #[test]
    fn a_number_wider_than_128_bits_is_refused() {
        assert!(plain(vec![0xff; 30]).wide_varint(19).is_err());
        let mut most = vec![0xff; 18];
        most.push(0x03);
        assert_eq!(plain(most).wide_varint(19).unwrap(), u128::MAX);
        let mut more = vec![0xff; 18];
        more.push(0x04);
        assert!(plain(more).wide_varint(19).is_err());
    }
}
