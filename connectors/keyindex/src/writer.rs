//! Writes a run from sorted entries, holding a quarter of a megabyte and the fences.

use std::collections::HashMap;
use std::fs::File;
use std::hash::BuildHasherDefault;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lakehead_core::Result;

use crate::blocks::Budget;
use crate::bloom::BloomWriter;
use crate::checksum::checksum;
use crate::entry::{ENTRY_BYTES, Entry};
use crate::failure::io_error;
use crate::layout::{BLOCK_BYTES, BLOCK_ENTRIES, Head, blocks_at, close_block};
use crate::moves::IdHasher;
use crate::run::Run;

/// Bytes written at once, a whole number of blocks.
const PIECE_BYTES: usize = 64 * BLOCK_BYTES;

/// A file that goes away with this value unless it is kept: an unfinished run, or a sorted part of a rebuild.
pub(crate) struct Passing {
    path: PathBuf,
    kept: bool,
}

impl Passing {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, kept: false }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        if !self.kept {
            // What stays behind is swept at the next open.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Writes one run.
pub(crate) struct RunWriter {
    passing: Passing,
    file: File,
    number: u64,
    bloom_lines: u64,
    bloom: BloomWriter,
    piece: Vec<u8>,
    in_block: usize,
    written: u64,
    fences: Vec<u64>,
    counts: HashMap<u32, u64, BuildHasherDefault<IdHasher>>,
    count: u64,
    last: Option<Entry>,
}

impl RunWriter {
    /// Creates the file of a run, with a bloom filter of so many lines.
    pub(crate) fn create((number, path): (u64, PathBuf), bloom_lines: u64) -> Result<Self> {
        // A builder of an index that was cleared may still write under numbers of its own.
        let file = File::create_new(&path).map_err(|error| io_error(error, &path))?;
        Ok(Self {
            passing: Passing::new(path),
            file,
            number,
            bloom_lines,
            bloom: BloomWriter::new(number, bloom_lines),
            piece: Vec::with_capacity(PIECE_BYTES),
            in_block: 0,
            written: 0,
            fences: Vec::new(),
            counts: HashMap::default(),
            count: 0,
            last: None,
        })
    }

    fn path(&self) -> &Path {
        &self.passing.path
    }

    /// Adds an entry whose hash is not less than the last one's; an exact repeat is left out.
    pub(crate) fn push(&mut self, entry: Entry) -> Result<()> {
        if self.last == Some(entry) {
            return Ok(());
        }
        self.last = Some(entry);
        if self.in_block == 0 {
            self.fences.push(entry.high());
        }
        self.bloom.add(entry.hash(), &self.file, &self.passing.path)?;
        self.piece.extend_from_slice(&entry.encode());
        *self.counts.entry(entry.place().file.0).or_default() += 1;
        self.count += 1;
        self.in_block += 1;
        if self.in_block == BLOCK_ENTRIES { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> Result<()> {
        let start = self.piece.len() - self.in_block * ENTRY_BYTES;
        self.piece.resize(start + BLOCK_BYTES, 0);
        close_block(&mut self.piece[start..], self.number, self.fences.len() as u64 - 1);
        self.in_block = 0;
        if self.piece.len() >= PIECE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.write(&self.piece, blocks_at(self.bloom_lines) + self.written)?;
        self.written += self.piece.len() as u64;
        self.piece.clear();
        Ok(())
    }

    fn write(&self, bytes: &[u8], at: u64) -> Result<()> {
        self.file.write_all_at(bytes, at).map_err(|error| io_error(error, self.path()))
    }

    /// Finishes and opens the run; without entries there is none and no file is left.
    pub(crate) fn finish(mut self, budget: &Arc<Budget>) -> Result<Option<Run>> {
        if self.count == 0 {
            return Ok(None);
        }
        if self.in_block > 0 {
            self.end_block()?;
        }
        self.flush()?;
        let bloom_check = self.bloom.finish(&self.file, &self.passing.path)?;
        let fences: Vec<u8> = self.fences.iter().flat_map(|fence| fence.to_le_bytes()).collect();
        let mut counts: Vec<_> = self.counts.iter().collect();
        counts.sort_unstable();
        let counts: Vec<u8> =
            counts.iter().flat_map(|(file, count)| [&file.to_le_bytes()[..], &count.to_le_bytes()].concat()).collect();
        let mut head = Head {
            number: self.number,
            count: self.count,
            bloom_lines: self.bloom_lines,
            bloom_check,
            fences_check: 0,
            file_count: self.counts.len() as u64,
            files_check: 0,
        };
        head.fences_check = checksum(&fences, self.number, head.fences_at());
        head.files_check = checksum(&counts, self.number, head.files_at());
        self.write(&fences, head.fences_at())?;
        self.write(&counts, head.files_at())?;
        self.write(&head.encode(), 0)?;
        let run = Run::open(self.passing.path.clone(), self.number, budget)?;
        self.passing.kept = true;
        Ok(Some(run))
    }
}
