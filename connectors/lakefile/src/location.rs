//! Where a table lies: a store, a prefix in it, and the URL people see.

use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use lakehead_core::{Error, Result, Settings};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, TagSet};
use url::{Position, Url};

use crate::durable::DurableDisk;
use crate::stores::{Opened, open_url, refuse_encryption};

/// Small objects that are asked for at once.
const REQUESTS: usize = 8;

/// A folder in an object store or on the local disk.
#[derive(Clone, Debug)]
pub struct Location {
    store: Arc<dyn ObjectStore>,
    /// The same where it is this machine's.
    disk: Option<Arc<DurableDisk>>,
    /// The folder that was opened, and this one in it.
    root: Path,
    prefix: Path,
    url: Url,
    /// What data files are tagged with, name and value.
    tag: Option<(&'static str, String)>,
}

impl Location {
    /// Opens the folder that `path` names: a path relative to `root`, an absolute one, or a URL.
    ///
    /// Nothing is read or written: a local folder that is missing is made with the first object in it.
    pub fn open(path: &str, root: &FsPath, settings: &Settings) -> Result<Self> {
        match Url::parse(path) {
            Ok(url) if path.contains("://") => Self::open_url(&url, settings),
            _ => {
                refuse_encryption(path, settings)?;
                Self::open_folder(&root.join(path))
            }
        }
    }

    fn open_folder(folder: &FsPath) -> Result<Self> {
        let folder = real_path(folder)?;
        let url = Url::from_directory_path(&folder)
            .map_err(|()| Error::user("R0406", "the path is not a folder").with("path", folder.display()))?;
        let prefix = Path::from_absolute_path(&folder)
            .map_err(|error| Error::user("R0406", "the path has a part that no store can hold").caused_by(error))?;
        let disk = Arc::new(DurableDisk::new());
        let store: Arc<dyn ObjectStore> = Arc::clone(&disk) as _;
        Ok(Self { store, disk: Some(disk), root: prefix.clone(), prefix, url, tag: None })
    }

    fn open_url(url: &Url, settings: &Settings) -> Result<Self> {
        let (store, prefix) = match open_url(url, settings)? {
            Opened::Folder(folder) => {
                refuse_encryption(url.as_str(), settings)?;
                return Self::open_folder(&folder);
            }
            Opened::Store(store, prefix) => {
                refuse_cold(url, settings)?;
                (store, prefix)
            }
        };
        let mut url = url.clone();
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Ok(Self { store, disk: None, root: prefix.clone(), prefix, url, tag: None })
    }

    /// Has the data files that are written here carry a tag, where the store has tags: what its own rules ask for.
    pub fn tagged(mut self, name: &'static str, value: &str) -> Self {
        self.tag = (self.url.scheme() == "s3").then(|| (name, value.to_owned()));
        self
    }

    /// Returns the same folder for what must never be moved: the table's own books.
    pub fn untagged(&self) -> Self {
        Self { tag: None, ..self.clone() }
    }

    /// Returns the same folder for files that nobody looks for before a log names them: a disk gives them their name at
    /// once, and syncs one change of the folder instead of two.
    pub fn named_later(&self) -> Self {
        let Some(disk) = &self.disk else { return self.clone() };
        let disk = Arc::new(disk.naming_at_once());
        Self { store: Arc::clone(&disk) as _, disk: Some(disk), ..self.clone() }
    }

    /// Writes small new objects that nobody looks for before a log names them.
    pub async fn put_named_later(&self, objects: Vec<(String, Bytes)>) -> Result<()> {
        if let Some(disk) = &self.disk {
            let files = objects.into_iter().map(|(name, bytes)| (self.path(&name), bytes)).collect();
            return disk.write_files(files).await.map_err(|error| crate::storage_error(error, self.url.as_str()));
        }
        let put = async |(name, bytes): (String, Bytes)| {
            let put = self.store.put(&self.path(&name), bytes.into()).await;
            put.map(drop).map_err(|error| crate::storage_error(error, &name))
        };
        futures::stream::iter(objects.into_iter().map(put)).buffer_unordered(REQUESTS).try_collect().await
    }

    /// Returns the bytes of an object.
    pub(crate) async fn size_of(&self, name: &str) -> Result<u64> {
        let path = self.path(name);
        let size = match &self.disk {
            Some(disk) => disk.size_of(&path),
            None => self.store.head(&path).await.map(|found| found.size),
        };
        size.map_err(|error| crate::storage_error(error, path.as_ref()))
    }

    /// Reads small objects whole, some at once.
    pub(crate) async fn read_small(&self, names: &[String]) -> Result<Vec<Bytes>> {
        if let Some(disk) = &self.disk {
            let paths = names.iter().map(|name| self.path(name)).collect();
            return disk.read_files(paths).await.map_err(|error| crate::storage_error(error, self.url.as_str()));
        }
        let read = |name: &String| {
            let (store, path, name) = (Arc::clone(&self.store), self.path(name), name.clone());
            async move {
                let bytes = async { store.get(&path).await?.bytes().await };
                bytes.await.map_err(|error| crate::storage_error(error, &name))
            }
        };
        let reads: Vec<_> = names.iter().map(read).collect();
        futures::stream::iter(reads).buffered(REQUESTS).try_collect().await
    }

    /// Returns where an object of the folder lies, for people.
    pub fn place(&self, name: &str) -> String {
        format!("{}{name}", self.url)
    }

    /// Begins a data file.
    pub(crate) fn begin(&self, name: &str) -> BufWriter {
        let writer = BufWriter::new(Arc::clone(&self.store), self.path(name));
        let Some((tag, value)) = &self.tag else { return writer };
        let mut tags = TagSet::default();
        tags.push(tag, value);
        writer.with_tags(tags)
    }

    /// Returns a folder below this one. A part that climbs (`..`) is refused.
    pub fn child(&self, relative: &str) -> Result<Self> {
        let mut prefix = self.prefix.clone();
        for part in relative.split('/').filter(|part| !part.is_empty()) {
            if part == ".." || part == "." || part.contains('\0') {
                return Err(
                    Error::user("R0407", "a table's path may not climb out of its connection").with("path", relative)
                );
            }
            prefix = prefix.join(part);
        }
        let url = self
            .url
            .join(&format!("{}/", relative.trim_matches('/')))
            .map_err(|error| Error::user("R0406", "the path is not one").with("path", relative).caused_by(error))?;
        Ok(Self { prefix, url, tag: None, ..self.clone() })
    }

    /// Returns the folder of a table: `a.b` under prefix `X` lies at `Xa/b`.
    pub fn table(&self, prefix: &str, table: &str) -> Result<Self> {
        self.child(&format!("{prefix}{}", table.replace('.', "/")))
    }

    /// Returns the store's path of an object in this folder.
    pub fn path(&self, name: &str) -> Path {
        joined(&self.prefix, name)
    }

    /// Returns the store's path of an object in the folder that was opened.
    pub(crate) fn root_path(&self, name: &str) -> Path {
        joined(&self.root, name)
    }

    /// Returns the folder that was opened, for people.
    pub(crate) fn root_url(&self) -> String {
        format!("{}/{}", &self.url[..Position::BeforePath], self.root)
    }

    /// Returns the name of an object relative to this folder.
    pub fn name_of(&self, path: &Path) -> Option<String> {
        let parts: Vec<_> = path.prefix_match(&self.prefix)?.map(|part| part.as_ref().to_owned()).collect();
        Some(parts.join("/"))
    }

    /// Returns whether the folder `name` holds anything.
    pub async fn holds(&self, name: &str) -> Result<bool> {
        match self.store.list(Some(&self.path(name))).try_next().await {
            Ok(found) => Ok(found.is_some()),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(crate::storage_error(error, self.url.as_str())),
        }
    }

    /// Returns the store.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// Returns the store's path of this folder.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// Returns the folder as a URL that ends with `/`.
    pub fn url(&self) -> &Url {
        &self.url
    }
}

/// A bucket has classes; links stand on disks alone (docs/decisions/0013).
fn refuse_cold(url: &Url, settings: &Settings) -> Result<()> {
    match settings.text("cold") {
        None => Ok(()),
        Some(_) => Err(Error::user("R0575", "`cold` is for folders of this machine")
            .with("location", url)
            .help("take it out: in a bucket, files of old partitions get another class")),
    }
}

fn joined(folder: &Path, name: &str) -> Path {
    // Names are escaped already (`partition_path`): parsed, not escaped again.
    let joined = format!("{folder}/{}", name.trim_matches('/'));
    Path::parse(&joined).unwrap_or_else(|_| Path::from(joined))
}

/// Returns the path without links and dots, as far as it exists; what does not is taken as it is written.
fn real_path(path: &FsPath) -> Result<PathBuf> {
    let refused = |error: std::io::Error| {
        Error::user("R0402", "the location cannot be reached")
            .with("location", path.display())
            .help("give the user who runs lakehead the right to go there, or change `path` of the connection")
            .caused_by(error)
    };
    let absolute = std::path::absolute(path).map_err(refused)?;
    let mut missing = Vec::new();
    let mut existing = absolute.as_path();
    loop {
        match existing.canonicalize() {
            Ok(real) => return Ok(missing.into_iter().rev().fold(real, |real, part| real.join(part))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let (Some(parent), Some(name)) = (existing.parent(), existing.file_name()) else {
                    return Err(Error::user("R0406", "the path climbs out of a folder that is not there")
                        .with("path", path.display()));
                };
                missing.push(name);
                existing = parent;
            }
            Err(error) => return Err(refused(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cold_folder_beside_a_bucket_is_refused() {
        let settings = Settings::new([("cold".to_owned(), lakehead_core::Value::Text("/mnt/slow".into()))]);
        let open = |path: &str| refuse_cold(&Url::parse(path).unwrap(), &settings);
        assert_eq!(open("s3://bucket/lake").unwrap_err().code(), "R0575");
        assert!(Location::open("lake", FsPath::new("/tmp"), &settings).is_ok(), "a folder may have one");
    }

    #[test]
    fn a_table_lies_below_its_connection_and_cannot_climb_out() {
        let folder = tempfile::tempdir().unwrap();
        let lake = Location::open("lake", folder.path(), &Settings::default()).unwrap();
        let table = lake.table("dev_", "mirror.orders").unwrap();
        assert!(table.url().as_str().ends_with("/lake/dev_mirror/orders/"), "{}", table.url());
        assert_eq!(table.name_of(&table.path("a/b.parquet")).as_deref(), Some("a/b.parquet"));
        assert_eq!(lake.child("../out").unwrap_err().code(), "R0407");
        assert!(!folder.path().join("lake").exists(), "to open a location is not to make it");
    }
}
