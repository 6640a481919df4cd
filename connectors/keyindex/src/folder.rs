//! The folder of an index: how its files are named, numbered and swept.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lakehead_core::Result;

use crate::blocks::Budget;
use crate::failure::io_error;
use crate::manifest::Manifest;

/// Names files and gives each a number that no other has.
pub(crate) struct Folder {
    path: PathBuf,
    next: AtomicU64,
    /// The blocks that its runs may hold in memory, all together.
    pub(crate) budget: Arc<Budget>,
}

impl Folder {
    /// Makes the folder where it is not there.
    pub(crate) fn create(path: &Path, block_bytes: u64) -> Result<Self> {
        fs::create_dir_all(path).map_err(|error| io_error(error, path))?;
        Ok(Self { path: path.to_owned(), next: AtomicU64::new(0), budget: Arc::new(Budget::new(block_bytes)) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn next_run(&self) -> (u64, PathBuf) {
        let number = self.number();
        (number, self.run(number))
    }

    pub(crate) fn next_tail(&self) -> (u64, PathBuf) {
        let number = self.number();
        (number, self.tail(number))
    }

    pub(crate) fn next_moves(&self) -> (u64, PathBuf) {
        let number = self.number();
        (number, self.moves(number))
    }

    pub(crate) fn next_part(&self) -> (u64, PathBuf) {
        let number = self.number();
        (number, self.path.join(format!("part-{number}.keys")))
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Goes on behind the numbers that a manifest knows.
    pub(crate) fn skip_to(&self, number: u64) {
        self.next.fetch_max(number, Ordering::Relaxed);
    }

    pub(crate) fn run(&self, number: u64) -> PathBuf {
        self.path.join(format!("run-{number}.keys"))
    }

    pub(crate) fn tail(&self, number: u64) -> PathBuf {
        self.path.join(format!("tail-{number}.keys"))
    }

    pub(crate) fn moves(&self, number: u64) -> PathBuf {
        self.path.join(format!("moves-{number}.keys"))
    }

    /// Removes every file of an index that is not among `kept`; files of others stay.
    pub(crate) fn sweep(&self, kept: &[PathBuf]) -> Result<()> {
        let listing = fs::read_dir(&self.path).map_err(|error| io_error(error, &self.path))?;
        for entry in listing {
            let path = entry.map_err(|error| io_error(error, &self.path))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if is_ours(&name) && !kept.contains(&path) {
                fs::remove_file(&path).map_err(|error| io_error(error, &path))?;
            }
        }
        Ok(())
    }

    /// Removes everything, and the manifest first: what is left when that is interrupted is no index.
    pub(crate) fn clear(&self) -> Result<()> {
        Manifest::remove(&self.path)?;
        self.sweep(&[])
    }
}

fn is_ours(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".keys") else { return Manifest::is_unfinished(name) };
    let numbered = |kind| stem.strip_prefix(kind).is_some_and(|number: &str| number.parse::<u64>().is_ok());
    ["run-", "tail-", "moves-", "part-"].into_iter().any(numbered)
}
