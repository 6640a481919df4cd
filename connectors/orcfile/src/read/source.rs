//! Where a file's bytes come from.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use bytes::Bytes;
use lakehead_core::Result;

use crate::fault::{damaged, unreadable};

/// All bytes of a file, or a file to read parts of.
pub(super) enum Source {
    Bytes(Bytes),
    File(File, u64),
}

impl Source {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(_, len) => *len,
        }
    }

    /// Returns `length` bytes from `offset`; never allocates beyond the file's own length.
    pub(super) fn read(&self, offset: u64, length: u64) -> Result<Bytes> {
        let end = offset.checked_add(length).filter(|end| *end <= self.len());
        let end = end.ok_or_else(|| damaged("a place beyond the end of the file"))?;
        let far = |_| damaged("a place beyond memory");
        match self {
            Self::Bytes(bytes) => {
                Ok(bytes.slice(usize::try_from(offset).map_err(far)?..usize::try_from(end).map_err(far)?))
            }
            Self::File(file, _) => {
                let mut part = vec![0; usize::try_from(length).map_err(far)?];
                let mut file = file;
                file.seek(SeekFrom::Start(offset)).map_err(unreadable)?;
                file.read_exact(&mut part).map_err(unreadable)?;
                Ok(part.into())
            }
        }
    }
}
