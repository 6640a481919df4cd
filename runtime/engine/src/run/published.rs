//! The cut that readers of several tables are told: versions that belong together (delivery 3.5).
//!
//! The newest record of the chain names it. Rounds of one table need no record, so that the cut is written down with one
//! now and then, and when a run ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lakehead_core::{RecordStore, Result, TableVersion};

use super::{Engine, Run};
use crate::chain::{Chain, Progress};

/// What the newest record says belongs together.
#[derive(Debug, Default)]
pub(super) struct Published {
    cut: BTreeMap<String, TableVersion>,
    /// When it was written.
    at: Duration,
}

impl Published {
    pub(super) fn new(cut: &BTreeMap<String, TableVersion>, at: Duration) -> Self {
        Self { cut: cut.clone(), at }
    }
}

impl Engine {
    /// Returns the newest cut of the pipeline whose records these are; `None` where none was written. Takes nothing over.
    ///
    /// # Errors
    /// A record that cannot be read.
    pub async fn newest_cut(records: &Arc<dyn RecordStore>) -> Result<Option<Progress>> {
        Ok(Chain::newest(records.as_ref()).await?.and_then(|record| record.progress))
    }
}

impl Run<'_> {
    /// Returns whether the cut that readers are told is older than it may get.
    pub(super) fn cut_is_due(&self) -> bool {
        self.has_news() && self.engine.clock.monotonic() >= self.published.at + self.limits.idle
    }

    fn has_news(&self) -> bool {
        self.sinks.iter().filter(|part| part.lake).count() > 1 && self.published.cut != self.progress.cut
    }

    /// Notes that a record with this cut was written.
    pub(super) fn cut_was_published(&mut self, progress: &Progress) {
        self.published = Published::new(&progress.cut, self.engine.clock.monotonic());
    }

    /// At the end of a run: what is complete is what belongs together.
    pub(super) async fn publish_cut(&mut self) -> Result<()> {
        if !self.has_news() || self.progress.anew {
            return Ok(());
        }
        let progress = self.progress.clone();
        if let Some(chain) = &mut self.chain {
            chain.idle(&progress).await?;
        }
        self.cut_was_published(&progress);
        Ok(())
    }
}
