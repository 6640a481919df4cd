//! One round: prepare, record, commit each table, acknowledge.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::compute::{SortColumn, SortOptions, concat_batches, lexsort_to_indices, take_record_batch};
use lakehead_core::{Error, Mark, Outcome, Patience, Prepared, Result, failpoint};
use lakehead_plan::NodeKind;

use super::held::Held;
use super::{Reading, Run, sink_plans};
use crate::chain::Progress;
use crate::event::Event;

impl Run<'_> {
    /// Ends the open round. `last` writes the position down even where no row came; `whole` evaluates what was
    /// collected.
    pub(super) async fn cut(&mut self, last: bool, whole: bool) -> Result<()> {
        if whole && self.nothing_came() {
            return self.idle(last).await;
        }
        if self.collect && whole {
            let collected = std::mem::take(&mut self.collected);
            self.begin();
            self.pass(collected).await?;
        }
        failpoint::hit("engine.evaluated").await?;
        self.stage_ordered().await?;
        self.stage_dead_letters().await?;
        let mut prepared: Vec<(usize, Prepared)> = Vec::new();
        for (number, part) in self.sinks.iter_mut().enumerate() {
            if let Some(ready) = part.sink.prepare().await? {
                // Recorded under the name that a later process finds the sink by.
                prepared.push((number, Prepared { table: part.table.clone(), ..ready }));
            }
        }
        failpoint::hit("engine.prepared").await?;
        if prepared.is_empty() {
            self.idle(last).await?;
        } else {
            self.commit(prepared).await?;
        }
        (self.rows, self.bytes, self.began, self.snapshot) = (0, 0, None, false);
        self.held = Held::default();
        Ok(())
    }

    /// Returns whether all inputs are read once, and no new one is there: a table is not emptied because nobody has brought its next
    /// contents. An interval without inputs is one without rows, and replaces its own rows alone.
    fn nothing_came(&self) -> bool {
        let is_read_before = |reading: &Reading| {
            let from = self.progress.sources.get(&reading.node);
            reading.plan.arrives && from.is_some_and(|from| !from.is_empty())
        };
        self.summary.rows_read == 0
            && self.pending == self.progress.sources
            && self.readings.iter().all(is_read_before)
            && !sink_plans(self.flow.plan()).any(|sink| sink.settings.get("overwrite_by").is_some())
    }

    /// Rows of a sink with `sequence_by` are put in that order, so that the newest of a key comes last.
    async fn stage_ordered(&mut self) -> Result<()> {
        for (node, batches) in std::mem::take(&mut self.unordered) {
            let NodeKind::Sink(plan) = &self.flow.plan().nodes[node].kind else { continue };
            let (Some(column), Some(first)) = (plan.sequence_by.clone(), batches.first()) else { continue };
            let rows = concat_batches(&first.schema(), &batches)?;
            let sequence = rows
                .column_by_name(&column)
                .ok_or_else(|| Error::bug("the sequence column is missing").with("column", &column))?;
            let options = SortOptions { descending: false, nulls_first: true };
            // Of equal ones the newer arrival comes last, so that it wins.
            let arrival: ArrayRef = Arc::new((0_u64..rows.num_rows() as u64).collect::<UInt64Array>());
            let by_sequence = SortColumn { values: Arc::clone(sequence), options: Some(options) };
            let order = lexsort_to_indices(&[by_sequence, SortColumn { values: arrival, options: None }], None)?;
            let ordered: RecordBatch = take_record_batch(&rows, &order)?;
            self.stage_rows(node, ordered).await?;
        }
        Ok(())
    }

    /// Hands dead letters on to their table before they are many; the round commits them with the others.
    pub(super) async fn stage_many_dead_letters(&mut self) -> Result<()> {
        if self.rejected.are_many() { self.stage_dead_letters().await } else { Ok(()) }
    }

    async fn stage_dead_letters(&mut self) -> Result<()> {
        let Some(rows) = self.rejected.take(&self.flow.plan().name, self.engine.clock.now())? else { return Ok(()) };
        let part = self.sinks.iter_mut().find(|part| part.node.is_none());
        let part = part.ok_or_else(|| Error::bug("the dead letters' sink was not built"))?;
        part.sink.stage(rows).await
    }

    /// The position moved without rows: written down now and then, so that the source may forget (case 7).
    async fn idle(&mut self, last: bool) -> Result<()> {
        // Tables that are to be emptied are not behind us before a round has done it.
        let moved = !self.progress.anew && (self.pending != self.progress.sources || self.progress.run != self.run.id);
        let due = last || self.engine.clock.monotonic() >= self.last_idle + self.limits.idle;
        if !moved || !due {
            return Ok(());
        }
        let next = self.next_progress(self.progress.round);
        if let Some(chain) = &mut self.chain {
            chain.idle(&next).await?;
        }
        self.cut_was_published(&next);
        self.last_idle = self.engine.clock.monotonic();
        self.progress = next;
        self.tell(Event::Idle);
        self.acknowledge();
        Ok(())
    }

    fn next_progress(&self, round: u64) -> Progress {
        Progress {
            round,
            sources: self.pending.clone(),
            now: self.engine.clock.now(),
            cut: self.progress.cut.clone(),
            run: if self.readings.iter().all(|reading| reading.ended) { self.run.id.clone() } else { String::new() },
            anew: false,
        }
    }

    async fn commit(&mut self, prepared: Vec<(usize, Prepared)>) -> Result<()> {
        let next = self.next_progress(self.progress.round + 1);
        let mut mark = Mark { seq: next.round, ..Mark::default() };
        let alone = prepared.len() == 1 && self.sinks[prepared[0].0].lake && !self.cut_is_due();
        if !alone {
            self.cut_was_published(&next);
        }
        if let Some(chain) = &mut self.chain {
            mark.fence = chain.fence();
            if alone {
                mark.document = Some(chain.document(&next).await?);
                failpoint::hit("engine.document").await?;
            } else {
                let outputs: Vec<Prepared> = prepared.iter().map(|(_, output)| output.clone()).collect();
                mark.record = Some(chain.round(&next, &outputs).await?);
                failpoint::hit("engine.recorded").await?;
            }
        }
        self.progress = next;
        for (number, output) in &prepared {
            self.commit_one(*number, output, mark).await?;
            failpoint::hit("engine.committed_one").await?;
        }
        self.close_round(mark).await?;
        failpoint::hit("engine.committed").await?;
        self.summary.rounds += 1;
        self.last_idle = self.engine.clock.monotonic();
        self.acknowledge();
        let figures = self.sinks.iter().enumerate().filter_map(|(number, part)| Some((number, part.sink.figures()?)));
        self.pace.learn(figures);
        for (number, _) in &prepared {
            self.tell_listing(*number);
        }
        self.tend(Patience::Between).await;
        Ok(())
    }

    /// A sink that does not remember its rounds must not be given this one again by the next process: a record behind
    /// it says that the round is complete.
    async fn close_round(&mut self, mark: Mark) -> Result<()> {
        let forgets = self.sinks.iter().any(|part| !part.lake);
        let Some(chain) = &mut self.chain else { return Ok(()) };
        if forgets && mark.record.is_some() {
            chain.idle(&self.progress).await?;
        }
        chain.complete(mark.document).await
    }

    async fn commit_one(&mut self, number: usize, output: &Prepared, mark: Mark) -> Result<()> {
        let part = &mut self.sinks[number];
        match part.sink.commit(output, mark).await? {
            Outcome::Committed(version) => {
                let table = part.table.clone();
                self.progress.cut.insert(table.clone(), version);
                self.summary.tables.insert(table.clone(), version);
                let (round, rows, bytes) = (mark.seq, output.rows, output.bytes);
                self.tell(Event::Committed { round, table, version, rows, bytes });
                Ok(())
            }
            Outcome::AlreadyCommitted => Ok(()),
            Outcome::Fenced(fence) => Err(fenced(&part.table, fence)),
        }
    }

    fn acknowledge(&self) {
        for reading in &self.readings {
            if let Some(checkpoint) = self.progress.sources.get(&reading.node) {
                reading.task.acknowledge(checkpoint);
            }
        }
    }
}

/// A later daemon owns the pipeline.
pub(super) fn fenced(table: &str, fence: u64) -> Error {
    Error::incident("R0201", "another daemon has taken this pipeline over")
        .with("table", table)
        .with("fence", fence)
        .help("nothing to do: the other one goes on. To move back, stop it first")
}
