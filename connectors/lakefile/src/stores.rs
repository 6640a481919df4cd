//! The object stores that locations may lie in, beside the local disk.
//!
//! This crate knows none of them: each is a crate of its own, and the list of connectors offers those that were built in.
//! So a build without a cloud carries none of its code, and a test can offer a store of its own.

use std::sync::{Arc, PoisonError, RwLock};

use lakehead_core::{Error, OptionKind, OptionSpec, Result, Settings};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreScheme};
use url::Url;

use crate::signed::SignedCalls;

/// What a location may be, for people.
pub(crate) const KINDS: &str =
    "locations are paths, file:///…, s3://bucket/…, gs://bucket/…, az://container/…, https://…";

/// A kind of object store.
#[derive(Clone, Copy, Debug)]
pub struct StoreKind {
    /// The name: of the cargo feature too, by which a build has it.
    pub name: &'static str,
    /// Opens the store that `url` names, its bucket or container alone; reads and writes nothing.
    pub open: fn(&Url, &Settings) -> Result<Arc<dyn ObjectStore>>,
    /// Makes calls that no object store has, where the store knows any.
    pub signed: Option<OpenSigned>,
}

/// Opens the bucket that a URL names, for calls beside its objects.
pub type OpenSigned = fn(&Url, &Settings) -> Result<Arc<dyn SignedCalls>>;

/// The kinds that were offered. The process's, as the connectors that look for them are.
static OFFERED: RwLock<Vec<StoreKind>> = RwLock::new(Vec::new());

/// Makes kinds of stores known; one under a name that is known already takes its place.
pub fn offer_stores(kinds: &[StoreKind]) {
    let mut offered = OFFERED.write().unwrap_or_else(PoisonError::into_inner);
    for kind in kinds {
        offered.retain(|known| known.name != kind.name);
        offered.push(*kind);
    }
}

/// Settings of a connection that say where a store is and how it is asked; those that one kind does not know are for
/// another.
const OPTIONS: [OptionSpec; 7] = [
    OptionSpec::new("region", OptionKind::Text, "region of the bucket"),
    OptionSpec::new("endpoint", OptionKind::Text, "address of an S3-compatible store"),
    OptionSpec::new("access_key_id", OptionKind::Secret, "key id, where the environment holds none"),
    OptionSpec::new("secret_access_key", OptionKind::Secret, "key, where the environment holds none"),
    OptionSpec::new(
        "encryption",
        OptionKind::Word(&["sse_s3", "sse_kms", "dsse_kms"]),
        "how S3 encrypts what is written; what the bucket says, where this is not set",
    ),
    OptionSpec::new("kms_key", OptionKind::Text, "id or ARN of the key of `sse_kms` and `dsse_kms`"),
    OptionSpec::new("bucket_key", OptionKind::Bool, "whether `sse_kms` asks KMS once a bucket, not once an object"),
];

/// Options of a connection to any store.
pub const STORE_OPTIONS: usize = OPTIONS.len();

/// Returns the options of a connection: its `own`, then those of any store. `M` is `N` and [`STORE_OPTIONS`] together.
pub const fn with_store_options<const N: usize, const M: usize>(own: [OptionSpec; N]) -> [OptionSpec; M] {
    assert!(M == N + STORE_OPTIONS, "the list has a place for each option");
    let mut all = [OPTIONS[0]; M];
    let mut place = 0;
    while place < M {
        all[place] = if place < N { own[place] } else { OPTIONS[place - N] };
        place += 1;
    }
    all
}

/// Where a URL leads.
pub(crate) enum Opened {
    /// To a folder of the local disk.
    Folder(std::path::PathBuf),
    /// To a prefix in a store.
    Store(Arc<dyn ObjectStore>, Path),
}

/// Opens what `url` names.
pub(crate) fn open_url(url: &Url, settings: &Settings) -> Result<Opened> {
    let Some(kind) = kind_of(url)? else {
        let folder = url.to_file_path();
        let folder = folder.map_err(|()| Error::user("R0406", "the path is not a folder").with("location", url))?;
        return Ok(Opened::Folder(folder));
    };
    if kind.name != "s3" {
        refuse_encryption(url.as_str(), settings)?;
    }
    let prefix = match ObjectStoreScheme::parse(url) {
        Ok((_, prefix)) => prefix,
        Err(_) => Path::from_url_path(url.path())
            .map_err(|error| Error::user("R0406", "the path has a part that no store can hold").caused_by(error))?,
    };
    Ok(Opened::Store((kind.open)(url, settings)?, prefix))
}

/// Fails where no store of this build opens what `path` names: a store that was left out (R0640), or one that there is not
/// (R0406). Asks nobody, and opens nothing.
pub fn check_store(path: &str) -> Result<()> {
    match Url::parse(path) {
        Ok(url) if path.contains("://") => kind_of(&url).map(drop),
        _ => Ok(()),
    }
}

/// The kind of store that a URL leads to; `None` for the local disk.
fn kind_of(url: &Url) -> Result<Option<StoreKind>> {
    let name = match ObjectStoreScheme::parse(url) {
        Ok((ObjectStoreScheme::Local, _)) => return Ok(None),
        Ok((ObjectStoreScheme::AmazonS3, _)) => "s3",
        Ok((ObjectStoreScheme::MicrosoftAzure, _)) => "azure",
        Ok((ObjectStoreScheme::GoogleCloudStorage, _)) => "gcs",
        Ok((ObjectStoreScheme::Http, _)) => "http",
        _ => url.scheme(),
    };
    offered(name).map(Some).ok_or_else(|| absent(url, name))
}

fn offered(name: &str) -> Option<StoreKind> {
    OFFERED.read().unwrap_or_else(PoisonError::into_inner).iter().find(|kind| kind.name == name).copied()
}

/// Opens the bucket of S3 that `url` names, for calls beside its objects.
pub(crate) fn signed_calls(url: &Url, settings: &Settings) -> Result<Arc<dyn SignedCalls>> {
    let open = offered("s3").and_then(|kind| kind.signed).ok_or_else(|| absent(url, "s3"))?;
    open(url, settings)
}

fn absent(url: &Url, name: &str) -> Error {
    if matches!(name, "s3" | "azure" | "gcs" | "http") {
        return Error::user("R0640", "this build of lakehead has no such store")
            .with("location", url)
            .with("store", name)
            .help(format!("take a build with the cargo feature `{name}`, which is on unless it was turned off"));
    }
    Error::user("R0406", "the location is not one that can be read").with("location", url).help(KINDS)
}

/// Refuses settings that only S3 keeps: rows that were to be encrypted are not written as if they were.
pub(crate) fn refuse_encryption(place: &str, settings: &Settings) -> Result<()> {
    match ["encryption", "kms_key", "bucket_key"].into_iter().find(|name| settings.get(name).is_some()) {
        None => Ok(()),
        Some(setting) => Err(Error::user("R0641", "only S3 encrypts by a setting of the connection")
            .with("location", place)
            .with("setting", setting)
            .help("take it out; other stores and disks are encrypted by settings of their own")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_was_left_out_is_named_with_its_cure_and_an_unknown_one_with_all() {
        let open = |text: &str| open_url(&Url::parse(text).unwrap(), &Settings::default()).map(|_| ()).unwrap_err();
        for (url, feature) in [("s3://b/x", "s3"), ("gs://b/x", "gcs"), ("abfss://c/x", "azure")] {
            let error = open(url);
            assert_eq!(error.code(), "R0640", "{url}");
            assert!(error.helps()[0].contains(&format!("`{feature}`")), "{:?}", error.helps());
        }
        let error = open("ftp://host/x");
        assert_eq!((error.code(), error.helps()), ("R0406", [KINDS.to_owned()].as_slice()));
        for (path, code) in
            [("gs://b/x", Some("R0640")), ("ftp://h/x", Some("R0406")), ("file:///x", None), ("a b", None)]
        {
            assert_eq!(check_store(path).err().map(|error| error.code()), code, "{path}");
        }
    }

    #[test]
    fn encryption_that_nobody_would_do_is_refused() {
        let settings =
            |value: &str| Settings::new([("encryption".to_owned(), lakehead_core::Value::Name(value.into()))]);
        let here = std::path::Path::new("/tmp");
        let open = |path: &str| crate::Location::open(path, here, &settings("sse_kms")).map(|_| ()).unwrap_err();
        assert_eq!(open("lake").code(), "R0641");
        assert_eq!(open("file:///tmp/lake").code(), "R0641");
    }

    #[test]
    fn a_store_that_is_offered_is_opened_with_the_path_behind_its_name() {
        let open = |_: &Url, _: &Settings| Ok(Arc::new(object_store::memory::InMemory::new()) as Arc<dyn ObjectStore>);
        let memory = StoreKind { name: "mem", open, signed: None };
        offer_stores(&[memory, memory]);
        let Ok(Opened::Store(_, prefix)) = open_url(&Url::parse("mem://x/a/b").unwrap(), &Settings::default()) else {
            panic!("it is offered");
        };
        assert_eq!(prefix.as_ref(), "a/b");
    }
}
