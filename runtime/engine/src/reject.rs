//! Rows set aside: one schema for all, whatever refused them.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray};
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

/// Why a row is set aside that does not fit the declared columns.
pub(crate) const MISFIT: &str = "misfit";
/// Dead letters that are held at most: a file may hold nothing but rows that do not fit.
const LETTERS_MAX: usize = 8192;
/// Bytes of their rows that are held at most.
const LETTER_BYTES_MAX: usize = 4 << 20;

/// Dead letters that wait for their table, in its columns: a file may hold many, and each would be seven texts of its own.
#[derive(Debug, Default)]
pub(crate) struct Letters {
    count: usize,
    bytes: usize,
    nodes: StringBuilder,
    reasons: StringBuilder,
    expectations: StringBuilder,
    errors: StringBuilder,
    sources: StringBuilder,
    positions: StringBuilder,
    ops: StringBuilder,
    raws: StringBuilder,
}

impl Letters {
    pub(crate) fn push(&mut self, letter: &Rejected) {
        self.add(&letter.node, letter.reason, letter.source.as_deref(), &letter.raw);
        self.expectations.append_option(letter.expectation.as_deref());
        self.errors.append_option(letter.error.as_deref());
        self.positions.append_option(letter.position.as_deref());
        self.ops.append_option(letter.op.as_deref());
    }

    /// Adds a row that does not fit its columns; `error` is in parts.
    pub(crate) fn push_misfit(&mut self, node: &str, raw: &str, error: [&str; 2], source: &str) {
        self.add(node, MISFIT, Some(source), raw);
        // Writing parts of a text never fails.
        let _ = error.iter().try_for_each(|part| self.errors.write_str(part));
        self.errors.append_value("");
        for column in [&mut self.expectations, &mut self.positions, &mut self.ops] {
            column.append_null();
        }
    }

    fn add(&mut self, node: &str, reason: &str, source: Option<&str>, raw: &str) {
        self.count += 1;
        self.bytes += raw.len();
        self.nodes.append_value(node);
        self.reasons.append_value(reason);
        self.sources.append_option(source);
        self.raws.append_value(raw);
    }

    /// Returns whether they are to be handed on before the round ends.
    pub(crate) fn are_many(&self) -> bool {
        self.count >= LETTERS_MAX || self.bytes >= LETTER_BYTES_MAX
    }

    /// Takes them out as rows of their table; `None` where there are none.
    pub(crate) fn take(&mut self, pipeline: &str, now: Micros) -> Result<Option<RecordBatch>> {
        let mut taken = std::mem::take(self);
        if taken.count == 0 {
            return Ok(None);
        }
        let at = TimestampMicrosecondArray::from(vec![now; taken.count]).with_timezone("UTC");
        let pipelines = StringArray::from_iter_values(std::iter::repeat_n(pipeline, taken.count));
        let texts = [
            &mut taken.nodes,
            &mut taken.reasons,
            &mut taken.expectations,
            &mut taken.errors,
            &mut taken.sources,
            &mut taken.positions,
            &mut taken.ops,
            &mut taken.raws,
        ];
        let mut columns: Vec<ArrayRef> = vec![Arc::new(at), Arc::new(pipelines)];
        columns.extend(texts.map(|text| Arc::new(text.finish()) as ArrayRef));
        Ok(Some(RecordBatch::try_new(dead_letter_schema(), columns)?))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(bytes: usize) -> Rejected {
        Rejected {
            node: "rows".into(),
            reason: MISFIT,
            expectation: None,
            error: Some("no bigint; no row is deleted".into()),
            source: Some("a.csv:7".into()),
            position: None,
            op: None,
            raw: "x".repeat(bytes),
        }
    }

    #[test]
    fn letters_are_many_by_their_number_or_by_their_bytes() {
        for (letters, bytes) in [(LETTERS_MAX, 1), (4, LETTER_BYTES_MAX / 4)] {
            let mut held = Letters::default();
            (1..letters).for_each(|_| held.push(&letter(bytes)));
            assert!(!held.are_many());
            held.push(&letter(bytes));
            assert!(held.are_many());
            assert_eq!(held.take("p", 1).unwrap().unwrap().num_rows(), letters);
            assert!(!held.are_many(), "what was taken is not held");
            assert!(held.take("p", 1).unwrap().is_none());
        }
    }

    #[test]
    fn a_row_that_does_not_fit_is_the_letter_that_its_parts_make() {
        let (mut whole, mut parts) = (Letters::default(), Letters::default());
        let other = Rejected { expectation: Some("e".into()), error: None, op: Some("c".into()), ..letter(2) };
        for letters in [&mut whole, &mut parts] {
            letters.push(&other);
        }
        whole.push(&letter(3));
        parts.push_misfit("rows", "xxx", ["no bigint", "; no row is deleted"], "a.csv:7");
        let (whole, parts) = (whole.take("p", 5).unwrap(), parts.take("p", 5).unwrap());
        assert_eq!(whole, parts);
        let text = |name: &str, row: usize| {
            let rows = whole.as_ref().unwrap();
            let column = texts(rows, name).unwrap();
            column.is_valid(row).then(|| column.value(row).to_owned())
        };
        for (name, first, second) in [
            ("_pipeline", Some("p"), Some("p")),
            ("_expectation", Some("e"), None),
            ("_error", None, Some("no bigint; no row is deleted")),
            ("_op", Some("c"), None),
            ("_raw", Some("xx"), Some("xxx")),
        ] {
            assert_eq!((text(name, 0).as_deref(), text(name, 1).as_deref()), (first, second), "{name}");
        }
    }
}
