//! The changes of a round, one a key, on their way to files.

use arrow::array::RecordBatch;
use lakehead_core::Result;

use super::DeltaSink;
use crate::changes::{ChangeFile, Changes};
use crate::hash::KeyHasher;
use crate::net::Netted;
use crate::spill::{Folder, Outcome, Part};
use crate::stage::Round;

/// Rows of a round that are merged with those of others before long.
const BRIEF_ROWS: usize = 32 * 1024;

impl DeltaSink {
    /// Writes down what the open round comes to.
    pub(super) async fn write_netted(&mut self) -> Result<()> {
        let Some(keyed) = self.keyed.as_mut() else { return Ok(()) };
        match keyed.finish()? {
            None => Ok(()),
            Some(Round::Whole(netted)) => self.write_whole(netted).await,
            Some(Round::Parts(folder, parts)) => self.write_parts(folder, parts).await,
        }
    }

    async fn write_whole(&mut self, netted: Netted) -> Result<()> {
        let rows: usize = netted.rows.iter().map(RecordBatch::num_rows).sum();
        if rows < BRIEF_ROWS && self.upkeep.merges() {
            self.begin_writers(self.format().for_a_while());
        }
        if self.wants_vectors() {
            let hasher = KeyHasher::new(&self.schema, &self.spec.key)?;
            self.writers().keep_keys(hasher);
        }
        for batch in &netted.rows {
            self.writers().write(batch).await?;
        }
        self.spilled.patches.extend(Changes::keep(&self.staging, &self.own(), &netted.patches).await?);
        self.spilled.deletes.extend(Changes::keep(&self.staging, &self.own(), &netted.deletes).await?);
        Ok(())
    }

    /// Nets part after part. The hashes of keys are not kept: they would be as many as do not fit in memory.
    async fn write_parts(&mut self, folder: Folder, mut parts: Vec<Part>) -> Result<()> {
        let own = self.own();
        let (mut patches, mut deletes) = (ChangeFile::default(), ChangeFile::default());
        while let Some(part) = parts.pop() {
            let Some(keyed) = &self.keyed else { return Ok(()) };
            match keyed.netting().net(&self.schema, folder.path(), part)? {
                Outcome::Parts(more) => parts.extend(more),
                Outcome::Netted(netted) => {
                    for batch in &netted.rows {
                        self.writers().write(batch).await?;
                    }
                    patches.write(&self.staging, &own, &netted.patches).await?;
                    deletes.write(&self.staging, &own, &netted.deletes).await?;
                }
            }
        }
        self.spilled.patches.extend(patches.finish().await?);
        self.spilled.deletes.extend(deletes.finish().await?);
        Ok(())
    }
}
