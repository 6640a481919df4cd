//! The SQLite file and its tables.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use lakehead_core::{DiskFault, Error, Micros, Result, TableFigures, state_disk_error};
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;

/// Runs kept per pipeline.
const RUNS_KEPT: i64 = 1_000;

/// How a run ended, or that it has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It goes on, or the process that ran it died.
    Running,
    /// It ended well.
    Succeeded,
    /// It ended with an error.
    Failed,
    /// It was stopped.
    Stopped,
}

impl RunState {
    fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }

    fn parse(word: &str) -> Self {
        match word {
            "succeeded" => Self::Succeeded,
            "failed" => Self::Failed,
            "stopped" => Self::Stopped,
            _ => Self::Running,
        }
    }
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunRecord {
    /// The pipeline's name.
    pub pipeline: String,
    /// The run's id.
    pub run: String,
    /// How it stands.
    pub state: RunState,
    /// When it began.
    pub started: Micros,
    /// When it ended.
    pub ended: Option<Micros>,
    /// Start of its interval.
    pub interval_start: Micros,
    /// End of its interval.
    pub interval_end: Micros,
    /// Rows read.
    pub rows_read: u64,
    /// Rows written.
    pub rows_written: u64,
    /// Rows set aside.
    pub rows_rejected: u64,
    /// Why it failed: code and sentence.
    pub error: Option<String>,
}

/// One table that a pipeline writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableRecord {
    /// The pipeline's name.
    pub pipeline: String,
    /// The connection's name.
    pub connection: String,
    /// The table's name.
    pub table: String,
    /// `delta` or `parquet`.
    pub format: String,
    /// Where it lies.
    pub location: String,
    /// Its newest version.
    pub version: u64,
    /// When that was committed.
    pub updated: Micros,
    /// What it holds, where its sink can say.
    pub figures: Option<TableFigures>,
}

/// Who has a pipeline: what its epoch chain says, for people. The chain decides, this row only tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeaseRecord {
    /// The pipeline's name.
    pub pipeline: String,
    /// The generation.
    pub fence: u64,
    /// Machine and process.
    pub owner: String,
    /// When it took the pipeline over.
    pub taken: Micros,
}

/// How a copy of a table stands, as the process that keeps it saw it last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CopyRecord {
    /// The pipeline's name.
    pub pipeline: String,
    /// The connection of the table.
    pub connection: String,
    /// The table's name.
    pub table: String,
    /// The connection that keeps the copy.
    pub to: String,
    /// The version that the copy has.
    pub version: u64,
    /// When the copy was looked at last.
    pub looked: Micros,
    /// Why it could not be brought up to date then, code and sentence; none where it was.
    pub error: Option<String>,
}

/// The ledger; calls are short and block.
pub struct Ledger {
    connection: Mutex<Connection>,
    path: PathBuf,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ledger")
    }
}

const SCHEMA: &str = "
create table if not exists runs (
  pipeline text not null, run text not null, state text not null, started integer not null, ended integer,
  interval_start integer not null, interval_end integer not null, rows_read integer not null default 0,
  rows_written integer not null default 0, rows_rejected integer not null default 0, error text,
  primary key (pipeline, run)
);
create table if not exists tables (
  pipeline text not null, connection text not null, name text not null, format text not null,
  location text not null, version integer not null, updated integer not null,
  primary key (connection, name)
);
create table if not exists figures (connection text not null, name text not null, body text not null,
  primary key (connection, name)
);
create table if not exists leases (
  pipeline text primary key, fence integer not null, owner text not null, taken integer not null
);
create table if not exists copies (
  pipeline text not null, connection text not null, name text not null, copy text not null,
  version integer not null, looked integer not null, error text,
  primary key (connection, name, copy)
);
create table if not exists fired (pipeline text primary key, instant integer not null);
";

impl Ledger {
    /// Opens the file at `path`, making it and its folder where they are missing.
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| unusable(path, error))?;
        }
        let connection = Connection::open(path).map_err(|error| unusable(path, error))?;
        connection.busy_timeout(std::time::Duration::from_secs(10)).map_err(|error| unusable(path, error))?;
        connection.pragma_update(None, "journal_mode", "wal").map_err(|error| unusable(path, error))?;
        connection.execute_batch(SCHEMA).map_err(|error| unusable(path, error))?;
        Ok(Self { connection: Mutex::new(connection), path: path.to_path_buf() })
    }

    /// Opens a ledger that lives as long as the process.
    pub fn in_memory() -> Result<Self> {
        let path = PathBuf::from(":memory:");
        let open = || -> rusqlite::Result<Connection> {
            let connection = Connection::open_in_memory()?;
            connection.execute_batch(SCHEMA)?;
            Ok(connection)
        };
        let connection = open().map_err(|error| failed(&path, error))?;
        Ok(Self { connection: Mutex::new(connection), path })
    }

    fn with<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let connection = self.connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        work(&connection).map_err(|error| failed(&self.path, error))
    }

    /// Writes a run down, new or changed.
    pub fn record_run(&self, run: &RunRecord) -> Result<()> {
        let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.with(|connection| {
            connection.execute(
                "insert or replace into runs values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                params![
                    run.pipeline,
                    run.run,
                    run.state.word(),
                    run.started,
                    run.ended,
                    run.interval_start,
                    run.interval_end,
                    count(run.rows_read),
                    count(run.rows_written),
                    count(run.rows_rejected),
                    run.error
                ],
            )?;
            connection.execute(
                "delete from runs where pipeline = ?1 and started < (select started from runs where pipeline = ?1
                 order by started desc limit 1 offset ?2)",
                params![run.pipeline, RUNS_KEPT],
            )?;
            Ok(())
        })
    }

    /// Returns the newest runs of a pipeline, newest first.
    pub fn runs(&self, pipeline: &str, most: u32) -> Result<Vec<RunRecord>> {
        self.with(|connection| {
            let mut statement = connection.prepare(
                "select pipeline, run, state, started, ended, interval_start, interval_end, rows_read, rows_written,
                 rows_rejected, error from runs where pipeline = ?1 order by started desc limit ?2",
            )?;
            let rows = statement.query_map(params![pipeline, most], |row| {
                let count = |n: i64| u64::try_from(n).unwrap_or(0);
                Ok(RunRecord {
                    pipeline: row.get(0)?,
                    run: row.get(1)?,
                    state: RunState::parse(&row.get::<_, String>(2)?),
                    started: row.get(3)?,
                    ended: row.get(4)?,
                    interval_start: row.get(5)?,
                    interval_end: row.get(6)?,
                    rows_read: count(row.get(7)?),
                    rows_written: count(row.get(8)?),
                    rows_rejected: count(row.get(9)?),
                    error: row.get(10)?,
                })
            })?;
            rows.collect()
        })
    }

    /// Returns whether a run of this id ended well.
    pub fn succeeded(&self, pipeline: &str, run: &str) -> Result<bool> {
        self.with(|connection| {
            connection.query_row(
                "select count(*) from runs where pipeline = ?1 and run = ?2 and state = 'succeeded'",
                params![pipeline, run],
                |row| row.get::<_, i64>(0).map(|count| count > 0),
            )
        })
    }

    /// Lists a table, new or with a newer version.
    pub fn record_table(&self, table: &TableRecord) -> Result<()> {
        self.with(|connection| {
            connection.execute(
                "insert or replace into tables values (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    table.pipeline,
                    table.connection,
                    table.table,
                    table.format,
                    table.location,
                    i64::try_from(table.version).unwrap_or(i64::MAX),
                    table.updated
                ],
            )?;
            Ok(())
        })
    }

    /// Notes what a listed table holds.
    pub fn record_figures(&self, connection: &str, table: &str, figures: &TableFigures) -> Result<()> {
        let body =
            serde_json::to_string(figures).map_err(|error| Error::bug("figures are not JSON").caused_by(error))?;
        self.with(|own| {
            own.execute("insert or replace into figures values (?1, ?2, ?3)", params![connection, table, body])?;
            Ok(())
        })
    }

    /// Returns every table, by connection and name.
    pub fn tables(&self) -> Result<Vec<TableRecord>> {
        self.with(|connection| {
            let mut statement = connection.prepare(
                "select pipeline, connection, name, format, location, version, updated, body
                 from tables left join figures using (connection, name) order by 2, 3",
            )?;
            let rows = statement.query_map([], |row| {
                Ok(TableRecord {
                    pipeline: row.get(0)?,
                    connection: row.get(1)?,
                    table: row.get(2)?,
                    format: row.get(3)?,
                    location: row.get(4)?,
                    version: u64::try_from(row.get::<_, i64>(5)?).unwrap_or(0),
                    updated: row.get(6)?,
                    figures: row.get::<_, Option<String>>(7)?.and_then(|body| serde_json::from_str(&body).ok()),
                })
            })?;
            rows.collect()
        })
    }

    /// Notes how a copy stands. A look that failed leaves the version that was known.
    pub fn record_copy(&self, copy: &CopyRecord) -> Result<()> {
        let sql = "insert into copies values (?1, ?2, ?3, ?4, ?5, ?6, ?7)
            on conflict (connection, name, copy) do update set pipeline = excluded.pipeline, looked = excluded.looked,
            error = excluded.error,
            version = case when excluded.error is null then excluded.version else copies.version end";
        let CopyRecord { pipeline, connection, table, to, version, looked, error } = copy;
        let values = params![pipeline, connection, table, to, version.cast_signed(), looked, error];
        self.with(|own| own.execute(sql, values)).map(|_| ())
    }

    /// Returns every copy of a pipeline's tables, by connection and name.
    pub fn copies(&self, pipeline: &str) -> Result<Vec<CopyRecord>> {
        self.with(|connection| {
            let sql = "select pipeline, connection, name, copy, version, looked, error from copies where pipeline = ?1
                 order by 2, 3, 4";
            let mut statement = connection.prepare(sql)?;
            let rows = statement.query_map(params![pipeline], |row| {
                Ok(CopyRecord {
                    pipeline: row.get(0)?,
                    connection: row.get(1)?,
                    table: row.get(2)?,
                    to: row.get(3)?,
                    version: row.get::<_, i64>(4)?.cast_unsigned(),
                    looked: row.get(5)?,
                    error: row.get(6)?,
                })
            })?;
            rows.collect()
        })
    }

    /// Returns the last instant at which a pipeline's trigger fired.
    pub fn fired(&self, pipeline: &str) -> Result<Option<Micros>> {
        use rusqlite::OptionalExtension;
        self.with(|connection| {
            connection
                .query_row("select instant from fired where pipeline = ?1", params![pipeline], |row| row.get(0))
                .optional()
        })
    }

    /// Notes who took a pipeline over. An older generation never takes the place of a newer one.
    pub fn record_lease(&self, lease: &LeaseRecord) -> Result<()> {
        let sql = "insert into leases (pipeline, fence, owner, taken) values (?1, ?2, ?3, ?4)
            on conflict (pipeline) do update set fence = excluded.fence, owner = excluded.owner, taken = excluded.taken
            where excluded.fence >= leases.fence";
        let values = params![lease.pipeline, lease.fence.cast_signed(), lease.owner, lease.taken];
        self.with(|connection| connection.execute(sql, values)).map(|_| ())
    }

    /// Returns who took a pipeline over last.
    pub fn lease(&self, pipeline: &str) -> Result<Option<LeaseRecord>> {
        let sql = "select fence, owner, taken from leases where pipeline = ?1";
        self.with(|connection| {
            let lease = |row: &rusqlite::Row<'_>| {
                let fence = row.get::<_, i64>(0)?.cast_unsigned();
                Ok(LeaseRecord { pipeline: pipeline.to_owned(), fence, owner: row.get(1)?, taken: row.get(2)? })
            };
            connection.query_row(sql, params![pipeline], lease).optional()
        })
    }

    /// Notes that a pipeline's trigger fired; an earlier instant changes nothing (a clock that goes back never fires
    /// again, delivery 3.10).
    pub fn set_fired(&self, pipeline: &str, instant: Micros) -> Result<()> {
        self.with(|connection| {
            connection.execute(
                "insert into fired values (?1, ?2) on conflict (pipeline) do update
                 set instant = max(instant, excluded.instant)",
                params![pipeline, instant],
            )?;
            Ok(())
        })
    }
}

fn unusable(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let known = state_disk_error(&error).unwrap_or_else(|| {
        Error::user("R0961", "the ledger cannot be opened")
            .help("give the user who runs lakehead the right to write there, or change `state` in lakehead.toml")
    });
    known.with("file", path.display()).caused_by(error)
}

fn failed(path: &Path, error: rusqlite::Error) -> Error {
    let known = match state_disk_error(&error) {
        Some(known) => known,
        None if DiskFault::of(&error) == Some(DiskFault::Forbidden) => return unusable(path, error),
        None => Error::external("R0962", "the ledger did not answer")
            .help("try again; it can be removed while lakehead is stopped: positions stand in the lake"),
    };
    known.with("file", path.display()).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_generation_never_takes_the_place_of_a_newer_one() {
        let ledger = Ledger::in_memory().unwrap();
        assert_eq!(ledger.lease("p").unwrap(), None);
        let lease = |fence| LeaseRecord { pipeline: "p".into(), fence, owner: format!("owner {fence}"), taken: 7 };
        for fence in [1, 3, 2] {
            ledger.record_lease(&lease(fence)).unwrap();
        }
        assert_eq!(ledger.lease("p").unwrap(), Some(lease(3)));
    }

    fn run(id: &str, state: RunState, started: Micros) -> RunRecord {
        RunRecord {
            pipeline: "p".into(),
            run: id.into(),
            state,
            started,
            ended: None,
            interval_start: 0,
            interval_end: 1,
            rows_read: 3,
            rows_written: 2,
            rows_rejected: 1,
            error: None,
        }
    }

    #[test]
    fn runs_read_back_newest_first_and_change_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&folder.path().join("state/ledger.sqlite")).unwrap();
        ledger.record_run(&run("a", RunState::Running, 1)).unwrap();
        ledger.record_run(&run("b", RunState::Running, 2)).unwrap();
        ledger.record_run(&run("a", RunState::Succeeded, 1)).unwrap();
        let found = ledger.runs("p", 10).unwrap();
        assert_eq!(found, [run("b", RunState::Running, 2), run("a", RunState::Succeeded, 1)]);
        assert!(ledger.succeeded("p", "a").unwrap() && !ledger.succeeded("p", "b").unwrap());
    }

    #[test]
    fn a_clock_that_goes_back_never_fires_again() {
        let ledger = Ledger::in_memory().unwrap();
        ledger.set_fired("p", 20).unwrap();
        ledger.set_fired("p", 10).unwrap();
        assert_eq!(ledger.fired("p").unwrap(), Some(20));
    }
}
