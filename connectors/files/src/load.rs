//! A file is opened: its format and its packing found, and all of it known to be readable before a row of it is handed on.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use lakehead_core::{Error, Result, Settings};
use lakehead_lakefile::Location;
use object_store::{GetOptions, ObjectStore as _};

use crate::blocks::Cut;
use crate::feed::{Feed, Origin, changed, fetch_error, sample};
use crate::listing::Entry;
use crate::rows::{Layout, RowReader};

/// Bytes that a Parquet file may have: it is held in memory.
const PARQUET_BYTES_MAX: u64 = 1 << 30;
/// Bytes of a text for each row of a sample: more than most rows have.
const SAMPLE_ROW_BYTES: usize = 4096;
/// Bytes of a sample, for it is held in memory.
const SAMPLE_BYTES_MAX: usize = 1 << 30;

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

/// How a file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    None,
    Gzip,
    Zstd,
}

/// What is said of a file whose format is unknown.
const NAMELESS: &str = "its name does not say its format; set `format`";

/// A file's contents, or why it cannot be read.
pub(crate) type Loaded = std::result::Result<Contents, String>;

/// Contents of a file, or their beginning.
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

/// Opens a file whose rows are read, and sees to it that all of it can be read.
pub(crate) async fn load_rows(
    location: &Location,
    entry: &Entry,
    settings: &Settings,
    layout: &Arc<Layout>,
) -> Result<std::result::Result<RowReader, String>> {
    let Some(format) = Format::of(&entry.path, settings) else { return Ok(Err(NAMELESS.into())) };
    let layout = Arc::clone(layout);
    if format != Format::Parquet {
        let origin = origin(location, entry, format, layout.delimiter);
        return match Feed::open(&origin).await? {
            Ok((feed, cut)) => RowReader::open_text(feed, cut, origin.delimiter, layout, entry).await,
            Err(reason) => Ok(Err(reason)),
        };
    }
    let bytes = match fetch(location, entry).await? {
        Ok(bytes) => bytes,
        Err(reason) => return Ok(Err(reason)),
    };
    let entry = entry.clone();
    match tokio::task::spawn_blocking(move || RowReader::open_parquet(&bytes, layout, &entry)).await {
        Ok(opened) => Ok(opened),
        // Broken data may make a decoder panic: that is the file's fault, and the others are still to be read.
        Err(error) if error.is_panic() => Ok(Err("its data make the decoder fail".into())),
        Err(error) => Err(Error::bug("reading a file was cut short").caused_by(error)),
    }
}

/// Reads as much of a file as shows so many rows. An error is the store's, and may pass; what is wrong with the file itself is
/// a reason.
pub(crate) async fn load_sample(
    location: &Location,
    entry: &Entry,
    settings: &Settings,
    delimiter: Option<u8>,
    rows: usize,
) -> Result<Loaded> {
    let Some(format) = Format::of(&entry.path, settings) else { return Ok(Err(NAMELESS.into())) };
    if format == Format::Parquet {
        return Ok(fetch(location, entry).await?.map(Contents::Binary));
    }
    let bytes = rows.saturating_mul(SAMPLE_ROW_BYTES).min(SAMPLE_BYTES_MAX);
    let text = sample(&origin(location, entry, format, delimiter), bytes).await?;
    Ok(text.map(|text| Contents::Text(format, text)))
}

/// Begins to read a text that is only looked at; the inner error says why it cannot be read.
pub(crate) async fn begin_text(
    location: &Location,
    entry: &Entry,
) -> Result<std::result::Result<(Origin, Feed, Cut), String>> {
    let format = match Format::of(&entry.path, &Settings::default()) {
        None => return Ok(Err(NAMELESS.into())),
        Some(Format::Parquet) => {
            return Ok(Err("it is a packed Parquet file, which is read once it is unpacked".into()));
        }
        Some(format) => format,
    };
    let origin = origin(location, entry, format, None);
    Ok(Feed::begin(&origin).await?.map(|(feed, cut)| (origin, feed, cut)))
}

fn origin(location: &Location, entry: &Entry, format: Format, delimiter: Option<u8>) -> Origin {
    let delimiter = delimiter.unwrap_or(if format == Format::Tsv { b'\t' } else { b',' });
    let packing = packing(&entry.path);
    Origin { location: location.clone(), entry: entry.clone(), format, packing, delimiter, bytes_read: Arc::default() }
}

/// Fetches a Parquet file: exactly the version that was listed.
async fn fetch(location: &Location, entry: &Entry) -> Result<std::result::Result<Bytes, String>> {
    if entry.size > PARQUET_BYTES_MAX {
        return Ok(Err(format!("it is larger than {PARQUET_BYTES_MAX} bytes")));
    }
    let failed = |error| fetch_error(error, &entry.path);
    let options = GetOptions { if_match: entry.etag.clone(), ..GetOptions::default() };
    let found = location.store().get_opts(&location.path(&entry.path), options).await.map_err(failed)?;
    let bytes = found.bytes().await.map_err(failed)?;
    if bytes.len() as u64 != entry.size {
        return Err(changed(&entry.path));
    }
    Ok(match packing(&entry.path) {
        Packing::None => Ok(bytes),
        Packing::Gzip => unpack(flate2::read::MultiGzDecoder::new(bytes.as_ref()), "gzip"),
        Packing::Zstd => match zstd::stream::read::Decoder::new(bytes.as_ref()) {
            Ok(decoder) => unpack(decoder, "zstd"),
            Err(error) => Err(format!("its zstd data are broken: {error}")),
        },
    })
}

fn unpack(decoder: impl Read, kind: &str) -> std::result::Result<Bytes, String> {
    let mut bytes = Vec::new();
    decoder
        .take(PARQUET_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("its {kind} data are broken: {error}"))?;
    if bytes.len() as u64 > PARQUET_BYTES_MAX {
        return Err(format!("it unpacks to more than {PARQUET_BYTES_MAX} bytes"));
    }
    Ok(bytes.into())
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
}
