//! The epoch chain (delivery 3.12): who owns a pipeline, which round is open, where the sources stand.
//!
//! ```text
//! take ──> (round | idle)* ──> take ──> …        epoch/<r>.json, dense, each written create-if-absent
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use lakehead_core::{Checkpoint, Created, Error, Micros, Prepared, RecordStore, Result, TableVersion};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Round and idle records kept for people to read; `take` records are never removed (a paused create would succeed at
/// the freed name, and its idle record would acknowledge rows that were never written).
const KEPT_RECORDS: u64 = 100;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A process took the pipeline over.
    Take,
    /// A round with several outputs.
    Round,
    /// The position moved without rows.
    Idle,
}

/// Where everything stands behind a round.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The round's number.
    pub round: u64,
    /// Position of each source by node.
    pub sources: BTreeMap<String, Checkpoint>,
    /// The time that `now()` gave in the round.
    pub now: Micros,
    /// The versions of all tables that belong together: in a round's record those before it, else those behind it.
    pub cut: BTreeMap<String, TableVersion>,
    /// The run that wrote it.
    #[serde(default)]
    pub run: String,
    /// Whether the next round replaces all that the tables hold: the sources are read anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anew: bool,
}

/// One record of the chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// What it is.
    pub kind: Kind,
    /// Makes equal bytes mean the same writer.
    pub uuid: String,
    /// The generation of its writer.
    pub fence: u64,
    /// The newest round or idle record when it was written.
    pub open: Option<u64>,
    /// Where the sources stand behind it (round, idle).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What is committed where (round).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Prepared>,
}

/// The chain of one pipeline, owned by this process from [`Chain::take`] on.
pub struct Chain {
    store: Arc<dyn RecordStore>,
    fence: u64,
    head: u64,
    open: Option<u64>,
    kept: Vec<u64>,
    document: Option<u64>,
    /// Position documents that were there before this process took the pipeline over.
    left: Vec<String>,
}

/// Documents of earlier processes that a start removes at most.
const SWEPT_MAX: usize = 1000;

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chain").field("fence", &self.fence).field("head", &self.head).finish_non_exhaustive()
    }
}

impl Chain {
    /// Takes the pipeline over: from here on, no record of an earlier owner can be written.
    ///
    /// Losing the race for the next record is an error (`R0221`) that may be tried again.
    pub async fn take(store: Arc<dyn RecordStore>) -> Result<(Self, Option<EpochRecord>)> {
        // Listed before the take: what a successor writes, should this process sleep, is not among them.
        let left = store.list("pos").await?;
        let names = store.list("epoch").await?;
        let head = names.iter().filter_map(|name| number(name)).max().unwrap_or(0);
        let newest = match head {
            0 => None,
            _ => Some(read(store.as_ref(), head).await?),
        };
        let open = newest.as_ref().and_then(|record| if record.kind == Kind::Take { record.open } else { Some(head) });
        let fence = newest.as_ref().map_or(0, |record| record.fence) + 1;
        let take = EpochRecord {
            kind: Kind::Take,
            uuid: Uuid::new_v4().to_string(),
            fence,
            open,
            progress: None,
            outputs: Vec::new(),
        };
        if store.create(&name(head + 1), body(&take)?).await? == Created::Exists {
            return Err(Error::external("R0221", "another process took the pipeline over at the same moment")
                .help("one of the two goes on; this one tries again"));
        }
        let open_record = match open {
            Some(number) => Some(read(store.as_ref(), number).await?),
            None => None,
        };
        let chain = Self { store, fence, head: head + 1, open, kept: Vec::new(), document: None, left };
        Ok((chain, open_record))
    }

    /// Returns the newest round or idle record, and takes nothing over.
    pub async fn newest(store: &dyn RecordStore) -> Result<Option<EpochRecord>> {
        let names = store.list("epoch").await?;
        let Some(head) = names.iter().filter_map(|name| number(name)).max() else { return Ok(None) };
        let newest = read(store, head).await?;
        match (newest.kind, newest.open) {
            (Kind::Take, Some(open)) => read(store, open).await.map(Some),
            (Kind::Take, None) => Ok(None),
            _ => Ok(Some(newest)),
        }
    }

    /// Returns the generation of this owner.
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// Returns the number of the newest round or idle record.
    pub fn open(&self) -> Option<u64> {
        self.open
    }

    /// Writes a round's record before any of its outputs is committed; returns its number.
    pub async fn round(&mut self, progress: &Progress, outputs: &[Prepared]) -> Result<u64> {
        self.append(Kind::Round, progress, outputs).await
    }

    /// Writes that the position moved without rows.
    pub async fn idle(&mut self, progress: &Progress) -> Result<u64> {
        self.append(Kind::Idle, progress, &[]).await
    }

    async fn append(&mut self, kind: Kind, progress: &Progress, outputs: &[Prepared]) -> Result<u64> {
        let record = EpochRecord {
            kind,
            uuid: Uuid::new_v4().to_string(),
            fence: self.fence,
            open: self.open,
            progress: Some(progress.clone()),
            outputs: outputs.to_vec(),
        };
        let number = self.head + 1;
        // An occupied name is a successor's `take`: never adopted here, never re-numbered.
        if self.store.create(&name(number), body(&record)?).await? == Created::Exists {
            return Err(Error::incident("R0201", "another process has taken this pipeline over")
                .with("fence", self.fence)
                .help("nothing to do: the other one goes on. To move back, stop it first"));
        }
        self.head = number;
        self.open = Some(number);
        self.kept.push(number);
        Ok(number)
    }

    /// Writes a position document for a round that touches one table; returns its name as a number.
    pub async fn document(&mut self, progress: &Progress) -> Result<u64> {
        let bytes =
            serde_json::to_vec(progress).map_err(|error| Error::bug("a position is not JSON").caused_by(error))?;
        loop {
            let number = Uuid::new_v4().as_u64_pair().0 >> 1;
            if number != 0 && self.store.create(&document_name(number), bytes.clone()).await? == Created::Ours {
                return Ok(number);
            }
        }
    }

    /// Reads a position document.
    pub async fn read_document(&self, number: u64) -> Result<Progress> {
        let name = document_name(number);
        let bytes = self.store.get(&name).await?.ok_or_else(|| {
            Error::incident("R0222", "the position of a committed round is gone").with("document", &name).help(
                "bring the file back from a backup of the lake, or read the source anew under a new pipeline name",
            )
        })?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Error::incident("R0222", "a position cannot be read").with("document", name).caused_by(error)
        })
    }

    /// Removes the documents that earlier processes left, but for those in `needed`. To be called once every table is fenced
    /// and the newest round is known: nobody can commit a round that names another one any more.
    pub async fn sweep(&mut self, needed: &[u64]) -> Result<()> {
        let needed: Vec<String> = needed.iter().map(|number| document_name(*number)).collect();
        let left = std::mem::take(&mut self.left);
        for name in left.iter().filter(|name| !needed.contains(name)).take(SWEPT_MAX) {
            self.store.delete(name).await?;
        }
        Ok(())
    }

    /// Notes that a round is complete, and removes what no start can need any more.
    pub async fn complete(&mut self, document: Option<u64>) -> Result<()> {
        if let Some(old) = self.document.take() {
            self.store.delete(&document_name(old)).await?;
        }
        self.document = document;
        while self.kept.len() as u64 > KEPT_RECORDS {
            let oldest = self.kept.remove(0);
            self.store.delete(&name(oldest)).await?;
        }
        Ok(())
    }
}

fn name(number: u64) -> String {
    format!("epoch/{number:020}.json")
}

fn number(name: &str) -> Option<u64> {
    name.strip_prefix("epoch/")?.strip_suffix(".json")?.parse().ok()
}

fn document_name(number: u64) -> String {
    format!("pos/{number:016x}.json")
}

fn body(record: &EpochRecord) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(record).map_err(|error| Error::bug("a record is not JSON").caused_by(error))
}

async fn read(store: &dyn RecordStore, number: u64) -> Result<EpochRecord> {
    let name = name(number);
    let bytes = store.get(&name).await?.ok_or_else(|| {
        Error::incident("R0223", "a record of the epoch chain is gone")
            .with("record", &name)
            .help("bring the file back from a backup of the lake; nothing was changed")
    })?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Error::incident("R0223", "a record of the epoch chain cannot be read").with("record", name).caused_by(error)
    })
}
