//! Bytes of Parquet files are not believed: what they claim is held against what is there before the library reads it, and
//! a decoder that fails over them fails its file alone.
//!
//! Bounds: a footer of 64 MiB, a million entries in a list of it, a page of 1 GiB unpacked, 64 million values in what is
//! decoded at once; no list longer than its bytes, no chunk outside of its file.

use std::cell::Cell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::{AsyncFileReader, MetadataFetch};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

use crate::thrift::{self, Walk};

/// A footer larger than this is no footer: it describes tens of thousands of row groups of a wide table.
const FOOTER_BYTES_MAX: u64 = 64 << 20;
/// Bytes of a page, unpacked: the library makes room for what a page's head says before it unpacks it.
const PAGE_BYTES_MAX: i64 = 1 << 30;
/// Values of the pages that are fetched at once. Few bytes can say that one value comes billions of times, and the values of
/// one row's list are in memory together. As many as the largest row group that others write.
const VALUES_MAX: u64 = 1 << 26;
/// Values that a byte may stand for where there are more: few of a whole file stand for more than a bit of each column.
const VALUES_PER_BYTE: u64 = 64;
/// The length of the footer and the magic, at the end of a file.
const END_BYTES: u64 = 8;

thread_local! {
    static CALM: Cell<bool> = const { Cell::new(false) };
}

/// Returns whether a panic on this thread would be one over a file's bytes, which becomes an error of that file.
pub fn is_calm() -> bool {
    CALM.get()
}

/// Does work over bytes that are not believed; a panic of it is an error.
pub fn calmly<T>(work: impl FnOnce() -> T) -> Result<T> {
    let before = CALM.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    CALM.set(before);
    done.map_err(|_| damaged("its data make the decoder fail"))
}

/// [`calmly`], for what waits.
pub(crate) async fn calm<F: Future>(work: F) -> Result<F::Output> {
    let mut work = Box::pin(work);
    std::future::poll_fn(|context| match calmly(|| work.as_mut().poll(context)) {
        Ok(polled) => polled.map(Ok),
        Err(error) => Poll::Ready(Err(error)),
    })
    .await
}

/// [`calmly`], for what comes piece by piece; behind a panic there is nothing more.
pub(crate) fn calm_stream<T, S>(stream: S) -> BoxStream<'static, Result<T>>
where
    S: Stream<Item = Result<T>> + Send + 'static,
    T: 'static,
{
    let mut inner = Some(stream.boxed());
    futures::stream::poll_fn(move |context| {
        let Some(stream) = &mut inner else { return Poll::Ready(None) };
        calmly(|| stream.poll_next_unpin(context)).unwrap_or_else(|error| {
            inner = None;
            Poll::Ready(Some(Err(error)))
        })
    })
    .boxed()
}

fn damaged(what: &str) -> ParquetError {
    ParquetError::General(what.to_owned())
}

/// Reads the footer of a file of `size` bytes, the last `at_once` of which are fetched first.
pub(crate) async fn read_footer<R: AsyncFileReader>(
    reader: &mut R,
    size: u64,
    at_once: u64,
) -> Result<ParquetMetaData> {
    let from = size.saturating_sub(at_once.max(END_BYTES));
    let end = reader.get_bytes(from..size).await?;
    let length = footer_length(&end, size)?;
    let range = size - END_BYTES - length..size - END_BYTES;
    let footer = match range.start.checked_sub(from) {
        Some(start) => end.slice(in_memory(start)?..in_memory(start + length)?),
        None => reader.get_bytes(range).await?,
    };
    decode_footer(&footer, size)
}

/// Reads the footer of a file that is in memory, and looks through its pages.
///
/// # Errors
/// Where it is damaged, or claims more than is there.
pub fn load_metadata(file: &Bytes) -> Result<ArrowReaderMetadata> {
    let size = file.len() as u64;
    let length = footer_length(file, size)?;
    let metadata = decode_footer(&file[in_memory(size - END_BYTES - length)?..in_memory(size - END_BYTES)?], size)?;
    let mut claimed: u64 = 0;
    for group in metadata.row_groups() {
        let mut most = u64::try_from(group.num_rows()).unwrap_or(0);
        for column in group.columns() {
            let (start, length) = column.byte_range();
            most = most.max(check_pages(&file[in_memory(start)?..in_memory(start + length)?])?);
        }
        claimed = claimed.saturating_add(most);
    }
    check_values(claimed, size)?;
    calmly(|| ArrowReaderMetadata::try_new(metadata.into(), ArrowReaderOptions::new()))?
}

/// Refuses more values than so many bytes can honestly stand for.
fn check_values(values: u64, bytes: u64) -> Result<()> {
    if values <= VALUES_MAX.max(bytes.saturating_mul(VALUES_PER_BYTE)) {
        return Ok(());
    }
    let most = format!("{values} rows or values in {bytes} bytes are more than {VALUES_PER_BYTE} for each of them");
    Err(damaged(&format!("{most}; write them in more row groups and files")))
}

fn in_memory(place: u64) -> Result<usize> {
    usize::try_from(place).map_err(|_| damaged("a place beyond memory"))
}

fn footer_length(end: &[u8], size: u64) -> Result<u64> {
    let Some((_, [a, b, c, d, magic @ ..])) = end.split_last_chunk::<8>() else {
        return Err(damaged("it is too short for a Parquet file"));
    };
    if magic != b"PAR1" {
        return Err(damaged("there is no Parquet at its end"));
    }
    let length = u64::from(u32::from_le_bytes([*a, *b, *c, *d]));
    if length > FOOTER_BYTES_MAX || length + END_BYTES > size {
        return Err(damaged("its footer is longer than it can be"));
    }
    Ok(length)
}

fn decode_footer(footer: &[u8], size: u64) -> Result<ParquetMetaData> {
    thrift::check(footer)?;
    let metadata = calmly(|| ParquetMetaDataReader::decode_metadata(footer))??;
    for group in metadata.row_groups() {
        if group.num_rows() < 0 || !group.columns().iter().all(|column| lies_within(column, size)) {
            return Err(damaged("a column chunk lies outside of the file"));
        }
    }
    Ok(metadata)
}

/// Whether a chunk and its indexes are places of the file. The library asserts it of some and believes it of others.
fn lies_within(column: &ColumnChunkMetaData, size: u64) -> bool {
    let is_place = |start: i64, length: i64| {
        let end = u64::try_from(start).ok().zip(u64::try_from(length).ok()).and_then(|(a, b)| a.checked_add(b));
        end.is_some_and(|end| end <= size)
    };
    let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
    let indexes = [
        (column.offset_index_offset(), column.offset_index_length()),
        (column.column_index_offset(), column.column_index_length()),
    ];
    let indexed = |(start, length): (Option<i64>, Option<i32>)| {
        start.is_none() && length.is_none() || is_place(start.unwrap_or(0), i64::from(length.unwrap_or(0)))
    };
    is_place(start, column.compressed_size())
        && is_place(column.data_page_offset(), 0)
        && column.num_values() >= 0
        && indexes.into_iter().all(indexed)
}

/// Reads the page index where there is one that can be read: without it more is read, and the same found.
pub(crate) async fn with_page_index<R: AsyncFileReader>(reader: &mut R, metadata: ParquetMetaData) -> ParquetMetaData {
    let without = metadata.clone();
    let fetch = Checked { reader, metadata: &without };
    let mut loader =
        ParquetMetaDataReader::new_with_metadata(metadata).with_page_index_policy(PageIndexPolicy::Optional);
    match calm(loader.load_page_index(fetch)).await {
        Ok(Ok(())) => calmly(|| loader.finish()).and_then(|finished| finished).unwrap_or(without),
        _ => without,
    }
}

/// Fetches page indexes and looks at them first.
struct Checked<'a, R> {
    reader: &'a mut R,
    metadata: &'a ParquetMetaData,
}

impl<R: AsyncFileReader> MetadataFetch for Checked<'_, R> {
    fn fetch(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        async move {
            let bytes = self.reader.get_bytes(range.clone()).await?;
            for column in self.metadata.row_groups().iter().flat_map(|group| group.columns()) {
                let offsets = column.offset_index_offset().zip(column.offset_index_length());
                let extremes = column.column_index_offset().zip(column.column_index_length());
                for (start, length) in [offsets, extremes].into_iter().flatten() {
                    let start = u64::try_from(start).ok().and_then(|start| start.checked_sub(range.start));
                    let end = start.zip(u64::try_from(length).ok()).map(|(start, length)| start + length);
                    let Some((start, end)) = start.zip(end) else { continue };
                    if let Some(index) = bytes.get(in_memory(start)?..in_memory(end)?) {
                        thrift::check(index)?;
                    }
                }
            }
            Ok(bytes)
        }
        .boxed()
    }
}

/// Looks through the heads of whole pages: none may say that it unpacks to more than is ever made room for, nor all that they
/// hold more values than their bytes can. Returns these. What else is wrong with them the library says.
pub(crate) fn check_pages(pages: &[u8]) -> Result<u64> {
    let (mut rest, mut values) = (pages, 0u64);
    while !rest.is_empty() {
        let (mut unpacked, mut packed, mut held) = (0, 0, 0);
        let mut walk = Walk::new(rest);
        let head = walk.fields(&mut |field, number, value| match field {
            2 => unpacked = number.unwrap_or(0),
            3 => packed = number.unwrap_or(0),
            // The heads of data pages of both versions.
            5 | 8 => held = first_number(value),
            _ => {}
        });
        if unpacked > PAGE_BYTES_MAX {
            return Err(damaged("a page says that it unpacks to more than 1 GiB"));
        }
        values = values.saturating_add(held);
        let (Ok(()), Ok(packed)) = (head, usize::try_from(packed)) else { break };
        rest = walk.rest().get(packed..).unwrap_or_default();
    }
    check_values(values, pages.len() as u64)?;
    Ok(values)
}

/// Returns the first field of a struct, a number that is none below zero.
fn first_number(structure: &[u8]) -> u64 {
    let mut first = 0;
    let walked = Walk::new(structure).fields(&mut |field, number, _| {
        if field == 1 {
            first = number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
        }
    });
    walked.map_or(0, |()| first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(field_step: u8, value: u64) -> Vec<u8> {
        let mut bytes = vec![field_step << 4 | 5];
        let mut zigzag = value << 1;
        while zigzag >= 0x80 {
            bytes.push((zigzag & 0x7f) as u8 | 0x80);
            zigzag >>= 7;
        }
        bytes.push(zigzag as u8);
        bytes
    }

    /// A page of four bytes whose head, of the version that the field says, claims so many values.
    fn page(field: u8, values: u64) -> Vec<u8> {
        let mut bytes = [number(1, 0), number(1, 8), number(1, 4)].concat();
        bytes.push((field - 3) << 4 | 12);
        bytes.extend(number(1, values));
        bytes.extend([0, 0, 1, 2, 3, 4]);
        bytes
    }

    #[test]
    fn pages_hold_no_more_values_than_their_bytes_can() {
        for field in [5, 8] {
            assert_eq!(check_pages(&page(field, 3)).unwrap(), 3);
            assert_eq!(check_pages(&page(field, VALUES_MAX)).unwrap(), VALUES_MAX);
            let both = [page(field, VALUES_MAX - 5), page(field, 5)].concat();
            assert_eq!(check_pages(&both).unwrap(), VALUES_MAX);
            for pages in [page(field, VALUES_MAX + 1), [page(field, 6), both].concat(), page(field, i32::MAX as u64)] {
                let error = check_pages(&pages).unwrap_err().to_string();
                assert!(error.contains("rows or values in") && error.contains("more row groups"), "{error}");
            }
        }
    }

    #[test]
    fn a_large_file_may_hold_more_values() {
        check_values(VALUES_MAX, 0).unwrap();
        check_values(VALUES_PER_BYTE << 30, 1 << 30).unwrap();
        assert!(check_values((VALUES_PER_BYTE << 30) + 1, 1 << 30).is_err());
    }
}
