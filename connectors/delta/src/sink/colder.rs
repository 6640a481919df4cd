//! Files of old partitions, moved to a colder class or to the cold root beside the rounds.

use lakehead_core::{Micros, Patience, StorageClass};
use lakehead_lakefile::{Aged, Mover};

use super::DeltaSink;
use crate::live::LiveFile;

impl DeltaSink {
    /// Returns whether a file may be in a class that is not read at once: by its partition's age, whoever moved it.
    pub(super) fn is_archived(&self, file: &LiveFile, now: Micros) -> bool {
        let value = |name: &str| file.partition.iter().find(|(column, _)| column == name)?.1.as_deref();
        let in_bucket = self.location.url().scheme().starts_with("s3");
        in_bucket && self.retention.class_of(value, now) == Some(StorageClass::Archive)
    }

    /// Begins to move what is old enough, where it is time to look. No round waits for it.
    pub(super) fn begin_move(&mut self, patience: Patience) {
        let waits = self.retention.moves.is_empty() || !self.upkeep.moving.is_empty();
        if waits || !self.upkeep.may_move(self.spec.clock.monotonic(), patience) {
            return;
        }
        let Ok(live) = self.log.live() else { return };
        let now = self.spec.clock.now();
        let aged = |file: &LiveFile| {
            let value = |name: &str| file.partition.iter().find(|(column, _)| column == name)?.1.as_deref();
            let class = self.retention.class_of(value, now)?;
            Some(Aged { name: file.name.clone(), size: u64::try_from(file.size).ok()?, class })
        };
        let aged: Vec<Aged> = live.files.values().filter_map(aged).collect();
        let below =
            format!("{}{}", self.spec.connection.text("prefix").unwrap_or(""), self.spec.table.replace('.', "/"));
        let folders = (self.spec.root.as_path(), self.spec.cache.as_path());
        match Mover::of(&self.location, &self.spec.connection, &below, folders, &self.spec.clock) {
            Ok(Some(mover)) => drop(self.upkeep.moving.spawn(mover.work(aged))),
            Ok(None) => {}
            Err(error) => tracing::warn!(table = %self.location.url(), %error, "old files could not be moved"),
        }
    }

    /// Takes over what was moved.
    pub(super) async fn take_moved(&mut self, patience: Patience) {
        let moving = &mut self.upkeep.moving;
        let joined = if patience == Patience::ToEnd { moving.join_next().await } else { moving.try_join_next() };
        let Some(joined) = joined else { return };
        let settled = joined
            .map_err(|error| lakehead_core::Error::bug("a move of files ended early").caused_by(error))
            .and_then(|moved| moved?.settle(|name| self.log.live().is_ok_and(|live| live.files.contains_key(name))));
        match settled {
            Ok(settled) => {
                // Old versions of the table name these files: a sweep removes them when nothing does.
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
