//! Rows of one ORC file and what the store is asked for: the end, then the parts that may hold them.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{Array, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::kernels::cmp;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use futures::TryStreamExt;
use lakehead_conformance::FaultStore;
use lakehead_core::Settings;
use lakehead_lakefile::{
    Condition, FileFormat, FileIndexes, FileKind, FileWriter, Location, SelectiveFile, read_file, read_head,
};

const ROWS: i64 = 200_000;

/// A file of four stripes, the rows by `id`; `note` is most of it.
struct Stored {
    store: Arc<FaultStore>,
    location: Location,
    size: u64,
}

fn note(id: i64) -> String {
    let words = (1..5).map(|n: i64| id.wrapping_mul(6_364_136_223_846_793_005).wrapping_mul(2_654_435_761 + 2 * n));
    words.map(|word| format!("{word:x}")).collect()
}

impl Stored {
    async fn new(name: &str) -> Self {
        let store = FaultStore::mount(name, 1);
        let location =
            Location::open(&format!("fault://{name}/t"), std::path::Path::new("/"), &Settings::default()).unwrap();
        let fields = vec![Field::new("id", DataType::Int64, true), Field::new("note", DataType::Utf8, true)];
        let schema = Arc::new(Schema::new(fields));
        let format = FileFormat::from_settings(&Settings::default()).of(FileKind::Orc);
        let mut writer =
            FileWriter::create_indexed(&location, "a.orc", &schema, format, &FileIndexes::default()).unwrap();
        for from in (0..ROWS).step_by(ROWS as usize / 4) {
            let ids = from..from + ROWS / 4;
            let notes: StringArray = ids.clone().map(|id| (id % 9 != 0).then(|| note(id))).collect();
            let columns: Vec<Arc<dyn Array>> = vec![Arc::new(ids.collect::<Int64Array>()), Arc::new(notes)];
            writer.write(&RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()).await.unwrap();
            writer.flush().await.unwrap();
        }
        let size = writer.finish().await.unwrap().size;
        assert!(size > 4 << 20, "{size}");
        Self { store, location, size }
    }

    /// Returns the ids of wanted rows, whose notes are looked at, and the bytes that they took.
    async fn select(&self, columns: &[&str], condition: Option<Condition>, limit: usize) -> (Vec<i64>, u64) {
        let before = self.store.bytes_asked();
        let file = SelectiveFile::open(&self.location, "a.orc").await.unwrap();
        let counted = file.bytes_read();
        let columns: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
        let found: Vec<RecordBatch> = file.read(&columns, condition, limit).unwrap().try_collect().await.unwrap();
        let asked = self.store.bytes_asked() - before;
        assert_eq!(counted.load(Ordering::Relaxed), asked, "what is said is what was asked for");
        let mut ids = Vec::new();
        for rows in found {
            let found = rows.column_by_name("id").unwrap().as_primitive::<Int64Type>().values();
            if let Some(notes) = rows.column_by_name("note") {
                let notes = notes.as_string::<i32>().iter();
                let expected = found.iter().map(|id| (id % 9 != 0).then(|| note(*id)));
                assert!(notes.map(|note| note.map(str::to_owned)).eq(expected));
            }
            ids.extend(found);
        }
        (ids, asked)
    }
}

/// `id between least and greatest`; where the extremes say nothing, every part may hold such rows.
fn between(least: i64, greatest: i64) -> Condition {
    Condition {
        columns: vec!["id".to_owned()],
        keeps: Box::new(move |parts, extremes| {
            let Some([from, to, _]) = extremes.get("id") else { return vec![true; parts] };
            let (from, to) = (from.as_primitive::<Int64Type>(), to.as_primitive::<Int64Type>());
            (0..parts).map(|part| from.value(part) <= greatest && least <= to.value(part)).collect()
        }),
        holds: Box::new(move |rows| {
            let ids = rows.column(0).as_primitive::<Int64Type>();
            Ok(BooleanArray::from_unary(ids, |id| (least..=greatest).contains(&id)))
        }),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn few_rows_of_an_orc_file_cost_few_bytes_of_the_store() {
    let stored = Stored::new("parts").await;
    let few = |asked: u64| asked * 8 < stored.size;
    let (ids, asked) = stored.select(&["note", "id"], Some(between(123_456, 123_457)), 20).await;
    assert!(ids == [123_456, 123_457] && few(asked), "{ids:?} {asked} of {}", stored.size);
    let (ids, asked) = stored.select(&["id"], Some(between(77, 80)), 2).await;
    assert!(ids == [77, 78] && few(asked), "{ids:?} {asked}");
    // Over the border of a stripe and of a group.
    let (ids, asked) = stored.select(&["id", "note"], Some(between(49_990, 50_010)), 100).await;
    assert!(ids.iter().copied().eq(49_990..=50_010) && asked * 4 < stored.size, "{ids:?} {asked}");
    let (ids, asked) = stored.select(&["id", "note"], Some(between(-5, -1)), 20).await;
    assert!(ids.is_empty() && asked <= 64 << 10, "what no stripe holds costs the end of the file: {asked}");
    let (ids, asked) = stored.select(&["id", "note"], None, 20).await;
    assert!(ids.iter().copied().eq(0..20) && few(asked), "{ids:?} {asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_rows_cost_every_byte_about_once() {
    let stored = Stored::new("whole").await;
    let about = |asked: u64| asked < stored.size + stored.size / 8;
    let (ids, asked) = stored.select(&["id", "note"], None, usize::MAX).await;
    assert!(ids.iter().copied().eq(0..ROWS) && about(asked), "{asked} of {}", stored.size);
    let (ids, asked) = stored.select(&["id", "note"], Some(between(0, ROWS)), usize::MAX).await;
    assert!(ids.iter().copied().eq(0..ROWS) && about(asked), "{asked} of {}", stored.size);
    let (ids, asked) = stored.select(&["id", "note"], Some(between(40_000, 160_000)), usize::MAX).await;
    assert!(ids.iter().copied().eq(40_000..=160_000) && asked < stored.size, "{asked} of {}", stored.size);

    let before = stored.store.bytes_asked();
    let rows: Vec<RecordBatch> = read_file(&stored.location, "a.orc", None).await.unwrap().try_collect().await.unwrap();
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), ROWS as usize);
    assert!(about(stored.store.bytes_asked() - before));
    let before = stored.store.bytes_asked();
    let ids: Vec<RecordBatch> =
        read_file(&stored.location, "a.orc", Some(&["id".into()])).await.unwrap().try_collect().await.unwrap();
    let id = ids[0].column(0);
    assert_eq!((ids[0].num_columns(), cmp::lt(id, &Int64Array::new_scalar(0)).unwrap().true_count()), (1, 0));
    assert!((stored.store.bytes_asked() - before) * 4 < stored.size, "other columns stay where they are");
    let before = stored.store.bytes_asked();
    assert_eq!(read_head(&stored.location, "a.orc").await.unwrap().rows, ROWS as u64);
    assert!(stored.store.bytes_asked() - before <= 64 << 10);
}
