//! Files of old partitions, moved to a colder class or to the cold root beside the rounds.

use std::collections::HashSet;

use lakehead_core::{Patience, StorageClass};
use lakehead_lakefile::{Aged, take_over};

use super::ParquetSink;
use crate::manifest::ManifestFile;
use crate::publish::remove;

impl ParquetSink {
    /// Returns files that may be read at once: none that its partition's age has archived, whoever moved it.
    pub(super) fn readable(&self, files: &[ManifestFile]) -> Vec<ManifestFile> {
        let now = self.spec.clock.now();
        let is_archived = |file: &&ManifestFile| {
            let value = |name: &str| file.partition.iter().find(|(column, _)| column == name)?.1.as_deref();
            self.retention.class_of(value, now) == Some(StorageClass::Archive)
        };
        let in_bucket = self.location.url().scheme().starts_with("s3");
        files.iter().filter(|file| !(in_bucket && is_archived(file))).cloned().collect()
    }

    /// Begins to move what is old enough, where it is time to look. No round waits for it.
    pub(super) fn begin_move(&mut self, patience: Patience) {
        if self.retention.moves.is_empty() {
            return;
        }
        let now = self.spec.clock.now();
        let aged = |file: &ManifestFile| {
            let value = |name: &str| file.partition.iter().find(|(column, _)| column == name)?.1.as_deref();
            Some(Aged { name: file.name.clone(), size: file.size, class: self.retention.class_of(value, now)? })
        };
        let all = || Some(self.log.known().into_iter().flat_map(|newest| &newest.files).filter_map(aged).collect());
        self.upkeep.moving.begin(&self.spec, &self.location, patience, all);
    }

    /// Takes over what was moved. A file that a round replaced meanwhile may have come back by a copy onto itself: it goes.
    pub(super) async fn take_moved(&mut self, patience: Patience) {
        let Some(moved) = self.upkeep.moving.ended(patience).await else { return };
        let needless = {
            let named: HashSet<&str> = self.log.known().into_iter().flat_map(|newest| newest.names()).collect();
            take_over(moved, &self.location, |name| named.contains(name))
        };
        remove(&self.location, &needless).await;
    }
}
