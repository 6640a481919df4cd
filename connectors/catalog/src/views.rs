//! Views for DuckDB, so that tables are read by name.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::TableEntry;

/// Returns the statements that make a view of each table, its schemas first.
pub fn duckdb_views(tables: &[TableEntry]) -> String {
    let mut text = String::new();
    if tables.iter().any(|table| table.definition.format == "delta") {
        text.push_str("install delta; load delta;\n");
    }
    let named: Vec<(Vec<&str>, &TableEntry)> = tables.iter().map(|table| (view_name(table), table)).collect();
    let schemas: BTreeSet<&str> =
        named.iter().filter(|(parts, _)| parts.len() > 1).map(|(parts, _)| parts[0]).collect();
    for schema in schemas {
        let _ = writeln!(text, "create schema if not exists {};", quoted(schema, '"'));
    }
    for (parts, table) in named {
        let name: Vec<String> = parts.iter().map(|part| quoted(part, '"')).collect();
        let name = name.join(".");
        match reads(table) {
            Some(from) => {
                let _ = writeln!(text, "create or replace view {name} as from {from};");
                if let Some(comment) = &table.definition.comment {
                    let _ = writeln!(text, "comment on view {name} is {};", quoted(comment, '\''));
                }
            }
            None => {
                let _ = writeln!(text, "-- {name}: DuckDB reads no {} files", table.definition.format);
            }
        }
    }
    text
}

/// A view has a schema and a name: what stands before the last dot is the schema.
fn view_name(table: &TableEntry) -> Vec<&str> {
    match table.definition.name.rsplit_once('.') {
        Some((schema, name)) => vec![schema, name],
        None => vec![&table.definition.name],
    }
}

fn reads(table: &TableEntry) -> Option<String> {
    let location = table.definition.location.strip_prefix("file://").unwrap_or(&table.definition.location);
    match table.definition.format.as_str() {
        "delta" => Some(format!("delta_scan({})", quoted(location, '\''))),
        "parquet" => {
            let files = quoted(&format!("{location}/**/[!_]*.parquet"), '\'');
            let hive = !table.definition.partition_by.is_empty();
            Some(format!("read_parquet({files}, hive_partitioning = {hive}, union_by_name = true)"))
        }
        _ => None,
    }
}

fn quoted(text: &str, mark: char) -> String {
    let doubled = format!("{mark}{mark}");
    format!("{mark}{}{mark}", text.replace(mark, &doubled))
}
