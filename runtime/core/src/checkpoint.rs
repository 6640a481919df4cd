//! Source positions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The name of one independently ordered part of a source: a slot, a topic partition, a folder.
pub type PartitionName = String;

/// A position within one partition; opaque to all but its source, which must be able to resume from it exactly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub String);

/// Where every partition of a source stands. Empty means that nothing has been read yet.
///
/// A position without an identity is invalid (delivery decision 6): a source puts the identity of the system it reads
/// into the position, and refuses a checkpoint of another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Checkpoint(BTreeMap<PartitionName, Position>);

impl Checkpoint {
    /// Returns the position of a partition.
    pub fn get(&self, partition: &str) -> Option<&str> {
        self.0.get(partition).map(|position| position.0.as_str())
    }

    /// Sets the position of a partition.
    pub fn set(&mut self, partition: impl Into<PartitionName>, position: impl Into<String>) {
        self.0.insert(partition.into(), Position(position.into()));
    }

    /// Returns whether nothing has been read yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns every partition with its position.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, position)| (name.as_str(), position.0.as_str()))
    }

    /// Takes over every position of `later`.
    pub fn merge(&mut self, later: &Checkpoint) {
        for (name, position) in &later.0 {
            self.0.insert(name.clone(), position.clone());
        }
    }
}
