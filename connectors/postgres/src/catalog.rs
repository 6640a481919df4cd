//! What the catalogue knows about tables: columns, keys, replica identity, owner.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use lakehead_core::{Error, Result, TableSpec, is_reserved};
use tokio_postgres::Row;

use crate::fault;
use crate::names::{self, Patterns};
use crate::session::Session;
use crate::type_map::{Kind, TypeMap};

/// The oldest server whose logical decoding has the binary format.
const VERSION_MIN: i32 = 140_000;

/// One column as the catalogue describes it.
#[derive(Clone, Debug)]
pub(crate) struct CatalogColumn {
    pub(crate) name: String,
    pub(crate) type_oid: u32,
    pub(crate) typmod: i32,
    pub(crate) not_null: bool,
    /// A generated column is absent from the stream of changes.
    pub(crate) generated: bool,
    /// What people say of it (`comment on column`).
    pub(crate) comment: Option<String>,
}

/// How the server identifies the old row of an update or a delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplicaIdentity {
    /// By the primary key.
    Default,
    /// By all columns.
    Full,
    /// By the columns of an index.
    Index,
    /// Not at all.
    Nothing,
}

impl ReplicaIdentity {
    /// Reads the letter of `pg_class.relreplident` and of a relation message.
    pub(crate) fn parse(letter: u8) -> Option<Self> {
        Some(match letter {
            b'd' => Self::Default,
            b'f' => Self::Full,
            b'i' => Self::Index,
            b'n' => Self::Nothing,
            _ => return None,
        })
    }

    /// Returns the words of `ALTER TABLE … REPLICA IDENTITY`.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Full => "full",
            Self::Index => "using index",
            Self::Nothing => "nothing",
        }
    }
}

/// One table as the catalogue describes it.
#[derive(Clone, Debug)]
pub(crate) struct CatalogTable {
    pub(crate) oid: u32,
    pub(crate) schema: String,
    pub(crate) table: String,
    /// `r` table, `p` partitioned table, `v` view, `m` materialized view, `f` foreign table.
    pub(crate) kind: u8,
    /// `p` permanent, `u` unlogged, `t` temporary.
    pub(crate) persistence: u8,
    pub(crate) identity: ReplicaIdentity,
    pub(crate) is_partition: bool,
    pub(crate) row_security: bool,
    /// Whether a partition lacks a replica identity of its own: publishing updates would make them fail there.
    pub(crate) has_bare_partition: bool,
    /// The quoted name of a partition whose replica identity is not full: its old rows are not whole.
    pub(crate) partition_not_full: Option<String>,
    pub(crate) owner: String,
    pub(crate) is_owned: bool,
    pub(crate) row_estimate: i64,
    pub(crate) columns: Vec<CatalogColumn>,
    pub(crate) primary_key: Vec<String>,
    /// Whether the server takes the primary key for a replica identity: not where it is DEFERRABLE.
    pub(crate) is_key_immediate: bool,
    /// The columns of the index that `REPLICA IDENTITY USING INDEX` names; empty where that index is gone.
    pub(crate) identity_index: Vec<String>,
}

impl CatalogTable {
    /// Returns `schema.table`, the name in pipeline files.
    pub(crate) fn name(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }

    /// Returns the quoted name.
    pub(crate) fn quoted(&self) -> String {
        names::qualified(&self.schema, &self.table)
    }

    /// Returns the columns that a delete carries, which is what rows can be told apart by.
    pub(crate) fn change_key(&self) -> &[String] {
        match self.identity {
            ReplicaIdentity::Index => &self.identity_index,
            ReplicaIdentity::Default if !self.is_key_immediate => &[],
            ReplicaIdentity::Default | ReplicaIdentity::Full | ReplicaIdentity::Nothing => &self.primary_key,
        }
    }

    /// Returns whether publishing its updates leaves the application's updates and deletes working: without a replica
    /// identity the server refuses them.
    pub(crate) fn may_publish_updates(&self) -> bool {
        if self.has_bare_partition {
            return false;
        }
        match self.identity {
            ReplicaIdentity::Full => true,
            ReplicaIdentity::Index | ReplicaIdentity::Default => !self.change_key().is_empty(),
            ReplicaIdentity::Nothing => false,
        }
    }

    /// Refuses what has no stream of changes: views, foreign, temporary and unlogged tables, single partitions.
    pub(crate) fn require_changes(&self) -> Result<()> {
        let what = match (self.kind, self.persistence) {
            (b'v' | b'm', _) => "a view, and a view has no changes of its own",
            (b'f', _) => "a foreign table, whose changes are in another server",
            (_, b'u') => "unlogged, and what is not in the log cannot be captured",
            (_, b't') => "temporary",
            (b'r' | b'p', _) => return Ok(()),
            _ => "no table",
        };
        Err(Error::user(fault::TABLE_UNFIT, format!("`{}` is {what}", self.name()))
            .with("table", self.name())
            .help("leave it out with `exclude`, or read it with `capture = snapshot` or `capture = query`"))
    }

    /// Returns the kinds of the columns that are read.
    pub(crate) fn kinds(&self, types: &TypeMap, scope: Scope<'_>) -> Result<Vec<(&CatalogColumn, Kind)>> {
        let name = self.name();
        self.columns
            .iter()
            .filter(|column| scope.includes(&name, column))
            .map(|column| {
                let kind = types.kind(column.type_oid, column.typmod);
                let kind = kind.map_err(|refusal| refusal.in_column(&name, &column.name))?;
                scope.require_name(&name, &column.name, &kind)?;
                Ok((column, kind))
            })
            .collect()
    }

    /// Describes the table for the lock file.
    pub(crate) fn spec(&self, types: &TypeMap, scope: Scope<'_>) -> Result<TableSpec> {
        let kinds = self.kinds(types, scope)?;
        let field = |(column, kind): &(&CatalogColumn, Kind)| {
            let mut field = kind.field(&column.name, !column.not_null);
            if let Some(comment) = &column.comment {
                field.metadata_mut().insert("comment".to_owned(), comment.clone());
            }
            field
        };
        let fields: Vec<Field> = kinds.iter().map(field).collect();
        let key = if scope.changes { self.change_key() } else { &self.primary_key };
        let is_read = |name: &&String| kinds.iter().any(|(column, _)| column.name == **name);
        let key: Vec<String> = key.iter().filter(is_read).cloned().collect();
        if scope.changes && key.len() < self.change_key().len() {
            return Err(Error::user(
                fault::SETTING,
                format!("`exclude_columns` leaves out a key column of `{}`", self.name()),
            )
            .with("table", self.name())
            .with("key", self.change_key().join(", "))
            .help("without its key a change does not say which row it means; leave only other columns out"));
        }
        // Part of a key is none.
        let key = if key.len() == self.primary_key.len() || scope.changes { key } else { Vec::new() };
        Ok(TableSpec { name: self.name(), schema: Arc::new(Schema::new(fields)), key })
    }
}

/// Which columns of a table are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'a> {
    /// Whether the changes are read, which lack generated columns.
    pub(crate) changes: bool,
    /// `schema.table.column` of columns to leave out.
    pub(crate) excluded: &'a Patterns,
}

impl Scope<'_> {
    fn includes(&self, table: &str, column: &CatalogColumn) -> bool {
        let is_absent = self.changes && column.generated;
        !is_absent && !self.excludes(table, &column.name)
    }

    /// Refuses a name that would be taken for something else in the rows.
    pub(crate) fn require_name(&self, table: &str, column: &str, kind: &Kind) -> Result<()> {
        let what = if is_reserved(column) {
            "has a name that is reserved for what travels with the rows"
        } else if self.changes && kind.may_be_unsent() && column.contains(',') {
            "has a comma in its name, and may be named in a list of columns that were not sent"
        } else {
            return Ok(());
        };
        Err(Error::user(fault::COLUMN_NAME, format!("column `{column}` of `{table}` {what}"))
            .with("table", table)
            .with("column", column)
            .help("leave the column out with `exclude_columns`, or give it another name in the source"))
    }

    /// Returns whether the settings leave this column out.
    pub(crate) fn excludes(&self, table: &str, column: &str) -> bool {
        self.excluded.matches(&format!("{table}.{column}"))
    }
}

/// Reads every table and view outside the system's own schemas; of those that `wanted` accepts also columns and keys.
pub(crate) async fn tables(session: &Session, wanted: impl Fn(&str) -> bool) -> Result<Vec<CatalogTable>> {
    let sql = "select c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, c.relreplident, c.relispartition,
            c.relrowsecurity, pg_catalog.pg_get_userbyid(c.relowner)::text, pg_catalog.pg_has_role(c.relowner, 'USAGE'),
            greatest(c.reltuples, 0)::int8
        from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname not in ('pg_catalog', 'information_schema')
            and n.nspname not like 'pg\\_toast%' and n.nspname not like 'pg\\_temp%'
        order by 2, 3";
    let mut tables = Vec::new();
    for row in session.rows("listing the tables", sql, &[]).await? {
        let letter = |index: usize| u8::try_from(row.get::<_, i8>(index)).unwrap_or(0);
        let identity = ReplicaIdentity::parse(letter(5))
            .ok_or_else(|| fault::unreadable("a table has an unknown replica identity"))?;
        tables.push(CatalogTable {
            oid: row.get(0),
            schema: row.get(1),
            table: row.get(2),
            kind: letter(3),
            persistence: letter(4),
            identity,
            is_partition: row.get(6),
            row_security: row.get(7),
            has_bare_partition: false,
            partition_not_full: None,
            owner: row.get(8),
            is_owned: row.get(9),
            row_estimate: row.get(10),
            columns: Vec::new(),
            primary_key: Vec::new(),
            is_key_immediate: false,
            identity_index: Vec::new(),
        });
    }
    let oids: Vec<u32> = tables.iter().filter(|table| wanted(&table.name())).map(|table| table.oid).collect();
    add_columns(session, &mut tables, &oids).await?;
    add_keys(session, &mut tables, &oids).await?;
    add_partitions(session, &mut tables, &oids).await?;
    Ok(tables)
}

async fn add_columns(session: &Session, tables: &mut [CatalogTable], oids: &[u32]) -> Result<()> {
    let sql = "select attrelid, attname, atttypid, atttypmod, attnotnull, attgenerated <> '',
            pg_catalog.col_description(attrelid, attnum)
        from pg_catalog.pg_attribute where attrelid = any($1) and attnum > 0 and not attisdropped
        order by attrelid, attnum";
    let mut columns: HashMap<u32, Vec<CatalogColumn>> = HashMap::new();
    for row in session.rows("reading the columns", sql, &[&oids]).await? {
        columns.entry(row.get(0)).or_default().push(CatalogColumn {
            name: row.get(1),
            type_oid: row.get(2),
            typmod: row.get(3),
            not_null: row.get(4),
            generated: row.get(5),
            comment: row.get(6),
        });
    }
    for table in tables {
        table.columns = columns.remove(&table.oid).unwrap_or_default();
    }
    Ok(())
}

async fn add_keys(session: &Session, tables: &mut [CatalogTable], oids: &[u32]) -> Result<()> {
    let sql = "select i.indrelid, i.indisprimary, i.indisreplident and i.indimmediate, i.indimmediate,
            array(select a.attname::text from unnest(i.indkey) with ordinality k(attnum, at)
                join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
                where k.at <= i.indnkeyatts order by k.at)
        from pg_catalog.pg_index i
        where i.indrelid = any($1) and (i.indisprimary or i.indisreplident) and i.indisvalid";
    let mut keys: HashMap<u32, Vec<Row>> = HashMap::new();
    for row in session.rows("reading the keys", sql, &[&oids]).await? {
        keys.entry(row.get(0)).or_default().push(row);
    }
    for table in tables {
        for row in keys.remove(&table.oid).unwrap_or_default() {
            let (is_primary, is_identity, columns): (bool, bool, Vec<String>) = (row.get(1), row.get(2), row.get(4));
            if is_identity {
                table.identity_index.clone_from(&columns);
            }
            if is_primary {
                table.primary_key = columns;
                table.is_key_immediate = row.get(3);
            }
        }
    }
    Ok(())
}

/// A partition has a replica identity of its own, whatever that of the partitioned table is.
async fn add_partitions(session: &Session, tables: &mut [CatalogTable], oids: &[u32]) -> Result<()> {
    // pg_partition_tree() would lock every partition to the end of the transaction.
    let sql = "with recursive tree(root, oid) as (
            select root.oid, root.oid from unnest($1::oid[]) root(oid)
            union all
            select tree.root, i.inhrelid from pg_catalog.pg_inherits i join tree on i.inhparent = tree.oid
                join pg_catalog.pg_class p on p.oid = i.inhparent and p.relkind = 'p'
        )
        select tree.root, bool_or(c.relreplident = 'n' or c.relreplident in ('d', 'i')
                and not exists (select from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisvalid
                    and i.indimmediate and case c.relreplident when 'd' then i.indisprimary else i.indisreplident end)),
            min(format('%I.%I', n.nspname, c.relname)) filter (where c.relreplident <> 'f')
        from tree join pg_catalog.pg_class c using (oid) join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where tree.oid <> tree.root and c.relkind = 'r' group by tree.root";
    for row in session.rows("reading the partitions", sql, &[&oids]).await? {
        let oid: u32 = row.get(0);
        for table in tables.iter_mut().filter(|table| table.oid == oid) {
            table.has_bare_partition = row.get(1);
            table.partition_not_full = row.get(2);
        }
    }
    Ok(())
}

/// Returns the catalogue's entry of each named table, in the order of the names.
pub(crate) async fn named(session: &Session, names: &[&str]) -> Result<Vec<CatalogTable>> {
    let mut all = tables(session, |name| names.contains(&name)).await?;
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        let Some(index) = all.iter().position(|table| table.name() == *name) else {
            return Err(unknown(name, &all));
        };
        found.push(all.swap_remove(index));
    }
    Ok(found)
}

/// Returns the tables that the patterns of `tables` and `exclude` name.
///
/// A pattern takes tables and partitioned tables, never the single partitions; a view only where it is named in full.
pub(crate) async fn matching(
    session: &Session,
    include: &Patterns,
    exclude: &Patterns,
    named: &[String],
) -> Result<Vec<CatalogTable>> {
    let all = tables(session, |name| include.matches(name) && !exclude.matches(name)).await?;
    let candidate = |table: &&CatalogTable| {
        let name = table.name();
        let is_named = named.contains(&name);
        include.matches(&name)
            && !exclude.matches(&name)
            && (is_named || (matches!(table.kind, b'r' | b'p') && !table.is_partition))
    };
    let found: Vec<CatalogTable> = all.iter().filter(candidate).cloned().collect();
    let names: Vec<String> = found.iter().map(CatalogTable::name).collect();
    if let Some(pattern) = include.unmatched(&names).next() {
        return Err(unknown(pattern, &all));
    }
    // One that leaves nothing out was meant for something that is now read.
    let every: Vec<String> = all.iter().map(CatalogTable::name).collect();
    if let Some(pattern) = exclude.unmatched(&every).next() {
        return Err(unknown(pattern, &all).with("setting", "exclude"));
    }
    Ok(found)
}

/// Refuses a pattern of `exclude_columns` that leaves nothing out: the column that it was meant for would be read.
pub(crate) fn require_columns(tables: &[CatalogTable], excluded: &Patterns) -> Result<()> {
    let columns_of = |table: &CatalogTable| {
        let name = table.name();
        table.columns.iter().map(move |column| format!("{name}.{}", column.name)).collect::<Vec<_>>()
    };
    let known: Vec<String> = tables.iter().flat_map(columns_of).collect();
    let Some(pattern) = excluded.unmatched(&known).next() else {
        return Ok(());
    };
    let error = Error::user(fault::COLUMN_UNKNOWN, format!("no column matches `{pattern}`"))
        .with("setting", "exclude_columns")
        .with("pattern", pattern);
    Err(match nearest(pattern, &known) {
        Some(nearest) => error.help(format!("did the file mean `{nearest}`?")),
        None => error.help("a pattern is `schema.table.column` with `*`, `?` and `{a,b}`, of a table that is read"),
    })
}

/// Returns the name that differs from `name` in a few letters only.
fn nearest<'a>(name: &str, known: &'a [String]) -> Option<&'a String> {
    known.iter().min_by_key(|other| distance(other, name)).filter(|other| distance(other, name) <= 4)
}

fn unknown(name: &str, all: &[CatalogTable]) -> Error {
    const SHOWN_MAX: usize = 50;
    let known: Vec<String> = all.iter().filter(|table| !table.is_partition).map(CatalogTable::name).collect();
    let error = Error::user(fault::TABLE_UNKNOWN, format!("no table matches `{name}`"))
        .with("pattern", name)
        .with("tables", known.iter().take(SHOWN_MAX).map(String::as_str).collect::<Vec<_>>().join(", "));
    match nearest(name, &known) {
        Some(nearest) => error.help(format!("did the file mean `{nearest}`?")),
        None => error
            .help("a pattern is `schema.table` with `*`, `?` and `{a,b}`; without a dot it means the schema public"),
    }
}

/// Returns how many letters differ between two names (Levenshtein), the schema `public` being understood.
fn distance(left: &str, right: &str) -> usize {
    let (left, right) = (left.trim_start_matches("public."), right.trim_start_matches("public."));
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, letter) in left.chars().enumerate() {
        let mut diagonal = above;
        row[0] = above + 1;
        for (index, other) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[index + 1];
            row[index + 1] = replaced.min(row[index] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

/// Refuses a server whose pgoutput lacks the binary format.
pub(crate) async fn require_version(session: &Session) -> Result<()> {
    let version = session.version().await?;
    if version >= VERSION_MIN {
        return Ok(());
    }
    Err(Error::user(fault::SERVER_TOO_OLD, "the server is older than PostgreSQL 14")
        .with("version", version)
        .help("changes are read from PostgreSQL 14 on; older servers can be read with `capture = snapshot` and `capture = query`"))
}
