//! What a server looks like to this connector, for `lakehead init --from postgres://…` and `check --online`.

use std::path::Path;
use std::sync::Arc;

use lakehead_core::{Clock, Result, Settings, SystemClock};

use crate::catalog::{self, CatalogTable, Scope};
use crate::endpoint::Endpoint;
use crate::names::{self, Patterns};
use crate::session::Session;
use crate::type_map::TypeMap;

/// A server as its user sees it.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The version as people write it, `15.18`.
    pub version: String,
    /// The version as a number, 150018.
    pub version_number: i32,
    /// The setting `wal_level`; changes need `logical`.
    pub wal_level: String,
    /// Whether the user has REPLICATION, or is a superuser.
    pub may_replicate: bool,
    /// Whether the user may create publications in this database.
    pub may_create_publications: bool,
    /// How many replication slots the server may have, and has.
    pub slots_max: i32,
    /// Every slot of the server.
    pub slots: Vec<SlotInfo>,
    /// The names of the publications of this database.
    pub publications: Vec<String>,
    /// Tables and views, without the single partitions of partitioned tables.
    pub tables: Vec<TableInfo>,
}

/// A replication slot.
#[derive(Clone, Debug)]
pub struct SlotInfo {
    /// Its name.
    pub name: String,
    /// Whether a connection uses it.
    pub is_active: bool,
    /// How many bytes of log the server keeps for it.
    pub retained_bytes: i64,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: String,
}

/// A table or a view.
#[derive(Clone, Debug)]
pub struct TableInfo {
    /// `schema.table`.
    pub name: String,
    /// What it is: table, partitioned table, view, materialized view, foreign table.
    pub kind: &'static str,
    /// The role that owns it.
    pub owner: String,
    /// Whether the user has the owner's rights.
    pub is_owned: bool,
    /// Roughly how many rows it has, by the server's statistics.
    pub row_estimate: i64,
    /// The columns of its primary key.
    pub primary_key: Vec<String>,
    /// `default`, `full`, `using index` or `nothing`.
    pub replica_identity: &'static str,
    /// Whether row security may hide rows from this user.
    pub has_row_security: bool,
    /// Generated columns, which changes do not carry.
    pub generated_columns: Vec<String>,
    /// Why it cannot be captured as it is: the messages of every hindrance.
    pub hindrances: Vec<String>,
}

/// Looks at a server through a connection's settings, with `root` as the folder of relative paths.
pub async fn inspect(connection: &Settings, root: &Path) -> Result<Inspection> {
    let endpoint = Endpoint::from_settings(connection, root)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let session = Session::connect(&endpoint, &clock).await?;
    let sql = "select current_setting('server_version'), current_setting('server_version_num')::int4,
            current_setting('wal_level'), r.rolsuper or r.rolreplication,
            has_database_privilege(current_database(), 'CREATE'), current_setting('max_replication_slots')::int4
        from pg_catalog.pg_roles r where r.rolname = current_user";
    let row = session.row("inspecting the server", sql, &[]).await?;
    let publications = session
        .rows("listing publications", "select pubname::text from pg_catalog.pg_publication order by 1", &[])
        .await?;
    Ok(Inspection {
        version: row.get(0),
        version_number: row.get(1),
        wal_level: row.get(2),
        may_replicate: row.get(3),
        may_create_publications: row.get(4),
        slots_max: row.get(5),
        slots: slots(&session).await?,
        publications: publications.iter().map(|row| row.get(0)).collect(),
        tables: tables(&session).await?,
    })
}

async fn slots(session: &Session) -> Result<Vec<SlotInfo>> {
    let sql = "select slot_name::text, active, coalesce(wal_status, ''),
            coalesce(pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_replay_lsn()
                else pg_current_wal_lsn() end, restart_lsn), 0)::int8
        from pg_catalog.pg_replication_slots order by 1";
    let rows = session.rows("listing slots", sql, &[]).await?;
    let slot = |row: &tokio_postgres::Row| SlotInfo {
        name: row.get(0),
        is_active: row.get(1),
        wal_status: row.get(2),
        retained_bytes: row.get(3),
    };
    Ok(rows.iter().map(slot).collect())
}

async fn tables(session: &Session) -> Result<Vec<TableInfo>> {
    let found = catalog::tables(session, |_| true).await?;
    let mut types = TypeMap::default();
    types.load(session, found.iter().flat_map(|table| &table.columns).map(|column| column.type_oid)).await?;
    Ok(found.iter().filter(|table| !table.is_partition).map(|table| describe(table, &types)).collect())
}

fn describe(table: &CatalogTable, types: &TypeMap) -> TableInfo {
    let none = Patterns::default();
    let scope = Scope { changes: true, excluded: &none };
    let mut hindrances = Vec::new();
    if let Err(error) = table.require_changes() {
        hindrances.push(error.message().to_owned());
    }
    if let Err(error) = table.kinds(types, scope) {
        hindrances.push(error.message().to_owned());
    }
    if !table.may_publish_updates() {
        hindrances.push(format!(
            "`{}` has no key by which changes say which row they mean: only inserts are captured",
            table.name()
        ));
    }
    TableInfo {
        name: table.name(),
        kind: match table.kind {
            b'p' => "partitioned table",
            b'v' => "view",
            b'm' => "materialized view",
            b'f' => "foreign table",
            _ => "table",
        },
        owner: table.owner.clone(),
        is_owned: table.is_owned,
        row_estimate: table.row_estimate,
        primary_key: table.primary_key.clone(),
        replica_identity: table.identity.words(),
        has_row_security: table.row_security,
        generated_columns: table
            .columns
            .iter()
            .filter(|column| column.generated)
            .map(|column| column.name.clone())
            .collect(),
        hindrances,
    }
}

/// Returns the statements by which a DBA lets a role capture these tables (`schema`, `table`), least rights only.
pub fn grants(user: &str, tables: &[(&str, &str)], publication: &str) -> Vec<String> {
    let user = names::quote(user);
    let mut schemas: Vec<&str> = tables.iter().map(|(schema, _)| *schema).collect();
    schemas.sort_unstable();
    schemas.dedup();
    let list = tables.iter().map(|(schema, table)| names::qualified(schema, table)).collect::<Vec<_>>().join(", ");
    let mut statements = vec![format!("alter role {user} with login replication")];
    statements.extend(schemas.iter().map(|schema| format!("grant usage on schema {} to {user}", names::quote(schema))));
    statements.push(format!("grant select on {list} to {user}"));
    statements.push(format!(
        "create publication {} for table {list} with (publish_via_partition_root = true)",
        names::quote(publication)
    ));
    statements
}
