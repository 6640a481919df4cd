//! Numbers and texts read one behind the other, never beyond the end.

use crate::entry::{read_u32, read_u64};

/// What is left to read.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        Some(read_u32(self.bytes(4)?, 0))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        Some(read_u64(self.bytes(8)?, 0))
    }

    /// Reads a text behind its length.
    pub(crate) fn text(&mut self) -> Option<&'a [u8]> {
        let count = self.u32()?;
        self.bytes(count as usize)
    }
}
