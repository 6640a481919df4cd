//! Where a file's bytes come from.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;

use bytes::Bytes;
use lakehead_core::Result;

use crate::fault::{damaged, unreadable};

/// Fetches parts of a file that lies elsewhere.
pub trait FetchRanges: Send + Sync {
    /// Returns the bytes of each range, in their order. All lie within the file; they may be fetched together, with what
    /// lies between them.
    ///
    /// # Errors
    ///
    /// What the store answered.
    fn fetch(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>>;
}

/// A file to read parts of.
pub(super) struct Source {
    body: Body,
    length: u64,
    /// Where the last bytes begin that are held, and these.
    end: (u64, Bytes),
}

enum Body {
    Bytes(Bytes),
    File(File),
    Fetched(Box<dyn FetchRanges>),
}

impl Source {
    pub(super) fn bytes(bytes: Bytes) -> Self {
        let length = bytes.len() as u64;
        Self { body: Body::Bytes(bytes), length, end: (length, Bytes::new()) }
    }

    pub(super) fn file(file: File, length: u64) -> Self {
        Self { body: Body::File(file), length, end: (length, Bytes::new()) }
    }

    pub(super) fn fetched(length: u64, ranges: Box<dyn FetchRanges>) -> Self {
        Self { body: Body::Fetched(ranges), length, end: (length, Bytes::new()) }
    }

    pub(super) fn len(&self) -> u64 {
        self.length
    }

    /// Fetches the last bytes at once and keeps them: most of what a reader looks at first lies there.
    pub(super) fn hold_end(&mut self, length: u64) -> Result<()> {
        let from = self.length.saturating_sub(length);
        self.end = (from, self.read(from, self.length - from)?);
        Ok(())
    }

    /// Returns `length` bytes from `offset`; never allocates beyond the file's own length.
    pub(super) fn read(&self, offset: u64, length: u64) -> Result<Bytes> {
        let range = offset..offset.checked_add(length).ok_or_else(beyond)?;
        let found = self.read_all(std::slice::from_ref(&range))?;
        found.into_iter().next().ok_or_else(beyond)
    }

    /// Returns the bytes of each range.
    pub(super) fn read_all(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if ranges.iter().any(|range| range.end > self.length || range.start > range.end) {
            return Err(beyond());
        }
        if ranges.iter().all(|range| range.start >= self.end.0 || range.is_empty()) {
            return ranges.iter().map(|range| part(&self.end.1, range, self.end.0)).collect();
        }
        match &self.body {
            Body::Bytes(bytes) => ranges.iter().map(|range| part(bytes, range, 0)).collect(),
            Body::File(file) => ranges.iter().map(|range| read_file(file, range)).collect(),
            Body::Fetched(fetched) => {
                let found = fetched.fetch(ranges)?;
                let lengths = found.iter().map(|bytes| bytes.len() as u64);
                if !lengths.eq(ranges.iter().map(|range| range.end - range.start)) {
                    return Err(unreadable(ErrorKind::UnexpectedEof.into()));
                }
                Ok(found)
            }
        }
    }
}

fn beyond() -> lakehead_core::Error {
    damaged("a place beyond the end of the file")
}

/// Returns the bytes of a range of the file, of which `bytes` begin at `from`.
fn part(bytes: &Bytes, range: &Range<u64>, from: u64) -> Result<Bytes> {
    if range.is_empty() {
        return Ok(Bytes::new());
    }
    let place = |at: u64| at.checked_sub(from).and_then(|at| usize::try_from(at).ok()).ok_or_else(beyond);
    let (start, end) = (place(range.start)?, place(range.end)?);
    if end > bytes.len() {
        return Err(beyond());
    }
    Ok(bytes.slice(start..end))
}

fn read_file(mut file: &File, range: &Range<u64>) -> Result<Bytes> {
    let mut part = vec![0; usize::try_from(range.end - range.start).map_err(|_| damaged("a place beyond memory"))?];
    file.seek(SeekFrom::Start(range.start)).map_err(unreadable)?;
    file.read_exact(&mut part).map_err(unreadable)?;
    Ok(part.into())
}
