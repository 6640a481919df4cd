//! Rounds of a sink that cannot be asked what it holds.

use lakehead_core::{Error, Mark, Outcome, Prepared, Result, SinkPosition};

/// Bytes of one round at most: it is held in memory and written into the round's record.
const ROUND_BYTES_MAX: usize = 64 << 20;

/// The texts of the open round, and what this process knows of earlier ones.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    identity: String,
    fence: u64,
    seq: u64,
    texts: Vec<String>,
    rows: u64,
    bytes: usize,
}

impl Rounds {
    /// Begins with nothing; `identity` says what is written to, without its secrets.
    pub(crate) fn new(identity: &str) -> Self {
        Self { identity: identity.to_owned(), ..Self::default() }
    }

    /// Takes over a fence; the rounds of earlier processes are not known here.
    pub(crate) fn open(&mut self, fence: u64) -> Result<SinkPosition> {
        if fence < self.fence {
            return Err(Error::incident("R0201", "another daemon has taken this pipeline over")
                .with("table", &self.identity)
                .with("fence", self.fence)
                .help("nothing to do: the other one goes on. To move back, stop it first"));
        }
        let mark = Mark { seq: self.seq, fence: self.fence, ..Mark::default() };
        self.fence = fence;
        Ok(SinkPosition { identity: self.identity.clone(), version: self.seq, mark })
    }

    /// Adds texts that stand for `rows` rows.
    pub(crate) fn add(&mut self, texts: Vec<String>, rows: usize) -> Result<()> {
        self.bytes += texts.iter().map(String::len).sum::<usize>();
        if self.bytes > ROUND_BYTES_MAX {
            return Err(Error::user("R0801", "a round is too large for a sink that is no table")
                .with("table", &self.identity)
                .with("bytes", self.bytes)
                .help("commit more often (`commit_every`), or write fewer rows there with a `where` before it"));
        }
        self.rows += rows as u64;
        self.texts.extend(texts);
        Ok(())
    }

    /// Forgets the open round.
    pub(crate) fn clear(&mut self) {
        self.texts.clear();
        self.rows = 0;
        self.bytes = 0;
    }

    /// Closes the open round.
    pub(crate) fn prepare(&mut self, table: &str) -> Option<Prepared> {
        if self.rows == 0 {
            return None;
        }
        let prepared = Prepared {
            table: table.to_owned(),
            identity: self.identity.clone(),
            rows: self.rows,
            bytes: self.bytes as u64,
            payload: serde_json::Value::from(std::mem::take(&mut self.texts)),
        };
        self.clear();
        Some(prepared)
    }

    /// Says what a commit comes to without being written; `None` where it is to be written now.
    pub(crate) fn outcome(&self, mark: Mark) -> Option<Outcome> {
        if self.fence > mark.fence {
            return Some(Outcome::Fenced(self.fence));
        }
        (self.seq >= mark.seq).then_some(Outcome::AlreadyCommitted)
    }

    /// Notes that a round was written.
    pub(crate) fn written(&mut self, mark: Mark) -> Outcome {
        self.seq = mark.seq;
        Outcome::Committed(mark.seq)
    }
}

/// Returns the texts of a prepared round.
pub(crate) fn texts(prepared: &Prepared) -> Result<Vec<String>> {
    serde_json::from_value(prepared.payload.clone())
        .map_err(|error| Error::bug("a prepared round does not read back").caused_by(error))
}
