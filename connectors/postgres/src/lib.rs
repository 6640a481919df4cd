//! PostgreSQL as a source: whole tables, queries, and every change from a replication slot.
//!
//! Values go from the wire into Arrow memory without a stop between: COPY and `pgoutput` in their binary formats, decoded
//! by a closed list of types. The application in the source database is never blocked: nothing here takes a lock beyond
//! ACCESS SHARE. Deliberately absent: writing to PostgreSQL, and any state of our own in the source but the slot and the
//! publications.

mod catalog;
mod cdc;
mod column;
mod copy;
mod endpoint;
mod fault;
mod feed;
pub mod inspect;
mod layout;
mod link;
mod lsn;
mod names;
mod numeric;
mod pgoutput;
mod publication;
mod query;
mod rows;
mod scan;
mod server;
mod session;
mod slot;
mod snapshot;
mod stream;
mod tls;
mod transaction;
mod type_map;
mod wire;

pub use endpoint::settings_from_url;

use std::sync::Arc;

use lakehead_core::{
    Boxed, Clock, Connector, Discovery, Error, OptionKind, OptionSpec, Result, Settings, Source, SourceRole,
    SourceSpec, SystemClock, TableSpec,
};

use crate::catalog::Scope;
use crate::endpoint::Endpoint;
use crate::names::Patterns;
use crate::session::Session;
use crate::type_map::TypeMap;

/// The connector `postgres`.
pub static CONNECTOR: Connector = Connector {
    name: "postgres",
    summary: "PostgreSQL 14 and later: change capture, whole tables, queries",
    built_in: false,
    connection: &CONNECTION,
    source: Some(SourceRole {
        options: &SOURCE,
        endless,
        changes: endless,
        build,
        discover,
        arrivals: None,
        column_rule: |_| None,
        makes,
        comparable: true,
    }),
    sink: None,
    alert: None,
};

static CONNECTION: [OptionSpec; 9] = [
    OptionSpec::new("host", OptionKind::Text, "name or address of the server, or the folder of its unix socket")
        .required(),
    OptionSpec::new("port", OptionKind::Int, "port of the server").default("5432"),
    OptionSpec::new("database", OptionKind::Text, "database to read").required(),
    OptionSpec::new("user", OptionKind::Text, "role to log in as").required(),
    OptionSpec::new("password", OptionKind::Secret, "its password"),
    OptionSpec::new(
        "tls",
        OptionKind::Word(&["verify_full", "verify_ca", "insecure", "disabled"]),
        "what is checked of the server's certificate",
    )
    .default("verify_full"),
    OptionSpec::new(
        "ca",
        OptionKind::Text,
        "file of a root certificate to trust beside the system's; with `verify_ca` the only one",
    ),
    OptionSpec::new("application_name", OptionKind::Text, "what the server's views show").default("\"lakehead\""),
    OptionSpec::new("connect_timeout", OptionKind::Duration, "how long to wait for the server").default("10s"),
];

static SOURCE: [OptionSpec; 8] = [
    OptionSpec::new(
        "capture",
        OptionKind::Word(&["cdc", "snapshot", "query"]),
        "cdc: snapshot, then every change; snapshot: whole tables each run; query: the rows of `query`",
    ),
    OptionSpec::new("tables", OptionKind::Texts, "tables to read: `schema.table` with `*`, `?` and `{a,b}`"),
    OptionSpec::new("exclude", OptionKind::Texts, "tables to leave out, written likewise"),
    OptionSpec::new(
        "exclude_columns",
        OptionKind::Texts,
        "columns to leave out: `schema.table.column`, written likewise",
    ),
    OptionSpec::new(
        "slot",
        OptionKind::Text,
        "name of the replication slot; without it, one made of pipeline and node",
    ),
    OptionSpec::new("publication", OptionKind::Text, "name of the publication; without it, the slot's name"),
    OptionSpec::new("publication_create", OptionKind::Bool, "whether the publication may be made and extended")
        .default("false"),
    OptionSpec::new("query", OptionKind::Text, "query whose rows are read"),
];

/// How a source reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Capture {
    Changes,
    Snapshot,
    Query,
}

/// Without `capture`, a `query` says query and anything else is a snapshot.
fn capture(settings: &Settings) -> Result<Capture> {
    match settings.text("capture") {
        Some("cdc") => Ok(Capture::Changes),
        Some("snapshot") => Ok(Capture::Snapshot),
        Some("query") => Ok(Capture::Query),
        None if settings.get("query").is_some() => Ok(Capture::Query),
        None => Ok(Capture::Snapshot),
        Some(other) => {
            Err(Error::user(fault::SETTING, "the setting `capture` has an unknown word").with("capture", other))
        }
    }
}

/// A change stream needs a slot and a publication.
fn makes(settings: &Settings) -> Vec<String> {
    if !endless(settings) {
        return Vec::new();
    }
    let slot = settings.text("slot").unwrap_or("(named after the pipeline)");
    let publication = settings.text("publication").unwrap_or("(named after the slot)");
    vec![format!("replication slot {slot}, publication {publication}")]
}

fn endless(settings: &Settings) -> bool {
    matches!(capture(settings), Ok(Capture::Changes))
}

fn build(spec: SourceSpec) -> Result<Box<dyn Source>> {
    let capture = capture(&spec.settings)?;
    if capture != Capture::Query && spec.settings.get("cursor").is_some() {
        return Err(Error::user(fault::SETTING, "a `cursor` belongs to `capture = query`")
            .with("node", &spec.node)
            .help("set `query = \"select * from …\"`, or leave `cursor` out"));
    }
    Ok(match capture {
        Capture::Changes => Box::new(cdc::ChangeSource::new(spec)?),
        Capture::Snapshot => Box::new(snapshot::SnapshotSource::new(spec)?),
        Capture::Query => Box::new(query::QuerySource::new(spec)?),
    })
}

fn discover(discovery: &Discovery) -> Boxed<'_, Result<Vec<TableSpec>>> {
    Box::pin(discover_tables(discovery))
}

async fn discover_tables(discovery: &Discovery) -> Result<Vec<TableSpec>> {
    let (settings, clock) = (&discovery.settings, Arc::new(SystemClock::default()) as Arc<dyn Clock>);
    let endpoint = Endpoint::from_settings(&discovery.connection, &discovery.root)?;
    let capture = capture(settings)?;
    let session = Session::connect(&endpoint, &clock).await?;
    if capture == Capture::Query {
        return Ok(vec![query::discover(&session, &discovery.node, settings).await?]);
    }
    let named = settings.texts("tables");
    if named.is_empty() {
        return Err(Error::user(fault::SETTING, "no `tables` are set")
            .with("node", &discovery.node)
            .help("name them, as in tables = [\"public.orders\"], or all of a schema: tables = [\"public.*\"]"));
    }
    let include = Patterns::parse("tables", &named)?;
    let exclude = Patterns::parse("exclude", &settings.texts("exclude"))?;
    let excluded = Patterns::parse_columns(&settings.texts("exclude_columns"))?;
    let tables = catalog::matching(&session, &include, &exclude, &named).await?;
    catalog::require_columns(&tables, &excluded)?;
    let mut types = TypeMap::default();
    types.load(&session, tables.iter().flat_map(|table| &table.columns).map(|column| column.type_oid)).await?;
    let scope = Scope { changes: capture == Capture::Changes, excluded: &excluded };
    let describe = |table: &catalog::CatalogTable| {
        if scope.changes {
            table.require_changes()?;
        }
        table.spec(&types, scope)
    };
    tables.iter().map(describe).collect()
}
