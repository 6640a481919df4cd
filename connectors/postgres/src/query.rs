//! `capture = query`: the rows of a query, all of them or those behind a cursor.
//!
//! A cursor column is one that the application stamps with `now()`, the time its transaction began. A row shows up only
//! when that transaction commits, which may be long after; so a run reads up to the start of the oldest transaction that
//! is still open, and no further. What is stamped otherwise needs a `lookback` and a sink that upserts, and so does a
//! server that does not know of every open transaction: a standby, a subscriber, one that does not track activities. A
//! row whose cursor is null is behind no bound and is never read.
//!
//! Times are compared in UTC. A timestamp or a date holds the local time of whoever wrote it, so that a bound made of the
//! server's clock may lie hours off: such a cursor needs a `lookback` too.

use std::time::Duration;

use arrow::datatypes::Schema;
use async_trait::async_trait;
use lakehead_core::{
    BatchBudget, ChangeBatch, Checkpoint, Error, Result, Source, SourceEvent, SourceSpec, TableSpec, is_reserved,
};
use tokio_postgres::types::Type;

use crate::copy::CopyReader;
use crate::endpoint::Endpoint;
use crate::fault;
use crate::layout::{self, Layout};
use crate::names;
use crate::rows::Rows;
use crate::scan;
use crate::session::Session;
use crate::type_map::{Kind, TypeMap};

/// Reads the rows of a query.
#[derive(Debug)]
pub(crate) struct QuerySource {
    spec: SourceSpec,
    table: TableSpec,
    endpoint: Endpoint,
    query: String,
    cursor: Option<Cursor>,
    stage: Stage,
}

#[derive(Clone, Debug)]
struct Cursor {
    column: String,
    start_at: Option<String>,
    lookback: Duration,
}

#[derive(Debug)]
enum Stage {
    Closed,
    Announcing(Box<Reading>),
    Reading(Box<Reading>),
    AtEnd,
}

#[derive(Debug)]
struct Reading {
    session: Session,
    reader: CopyReader,
    rows: Rows,
    end: Checkpoint,
}

impl QuerySource {
    /// Creates the source; does no input or output.
    pub(crate) fn new(spec: SourceSpec) -> Result<Self> {
        let endpoint = Endpoint::from_settings(&spec.connection, &spec.root)?;
        let [table] = spec.tables.as_slice() else {
            return Err(Error::bug("a query has exactly one table").with("tables", spec.tables.len()));
        };
        let table = table.clone();
        let query = query_text(&spec.settings)?;
        let cursor = spec.settings.text("cursor").map(|column| Cursor {
            column: column.to_owned(),
            start_at: spec.settings.text("start_at").map(str::to_owned),
            lookback: spec.settings.duration("lookback").unwrap_or_default(),
        });
        Ok(Self { spec, table, endpoint, query, cursor, stage: Stage::Closed })
    }
}

/// Returns the query without the semicolon at its end.
fn query_text(settings: &lakehead_core::Settings) -> Result<String> {
    let text = settings.text("query").ok_or_else(|| {
        Error::user(fault::SETTING, "`capture = query` needs a `query`").help("query = \"select … from …\"")
    })?;
    Ok(text.trim().trim_end_matches(';').to_owned())
}

/// Wraps the query as a subselect; the line break keeps a comment at its end from hiding the bracket.
fn subselect(query: &str) -> String {
    format!("({query}\n) as lakehead_query")
}

/// Asks the server for the columns of the query.
async fn columns(session: &Session, node: &str, query: &str) -> Result<Vec<(String, Kind, Type)>> {
    let sql = format!("select * from {}", subselect(query));
    let statement = session.client.prepare(&sql).await;
    let statement = statement.map_err(|error| session.error(&error, "describing the query").with("node", node))?;
    if !statement.params().is_empty() {
        return Err(Error::user(fault::QUERY_UNFIT, "the query has parameters, and there are no values for them")
            .with("node", node));
    }
    let mut types = TypeMap::default();
    types.load(session, statement.columns().iter().map(|column| column.type_().oid())).await?;
    let mut columns: Vec<(String, Kind, Type)> = Vec::new();
    for column in statement.columns() {
        if columns.iter().any(|(name, ..)| name == column.name()) {
            return Err(Error::user(fault::QUERY_UNFIT, format!("the query has two columns `{}`", column.name()))
                .with("node", node)
                .help("give one of them another name with `as`"));
        }
        if is_reserved(column.name()) {
            return Err(Error::user(
                fault::COLUMN_NAME,
                format!(
                    "the query has a column `{}`, a name that is reserved for what travels with the rows",
                    column.name()
                ),
            )
            .with("node", node)
            .help("give it another name with `as`"));
        }
        let kind = types.kind(column.type_().oid(), column.type_modifier());
        let kind = kind.map_err(|refusal| refusal.in_column(node, column.name()))?;
        columns.push((column.name().to_owned(), kind, column.type_().clone()));
    }
    Ok(columns)
}

/// Describes the query for the lock file; whether its columns may be null is not known, so they may.
pub(crate) async fn discover(session: &Session, node: &str, settings: &lakehead_core::Settings) -> Result<TableSpec> {
    let columns = columns(session, node, &query_text(settings)?).await?;
    let fields: Vec<_> = columns.iter().map(|(name, kind, _)| kind.field(name, true)).collect();
    Ok(TableSpec { name: node.to_owned(), schema: Schema::new(fields).into(), key: Vec::new() })
}

/// Returns the bounds of a run: a condition, and the position behind it.
async fn bounds(
    session: &Session,
    cursor: &Cursor,
    found: &[(String, Kind, Type)],
    last: Option<&str>,
) -> Result<(String, String)> {
    let unfit = |what: String| Error::user(fault::QUERY_UNFIT, what).with("cursor", &cursor.column);
    let (_, kind, _) = found
        .iter()
        .find(|(name, ..)| *name == cursor.column)
        .ok_or_else(|| unfit("the query has no column of the name that `cursor` says".into()))?;
    let type_name = match kind {
        Kind::TimestampTz => "timestamptz",
        Kind::Timestamp => "timestamp",
        Kind::Date => "date",
        _ => {
            return Err(unfit("the cursor is not a time, so it is not known which of its values are complete".into())
                .help("use a column of the type timestamptz, timestamp or date that is stamped with now()"));
        }
    };
    if cursor.lookback.is_zero() && *kind != Kind::TimestampTz {
        return Err(unfit(format!(
            "the cursor is a {type_name}, which does not say in which time zone it was stamped"
        ))
        .help("cast it in the query, as in `at at time zone 'Europe/Paris' as at`, which makes it a timestamptz")
        .help("or set a `lookback` longer than the zone's distance from UTC and any transaction, with an upsert"));
    }
    let now: String = session.row("reading the time", &format!("select now()::{type_name}::text"), &[]).await?.get(0);
    require_sight(session, cursor).await?;
    // Read after `now`: a transaction that is not in the list yet begins after it.
    let sql = format!(
        "select least({}::{type_name}, min(began)::{type_name})::text from (
            select xact_start from pg_catalog.pg_stat_activity
                where datname = current_database() and pid <> pg_backend_pid()
            union all
            select prepared from pg_catalog.pg_prepared_xacts where database = current_database()
        ) as open_transactions(began)",
        names::literal(&now)
    );
    let upper: String = session.row("looking for open transactions", &sql, &[]).await?.get(0);
    let column = names::quote(&cursor.column);
    let Some(lower) = last.or(cursor.start_at.as_deref()) else {
        return Ok((format!("{column} < {}::{type_name}", names::literal(&upper)), upper));
    };
    let (lower, upper_literal) = (names::literal(lower), names::literal(&upper));
    let sql = format!("select greatest({lower}::{type_name}, {upper_literal}::{type_name})::text");
    let position: String = session.row("comparing positions", &sql, &[]).await?.get(0);
    let condition = format!(
        "{column} >= {lower}::{type_name} - interval '{} microseconds' and {column} < {upper_literal}::{type_name}",
        cursor.lookback.as_micros()
    );
    Ok((condition, position))
}

/// Refuses a cursor without lookback where it cannot be seen when others' transactions began.
async fn require_sight(session: &Session, cursor: &Cursor) -> Result<()> {
    if !cursor.lookback.is_zero() {
        return Ok(());
    }
    let sql = "select case when pg_is_in_recovery()
            then 'the server is a standby, which does not show the open transactions of its primary'
        when exists (select from pg_catalog.pg_subscription s join pg_catalog.pg_database d on d.oid = s.subdbid
                where d.datname = current_database())
            then 'the database subscribes to another, whose open transactions cannot be seen'
        when current_setting('track_activities') <> 'on' or exists (select from pg_catalog.pg_stat_activity
                where datname = current_database() and state = 'disabled')
            then 'track_activities is off, so that open transactions cannot be seen' end";
    if let Some(what) = session.row("looking at the server", sql, &[]).await?.get::<_, Option<String>>(0) {
        return Err(Error::user(fault::QUERY_UNFIT, format!("{what}, and the cursor would miss their rows"))
            .with("cursor", &cursor.column)
            .help("set a `lookback` longer than any transaction and any delay, with a sink that upserts")
            .help("or read from the server where the rows are written, with track_activities on"));
    }
    let sql = "select pg_has_role('pg_read_all_stats', 'USAGE')
        or not exists (select from pg_catalog.pg_stat_activity where datname = current_database()
            and not pg_has_role(usesysid, 'USAGE'))";
    if session.row("reading the rights", sql, &[]).await?.get(0) {
        return Ok(());
    }
    Err(Error::user(
        fault::QUERY_UNFIT,
        "this user cannot see open transactions of others, whose rows the cursor would miss",
    )
    .with("cursor", &cursor.column)
    .help("grant pg_read_all_stats to the role, or set a `lookback` longer than any transaction, with an upsert"))
}

#[async_trait]
impl Source for QuerySource {
    async fn open(&mut self, from: &Checkpoint) -> Result<()> {
        let session = Session::connect(&self.endpoint, &self.spec.clock).await?;
        let found = columns(&session, &self.spec.node, &self.query).await?;
        let kinds: Vec<(String, Kind)> = found.iter().map(|(name, kind, _)| (name.clone(), kind.clone())).collect();
        let Layout { schema, has_grown, places } = layout::reconcile(&self.table.name, &self.table.schema, &kinds)?;
        let mut ordered: Vec<(usize, (String, Kind))> = places.into_iter().zip(kinds).collect();
        ordered.sort_by_key(|(place, _)| *place);
        let kinds: Vec<(String, Kind)> = ordered.into_iter().map(|(_, column)| column).collect();

        let (condition, position) = match &self.cursor {
            Some(cursor) => {
                let (condition, position) = bounds(&session, cursor, &found, from.get(&self.spec.node)).await?;
                (format!(" where {condition}"), position)
            }
            None => {
                let now = session.row("reading the time", "select now()::text", &[]).await?.get(0);
                (String::new(), now)
            }
        };
        session.lift_time_limit().await?;
        session.run("starting to read", "begin isolation level repeatable read read only").await?;
        let names: Vec<String> = kinds.iter().map(|(name, _)| names::quote(name)).collect();
        let select = format!("select {} from {}{condition}", names.join(", "), subselect(&self.query));
        scan::require_untouched(&session, &self.table.name, None, &select).await?;
        let reader = CopyReader::start(&session, &self.table.name, &select, kinds).await?;
        let mut end = Checkpoint::default();
        end.set(self.spec.node.clone(), position);
        let reading = Box::new(Reading { session, reader, rows: Rows::plain(&schema)?, end });
        self.stage = if has_grown { Stage::Announcing(reading) } else { Stage::Reading(reading) };
        Ok(())
    }

    async fn next(&mut self, budget: BatchBudget) -> Result<SourceEvent> {
        let table = self.table.name.clone();
        if let Stage::Announcing(_) = &self.stage
            && let Stage::Announcing(reading) = std::mem::replace(&mut self.stage, Stage::AtEnd)
        {
            let schema = reading.rows.schema().clone();
            self.stage = Stage::Reading(reading);
            return Ok(SourceEvent::Schema { table, schema });
        }
        let Stage::Reading(reading) = &mut self.stage else {
            return Ok(SourceEvent::End);
        };
        // The reader says "no more" again where it is asked again, so the last rows come before the end.
        let Reading { session, reader, rows, end } = &mut **reading;
        reader.fill(session, rows, budget, None).await?;
        if let Some(rows) = rows.finish()? {
            return Ok(SourceEvent::Changes(ChangeBatch { table, rows }));
        }
        let progress = SourceEvent::Progress(end.clone());
        self.stage = Stage::AtEnd;
        Ok(progress)
    }

    async fn acknowledge(&mut self, _durable: &Checkpoint) -> Result<()> {
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        self.stage = Stage::Closed;
        Ok(())
    }
}
