//! Rows set aside: one schema for all, whatever refused them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use lakehead_core::{FILE, Micros, OP, POSITION, Result, TABLE};
use lakehead_plan::dead_letter_schema;

use crate::fate::Fate;
use crate::json::rows_to_json;
use crate::rows::{texts, without_reserved};

/// One row that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The node that refused it.
    pub node: String,
    /// `expectation`, `misfit`, `no_route`, `error` …
    pub reason: &'static str,
    /// The rule's name.
    pub expectation: Option<String>,
    /// What went wrong, without values, and what became of the key.
    pub error: Option<String>,
    /// The table or file it came from.
    pub source: Option<String>,
    /// Where in the source.
    pub position: Option<String>,
    /// The kind of change.
    pub op: Option<String>,
    /// The row as it stood, as JSON.
    pub raw: String,
}

/// Dead letters that are held at most: a file may hold nothing but rows that do not fit.
const LETTERS_MAX: usize = 8192;
/// Bytes of their rows that are held at most.
const LETTER_BYTES_MAX: usize = 4 << 20;

/// Dead letters that wait for their table.
#[derive(Debug, Default)]
pub(crate) struct Letters {
    list: Vec<Rejected>,
    bytes: usize,
}

impl Letters {
    pub(crate) fn extend(&mut self, letters: Vec<Rejected>) {
        self.bytes += letters.iter().map(|letter| letter.raw.len()).sum::<usize>();
        self.list.extend(letters);
    }

    /// Returns whether they are to be handed on before the round ends.
    pub(crate) fn are_many(&self) -> bool {
        self.list.len() >= LETTERS_MAX || self.bytes >= LETTER_BYTES_MAX
    }

    pub(crate) fn take(&mut self) -> Vec<Rejected> {
        std::mem::take(self).list
    }
}

/// Makes a dead letter of every row.
pub(crate) fn reject(
    rows: &RecordBatch,
    node: &str,
    reason: &'static str,
    expectation: Option<&str>,
    error: Option<&str>,
    fate: &Fate,
) -> Result<Vec<Rejected>> {
    let said: Vec<String> = error.map(str::to_owned).into_iter().chain(fate.text()).collect();
    let said = (!said.is_empty()).then(|| said.join("; "));
    let raws = rows_to_json(&without_reserved(rows)?)?;
    let [tables, files, positions, ops] =
        [texts(rows, TABLE)?, texts(rows, FILE)?, texts(rows, POSITION)?, texts(rows, OP)?];
    let at = |column: &StringArray, row: usize| column.is_valid(row).then(|| column.value(row).to_owned());
    let make = |(row, raw): (usize, String)| Rejected {
        node: node.to_owned(),
        reason,
        expectation: expectation.map(str::to_owned),
        error: said.clone(),
        source: at(tables, row).or_else(|| at(files, row)),
        position: at(positions, row),
        op: at(ops, row),
        raw,
    };
    Ok(raws.into_iter().enumerate().map(make).collect())
}

/// Writes dead letters as rows of their table.
pub(crate) fn to_batch(rejected: &[Rejected], pipeline: &str, now: Micros) -> Result<RecordBatch> {
    let column = |get: &dyn Fn(&Rejected) -> Option<String>| -> ArrayRef {
        Arc::new(rejected.iter().map(get).collect::<StringArray>())
    };
    let at = TimestampMicrosecondArray::from(vec![now; rejected.len()]).with_timezone("UTC");
    let columns: Vec<ArrayRef> = vec![
        Arc::new(at),
        column(&|_| Some(pipeline.to_owned())),
        column(&|row| Some(row.node.clone())),
        column(&|row| Some(row.reason.to_owned())),
        column(&|row| row.expectation.clone()),
        column(&|row| row.error.clone()),
        column(&|row| row.source.clone()),
        column(&|row| row.position.clone()),
        column(&|row| row.op.clone()),
        column(&|row| Some(row.raw.clone())),
    ];
    Ok(RecordBatch::try_new(dead_letter_schema(), columns)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_many_by_their_number_or_by_their_bytes() {
        let letter = |bytes: usize| Rejected {
            node: "rows".into(),
            reason: "misfit",
            expectation: None,
            error: None,
            source: None,
            position: None,
            op: None,
            raw: "x".repeat(bytes),
        };
        for (letters, bytes) in [(LETTERS_MAX, 1), (4, LETTER_BYTES_MAX / 4)] {
            let mut held = Letters::default();
            held.extend(vec![letter(bytes); letters - 1]);
            assert!(!held.are_many());
            held.extend(vec![letter(bytes)]);
            assert!(held.are_many());
            assert_eq!(held.take().len(), letters);
            assert!(!held.are_many(), "what was taken is not held");
        }
    }
}
