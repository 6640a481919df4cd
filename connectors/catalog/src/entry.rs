//! A table as catalogs list it.

use std::collections::BTreeSet;

use arrow_schema::DataType;
use lakehead_core::{
    Error, ListedBuckets, ListedPartition, Listing, Result, Settings, column_type_name, parse_column_type,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type in SQL words.
    #[serde(rename = "type")]
    pub type_name: String,
    /// What people say of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

impl Column {
    /// Returns the type that the SQL words stand for; text for words that are none.
    pub fn data_type(&self) -> DataType {
        parse_column_type(&self.type_name).unwrap_or(DataType::Utf8)
    }
}

/// Everything of a table but its partitions: what changes with the pipeline's text or the source's columns alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Its name, parts joined by dots.
    pub name: String,
    /// The format of its files, by the name of their connector.
    pub format: String,
    /// Where it lies, as a URL without a slash at its end.
    pub location: String,
    /// Its columns, partition columns included.
    pub columns: Vec<Column>,
    /// The partition columns, in order.
    pub partition_by: Vec<String>,
    /// Buckets, where readers may rely on them.
    pub buckets: Option<ListedBuckets>,
    /// The order of rows in each file.
    pub sort_by: Vec<String>,
    /// What people say of it.
    pub comment: Option<String>,
    /// Who writes it: the pipeline's name; the empty text for tables of others.
    pub pipeline: String,
    /// The pipeline's identity, another in each profile.
    #[serde(default)]
    pub owner: String,
}

/// A table as a catalog lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableEntry {
    /// All of it but the partitions.
    pub definition: Definition,
    /// Every partition that holds rows; empty where readers learn them from the table's own log.
    pub partitions: BTreeSet<ListedPartition>,
}

impl TableEntry {
    /// Makes the entry of a table. `location` is a path or a URL.
    pub fn new(name: &str, format: &str, location: &str, listing: &Listing) -> Self {
        let column = |field: &std::sync::Arc<arrow_schema::Field>| Column {
            name: field.name().clone(),
            type_name: column_type_name(field.data_type()),
            comment: field.metadata().get("comment").cloned(),
        };
        let definition = Definition {
            name: name.to_owned(),
            format: format.to_owned(),
            location: as_url(location),
            columns: listing.schema.fields().iter().map(column).collect(),
            partition_by: listing.partition_by.clone(),
            buckets: listing.buckets.clone(),
            sort_by: listing.sort_by.clone(),
            comment: None,
            pipeline: String::new(),
            owner: String::new(),
        };
        Self { definition, partitions: listing.partitions.clone() }
    }
}

impl Definition {
    /// Returns a text that is the same as long as the definition and the catalog's own settings are; secrets do not count.
    pub fn digest(&self, settings: &Settings) -> Result<String> {
        let text = serde_json::to_vec(&(self, settings))
            .map_err(|error| Error::bug("an entry is not JSON").caused_by(error))?;
        Ok(Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Returns database and table; `otherwise` is the database of a name that has none.
    pub(crate) fn two_parts<'a>(&'a self, otherwise: &'a str) -> (&'a str, &'a str) {
        self.name.split_once('.').unwrap_or((otherwise, &self.name))
    }

    /// Returns the columns that are in the files, and those that name partitions, in their order.
    pub(crate) fn split_columns(&self) -> (Vec<&Column>, Vec<&Column>) {
        let kept = self.columns.iter().filter(|column| !self.partition_by.contains(&column.name)).collect();
        let named = |name: &String| self.columns.iter().find(|column| column.name == *name);
        (kept, self.partition_by.iter().filter_map(named).collect())
    }
}

/// A path as a URL: catalogs are read by programs with another working folder.
fn as_url(location: &str) -> String {
    let location = location.trim_end_matches('/');
    if location.starts_with('/') { format!("file://{location}") } else { location.to_owned() }
}
