//! The columns that a pipeline expects against those that a table has.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use lakehead_core::{Error, Result, column_type_name};

use crate::fault;
use crate::type_map::Kind;

/// The columns of a table from here on.
#[derive(Debug)]
pub(crate) struct Layout {
    /// The expected columns, then the added ones.
    pub(crate) schema: SchemaRef,
    /// Whether columns were added.
    pub(crate) has_grown: bool,
    /// Per found column its place in `schema`.
    pub(crate) places: Vec<usize>,
}

/// Compares what a table has with what is expected of it, by structure: names and column types, not their order.
///
/// An added column is taken up behind the others. One that is missing or has another type is an incident: only a person
/// knows whether it was dropped or renamed, and what its values shall become.
pub(crate) fn reconcile(table: &str, expected: &Schema, found: &[(String, Kind)]) -> Result<Layout> {
    let mut fields: Vec<Arc<Field>> = expected.fields().iter().cloned().collect();
    let added: Vec<&(String, Kind)> = found.iter().filter(|(name, _)| expected.index_of(name).is_err()).collect();
    for field in expected.fields() {
        let Some((_, kind)) = found.iter().find(|(name, _)| name == field.name()) else {
            let error = changed(table, field.name(), "is missing: it was dropped or renamed");
            return Err(match added.iter().find(|(_, kind)| kind.data_type() == *field.data_type()) {
                Some((name, _)) => error.help(format!("`{name}` is new and has the same type: it may be the new name")),
                None => error,
            });
        };
        if kind.data_type() != *field.data_type() {
            return Err(changed(table, field.name(), "has another type now")
                .with("expected", column_type_name(field.data_type()))
                .with("found", column_type_name(&kind.data_type())));
        }
    }
    for (name, kind) in &added {
        fields.push(Arc::new(kind.field(name, true)));
    }
    let place = |name: &String| fields.iter().position(|field| field.name() == name);
    let places = found.iter().filter_map(|(name, _)| place(name)).collect();
    let schema = Schema::new_with_metadata(fields, expected.metadata().clone());
    Ok(Layout { schema: Arc::new(schema), has_grown: !added.is_empty(), places })
}

fn changed(table: &str, column: &str, what: &str) -> Error {
    Error::incident(fault::SCHEMA_CHANGED, format!("column `{column}` of `{table}` {what}"))
        .with("table", table)
        .with("column", column)
        .help("change the column back, or run `lakehead lock` and plan the pipeline again to decide what becomes of it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected() -> Schema {
        Schema::new(vec![Kind::Int8.field("id", false), Kind::Text.field("note", true)])
    }

    fn found(columns: &[(&str, Kind)]) -> Vec<(String, Kind)> {
        columns.iter().map(|(name, kind)| ((*name).to_owned(), kind.clone())).collect()
    }

    #[test]
    fn the_same_columns_in_another_order_are_no_change() {
        let layout = reconcile("t", &expected(), &found(&[("note", Kind::Text), ("id", Kind::Int8)])).unwrap();
        assert!(!layout.has_grown);
        assert_eq!(layout.places, [1, 0]);
    }

    #[test]
    fn an_added_column_stands_behind_the_others_wherever_the_table_has_it() {
        let columns = found(&[("extra", Kind::Uuid), ("id", Kind::Int8), ("note", Kind::Text)]);
        let layout = reconcile("t", &expected(), &columns).unwrap();
        assert!(layout.has_grown);
        assert_eq!(layout.places, [2, 0, 1]);
        assert_eq!(layout.schema.field(2).name(), "extra");
    }

    #[test]
    fn a_missing_or_retyped_column_is_an_incident_that_names_it() {
        let renamed = reconcile("t", &expected(), &found(&[("id", Kind::Int8), ("remark", Kind::Text)])).unwrap_err();
        assert!(renamed.message().contains("`note` of `t` is missing"), "{renamed}");
        assert!(renamed.helps().iter().any(|line| line.contains("`remark`")));
        let retyped = reconcile("t", &expected(), &found(&[("id", Kind::Int4), ("note", Kind::Text)])).unwrap_err();
        assert!(retyped.to_string().contains("expected=bigint found=int"), "{retyped}");
        assert_eq!(retyped.code(), "R0318");
    }
}
