//! The publications of a pipeline: what must be in them, and how they come to be.
//!
//! A table whose rows can be told apart is published with everything in the publication itself. One without a replica
//! identity would make the application's own UPDATE and DELETE fail there, so it goes into a second publication,
//! `<name>_inserts`, which publishes only inserts and truncates.

use std::collections::{BTreeMap, HashMap};

use lakehead_core::{Error, Result};

use crate::catalog::CatalogTable;
use crate::fault;
use crate::names;
use crate::session::Session;

/// What is to be published under which name.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    name: String,
    tables: Vec<&'a CatalogTable>,
    /// Whether updates and deletes are published too.
    is_full: bool,
}

impl Wanted<'_> {
    fn events(&self) -> &'static str {
        if self.is_full { "insert, update, delete, truncate" } else { "insert, truncate" }
    }

    fn members(tables: &[&CatalogTable]) -> String {
        // ONLY, as children by inheritance have keys of their own, or none. Partitions come with their table all the same.
        tables.iter().map(|table| format!("only {}", table.quoted())).collect::<Vec<_>>().join(", ")
    }

    fn creation(&self) -> String {
        format!(
            "create publication {} for table {} with (publish = '{}', publish_via_partition_root = true)",
            names::quote(&self.name),
            Self::members(&self.tables),
            self.events()
        )
    }

    fn addition(&self, tables: &[&CatalogTable]) -> String {
        format!("alter publication {} add table {}", names::quote(&self.name), Self::members(tables))
    }
}

/// Divides the tables between the publication and its second one.
pub(crate) fn wanted<'a>(name: &str, tables: &'a [CatalogTable]) -> Vec<Wanted<'a>> {
    let (full, inserts): (Vec<_>, Vec<_>) = tables.iter().partition(|table| table.may_publish_updates());
    let mut all = Vec::new();
    if !full.is_empty() {
        all.push(Wanted { name: name.to_owned(), tables: full, is_full: true });
    }
    if !inserts.is_empty() {
        let names: Vec<String> = inserts.iter().map(|table| table.name()).collect();
        tracing::warn!(
            tables = names.join(", "),
            "only inserts are captured: no replica identity says which row changed"
        );
        all.push(Wanted { name: format!("{name}_inserts"), tables: inserts, is_full: false });
    }
    all
}

/// A publication as the catalogue describes it.
#[derive(Debug)]
struct Found {
    name: String,
    is_owned: bool,
    all_tables: bool,
    publishes: [bool; 4],
    via_root: bool,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    table: String,
    is_filtered: bool,
}

impl Found {
    fn has(&self, table: &CatalogTable) -> bool {
        let name = table.name();
        self.members.iter().any(|member| member.table == name)
    }
}

/// Sees to it that everything wanted is published, and returns the names of the publications to read.
///
/// Creates and extends publications where `may_create` says so or where every table is ours; must run before the slot
/// is created, as the slot decodes the log with the publications of that moment.
pub(crate) async fn ensure(session: &Session, wanted: &[Wanted<'_>], may_create: bool) -> Result<Vec<String>> {
    let found = find(session, wanted).await?;
    let mut names = Vec::new();
    for want in wanted {
        if let Some(base) = found.iter().find(|publication| publication.name == want.name) {
            let missing: Vec<&CatalogTable> = want.tables.iter().copied().filter(|table| !base.has(table)).collect();
            check(base, want)?;
            if !missing.is_empty() {
                if !(may_create || base.is_owned) || base.all_tables {
                    return Err(incomplete(want, &missing));
                }
                change(session, want, &want.addition(&missing)).await?;
            }
            names.push(want.name.clone());
        } else if let Some(base) = covering(&found, want) {
            // Somebody's own publication holds the tables without identity already.
            names.push(base.name.clone());
        } else if may_create || want.tables.iter().all(|table| table.is_owned) {
            change(session, want, &want.creation()).await?;
            names.push(want.name.clone());
        } else {
            return Err(missing(want));
        }
    }
    names.dedup();
    Ok(names)
}

/// Checks that everything wanted is still published, changing nothing; returns the names of the publications to read.
pub(crate) async fn verify(session: &Session, wanted: &[Wanted<'_>]) -> Result<Vec<String>> {
    let found = find(session, wanted).await?;
    let mut names = Vec::new();
    for want in wanted {
        let base = found.iter().find(|publication| publication.name == want.name).or_else(|| covering(&found, want));
        let base = base.ok_or_else(|| missing(want))?;
        check(base, want)?;
        let absent: Vec<&CatalogTable> = want.tables.iter().copied().filter(|table| !base.has(table)).collect();
        if !absent.is_empty() {
            return Err(incomplete(want, &absent));
        }
        names.push(base.name.clone());
    }
    names.dedup();
    Ok(names)
}

/// Returns, per table, the oid of the entry by which the named publications hold it.
///
/// A table that is taken out and put back has another one, and the changes made between are not in the stream.
pub(crate) async fn memberships(
    session: &Session,
    names: &[String],
    tables: &[CatalogTable],
) -> Result<BTreeMap<String, u32>> {
    // Whole schemas can be published from version 15 on.
    let schemas = if session.version().await? >= 150_000 {
        "union all select c.oid, m.oid from pg_catalog.pg_publication_namespace m
            join pg_catalog.pg_class c on c.relnamespace = m.pnnspid
            join pg_catalog.pg_publication p on p.oid = m.pnpubid and p.pubname = any($1)"
    } else {
        ""
    };
    let sql = format!(
        "select member.relation, min(member.oid) from (
            select m.prrelid, m.oid from pg_catalog.pg_publication_rel m
                join pg_catalog.pg_publication p on p.oid = m.prpubid and p.pubname = any($1)
            union all select c.oid, p.oid from pg_catalog.pg_publication p cross join pg_catalog.pg_class c
                where p.puballtables and p.pubname = any($1)
            {schemas}
        ) member(relation, oid) where member.relation = any($2) group by 1"
    );
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    let rows = session.rows("reading the published tables", &sql, &[&names, &oids]).await?;
    let found: HashMap<u32, u32> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    Ok(tables.iter().filter_map(|table| Some((table.name(), *found.get(&table.oid)?))).collect())
}

fn covering<'a>(found: &'a [Found], want: &Wanted<'_>) -> Option<&'a Found> {
    found.iter().find(|publication| !want.is_full && want.tables.iter().all(|table| publication.has(table)))
}

async fn change(session: &Session, want: &Wanted<'_>, sql: &str) -> Result<()> {
    session
        .run("publishing the tables", sql)
        .await
        .map_err(|error| if error.code() == fault::PERMISSION { missing(want).caused_by(error) } else { error })
}

async fn find(session: &Session, wanted: &[Wanted<'_>]) -> Result<Vec<Found>> {
    let base = wanted.iter().map(|want| want.name.trim_end_matches("_inserts").to_owned());
    let names: Vec<String> = wanted.iter().map(|want| want.name.clone()).chain(base).collect();
    let sql = "select p.pubname::text, pg_has_role(p.pubowner, 'USAGE'), p.puballtables, p.pubinsert, p.pubupdate,
            p.pubdelete, p.pubtruncate, p.pubviaroot
        from pg_catalog.pg_publication p where p.pubname = any($1)";
    let mut found: Vec<Found> = Vec::new();
    for row in session.rows("reading the publications", sql, &[&names]).await? {
        found.push(Found {
            name: row.get(0),
            is_owned: row.get(1),
            all_tables: row.get(2),
            publishes: [row.get(3), row.get(4), row.get(5), row.get(6)],
            via_root: row.get(7),
            members: Vec::new(),
        });
    }
    // Row filters and column lists came with version 15.
    let filtered =
        if session.version().await? >= 150_000 { "r.prqual is not null or r.prattrs is not null" } else { "false" };
    let sql = format!(
        "select t.pubname::text, t.schemaname || '.' || t.tablename, exists (
            select from pg_catalog.pg_publication_rel r
            join pg_catalog.pg_publication p on p.oid = r.prpubid
            join pg_catalog.pg_class c on c.oid = r.prrelid
            join pg_catalog.pg_namespace n on n.oid = c.relnamespace
            where p.pubname = t.pubname and n.nspname = t.schemaname and c.relname = t.tablename and ({filtered}))
        from pg_catalog.pg_publication_tables t where t.pubname = any($1)"
    );
    for row in session.rows("reading the published tables", &sql, &[&names]).await? {
        let name: String = row.get(0);
        if let Some(publication) = found.iter_mut().find(|publication| publication.name == name) {
            publication.members.push(Member { table: row.get(1), is_filtered: row.get(2) });
        }
    }
    Ok(found)
}

/// Refuses a publication that would leave out changes of our tables without a word.
fn check(found: &Found, want: &Wanted<'_>) -> Result<()> {
    let unfit = |what: &str, cure: String| {
        Err(Error::user(fault::PUBLICATION_UNFIT, format!("the publication `{}` {what}", found.name))
            .with("publication", &found.name)
            .help(cure))
    };
    let name = names::quote(&found.name);
    let [insert, update, delete, truncate] = found.publishes;
    if !(insert && truncate && (!want.is_full || update && delete)) {
        let cure = format!("alter publication {name} set (publish = '{}')", want.events());
        return unfit("does not publish every change", cure);
    }
    for table in &want.tables {
        let filtered = found.members.iter().any(|member| member.table == table.name() && member.is_filtered);
        if filtered {
            let quoted = table.quoted();
            let cure =
                format!("alter publication {name} drop table {quoted}; alter publication {name} add table {quoted}");
            return unfit(
                &format!("has a row filter or a column list for `{}`, so rows would be missing", table.name()),
                cure,
            );
        }
        if table.kind == b'p' && !found.via_root {
            let cure = format!("alter publication {name} set (publish_via_partition_root = true)");
            return unfit(&format!("publishes the partitions of `{}` under their own names", table.name()), cure);
        }
    }
    Ok(())
}

fn missing(want: &Wanted<'_>) -> Error {
    Error::user(
        fault::PUBLICATION_MISSING,
        format!("the publication `{}` is missing and may not be created by this user", want.name),
    )
    .with("publication", &want.name)
    .help(format!("as the owner of the tables: {}", want.creation()))
    .help("or let the role own the tables, have CREATE on the database, and set `publication_create = true`")
}

fn incomplete(want: &Wanted<'_>, absent: &[&CatalogTable]) -> Error {
    let names: Vec<String> = absent.iter().map(|table| table.name()).collect();
    Error::user(fault::PUBLICATION_MISSING, format!("the publication `{}` lacks tables of the pipeline", want.name))
        .with("publication", &want.name)
        .with("tables", names.join(", "))
        .help(format!("as the owner: {}", want.addition(absent)))
        .help("changes made while a table was not published are not in the log: its rows must be read anew")
}
