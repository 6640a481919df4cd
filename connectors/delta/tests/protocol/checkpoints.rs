//! Our checkpoints say what the log says that they stand for.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use arrow::json::LineDelimitedWriter;
use deltalake::DeltaTable;
use lakehead_core::Patience;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::{FileReader, SerializedFileReader};

use serde_json::Value;

use super::golden::{copy, open};
use super::wide::{Model, Wide};

/// What the library makes of a table: its version, and a line for each thing that is part of its state.
async fn state(path: &Path) -> (u64, BTreeSet<String>) {
    let url = deltalake::ensure_table_uri(path.to_str().unwrap()).unwrap();
    let mut table: DeltaTable = deltalake::open_table(url).await.unwrap();
    table.load().await.unwrap();
    let snapshot = table.snapshot().unwrap();
    let mut lines = BTreeSet::new();
    let mut metadata = serde_json::to_value(snapshot.metadata()).unwrap();
    // In any order.
    for (name, value) in metadata["configuration"].take().as_object().unwrap() {
        lines.insert(format!("{name} = {value}"));
    }
    lines.insert(metadata.to_string());
    lines.insert(serde_json::to_string(snapshot.protocol()).unwrap());
    for file in snapshot.log_data().iter() {
        #[allow(deprecated, reason = "the only public way to all of it")]
        let mut add = file.add_action();
        add.data_change = false;
        lines.insert(format!("{add:?}"));
    }
    (snapshot.version(), lines)
}

/// What a `remove` is about: its path, and the vector that went with it.
fn removed(action: &Value) -> Option<String> {
    let remove = action.get("remove").filter(|remove| remove.is_object())?;
    let vector = &remove["deletionVector"];
    let name = |part: &str| vector[part].to_string();
    let vector = if vector.is_object() { name("pathOrInlineDv") + &name("offset") } else { String::new() };
    Some(format!("{} {vector} {} {}", remove["path"], remove["deletionTimestamp"], remove["size"]))
}

/// Holds what a checkpoint of ours keeps of files that went against the entries up to it.
fn check_tombstones(table: &Path, name: &str) {
    let folder = table.join("_delta_log");
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(folder.join(name)).unwrap()).unwrap();
    let mut writer = LineDelimitedWriter::new(Vec::new());
    for rows in reader.build().unwrap() {
        writer.write(&rows.unwrap()).unwrap();
    }
    writer.finish().unwrap();
    let text = String::from_utf8(writer.into_inner()).unwrap();
    let kept: BTreeSet<_> = text.lines().filter_map(|line| removed(&serde_json::from_str(line).unwrap())).collect();
    let version: u64 = name[..20].parse().unwrap();
    let entries = (0..=version).map(|at| std::fs::read_to_string(folder.join(format!("{at:020}.json"))).unwrap());
    let entries: Vec<String> = entries.collect();
    let lines = entries.iter().flat_map(|text| text.lines());
    let expected: BTreeSet<_> = lines.filter_map(|line| removed(&serde_json::from_str(line).unwrap())).collect();
    assert!(expected.len() > 100);
    assert_eq!(kept, expected);
}

/// Removes what checkpoints there are, and whatever points to them.
fn forget_checkpoints(table: &Path) {
    for entry in std::fs::read_dir(table.join("_delta_log")).unwrap() {
        let path = entry.unwrap().path();
        if path.to_str().unwrap().contains("checkpoint") {
            std::fs::remove_file(path).unwrap();
        }
    }
}

/// The names of checkpoints of ours, the oldest first.
fn ours(table: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(table.join("_delta_log")).unwrap() {
        let path = entry.unwrap().path();
        if path.to_str().unwrap().ends_with(".checkpoint.parquet") {
            let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
            if reader.metadata().file_metadata().created_by().unwrap_or_default().starts_with("lakehead") {
                names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_says_what_its_entries_say() {
    let folder = tempfile::tempdir().unwrap();
    let table = Wide::new(folder.path(), &["region"]);
    let mut model = Model::new();
    let mut sink = table.sink();
    sink.open(1).await.unwrap();
    // So many that each checkpoint is carried on from the one before.
    for _ in 0..3 {
        model.rounds(&mut sink, 60, 5, 60).await;
        sink.tend(Patience::ToEnd).await;
        let carried = state(&table.path()).await;
        let other = tempfile::tempdir().unwrap();
        copy(&table.path(), other.path());
        forget_checkpoints(other.path());
        assert_eq!(carried, state(other.path()).await);
    }
    let names = ours(&table.path());
    assert!(names.len() >= 3, "{names:?}");
    names.iter().for_each(|name| check_tombstones(&table.path(), name));
    model.check(&table, "many checkpoints").await;
    drop(sink);
    let mut sink = table.sink();
    assert_eq!(sink.open(1).await.unwrap().mark.seq, model.seq, "our numbers are in it");
}

/// What others wrote is brought into our form, nothing of it is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_spark_is_carried_on() {
    let folder = tempfile::tempdir().unwrap();
    let (table, mut model) = open("checkpointed", folder.path(), &[]);
    let mut sink = table.sink();
    sink.open(1).await.unwrap();
    model.rounds(&mut sink, 60, 5, 300).await;
    sink.tend(Patience::ToEnd).await;
    let name = ours(&table.path()).pop().expect("a checkpoint of ours");
    let carried = state(&table.path()).await;
    // By way of Spark's.
    std::fs::remove_file(table.path().join("_delta_log").join(name)).unwrap();
    std::fs::remove_file(table.path().join("_delta_log/_last_checkpoint")).unwrap();
    assert_eq!(carried, state(&table.path()).await);
    model.check(&table, "a checkpoint behind that of Spark").await;
}
