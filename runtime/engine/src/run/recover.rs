//! Taking a pipeline over: no earlier owner can commit any more, and what it left half done is finished.

use super::{Result, Run, failpoint};
use crate::chain::{Chain, EpochRecord, Kind, Progress};
use crate::event::Event;
use lakehead_core::{Error, Mark, Outcome, Prepared, RecordStore, Sink, SinkPosition, TableVersion};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Run<'_> {
    /// TAKE, FENCE, NEWEST of delivery 3.12.
    pub(super) async fn take_over(&mut self, records: Option<Arc<dyn RecordStore>>) -> Result<()> {
        failpoint::hit("engine.take").await?;
        let mut open = None;
        let mut fence = 0;
        if let Some(records) = records {
            let (chain, record) = Chain::take(records).await?;
            fence = chain.fence();
            open = record;
            self.chain = Some(chain);
            self.tell(Event::Taken { fence });
        }
        failpoint::hit("engine.taken").await?;
        let mut positions = Vec::with_capacity(self.sinks.len());
        for part in &mut self.sinks {
            positions.push(part.sink.open(fence).await?);
        }
        failpoint::hit("engine.fenced").await?;
        let mut rolled = BTreeMap::new();
        self.progress = self.newest(open, &positions, &mut rolled).await?;
        self.pending.clone_from(&self.progress.sources);
        self.cut_was_published(&self.progress.clone());
        // Every round so far is complete: what belongs together is how the tables stand, the rolled ones behind their round.
        for (part, position) in self.sinks.iter().zip(&positions) {
            let version = rolled.get(&part.table).copied().unwrap_or(position.version);
            self.progress.cut.insert(part.table.clone(), version);
        }
        (0..self.sinks.len()).for_each(|number| self.tell_listing(number));
        if let Some(chain) = &mut self.chain {
            let needed: Vec<u64> = positions.iter().filter_map(|position| position.mark.document).collect();
            chain.sweep(&needed).await?;
        }
        Ok(())
    }

    /// Finds the newest complete round, finishing the open one with its own files: nothing is evaluated again.
    async fn newest(
        &mut self,
        open: Option<EpochRecord>,
        positions: &[SinkPosition],
        rolled: &mut BTreeMap<String, TableVersion>,
    ) -> Result<Progress> {
        let Some(chain) = &self.chain else { return Ok(Progress::default()) };
        let recorded = open.as_ref().and_then(|record| record.progress.clone()).unwrap_or_default();
        let newest = positions.iter().filter(|position| position.mark.seq > recorded.round).max_by_key(|p| p.mark.seq);
        if let Some(position) = newest {
            let document = position.mark.document.ok_or_else(|| {
                Error::incident("R0224", "a table holds a round that the epoch chain does not know")
                    .with("round", position.mark.seq)
                    .help("the chain under `_lakehead` was lost or replaced; bring it back from a backup of the lake")
            })?;
            return chain.read_document(document).await;
        }
        let Some(record) = open else { return Ok(recorded) };
        if record.kind == Kind::Round {
            *rolled = self.roll_forward(&record, recorded.round).await?;
        }
        Ok(recorded)
    }

    /// Returns the versions that it made, by table.
    async fn roll_forward(&mut self, record: &EpochRecord, round: u64) -> Result<BTreeMap<String, TableVersion>> {
        let number = self.chain.as_ref().and_then(Chain::open);
        let fence = self.chain.as_ref().map_or(0, Chain::fence);
        let mark = Mark { seq: round, fence, document: None, record: number };
        let mut versions = BTreeMap::new();
        for output in &record.outputs {
            match self.sink_of(output, fence).await?.commit(output, mark).await? {
                Outcome::Committed(version) => drop(versions.insert(output.table.clone(), version)),
                Outcome::AlreadyCommitted => {}
                Outcome::Fenced(fence) => return Err(super::commit::fenced(&output.table, fence)),
            }
            failpoint::hit("engine.rolled").await?;
        }
        if let (Some(chain), Some(progress)) = (&mut self.chain, &record.progress)
            && self.sinks.iter().any(|part| !part.lake)
        {
            chain.idle(progress).await?;
        }
        if !versions.is_empty() {
            self.tell(Event::Recovered { round });
        }
        Ok(versions)
    }

    /// Returns the sink that a recorded output is for. One whose name holds the run (`${run.start}`) is not among those of
    /// this run where another one began the round: it is built as it was then.
    async fn sink_of(&mut self, output: &Prepared, fence: u64) -> Result<&mut Box<dyn Sink>> {
        if let Some(place) = self.sinks.iter().position(|part| part.table == output.table) {
            return Ok(&mut self.sinks[place].sink);
        }
        let Some(mut sink) = self.reopen.as_ref().map(|reopen| reopen(&output.table)).transpose()?.flatten() else {
            return Err(Error::incident(
                "R0220",
                "an unfinished round names a table that the pipeline no longer writes",
            )
            .with("table", &output.table)
            .help("run the pipeline once as it was, so that the round is finished; then change it"));
        };
        sink.open(fence).await?;
        Ok(self.earlier.insert(sink))
    }
}
