//! Files of old partitions, moved to a colder class or to the cold root beside the rounds.

use lakehead_core::{Micros, MovedBy, Patience, Result, Retention, StorageClass};
use lakehead_lakefile::{Aged, take_over};

use super::DeltaSink;
use crate::live::LiveFile;

impl DeltaSink {
    /// Has a table that is only compacted tell which of its partition columns is a time.
    pub(super) fn know_ages(&mut self) -> Result<()> {
        let by = if self.location.url().scheme().starts_with("s3") { MovedBy::Bucket } else { MovedBy::Writer };
        let partitions = self.log.live()?.files.values().flat_map(|file| &file.partition);
        let partitions = partitions.map(|(column, value)| (column.as_str(), value.as_deref()));
        // A table without files has its columns, too.
        let partitions = self.spec.partition_by.iter().map(|column| (column.as_str(), None)).chain(partitions);
        self.retention = Retention::told(&self.spec.settings).of_table(&self.schema, partitions, by)?;
        Ok(())
    }

    /// Returns whether a file may be in a class that is not read at once: by its partition's age, whoever moved it.
    pub(super) fn is_archived(&self, file: &LiveFile, now: Micros) -> bool {
        let value = |name: &str| file.partition.iter().find(|(column, _)| column == name)?.1.as_deref();
        let in_bucket = self.location.url().scheme().starts_with("s3");
        in_bucket && self.retention.class_of(value, now) == Some(StorageClass::Archive)
    }

    /// Begins to move what is old enough, where it is time to look. No round waits for it.
    pub(super) fn begin_move(&mut self, patience: Patience) {
        if self.retention.moves.is_empty() {
            return;
        }
        let now = self.spec.clock.now();
        let aged = |file: &LiveFile| {
            let value = |name: &str| file.partition.iter().find(|(column, _)| column == name)?.1.as_deref();
            let class = self.retention.class_of(value, now)?;
            Some(Aged { name: file.name.clone(), size: u64::try_from(file.size).ok()?, class })
        };
        let all = || Some(self.log.live().ok()?.files.values().filter_map(aged).collect());
        self.upkeep.moving.begin(&self.spec, &self.location, patience, all);
    }

    /// Takes over what was moved. Old versions of the table name what was brought back: a sweep removes it when nothing does.
    pub(super) async fn take_moved(&mut self, patience: Patience) {
        if let Some(moved) = self.upkeep.moving.ended(patience).await {
            take_over(moved, &self.location, |name| self.log.live().is_ok_and(|live| live.files.contains_key(name)));
        }
    }
}
