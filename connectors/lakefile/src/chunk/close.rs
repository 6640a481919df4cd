//! The pages of a column chunk that are packed, and what its head and the page index say of them.

use bytes::Bytes;
use parquet::basic::{BoundaryOrder, Compression, Encoding, SortOrder};
use parquet::column::page::{CompressedPage, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{
    ColumnChunkMetaData, ColumnIndexBuilder, LevelHistogram, OffsetIndexBuilder, PageEncodingStats,
};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};

use super::bounds::{Bounds, index_bytes, statistics, widen};
use super::{ChunkWriter, Packer};

/// Bytes that the head of a page takes at most, about.
const HEAD_BYTES: usize = 64;

/// Pages that are packed.
#[derive(Default)]
pub(super) struct Written {
    words: Option<CompressedPage>,
    pages: Vec<Told>,
    bytes: usize,
}

/// A page, and what is told of it.
struct Told {
    page: CompressedPage,
    rows: usize,
    nulls: usize,
    bounds: Option<Bounds>,
    text_bytes: Option<i64>,
}

impl Written {
    /// Returns the bytes of all pages.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns how many pages of values there are.
    pub(super) fn pages(&self) -> u32 {
        u32::try_from(self.pages.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn add_words(&mut self, page: CompressedPage) {
        self.bytes += page.compressed_size() + HEAD_BYTES;
        self.words = Some(page);
    }

    pub(super) fn add(
        &mut self,
        page: CompressedPage,
        (rows, nulls): (usize, usize),
        bounds: Option<Bounds>,
        text_bytes: Option<i64>,
    ) {
        self.bytes += page.compressed_size() + HEAD_BYTES;
        self.pages.push(Told { page, rows, nulls, bounds, text_bytes });
    }

    /// Returns the bytes of all levels, by level: of rows without a value, and of those with one.
    fn levels(&self) -> (i64, i64) {
        let sum = |count: fn(&Told) -> usize| self.pages.iter().map(|told| count(told) as i64).sum();
        (sum(|told| told.nulls), sum(|told| told.rows - told.nulls))
    }

    /// Returns how the pages are encoded, the dictionary first.
    fn encodings(&self) -> Vec<PageEncodingStats> {
        let mut found: Vec<PageEncodingStats> = Vec::new();
        for page in self.words.iter().chain(self.pages.iter().map(|told| &told.page)) {
            let (page_type, encoding) = (page.page_type(), page.encoding());
            match found.last_mut() {
                Some(last) if last.page_type == page_type && last.encoding == encoding => last.count += 1,
                _ => found.push(PageEncodingStats { page_type, encoding, count: 1 }),
            }
        }
        found
    }
}

/// The bytes of a chunk.
pub(crate) struct Laid<'a>(pub(super) &'a [u8]);

impl Length for Laid<'_> {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }
}

impl<'a> ChunkReader for Laid<'a> {
    type T = &'a [u8];

    fn get_read(&self, start: u64) -> Result<Self::T> {
        let rest = usize::try_from(start).ok().and_then(|start| self.0.get(start..));
        rest.ok_or_else(|| ParquetError::General("a chunk is read behind its end".into()))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let bytes = self.get_read(start)?.get(..length).map(Bytes::copy_from_slice);
        bytes.ok_or_else(|| ParquetError::General("a chunk is read behind its end".into()))
    }
}

/// Where the parts of a chunk are in its bytes.
struct Places {
    packed: usize,
    unpacked: usize,
    words_at: Option<i64>,
    values_at: i64,
}

impl ChunkWriter {
    /// Ends the chunk; the packer holds its bytes then. Returns what the file's head says of it.
    pub(crate) fn close(mut self, packer: &mut Packer) -> Result<ColumnCloseResult> {
        let levels = if self.page.nulls > 0 { self.page.rows.div_ceil(8) } else { 0 };
        if self.written.pages() == 0 && self.bytes() + levels < self.unpacked_bytes {
            self.compression = Compression::UNCOMPRESSED;
        }
        self.end_page(packer)?;
        self.end_words(packer)?;
        let encodings = self.written.encodings();
        let (nulls, values) = self.written.levels();
        let mut offsets = OffsetIndexBuilder::new();
        let column_index = self.is_indexed.then(|| self.index()).flatten().transpose()?;
        let mut bounds = None;
        for told in &mut self.written.pages {
            if let Some(found) = told.bounds.take() {
                widen(&mut bounds, found);
            }
            offsets.append_row_count(told.rows as i64);
            offsets.append_unencoded_byte_array_data_bytes(told.text_bytes);
        }
        let text_bytes = self.written.pages.iter().filter_map(|told| told.text_bytes).reduce(|a, b| a + b);
        let places = self.written.lay(&mut packer.laid, &mut offsets)?;
        let mut masks: Vec<Encoding> = vec![Encoding::RLE];
        masks.extend(encodings.iter().map(|stats| stats.encoding));
        let mut builder = ColumnChunkMetaData::builder(self.descriptor.clone())
            .set_compression(self.compression)
            .set_encodings(masks)
            .set_page_encoding_stats(encodings)
            .set_total_compressed_size(places.packed as i64)
            .set_total_uncompressed_size(places.unpacked as i64)
            .set_num_values(nulls + values)
            .set_data_page_offset(places.values_at)
            .set_dictionary_page_offset(places.words_at)
            .set_unencoded_byte_array_data_bytes(text_bytes)
            .set_definition_level_histogram(self.histogram(nulls, values));
        let is_signed = self.descriptor.sort_order() == SortOrder::SIGNED;
        let physical = self.kind.physical();
        if let Some(told) = statistics(physical, bounds, nulls.unsigned_abs(), is_signed, self.bound_bytes.0) {
            builder = builder.set_statistics(told);
        }
        Ok(ColumnCloseResult {
            bytes_written: places.packed as u64,
            rows_written: (nulls + values).unsigned_abs(),
            metadata: builder.build()?,
            bloom_filter: None,
            column_index,
            offset_index: Some(offsets.build()),
        })
    }

    fn histogram(&self, nulls: i64, values: i64) -> Option<LevelHistogram> {
        let mut histogram = LevelHistogram::try_new(self.descriptor.max_def_level())?;
        histogram.increment_by(0, nulls);
        histogram.increment_by(1, values);
        Some(histogram)
    }

    /// Returns the bounds of all pages; `None` where one has values and no bounds.
    fn index(&self) -> Option<Result<ColumnIndexMetaData>> {
        let mut index = ColumnIndexBuilder::new(self.kind.physical());
        let (mut last, mut rises, mut falls) = (None::<&Bounds>, true, true);
        for told in &self.written.pages {
            match &told.bounds {
                Some(bounds) => {
                    let (low, high) = index_bytes(bounds, self.bound_bytes.1);
                    index.append(false, low, high, told.nulls as i64);
                    if let Some(last) = last.replace(bounds) {
                        rises &= last.0 <= bounds.0 && last.1 <= bounds.1;
                        falls &= last.0 >= bounds.0 && last.1 >= bounds.1;
                    }
                }
                None if told.nulls == told.rows => index.append(true, Vec::new(), Vec::new(), told.nulls as i64),
                None => return None,
            }
            index.append_histograms(&None, &self.histogram(told.nulls as i64, (told.rows - told.nulls) as i64));
        }
        index.set_boundary_order(match (rises, falls) {
            (true, _) => BoundaryOrder::ASCENDING,
            (false, true) => BoundaryOrder::DESCENDING,
            (false, false) => BoundaryOrder::UNORDERED,
        });
        Some(index.build())
    }
}

impl Written {
    /// Puts the pages behind one another, the dictionary first, and notes where those of values are.
    fn lay(&mut self, to: &mut Vec<u8>, offsets: &mut OffsetIndexBuilder) -> Result<Places> {
        to.clear();
        to.reserve(self.bytes);
        let mut sink = TrackedWrite::new(std::mem::take(to));
        let (mut unpacked, mut words_at, mut values_at) = (0, None, None);
        let mut writer = SerializedPageWriter::new(&mut sink);
        if let Some(page) = self.words.take() {
            let spec = writer.write_page(page)?;
            unpacked += spec.uncompressed_size;
            words_at = Some(i64::try_from(spec.offset)?);
        }
        for told in self.pages.drain(..) {
            let spec = writer.write_page(told.page)?;
            unpacked += spec.uncompressed_size;
            let at = i64::try_from(spec.offset)?;
            values_at.get_or_insert(at);
            offsets.append_offset_and_size(at, i32::try_from(spec.compressed_size)?);
        }
        *to = sink.into_inner()?;
        Ok(Places { packed: to.len(), unpacked, words_at, values_at: values_at.unwrap_or(0) })
    }
}
