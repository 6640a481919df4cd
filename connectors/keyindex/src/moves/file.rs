//! The files that keep moves at a seal: those that came since the last one, each in a file of its own.
//!
//! ```text
//! 0    magic, format, number of moves
//! 16   of each: file, its rows, the rows before its first one, how many new files and words follow; the new files with
//!      their rows; the words of the rows that were left out
//!      checksum of all before it
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use lakehead_core::Result;

use super::{LeftOut, Move, Moves};
use crate::FileId;
use crate::checksum::checksum;
use crate::failure::{damaged, io_error, other_format, read_error};
use crate::fields::Fields;
use crate::layout::FORMAT;

const MAGIC: [u8; 8] = *b"LHKEYMOV";
const HEAD_BYTES: usize = 16;
const CHECK_BYTES: usize = 8;

/// A file of moves.
#[derive(Debug)]
pub(crate) struct MovesFile {
    pub(crate) number: u64,
    pub(crate) check: u64,
    pub(crate) path: PathBuf,
    /// The files of which it says where their rows stand.
    pub(crate) files: Vec<FileId>,
}

impl MovesFile {
    /// Writes the moves of some files.
    pub(crate) fn write((number, path): (u64, PathBuf), moves: &Moves, files: Vec<FileId>) -> Result<Self> {
        let known: Vec<_> = files.iter().filter_map(|file| Some((*file, moves.get(*file)?))).collect();
        let mut bytes = [&MAGIC[..], &FORMAT.to_le_bytes(), &(known.len() as u32).to_le_bytes()].concat();
        for (file, moved) in known {
            encode(&mut bytes, file, moved);
        }
        let check = checksum(&bytes, number, 0);
        bytes.extend_from_slice(&check.to_le_bytes());
        fs::write(&path, bytes).map_err(|error| io_error(error, &path))?;
        Ok(Self { number, check, path, files })
    }

    /// Reads the file that the manifest names, and adds its moves.
    pub(crate) fn read(path: PathBuf, number: u64, check: u64, moves: &mut Moves) -> Result<Self> {
        let bytes = fs::read(&path).map_err(|error| read_error(error, &path))?;
        let read = decode(&bytes, number, check, &path)?;
        let files = read.iter().map(|(file, _)| *file).collect();
        read.into_iter().for_each(|(file, moved)| moves.restore(file, moved));
        Ok(Self { number, check, path, files })
    }
}

fn encode(bytes: &mut Vec<u8>, file: FileId, moved: &Move) {
    let words = moved.left_out.words();
    bytes.extend_from_slice(&file.0.to_le_bytes());
    bytes.extend_from_slice(&moved.left_out.rows().to_le_bytes());
    bytes.extend_from_slice(&moved.start.to_le_bytes());
    bytes.extend_from_slice(&(moved.to.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&(words.len() as u32).to_le_bytes());
    for (file, rows) in moved.to.iter() {
        bytes.extend_from_slice(&file.0.to_le_bytes());
        bytes.extend_from_slice(&rows.to_le_bytes());
    }
    words.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
}

fn decode(bytes: &[u8], number: u64, check: u64, path: &Path) -> Result<Vec<(FileId, Move)>> {
    if bytes.len() < HEAD_BYTES + CHECK_BYTES || bytes[..8] != MAGIC {
        return Err(damaged(path, "a file of moves has no head"));
    }
    let mut fields = Fields::new(&bytes[8..bytes.len() - CHECK_BYTES]);
    let format = fields.u32().unwrap_or_default();
    if format != FORMAT {
        return Err(other_format(path, format, FORMAT));
    }
    let (body, end) = bytes.split_at(bytes.len() - CHECK_BYTES);
    if checksum(body, number, 0) != check || end != check.to_le_bytes() {
        return Err(damaged(path, "the checksum of a file of moves does not hold"));
    }
    let moves = fields.u32().and_then(|count| (0..count).map(|_| one(&mut fields)).collect());
    moves.filter(|_| fields.is_empty()).ok_or_else(|| damaged(path, "a file of moves cannot be read"))
}

fn one(fields: &mut Fields<'_>) -> Option<(FileId, Move)> {
    let (file, rows, start) = (FileId(fields.u32()?), fields.u32()?, fields.u64()?);
    let (to, words) = (fields.u32()?, fields.u32()?);
    let to = (0..to).map(|_| Some((FileId(fields.u32()?), fields.u32()?))).collect::<Option<Vec<_>>>()?;
    let words = (0..words).map(|_| fields.u64()).collect::<Option<Vec<_>>>()?;
    Some((file, Move { left_out: LeftOut::of_words(rows, words), start, to: to.into() }))
}
