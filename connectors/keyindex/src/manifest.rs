//! The manifest: the one file that says which others count.

use std::fs;
use std::path::Path;

use lakehead_core::Result;

use crate::checksum::checksum;
use crate::entry::{read_u32, read_u64};
use crate::failure::{damaged, io_error, other_format};
use crate::fields::Fields;
use crate::layout::FORMAT;

const NAME: &str = "manifest.keys";
const UNFINISHED: &str = "manifest.unfinished";
const MAGIC: [u8; 8] = *b"LHKEYMAN";
/// Magic and format before, the checksum behind.
const FRAME_BYTES: usize = 12 + 8;

/// What a seal keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) stamp: Vec<u8>,
    /// The first number that no file of the index has had.
    pub(crate) next_number: u64,
    /// Number and head checksum of each run, the oldest first.
    pub(crate) runs: Vec<(u64, u64)>,
    /// Number and bytes of the tail, the entries that are in no run yet.
    pub(crate) tail: Option<(u64, u64)>,
    /// Number and checksum of each file of moves.
    pub(crate) moves: Vec<(u64, u64)>,
    pub(crate) next_file: u32,
    pub(crate) files: Vec<(u32, String)>,
}

impl Manifest {
    /// Puts the manifest in the place of the last one, wholly or not at all.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let unfinished = folder.join(UNFINISHED);
        fs::write(&unfinished, self.encode()).map_err(|error| io_error(error, &unfinished))?;
        fs::rename(&unfinished, folder.join(NAME)).map_err(|error| io_error(error, &unfinished))
    }

    /// Reads the manifest; `None` where there is none.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(NAME);
        match fs::read(&path) {
            Ok(bytes) => Self::decode(&bytes, &path).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error(error, &path)),
        }
    }

    /// Removes the manifest; without it there is no index.
    pub(crate) fn remove(folder: &Path) -> Result<()> {
        let path = folder.join(NAME);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io_error(error, &path)),
            _ => Ok(()),
        }
    }

    /// Returns whether a file of that name is a manifest that was not finished.
    pub(crate) fn is_unfinished(name: &str) -> bool {
        name == UNFINISHED
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = [&MAGIC[..], &FORMAT.to_le_bytes()].concat();
        let (tail, tail_bytes) = self.tail.unwrap_or((u64::MAX, 0));
        for number in [self.next_number, tail, tail_bytes, self.runs.len() as u64] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&(self.moves.len() as u64).to_le_bytes());
        for (number, check) in self.runs.iter().chain(&self.moves) {
            bytes.extend_from_slice(&number.to_le_bytes());
            bytes.extend_from_slice(&check.to_le_bytes());
        }
        put_text(&mut bytes, &self.stamp);
        bytes.extend_from_slice(&self.next_file.to_le_bytes());
        bytes.extend_from_slice(&(self.files.len() as u32).to_le_bytes());
        for (id, name) in &self.files {
            bytes.extend_from_slice(&id.to_le_bytes());
            put_text(&mut bytes, name.as_bytes());
        }
        let check = checksum(&bytes, 0, 0);
        bytes.extend_from_slice(&check.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8], path: &Path) -> Result<Self> {
        if bytes.len() < FRAME_BYTES || bytes[..8] != MAGIC {
            return Err(damaged(path, "the manifest has no head"));
        }
        if read_u32(bytes, 8) != FORMAT {
            return Err(other_format(path, read_u32(bytes, 8), FORMAT));
        }
        let (body, check) = bytes.split_at(bytes.len() - 8);
        if checksum(body, 0, 0) != read_u64(check, 0) {
            return Err(damaged(path, "the checksum of the manifest does not hold"));
        }
        read(Fields::new(&body[12..])).ok_or_else(|| damaged(path, "the manifest cannot be read"))
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
    bytes.extend_from_slice(text);
}

/// Reads what stands behind the format; `None` where it is not a manifest.
fn read(mut fields: Fields<'_>) -> Option<Manifest> {
    let (next_number, tail, tail_bytes, runs) = (fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?);
    let moves = fields.u64()?;
    let mut numbered = |count| (0..count).map(|_| Some((fields.u64()?, fields.u64()?))).collect::<Option<_>>();
    let (runs, moves) = (numbered(runs)?, numbered(moves)?);
    let stamp = fields.text()?.to_vec();
    let (next_file, files) = (fields.u32()?, fields.u32()?);
    let files = (0..files)
        .map(|_| Some((fields.u32()?, String::from_utf8(fields.text()?.to_vec()).ok()?)))
        .collect::<Option<Vec<_>>>()?;
    let tail = (tail != u64::MAX).then_some((tail, tail_bytes));
    let sound = fields.is_empty() && files.iter().all(|(id, _)| *id < next_file);
    sound.then_some(Manifest { stamp, next_number, runs, tail, moves, next_file, files })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_survives_its_encoding_and_no_cut_or_flip() {
        let manifest = Manifest {
            stamp: b"table 7, version 3".to_vec(),
            next_number: 9,
            runs: vec![(1, 11), (8, 12)],
            tail: Some((4, 400)),
            moves: vec![(5, 12), (7, 13)],
            next_file: 3,
            files: vec![(0, "a.parquet".into()), (2, "ö.parquet".into())],
        };
        let path = Path::new("manifest");
        let bytes = manifest.encode();
        assert_eq!(Manifest::decode(&bytes, path).unwrap(), manifest);
        for at in 0..bytes.len() {
            Manifest::decode(&bytes[..at], path).unwrap_err();
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            Manifest::decode(&flipped, path).unwrap_err();
        }
    }
}
