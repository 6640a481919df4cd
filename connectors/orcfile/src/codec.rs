//! Compression: every stream is cut into chunks of at most 256 KiB, each with a header of three bytes.

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};
use lakehead_core::{Error, Result};

use crate::fault::{damaged, option, unread};

/// Bytes of a chunk before compression, the size that the other writers use; a chunk is what a reader must unpack for
/// one row group, and it fits a 23-bit length with room.
pub(crate) const CHUNK_BYTES: usize = 256 * 1024;
/// The largest chunk that a header's 23 bits can say.
pub(crate) const CHUNK_BYTES_MAX: usize = (1 << 23) - 1;

/// How the chunks of a file are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all; streams have no chunks then.
    None,
    /// Raw deflate, which every reader has.
    Zlib,
    /// Fast and loose.
    Snappy,
    /// Fast to unpack.
    Lz4,
    /// Small and fast; readers of ORC 1.6 (2019) and later.
    #[default]
    Zstd,
}

/// What a file says it is compressed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Zlib,
    Snappy,
    Lz4,
    Zstd,
}

impl Kind {
    pub(crate) fn of_number(number: u64) -> Result<Self> {
        match number {
            0 => Ok(Self::Plain),
            1 => Ok(Self::Zlib),
            2 => Ok(Self::Snappy),
            3 => Err(unread("LZO compression")),
            4 => Ok(Self::Lz4),
            5 => Ok(Self::Zstd),
            _ => Err(unread("an unknown compression")),
        }
    }
}

/// Compresses chunks. One for all streams of a writer: the tables of a compressor are larger than most streams.
pub(crate) enum Codec {
    None,
    Zlib(Compress),
    Snappy(Box<snap::raw::Encoder>),
    Lz4,
    Zstd(Box<zstd::bulk::Compressor<'static>>),
}

impl Codec {
    pub(crate) fn new(compression: Compression, level: Option<i32>) -> Result<Self> {
        Ok(match compression {
            Compression::None => Self::None,
            Compression::Zlib => {
                let level = level.map_or(Ok(6), u32::try_from).ok().filter(|level| *level <= 9);
                let level = level.ok_or_else(|| option("compression_level", "0 to 9 for zlib"))?;
                Self::Zlib(Compress::new(flate2::Compression::new(level), false))
            }
            Compression::Snappy => Self::Snappy(Box::new(snap::raw::Encoder::new())),
            Compression::Lz4 => Self::Lz4,
            Compression::Zstd => {
                let level = level.unwrap_or(1);
                if !(1..=22).contains(&level) {
                    return Err(option("compression_level", "1 to 22 for zstd"));
                }
                Self::Zstd(Box::new(zstd::bulk::Compressor::new(level).map_err(failed)?))
            }
        })
    }

    /// Returns the number that the postscript says.
    pub(crate) fn number(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Zlib(_) => 1,
            Self::Snappy(_) => 2,
            Self::Lz4 => 4,
            Self::Zstd(_) => 5,
        }
    }

    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Appends `plain` as one chunk, as it is when compression does not make it smaller.
    pub(crate) fn chunk(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let packed = match self {
            Self::None => {
                out.extend_from_slice(plain);
                return Ok(());
            }
            Self::Zlib(compress) => deflate(compress, plain)?,
            Self::Snappy(encoder) => encoder.compress_vec(plain).map_err(failed)?,
            Self::Lz4 => lz4_flex::block::compress(plain),
            Self::Zstd(compressor) => compressor.compress(plain).map_err(failed)?,
        };
        let (body, original) = if packed.len() < plain.len() { (packed.as_slice(), 0) } else { (plain, 1) };
        let header = ((body.len() << 1) | original).to_le_bytes();
        out.extend(header.iter().take(3));
        out.extend_from_slice(body);
        Ok(())
    }

    /// Compresses a whole message or stream.
    pub(crate) fn whole(&mut self, plain: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        for part in plain.chunks(CHUNK_BYTES) {
            self.chunk(part, &mut out)?;
        }
        Ok(out)
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::bug("a chunk could not be compressed").caused_by(error)
}

fn deflate(compress: &mut Compress, plain: &[u8]) -> Result<Vec<u8>> {
    compress.reset();
    // One byte more than is of use: what does not fit is stored as it is.
    let mut packed = Vec::with_capacity(plain.len() + 1);
    match compress.compress_vec(plain, &mut packed, FlushCompress::Finish).map_err(failed)? {
        Status::StreamEnd => Ok(packed),
        Status::Ok | Status::BufError => Ok(plain.to_vec()),
    }
}

/// Unpacks one chunk of at most `limit` bytes. Never allocates more than that, whatever the chunk says of itself.
pub(crate) fn unpack(kind: Kind, packed: &[u8], limit: usize) -> Result<Vec<u8>> {
    let wrong = || damaged("a chunk that cannot be unpacked");
    match kind {
        Kind::Plain => Ok(packed.to_vec()),
        Kind::Zlib => {
            // One byte of room more: an inflater that fills its room exactly may not say that it has ended.
            let mut plain = Vec::with_capacity(limit + 1);
            let mut inflate = Decompress::new(false);
            match inflate.decompress_vec(packed, &mut plain, FlushDecompress::Finish) {
                Ok(Status::StreamEnd) if plain.len() <= limit => Ok(plain),
                _ => Err(wrong()),
            }
        }
        Kind::Snappy => {
            let length = snap::raw::decompress_len(packed).map_err(|_| wrong())?;
            if length > limit {
                return Err(wrong());
            }
            snap::raw::Decoder::new().decompress_vec(packed).map_err(|_| wrong())
        }
        Kind::Lz4 => lz4_flex::block::decompress(packed, limit).map_err(|_| wrong()),
        Kind::Zstd => zstd::bulk::decompress(packed, limit).map_err(|_| wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    #[test]
    fn chunks_come_back_from_every_codec() {
        let mut dice = Dice::new(3);
        let dull = vec![7u8; CHUNK_BYTES];
        let wild: Vec<u8> = (0..5000).map(|_| dice.next() as u8).collect();
        let kinds = [
            (Compression::Zlib, Kind::Zlib),
            (Compression::Snappy, Kind::Snappy),
            (Compression::Lz4, Kind::Lz4),
            (Compression::Zstd, Kind::Zstd),
        ];
        for (compression, kind) in kinds {
            let mut codec = Codec::new(compression, None).unwrap();
            for plain in [&dull, &wild, &dull] {
                let chunk = codec.whole(plain).unwrap();
                let header = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], 0]);
                let body = &chunk[3..];
                assert_eq!(header as usize >> 1, body.len());
                let back = if header & 1 == 1 { body.to_vec() } else { unpack(kind, body, CHUNK_BYTES).unwrap() };
                assert_eq!(&back, plain, "{compression:?}");
            }
        }
    }

    #[test]
    fn a_chunk_larger_than_allowed_is_refused() {
        let packed = zstd::bulk::compress(&[0; 1000], 1).unwrap();
        assert!(unpack(Kind::Zstd, &packed, 999).is_err());
        assert!(unpack(Kind::Zstd, &packed, 1000).is_ok());
    }
}
