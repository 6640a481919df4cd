//! The blocks of one file, read ahead of who parses them. A file is read to its end and found sound before the first row of it
//! is handed on; one of few blocks is kept from then on, a larger one is read again.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};

use bytes::{Buf, Bytes};
use futures::StreamExt;
use futures::stream::BoxStream;
use lakehead_core::{Error, Result};
use lakehead_lakefile::{Location, storage_error};
use object_store::{GetOptions, GetResultPayload, ObjectStore as _};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::blocks::{Blocks, Cut, Fault, StoreFault};
use crate::json::Values;
use crate::listing::Entry;
use crate::load::{Format, Packing};

/// Bytes of a file that is not read again: sixteen blocks.
const HELD_BYTES_MAX: usize = 16 << 20;
/// Bytes that any archive may unpack to.
const UNPACKED_BYTES_MIN: u64 = 1 << 30;
/// How many times its size a larger archive may unpack to: ten times what text does.
const UNPACKED_TIMES_MAX: u64 = 100;

/// Which file is read, and how.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) location: Location,
    pub(crate) entry: Entry,
    pub(crate) format: Format,
    pub(crate) packing: Packing,
    pub(crate) delimiter: u8,
}

/// A reader, with the block that it has read.
type ReadBlock = (Blocks, std::result::Result<Option<String>, Fault>);

/// Blocks on their way.
#[derive(Debug)]
pub(crate) struct Feed {
    held: VecDeque<String>,
    /// Reads the next block meanwhile.
    reading: Option<JoinHandle<ReadBlock>>,
    spare: Option<String>,
    origin: String,
}

impl Feed {
    /// Opens a file, and says where it is cut; the inner error says why none of it can be read.
    pub(crate) async fn open(origin: &Origin) -> Result<std::result::Result<(Self, Cut), String>> {
        let blocks = origin.blocks().await?;
        // Of a file that is longer than what may be kept, nothing need be.
        let held_max = if origin.packing == Packing::None && origin.entry.size > HELD_BYTES_MAX as u64 {
            0
        } else {
            HELD_BYTES_MAX
        };
        let surveyed = match spawn_blocking(move || survey(blocks, held_max)).await {
            Ok(surveyed) => surveyed,
            // Broken data may make a decoder panic: that is the file's fault, and the others are still to be read.
            Err(error) if error.is_panic() => return Ok(Err("its data make the decoder fail".into())),
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
            feed.read_on(origin.blocks().await?);
        }
        Ok(Ok((feed, cut)))
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
        Self { held, reading: None, spare: None, origin: String::new() }
    }

    /// Returns the next block; `None` at the end. Nothing is lost where this is dropped before it is done.
    pub(crate) async fn next(&mut self) -> Result<Option<String>> {
        if let Some(block) = self.held.pop_front() {
            return Ok(Some(block));
        }
        let Some(reading) = &mut self.reading else { return Ok(None) };
        let done = reading.await;
        self.reading = None;
        let (blocks, read) = done.map_err(|error| Error::bug("reading a block panicked").caused_by(error))?;
        match read {
            Ok(Some(block)) => {
                self.read_on(blocks);
                Ok(Some(block))
            }
            Ok(None) => Ok(None),
            Err(Fault::Store(error)) => Err(error),
            Err(Fault::File(reason)) => Err(changed(&self.origin).with("reason", reason)),
        }
    }

    /// Gives a block back, for its memory.
    pub(crate) fn give_back(&mut self, block: String) {
        self.spare = Some(block);
    }

    fn read_on(&mut self, mut blocks: Blocks) {
        if let Some(spare) = self.spare.take() {
            blocks.give_back(spare);
        }
        self.reading = Some(spawn_blocking(move || {
            let read = blocks.next();
            (blocks, read)
        }));
    }
}

/// Reads the beginning of a text: whole records, and about so many bytes; the inner error says why it cannot be read.
pub(crate) async fn sample(origin: &Origin, bytes: usize) -> Result<std::result::Result<String, String>> {
    let mut blocks = origin.blocks().await?;
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
    async fn blocks(&self) -> Result<Blocks> {
        let packed = self.packed().await?;
        let unpacked_max = UNPACKED_BYTES_MIN.max(self.entry.size.saturating_mul(UNPACKED_TIMES_MAX));
        let (kind, reader): (_, Box<dyn Read + Send>) = match self.packing {
            Packing::None => ("", Box::new(packed)),
            Packing::Gzip => {
                let packed = io::BufReader::with_capacity(1 << 16, packed);
                let unpacked = flate2::bufread::MultiGzDecoder::new(packed);
                ("gzip", Box::new(Bounded { inner: unpacked, left: unpacked_max }))
            }
            Packing::Zstd => {
                let unpacked = zstd::stream::read::Decoder::new(packed)
                    .map_err(|error| Error::bug("a decoder cannot begin").caused_by(error))?;
                ("zstd", Box::new(Bounded { inner: unpacked, left: unpacked_max }))
            }
        };
        Ok(Blocks::new(reader, kind, self.format, self.delimiter))
    }

    /// Opens exactly the version that was listed.
    async fn packed(&self) -> Result<Packed> {
        let path = self.location.path(&self.entry.path);
        let options = GetOptions { if_match: self.entry.etag.clone(), ..GetOptions::default() };
        let found = self.location.store().get_opts(&path, options).await;
        let found = found.map_err(|error| fetch_error(error, &self.entry.path))?;
        let body = match found.payload {
            // Its stream would be made of thousands of small parts, each read by another thread.
            GetResultPayload::File(file, _) => Body::File(file),
            GetResultPayload::Stream(parts) => Body::Parts { parts, part: Bytes::new(), runtime: Handle::current() },
        };
        Ok(Packed { body, path: self.entry.path.clone(), left: self.entry.size })
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

/// The bytes of an object; as many as were listed.
struct Packed {
    body: Body,
    path: String,
    left: u64,
}

enum Body {
    File(File),
    Parts { parts: BoxStream<'static, object_store::Result<Bytes>>, part: Bytes, runtime: Handle },
}

impl Read for Packed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let fault = |error| io::Error::other(StoreFault(error));
        let read = match &mut self.body {
            Body::File(file) => file.read(buffer).map_err(|error| {
                fault(storage_error(object_store::Error::Generic { store: "files", source: error.into() }, &self.path))
            })?,
            Body::Parts { parts, part, runtime } => {
                while part.is_empty() {
                    match runtime.block_on(parts.next()) {
                        Some(Ok(next)) => *part = next,
                        Some(Err(error)) => return Err(fault(fetch_error(error, &self.path))),
                        None => break,
                    }
                }
                let length = part.len().min(buffer.len());
                part.copy_to_slice(&mut buffer[..length]);
                length
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
