//! Files of old partitions, moved to a colder class or to the cold root beside the rounds.

use std::collections::HashSet;

use lakehead_core::{Patience, StorageClass};
use lakehead_lakefile::{Aged, Mover};

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
        let waits = self.retention.moves.is_empty() || !self.upkeep.moving.is_empty();
        if waits || !self.upkeep.may_move(self.spec.clock.monotonic(), patience) {
            return;
        }
        let now = self.spec.clock.now();
        let aged = |file: &ManifestFile| {
            let value = |name: &str| file.partition.iter().find(|(column, _)| column == name)?.1.as_deref();
            Some(Aged { name: file.name.clone(), size: file.size, class: self.retention.class_of(value, now)? })
        };
        let aged: Vec<Aged> = self.log.known().into_iter().flat_map(|newest| &newest.files).filter_map(aged).collect();
        let below =
            format!("{}{}", self.spec.connection.text("prefix").unwrap_or(""), self.spec.table.replace('.', "/"));
        let folders = (self.spec.root.as_path(), self.spec.cache.as_path());
        match Mover::of(&self.location, &self.spec.connection, &below, folders, &self.spec.clock) {
            Ok(Some(mover)) => drop(self.upkeep.moving.spawn(mover.work(aged))),
            Ok(None) => {}
            Err(error) => tracing::warn!(table = %self.location.url(), %error, "old files could not be moved"),
        }
    }

    /// Takes over what was moved. A file that a round replaced meanwhile may have come back by a copy onto itself: it goes.
    pub(super) async fn take_moved(&mut self, patience: Patience) {
        let moving = &mut self.upkeep.moving;
        let joined = if patience == Patience::ToEnd { moving.join_next().await } else { moving.try_join_next() };
        let Some(joined) = joined else { return };
        let named: HashSet<&str> = self.log.known().into_iter().flat_map(|newest| newest.names()).collect();
        let is_named = |name: &str| named.contains(name);
        let settled = joined
            .map_err(|error| lakehead_core::Error::bug("a move of files ended early").caused_by(error))
            .and_then(|moved| moved?.settle(is_named));
        match settled {
            Ok(settled) => {
                remove(&self.location, &settled.needless).await;
                if settled.files > 0 {
                    tracing::info!(
                        table = %self.location.url(), files = settled.files, bytes = settled.bytes,
                        "files of old partitions were moved to a colder place"
                    );
                }
            }
            Err(error) => tracing::warn!(table = %self.location.url(), %error, "old files could not be moved"),
        }
    }
}
