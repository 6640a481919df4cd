//! What happens to tables as a whole: they are emptied, they gain columns, and catalogs hear of it.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use lakehead_core::{Error, Listing, Result};
use lakehead_plan::{NodeKind, SchemaChanges, Truncate};

use super::Run;
use crate::event::Event;

impl Run<'_> {
    /// Tells what a table holds, unless it was told already.
    pub(super) fn tell_figures(&mut self, number: usize) {
        let part = &self.sinks[number];
        let (table, figures) = (part.table.clone(), part.sink.figures());
        if let Some(figures) = figures.filter(|figures| self.told.insert(number, *figures) != Some(*figures)) {
            self.tell(Event::Holds { table, figures });
        }
    }

    /// Tells what catalogs must know of a table, unless they were told already.
    pub(super) fn tell_listing(&mut self, number: usize) {
        let part = &self.sinks[number];
        let Some(listing) = part.sink.listing() else { return };
        let same = |told: &Arc<Listing>| Arc::ptr_eq(told, &listing) || told == &listing;
        if !self.listed.get(&number).is_some_and(same) {
            let table = part.table.clone();
            self.listed.insert(number, Arc::clone(&listing));
            self.tell(Event::Listed { table, listing });
        }
    }

    /// The first round begins with empty tables. Dead letters stay.
    pub(super) async fn empty_tables(&mut self) -> Result<()> {
        for part in self.sinks.iter_mut().filter(|part| part.node.is_some()) {
            part.sink.truncate().await?;
        }
        Ok(())
    }

    pub(super) async fn truncate(&mut self, number: usize, table: &str) -> Result<()> {
        let node = self.readings[number].node.clone();
        self.readings[number].boundary = false;
        let stream = self.stream(&node, table)?;
        self.begin();
        for sink in self.flow.sinks_of(stream) {
            let NodeKind::Sink(plan) = &self.flow.plan().nodes[sink].kind else { continue };
            match plan.on_truncate {
                Truncate::Ignore => {}
                Truncate::Apply => {
                    if let Some(part) = self.sinks.iter_mut().find(|part| part.node == Some(sink)) {
                        part.sink.truncate().await?;
                    }
                }
                Truncate::Pause | Truncate::Fail => {
                    return Err(Error::incident(
                        "R0109",
                        "a source table was truncated, and the file says to ask first",
                    )
                    .with("table", table)
                    .help("on_truncate = apply   empties the lake's table too;   on_truncate = ignore   keeps it"));
                }
            }
        }
        Ok(())
    }

    pub(super) async fn evolve(&mut self, number: usize, table: &str, schema: &SchemaRef) -> Result<()> {
        let (node, policy) = (self.readings[number].node.clone(), self.readings[number].plan.schema_changes);
        let stream = self.stream(&node, table)?;
        let known = Arc::clone(&self.flow.plan().streams[stream.0].schema);
        let added: Vec<String> = schema
            .fields()
            .iter()
            .filter(|field| known.field_with_name(field.name()).is_err())
            .map(|field| field.name().clone())
            .collect();
        if added.is_empty() || policy == SchemaChanges::Ignore {
            return Ok(());
        }
        if policy != SchemaChanges::Evolve {
            return Err(Error::incident("R0110", "a source table has new columns")
                .with("table", table)
                .with("columns", added.join(","))
                .help("lakehead lock   takes them over; or   schema_changes = evolve   in the source"));
        }
        for sink in self.flow.evolve(stream, schema)? {
            let NodeKind::Sink(plan) = &self.flow.plan().nodes[sink].kind else { continue };
            let own = plan.added_columns();
            if let Some(column) = added.iter().find(|column| own.contains(&column.as_str())) {
                return Err(Error::incident("R0112", "a source table has gained a column that the sink adds itself")
                    .with("table", table)
                    .with("column", column)
                    .help(format!(
                        "lakehead lock; then before the sink: derive {{ {column} as source_{column} }}   drop {{ {column} }}"
                    )));
            }
            let grown = Arc::clone(&plan.schema);
            if let Some(part) = self.sinks.iter_mut().find(|part| part.node == Some(sink)) {
                part.sink.evolve(&grown).await?;
            }
        }
        self.tell(Event::Evolved { table: table.to_owned(), added });
        Ok(())
    }
}
