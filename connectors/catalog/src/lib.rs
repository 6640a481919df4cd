//! Where tables are listed: registering them after their commits, and telling what differs.
//!
//! A catalog never decides what a table is: the table's own log does, and every entry is made from it. So registering is
//! idempotent, may be late, and may be done again by anybody at any time; nothing here is part of a commit.
//!
//! ```text
//! Listing of a sink ─► TableEntry ─► Catalog::look      what differs, nothing written
//!                                    Catalog::register  the same, and mended
//! Book: what was registered where, so that nothing is asked when nothing changed; and the embedded catalog
//! ```

mod book;
mod entry;
mod glue;
mod hive;
mod http;
mod kinds;
mod metastore;
mod names;
mod spark;
mod thrift;
mod unity;
mod views;

use lakehead_core::{Error, Result, Settings};

pub use book::{Book, Registration};
pub use entry::{Column, Definition, TableEntry};
pub use kinds::{KINDS, kind};
pub use unity::unity_table;
pub use views::duckdb_views;

use glue::Glue;
use hive::Hive;
use unity::Unity;

/// What to do where a catalog refuses.
const AGAIN: &str = "mend what it says; the table is registered by itself, or at once by   lakehead catalog sync";

/// What a catalog says otherwise than the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// It does not list the table.
    Missing,
    /// It says something else of it.
    Says {
        /// Of what.
        what: String,
        /// What it says.
        found: String,
        /// What the table says.
        wanted: String,
    },
    /// Partitions that hold rows are not listed.
    PartitionsMissing(usize),
    /// Partitions are listed that hold none.
    PartitionsGone(usize),
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plural = |count: &usize| if *count == 1 { "" } else { "s" };
        match self {
            Self::Missing => f.write_str("create table"),
            Self::Says { what, found, wanted } => write!(f, "{what}: {found} -> {wanted}"),
            Self::PartitionsMissing(count) => write!(f, "add {count} partition{}", plural(count)),
            Self::PartitionsGone(count) => write!(f, "remove {count} partition{}", plural(count)),
        }
    }
}

/// How much of a table a catalog is asked about.
#[derive(Clone, Debug)]
pub enum Known {
    /// Nothing is known of it: the table and all its partitions are compared.
    Nothing,
    /// The table's definition is as it should be; these partitions are listed.
    Definition(std::collections::BTreeSet<lakehead_core::ListedPartition>),
}

/// One catalog.
#[derive(Debug)]
pub enum Catalog {
    /// The one beside the ledger.
    Embedded {
        /// Its file.
        book: Book,
        /// Its name: several may share the file.
        name: String,
    },
    /// The AWS Glue Data Catalog.
    Glue(Glue),
    /// A metastore of Hive.
    Hive(Hive),
    /// Unity Catalog.
    Unity(Unity),
}

impl Catalog {
    /// Builds a catalog; asks nobody yet.
    pub fn open(name: &str, kind: &str, settings: &Settings, book: &Book) -> Result<Self> {
        match kind {
            "sqlite" => Ok(Self::Embedded { book: book.clone(), name: name.to_owned() }),
            "glue" => Ok(Self::Glue(Glue::open(settings)?)),
            "hive" => Ok(Self::Hive(Hive::open(settings)?)),
            "unity" => Ok(Self::Unity(Unity::open(settings)?)),
            other => Err(Error::bug("a planned catalog is of no kind").with("kind", other)),
        }
    }

    /// Returns what the catalog says otherwise. Writes nothing.
    pub async fn look(&self, entry: &TableEntry) -> Result<Vec<Difference>> {
        match self {
            Self::Embedded { book, name } => book.look(name, entry),
            Self::Glue(glue) => glue.register(entry, &Known::Nothing, false).await,
            Self::Hive(hive) => hive.register(entry, &Known::Nothing, false).await,
            Self::Unity(unity) => unity.register(entry, false).await,
        }
    }

    /// Makes the catalog list the table as it is, and returns what it said otherwise. Nothing is written where nothing
    /// differs; a crash in between leaves differences that the next call finds.
    pub async fn register(&self, entry: &TableEntry, known: &Known) -> Result<Vec<Difference>> {
        match self {
            Self::Embedded { book, name } => {
                let found = book.look(name, entry)?;
                book.list(name, entry)?;
                Ok(found)
            }
            Self::Glue(glue) => glue.register(entry, known, true).await,
            Self::Hive(hive) => hive.register(entry, known, true).await,
            Self::Unity(unity) => unity.register(entry, true).await,
        }
    }
}
