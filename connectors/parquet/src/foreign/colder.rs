//! Files of old partitions of a folder that others write, moved to a colder class or to the cold root behind the merges.
//!
//! No manifest says which files are the table: all of the folder are, by the same listing as for the merges.

use lakehead_core::{MovedBy, Patience, Result, Retention, StorageClass};
use lakehead_lakefile::{Aged, Moving, take_over};

use super::Folder;
use crate::source::hive_partition;

impl Folder {
    /// Has the folder tell which of its partition columns is a time.
    pub(crate) async fn know_ages(&mut self, by: MovedBy) -> Result<()> {
        if self.retention.moves.is_empty() {
            return Ok(());
        }
        let listed = self.list().await?;
        let partitions: Vec<_> = listed.iter().flat_map(|listed| hive_partition(&listed.file.name)).collect();
        let partitions = partitions.iter().map(|(column, value)| (column.as_str(), value.as_deref()));
        let told = Retention::told(&self.spec.settings);
        self.retention = told.of_table(&self.spec.schema, partitions, by)?;
        Ok(())
    }

    fn class_of(&self, name: &str) -> Option<StorageClass> {
        let partition = hive_partition(name);
        let value = |name: &str| partition.iter().find(|(column, _)| column == name)?.1.as_deref();
        self.retention.class_of(value, self.spec.clock.now())
    }

    /// Returns whether a file may be in a class that is not read at once: by its partition's age, whoever moved it.
    pub(super) fn is_archived(&self, name: &str) -> bool {
        let in_bucket = self.location.url().scheme().starts_with("s3");
        in_bucket && self.class_of(name) == Some(StorageClass::Archive)
    }

    /// Moves what is old enough. A failure is told, and tried again with the next run.
    pub(super) async fn move_old(&self) -> Result<()> {
        if !self.retention.tells_age() {
            return Ok(());
        }
        let listed = self.list().await?;
        let aged = |name: &String, size| Some(Aged { name: name.clone(), size, class: self.class_of(name)? });
        let all = listed.iter().filter_map(|listed| aged(&listed.file.name, listed.file.size)).collect();
        let mut moving = Moving::default();
        moving.begin(&self.spec, &self.location, Patience::ToEnd, || Some(all));
        if let Some(moved) = moving.ended(Patience::ToEnd).await {
            // What lies in the folder is the table.
            take_over(moved, &self.location, |_| true);
        }
        Ok(())
    }
}
