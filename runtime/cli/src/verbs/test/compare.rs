//! What came out against what a test expects: the columns it names, by value, rows in any order.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use lakehead_core::{Error, Result};
use lakehead_memory::MemoryStore;
use lakehead_plan::{DEAD_LETTER_COLUMNS, NodeKind, Plan, TestCase, TestTable};

use super::given::typed;
use crate::project::Loaded;

/// The table of dead letters in the store.
pub(super) const DEAD_LETTER: &str = "dead_letter";

/// Returns the name of a sink's table in the store.
pub(super) fn sink_key(node: usize) -> String {
    format!("sink {node}")
}

/// Compares every `then`; the texts say what differs.
pub(super) fn compare(loaded: &Loaded, plan: &Plan, case: &TestCase, store: &MemoryStore) -> Result<Vec<String>> {
    let mut failures = Vec::new();
    for then in &case.then {
        let table = find(plan, then)?;
        let rows = store.rows(&table);
        let rows = if table == DEAD_LETTER { rows.map(|rows| open_raw(&rows, then)).transpose()? } else { rows };
        failures.extend(differences(loaded, then, rows.as_ref())?);
    }
    Ok(failures)
}

fn find(plan: &Plan, then: &TestTable) -> Result<String> {
    let (head, member) = then.node.split_once('.').map_or((then.node.as_str(), None), |(a, b)| (a, Some(b)));
    if head == DEAD_LETTER {
        return Ok(DEAD_LETTER.into());
    }
    for (number, node) in plan.nodes.iter().enumerate() {
        let NodeKind::Sink(sink) = &node.kind else { continue };
        let stream = &plan.streams[sink.input.0].name;
        let is_member = member.is_none_or(|member| stream.rsplit('.').next() == Some(member));
        if node.name == head && is_member {
            return Ok(sink_key(number));
        }
    }
    Err(Error::user("E0804", format!("no table `{}` is written", then.node)))
}

/// Reads columns outside the fixed schema out of `_raw`.
fn open_raw(rows: &RecordBatch, then: &TestTable) -> Result<RecordBatch> {
    let raws = rows
        .column_by_name("_raw")
        .and_then(|column| column.as_any().downcast_ref::<StringArray>())
        .ok_or_else(|| Error::bug("dead letters have no _raw"))?;
    let mut fields: Vec<_> = rows.schema().fields().iter().cloned().collect();
    let mut columns = rows.columns().to_vec();
    for name in then.header.iter().filter(|name| !DEAD_LETTER_COLUMNS.contains(&name.as_str())) {
        let value = |raw: Option<&str>| -> Option<String> {
            let row: serde_json::Value = serde_json::from_str(raw?).ok()?;
            match row.get(name)? {
                serde_json::Value::Null => None,
                serde_json::Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            }
        };
        let column: StringArray = raws.iter().map(value).collect();
        fields.push(Arc::new(Field::new(name, DataType::Utf8, true)));
        columns.push(Arc::new(column) as ArrayRef);
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

fn differences(loaded: &Loaded, then: &TestTable, rows: Option<&RecordBatch>) -> Result<Option<String>> {
    if let Some(path) = &then.path {
        return compare_file(loaded, then, path, rows);
    }
    let got_count = rows.map_or(0, RecordBatch::num_rows);
    let Some(rows) = rows else {
        return Ok((!then.rows.is_empty())
            .then(|| format!("{}\n{}\n+ nothing came", then.node, table_text(then, &expected_texts(then), "-"))));
    };
    if then.rows.is_empty() {
        return Ok((got_count > 0)
            .then(|| format!("{}\n+ {got_count} rows came, and none were expected\n{}", then.node, preview(rows))));
    }
    let mut expected_columns = Vec::new();
    let mut got_columns = Vec::new();
    for (n, name) in then.header.iter().enumerate() {
        let Some(got) = rows.column_by_name(name) else {
            let names: Vec<String> = rows.schema().fields().iter().map(|f| f.name().clone()).collect();
            return Ok(Some(format!("{} has no column `{name}`\nthere are: {}", then.node, names.join(", "))));
        };
        let cells: Vec<Option<&str>> =
            then.rows.iter().map(|row| row.get(n).and_then(|cell| cell.value.as_deref())).collect();
        expected_columns.push(texts(&typed(&cells, got.data_type(), &then.node, name)?)?);
        got_columns.push(texts(got)?);
    }
    let expected = transpose(&expected_columns, then.rows.len());
    let got = transpose(&got_columns, got_count);
    Ok(report(then, &expected, &got))
}

fn compare_file(loaded: &Loaded, then: &TestTable, path: &str, rows: Option<&RecordBatch>) -> Result<Option<String>> {
    let Some(rows) = rows else { return Ok(Some(format!("{}: nothing came", then.node))) };
    let expected = super::given::read_file(&loaded.root.join(path), &rows.schema())?;
    let header: Vec<String> = rows.schema().fields().iter().map(|field| field.name().clone()).collect();
    let all = |batch: &RecordBatch| -> Result<Vec<Vec<String>>> {
        let columns = batch.columns().iter().map(texts).collect::<Result<Vec<_>>>()?;
        Ok(transpose(&columns, batch.num_rows()))
    };
    let then = TestTable { header, ..then.clone() };
    Ok(report(&then, &all(&expected)?, &all(rows)?))
}

fn texts(array: &ArrayRef) -> Result<Vec<String>> {
    let options = FormatOptions::default().with_null("");
    let formatter = ArrayFormatter::try_new(array, &options)?;
    let text = |row: usize| {
        let text = formatter.value(row).to_string();
        if array.is_valid(row) && text.is_empty() { "\"\"".to_owned() } else { text }
    };
    Ok((0..array.len()).map(text).collect())
}

fn transpose(columns: &[Vec<String>], rows: usize) -> Vec<Vec<String>> {
    (0..rows).map(|row| columns.iter().map(|column| column[row].clone()).collect()).collect()
}

fn expected_texts(then: &TestTable) -> Vec<Vec<String>> {
    then.rows.iter().map(|row| row.iter().map(|cell| cell.value.clone().unwrap_or_default()).collect()).collect()
}

fn report(then: &TestTable, expected: &[Vec<String>], got: &[Vec<String>]) -> Option<String> {
    let mut left = got.to_vec();
    let mut missing = Vec::new();
    for row in expected {
        match left.iter().position(|other| other == row) {
            Some(place) => {
                left.remove(place);
            }
            None => missing.push(row.clone()),
        }
    }
    if missing.is_empty() && left.is_empty() {
        return None;
    }
    let header = table_text(then, std::slice::from_ref(&then.header), " ");
    Some(format!(
        "{}\n{header}\n{}{}",
        then.node,
        table_text(then, &missing, "-"),
        suffix(&table_text(then, &left, "+"))
    ))
}

fn suffix(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("\n{text}") }
}

fn table_text(then: &TestTable, rows: &[Vec<String>], mark: &str) -> String {
    let width = |n: usize| {
        then.header[n]
            .chars()
            .count()
            .max(rows.iter().map(|r| r.get(n).map_or(0, |c| c.chars().count())).max().unwrap_or(0))
    };
    let line = |row: &Vec<String>| {
        let cells: Vec<String> =
            row.iter().enumerate().map(|(n, cell)| format!("{cell:<width$}", width = width(n).max(12))).collect();
        format!("{mark} | {} |", cells.join(" | "))
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn preview(rows: &RecordBatch) -> String {
    arrow::util::pretty::pretty_format_batches(&[rows.slice(0, rows.num_rows().min(5))])
        .map_or_else(|_| String::new(), |t| t.to_string())
}
