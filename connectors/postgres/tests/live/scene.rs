//! A database with tables, and a source that reads it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use lakehead_core::{
    BatchBudget, Checkpoint, Clock, Discovery, Error, Result, RunContext, Settings, Source, SourceEvent, SourceRole,
    SourceSpec, SystemClock, TableSpec, Value,
};
use lakehead_postgres::CONNECTOR;
use tokio_postgres::{Client, NoTls};

use crate::server::Server;

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A database of the test's own.
pub(crate) struct Scene {
    pub(crate) server: Arc<Server>,
    pub(crate) database: String,
    pub(crate) app: Client,
}

impl Scene {
    /// Creates a database and runs `sql` in it.
    pub(crate) async fn new(sql: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let server = Server::shared();
        let database = format!("scene_{}", COUNT.fetch_add(1, Ordering::SeqCst));
        client(&server, "postgres").await.batch_execute(&format!("create database {database}")).await.unwrap();
        let app = client(&server, &database).await;
        app.batch_execute(sql).await.unwrap();
        Self { server, database, app }
    }

    /// Runs statements as the application.
    pub(crate) async fn run(&self, sql: &str) {
        self.app.batch_execute(sql).await.unwrap();
    }

    /// Returns the first value of a query as text.
    pub(crate) async fn text(&self, sql: &str) -> String {
        self.app.query_one(&format!("select ({sql})::text"), &[]).await.unwrap().get(0)
    }

    /// Opens another connection of the application.
    pub(crate) async fn second(&self) -> Client {
        client(&self.server, &self.database).await
    }

    /// Returns the position up to which the slot has been confirmed.
    pub(crate) async fn confirmed(&self) -> String {
        let slot = self.slot();
        self.text(&format!(
            "select confirmed_flush_lsn from pg_replication_slots where slot_name in ('{slot}', '{slot}_reading')
             order by temporary limit 1"
        ))
        .await
    }

    pub(crate) fn slot(&self) -> String {
        format!("slot_{}", self.database)
    }

    /// Returns the settings of a source that captures changes.
    pub(crate) fn cdc(&self, tables: &[&str]) -> Settings {
        settings(&[
            ("capture", Value::Name("cdc".into())),
            ("tables", Value::List(tables.iter().map(|table| Value::Text((*table).into())).collect())),
            ("slot", Value::Text(self.slot())),
        ])
    }

    /// Asks the server for the tables.
    pub(crate) async fn discover(&self, settings: &Settings) -> Result<Vec<TableSpec>> {
        discover(self.server.connection(&self.database), settings.clone()).await
    }

    /// Builds a source over discovered tables; not opened yet.
    pub(crate) fn build(&self, settings: &Settings, tables: Vec<TableSpec>) -> Reader {
        self.build_with(self.server.connection(&self.database), settings, tables)
    }

    /// The same over another connection.
    pub(crate) fn build_with(&self, connection: Settings, settings: &Settings, tables: Vec<TableSpec>) -> Reader {
        self.build_at(connection, settings, tables, Arc::new(SystemClock::default()))
    }

    /// The same with a clock of the test's own.
    pub(crate) fn build_at(
        &self,
        connection: Settings,
        settings: &Settings,
        tables: Vec<TableSpec>,
        clock: Arc<dyn Clock>,
    ) -> Reader {
        let spec = SourceSpec {
            pipeline: "0b8e5a1e-0000-4000-8000-000000000000".into(),
            node: "shop".into(),
            connection,
            settings: settings.clone(),
            tables,
            root: PathBuf::from("/"),
            run: RunContext::default(),
            clock,
        };
        Reader { source: (role().build)(spec).unwrap() }
    }

    /// Discovers, builds and opens.
    pub(crate) async fn open(&self, settings: &Settings, from: &Checkpoint) -> Result<Reader> {
        let tables = self.discover(settings).await?;
        let mut reader = self.build(settings, tables);
        reader.source.open(from).await?;
        Ok(reader)
    }

    /// Opens a source of changes and reads its snapshot; returns the checkpoint behind it.
    pub(crate) async fn streaming(&self, tables: &[&str]) -> (Reader, Checkpoint) {
        let mut reader = self.open(&self.cdc(tables), &Checkpoint::default()).await.unwrap();
        let events = reader.until_caught_up().await;
        (reader, checkpoint(&events))
    }
}

/// A source with helpers around it.
pub(crate) struct Reader {
    pub(crate) source: Box<dyn Source>,
}

impl Reader {
    pub(crate) async fn next(&mut self) -> Result<SourceEvent> {
        self.next_within(BatchBudget::default()).await
    }

    pub(crate) async fn next_within(&mut self, budget: BatchBudget) -> Result<SourceEvent> {
        tokio::time::timeout(PATIENCE, self.source.next(budget)).await.expect("an event within the test's patience")
    }

    /// Reads until the source has caught up or is at its end.
    pub(crate) async fn until_caught_up(&mut self) -> Vec<SourceEvent> {
        let mut events = Vec::new();
        loop {
            match self.next().await.unwrap() {
                SourceEvent::CaughtUp | SourceEvent::End => return events,
                event => events.push(event),
            }
        }
    }

    /// Reads until there are this many rows, and a progress behind them.
    pub(crate) async fn until_rows(&mut self, count: usize) -> Vec<SourceEvent> {
        let mut events = Vec::new();
        loop {
            let event = self.next().await.unwrap();
            let is_progress = matches!(event, SourceEvent::Progress(_));
            events.push(event);
            if is_progress && row_count(&events) >= count {
                return events;
            }
        }
    }

    /// Reads until the source fails.
    pub(crate) async fn until_error(&mut self) -> Error {
        loop {
            if let Err(error) = self.next().await {
                return error;
            }
        }
    }

    pub(crate) async fn close(mut self) {
        self.source.close().await.unwrap();
    }
}

pub(crate) fn role() -> SourceRole {
    CONNECTOR.source.unwrap()
}

pub(crate) async fn discover(connection: Settings, settings: Settings) -> Result<Vec<TableSpec>> {
    let discovery = Discovery { connection, settings, node: "shop".into(), root: PathBuf::from("/") };
    (role().discover)(&discovery).await
}

pub(crate) fn settings(pairs: &[(&str, Value)]) -> Settings {
    Settings::new(pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())))
}

pub(crate) async fn client(server: &Server, database: &str) -> Client {
    let parameters = format!("host=127.0.0.1 port={} user=postgres dbname={database}", server.port());
    let (client, connection) = tokio_postgres::connect(&parameters, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Returns the last checkpoint among events.
pub(crate) fn checkpoint(events: &[SourceEvent]) -> Checkpoint {
    let last = events.iter().rev().find_map(|event| match event {
        SourceEvent::Progress(checkpoint) => Some(checkpoint.clone()),
        _ => None,
    });
    last.expect("a progress among the events")
}

/// Returns the batches among events.
pub(crate) fn batches(events: &[SourceEvent]) -> Vec<&RecordBatch> {
    events
        .iter()
        .filter_map(|event| if let SourceEvent::Changes(batch) = event { Some(&batch.rows) } else { None })
        .collect()
}

pub(crate) fn row_count(events: &[SourceEvent]) -> usize {
    events.iter().map(|event| if let SourceEvent::Changes(batch) = event { batch.rows.num_rows() } else { 0 }).sum()
}

/// Returns every row of the events as `column values joined by |`, in order; null is `~`.
pub(crate) fn rows(events: &[SourceEvent], columns: &[&str]) -> Vec<String> {
    let options = FormatOptions::default().with_null("~");
    let mut lines = Vec::new();
    for event in events {
        let batch = match event {
            SourceEvent::Changes(batch) => &batch.rows,
            SourceEvent::Truncate { table } => {
                lines.push(format!("truncate {table}"));
                continue;
            }
            SourceEvent::Schema { table, schema } => {
                let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                lines.push(format!("schema {table} {}", names.join(",")));
                continue;
            }
            _ => continue,
        };
        let arrays: Vec<_> =
            columns.iter().map(|column| unzoned(batch.column_by_name(column).expect(column))).collect();
        let formatters: Vec<_> = arrays.iter().map(|array| ArrayFormatter::try_new(array, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            lines.push(formatters.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|"));
        }
    }
    lines
}

/// A zoned time is shown in UTC without its zone: the formatter knows no zone names.
fn unzoned(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Timestamp(unit, Some(_)) => arrow::compute::cast(column, &DataType::Timestamp(*unit, None)).unwrap(),
        _ => Arc::clone(column),
    }
}
