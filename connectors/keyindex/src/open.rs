//! Opens an index, or says why it is to be built anew.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use lakehead_core::{Error, Result};

use crate::failure::{damaged, means_rebuild};
use crate::files::Files;
use crate::folder::Folder;
use crate::index::{KeyIndex, Limits};
use crate::manifest::Manifest;
use crate::memory::Tail;
use crate::moves::MovesFile;
use crate::run::Run;

/// What [`KeyIndex::open`] found.
pub enum Opened {
    /// The index as it was at the last seal; its stamp says of which table and version.
    Ready(KeyIndex),
    /// An empty index, to be built from the table.
    Rebuild(KeyIndex, Reason),
}

/// Why an index is to be built anew.
#[derive(Debug)]
pub enum Reason {
    /// There is none, or it was never sealed.
    Absent,
    /// What is there is damaged or of another format.
    Unusable(Error),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("there is no key index yet"),
            Self::Unusable(error) => write!(f, "{error}"),
        }
    }
}

impl KeyIndex {
    /// Opens the index in a folder of its own, which is made where it is not there, and sweeps what no manifest names.
    ///
    /// Damage, another format and absence are no errors but [`Opened::Rebuild`]; errors are a full disk (`R1103`),
    /// missing rights (`R1104`) and what else a disk answers (`R1105`).
    pub fn open(folder: impl AsRef<Path>, limits: Limits) -> Result<Opened> {
        let folder = Arc::new(Folder::create(folder.as_ref(), limits.block_bytes)?);
        let reason = match restore(&folder, limits) {
            Ok(Some(index)) => return Ok(Opened::Ready(index)),
            Ok(None) => Reason::Absent,
            Err(error) if means_rebuild(&error) => Reason::Unusable(error),
            Err(error) => return Err(error),
        };
        folder.clear()?;
        Ok(Opened::Rebuild(Self::empty(folder, limits), reason))
    }
}

fn restore(folder: &Arc<Folder>, limits: Limits) -> Result<Option<KeyIndex>> {
    let Some(manifest) = Manifest::read(folder.path())? else { return Ok(None) };
    folder.skip_to(manifest.next_number);
    let mut index = KeyIndex::empty(Arc::clone(folder), limits);
    for (number, check) in &manifest.runs {
        let run = Run::open(folder.run(*number), *number, &folder.budget)?;
        if run.head_check != *check {
            return Err(damaged(&run.path, "a run is not the one the manifest names"));
        }
        index.runs.push(run);
    }
    if let Some((number, bytes)) = manifest.tail {
        let (tail, memory) = Tail::open(folder.tail(number), number, bytes)?;
        (index.tail, index.memory) = (Some(tail), memory);
    }
    for (number, check) in &manifest.moves {
        index.moves_files.push(MovesFile::read(folder.moves(*number), *number, *check, &mut index.moves)?);
    }
    index.fit_blooms()?;
    let runs = index.runs.iter().map(|run| &run.path).chain(index.tail.iter().map(|tail| &tail.path));
    let kept: Vec<_> = runs.chain(index.moves_files.iter().map(|file| &file.path)).cloned().collect();
    folder.sweep(&kept)?;
    index.files = Files::restore(manifest.next_file, manifest.files.clone());
    index.sealed = Some(manifest);
    Ok(Some(index))
}
