//! The laws of [`Source`] that need no knowledge of the system behind it.

use arrow::array::RecordBatch;
use lakehead_core::{BatchBudget, Checkpoint, Result, Source, SourceEvent};

/// How a connector offers a bounded source to the laws.
pub trait SourceUnderTest: Sync {
    /// Builds a new source over the same data, as a restarted process would.
    fn source(&self) -> Box<dyn Source>;
}

/// Rows of a batch that the laws ask for: few, so that every source must cut.
const ROWS_MAX: usize = 100;

/// Reads to the end; returns the rows and the checkpoints passed, with the rows before each.
async fn drain(mut source: Box<dyn Source>, from: &Checkpoint) -> Result<(Vec<RecordBatch>, Vec<(usize, Checkpoint)>)> {
    source.open(from).await?;
    let (mut rows, mut passed) = (Vec::new(), Vec::new());
    loop {
        match source.next(BatchBudget { rows_max: ROWS_MAX, bytes_max: 1 << 20 }).await? {
            SourceEvent::Changes(batch) => {
                assert!(batch.rows.num_rows() <= ROWS_MAX, "law 7: a batch keeps to its budget");
                rows.push(batch.rows);
            }
            SourceEvent::Progress(checkpoint) => {
                let count = rows.iter().map(RecordBatch::num_rows).sum();
                passed.push((count, checkpoint));
            }
            SourceEvent::End => break,
            _ => {}
        }
    }
    source.close().await?;
    Ok((rows, passed))
}

fn texts(batches: &[RecordBatch]) -> Vec<String> {
    use arrow::util::display::{ArrayFormatter, FormatOptions};
    let options = FormatOptions::default().with_null("NULL");
    let mut texts = Vec::new();
    for batch in batches {
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options).expect("every column can be shown"))
            .collect();
        for row in 0..batch.num_rows() {
            texts.push(columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|"));
        }
    }
    texts
}

/// Laws 1, 3 and 7: opened at any checkpoint it emitted, a source delivers exactly the rows that follow it.
pub async fn source_laws(under_test: &dyn SourceUnderTest) -> Result<()> {
    let (whole, passed) = drain(under_test.source(), &Checkpoint::default()).await?;
    let whole = texts(&whole);
    assert!(!passed.is_empty(), "law 3: a source says where a round may end");
    assert_eq!(
        passed.last().map(|(count, _)| *count),
        Some(whole.len()),
        "the last event before the end is a progress"
    );
    for (count, checkpoint) in &passed[..passed.len() - 1] {
        let (rest, _) = drain(under_test.source(), checkpoint).await?;
        assert_eq!(texts(&rest), whole[*count..], "law 1: resumed behind {count} rows");
    }
    Ok(())
}
