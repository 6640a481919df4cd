//! Rows to the bytes of one file.

use std::io::Write;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::json::LineDelimitedWriter;
use flate2::write::GzEncoder;
use lakehead_core::{Error, Result, Settings};
use lakehead_lakefile::{FileFormat, FileWriter, Location, storage_error};
use object_store::ObjectStoreExt;
use object_store::buffered::BufWriter;
use tokio::io::AsyncWriteExt;

/// Level of gzip: its default, which other tools use too.
const GZIP_LEVEL: u32 = 6;
/// Level of zstd: the fastest, at a size close to the default's.
const ZSTD_LEVEL: i32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Csv,
    Parquet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
    Zstd,
}

/// How a sink's files look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encoding {
    form: Form,
    packing: Packing,
    parquet: FileFormat,
}

impl Encoding {
    pub(crate) fn from_settings(settings: &Settings) -> Result<Self> {
        let form = match settings.text("format") {
            None | Some("json") => Form::Json,
            Some("csv") => Form::Csv,
            Some("parquet") => Form::Parquet,
            Some(other) => {
                return Err(Error::user("R0613", "files are not written in this format")
                    .with("format", other)
                    .help("formats are json, csv, parquet"));
            }
        };
        let packing = match settings.text("compression") {
            Some("gzip") => Packing::Gzip,
            Some("zstd") => Packing::Zstd,
            Some(word @ ("snappy" | "lz4")) if form != Form::Parquet => {
                return Err(Error::user("R0613", format!("text files are not packed with {word}"))
                    .help("`compression` is gzip, zstd or none"));
            }
            _ => Packing::None,
        };
        Ok(Self { form, packing, parquet: FileFormat::from_settings(settings) })
    }

    /// Returns what the names of the files end with.
    pub(crate) fn extension(self) -> &'static str {
        match (self.form, self.packing) {
            (Form::Parquet, _) => "parquet",
            (Form::Json, Packing::None) => "json",
            (Form::Json, Packing::Gzip) => "json.gz",
            (Form::Json, Packing::Zstd) => "json.zst",
            (Form::Csv, Packing::None) => "csv",
            (Form::Csv, Packing::Gzip) => "csv.gz",
            (Form::Csv, Packing::Zstd) => "csv.zst",
        }
    }
}

/// A file being written.
pub(crate) enum FileEncoder {
    Text(Box<TextFile>),
    Parquet(Box<FileWriter>),
}

pub(crate) struct TextFile {
    location: Location,
    name: String,
    form: Form,
    packer: Packer,
    writer: BufWriter,
    begun: bool,
    size: u64,
}

enum Packer {
    None(Vec<u8>),
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl FileEncoder {
    /// Begins the file `name`.
    pub(crate) fn create(location: &Location, name: &str, schema: &SchemaRef, encoding: Encoding) -> Result<Self> {
        if encoding.form == Form::Parquet {
            return Ok(Self::Parquet(Box::new(FileWriter::create(location, name, schema, encoding.parquet)?)));
        }
        let packer = match encoding.packing {
            Packing::None => Packer::None(Vec::new()),
            Packing::Gzip => Packer::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL))),
            Packing::Zstd => {
                let encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL);
                Packer::Zstd(encoder.map_err(packing_error)?)
            }
        };
        Ok(Self::Text(Box::new(TextFile {
            location: location.clone(),
            name: name.to_owned(),
            form: encoding.form,
            packer,
            writer: BufWriter::new(Arc::clone(location.store()), location.path(name)),
            begun: false,
            size: 0,
        })))
    }

    pub(crate) async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        match self {
            Self::Parquet(writer) => writer.write(rows).await,
            Self::Text(file) => file.write(rows).await,
        }
    }

    /// Closes the file and returns its size.
    pub(crate) async fn finish(self) -> Result<u64> {
        match self {
            Self::Parquet(writer) => Ok(writer.finish().await?.size),
            Self::Text(file) => file.finish().await,
        }
    }
}

impl TextFile {
    async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let mut text = Vec::new();
        match self.form {
            Form::Csv => {
                let builder = arrow::csv::WriterBuilder::new().with_header(!self.begun);
                builder.build(&mut text).write(rows)?;
            }
            _ => {
                let builder = arrow::json::WriterBuilder::new().with_explicit_nulls(true);
                let mut writer: LineDelimitedWriter<_> = builder.build(&mut text);
                writer.write(rows)?;
                writer.finish()?;
            }
        }
        self.begun = true;
        let packed = self.packer.pack(&text).map_err(packing_error)?;
        self.put(packed).await
    }

    async fn put(&mut self, bytes: Vec<u8>) -> Result<()> {
        self.size += bytes.len() as u64;
        self.writer.put(bytes.into()).await.map_err(|error| storage_error(error, &self.name))
    }

    async fn finish(mut self) -> Result<u64> {
        let rest = std::mem::replace(&mut self.packer, Packer::None(Vec::new())).finish().map_err(packing_error)?;
        self.put(rest).await?;
        self.writer.shutdown().await.map_err(|error| {
            let error = object_store::Error::Generic { store: "files", source: error.into() };
            storage_error(error, &self.name)
        })?;
        let path = self.location.path(&self.name);
        let found = self.location.store().head(&path).await.map_err(|error| storage_error(error, &self.name))?.size;
        if found != self.size {
            return Err(Error::external("R0408", "the store holds another size than was written")
                .with("file", &self.name)
                .with("written", self.size)
                .with("found", found));
        }
        Ok(found)
    }
}

impl Packer {
    /// Packs some bytes and returns what has come out so far.
    fn pack(&mut self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        Ok(match self {
            Self::None(packed) => {
                packed.extend_from_slice(bytes);
                std::mem::take(packed)
            }
            Self::Gzip(encoder) => {
                encoder.write_all(bytes)?;
                std::mem::take(encoder.get_mut())
            }
            Self::Zstd(encoder) => {
                encoder.write_all(bytes)?;
                std::mem::take(encoder.get_mut())
            }
        })
    }

    fn finish(self) -> std::io::Result<Vec<u8>> {
        match self {
            Self::None(packed) => Ok(packed),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

fn packing_error(error: std::io::Error) -> Error {
    Error::bug("packing bytes in memory failed").caused_by(error)
}
