//! What a catalog must know of a table, and what a kind of catalog declares of itself.

use std::collections::BTreeSet;

use arrow_schema::SchemaRef;
use serde::{Deserialize, Serialize};

use crate::OptionSpec;

/// One partition of a table whose readers find its rows by folders.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ListedPartition {
    /// The values of the partition columns, in their order, as texts; `None` is NULL.
    pub values: Vec<Option<String>>,
    /// The folder below the table, `day=2026-11-01`.
    pub folder: String,
}

/// The buckets of a table's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedBuckets {
    /// The columns that are hashed.
    pub columns: Vec<String>,
    /// How many there are.
    pub count: u32,
    /// Whose hash it is: `hive2`, `hive1`, `spark`.
    pub hash: String,
}

/// A table as a catalog lists it: what its newest version says, without what every commit changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    /// The table's columns, partition columns included.
    pub schema: SchemaRef,
    /// The partition columns, in order.
    pub partition_by: Vec<String>,
    /// Every partition that holds rows; empty where readers learn them from the table's own log.
    pub partitions: BTreeSet<ListedPartition>,
    /// Buckets, where readers may rely on them.
    pub buckets: Option<ListedBuckets>,
    /// The order of rows in each file.
    pub sort_by: Vec<String>,
}

/// A kind of catalog, as data: what `catalog NAME KIND { … }` may say and which names it holds.
#[derive(Clone, Copy)]
pub struct CatalogKind {
    /// The word behind a catalog's name.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// Whether it lists tables that name no catalog.
    pub is_default: bool,
    /// The options of a `catalog` block.
    pub options: &'static [OptionSpec],
    /// The formats that it lists, by the names of their connectors.
    pub formats: &'static [&'static str],
    /// How many names joined by dots say a table, at most.
    pub parts_max: usize,
    /// What names are made of, for people.
    pub names: &'static str,
    /// Returns the name that it would hold instead; `None` where it holds this one.
    pub safe_name: fn(&str) -> Option<String>,
    /// Likewise for a column's name.
    pub safe_column: fn(&str) -> Option<String>,
    /// Whether two columns that differ in case alone are one to it.
    pub folds_case: bool,
}

impl std::fmt::Debug for CatalogKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CatalogKind").field("name", &self.name).finish_non_exhaustive()
    }
}
