//! The newest row of each key, where a source says a key again: files hold every version of a row.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::row::{RowConverter, SortField};
use lakehead_core::{Error, Result, state_disk_error};

use super::sums::{Ranges, hashes, ranges};

/// Files that the rows are parted into by their keys, so that the keys of one fit in memory: a hundred million come to 1.6
/// million each.
const PARTS: usize = 64;
/// Bytes of a value of `sequence_by` at most.
const SEQUENCE_BYTES_MAX: u32 = 1 << 20;

/// Rows on their way, without their values: what they hash to, and what says which of a key is newer.
#[derive(Debug)]
pub(super) struct Newest {
    folder: PathBuf,
    parts: Vec<Option<BufWriter<File>>>,
}

/// One row.
#[derive(Debug, PartialEq)]
struct Row {
    key: u128,
    hash: u128,
    range: Option<i64>,
    /// Its value of `sequence_by`, in bytes that compare as the values do.
    sequence: Box<[u8]>,
}

impl Newest {
    /// Keeps rows in files below `folder`, which are gone with the process.
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf(), parts: (0..PARTS).map(|_| None).collect() }
    }

    /// Adds rows in the order in which they arrive, hashed over `columns`.
    pub(super) fn add(
        &mut self,
        rows: &RecordBatch,
        columns: &[String],
        key: &[String],
        sequence_by: Option<&str>,
    ) -> Result<()> {
        let sequences = sequence_by.and_then(|column| rows.column_by_name(column));
        let sequences = sequences
            .map(|column| {
                let converter = RowConverter::new(vec![SortField::new(column.data_type().clone())])?;
                converter.convert_columns(std::slice::from_ref(column))
            })
            .transpose()?;
        let found = hashes(rows, key)?.into_iter().zip(hashes(rows, columns)?).zip(ranges(rows, key)?);
        for (number, ((key, hash), range)) in found.enumerate() {
            let sequence = sequences.as_ref().map_or_else(Box::default, |rows| rows.row(number).data().into());
            let row = Row { key, hash, range, sequence };
            self.write(&row).map_err(|error| failed(error, &self.folder))?;
        }
        Ok(())
    }

    fn write(&mut self, row: &Row) -> std::io::Result<()> {
        let part = &mut self.parts[usize::try_from(row.key % PARTS as u128).unwrap_or(0)];
        let file = match part {
            Some(file) => file,
            None => part.insert(BufWriter::new(tempfile::tempfile_in(&self.folder)?)),
        };
        row.write(file)
    }

    /// Returns the sums of the newest rows, and how many rows a newer one of their key took the place of.
    pub(super) fn finish(self) -> Result<(Ranges, u64)> {
        let (mut sums, mut older) = (Ranges::new(), 0);
        for part in self.parts.into_iter().flatten() {
            let (newest, of_part) = newest_of(part).map_err(|error| failed(error, &self.folder))?;
            older += of_part;
            newest.into_values().for_each(|row| sums.entry(row.range).or_default().add(row.hash));
        }
        Ok((sums, older))
    }
}

/// Reads one part back.
fn newest_of(part: BufWriter<File>) -> std::io::Result<(HashMap<u128, Row>, u64)> {
    let mut file = part.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    file.rewind()?;
    let mut file = BufReader::new(file);
    let (mut newest, mut older) = (HashMap::new(), 0);
    while let Some(row) = Row::read(&mut file)? {
        match newest.entry(row.key) {
            Entry::Vacant(place) => drop(place.insert(row)),
            Entry::Occupied(mut place) => {
                older += 1;
                // Of equal ones the newer arrival wins, as in the lake.
                if row.sequence >= place.get().sequence {
                    place.insert(row);
                }
            }
        }
    }
    Ok((newest, older))
}

impl Row {
    fn write(&self, to: &mut impl Write) -> std::io::Result<()> {
        to.write_all(&self.key.to_le_bytes())?;
        to.write_all(&self.hash.to_le_bytes())?;
        to.write_all(&[u8::from(self.range.is_some())])?;
        to.write_all(&self.range.unwrap_or(0).to_le_bytes())?;
        let length = u32::try_from(self.sequence.len()).ok().filter(|length| *length <= SEQUENCE_BYTES_MAX);
        let length = length.ok_or_else(|| std::io::Error::other("a value of `sequence_by` is longer than 1 MiB"))?;
        to.write_all(&length.to_le_bytes())?;
        to.write_all(&self.sequence)
    }

    fn read(from: &mut impl Read) -> std::io::Result<Option<Self>> {
        let mut key = [0; 16];
        match from.read_exact(&mut key) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let (mut hash, mut has_range, mut range, mut length) = ([0; 16], [0; 1], [0; 8], [0; 4]);
        from.read_exact(&mut hash)?;
        from.read_exact(&mut has_range)?;
        from.read_exact(&mut range)?;
        from.read_exact(&mut length)?;
        let mut sequence = vec![0; u32::from_le_bytes(length) as usize];
        from.read_exact(&mut sequence)?;
        let range = (has_range == [1]).then(|| i64::from_le_bytes(range));
        let (key, hash) = (u128::from_le_bytes(key), u128::from_le_bytes(hash));
        Ok(Some(Self { key, hash, range, sequence: sequence.into() }))
    }
}

fn failed(error: std::io::Error, folder: &Path) -> Error {
    let known = state_disk_error(&error).unwrap_or_else(|| {
        Error::external("R0655", "the rows of the source cannot be set down to find the newest of each key")
            .help("give the user who runs lakehead the right to write there, or change `state` in lakehead.toml")
    });
    known.with("folder", folder.display()).caused_by(error)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    fn rows(ids: &[i64], at: &[Option<i64>], notes: &[&str]) -> RecordBatch {
        let columns: [(&str, ArrayRef); 3] = [
            ("id", Arc::new(Int64Array::from(ids.to_vec()))),
            ("at", Arc::new(Int64Array::from(at.to_vec()))),
            ("note", Arc::new(StringArray::from(notes.to_vec()))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn sums(batches: &[RecordBatch], sequence_by: Option<&str>) -> (Ranges, u64) {
        let folder = tempfile::tempdir().unwrap();
        let mut newest = Newest::new(folder.path());
        let columns = ["id", "at", "note"].map(str::to_owned);
        for batch in batches {
            newest.add(batch, &columns, &columns[..1], sequence_by).unwrap();
        }
        newest.finish().unwrap()
    }

    #[test]
    fn the_last_of_a_key_counts_or_the_one_that_sequence_by_says() {
        let batches = [
            rows(&[1, 2, 1_000_001], &[Some(9), Some(5), None], &["a", "b", "c"]),
            rows(&[2, 1, 1_000_001], &[Some(5), Some(3), Some(0)], &["d", "e", "f"]),
        ];
        let last = rows(&[2, 1, 1_000_001], &[Some(5), Some(3), Some(0)], &["d", "e", "f"]);
        assert_eq!(sums(&batches, None), (sums(&[last], None).0, 3));
        let by_time = rows(&[1, 2, 1_000_001], &[Some(9), Some(5), Some(0)], &["a", "d", "f"]);
        assert_eq!(sums(&batches, Some("at")), (sums(&[by_time], None).0, 3));
        assert_eq!(sums(&batches, None).0.len(), 2, "ranges are those of the keys");
    }
}
