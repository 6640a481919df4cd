//! One whole file into memory: fetched, unpacked and known to be readable before a row of it is handed on.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use lakehead_core::{Error, Result, Settings};
use lakehead_lakefile::{Location, storage_error};
use object_store::{GetOptions, ObjectStore as _};

use crate::listing::Entry;
use crate::rows::{Layout, RowReader};

/// Bytes that one file may have, packed or unpacked: it is held in memory, and a small archive can unpack to anything.
pub(crate) const FILE_BYTES_MAX: u64 = 1 << 30;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Csv,
    Tsv,
    /// One JSON value per line.
    Lines,
    /// NDJSON, or one array.
    Json,
    Parquet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
    Zstd,
}

/// A file's contents, or why it cannot be read.
pub(crate) type Loaded = std::result::Result<Contents, String>;

/// Contents of a file.
#[derive(Debug)]
pub(crate) enum Contents {
    Text(Format, String),
    Binary(Bytes),
}

impl Format {
    /// Returns the format that the settings name, else the one that the file's name ends with.
    fn of(name: &str, settings: &Settings) -> Option<Self> {
        let by_word = |word: &str| match word {
            "csv" => Some(Self::Csv),
            "tsv" | "tab" => Some(Self::Tsv),
            "ndjson" | "jsonl" => Some(Self::Lines),
            "json" => Some(Self::Json),
            "parquet" => Some(Self::Parquet),
            _ => None,
        };
        match settings.text("format") {
            None | Some("auto") => by_word(unpacked_name(name).rsplit_once('.')?.1.to_ascii_lowercase().as_str()),
            Some(word) => by_word(word),
        }
    }
}

fn packing(name: &str) -> Packing {
    match name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).as_deref() {
        Some("gz") => Packing::Gzip,
        Some("zst") => Packing::Zstd,
        _ => Packing::None,
    }
}

fn unpacked_name(name: &str) -> &str {
    if packing(name) == Packing::None { name } else { name.rsplit_once('.').map_or(name, |(name, _)| name) }
}

/// Fetches and unpacks a file, and sees to it that all of it can be read.
pub(crate) async fn load_rows(
    location: &Location,
    entry: &Entry,
    settings: &Settings,
    layout: &Arc<Layout>,
) -> Result<std::result::Result<RowReader, String>> {
    let contents = match load(location, entry, settings).await? {
        Ok(contents) => contents,
        Err(reason) => return Ok(Err(reason)),
    };
    let (layout, entry) = (Arc::clone(layout), entry.clone());
    let opened = tokio::task::spawn_blocking(move || RowReader::open(contents, layout, &entry));
    match opened.await {
        Ok(opened) => opened,
        // Broken data may make a decoder panic: that is the file's fault, and the others are still to be read.
        Err(error) if error.is_panic() => Ok(Err("its data make the decoder fail".into())),
        Err(error) => Err(Error::bug("reading a file was cut short").caused_by(error)),
    }
}

/// Fetches and unpacks a file. An error is the store's, and may pass; what is wrong with the file itself is a reason.
pub(crate) async fn load(location: &Location, entry: &Entry, settings: &Settings) -> Result<Loaded> {
    let Some(format) = Format::of(&entry.path, settings) else {
        return Ok(Err("its name does not say its format; set `format`".into()));
    };
    if entry.size > FILE_BYTES_MAX {
        return Ok(Err(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    let packed = fetch(location, entry).await?;
    let packing = packing(&entry.path);
    let unpacked = tokio::task::spawn_blocking(move || open(packed, packing, format));
    unpacked.await.map_err(|error| Error::bug("unpacking a file panicked").caused_by(error))
}

/// Fetches exactly the version that was listed.
async fn fetch(location: &Location, entry: &Entry) -> Result<Bytes> {
    let path = location.path(&entry.path);
    let failed = |error: object_store::Error| match error {
        object_store::Error::Precondition { .. } | object_store::Error::NotFound { .. } => {
            Error::external("R0604", "a file changed or went away between its listing and its reading")
                .with("file", &entry.path)
                .caused_by(error)
        }
        error => storage_error(error, &entry.path),
    };
    let options = GetOptions { if_match: entry.etag.clone(), ..GetOptions::default() };
    let found = location.store().get_opts(&path, options).await.map_err(failed)?;
    // All at once: a stream of a local file is made of thousands of small parts, each read by another thread.
    let bytes = found.bytes().await.map_err(failed)?;
    if bytes.len() as u64 != entry.size {
        return Err(Error::external("R0604", "a file changed or went away between its listing and its reading")
            .with("file", &entry.path));
    }
    Ok(bytes)
}

fn open(packed: Bytes, packing: Packing, format: Format) -> Loaded {
    let bytes = match packing {
        Packing::None => packed,
        Packing::Gzip => unpack(flate2::read::MultiGzDecoder::new(packed.as_ref()), "gzip")?.into(),
        Packing::Zstd => {
            let decoder = zstd::stream::read::Decoder::new(packed.as_ref());
            unpack(decoder.map_err(|error| format!("its zstd data are broken: {error}"))?, "zstd")?.into()
        }
    };
    if format == Format::Parquet {
        return Ok(Contents::Binary(bytes));
    }
    let start = if bytes.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
    match String::from_utf8(Vec::from(bytes.slice(start..))) {
        Ok(text) => Ok(Contents::Text(format, text)),
        Err(error) => Err(format!("it is not UTF-8 at byte {}", start + error.utf8_error().valid_up_to())),
    }
}

fn unpack(decoder: impl Read, kind: &str) -> std::result::Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    decoder
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("its {kind} data are broken: {error}"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it unpacks to more than {FILE_BYTES_MAX} bytes"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use lakehead_core::Value;

    use super::*;

    #[test]
    fn the_name_says_format_and_packing_unless_the_settings_do() {
        let auto = Settings::default();
        for (name, format, packing_found) in [
            ("a/b.csv", Some(Format::Csv), Packing::None),
            ("a/b.csv.gz", Some(Format::Csv), Packing::Gzip),
            ("a/b.JSON.zst", Some(Format::Json), Packing::Zstd),
            ("a/b.ndjson", Some(Format::Lines), Packing::None),
            ("a/b", None, Packing::None),
        ] {
            assert_eq!((Format::of(name, &auto), packing(name)), (format, packing_found), "{name}");
        }
        let json = Settings::new([("format".into(), Value::Name("json".into()))]);
        assert_eq!(Format::of("a/b.log", &json), Some(Format::Json));
    }

    #[test]
    fn a_broken_file_has_a_reason_and_no_rows() {
        let read = |bytes: &[u8], packing| open(Bytes::copy_from_slice(bytes), packing, Format::Lines);
        assert!(read(b"not gzip", Packing::Gzip).unwrap_err().contains("gzip"));
        assert!(read(b"not zstd", Packing::Zstd).unwrap_err().contains("zstd"));
        assert!(read(b"{}\n\xff", Packing::None).unwrap_err().contains("byte 3"));
        assert!(matches!(read(b"\xEF\xBB\xBF{}", Packing::None).unwrap(), Contents::Text(_, text) if text == "{}"));
    }
}
