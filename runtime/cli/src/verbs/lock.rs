//! `lakehead lock`: asks the sources for their columns and keeps them in git.

use lakehead_core::{Discovery, Error, Result, Settings, Value};
use lakehead_plan::{LockEntry, SecretSource, SourceDeclaration};
use lakehead_sql::Sql;
use serde_json::json;
use std::collections::BTreeMap;

use super::Ended;
use super::fmt::write_whole;
use crate::args::{Common, Format, Lock};
use crate::project::load;

/// Refreshes `lakehead.lock`; what cannot be asked keeps its old entry and is told.
pub(crate) async fn lock(arguments: &Lock, common: &Common) -> Result<Ended> {
    let loaded = load(&arguments.path, common, &Sql::new())?;
    let mut lock = loaded.lock.clone();
    let mut failed = 0;
    for source in &loaded.planned.sources {
        let declared = matches!(source.settings.get("columns"), Some(Value::Map(_)));
        let written =
            source.settings.text("table").is_some_and(|table| is_written(&loaded, &source.connection_name, table));
        if declared || written {
            continue;
        }
        match discover(source, &loaded.root, &loaded.planned.secrets).await {
            Ok(entries) => {
                for (object, entry) in entries {
                    let change = match lock.get(&source.connection_name, &object) {
                        None => "new",
                        Some(old) if old.table == entry.table && old.comments == entry.comments => "same",
                        Some(_) => "changed",
                    };
                    if common.format == Format::Json {
                        let columns = entry.table.schema.fields().len();
                        let connection = &source.connection_name;
                        println!(
                            "{}",
                            json!({ "change": change, "connection": connection, "object": object, "columns": columns })
                        );
                    } else if !common.quiet {
                        println!(
                            "{change:<8} {}.{object}  {} columns",
                            source.connection_name,
                            entry.table.schema.fields().len()
                        );
                    }
                    lock.set(&source.connection_name, &object, entry);
                }
            }
            Err(error) => {
                failed += 1;
                super::report(&error, common);
            }
        }
    }
    if lock != loaded.lock {
        write_whole(&loaded.lock_path, &lock.render())?;
    }
    Ok(if failed > 0 { Ended::Errors } else { Ended::Done })
}

fn is_written(loaded: &crate::project::Loaded, connection: &str, table: &str) -> bool {
    loaded.planned.plans.iter().flat_map(|plan| &plan.nodes).any(|node| match &node.kind {
        lakehead_plan::NodeKind::Sink(sink) => sink.connection_name == connection && sink.table == table,
        _ => false,
    })
}

/// Asks one source.
pub(crate) async fn discover(
    source: &SourceDeclaration,
    root: &std::path::Path,
    secrets: &BTreeMap<String, SecretSource>,
) -> Result<Vec<(String, LockEntry)>> {
    let role = lakehead_registry::connector(&source.connector).and_then(|connector| connector.source);
    let role = role.ok_or_else(|| Error::bug("a declared source has no connector"))?;
    let discovery = Discovery {
        connection: filled(&source.connection, secrets)?,
        settings: source.settings.clone(),
        node: source.node.clone(),
        root: root.to_path_buf(),
    };
    let tables = (role.discover)(&discovery).await?;
    let many = source.settings.get("tables").is_some();
    let query = source.settings.text("query").map(str::to_owned);
    let from = match (many, &query, source.settings.get("sample")) {
        (false, None, Some(Value::Int(rows))) => Some(format!("sample of {rows} rows")),
        _ => None,
    };
    let entry = |mut table: lakehead_core::TableSpec| {
        let object = if many { table.name.clone() } else { source.object.clone() };
        table.name.clone_from(&object);
        let identity =
            many.then(|| table.schema.metadata().get("lakehead.identity").cloned().unwrap_or_else(|| "default".into()));
        (object, LockEntry { from: from.clone(), query: query.clone(), identity, ..LockEntry::new(table) })
    };
    Ok(tables.into_iter().map(entry).collect())
}

fn filled(settings: &Settings, secrets: &BTreeMap<String, SecretSource>) -> Result<Settings> {
    let mut settings = settings.clone();
    crate::environment::fill_settings(&mut settings, secrets)?;
    Ok(settings)
}
