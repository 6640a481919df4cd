//! Objects copied from one folder to another: by the store itself where both lie in one, else through this machine in
//! parts, so that no file is ever held whole.

use futures::TryStreamExt;
use lakehead_core::{CopySpec, Error, Result, Settings};
use object_store::buffered::BufWriter;
use object_store::{ObjectStoreExt, PutPayload};
use tokio::io::AsyncWriteExt;

use crate::location::Location;
use crate::signed::{Answer, SignedBucket};
use crate::{archived, storage_error};

/// Bytes of an object that is put with one call; what is larger goes in parts of this size.
const PART_BYTES: usize = 8 << 20;
/// Parts of one object under way at once.
const PARTS_MAX: usize = 2;
/// Bytes that S3 copies with one call (its API reference, `CopyObject`).
const SERVER_COPY_BYTES_MAX: u64 = 5 << 30;

/// What carrying one object came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// It is there, with this many bytes; they were copied now.
    Copied(u64),
    /// It was there already.
    There,
    /// There is nothing to copy: it is gone from where it was.
    Gone,
}

/// Copies objects from one folder to another. Objects of the copy carry no tags: no rule moves them.
#[derive(Debug)]
pub struct Carrier {
    from: Location,
    to: Location,
    /// Where both are buckets of one endpoint that the same keys open.
    server: Option<(SignedBucket, String)>,
}

impl Carrier {
    /// Builds one; asks nobody yet.
    ///
    /// # Errors
    ///
    /// Where a client for the buckets cannot be made.
    fn between(from: (&Location, &Settings), to: (&Location, &Settings)) -> Result<Self> {
        let server = if is_one_store(from, to) {
            let bucket = from.0.url().host_str().unwrap_or_default().to_owned();
            Some((SignedBucket::open(to.0.url(), to.1)?, bucket))
        } else {
            None
        };
        Ok(Self { from: from.0.untagged(), to: to.0.untagged(), server })
    }

    /// Opens a table and its copy, and builds the carrier between them; asks nobody yet.
    ///
    /// # Errors
    ///
    /// R0569 where both are one place; those of [`Location::open`], and where a client for the buckets cannot be made.
    pub fn of(spec: &CopySpec) -> Result<(Location, Location, Self)> {
        let open = |settings: &Settings| -> Result<Location> {
            let lake = Location::open(settings.required_text("path")?, &spec.root, settings)?;
            lake.table(settings.text("prefix").unwrap_or(""), &spec.table)
        };
        let (from, to) = (open(&spec.connection)?, open(&spec.to)?);
        if from.url() == to.url() {
            return Err(Error::user("R0569", "a table cannot be a copy of itself")
                .with("table", from.url())
                .help("replicate to a connection with another `path`"));
        }
        let carrier = Self::between((&from, &spec.connection), (&to, &spec.to))?;
        Ok((from, to, carrier))
    }

    /// Copies an object under its name, unless one of its size is there. The copy is seen whole or not at all.
    ///
    /// # Errors
    ///
    /// R0566 where the object is archived; R0567 where the copy came out in another size; what the stores say.
    pub async fn carry(&self, name: &str) -> Result<Carried> {
        let found = match self.from.store().head(&self.from.path(name)).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(Carried::Gone),
            Err(error) => return Err(storage_error(error, name)),
        };
        match self.to.store().head(&self.to.path(name)).await {
            Ok(there) if there.size == found.size => return Ok(Carried::There),
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(storage_error(error, name)),
        }
        match &self.server {
            Some((server, bucket)) if found.size <= SERVER_COPY_BYTES_MAX => {
                self.have_copied(server, bucket, name).await?;
            }
            _ => self.stream(name).await?,
        }
        let there = self.to.store().head(&self.to.path(name)).await.map_err(|error| storage_error(error, name))?;
        if there.size != found.size {
            return Err(Error::external("R0567", "a copied file has another size than the original")
                .with("file", name)
                .with("bytes", found.size)
                .with("bytes_of_copy", there.size)
                .help("it is copied again with the next attempt"));
        }
        Ok(Carried::Copied(there.size))
    }

    async fn have_copied(&self, server: &SignedBucket, bucket: &str, name: &str) -> Result<()> {
        let source = format!("/{bucket}/{}", encoded(self.from.path(name).as_ref()));
        let headers = [("x-amz-copy-source", source), ("x-amz-tagging-directive", "REPLACE".to_owned())];
        let target = format!("/{}", encoded(self.to.path(name).as_ref()));
        let answer = server.call("PUT", &target, &headers, "").await?;
        if answer.is_done() { Ok(()) } else { Err(refused(&answer, name)) }
    }

    async fn stream(&self, name: &str) -> Result<()> {
        let failed = |error| storage_error(error, name);
        let found = self.from.store().get(&self.from.path(name)).await.map_err(failed)?;
        let path = self.to.path(name);
        if found.meta.size <= PART_BYTES as u64 {
            let bytes = found.bytes().await.map_err(failed)?;
            return self
                .to
                .store()
                .put(&path, bytes.into())
                .await
                .map(drop)
                .map_err(|error| storage_error(error, name));
        }
        let lost = |error: std::io::Error| {
            Error::external("R0404", "the object store failed").with("location", name).caused_by(error)
        };
        let mut writer = BufWriter::with_capacity(std::sync::Arc::clone(self.to.store()), path, PART_BYTES)
            .with_max_concurrency(PARTS_MAX);
        let mut parts = found.into_stream();
        loop {
            match parts.try_next().await {
                Ok(Some(part)) => writer.put(part).await.map_err(|error| storage_error(error, name))?,
                Ok(None) => return writer.shutdown().await.map_err(lost),
                Err(error) => {
                    // What was sent is not left lying about; where that fails too, the bucket's rule aborts it.
                    let _ = writer.abort().await;
                    return Err(failed(error));
                }
            }
        }
    }

    /// Writes an object of the copy over what is there: a pointer.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub async fn point(&self, name: &str, text: Vec<u8>) -> Result<()> {
        let put = self.to.store().put(&self.to.path(name), PutPayload::from(text)).await;
        put.map(drop).map_err(|error| storage_error(error, name))
    }
}

/// What the store refused to copy.
pub(crate) fn refused(answer: &Answer, name: &str) -> Error {
    let code = answer.element("Code").unwrap_or("");
    if matches!(code, "InvalidObjectState" | "ObjectNotInActiveTierError") {
        return archived().with("file", name);
    }
    let error = match answer.status {
        401 | 403 => Error::user("R0402", "the store refuses to copy an object")
            .help("the keys need to read the source and to write the copy: s3:GetObject, s3:PutObject"),
        _ => Error::external("R0404", "the store did not copy an object"),
    };
    error.with("file", name).with("status", answer.status).with("kind", code)
}

/// Returns whether one store holds both and the same keys open it.
fn is_one_store(from: (&Location, &Settings), to: (&Location, &Settings)) -> bool {
    let is_s3 = |location: &Location| matches!(location.url().scheme(), "s3" | "s3a");
    let texts = ["endpoint", "region"].iter().all(|name| from.1.text(name) == to.1.text(name));
    let keys = ["access_key_id", "secret_access_key"].iter().all(|name| from.1.secret(name) == to.1.secret(name));
    is_s3(from.0) && is_s3(to.0) && texts && keys
}

/// Escapes a name for a URL, slashes kept.
pub(crate) fn encoded(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_carried_once_and_in_parts_where_it_is_large() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::default();
        let open = |name: &str| Location::open(name, folder.path(), &settings).unwrap();
        let (from, to) = (open("a"), open("b"));
        let carrier = Carrier::between((&from, &settings), (&to, &settings)).unwrap();
        std::fs::create_dir_all(folder.path().join("a/day=1")).unwrap();
        for (name, bytes) in [("day=1/small", 5), ("large", PART_BYTES * 2 + 7)] {
            let text: Vec<u8> = (0..bytes).map(|n| u8::try_from(n % 251).unwrap()).collect();
            std::fs::write(folder.path().join("a").join(name), &text).unwrap();
            assert_eq!(carrier.carry(name).await.unwrap(), Carried::Copied(bytes as u64));
            assert_eq!(std::fs::read(folder.path().join("b").join(name)).unwrap(), text);
            assert_eq!(carrier.carry(name).await.unwrap(), Carried::There);
        }
        assert_eq!(carrier.carry("nothing").await.unwrap(), Carried::Gone);
        // What a crash left half is made whole.
        std::fs::write(folder.path().join("b/large"), "half").unwrap();
        assert!(matches!(carrier.carry("large").await.unwrap(), Carried::Copied(_)));
    }

    #[test]
    fn names_are_escaped_for_a_url() {
        assert_eq!(encoded("a/day=2026-01-01/ü b%20.parquet"), "a/day%3D2026-01-01/%C3%BC%20b%2520.parquet");
    }
}
