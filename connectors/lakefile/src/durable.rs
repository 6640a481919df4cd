//! A local disk that keeps what it was given, power cut or not.
//!
//! `LocalFileSystem` leaves bytes in the system's cache. A source is told to forget rows once their round is committed
//! (delivery 3.6), so a file is on the disk, and its name in its folder, before a call here returns; a file that others
//! may see under its name is whole before it gets that name.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

/// Bytes of a file that is read with one call.
const WHOLE_BYTES_MAX: u64 = 1 << 20;

/// The local disk, synchronised after every write.
#[derive(Debug)]
pub(crate) struct DurableDisk {
    disk: Arc<LocalFileSystem>,
    /// Makes the names of unfinished files differ.
    unfinished: Arc<AtomicU64>,
    /// Whether a file may have its name before it is whole, because nobody looks for it before another one names it.
    at_once: bool,
}

impl DurableDisk {
    pub(crate) fn new() -> Self {
        Self { disk: Arc::new(LocalFileSystem::new()), unfinished: Arc::default(), at_once: false }
    }

    /// Returns the same disk for files that nobody looks for before another one, which is written later, names them.
    pub(crate) fn naming_at_once(&self) -> Self {
        Self { disk: Arc::clone(&self.disk), unfinished: Arc::clone(&self.unfinished), at_once: true }
    }

    /// Names a file that is not whole yet, in the form that the disk's listings leave out.
    fn unfinished(&self, file: &FsPath) -> PathBuf {
        let number = self.unfinished.fetch_add(1, Ordering::Relaxed);
        let mut name = file.as_os_str().to_owned();
        name.push(format!("#{}{number:06}", std::process::id()));
        name.into()
    }

    /// Reads whole files on one thread: a change of threads for each would cost more than to read a small one.
    pub(crate) async fn read_files(&self, locations: Vec<Path>) -> Result<Vec<Bytes>> {
        let files =
            locations.iter().map(|location| self.disk.path_to_filesystem(location)).collect::<Result<Vec<_>>>()?;
        let read = |file: &PathBuf| match std::fs::read(file) {
            Ok(bytes) => Ok(bytes.into()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::NotFound { path: file.display().to_string(), source: error.into() })
            }
            Err(error) => Err(failed(file, error)),
        };
        blocking(move || files.iter().map(read).collect()).await
    }

    /// Writes new files that nobody looks for before another one names them, on one thread: what a journal has to do for
    /// the first, it does for all.
    pub(crate) async fn write_files(&self, files: Vec<(Path, Bytes)>) -> Result<()> {
        let local = |(location, bytes): (Path, Bytes)| Ok((self.disk.path_to_filesystem(&location)?, bytes));
        let files = files.into_iter().map(local).collect::<Result<Vec<_>>>()?;
        blocking(move || {
            let mut made = Vec::with_capacity(files.len());
            let written = write_together(&files, &mut made);
            if written.is_err() {
                made.into_iter().for_each(|(file, _)| drop(std::fs::remove_file(file)));
            }
            written
        })
        .await
    }

    /// Returns the bytes of a file: to ask costs less than to change threads for it.
    pub(crate) fn size_of(&self, location: &Path) -> Result<u64> {
        let file = self.disk.path_to_filesystem(location)?;
        Ok(std::fs::metadata(&file).map_err(|error| failed(&file, error))?.len())
    }

    async fn synced(&self, location: &Path) -> Result<()> {
        let file = self.disk.path_to_filesystem(location)?;
        blocking(move || sync(&file).map_err(|error| failed(&file, error))).await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::JoinError { source: error }),
    }
}

fn failed(file: &FsPath, error: std::io::Error) -> Error {
    let path = file.display().to_string();
    match error.kind() {
        std::io::ErrorKind::AlreadyExists => Error::AlreadyExists { path, source: error.into() },
        _ => Error::Generic { store: "local", source: error.into() },
    }
}

/// Brings a file's bytes and its name to the disk.
fn sync(file: &FsPath) -> std::io::Result<()> {
    File::open(file)?.sync_all()?;
    sync_folder(file)
}

/// Brings a file's name to the disk.
pub(crate) fn sync_folder(file: &FsPath) -> std::io::Result<()> {
    file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Makes the folder of a file, each new name in its parent synchronised.
pub(crate) fn make_folder(folder: &FsPath) -> std::io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make_folder(parent)?;
    }
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_folder(folder),
    }
}

/// Writes new files, then brings all to the disk; `made` are those that are there, also after an error.
fn write_together<'a>(files: &'a [(PathBuf, Bytes)], made: &mut Vec<(&'a FsPath, File)>) -> Result<()> {
    for (file, bytes) in files {
        let written = file.parent().map_or(Ok(()), make_folder).and_then(|()| {
            made.push((file, File::create_new(file)?));
            made.last_mut().map_or(Ok(()), |(_, made)| made.write_all(bytes))
        });
        written.map_err(|error| failed(file, error))?;
    }
    for (file, made) in &*made {
        made.sync_all().map_err(|error| failed(file, error))?;
    }
    let by_folder: BTreeMap<_, _> = made.iter().map(|(file, _)| (file.parent(), *file)).collect();
    by_folder.into_values().try_for_each(|file| sync_folder(file).map_err(|error| failed(file, error)))
}

/// Writes a new file with all its bytes.
fn fill(file: &FsPath, payload: &PutPayload) -> std::io::Result<()> {
    let mut target = File::create_new(file)?;
    let written = payload.iter().try_for_each(|part| target.write_all(part)).and_then(|()| target.sync_all());
    if written.is_err() {
        let _ = std::fs::remove_file(file);
    }
    written
}

/// Writes a file under its name, where it is a new one: a journal that keeps names in the order of their files has
/// nothing left to do for the folder.
fn write_at_once(file: &FsPath, unfinished: &FsPath, payload: &PutPayload) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        make_folder(folder)?;
    }
    match fill(file, payload) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => write(file, unfinished, payload, false),
        written => written.and_then(|()| sync_folder(file)),
    }
}

/// Writes a whole file beside its place, then gives it its name.
fn write(file: &FsPath, unfinished: &FsPath, payload: &PutPayload, create: bool) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        make_folder(folder)?;
    }
    let written = (|| {
        fill(unfinished, payload)?;
        if create { std::fs::hard_link(unfinished, file) } else { std::fs::rename(unfinished, file) }
    })();
    if create || written.is_err() {
        let _ = std::fs::remove_file(unfinished);
    }
    written?;
    sync_folder(file)
}

fn asks_for_all(options: &GetOptions) -> bool {
    let GetOptions { if_match, if_none_match, if_modified_since, if_unmodified_since, range, version, head, .. } =
        options;
    let conditions = if_match.is_some() || if_none_match.is_some();
    let times = if_modified_since.is_some() || if_unmodified_since.is_some();
    !conditions && !times && !head && range.is_none() && version.is_none()
}

/// Reads a small file whole: on one thread, where opening and reading would be two changes of it, which cost more than
/// the reading. None where it is larger; what goes wrong is for the usual way to say.
fn read_small(file: &FsPath, location: Path) -> std::io::Result<Option<GetResult>> {
    let mut source = File::open(file)?;
    let metadata = source.metadata()?;
    if !metadata.is_file() || metadata.len() > WHOLE_BYTES_MAX {
        return Ok(None);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    source.read_to_end(&mut bytes)?;
    let size = bytes.len() as u64;
    let last_modified = metadata.modified()?.into();
    let meta = ObjectMeta { location, last_modified, size, e_tag: None, version: None };
    let payload = GetResultPayload::Stream(futures::stream::once(async move { Ok(bytes.into()) }).boxed());
    Ok(Some(GetResult { payload, meta, range: 0..size, attributes: Attributes::default() }))
}

impl fmt::Display for DurableDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.disk.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for DurableDisk {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let create = match options.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => return self.disk.put_opts(location, payload, options).await,
        };
        let file = self.disk.path_to_filesystem(location)?;
        let unfinished = self.unfinished(&file);
        let at_once = self.at_once && !create;
        let put = move || {
            let written = if at_once {
                write_at_once(&file, &unfinished, &payload)
            } else {
                write(&file, &unfinished, &payload, create)
            };
            written.map_err(|error| failed(&file, error))
        };
        blocking(put).await?;
        // A tag would be for an update by tag, which this disk does not know.
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let file = self.disk.path_to_filesystem(location)?;
        let upload = self.disk.put_multipart_opts(location, options).await?;
        Ok(Box::new(DurableUpload { upload, file }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if asks_for_all(&options) {
            let (file, name) = (self.disk.path_to_filesystem(location)?, location.clone());
            // What is asked for most is whether there is a next version: no change of threads for a no.
            if let Err(error) = std::fs::metadata(&file)
                && error.kind() == std::io::ErrorKind::NotFound
            {
                return Err(Error::NotFound { path: file.display().to_string(), source: error.into() });
            }
            let read = move || match read_small(&file, name) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    Err(Error::NotFound { path: file.display().to_string(), source: error.into() })
                }
                read => Ok(read.ok().flatten()),
            };
            if let Some(found) = blocking(read).await? {
                return Ok(found);
            }
        }
        self.disk.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.disk.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.disk.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.disk.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.disk.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.disk.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.disk.copy_opts(from, to, options).await?;
        self.synced(to).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.disk.rename_opts(from, to, options).await?;
        self.synced(to).await
    }
}

#[derive(Debug)]
struct DurableUpload {
    upload: Box<dyn MultipartUpload>,
    file: PathBuf,
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let result = self.upload.complete().await?;
        let file = self.file.clone();
        blocking(move || sync(&file).map_err(|error| failed(&file, error))).await?;
        Ok(result)
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use object_store::ObjectStoreExt;

    use super::*;

    #[tokio::test]
    async fn a_file_that_is_named_at_once_is_whole_in_the_end_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let disk = DurableDisk::new().naming_at_once();
        let at = |name: &str| Path::from_absolute_path(folder.path().join(name)).unwrap();
        for content in ["one", "two"] {
            disk.put(&at("a/1"), content.into()).await.unwrap();
            assert_eq!(disk.get(&at("a/1")).await.unwrap().bytes().await.unwrap(), content, "also under a name in use");
        }
        let files = |names: [&str; 2]| names.map(|name| (at(name), Bytes::from_static(b"five"))).to_vec();
        disk.write_files(files(["a/b/1", "a/c/1"])).await.unwrap();
        disk.write_files(files(["a/b/2", "a/1/2"])).await.unwrap_err();
        assert_eq!(disk.get(&at("a/c/1")).await.unwrap().bytes().await.unwrap(), "five");
        assert_eq!(std::fs::read_dir(folder.path().join("a/b")).unwrap().count(), 1, "all of them or none");
        std::fs::create_dir(folder.path().join("a/2")).unwrap();
        disk.put(&at("a/2"), "three".into()).await.unwrap_err();
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let again = disk.put_opts(&at("a/1"), "four".into(), create).await.unwrap_err();
        assert!(matches!(again, Error::AlreadyExists { .. }), "{again:?}");
        let left = std::fs::read_dir(folder.path().join("a")).unwrap().count();
        assert_eq!(left, 4, "nothing of ours is left behind");
    }

    #[tokio::test]
    async fn a_name_is_given_once_or_anew_and_unfinished_files_are_nobodys() {
        let folder = tempfile::tempdir().unwrap();
        let disk = DurableDisk::new();
        let at = |name: &str| Path::from_absolute_path(folder.path().join(name)).unwrap();
        let create = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        disk.put_opts(&at("a/b/1"), "one".into(), create()).await.unwrap();
        let again = disk.put_opts(&at("a/b/1"), "two".into(), create()).await.unwrap_err();
        assert!(matches!(again, Error::AlreadyExists { .. }), "{again:?}");
        assert_eq!(disk.get(&at("a/b/1")).await.unwrap().bytes().await.unwrap(), "one");
        disk.put(&at("a/b/1"), "three".into()).await.unwrap();
        let large = vec![7; 2 << 20];
        disk.put(&at("a/large"), large.clone().into()).await.unwrap();
        assert_eq!(disk.get(&at("a/large")).await.unwrap().bytes().await.unwrap(), large);
        disk.delete(&at("a/large")).await.unwrap();
        for missing in ["a/large", "a", "none/1"] {
            let error = disk.get(&at(missing)).await.unwrap_err();
            assert!(matches!(error, Error::NotFound { .. }), "{missing}: {error:?}");
        }
        let part = disk.get_range(&at("a/b/1"), 1..3).await.unwrap();
        assert_eq!(part, "hr");
        assert_eq!(disk.get(&at("a/b/1")).await.unwrap().bytes().await.unwrap(), "three");
        disk.copy(&at("a/b/1"), &at("a/2")).await.unwrap();
        std::fs::write(folder.path().join("a/b/1#7000001"), "half").unwrap();
        let all: Vec<_> = disk.list(Some(&at("a"))).map_ok(|meta| meta.location).try_collect().await.unwrap();
        assert_eq!(all.len(), 2, "{all:?}");
        let left = std::fs::read_dir(folder.path().join("a/b")).unwrap().count();
        assert_eq!(left, 2, "nothing of ours is left behind");
    }
}
