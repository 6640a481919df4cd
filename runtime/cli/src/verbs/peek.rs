//! Reading a table back that a plan writes.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use lakehead_core::{
    BatchBudget, Checkpoint, Error, Result, RunContext, Settings, Source, SourceEvent, SourceSpec, TableSpec, Value,
};
use lakehead_plan::{NodeKind, Plan, SinkPlan};

use super::run::Runner;

/// Opens the table of a sink as a source.
pub(crate) async fn table_source(runner: &Runner, plan: &Plan, sink: &SinkPlan) -> Result<Box<dyn Source>> {
    let role = lakehead_registry::connector(&sink.connector).and_then(|connector| connector.source);
    let role = role.ok_or_else(|| {
        Error::user("R0917", "the sink's tables cannot be read back").with("connector", &sink.connector)
    })?;
    let settings = Settings::new([("table".to_owned(), Value::Text(sink.table.clone()))]);
    let table = TableSpec { name: sink.node.clone(), schema: Arc::clone(&sink.schema), key: sink.key.clone() };
    let mut source = (role.build)(SourceSpec {
        pipeline: plan.id.clone(),
        node: sink.node.clone(),
        connection: sink.connection.clone(),
        settings,
        tables: vec![table],
        root: runner.root.clone(),
        run: RunContext::default(),
        clock: Arc::clone(&runner.engine.clock),
    })?;
    source.open(&Checkpoint::default()).await?;
    Ok(source)
}

/// Prints the first rows of every table that a plan writes.
pub(crate) async fn first_rows(runner: &Runner, plan: &Plan, most: usize) -> Result<()> {
    if most == 0 {
        return Ok(());
    }
    let sinks = plan.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Sink(sink) => Some(sink),
        _ => None,
    });
    for sink in sinks.chain(&plan.dead_letter) {
        let readable =
            lakehead_registry::connector(&sink.connector).is_some_and(|connector| connector.source.is_some());
        if !readable || sink.settings.get("table").is_none() {
            continue;
        }
        let mut source = table_source(runner, plan, sink).await?;
        let mut rows: Option<RecordBatch> = None;
        while rows.is_none() {
            match source.next(BatchBudget::default()).await? {
                SourceEvent::Changes(batch) => rows = Some(batch.rows.slice(0, batch.rows.num_rows().min(most))),
                SourceEvent::End => break,
                _ => {}
            }
        }
        if let Some(rows) = rows {
            println!("\n{}", sink.table);
            println!("{}", pretty_format_batches(&[rows])?);
        }
    }
    Ok(())
}
