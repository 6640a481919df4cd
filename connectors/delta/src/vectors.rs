//! Deletion vectors: which rows of a data file are gone. Format: Delta protocol, "Deletion Vector Format".

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::array::{BooleanArray, BooleanBufferBuilder, RecordBatch};
use arrow::compute::filter_record_batch;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use lakehead_core::{Error, Result, failpoint};
use lakehead_lakefile::{Location, storage_error};
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The first bytes of every vector.
const MAGIC: u32 = 1_681_511_377;
/// The first byte of a file of vectors.
const FILE_VERSION: u8 = 1;
/// Bytes after which a file of vectors is closed: readers fetch the whole file for each vector in it.
const FILE_BYTES: usize = 256 * 1024;
/// Bytes of one vector at most: two milliards of rows.
const VECTOR_BYTES_MAX: u64 = 256 << 20;
/// Files of vectors that are read or written at once.
const FILES_AT_ONCE: usize = 8;
/// The digits of Z85 (ZeroMQ RFC 32).
const DIGITS: &[u8; 85] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
/// Digits of a uuid.
const UUID_DIGITS: usize = 20;

/// Where a vector lies, as the log says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    /// `u`: a file named by a uuid; `i`: in the log itself; `p`: a path anywhere.
    storage_type: String,
    path_or_inline_dv: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    size_in_bytes: u64,
    /// Rows that are gone.
    pub(crate) cardinality: u64,
}

impl Descriptor {
    /// Returns the name of the file that the vector lies in, where it lies in one of the table's.
    pub(crate) fn file(&self) -> Option<String> {
        if self.storage_type == "u" { file_name(&self.path_or_inline_dv) } else { None }
    }

    /// Returns the bytes of the vector.
    pub(crate) fn bytes(&self) -> u64 {
        self.size_in_bytes
    }

    /// Reads the vector out of its `data`, magic number first.
    fn decode(&self, data: &[u8], location: &Location) -> Result<Vector> {
        let vector = data.split_first_chunk::<4>().and_then(|(magic, bitmap)| {
            (u32::from_le_bytes(*magic) == MAGIC).then(|| RoaringTreemap::deserialize_from(bitmap).ok())?
        });
        let vector = vector.ok_or_else(|| broken(location, "its form"))?;
        if vector.len() == self.cardinality { Ok(vector) } else { Err(broken(location, "its number of rows")) }
    }
}

/// The rows of one file that are gone, by their place in it.
pub(crate) type Vector = RoaringTreemap;

fn broken(location: &Location, what: &str) -> Error {
    Error::incident("R0217", "a deletion vector of the table cannot be read")
        .with("table", location.url())
        .with("what", what)
        .help("bring the file back from a backup, or restore the table to a version before it")
}

/// Reads a vector, checking its length, its magic number and its checksum.
pub(crate) async fn read(location: &Location, descriptor: &Descriptor) -> Result<Vector> {
    Ok(read_all(location, &[descriptor]).await?.pop().unwrap_or_default())
}

/// Reads vectors as [`read`] does, those of one file with one request.
pub(crate) async fn read_all(location: &Location, descriptors: &[&Descriptor]) -> Result<Vec<Vector>> {
    let mut by_file: BTreeMap<String, (Vec<usize>, Vec<Range<u64>>)> = BTreeMap::new();
    let mut vectors = vec![Vector::new(); descriptors.len()];
    for (n, descriptor) in descriptors.iter().enumerate() {
        if descriptor.size_in_bytes > VECTOR_BYTES_MAX {
            return Err(broken(location, "it is too large"));
        }
        match descriptor.storage_type.as_str() {
            "i" => {
                let mut data = from_z85(&descriptor.path_or_inline_dv).ok_or_else(|| broken(location, "its text"))?;
                data.truncate(usize::try_from(descriptor.size_in_bytes).unwrap_or(usize::MAX));
                vectors[n] = descriptor.decode(&data, location)?;
            }
            "u" => {
                let name = file_name(&descriptor.path_or_inline_dv).ok_or_else(|| broken(location, "its name"))?;
                let from = descriptor.offset.unwrap_or(0);
                let (places, ranges) = by_file.entry(name).or_default();
                places.push(n);
                ranges.push(from..from.saturating_add(descriptor.size_in_bytes + 8));
            }
            _ => return Err(broken(location, "it lies outside the table")),
        }
    }
    let reads: Vec<_> = by_file.into_iter().map(|(name, of_file)| ranges_of(location, name, of_file)).collect();
    let mut reads = futures::stream::iter(reads).buffered(FILES_AT_ONCE);
    while let Some((places, found)) = reads.try_next().await? {
        for (n, bytes) in places.into_iter().zip(found) {
            let size = usize::try_from(descriptors[n].size_in_bytes).unwrap_or(usize::MAX);
            let data = checked(&bytes, size).ok_or_else(|| broken(location, "its checksum"))?;
            vectors[n] = descriptors[n].decode(&data, location)?;
        }
    }
    Ok(vectors)
}

/// Reads parts of one file, and hands on whose they are.
async fn ranges_of(
    location: &Location,
    name: String,
    (places, ranges): (Vec<usize>, Vec<Range<u64>>),
) -> Result<(Vec<usize>, Vec<Bytes>)> {
    let found = location.store().get_ranges(&location.path(&name), &ranges).await;
    let found = found.map_err(|error| match error {
        object_store::Error::NotFound { .. } => vacuumed(location, &name).caused_by(error),
        error => storage_error(error, &location.place(&name)),
    })?;
    Ok((places, found))
}

/// A version names vectors that are gone. Some vacuums of others take files of vectors for files that nobody needs.
fn vacuumed(location: &Location, name: &str) -> Error {
    Error::incident(
        "R0654",
        "a file of deletion vectors is gone: which rows of the table are deleted is not known any more",
    )
    .with("table", location.url())
    .with("file", name)
    .help("lakehead resync PIPELINE   has the next run read everything anew and replace the table in one commit")
    .help("leave removing old files to lakehead, or to a program that knows deletion vectors; or deletes = rewrite")
}

/// Takes a vector out of a file: length, data, checksum.
fn checked(bytes: &Bytes, size: usize) -> Option<Bytes> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (data, checksum) = rest.split_at_checked(size)?;
    let checksum = u32::from_be_bytes(checksum.try_into().ok()?);
    let whole = usize::try_from(u32::from_be_bytes(*length)).ok()? == size && crc32fast::hash(data) == checksum;
    whole.then(|| bytes.slice(4..4 + size))
}

/// Writes vectors into files of their own, several small ones into one; returns where each lies.
pub(crate) async fn write(location: &Location, vectors: &[&Vector]) -> Result<Vec<Descriptor>> {
    let mut descriptors = Vec::with_capacity(vectors.len());
    let (mut file, mut full) = (NewFile::default(), Vec::new());
    for vector in vectors {
        if file.bytes.len() > 1 && file.bytes.len() + vector.serialized_size() > FILE_BYTES {
            full.push(std::mem::take(&mut file));
            if full.len() == FILES_AT_ONCE {
                put(location, std::mem::take(&mut full)).await?;
            }
        }
        descriptors.push(file.add(vector)?);
    }
    full.extend((file.bytes.len() > 1).then_some(file));
    put(location, full).await?;
    Ok(descriptors)
}

async fn put(location: &Location, files: Vec<NewFile>) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    failpoint::hit("delta.vectors").await?;
    location.put_named_later(files.into_iter().map(|file| (uuid_file(file.uuid), file.bytes.into())).collect()).await
}

/// A file of vectors, in memory.
struct NewFile {
    uuid: Uuid,
    bytes: Vec<u8>,
}

impl Default for NewFile {
    fn default() -> Self {
        Self { uuid: Uuid::new_v4(), bytes: vec![FILE_VERSION] }
    }
}

impl NewFile {
    fn add(&mut self, vector: &Vector) -> Result<Descriptor> {
        let offset = self.bytes.len();
        let size = size_of_val(&MAGIC) + vector.serialized_size();
        let length = u32::try_from(size).map_err(|_| Error::bug("a deletion vector is too large"))?;
        self.bytes.reserve(size + 8);
        self.bytes.extend(length.to_be_bytes());
        let begin = self.bytes.len();
        self.bytes.extend(MAGIC.to_le_bytes());
        let written = vector.serialize_into(&mut self.bytes);
        written.map_err(|error| Error::bug("a bitmap cannot be written").caused_by(error))?;
        let checksum = crc32fast::hash(&self.bytes[begin..]);
        self.bytes.extend(checksum.to_be_bytes());
        Ok(Descriptor {
            storage_type: "u".into(),
            path_or_inline_dv: to_z85(self.uuid.as_bytes()),
            offset: Some(offset as u64),
            size_in_bytes: size as u64,
            cardinality: vector.len(),
        })
    }
}

/// Takes the rows that are gone out of a batch that begins at row `start` of its file.
pub(crate) fn live_rows(batch: RecordBatch, start: u64, gone: Option<&Vector>) -> Result<RecordBatch> {
    let end = start + batch.num_rows() as u64;
    let Some(gone) = gone.filter(|gone| gone.range_cardinality(start..end) > 0) else { return Ok(batch) };
    let mut stays = BooleanBufferBuilder::new(batch.num_rows());
    stays.append_n(batch.num_rows(), true);
    let mut gone = gone.iter();
    gone.advance_to(start);
    for row in gone.take_while(|row| *row < end) {
        stays.set_bit(usize::try_from(row - start).unwrap_or(0), false);
    }
    Ok(filter_record_batch(&batch, &BooleanArray::from(stays.finish()))?)
}

/// Returns whether a file's name, without its folder, is that of a file of vectors.
pub(crate) fn is_file_of_vectors(name: &str) -> bool {
    let uuid = name.strip_prefix("deletion_vector_").and_then(|rest| rest.strip_suffix(".bin"));
    uuid.is_some_and(|uuid| Uuid::try_parse(uuid).is_ok())
}

/// Returns the name of a vector's file: an optional folder, then the uuid in Z85.
pub(crate) fn file_name(text: &str) -> Option<String> {
    let (folder, digits) = text.split_at_checked(text.len().checked_sub(UUID_DIGITS)?)?;
    let uuid = Uuid::from_slice(&from_z85(digits)?).ok()?;
    let folder = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    Some(format!("{folder}{}", uuid_file(uuid)))
}

fn uuid_file(uuid: Uuid) -> String {
    format!("deletion_vector_{uuid}.bin")
}

fn to_z85(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() / 4 * 5);
    for word in bytes.chunks_exact(4) {
        let mut number = word.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
        let mut digits = [0_u8; 5];
        for digit in digits.iter_mut().rev() {
            *digit = DIGITS[(number % 85) as usize];
            number /= 85;
        }
        text.extend(digits.map(char::from));
    }
    text
}

fn from_z85(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 5 * 4);
    for digits in text.as_bytes().chunks(5) {
        let mut number = 0_u64;
        for digit in digits {
            number = number * 85 + DIGITS.iter().position(|known| known == digit)? as u64;
        }
        if digits.len() != 5 {
            return None;
        }
        bytes.extend(u32::try_from(number).ok()?.to_be_bytes());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use lakehead_core::Settings;

    use super::*;

    #[test]
    fn z85_is_that_of_its_specification() {
        let bytes = [0x86, 0x4F, 0xD2, 0x6F, 0xB5, 0x59, 0xF7, 0x5B];
        assert_eq!(to_z85(&bytes), "HelloWorld");
        assert_eq!(from_z85("HelloWorld").unwrap(), bytes);
        assert_eq!(from_z85("Hello~orld"), None);
        assert_eq!(from_z85("#####"), None, "more than four bytes hold");
    }

    /// The example of the Delta protocol.
    #[test]
    fn a_name_is_that_of_the_protocol() {
        let name = file_name("ab^-aqEH.-t@S}K{vb[*k^").unwrap();
        assert_eq!(name, "ab/deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin");
        assert_eq!(file_name("short"), None);
    }

    #[tokio::test]
    async fn vectors_read_back_as_they_were_written_and_damage_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::open("t", folder.path(), &Settings::default()).unwrap();
        let vectors: Vec<Vector> = vec![
            [3, 4, 7, 11, 18, 29].into_iter().collect(),
            (0..300_000).step_by(3).collect(),
            (0..3_000_000).step_by(5).collect(),
            [u64::from(u32::MAX) + 7].into_iter().collect(),
        ];
        let descriptors = write(&location, &vectors.iter().collect::<Vec<_>>()).await.unwrap();
        let files: std::collections::BTreeSet<_> = descriptors.iter().map(|d| &d.path_or_inline_dv).collect();
        assert_eq!(files.len(), 3, "a large one lies alone");
        for (vector, descriptor) in vectors.iter().zip(&descriptors) {
            assert_eq!(&read(&location, descriptor).await.unwrap(), vector);
        }
        let name = file_name(&descriptors[0].path_or_inline_dv).unwrap();
        let path = folder.path().join("t").join(name);
        let whole = std::fs::read(&path).unwrap();
        for at in 1..40 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(read(&location, &descriptors[0]).await.unwrap_err().code(), "R0217", "byte {at}");
        }
        let other = Descriptor { storage_type: "p".into(), ..descriptors[0].clone() };
        assert_eq!(read(&location, &other).await.unwrap_err().code(), "R0217");
    }
}
