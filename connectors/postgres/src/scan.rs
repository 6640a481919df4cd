//! Reads whole tables, one after the other, within one transaction that sees one state of the database.
//!
//! The transaction is REPEATABLE READ READ ONLY and takes no lock beyond the ACCESS SHARE of any SELECT: the application
//! waits for nothing. While it runs the server keeps old row versions, as it does for any long query.

use std::collections::VecDeque;

use arrow::datatypes::SchemaRef;
use lakehead_core::{BatchBudget, ChangeBatch, Error, Micros, Op, Result, SourceEvent, TableSpec, failpoint};

use crate::catalog::{CatalogTable, Scope};
use crate::copy::CopyReader;
use crate::fault;
use crate::layout;
use crate::names;
use crate::rows::{Change, Rows};
use crate::session::Session;
use crate::type_map::{Kind, TypeMap};

/// One table to be read.
#[derive(Debug)]
struct Waiting {
    name: String,
    oid: u32,
    select: String,
    kinds: Vec<(String, Kind)>,
    schema: SchemaRef,
    is_announced: bool,
}

#[derive(Debug)]
struct Running {
    name: String,
    reader: CopyReader,
    rows: Rows,
}

/// What rows of a snapshot carry beside their data, where they carry anything.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotMark {
    pub(crate) position: String,
    pub(crate) taken_at: Micros,
}

/// Reads tables within the transaction of its session.
#[derive(Debug)]
pub(crate) struct Scan {
    session: Session,
    waiting: VecDeque<Waiting>,
    running: Option<Running>,
    mark: Option<SnapshotMark>,
}

impl Scan {
    /// Plans to read `tables` as `specs` expects them. With a `mark` every row is a read of a snapshot at a position.
    pub(crate) async fn plan(
        session: Session,
        specs: &[TableSpec],
        tables: &[CatalogTable],
        scope: Scope<'_>,
        mark: Option<SnapshotMark>,
    ) -> Result<Self> {
        // A policy that hides rows from this user makes the reading fail, instead of copying a part without a word.
        session.run("setting up the snapshot", "set local row_security = off").await?;
        let mut types = TypeMap::default();
        types.load(&session, tables.iter().flat_map(|table| &table.columns).map(|column| column.type_oid)).await?;
        let mut waiting = VecDeque::new();
        for (spec, table) in specs.iter().zip(tables) {
            let found: Vec<(String, Kind)> =
                table.kinds(&types, scope)?.into_iter().map(|(column, kind)| (column.name.clone(), kind)).collect();
            let layout = layout::reconcile(&spec.name, &spec.schema, &found)?;
            let mut kinds: Vec<(usize, (String, Kind))> = layout.places.into_iter().zip(found).collect();
            kinds.sort_by_key(|(place, _)| *place);
            let kinds: Vec<(String, Kind)> = kinds.into_iter().map(|(_, column)| column).collect();
            let columns: Vec<String> = kinds.iter().map(|(name, _)| names::quote(name)).collect();
            // A partitioned table has no rows of its own; any other is read without its inheritance children, which
            // are published under their own names.
            let only = if table.kind == b'r' { "only " } else { "" };
            let select = format!("select {} from {only}{}", columns.join(", "), table.quoted());
            let (name, schema) = (spec.name.clone(), layout.schema);
            waiting.push_back(Waiting { name, oid: table.oid, select, kinds, schema, is_announced: !layout.has_grown });
        }
        Ok(Self { session, waiting, running: None, mark })
    }

    /// Returns the next event, or `None` once every table has been read. Cancel-safe.
    pub(crate) async fn next(&mut self, budget: BatchBudget) -> Result<Option<SourceEvent>> {
        loop {
            if let Some(running) = &mut self.running {
                let change = self.mark.as_ref().map(|mark| Change {
                    op: Op::Read,
                    position: &mark.position,
                    committed_at: mark.taken_at,
                    unchanged: "",
                });
                let more = running.reader.fill(&self.session, &mut running.rows, budget, change).await?;
                let batch = running.rows.finish()?;
                let table = running.name.clone();
                if !more {
                    self.running = None;
                }
                match batch {
                    Some(rows) => {
                        return Ok(Some(SourceEvent::Changes(ChangeBatch { table, rows })));
                    }
                    None => continue,
                }
            }
            let Some(next) = self.waiting.front_mut() else {
                return Ok(None);
            };
            if !next.is_announced {
                next.is_announced = true;
                return Ok(Some(SourceEvent::Schema { table: next.name.clone(), schema: next.schema.clone() }));
            }
            failpoint::hit("postgres.snapshot.table").await?;
            require_untouched(&self.session, &next.name, Some(next.oid), &next.select).await?;
            let rows = if self.mark.is_some() { Rows::changes(&next.schema)? } else { Rows::plain(&next.schema)? };
            let reader = CopyReader::start(&self.session, &next.name, &next.select, next.kinds.clone()).await?;
            self.running = Some(Running { name: next.name.clone(), reader, rows });
            self.waiting.pop_front();
        }
    }
}

/// Locks a table and refuses it where its file is not the one that the snapshot sees.
///
/// A rewrite (`ALTER TABLE` with a volatile default, TRUNCATE, CLUSTER) puts a file in place whose rows are newer than
/// the snapshot, so that reading it would find none of them and say nothing. Compared are every table that the reading
/// locks, partitions and the tables below a view among them, and every partition that the snapshot knows. The lock is
/// the ACCESS SHARE of the COPY that follows, and is held to the end of the transaction: what fits now stays.
pub(crate) async fn require_untouched(session: &Session, table: &str, oid: Option<u32>, select: &str) -> Result<()> {
    let sql = format!("select from ({select}) as read_next limit 0");
    session.run("starting to copy", &sql).await.map_err(|error| error.with("table", table))?;
    // The catalogue's rows are those of the snapshot; pg_relation_filenode() tells what holds now.
    let sql = "with recursive tree(oid) as (
            select $1::oid
            union
            select i.inhrelid from pg_catalog.pg_inherits i join tree on i.inhparent = tree.oid
                join pg_catalog.pg_class p on p.oid = i.inhparent and p.relkind = 'p'
        ), locked(oid) as (
            select l.relation from pg_catalog.pg_locks l
            where l.pid = pg_catalog.pg_backend_pid() and l.locktype = 'relation'
                and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
        )
        select n.nspname::text || '.' || c.relname::text
        from (select oid from tree union select oid from locked) as read_next
        join pg_catalog.pg_class c using (oid) join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'm') and n.nspname <> 'pg_catalog'
            and (c.relfilenode is distinct from pg_catalog.pg_relation_filenode(c.oid)
                or c.oid not in (select oid from locked))
        order by 1 limit 1";
    let rows = session.rows("comparing the files of a table", sql, &[&oid]).await?;
    let Some(row) = rows.first() else {
        return Ok(());
    };
    Err(Error::external(
        fault::SNAPSHOT_OVERTAKEN,
        format!("`{table}` was rewritten, emptied or taken apart after the snapshot was taken"),
    )
    .with("table", table)
    .with("rewritten", row.get::<_, String>(0))
    .help("the tables are read again under a new snapshot; keep ALTER TABLE, TRUNCATE and CLUSTER away until it ends"))
}
