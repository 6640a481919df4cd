//! One merge: the rows of some live files, written anew into fewer.
//!
//! It reads files that never change and writes files that no version names yet, so that it may run beside any number of
//! rounds. Rows that go meanwhile are found again by their place: the surviving rows keep their order, so that the n-th
//! of them is the n-th of the new files.

use futures::{StreamExt, TryStreamExt};
use lakehead_core::{Result, failpoint};
use lakehead_keyindex::LeftOut;
use lakehead_lakefile::{Location, SpliceInput, read_file, read_gathered, splice};

use super::choose::bytes;
use crate::keyed::row_number;
use crate::live::LiveFile;
use crate::merge::add_partition_columns;
use crate::schema::to_lake;
use crate::stage::{DataWriters, StagedFile};
use crate::vectors::{self, Vector, live_rows};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

/// Rows that are encoded before others may go on.
const ROWS_AT_ONCE: usize = 16 * 1024;

/// Bytes up to which a file is small: read with its neighbours, ahead of their turn.
const SMALL_BYTES_MAX: u64 = 1 << 20;
/// Bytes of small files that are read together, and how many files.
const GATHERED_BYTES: u64 = 1 << 20;
const GATHERED_FILES: usize = 32;

/// What is to be merged, and how it is written.
pub(crate) struct Merge {
    pub(crate) location: Location,
    pub(crate) schema: SchemaRef,
    pub(crate) files: Vec<LiveFile>,
    pub(crate) writers: DataWriters,
}

/// A file that was merged, as it was when the merge began.
#[derive(Debug)]
pub(crate) struct OldFile {
    pub(crate) file: LiveFile,
    rows: u64,
    /// The rows that were gone.
    gone: Vector,
    /// Rows that precede its first one in the new files.
    start: u64,
}

/// What a merge came to.
pub(crate) struct Merged {
    pub(crate) old: Vec<OldFile>,
    pub(crate) new: Vec<StagedFile>,
}

impl Merge {
    /// Reads and writes; touches no version.
    pub(crate) async fn run(mut self) -> Result<Merged> {
        failpoint::hit("delta.merge.files").await?;
        if let Some(merged) = self.splice().await? {
            return Ok(merged);
        }
        let mut old = Vec::with_capacity(self.files.len());
        let mut start = 0;
        let location = self.location.clone();
        let loads = gathered(std::mem::take(&mut self.files)).into_iter().map(|files| load(&location, files));
        // The next are read while these are written.
        let mut loads = futures::stream::iter(loads).buffered(2).boxed();
        while let Some(loaded) = loads.try_next().await? {
            for Loaded { file, gone, rows } in loaded {
                let (rows, kept) = self.copy(&file, &gone, rows).await?;
                old.push(OldFile { file, rows, gone, start });
                start += kept;
            }
        }
        drop(loads);
        Ok(Merged { old, new: self.writers.finish().await? })
    }

    /// Puts whole files behind one another without decoding them, where they allow it.
    async fn splice(&mut self) -> Result<Option<Merged>> {
        let whole = |file: &LiveFile| file.vector.is_none() && file.rows().is_some();
        let whole = self.files.len() > 1 && self.files.iter().all(whole);
        let Some(partition) = self.files.first().filter(|_| whole).map(|file| file.partition.clone()) else {
            return Ok(None);
        };
        let input = |file: &LiveFile| SpliceInput {
            name: file.name.clone(),
            size: bytes(file),
            rows: file.rows().unwrap_or(0),
        };
        let inputs: Vec<SpliceInput> = self.files.iter().map(input).collect();
        let name = self.writers.new_name(&partition);
        let Some(file) = splice(&self.location, &name, &inputs).await? else { return Ok(None) };
        if self.files.iter().filter_map(LiveFile::rows).sum::<u64>() != file.statistics.rows {
            // A statistic that lies: places cannot be told by it.
            return Ok(None);
        }
        let mut start = 0;
        let files = std::mem::take(&mut self.files).into_iter();
        let old = files.map(|file| {
            let old = OldFile { start, rows: file.rows().unwrap_or(0), gone: Vector::new(), file };
            start += old.rows;
            old
        });
        let new = vec![StagedFile { file, partition, keys: None }];
        Ok(Some(Merged { old: old.collect(), new }))
    }

    /// Writes the rows of `file` that are not gone; returns how many there were, and how many were written.
    async fn copy(&mut self, file: &LiveFile, gone: &Vector, rows: Option<Vec<RecordBatch>>) -> Result<(u64, u64)> {
        let (mut row, mut kept) = (0, 0);
        let mut batches = match rows {
            Some(rows) => futures::stream::iter(rows.into_iter().map(Ok)).boxed(),
            None => read_file(&self.location, &file.name, None).await?.boxed(),
        };
        while let Some(batch) = batches.try_next().await? {
            for from in (0..batch.num_rows()).step_by(ROWS_AT_ONCE) {
                let part = batch.slice(from, ROWS_AT_ONCE.min(batch.num_rows() - from));
                let start = row;
                row += part.num_rows() as u64;
                let left = live_rows(part, start, Some(gone))?;
                kept += left.num_rows() as u64;
                if left.num_rows() > 0 {
                    let whole = add_partition_columns(&left, &file.partition, &self.schema)?;
                    self.writers.write(&to_lake(&whole, &self.schema)?).await?;
                }
                // Rounds come first.
                tokio::task::yield_now().await;
            }
        }
        Ok((row, kept))
    }
}

/// A file whose turn is near.
struct Loaded {
    file: LiveFile,
    gone: Vector,
    /// All its rows, where it is small.
    rows: Option<Vec<RecordBatch>>,
}

/// Puts neighbours that are small together, in their order.
fn gathered(files: Vec<LiveFile>) -> Vec<Vec<LiveFile>> {
    let mut groups: Vec<(u64, Vec<LiveFile>)> = Vec::new();
    for file in files {
        let size = bytes(&file);
        match groups.last_mut() {
            Some((read, group)) if *read + size <= GATHERED_BYTES && group.len() < GATHERED_FILES => {
                *read += size;
                group.push(file);
            }
            _ => groups.push((size, vec![file])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// Reads small files, and which rows of any file are gone.
async fn load(location: &Location, files: Vec<LiveFile>) -> Result<Vec<Loaded>> {
    let small = files.iter().all(|file| bytes(file) <= SMALL_BYTES_MAX);
    let names: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
    let mut rows = if small { read_gathered(location, &names).await? } else { Vec::new() }.into_iter();
    let marked: Vec<_> = files.iter().filter_map(|file| file.vector.as_ref()).collect();
    let mut marks = vectors::read_all(location, &marked).await?.into_iter();
    let of = |file: LiveFile| {
        let gone = file.vector.as_ref().and_then(|_| marks.next()).unwrap_or_default();
        Loaded { file, gone, rows: rows.next() }
    };
    Ok(files.into_iter().map(of).collect())
}

impl OldFile {
    /// Returns the name of the file.
    pub(crate) fn name(&self) -> &str {
        &self.file.name
    }

    /// Returns which of its rows are not in the new files.
    pub(crate) fn left_out(&self) -> Result<LeftOut> {
        let gone = self.gone.iter().filter_map(|row| u32::try_from(row).ok());
        Ok(LeftOut::new(row_number(self.rows)?, gone))
    }
}

impl Merged {
    /// Returns, per new file, which of its rows are gone by now: those that went from the old files since the merge began.
    /// `now` holds what is gone from each old file.
    pub(crate) fn carried(&self, now: &[Vector]) -> Vec<Vector> {
        let mut carried = vec![Vector::new(); self.new.len()];
        for (old, now) in self.old.iter().zip(now) {
            for row in now - &old.gone {
                // The rows before it that were left out are not counted.
                let place = old.start + row - old.gone.rank(row);
                self.mark(place, &mut carried);
            }
        }
        carried
    }

    fn mark(&self, mut place: u64, carried: &mut [Vector]) {
        for (file, gone) in self.new.iter().zip(carried) {
            let rows = file.file.statistics.rows;
            if place < rows {
                gone.insert(place);
                return;
            }
            place -= rows;
        }
    }

    /// Bytes of the new files.
    pub(crate) fn bytes(&self) -> u64 {
        self.new.iter().map(|file| file.file.size).sum()
    }
}

#[cfg(test)]
mod tests {
    use lakehead_lakefile::{FileStatistics, WrittenFile};
    use serde_json::json;

    use super::*;

    fn old(start: u64, gone: &[u64]) -> OldFile {
        let add = json!({ "path": "a", "partitionValues": {}, "size": 1, "modificationTime": 0, "dataChange": true });
        let file = LiveFile::of(serde_json::from_value(add).unwrap()).unwrap();
        OldFile { file, rows: 10, gone: gone.iter().copied().collect(), start }
    }

    fn new(rows: u64) -> StagedFile {
        let statistics = FileStatistics { rows, ..FileStatistics::default() };
        StagedFile { file: WrittenFile { name: "n".into(), size: 1, statistics }, partition: Vec::new(), keys: None }
    }

    #[test]
    fn rows_that_went_meanwhile_are_found_where_they_stand_now() {
        // Ten rows each; three and two were gone: survivors 0..7 and 7..15, in files of 10 and 5 rows.
        let new = vec![new(10), new(5)];
        let merged = Merged { old: vec![old(0, &[0, 4, 9]), old(7, &[1, 2])], new };
        let now = [[0_u64, 1, 4, 8, 9].into_iter().collect(), [0_u64, 1, 2, 9].into_iter().collect()];
        let carried: Vec<Vec<u64>> = merged.carried(&now).into_iter().map(|gone| gone.into_iter().collect()).collect();
        // Row 1 is the first survivor, row 8 the last of its file; row 0 of the second is the eighth, row 9 the last.
        assert_eq!(carried, [vec![0, 6, 7], vec![4]]);
    }
}
