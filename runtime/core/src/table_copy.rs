//! The contract of a copy: one table, kept elsewhere as well.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::value::Settings;
use crate::{Clock, Result, TableVersion};

/// Everything a copy is built from.
#[derive(Clone, Debug)]
pub struct CopySpec {
    /// The identity of the pipeline that writes the table (a uuid as text).
    pub pipeline: String,
    /// The table's name, on both sides.
    pub table: String,
    /// Settings of the table's connection.
    pub connection: Settings,
    /// Settings of the connection that takes the copy.
    pub to: Settings,
    /// Whether files that no version of the copy needs any more are removed from it.
    pub deletes: bool,
    /// The project's folder, which relative paths start at.
    pub root: PathBuf,
    /// A folder on this machine for what can be built anew.
    pub cache: PathBuf,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// How a copy stands, and what the last look at it has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// The version that the copy has.
    pub version: TableVersion,
    /// Files that were copied.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were removed from the copy.
    pub removed: u64,
}

/// Keeps one copy of one table.
///
/// # Laws
///
/// 1. **The copy opens at every moment**: what a version names is there before the version is, pointers come last.
/// 2. **The place is in the copy**: after a crash at any point, another process goes on from what the copy holds.
/// 3. **Nothing of others is written over**: a copy that somebody else has changed is refused, and stays as it is.
/// 4. **Nothing is removed unasked**, and nothing that a version of the copy within its retention needs.
/// 5. **The table is only read.** Dropping a call under way leaves the copy as a crash would.
#[async_trait]
pub trait TableCopy: Send {
    /// Brings the copy up to the newest version; `None` where there is no table yet.
    async fn catch_up(&mut self) -> Result<Option<Copied>>;
}
