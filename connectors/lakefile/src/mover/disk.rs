//! Files of a disk, kept below another root, with a link in their place: every reader follows it (docs/decisions/0013).

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use lakehead_core::{Error, Micros, Result, StorageClass, failpoint};

use super::{Aged, Moved, REQUESTS_PER_HOUR};
use crate::durable::{make_folder, sync_folder};

/// Names the folder that a cold folder belongs to.
const OWNER: &str = "_of";
/// A cold file without its link stays so long: its link may be on its way.
const YOUNG: Micros = 24 * 3600 * 1_000_000;
/// Bytes read at once.
const PIECE: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct DiskMover {
    hot: PathBuf,
    cold: PathBuf,
}

/// A file whose cold copy is whole, on the disk, and compared.
#[derive(Debug)]
pub(super) struct Chilled {
    pub(super) name: String,
    pub(super) bytes: u64,
    hot: PathBuf,
    cold: PathBuf,
    /// What was copied.
    was: Identity,
}

/// Tells a file from what others may put in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    number: u64,
    bytes: u64,
    modified: SystemTime,
}

impl Identity {
    /// Returns that of a file; `None` of what is none: a link already, or gone.
    fn of(file: &Path) -> std::io::Result<Option<Self>> {
        let Ok(found) = std::fs::symlink_metadata(file) else { return Ok(None) };
        let identity = Self { number: found.ino(), bytes: found.len(), modified: found.modified()? };
        Ok(found.is_file().then_some(identity))
    }
}

impl DiskMover {
    pub(super) fn new(hot: PathBuf, cold: PathBuf) -> Self {
        Self { hot, cold }
    }

    pub(super) async fn work(&self, aged: Vec<Aged>, now: Micros) -> Result<Moved> {
        if aged.is_empty() && !self.cold.exists() {
            return Ok(Moved::default());
        }
        self.own().map_err(|error| self.failed(error))??;
        let mut moved = Moved::default();
        let most = usize::try_from(REQUESTS_PER_HOUR).unwrap_or(usize::MAX);
        // `infrequent` stays where it is: there is no such place on a disk.
        for file in aged.into_iter().filter(|file| file.class > StorageClass::Infrequent) {
            if moved.chilled.len() >= most {
                break;
            }
            let (hot, cold) = (self.hot.join(&file.name), self.cold.join(&file.name));
            failpoint::hit("mover.file").await?;
            let copied = tokio::task::spawn_blocking(move || Chilled::copy(file, hot, cold)).await;
            let copied = copied.map_err(|error| Error::bug("a file's copy ended early").caused_by(error))?;
            moved.chilled.extend(copied.map_err(|error| self.failed(error))?);
        }
        let (hot, cold, links) = (self.hot.clone(), self.cold.clone(), now);
        let swept = tokio::task::spawn_blocking(move || sweep(&hot, &cold, &cold, links)).await;
        swept
            .map_err(|error| Error::bug("a sweep ended early").caused_by(error))?
            .map_err(|error| self.failed(error))?;
        Ok(moved)
    }

    /// Takes the cold folder for this table; another table's is refused.
    fn own(&self) -> std::io::Result<Result<()>> {
        let (file, owner) = (self.cold.join(OWNER), self.hot.to_string_lossy().into_owned());
        match std::fs::read_to_string(&file) {
            Ok(found) if found == owner => Ok(Ok(())),
            Ok(found) if !found.is_empty() => Ok(Err(Error::user("R0573", "the cold folder belongs to another table")
                .with("folder", self.cold.display())
                .with("table", found)
                .help("give each connection a `cold` folder of its own"))),
            // Not there, or a crash left it empty.
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => {
                make_folder(&self.cold)?;
                std::fs::write(&file, owner)?;
                File::open(&file)?.sync_all()?;
                sync_folder(&file).map(Ok)
            }
        }
    }

    fn failed(&self, error: std::io::Error) -> Error {
        let known = match error.kind() {
            std::io::ErrorKind::StorageFull => Error::incident("R0401", "the disk of the lake is full")
                .help("free space on the cold disk: files stay where they were"),
            std::io::ErrorKind::PermissionDenied => Error::user("R0402", "the lake's location cannot be written")
                .help("give the user who runs lakehead the right to write to the folder that `cold` names"),
            _ => Error::external("R0574", "a file could not be moved to the cold folder")
                .help("it stays where it was, and is tried again"),
        };
        known.with("folder", self.cold.display()).caused_by(error)
    }
}

impl Chilled {
    /// Makes the cold copy; `None` where there is nothing to move: a link already, gone, or another size than the table says.
    fn copy(file: Aged, hot: PathBuf, cold: PathBuf) -> std::io::Result<Option<Self>> {
        let Some(was) = Identity::of(&hot)?.filter(|was| was.bytes == file.size) else { return Ok(None) };
        let folder = cold.parent().unwrap_or(&cold);
        make_folder(folder)?;
        let unfinished = beside(&cold, "cold");
        let mut target = File::create(&unfinished)?;
        let sum = summed(&hot, |piece| target.write_all(piece))?;
        target.sync_all()?;
        // What the disk gives back is what counts.
        if summed(&unfinished, |_| Ok(()))? != sum || std::fs::metadata(&unfinished)?.len() != file.size {
            std::fs::remove_file(&unfinished)?;
            return Err(std::io::Error::other("the copy reads back otherwise"));
        }
        std::fs::rename(&unfinished, &cold)?;
        sync_folder(&cold)?;
        Ok(Some(Self { name: file.name, bytes: file.size, hot, cold, was }))
    }

    /// Puts a link in the place of the file, in one step; who has it open reads on. What others have put there since the copy
    /// stays.
    pub(super) fn link(&self) -> Result<bool> {
        let linked = || -> std::io::Result<bool> {
            if Identity::of(&self.hot)? != Some(self.was) {
                return Ok(false);
            }
            let unfinished = beside(&self.hot, "link");
            let _ = std::fs::remove_file(&unfinished);
            std::os::unix::fs::symlink(&self.cold, &unfinished)?;
            std::fs::rename(&unfinished, &self.hot)?;
            sync_folder(&self.hot)?;
            Ok(true)
        };
        linked().map_err(|error| {
            Error::external("R0574", "a file could not be moved to the cold folder")
                .with("file", self.hot.display())
                .help("it stays where it was, and is tried again")
                .caused_by(error)
        })
    }
}

/// A name in the form that listings of the disk leave out, and that no pattern of data files matches.
fn beside(file: &Path, what: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!("#{what}{}", std::process::id()));
    name.into()
}

/// Reads a file, hands its pieces on, and sums it up.
fn summed(file: &Path, mut each: impl FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<u32> {
    let mut source = File::open(file)?;
    let (mut hasher, mut piece) = (crc32fast::Hasher::new(), vec![0; PIECE]);
    loop {
        let read = source.read(&mut piece)?;
        if read == 0 {
            return Ok(hasher.finalize());
        }
        hasher.update(&piece[..read]);
        each(&piece[..read])?;
    }
}

/// Removes cold files that no link leads to any more: their table's vacuum took the link, or a crash left them.
fn sweep(hot: &Path, cold: &Path, folder: &Path, now: Micros) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sweep(hot, cold, &path, now)?;
            continue;
        }
        let Ok(name) = path.strip_prefix(cold) else { continue };
        let is_linked = std::fs::read_link(hot.join(name)).is_ok_and(|target| target == path);
        let since = std::fs::metadata(&path)?.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let is_young = now.saturating_sub(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)) < YOUNG;
        if !is_linked && !is_young && name != Path::new(OWNER) {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use lakehead_core::{Clock, SystemClock};

    use super::*;

    #[tokio::test]
    async fn a_file_becomes_a_link_and_its_cold_copy_goes_when_the_link_does() {
        let folder = tempfile::tempdir().unwrap();
        let (hot, cold) = (folder.path().join("hot"), folder.path().join("cold/t"));
        std::fs::create_dir_all(hot.join("day=1")).unwrap();
        std::fs::write(hot.join("day=1/a.parquet"), "rows").unwrap();
        let now = || SystemClock::default().now();
        let aged = |size, class| vec![Aged { name: "day=1/a.parquet".into(), size, class }];
        let mover = DiskMover::new(hot.clone(), cold.clone());
        // Not what the table says, and what has no cold place, stays.
        for (size, class) in [(5, StorageClass::Archive), (4, StorageClass::Infrequent)] {
            assert!(mover.work(aged(size, class), now()).await.unwrap().chilled.is_empty());
        }
        let moved = mover.work(aged(4, StorageClass::ArchiveInstant), now()).await.unwrap();
        assert!(!hot.join("day=1/a.parquet").is_symlink(), "a copy alone changes nothing");
        assert_eq!(moved.settle(|_| true).unwrap().files, 1);
        assert_eq!(std::fs::read_link(hot.join("day=1/a.parquet")).unwrap(), cold.join("day=1/a.parquet"));
        assert_eq!(std::fs::read_to_string(hot.join("day=1/a.parquet")).unwrap(), "rows");
        // What others write under the name of a file while it is copied stays what they wrote.
        std::fs::write(hot.join("day=1/b.parquet"), "rows").unwrap();
        let file = vec![Aged { name: "day=1/b.parquet".into(), size: 4, class: StorageClass::ArchiveInstant }];
        let moved = mover.work(file, now()).await.unwrap();
        std::fs::write(hot.join("b"), "ROWS").unwrap();
        std::fs::rename(hot.join("b"), hot.join("day=1/b.parquet")).unwrap();
        assert_eq!(moved.settle(|_| true).unwrap().files, 0);
        assert_eq!(std::fs::read_to_string(hot.join("day=1/b.parquet")).unwrap(), "ROWS");
        let again = mover.work(aged(4, StorageClass::ArchiveInstant), now() + 2 * YOUNG).await.unwrap();
        assert!(again.chilled.is_empty() && cold.join("day=1/a.parquet").exists(), "what is linked stays");
        std::fs::remove_file(hot.join("day=1/a.parquet")).unwrap();
        for (ahead, stays) in [(0, true), (2 * YOUNG, false)] {
            mover.work(Vec::new(), now() + ahead).await.unwrap();
            assert_eq!(cold.join("day=1/a.parquet").exists(), stays);
        }
        let other = DiskMover::new(folder.path().join("other"), cold);
        assert_eq!(other.work(Vec::new(), now()).await.unwrap_err().code(), "R0573");
    }
}
