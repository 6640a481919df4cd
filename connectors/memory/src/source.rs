//! Events given beforehand, delivered in order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use lakehead_core::{BatchBudget, Checkpoint, Error, Result, Source, SourceEvent};

/// Delivers a list of events. The position is the number of `Progress` events passed.
#[derive(Debug)]
pub struct MemorySource {
    node: String,
    events: VecDeque<SourceEvent>,
    acknowledged: Arc<Mutex<Checkpoint>>,
    passed: u64,
}

impl MemorySource {
    /// Creates a source for `node`. A `Progress` in `events` says only where a round may end; its checkpoint is filled in.
    pub fn new(node: &str, events: Vec<SourceEvent>) -> Self {
        Self { node: node.to_owned(), events: events.into(), acknowledged: Arc::default(), passed: 0 }
    }

    /// Returns what has been acknowledged, also after the source was moved away.
    pub fn acknowledged(&self) -> Arc<Mutex<Checkpoint>> {
        Arc::clone(&self.acknowledged)
    }
}

#[async_trait]
impl Source for MemorySource {
    async fn open(&mut self, from: &Checkpoint) -> Result<()> {
        let Some(position) = from.get(&self.node) else { return Ok(()) };
        let passed: u64 = position
            .parse()
            .map_err(|error| Error::user("R0107", "a position is not one of this source").caused_by(error))?;
        while self.passed < passed {
            match self.events.pop_front() {
                Some(SourceEvent::Progress(_)) => self.passed += 1,
                Some(_) => {}
                None => return Err(Error::incident("R0108", "the source no longer holds its position")),
            }
        }
        Ok(())
    }

    async fn next(&mut self, _budget: BatchBudget) -> Result<SourceEvent> {
        match self.events.pop_front() {
            Some(SourceEvent::Progress(_)) => {
                self.passed += 1;
                let mut checkpoint = Checkpoint::default();
                checkpoint.set(&self.node, self.passed.to_string());
                Ok(SourceEvent::Progress(checkpoint))
            }
            Some(event) => Ok(event),
            None => Ok(SourceEvent::End),
        }
    }

    async fn acknowledge(&mut self, durable: &Checkpoint) -> Result<()> {
        *self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner) = durable.clone();
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}
