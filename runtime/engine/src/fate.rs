//! What becomes of the key of a row that is set aside (`on_reject`): the last good row of a keyed table stays, or goes.
//!
//! A sink that says `delete` takes a rejected row as a delete of its key. On its way there it is a change of a kind of our
//! own, `x`: like a delete it carries its key alone and passes every step; sinks that keep their rows never see it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, StringArray};
use arrow::compute::{filter_record_batch, not};
use lakehead_core::{OP, Op, Result, WriteMode};
use lakehead_plan::{NodeKind, Plan, SinkPlan, Step, StreamId};

use crate::rows::{texts, to_keys};

/// The letter of a row that was set aside, between the step that refused it and the sinks.
pub(crate) const REJECTED: &str = "x";

/// What the keyed tables behind one step do with the key of a row that it refuses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    /// Tables that the key's row goes from.
    deletes: BTreeSet<String>,
    /// Tables that it stays in.
    keeps: BTreeSet<String>,
    /// The columns before the step that the keys of those it goes from are made of.
    key: Vec<String>,
}

impl Fate {
    /// Returns whether some table takes a refused row as a delete.
    pub(crate) fn deletes(&self) -> bool {
        !self.deletes.is_empty()
    }

    fn add(&mut self, sink: &SinkPlan, key: &[String]) {
        if sink.deletes_rejected {
            self.deletes.insert(sink.table.clone());
            self.key.extend(key.iter().filter(|column| !self.key.contains(column)).cloned().collect::<Vec<_>>());
        } else {
            self.keeps.insert(sink.table.clone());
        }
    }

    /// Says it in the words of a dead letter; `None` where no table is keyed.
    pub(crate) fn text(&self) -> Option<String> {
        let join = |tables: &BTreeSet<String>| tables.iter().cloned().collect::<Vec<_>>().join(", ");
        let mut said = Vec::new();
        if !self.deletes.is_empty() {
            said.push(format!("a row of its key is deleted from {}", join(&self.deletes)));
        }
        if !self.keeps.is_empty() {
            said.push(format!("a row of its key stays in {}", join(&self.keeps)));
        }
        (!said.is_empty()).then(|| said.join("; "))
    }

    /// The same, where no step could compute the key: its row stays everywhere.
    pub(crate) fn kept(&self) -> Self {
        Self { keeps: self.keeps.union(&self.deletes).cloned().collect(), ..Self::default() }
    }

    /// Turns the rows of `mask` into rejected keys.
    pub(crate) fn reject(&self, rows: &RecordBatch, mask: &BooleanArray) -> Result<RecordBatch> {
        to_keys(rows, mask, &self.key, REJECTED)
    }
}

/// Finds the fate of rows that each step refuses, by node and step: those from which row-wise steps alone lead to a keyed
/// table. A route is its node's first step.
pub(crate) fn fates(plan: &Plan) -> HashMap<(usize, usize), Fate> {
    let mut fates = HashMap::new();
    for (number, node) in plan.nodes.iter().enumerate() {
        if let NodeKind::Sink(sink) = &node.kind
            && matches!(sink.mode, WriteMode::Upsert | WriteMode::Scd2)
        {
            trace(plan, number, sink, &mut fates);
        }
    }
    fates
}

/// Follows a sink's key up to the sources.
fn trace(plan: &Plan, number: usize, sink: &SinkPlan, fates: &mut HashMap<(usize, usize), Fate>) {
    let mut keys: HashMap<StreamId, Vec<String>> = HashMap::from([(sink.input, sink.key.clone())]);
    for (number, node) in plan.nodes[..number].iter().enumerate().rev() {
        match &node.kind {
            NodeKind::Transform { inputs, output, steps } => {
                let Some(mut key) = keys.get(output).cloned() else { continue };
                let mut reaches = true;
                for (place, step) in steps.iter().enumerate().rev() {
                    reaches &= step.row_wise;
                    if !reaches {
                        break;
                    }
                    key = before(step, &key);
                    fates.entry((number, place)).or_default().add(sink, &key);
                }
                if reaches {
                    keys.extend(inputs.iter().map(|input| (*input, key.clone())));
                }
            }
            NodeKind::Route { input, branches, otherwise } => {
                let other = match otherwise {
                    lakehead_plan::Target::Stream(stream) => Some(*stream),
                    lakehead_plan::Target::DeadLetter => None,
                };
                let outputs = branches.iter().map(|branch| branch.output).chain(other);
                if let Some(key) = outputs.filter_map(|output| keys.get(&output).cloned()).next() {
                    fates.entry((number, 0)).or_default().add(sink, &key);
                    keys.insert(*input, key);
                }
            }
            _ => {}
        }
    }
}

/// Returns the columns before a step that those behind it are made of.
fn before(step: &Step, columns: &[String]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for column in columns {
        let made_of = step.lineage.get(column).cloned().unwrap_or_else(|| vec![column.clone()]);
        found.extend(made_of.into_iter().filter(|column| !found.contains(column)).collect::<Vec<_>>());
    }
    found
}

fn rejected(rows: &RecordBatch) -> Result<Option<BooleanArray>> {
    let ops = texts(rows, OP)?;
    let mask: BooleanArray = ops.iter().map(|op| Some(op == Some(REJECTED))).collect();
    Ok((mask.true_count() > 0).then_some(mask))
}

/// Leaves rejected keys out.
pub(crate) fn without_rejected(rows: &RecordBatch) -> Result<RecordBatch> {
    match rejected(rows)? {
        None => Ok(rows.clone()),
        Some(mask) => Ok(filter_record_batch(rows, &not(&mask)?)?),
    }
}

/// Makes deletes of rejected keys.
pub(crate) fn rejected_as_deletes(rows: &RecordBatch) -> Result<RecordBatch> {
    let Some(mask) = rejected(rows)? else { return Ok(rows.clone()) };
    let ops = texts(rows, OP)?;
    let letter = |row: usize| {
        if mask.value(row) { Some(Op::Delete.letter()) } else { ops.is_valid(row).then(|| ops.value(row)) }
    };
    let letters: StringArray = (0..rows.num_rows()).map(letter).collect();
    let schema = rows.schema();
    let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
    columns[schema.index_of(OP)?] = Arc::new(letters);
    Ok(RecordBatch::try_new(schema, columns)?)
}
