//! The laws of [`Source`] that need no knowledge of the system behind it.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use lakehead_core::{BatchBudget, Checkpoint, Result, Source, SourceEvent};

/// How a connector offers a source to the laws.
pub trait SourceUnderTest: Sync {
    /// Builds a new source over the same data, as a restarted process would.
    fn source(&self) -> Box<dyn Source>;

    /// Returns where the reading begins; the beginning that the settings declare, unless said otherwise.
    fn start(&self) -> Checkpoint {
        Checkpoint::default()
    }

    /// Returns how many rows lie behind [`SourceUnderTest::start`], for a source that never ends; it is left at the
    /// first progress behind them.
    fn rows_of_endless(&self) -> Option<usize> {
        None
    }
}

/// Rows of a batch that the laws ask for: few, so that every source must cut.
const ROWS_MAX: usize = 100;

/// Every row as text behind its table's name, in the order of delivery.
type Lines = Vec<(String, String)>;

/// Reads to the end, of an endless source to the progress behind `enough` rows; returns the rows and the checkpoints
/// passed, with the number of rows before each.
async fn drain(
    mut source: Box<dyn Source>,
    from: &Checkpoint,
    enough: Option<usize>,
) -> Result<(Lines, Vec<(usize, Checkpoint)>)> {
    source.open(from).await?;
    let (mut lines, mut passed) = (Vec::new(), Vec::<(usize, Checkpoint)>::new());
    while enough.is_none() || passed.last().is_none_or(|(count, _)| Some(*count) < enough) {
        match source.next(BatchBudget { rows_max: ROWS_MAX, bytes_max: 1 << 20 }).await? {
            SourceEvent::Changes(batch) => {
                assert!(batch.rows.num_rows() <= ROWS_MAX, "law 7: a batch keeps to its budget");
                lines.extend(texts(&batch.rows).into_iter().map(|text| (batch.table.clone(), text)));
            }
            SourceEvent::Progress(checkpoint) => passed.push((lines.len(), checkpoint)),
            SourceEvent::End => break,
            _ => {}
        }
    }
    source.close().await?;
    Ok((lines, passed))
}

fn texts(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<ArrayRef> = batch.columns().iter().map(unzoned).collect();
    let columns: Vec<_> = columns
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &options).expect("every column can be shown"))
        .collect();
    let row_text = |row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|");
    (0..batch.num_rows()).map(row_text).collect()
}

/// A zoned time is shown in UTC without its zone: the formatter knows no zone names.
fn unzoned(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Timestamp(unit, Some(_)) => {
            cast(column, &DataType::Timestamp(*unit, None)).expect("a zone can be left out")
        }
        _ => Arc::clone(column),
    }
}

/// Laws 1, 2, 3 and 7: opened at any checkpoint it emitted, a source delivers exactly the rows that follow it, those of a
/// table in their order.
pub async fn source_laws(under_test: &dyn SourceUnderTest) -> Result<()> {
    let enough = under_test.rows_of_endless();
    let (whole, passed) = drain(under_test.source(), &under_test.start(), enough).await?;
    assert_eq!(passed.last().map(|(count, _)| *count), Some(whole.len()), "law 3: the last event is a progress");
    for (count, checkpoint) in &passed[..passed.len() - 1] {
        let rest = enough.map(|enough| enough - count);
        let (rest, _) = drain(under_test.source(), checkpoint, rest).await?;
        assert_same(by_table(rest), by_table(whole[*count..].to_vec()), *count);
    }
    Ok(())
}

/// Tables may be delivered in any order between two progresses; the rows of one may not.
fn by_table(mut lines: Lines) -> Lines {
    lines.sort_by(|one, other| one.0.cmp(&other.0));
    lines
}

fn assert_same(found: Lines, expected: Lines, count: usize) {
    let numbers = (found.len(), expected.len());
    let first = found.into_iter().zip(expected).find(|(found, expected)| found != expected);
    assert!(
        first.is_none() && numbers.0 == numbers.1,
        "law 1: resumed behind {count} rows, (delivered, expected): {numbers:?}; first to differ {first:?}"
    );
}
