//! The blocks of one file, read ahead of who parses them. A file is read to its end and found sound before the first row of it
//! is handed on; one of few blocks is kept from then on, a larger one is read again. Of a file that is only looked at, block
//! after block is read once it is asked for, and no more.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, Bytes};
use futures::StreamExt;
use futures::stream::BoxStream;
use lakehead_core::{Error, Result};
use lakehead_lakefile::{Location, storage_error};
use object_store::{GetOptions, GetRange, GetResultPayload, ObjectStore as _, collect_bytes};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::blocks::{BLOCK_BYTES, Blocks, Cut, Fault, StoreFault};
use crate::json::Values;
use crate::listing::Entry;
use crate::load::{Format, Packing};

/// Bytes of a file that is not read again: sixteen blocks.
const HELD_BYTES_MAX: usize = 16 << 20;
/// Bytes that any archive may unpack to.
const UNPACKED_BYTES_MIN: u64 = 1 << 30;
/// How many times its size a larger archive may unpack to: ten times what text does.
const UNPACKED_TIMES_MAX: u64 = 100;
/// Bytes that are fetched first of an object that is read as far as it is asked for: a block.
const PART_BYTES_MIN: u64 = BLOCK_BYTES as u64;
/// Bytes that are fetched at once of it later: each time as many as before all together, so that a long look is no hundred
/// requests and a short one costs at most twice what it needs.
const PART_BYTES_MAX: u64 = 8 << 20;

/// What is said of a file whose bytes make a decoder panic: that is the file's fault, and the others are still to be read.
const PANICKED: &str = "its data make the decoder fail";

/// Which file is read, and how.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) location: Location,
    pub(crate) entry: Entry,
    pub(crate) format: Format,
    pub(crate) packing: Packing,
    pub(crate) delimiter: u8,
    /// Bytes of the object that were read so far.
    pub(crate) bytes_read: Arc<AtomicU64>,
}

/// How the bytes of an object are fetched.
#[derive(Clone, Copy, Debug)]
enum Fetch {
    /// At once, to the end.
    Whole,
    /// Range by range, as they are asked for.
    Parts,
}

/// A reader, with the block that it has read.
type ReadBlock = (Unread, std::result::Result<Option<String>, Fault>);

/// Blocks on their way.
#[derive(Debug)]
pub(crate) struct Feed {
    held: VecDeque<String>,
    /// Reads the next block meanwhile.
    reading: Option<JoinHandle<ReadBlock>>,
    /// Reads the next block once it is asked for.
    waiting: Option<Unread>,
    spare: Option<String>,
    origin: String,
    /// Whether all of the file was read once.
    is_sound: bool,
}

/// The part of a file that was not read yet.
#[derive(Debug)]
struct Unread {
    blocks: Blocks,
    /// Walks over the values of an array, where nobody has found it whole; only such a file is read when asked.
    unchecked: Option<Values>,
}

impl Unread {
    /// Reads the next block, and sees to it that the values in it can be read.
    fn next(&mut self) -> std::result::Result<Option<String>, Fault> {
        let block = self.blocks.next()?;
        if let Some(values) = &mut self.unchecked
            && self.blocks.cut() == Cut::Values
        {
            match &block {
                Some(block) => values.check_block(block),
                None => values.check_end(),
            }
            .map_err(Fault::File)?;
        }
        Ok(block)
    }
}

impl Feed {
    /// Opens a file, and says where it is cut; the inner error says why none of it can be read.
    pub(crate) async fn open(origin: &Origin) -> Result<std::result::Result<(Self, Cut), String>> {
        let blocks = origin.blocks(Fetch::Whole).await?;
        // Of a file that is longer than what may be kept, nothing need be.
        let held_max = if origin.packing == Packing::None && origin.entry.size > HELD_BYTES_MAX as u64 {
            0
        } else {
            HELD_BYTES_MAX
        };
        let surveyed = match spawn_blocking(move || survey(blocks, held_max)).await {
            Ok(surveyed) => surveyed,
            Err(error) if error.is_panic() => return Ok(Err(PANICKED.into())),
            Err(error) => return Err(Error::bug("reading a file was cut short").caused_by(error)),
        };
        let (held, cut) = match surveyed {
            Ok(found) => found,
            Err(Fault::Store(error)) => return Err(error),
            Err(Fault::File(reason)) => return Ok(Err(reason)),
        };
        let again = held.is_none();
        let mut feed = Self { origin: origin.entry.path.clone(), ..Self::of(held.unwrap_or_default()) };
        if again {
            feed.read_on(Unread { blocks: origin.blocks(Fetch::Whole).await?, unchecked: None });
        }
        Ok(Ok((feed, cut)))
    }

    /// Reads the first block of a file, and each other one once it is asked for: nobody knows whether what follows is sound.
    /// Says where it is cut; the inner error says why it cannot be read.
    pub(crate) async fn begin(origin: &Origin) -> Result<std::result::Result<(Self, Cut), String>> {
        let unread = Unread { blocks: origin.blocks(Fetch::Parts).await?, unchecked: Some(Values::default()) };
        let origin = origin.entry.path.clone();
        let mut feed = Self { origin, waiting: Some(unread), is_sound: false, ..Self::of(VecDeque::new()) };
        match feed.read_next().await? {
            Ok(first) => feed.held.extend(first),
            Err(reason) => return Ok(Err(reason)),
        }
        let cut = feed.waiting.as_ref().map_or(Cut::Lines, |unread| unread.blocks.cut());
        Ok(Ok((feed, cut)))
    }

    /// Returns the block that comes next, where it was read already.
    pub(crate) fn ready(&self) -> &str {
        self.held.front().map_or("", String::as_str)
    }

    /// Reads a text in blocks of so many bytes.
    #[cfg(test)]
    pub(crate) fn of_text(
        text: &str,
        format: Format,
        delimiter: u8,
        block_bytes: usize,
    ) -> std::result::Result<(Self, Cut), String> {
        let reader = io::Cursor::new(text.as_bytes().to_vec());
        let sizes = (block_bytes, crate::blocks::RECORD_BYTES_MAX);
        let (held, cut) = survey(Blocks::sized(Box::new(reader), "", format, delimiter, sizes), HELD_BYTES_MAX)
            .map_err(|fault| match fault {
                Fault::File(reason) => reason,
                Fault::Store(error) => error.to_string(),
            })?;
        Ok((Self::of(held.unwrap_or_default()), cut))
    }

    /// Takes blocks that are there.
    fn of(held: VecDeque<String>) -> Self {
        Self { held, reading: None, waiting: None, spare: None, origin: String::new(), is_sound: true }
    }

    /// Returns the next block; `None` at the end. Nothing is lost where this is dropped before it is done.
    pub(crate) async fn next(&mut self) -> Result<Option<String>> {
        if let Some(block) = self.held.pop_front() {
            return Ok(Some(block));
        }
        self.read_next().await?.map_err(|reason| {
            let error = if self.is_sound { changed(&self.origin) } else { unreadable(&self.origin) };
            error.with("reason", reason)
        })
    }

    /// Reads a block that is not held; the inner error says what is wrong with the file.
    async fn read_next(&mut self) -> Result<std::result::Result<Option<String>, String>> {
        if let Some(unread) = self.waiting.take() {
            self.read_on(unread);
        }
        let Some(reading) = &mut self.reading else { return Ok(Ok(None)) };
        let done = reading.await;
        self.reading = None;
        let (unread, read) = match done {
            Ok(done) => done,
            Err(error) if error.is_panic() => return Ok(Err(PANICKED.into())),
            Err(error) => return Err(Error::bug("reading a block was cut short").caused_by(error)),
        };
        match read {
            Ok(block) => {
                match block {
                    _ if !self.is_sound => self.waiting = Some(unread),
                    Some(_) => self.read_on(unread),
                    None => {}
                }
                Ok(Ok(block))
            }
            Err(Fault::Store(error)) => Err(error),
            Err(Fault::File(reason)) => Ok(Err(reason)),
        }
    }

    /// Gives a block back, for its memory.
    pub(crate) fn give_back(&mut self, block: String) {
        self.spare = Some(block);
    }

    fn read_on(&mut self, mut unread: Unread) {
        if let Some(spare) = self.spare.take() {
            unread.blocks.give_back(spare);
        }
        self.reading = Some(spawn_blocking(move || {
            let read = unread.next();
            (unread, read)
        }));
    }
}

/// Reads the beginning of a text: whole records, and about so many bytes; the inner error says why it cannot be read.
pub(crate) async fn sample(origin: &Origin, bytes: usize) -> Result<std::result::Result<String, String>> {
    let mut blocks = origin.blocks(Fetch::Parts).await?;
    let read = spawn_blocking(move || {
        let mut text = String::new();
        while text.len() < bytes
            && let Some(block) = blocks.next()?
        {
            text.push_str(&block);
        }
        Ok(text)
    });
    match read.await.map_err(|error| Error::bug("reading a sample panicked").caused_by(error))? {
        Ok(text) => Ok(Ok(text)),
        Err(Fault::File(reason)) => Ok(Err(reason)),
        Err(Fault::Store(error)) => Err(error),
    }
}

/// Reads a text to its end; returns all its blocks where they have no more bytes than `held_max`, and where it is cut.
fn survey(mut blocks: Blocks, held_max: usize) -> std::result::Result<(Option<VecDeque<String>>, Cut), Fault> {
    let (mut held, mut bytes) = (Some(VecDeque::new()), 0);
    let mut values = Values::default();
    while let Some(block) = blocks.next()? {
        if blocks.cut() == Cut::Values {
            values.check_block(&block).map_err(Fault::File)?;
        }
        bytes += block.len();
        match &mut held {
            Some(list) if bytes <= held_max => list.push_back(block),
            _ => {
                held = None;
                blocks.give_back(block);
            }
        }
    }
    if blocks.cut() == Cut::Values {
        values.check_end().map_err(Fault::File)?;
    }
    Ok((held, blocks.cut()))
}

impl Origin {
    async fn blocks(&self, fetch: Fetch) -> Result<Blocks> {
        let packed = match fetch {
            Fetch::Whole => self.whole().await?,
            Fetch::Parts => self.parts().await?,
        };
        self.unpacked(packed, unpacked_bytes_max(self.entry.size))
    }

    /// Unpacks what is packed, up to so many bytes.
    fn unpacked(&self, packed: impl Read + Send + 'static, bytes_max: u64) -> Result<Blocks> {
        let (kind, reader): (_, Box<dyn Read + Send>) = match self.packing {
            Packing::None => ("", Box::new(packed)),
            Packing::Gzip => {
                let unpacked = Gzip::Packed(Some(io::BufReader::with_capacity(1 << 16, packed)));
                ("gzip", Box::new(Bounded { inner: unpacked, left: bytes_max }))
            }
            Packing::Zstd => {
                let unpacked = zstd::stream::read::Decoder::new(packed)
                    .map_err(|error| Error::bug("a decoder cannot begin").caused_by(error))?;
                ("zstd", Box::new(Bounded { inner: unpacked, left: bytes_max }))
            }
        };
        Ok(Blocks::new(reader, kind, self.format, self.delimiter))
    }

    /// Opens exactly the version that was listed.
    async fn whole(&self) -> Result<Packed> {
        let body = match self.get(None).await? {
            // Its stream would be made of thousands of small parts, each read by another thread.
            GetResultPayload::File(file, _) => Body::File(file),
            GetResultPayload::Stream(parts) => Body::Parts { parts, part: Bytes::new(), runtime: Handle::current() },
        };
        Ok(self.packed(body))
    }

    /// Opens the same, to be fetched as it is read.
    async fn parts(&self) -> Result<Packed> {
        let first = PART_BYTES_MIN.min(self.entry.size);
        let part = if first == 0 {
            Bytes::new()
        } else {
            match self.get(Some(0..first)).await? {
                GetResultPayload::File(file, _) => return Ok(self.packed(Body::File(file))),
                GetResultPayload::Stream(parts) => self.gathered(parts).await?,
            }
        };
        let fetched = part.len() as u64;
        Ok(self.packed(Body::Ranges { origin: Box::new(self.clone()), fetched, part, runtime: Handle::current() }))
    }

    async fn get(&self, range: Option<Range<u64>>) -> Result<GetResultPayload> {
        let path = self.location.path(&self.entry.path);
        let range = range.map(GetRange::Bounded);
        let options = GetOptions { if_match: self.entry.etag.clone(), range, ..GetOptions::default() };
        let found = self.location.store().get_opts(&path, options).await;
        Ok(found.map_err(|error| fetch_error(error, &self.entry.path))?.payload)
    }

    async fn gathered(&self, parts: BoxStream<'static, object_store::Result<Bytes>>) -> Result<Bytes> {
        collect_bytes(parts, None).await.map_err(|error| fetch_error(error, &self.entry.path))
    }

    /// Fetches the part of the object that begins at `from`; nothing behind its end.
    async fn part(&self, from: u64) -> Result<Bytes> {
        let end = (from + from.clamp(PART_BYTES_MIN, PART_BYTES_MAX)).min(self.entry.size);
        if from >= end {
            return Ok(Bytes::new());
        }
        match self.get(Some(from..end)).await? {
            GetResultPayload::Stream(parts) => self.gathered(parts).await,
            GetResultPayload::File(..) => Err(changed(&self.entry.path)),
        }
    }

    fn packed(&self, body: Body) -> Packed {
        let (path, bytes_read) = (self.entry.path.clone(), Arc::clone(&self.bytes_read));
        if let Body::Ranges { part, .. } = &body {
            bytes_read.fetch_add(part.len() as u64, Ordering::Relaxed);
        }
        Packed { body, path, left: self.entry.size, bytes_read }
    }
}

/// Says what it means that a file could not be fetched.
pub(crate) fn fetch_error(error: object_store::Error, path: &str) -> Error {
    match error {
        object_store::Error::Precondition { .. } | object_store::Error::NotFound { .. } => {
            changed(path).caused_by(error)
        }
        error => storage_error(error, path),
    }
}

pub(crate) fn changed(path: &str) -> Error {
    Error::external("R0604", "a file changed or went away between its listing and its reading").with("file", path)
}

/// Says that a file cannot be read as what its name says.
pub(crate) fn unreadable(path: &str) -> Error {
    Error::user("R0429", "the object cannot be read")
        .with("object", path)
        .help("names end with .parquet, .orc, .csv, .tsv, .json, .ndjson, the texts with .gz or .zst too")
}

/// A gzip archive. Its decoder reads the head as soon as it is made, which may mean waiting for a store: it is made by whoever reads.
enum Gzip<R> {
    Packed(Option<io::BufReader<R>>),
    Begun(Box<flate2::bufread::MultiGzDecoder<io::BufReader<R>>>),
}

impl<R: Read> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Self::Packed(packed) = self
            && let Some(packed) = packed.take()
        {
            *self = Self::Begun(Box::new(flate2::bufread::MultiGzDecoder::new(packed)));
        }
        match self {
            Self::Begun(decoder) => decoder.read(buffer),
            Self::Packed(_) => Ok(0),
        }
    }
}

/// The bytes of an object; as many as were listed.
struct Packed {
    body: Body,
    path: String,
    left: u64,
    bytes_read: Arc<AtomicU64>,
}

enum Body {
    File(File),
    Parts { parts: BoxStream<'static, object_store::Result<Bytes>>, part: Bytes, runtime: Handle },
    Ranges { origin: Box<Origin>, fetched: u64, part: Bytes, runtime: Handle },
}

impl Read for Packed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let fault = |error| io::Error::other(StoreFault(error));
        let read = match &mut self.body {
            Body::File(file) => {
                let read = file.read(buffer).map_err(|error| {
                    let error = object_store::Error::Generic { store: "files", source: error.into() };
                    fault(storage_error(error, &self.path))
                })?;
                self.bytes_read.fetch_add(read as u64, Ordering::Relaxed);
                read
            }
            Body::Parts { parts, part, runtime } => {
                while part.is_empty() {
                    match runtime.block_on(parts.next()) {
                        Some(Ok(next)) => *part = next,
                        Some(Err(error)) => return Err(fault(fetch_error(error, &self.path))),
                        None => break,
                    }
                    self.bytes_read.fetch_add(part.len() as u64, Ordering::Relaxed);
                }
                taken(part, buffer)
            }
            Body::Ranges { origin, fetched, part, runtime } => {
                if part.is_empty() {
                    *part = runtime.block_on(origin.part(*fetched)).map_err(fault)?;
                    *fetched += part.len() as u64;
                    self.bytes_read.fetch_add(part.len() as u64, Ordering::Relaxed);
                }
                taken(part, buffer)
            }
        };
        let is_short = read == 0 && !buffer.is_empty() && self.left > 0;
        self.left = match self.left.checked_sub(read as u64) {
            Some(left) if !is_short => left,
            _ => return Err(fault(changed(&self.path))),
        };
        Ok(read)
    }
}

/// Moves the first bytes of `part` into `buffer`; returns how many.
fn taken(part: &mut Bytes, buffer: &mut [u8]) -> usize {
    let length = part.len().min(buffer.len());
    part.copy_to_slice(&mut buffer[..length]);
    length
}

/// Returns the bytes that an archive of so many may unpack to.
fn unpacked_bytes_max(size: u64) -> u64 {
    UNPACKED_BYTES_MIN.max(size.saturating_mul(UNPACKED_TIMES_MAX))
}

/// What an archive unpacks to, as far as it is believed.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::other(format!("they unpack to more than {UNPACKED_TIMES_MAX} times their size"))
        })?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use lakehead_core::Settings;

    use super::*;

    fn origin(packing: Packing) -> Origin {
        let location = Location::open("in", std::path::Path::new("/tmp"), &Settings::default()).unwrap();
        let entry = Entry { path: "a".into(), size: 0, etag: None, identity: String::new(), stars: vec![] };
        Origin { location, entry, format: Format::Csv, packing, delimiter: b',', bytes_read: Arc::default() }
    }

    /// Reads to the end; returns the bytes, or why there is no end.
    fn unpacked(packing: Packing, packed: &[u8], bytes_max: u64) -> std::result::Result<usize, String> {
        let mut blocks = origin(packing).unpacked(io::Cursor::new(packed.to_vec()), bytes_max).unwrap();
        let mut bytes = 0;
        loop {
            match blocks.next() {
                Ok(Some(block)) => bytes += block.len(),
                Ok(None) => return Ok(bytes),
                Err(Fault::File(reason)) => return Err(reason),
                Err(Fault::Store(error)) => panic!("{error}"),
            }
        }
    }

    /// Whoever opens a file may not wait for a store as a reader does.
    #[test]
    fn nothing_of_an_archive_is_read_before_its_first_block() {
        struct Untouched;
        impl Read for Untouched {
            fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
                panic!("it is read");
            }
        }
        for packing in [Packing::None, Packing::Gzip, Packing::Zstd] {
            assert!(origin(packing).unpacked(Untouched, 1).is_ok(), "{packing:?}");
        }
    }

    /// Short rows: no record is too long, so that nothing but the bound ends them.
    #[test]
    fn an_archive_unpacks_to_its_bound_and_no_further() {
        let text = b"1,2\n".repeat(3 << 18);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&text).unwrap();
        let gzip = gzip.finish().unwrap();
        let zstd = zstd::encode_all(&text[..], 1).unwrap();
        for (packing, kind, packed) in [(Packing::Gzip, "gzip", gzip), (Packing::Zstd, "zstd", zstd)] {
            assert!(packed.len() * 100 < text.len(), "{kind}: {}", packed.len());
            let most = text.len() as u64;
            assert_eq!(unpacked(packing, &packed, most), Ok(text.len()), "{kind}");
            for bound in [most - 1, most / 2, 1] {
                let reason = unpacked(packing, &packed, bound).unwrap_err();
                let expected = format!("its {kind} data are broken: they unpack to more than 100 times their size");
                assert_eq!(reason, expected);
            }
        }
        assert_eq!(unpacked(Packing::None, &text, 1), Ok(text.len()), "what is not packed is as long as it is");
    }

    #[test]
    fn what_an_archive_may_unpack_to_grows_with_it() {
        for (size, most) in [(0, 1 << 30), (1 << 20, 1 << 30), (1 << 30, 100 << 30), (u64::MAX, u64::MAX)] {
            assert_eq!(unpacked_bytes_max(size), most, "{size}");
        }
    }
}
