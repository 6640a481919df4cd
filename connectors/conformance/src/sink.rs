//! The laws of [`Sink`], by number.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use lakehead_core::{Mark, OP, Outcome, Prepared, Result, Sink, UNCHANGED, reserved_field};

/// How a connector offers one table to the laws: columns `id` (bigint, the key) and `body` (varchar).
#[async_trait]
pub trait SinkUnderTest: Sync {
    /// Builds a new sink over the same table, as a restarted process would.
    fn sink(&self) -> Box<dyn Sink>;
    /// Reads the table with a reader, not with the sink: (id, body), in any order.
    async fn read(&self) -> Vec<(i64, Option<String>)>;
}

/// Returns rows of the table under test: op, id, body, unchanged columns.
pub fn rows(rows: &[(&str, i64, Option<&str>, Option<&str>)]) -> RecordBatch {
    let columns: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.2).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| Some(row.0)).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.3).collect::<StringArray>()),
    ];
    let mut fields: Vec<_> = schema().fields().iter().cloned().collect();
    fields.push(Arc::new(reserved_field(OP)));
    fields.push(Arc::new(reserved_field(UNCHANGED)));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("the columns fit their schema")
}

/// Returns the data columns of the table under test.
fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("body", DataType::Utf8, true)]))
}

fn mark(seq: u64, fence: u64) -> Mark {
    Mark { seq, fence, document: Some(seq * 10), record: None }
}

async fn staged(sink: &mut Box<dyn Sink>, batch: RecordBatch) -> Result<Prepared> {
    sink.stage(batch).await?;
    Ok(sink.prepare().await?.expect("staged rows are something to commit"))
}

async fn read_sorted(table: &dyn SinkUnderTest) -> Vec<(i64, Option<String>)> {
    let mut rows = table.read().await;
    rows.sort();
    rows
}

/// Laws 1 to 6, on a table in `append` or `upsert`.
pub async fn sink_laws(table: &dyn SinkUnderTest) -> Result<()> {
    let mut sink = table.sink();
    let position = sink.open(1).await?;
    assert_eq!(position.mark.seq, 0, "a new table carries no round");

    let prepared = staged(&mut sink, rows(&[("c", 1, Some("a"), None), ("c", 2, Some("b"), None)])).await?;
    assert_eq!(table.read().await, Vec::new(), "law 1: staged rows are invisible");

    // Law 6: what was prepared survives as text, in another process.
    let text = serde_json::to_string(&prepared).expect("a prepared round is JSON");
    let again: Prepared = serde_json::from_str(&text).expect("and reads back");
    let mut restarted = table.sink();
    restarted.open(2).await?;
    let outcome = restarted.commit(&again, mark(1, 2)).await?;
    assert!(matches!(outcome, Outcome::Committed(_)), "law 6: {outcome:?}");
    assert_eq!(read_sorted(table).await.len(), 2, "law 2: the round is whole");

    // Law 3, from the same and from another process; law 4: the first owner is fenced for good.
    assert_eq!(restarted.commit(&again, mark(1, 2)).await?, Outcome::AlreadyCommitted, "law 3");
    let late = staged(&mut sink, rows(&[("c", 9, Some("late"), None)])).await?;
    assert_eq!(sink.commit(&late, mark(2, 1)).await?, Outcome::Fenced(2), "law 4");
    assert_eq!(read_sorted(table).await.len(), 2, "laws 3 and 4 changed nothing");

    let mut third = table.sink();
    let position = third.open(3).await?;
    assert_eq!((position.mark.seq, position.mark.document), (1, Some(10)), "the table says what it carries");
    assert_eq!(third.commit(&again, mark(1, 3)).await?, Outcome::AlreadyCommitted, "law 3, after a restart");
    let stale = third.open(2).await;
    assert!(stale.is_err(), "a lower fence may not open the table");
    Ok(())
}

/// Laws 7 and 9: the meaning of changes, on a table in `upsert`.
pub async fn upsert_laws(table: &dyn SinkUnderTest) -> Result<()> {
    let mut sink = table.sink();
    sink.open(1).await?;
    let rounds = [
        rows(&[("r", 1, Some("one"), None), ("r", 2, Some("two"), None), ("r", 3, Some("three"), None)]),
        // Update, delete, insert; a deleted key comes back in the same round; the last change wins.
        rows(&[
            ("u", 1, Some("ONE"), None),
            ("d", 2, None, None),
            ("c", 4, Some("four"), None),
            ("d", 3, None, None),
            ("c", 3, Some("drei"), None),
            ("u", 4, Some("vier"), None),
        ]),
        // Case 33: an unsent value keeps the table's; case 34: or an earlier one of the round; case 36: a key change.
        rows(&[
            ("u", 1, None, Some("body")),
            ("c", 5, Some("five"), None),
            ("u", 5, None, Some("body")),
            ("d", 4, None, None),
            ("c", 40, None, Some("body")),
        ]),
    ];
    for (number, batch) in rounds.into_iter().enumerate() {
        // Law 9: what is staged may leave the memory at any time.
        let half = if number < 2 { batch.num_rows() / 2 } else { 0 };
        if half > 0 {
            sink.stage(batch.slice(0, half)).await?;
            sink.let_go().await?;
            assert_eq!(sink.held_bytes(), 0, "law 9: it was let go of");
        }
        let prepared = staged(&mut sink, batch.slice(half, batch.num_rows() - half)).await?;
        sink.commit(&prepared, mark(number as u64 + 1, 1)).await?;
    }
    let text = |body: &str| Some(body.to_owned());
    assert_eq!(
        read_sorted(table).await,
        [(1, text("ONE")), (3, text("drei")), (5, text("five")), (40, text("vier"))],
        "laws 7 and 9"
    );
    sink.stage(rows(&[("c", 6, Some("gone"), None)])).await?;
    sink.truncate().await?;
    let prepared = staged(&mut sink, rows(&[("c", 7, Some("stays"), None)])).await?;
    sink.commit(&prepared, mark(4, 1)).await?;
    assert_eq!(read_sorted(table).await, [(7, text("stays"))], "case 41: truncated in order");
    Ok(())
}
