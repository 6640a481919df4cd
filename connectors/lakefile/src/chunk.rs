//! One column of one row group, from arrays to the pages of a Parquet file.
//!
//! The `parquet` crate does this for columns of any kind, value by value. Most columns are plain: no lists, numbers or texts. Those are
//! written here, many values at a time, into the same pages that the crate would write. Whatever else there is stays the crate's.

use std::cell::RefCell;

use arrow::array::{Array, ArrayData, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, StringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    ArrowNativeType, DataType, Decimal128Type, Float32Type, Float64Type, Int16Type, TimeUnit, ToByteSlice,
};
use bytes::Bytes;
use parquet::basic::{Compression, Encoding, Type};
use parquet::column::page::{CompressedPage, Page};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnDescPtr;

use bits::{pack, put_levels, width_of};
use bounds::{Bound, Bounds, Number, extremes, widen};
use close::{Laid, Written};
use words::Words;

mod bits;
mod bounds;
mod close;
mod words;

#[cfg(test)]
mod property;

/// Rows of a page: readers skip whole pages, and compress and unpack them one at a time. That of the `parquet` crate.
const PAGE_ROWS: usize = 20_000;
/// Bytes of a page, where rows are wide.
const PAGE_BYTES: usize = 1 << 20;
/// Bytes before the values of a page, for its levels, where they are few: those of rows that all have a value.
const LEVEL_BYTES: usize = 16;
/// Bytes of a chunk that may be left unpacked, whatever its file is packed with: to pack and unpack it takes a writer and its readers
/// more than so few bytes are worth (a reader of zstd begins with memory of its own for each column).
pub(crate) const UNPACKED_BYTES: usize = 1 << 10;
/// Bytes of a dictionary; where there is more, values are written as they are from then on.
const WORDS_BYTES: usize = 1 << 20;

/// What a column's arrays hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bool,
    Short,
    Int,
    Long,
    /// Decimals that 32 bits hold, and those that 64 do.
    IntDecimal,
    LongDecimal,
    Float,
    Double,
    Text,
}

impl Kind {
    fn of(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Boolean => Self::Bool,
            DataType::Int16 => Self::Short,
            DataType::Int32 | DataType::Date32 => Self::Int,
            DataType::Int64
            | DataType::Time64(TimeUnit::Microsecond)
            | DataType::Timestamp(TimeUnit::Microsecond, _) => Self::Long,
            DataType::Decimal128(1..=9, _) => Self::IntDecimal,
            DataType::Decimal128(10..=18, _) => Self::LongDecimal,
            DataType::Float32 => Self::Float,
            DataType::Float64 => Self::Double,
            DataType::Utf8 => Self::Text,
            _ => return None,
        })
    }

    fn physical(self) -> Type {
        match self {
            Self::Bool => Type::BOOLEAN,
            Self::Short | Self::Int | Self::IntDecimal => Type::INT32,
            Self::Long | Self::LongDecimal => Type::INT64,
            Self::Float => Type::FLOAT,
            Self::Double => Type::DOUBLE,
            Self::Text => Type::BYTE_ARRAY,
        }
    }
}

/// Packs pages, all of a thread's with the same memory: many files may be open at once, and a page is packed in one go.
pub(crate) struct Packer {
    zstd: Option<(i32, zstd::bulk::Compressor<'static>)>,
    snappy: Option<Box<snap::raw::Encoder>>,
    packed: Vec<u8>,
    /// The chunk that was ended last.
    laid: Vec<u8>,
}

impl Packer {
    const fn new() -> Self {
        Self { zstd: None, snappy: None, packed: Vec::new(), laid: Vec::new() }
    }

    /// Has something done with that of this thread.
    pub(crate) fn of_thread<T>(work: impl FnOnce(&mut Self) -> T) -> T {
        thread_local! {
            static PACKER: RefCell<Packer> = const { RefCell::new(Packer::new()) };
        }
        PACKER.with_borrow_mut(work)
    }

    /// Returns the bytes of the chunk that was ended last.
    pub(crate) fn laid(&self) -> Laid<'_> {
        Laid(&self.laid)
    }

    fn pack(&mut self, page: &[u8], compression: Compression) -> Result<Bytes> {
        match compression {
            Compression::ZSTD(level) => self.pack_zstd(page, level.compression_level()),
            Compression::SNAPPY => self.pack_snappy(page),
            _ => Ok(Bytes::copy_from_slice(page)),
        }
    }

    fn pack_zstd(&mut self, page: &[u8], level: i32) -> Result<Bytes> {
        let zstd = match &mut self.zstd {
            Some((known, zstd)) if *known == level => zstd,
            other => &mut other.insert((level, zstd::bulk::Compressor::new(level)?)).1,
        };
        self.packed.clear();
        self.packed.reserve(zstd::zstd_safe::compress_bound(page.len()));
        zstd.compress_to_buffer(page, &mut self.packed)?;
        Ok(Bytes::copy_from_slice(&self.packed))
    }

    fn pack_snappy(&mut self, page: &[u8]) -> Result<Bytes> {
        let most = snap::raw::max_compress_len(page.len());
        if self.packed.len() < most {
            self.packed.resize(most, 0);
        }
        let snappy = self.snappy.get_or_insert_with(|| Box::new(snap::raw::Encoder::new()));
        let length =
            snappy.compress(page, &mut self.packed).map_err(|error| ParquetError::External(Box::new(error)))?;
        Ok(Bytes::copy_from_slice(&self.packed[..length]))
    }
}

/// Writes one column of one row group.
pub(crate) struct ChunkWriter {
    descriptor: ColumnDescPtr,
    kind: Kind,
    compression: Compression,
    /// Bytes of a chunk below which it is not packed.
    unpacked_bytes: usize,
    /// Whether the bounds of every page are told.
    is_indexed: bool,
    /// Bytes of a bound of the column, and of one of a page.
    bound_bytes: (Option<usize>, Option<usize>),
    /// The dictionary, as long as there is one.
    words: Option<Words>,
    page: PageValues,
    written: Written,
    /// A page on its way to be packed.
    unpacked: Vec<u8>,
}

/// The page under way.
struct PageValues {
    rows: usize,
    nulls: usize,
    /// Which rows have a value, from the first on that has none.
    present: Option<BooleanBufferBuilder>,
    /// Values as they are written, behind room for levels.
    plain: Vec<u8>,
    bools: BooleanBufferBuilder,
    /// The numbers of words.
    words: Vec<u32>,
    bounds: Option<Bounds>,
    texts: TextBounds,
    text_bytes: i64,
}

/// The least and the greatest text of a page.
#[derive(Default)]
struct TextBounds {
    low: Vec<u8>,
    high: Vec<u8>,
    /// Their first bytes, by which most others are told apart.
    low_key: u64,
    high_key: u64,
    begun: bool,
}

impl ChunkWriter {
    /// Begins a chunk of a column that is written here; `None` where it is the crate's.
    pub(crate) fn of(
        data_type: &DataType,
        descriptor: &ColumnDescPtr,
        properties: &WriterProperties,
        unpacked_bytes: usize,
    ) -> Option<Self> {
        let kind = Kind::of(data_type).filter(|kind| kind.physical() == descriptor.physical_type())?;
        let path = descriptor.path();
        let compression = properties.compression(path);
        let is_plain = descriptor.max_rep_level() == 0
            && descriptor.max_def_level() <= 1
            && matches!(compression, Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::ZSTD(_))
            && properties.bloom_filter_properties(path).is_none()
            && properties.encoding(path).is_none()
            && properties.statistics_enabled(path) != EnabledStatistics::None
            // Numbers are in a file what they are in memory.
            && cfg!(target_endian = "little");
        if !is_plain {
            return None;
        }
        let is_indexed = properties.statistics_enabled(path) == EnabledStatistics::Page;
        let has_words = kind != Kind::Bool && properties.dictionary_enabled(path);
        Some(Self {
            descriptor: descriptor.clone(),
            kind,
            compression,
            unpacked_bytes,
            is_indexed,
            bound_bytes: (properties.statistics_truncate_length(), properties.column_index_truncate_length()),
            words: has_words.then(Words::new),
            page: PageValues::new(),
            written: Written::default(),
            unpacked: Vec::new(),
        })
    }

    /// Adds the values of some rows.
    pub(crate) fn write(&mut self, array: &ArrayRef, packer: &mut Packer) -> Result<()> {
        if Kind::of(array.data_type()) != Some(self.kind) {
            let (name, found) = (self.descriptor.name(), array.data_type());
            return Err(ParquetError::General(format!("the column {name} of a batch holds {found}")));
        }
        let mut row = 0;
        while row < array.len() {
            let rows = self.rows_at_once(array, row);
            self.put(&array.slice(row, rows));
            row += rows;
            if self.page.rows >= PAGE_ROWS || self.page.plain_bytes() >= PAGE_BYTES {
                self.end_page(packer)?;
            }
            if self.words.as_ref().is_some_and(|words| words.page().len() >= WORDS_BYTES) {
                self.end_page(packer)?;
                self.end_words(packer)?;
            }
        }
        Ok(())
    }

    /// Returns about how many bytes there are so far, encoded.
    pub(crate) fn bytes(&self) -> usize {
        let words = self.words.as_ref().map_or(0, |words| {
            words.page().len() + (self.page.words.len() * usize::from(width_of(words.count()))).div_ceil(8)
        });
        self.written.bytes() + self.page.plain_bytes() + self.page.bools.len().div_ceil(8) + words
    }

    /// Returns about how many bytes of memory it takes.
    pub(crate) fn memory(&self) -> usize {
        let page = self.page.plain.capacity() + self.page.words.capacity() * size_of::<u32>();
        let words = self.words.as_ref().map_or(0, Words::memory);
        self.written.bytes() + page + self.unpacked.capacity() + words
    }

    /// Returns how many rows from one on are added before it is asked whether the page is full: as many as a page has, or
    /// fewer where they are wide; at least one.
    fn rows_at_once(&self, array: &ArrayRef, row: usize) -> usize {
        let most = (array.len() - row).min(PAGE_ROWS);
        let Some(texts) = array.as_string_opt::<i32>() else { return most };
        let ends = &texts.value_offsets()[row..=row + most];
        let left = PAGE_BYTES.saturating_sub(self.page.plain_bytes());
        let bytes = |end: &i32| end.abs_diff(ends[0]) as usize;
        if bytes(&ends[most]) <= left {
            return most;
        }
        // The first end is where the row begins.
        (ends.partition_point(|end| bytes(end) <= left) - 1).max(1)
    }

    fn put(&mut self, array: &ArrayRef) {
        let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
        self.page.note_rows(array.len(), nulls);
        match self.kind {
            Kind::Bool => self.page.put_bools(array.as_boolean()),
            Kind::Text => self.put_texts(array.as_string(), nulls),
            Kind::Short => {
                let values: Vec<i32> = array.as_primitive::<Int16Type>().values().iter().map(|n| (*n).into()).collect();
                self.put_numbers(&values, nulls);
            }
            Kind::IntDecimal => {
                let values = array.as_primitive::<Decimal128Type>().values();
                self.put_numbers(&values.iter().map(|n| *n as i32).collect::<Vec<_>>(), nulls);
            }
            Kind::LongDecimal => {
                let values = array.as_primitive::<Decimal128Type>().values();
                self.put_numbers(&values.iter().map(|n| *n as i64).collect::<Vec<_>>(), nulls);
            }
            Kind::Int => self.put_numbers::<i32>(numbers(&array.to_data()), nulls),
            Kind::Long => self.put_numbers::<i64>(numbers(&array.to_data()), nulls),
            Kind::Float => self.put_numbers(array.as_primitive::<Float32Type>().values(), nulls),
            Kind::Double => self.put_numbers(array.as_primitive::<Float64Type>().values(), nulls),
        }
    }

    fn put_numbers<N: Number>(&mut self, numbers: &[N], nulls: Option<&NullBuffer>) {
        let mut bounds: Option<(N, N)> = None;
        for (from, to) in present(numbers.len(), nulls) {
            let numbers = &numbers[from..to];
            match &mut self.words {
                Some(words) => {
                    let width = size_of::<N>();
                    let values = numbers.to_byte_slice().chunks_exact(width);
                    self.page.words.extend(values.map(|value| words.fixed(value)));
                }
                None => self.page.plain.extend_from_slice(numbers.to_byte_slice()),
            }
            bounds = match (bounds, extremes(numbers)) {
                (Some(known), Some(found)) => extremes(&[known.0, known.1, found.0, found.1]),
                (known, found) => known.or(found),
            };
        }
        if let Some((low, high)) = bounds {
            widen(&mut self.page.bounds, N::bounds(low, high));
        }
    }

    fn put_texts(&mut self, texts: &StringArray, nulls: Option<&NullBuffer>) {
        let (ends, bytes) = (texts.value_offsets(), texts.value_data());
        let (page, number) = (&mut self.page, self.written.pages());
        for (from, to) in present(texts.len(), nulls) {
            let ends = &ends[from..=to];
            page.text_bytes += i64::from(ends[ends.len() - 1] - ends[0]);
            let texts = ends.windows(2).map(|ends| &bytes[ends[0].as_usize()..ends[1].as_usize()]);
            match &mut self.words {
                Some(words) => {
                    for text in texts {
                        let (word, is_first) = words.text(text, number);
                        page.words.push(word);
                        if is_first {
                            page.texts.note(text);
                        }
                    }
                }
                None => {
                    for text in texts {
                        page.plain.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
                        page.plain.extend_from_slice(text);
                        page.texts.note(text);
                    }
                }
            }
        }
    }

    fn end_page(&mut self, packer: &mut Packer) -> Result<()> {
        let page = &mut self.page;
        if page.rows == 0 {
            return Ok(());
        }
        self.unpacked.clear();
        if self.descriptor.max_def_level() > 0 {
            let present = page.present.as_ref().map_or(&[][..], BooleanBufferBuilder::as_slice);
            put_levels(page.rows, page.nulls, present, &mut self.unpacked);
        } else if page.nulls > 0 {
            return Err(ParquetError::General("a column that may not lack a value lacks one".into()));
        }
        let mut encoding = Encoding::PLAIN;
        let unpacked = match (&self.words, LEVEL_BYTES.checked_sub(self.unpacked.len())) {
            (None, Some(begin)) if self.kind != Kind::Bool => {
                page.plain[begin..LEVEL_BYTES].copy_from_slice(&self.unpacked);
                &page.plain[begin..]
            }
            (None, _) => {
                self.unpacked.extend_from_slice(page.bools.as_slice());
                self.unpacked.extend_from_slice(&page.plain[LEVEL_BYTES..]);
                &self.unpacked[..]
            }
            (Some(words), _) => {
                encoding = Encoding::RLE_DICTIONARY;
                let width = width_of(words.count());
                self.unpacked.push(width);
                pack(&page.words, width, &mut self.unpacked);
                &self.unpacked[..]
            }
        };
        let unpacked_bytes = unpacked.len();
        let packed = Page::DataPage {
            buf: packer.pack(unpacked, self.compression)?,
            num_values: u32::try_from(page.rows)?,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let bounds = page.take_bounds();
        let text_bytes = (self.kind == Kind::Text).then_some(page.text_bytes);
        let packed = CompressedPage::new(packed, unpacked_bytes);
        self.written.add(packed, (page.rows, page.nulls), bounds, text_bytes);
        page.clear();
        Ok(())
    }

    /// Writes the dictionary; values that follow are written as they are.
    fn end_words(&mut self, packer: &mut Packer) -> Result<()> {
        let Some(words) = self.words.take() else { return Ok(()) };
        let page = Page::DictionaryPage {
            buf: packer.pack(words.page(), self.compression)?,
            num_values: u32::try_from(words.count())?,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        };
        self.written.add_words(CompressedPage::new(page, words.page().len()));
        Ok(())
    }
}

/// Returns the numbers of an array, whatever it calls them: dates, times.
fn numbers<N: ArrowNativeType>(data: &ArrayData) -> &[N] {
    data.buffers().first().map_or(&[], |buffer| &buffer.typed_data()[data.offset()..data.offset() + data.len()])
}

/// Returns from where to where rows have a value.
fn present(rows: usize, nulls: Option<&NullBuffer>) -> impl Iterator<Item = (usize, usize)> + '_ {
    let all = nulls.is_none().then_some((0, rows)).filter(|_| rows > 0);
    all.into_iter().chain(nulls.into_iter().flat_map(NullBuffer::valid_slices))
}

impl PageValues {
    fn new() -> Self {
        Self {
            rows: 0,
            nulls: 0,
            present: None,
            plain: vec![0; LEVEL_BYTES],
            bools: BooleanBufferBuilder::new(0),
            words: Vec::new(),
            bounds: None,
            texts: TextBounds::default(),
            text_bytes: 0,
        }
    }

    /// Empties it, and keeps its memory.
    fn clear(&mut self) {
        (self.rows, self.nulls, self.text_bytes) = (0, 0, 0);
        self.present = None;
        self.plain.truncate(LEVEL_BYTES);
        self.bools.truncate(0);
        self.words.clear();
        (self.bounds, self.texts.begun) = (None, false);
    }

    /// Returns how many bytes the values have as they are written.
    fn plain_bytes(&self) -> usize {
        self.plain.len() - LEVEL_BYTES
    }

    fn note_rows(&mut self, rows: usize, nulls: Option<&NullBuffer>) {
        if let Some(nulls) = nulls {
            let before = self.rows;
            let present = self.present.get_or_insert_with(|| {
                let mut present = BooleanBufferBuilder::new(before + rows);
                present.append_n(before, true);
                present
            });
            present.append_buffer(nulls.inner());
            self.nulls += nulls.null_count();
        } else if let Some(present) = &mut self.present {
            present.append_n(rows, true);
        }
        self.rows += rows;
    }

    fn put_bools(&mut self, bools: &BooleanArray) {
        let nulls = bools.nulls().filter(|nulls| nulls.null_count() > 0);
        for (from, to) in present(bools.len(), nulls) {
            self.bools.append_buffer(&bools.values().slice(from, to - from));
        }
        let (all, trues) = (bools.len() - bools.null_count(), bools.true_count());
        if all > 0 {
            widen(&mut self.bounds, (Bound::Bool(trues == all), Bound::Bool(trues > 0)));
        }
    }

    fn take_bounds(&mut self) -> Option<Bounds> {
        let texts =
            self.texts.begun.then(|| (Bound::Text(self.texts.low.clone()), Bound::Text(self.texts.high.clone())));
        self.bounds.take().or(texts)
    }
}

impl TextBounds {
    #[inline]
    fn note(&mut self, text: &[u8]) {
        let key = match text.first_chunk() {
            Some(first) => u64::from_be_bytes(*first),
            None => text.iter().zip((0..8).rev()).fold(0, |key, (byte, place)| key | u64::from(*byte) << (8 * place)),
        };
        if !self.begun || (key <= self.low_key && *text < *self.low) {
            self.low.clear();
            self.low.extend_from_slice(text);
            self.low_key = key;
        }
        if !self.begun || (key >= self.high_key && *text > *self.high) {
            self.high.clear();
            self.high.extend_from_slice(text);
            self.high_key = key;
        }
        self.begun = true;
    }
}
