//! Protocol-buffer wire format, as much of it as ORC's messages use: varints, zigzag, doubles, bytes and packed lists.

use lakehead_core::Result;

use crate::fault::damaged;

/// Maps a signed number to an unsigned one so that small magnitudes stay small.
pub(crate) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// Undoes [`zigzag`].
pub(crate) const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// Appends seven bits a byte, the lowest first.
pub(crate) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A message under construction. Fields that hold their default are the caller's to leave out.
#[derive(Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn key(&mut self, field: u32, kind: u32) {
        put_varint(u64::from(field << 3 | kind), &mut self.0);
    }

    pub(crate) fn uint(&mut self, field: u32, value: u64) -> &mut Self {
        self.key(field, 0);
        put_varint(value, &mut self.0);
        self
    }

    pub(crate) fn sint(&mut self, field: u32, value: i64) -> &mut Self {
        self.uint(field, zigzag(value))
    }

    pub(crate) fn double(&mut self, field: u32, value: f64) -> &mut Self {
        self.key(field, 1);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn bytes(&mut self, field: u32, value: &[u8]) -> &mut Self {
        self.key(field, 2);
        put_varint(value.len() as u64, &mut self.0);
        self.0.extend_from_slice(value);
        self
    }

    pub(crate) fn nested(&mut self, field: u32, value: Message) -> &mut Self {
        self.bytes(field, value.as_bytes())
    }

    pub(crate) fn packed(&mut self, field: u32, values: impl IntoIterator<Item = u64>) -> &mut Self {
        let mut body = Vec::new();
        for value in values {
            put_varint(value, &mut body);
        }
        self.bytes(field, &body)
    }
}

/// One field's value as it lies on the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wire<'a> {
    /// A varint.
    Number(u64),
    /// Eight bytes, little-endian; or four, widened.
    Fixed(u64),
    /// Text, bytes, a nested message or a packed list.
    Bytes(&'a [u8]),
}

impl<'a> Wire<'a> {
    pub(crate) fn number(self) -> Result<u64> {
        match self {
            Self::Number(value) => Ok(value),
            _ => Err(damaged("a field that should be a number")),
        }
    }

    pub(crate) fn bytes(self) -> Result<&'a [u8]> {
        match self {
            Self::Bytes(value) => Ok(value),
            _ => Err(damaged("a field that should be bytes")),
        }
    }

    pub(crate) fn text(self) -> Result<String> {
        let bytes = self.bytes()?.to_vec();
        String::from_utf8(bytes).map_err(|_| damaged("a name that is not UTF-8"))
    }

    /// Appends the numbers of a repeated field, packed or one at a time: writers do either.
    pub(crate) fn numbers(self, into: &mut Vec<u64>) -> Result<()> {
        match self {
            Self::Bytes(mut body) => {
                while !body.is_empty() {
                    into.push(take_varint(&mut body)?);
                }
            }
            other => into.push(other.number()?),
        }
        Ok(())
    }
}

/// Takes a varint off the front of `bytes`.
pub(crate) fn take_varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or_else(|| damaged("a number is cut short"))?;
        *bytes = rest;
        // The tenth byte holds one bit; the bits above it fall away as in every reader of the format.
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(damaged("a number is too long"))
}

/// The fields of a message in order.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    /// Returns the next field's number and value, or none at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Wire<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = take_varint(&mut self.0)?;
        let value = match key & 7 {
            0 => Wire::Number(take_varint(&mut self.0)?),
            1 => Wire::Fixed(u64::from_le_bytes(self.take_array()?)),
            2 => {
                let length =
                    usize::try_from(take_varint(&mut self.0)?).map_err(|_| damaged("a length is too large"))?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Fixed(u64::from(u32::from_le_bytes(self.take_array()?))),
            _ => return Err(damaged("a field of an unknown kind")),
        };
        Ok(Some((key >> 3, value)))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length).ok_or_else(|| damaged("a message is cut short"))?;
        self.0 = rest;
        Ok(head)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| damaged("a message is cut short"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for value in [0, 1, -1, 63, -64, 64, i64::MAX, i64::MIN, 1 << 55] {
            let mut bytes = Vec::new();
            put_varint(zigzag(value), &mut bytes);
            let mut rest = bytes.as_slice();
            assert_eq!(unzigzag(take_varint(&mut rest).unwrap()), value);
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn a_message_that_is_cut_is_refused_at_every_place() {
        let mut message = Message::default();
        message.uint(1, 300).sint(2, -5).double(3, 1.5).bytes(4, b"abc").packed(5, [1, 1 << 40]);
        let bytes = message.into_bytes();
        let count = |bytes: &[u8]| -> Result<usize> {
            let mut fields = Fields(bytes);
            let mut count = 0;
            while fields.next()?.is_some() {
                count += 1;
            }
            Ok(count)
        };
        assert_eq!(count(&bytes).unwrap(), 5);
        let whole = (0..bytes.len()).filter(|&cut| count(&bytes[..cut]).is_ok()).count();
        // Nothing, and the ends of the first four fields.
        assert_eq!(whole, 5);
    }

    #[test]
    fn a_number_of_eleven_bytes_is_refused() {
        assert!(take_varint(&mut [0xff; 11].as_slice()).is_err());
    }
}
