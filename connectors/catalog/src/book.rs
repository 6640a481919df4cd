//! The file beside the ledger: the embedded catalog, and what was registered in every other one. It can be lost: the next
//! run registers everything anew.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use lakehead_core::{Error, ListedPartition, Micros, Result, state_disk_error};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use crate::{Definition, Difference, TableEntry};

/// The file can be lost.
const ANEW: &str = "catalog.db in the state folder may be removed: lakehead catalog sync   lists every table anew";

const SCHEMA: &str = "
create table if not exists tables (
  catalog text not null, name text not null, location text not null, body text not null,
  primary key (catalog, name, location)
);
create table if not exists partitions (
  catalog text not null, name text not null, location text not null, body text not null,
  primary key (catalog, name, location, body)
) without rowid;
create table if not exists registrations (
  catalog text not null, name text not null, location text not null, pipeline text not null, digest text,
  error text, since integer not null, attempts integer not null default 0,
  primary key (catalog, name, location)
);
";

/// How a table stands in a catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The catalog.
    pub catalog: String,
    /// The table's name in it.
    pub table: String,
    /// The pipeline that writes it.
    pub pipeline: String,
    /// Why the last attempt failed, code and sentence; none where the catalog lists the table as it is.
    pub error: Option<String>,
    /// Since when it stands so.
    pub since: Micros,
    /// Failed attempts.
    pub attempts: u32,
}

/// The file; calls are short and block.
#[derive(Clone)]
pub struct Book {
    connection: Arc<Mutex<Connection>>,
    path: PathBuf,
}

impl std::fmt::Debug for Book {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Book")
    }
}

impl Book {
    /// Opens the file in `folder`, making both where they are missing.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("catalog.db");
        std::fs::create_dir_all(folder).map_err(|error| unusable(&path, error))?;
        let open = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(&path)?;
            connection.busy_timeout(std::time::Duration::from_secs(10))?;
            connection.pragma_update(None, "journal_mode", "wal")?;
            connection.execute_batch(SCHEMA)?;
            Ok(connection)
        };
        let connection = open().map_err(|error| unusable(&path, error))?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), path })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut connection).map_err(|error| {
            let known = state_disk_error(&error)
                .unwrap_or_else(|| Error::external("R0622", "the embedded catalog did not answer").help(ANEW));
            known.with("file", self.path.display()).caused_by(error)
        })
    }

    /// Returns the tables of the embedded catalogs by name, with the names of their catalogs.
    pub fn tables(&self) -> Result<Vec<(String, TableEntry)>> {
        let rows = self.with(|connection| {
            let sql = "select catalog, body from tables order by name, catalog, location";
            let mut statement = connection.prepare(sql)?;
            let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let mut tables = Vec::with_capacity(rows.len());
        for (catalog, body) in rows {
            let definition: Definition = serde_json::from_str(&body).map_err(unreadable)?;
            let partitions = self.partitions(&catalog, &definition)?;
            tables.push((catalog, TableEntry { definition, partitions }));
        }
        Ok(tables)
    }

    /// Returns what an embedded catalog says otherwise.
    pub(crate) fn look(&self, catalog: &str, entry: &TableEntry) -> Result<Vec<Difference>> {
        let Definition { name, location, .. } = &entry.definition;
        let found: Option<String> = self.with(|connection| {
            let sql = "select body from tables where catalog = ?1 and name = ?2 and location = ?3";
            connection.query_row(sql, params![catalog, name, location], |row| row.get(0)).optional()
        })?;
        let Some(found) = found else { return Ok(vec![Difference::Missing]) };
        let found: Definition = serde_json::from_str(&found).map_err(unreadable)?;
        let mut differences = differences(&found, &entry.definition)?;
        differences.extend(compare(&self.partitions(catalog, &entry.definition)?, &entry.partitions));
        Ok(differences)
    }

    /// Lists a table in an embedded catalog.
    pub(crate) fn list(&self, catalog: &str, entry: &TableEntry) -> Result<()> {
        let body = as_json(&entry.definition)?;
        let Definition { name, location, .. } = &entry.definition;
        self.with(|connection| {
            let sql = "insert or replace into tables values (?1, ?2, ?3, ?4)";
            connection.execute(sql, params![catalog, name, location, body]).map(|_| ())
        })?;
        self.know_partitions(catalog, entry)
    }

    /// Takes a table off an embedded catalog's list; the table itself stays.
    pub fn forget(&self, catalog: &str, name: &str) -> Result<usize> {
        self.with(|connection| {
            let transaction = connection.transaction()?;
            let gone = transaction.execute("delete from tables where catalog = ?1 and name = ?2", [catalog, name])?;
            transaction.execute("delete from partitions where catalog = ?1 and name = ?2", [catalog, name])?;
            transaction.execute("delete from registrations where catalog = ?1 and name = ?2", [catalog, name])?;
            transaction.commit()?;
            Ok(gone)
        })
    }

    /// Returns the digest of the definition that a catalog was last given; `None` where it is to be asked.
    pub fn digest(&self, catalog: &str, definition: &Definition) -> Result<Option<String>> {
        self.with(|connection| {
            let sql =
                "select digest from registrations where catalog = ?1 and name = ?2 and location = ?3 and error is null";
            let found = connection
                .query_row(sql, params![catalog, definition.name, definition.location], |row| row.get(0))
                .optional()?;
            Ok(found.flatten())
        })
    }

    /// Returns the partitions that a catalog was given.
    pub fn partitions(&self, catalog: &str, definition: &Definition) -> Result<BTreeSet<ListedPartition>> {
        let texts = self.with(|connection| {
            let sql = "select body from partitions where catalog = ?1 and name = ?2 and location = ?3";
            let mut statement = connection.prepare(sql)?;
            let rows = statement
                .query_map(params![catalog, definition.name, definition.location], |row| row.get::<_, String>(0))?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        texts.iter().map(|text| serde_json::from_str(text).map_err(unreadable)).collect()
    }

    /// Notes that a catalog lists a table as it is.
    pub fn note_registered(&self, catalog: &str, entry: &TableEntry, digest: &str, at: Micros) -> Result<()> {
        self.know_partitions(catalog, entry)?;
        let Definition { name, location, pipeline, .. } = &entry.definition;
        self.with(|connection| {
            let sql = "insert or replace into registrations values (?1, ?2, ?3, ?4, ?5, null, ?6, 0)";
            connection.execute(sql, params![catalog, name, location, pipeline, digest, at]).map(|_| ())
        })
    }

    /// Notes that an attempt failed: the table is registered anew, whole, until one succeeds.
    pub fn note_failed(&self, catalog: &str, entry: &TableEntry, error: &Error, at: Micros) -> Result<()> {
        let Definition { name, location, pipeline, .. } = &entry.definition;
        let text = format!("{}: {}", error.code(), error.message());
        self.with(|connection| {
            let sql = "insert into registrations values (?1, ?2, ?3, ?4, null, ?5, ?6, 1)
                on conflict (catalog, name, location) do update set digest = null, pipeline = excluded.pipeline,
                since = iif(error is null, excluded.since, since), error = excluded.error, attempts = attempts + 1";
            connection.execute(sql, params![catalog, name, location, pipeline, text, at]).map(|_| ())
        })
    }

    /// Has the next registration look at everything.
    pub fn forget_registration(&self, catalog: &str, definition: &Definition) -> Result<()> {
        self.with(|connection| {
            let sql = "update registrations set digest = null where catalog = ?1 and name = ?2 and location = ?3";
            connection.execute(sql, params![catalog, definition.name, definition.location]).map(|_| ())
        })
    }

    /// Returns how tables stand in their catalogs, by catalog and name.
    pub fn registrations(&self) -> Result<Vec<Registration>> {
        self.with(|connection| {
            let sql =
                "select catalog, name, pipeline, error, since, attempts from registrations order by 1, 2, location";
            let mut statement = connection.prepare(sql)?;
            let rows = statement.query_map([], |row| {
                Ok(Registration {
                    catalog: row.get(0)?,
                    table: row.get(1)?,
                    pipeline: row.get(2)?,
                    error: row.get(3)?,
                    since: row.get(4)?,
                    attempts: row.get(5)?,
                })
            })?;
            rows.collect()
        })
    }

    fn know_partitions(&self, catalog: &str, entry: &TableEntry) -> Result<()> {
        let known = self.partitions(catalog, &entry.definition)?;
        if known == entry.partitions {
            return Ok(());
        }
        let added = entry.partitions.difference(&known).map(as_json).collect::<Result<Vec<_>>>()?;
        let gone = known.difference(&entry.partitions).map(as_json).collect::<Result<Vec<_>>>()?;
        let Definition { name, location, .. } = &entry.definition;
        self.with(|connection| {
            let transaction = connection.transaction()?;
            for (sql, bodies) in [
                ("insert or replace into partitions values (?1, ?2, ?3, ?4)", &added),
                ("delete from partitions where catalog = ?1 and name = ?2 and location = ?3 and body = ?4", &gone),
            ] {
                let mut statement = transaction.prepare(sql)?;
                for body in bodies {
                    statement.execute(params![catalog, name, location, body])?;
                }
            }
            transaction.commit()
        })
    }
}

/// Says what is missing and what is too much.
pub(crate) fn compare(
    found: &BTreeSet<ListedPartition>,
    wanted: &BTreeSet<ListedPartition>,
) -> impl Iterator<Item = Difference> + use<> {
    let (missing, gone) = (wanted.difference(found).count(), found.difference(wanted).count());
    let missing = (missing > 0).then_some(Difference::PartitionsMissing(missing));
    missing.into_iter().chain((gone > 0).then_some(Difference::PartitionsGone(gone)))
}

/// What two definitions of one table say of each thing, where they differ.
fn differences(found: &Definition, wanted: &Definition) -> Result<Vec<Difference>> {
    let object = |definition: &Definition| {
        serde_json::to_value(definition).map_err(|error| Error::bug("an entry is not JSON").caused_by(error))
    };
    let (found, wanted) = (object(found)?, object(wanted)?);
    let mut differences = Vec::new();
    for (what, wanted) in wanted.as_object().into_iter().flatten() {
        let found = &found[what];
        if found != wanted {
            let (found, wanted) = (found.to_string(), wanted.to_string());
            differences.push(Difference::Says { what: what.clone(), found, wanted });
        }
    }
    Ok(differences)
}

fn unusable(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let known = state_disk_error(&error).unwrap_or_else(|| {
        Error::user("R0621", "the embedded catalog cannot be opened")
            .help("give the user who runs lakehead the right to write there, or change `state` in lakehead.toml")
    });
    known.with("file", path.display()).caused_by(error)
}

fn as_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::bug("an entry is not JSON").caused_by(error))
}

fn unreadable(error: serde_json::Error) -> Error {
    Error::incident("R0622", "the embedded catalog holds what this version cannot read").help(ANEW).caused_by(error)
}
