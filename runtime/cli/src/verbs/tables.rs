//! `lakehead tables`: what the embedded catalog lists.

use lakehead_catalog::{Book, TableEntry, duckdb_views};
use lakehead_core::Result;
use lakehead_sql::Sql;

use super::Ended;
use crate::args::{Common, Format, Tables};
use crate::project::load;

/// Lists tables by name; or prints views of them.
pub(crate) fn tables(arguments: &Tables, common: &Common) -> Result<Ended> {
    let loaded = load(&arguments.path, common, &Sql::new())?;
    let found = Book::open(&loaded.state_folder())?.tables()?;
    if arguments.duckdb {
        let entries: Vec<TableEntry> = found.into_iter().map(|(_, entry)| entry).collect();
        print!("{}", duckdb_views(&entries));
        return Ok(Ended::Done);
    }
    if common.format == Format::Json {
        let objects: Vec<_> = found.iter().map(|(catalog, entry)| as_json(catalog, entry)).collect();
        println!("{}", serde_json::to_string_pretty(&objects).unwrap_or_default());
        return Ok(Ended::Done);
    }
    if found.is_empty() {
        eprintln!("no table is listed yet: they are after their first commit");
        return Ok(Ended::Done);
    }
    println!("{:<32} {:<8} {:>7} {:>10}  location", "table", "format", "columns", "partitions");
    for (_, entry) in &found {
        let definition = &entry.definition;
        let partitions = if entry.partitions.is_empty() { "-".to_owned() } else { entry.partitions.len().to_string() };
        println!(
            "{:<32} {:<8} {:>7} {partitions:>10}  {}",
            definition.name,
            definition.format,
            definition.columns.len(),
            definition.location
        );
        if let Some(comment) = &definition.comment {
            println!("{:<32} {comment}", "");
        }
    }
    Ok(Ended::Done)
}

/// A table as JSON: its definition, the catalog, and how many partitions it has.
pub(crate) fn as_json(catalog: &str, entry: &TableEntry) -> serde_json::Value {
    let mut object = serde_json::to_value(&entry.definition).unwrap_or_default();
    object["catalog"] = catalog.into();
    object["partitions"] = entry.partitions.len().into();
    object
}
