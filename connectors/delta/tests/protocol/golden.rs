//! Tables that Spark wrote with deletion vectors (`tests/golden`, and how they were made): read, and gone on with.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lakehead_core::{Patience, Sink, WriteMode};
use serde_json::{Value, json};

use super::wide::{Model, Wide, same};

pub(crate) const TABLES: [(&str, &[&str]); 5] =
    [("plain", &[]), ("partitioned", &["region"]), ("checkpointed", &[]), ("optimized", &[]), ("v2_checkpoint", &[])];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Copies a golden table into `folder`, and returns it with what Spark read in it.
pub(crate) fn open(name: &str, folder: &Path, partition_by: &'static [&'static str]) -> (Wide, Model) {
    let table = Wide::new(folder, partition_by);
    copy(&golden().join(name), &table.path());
    let mut model = Model::new();
    model.take_lines(&std::fs::read_to_string(golden().join(format!("{name}.rows"))).unwrap());
    (table, model)
}

#[tokio::test]
async fn a_table_of_spark_is_read_as_spark_reads_it() {
    for (name, partition_by) in TABLES {
        let folder = tempfile::tempdir().unwrap();
        let (table, model) = open(name, folder.path(), partition_by);
        assert!(model.rows.len() > 100);
        model.check_alone(&table, name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn upserts_go_on_in_a_table_of_spark() {
    for (name, partition_by) in TABLES {
        let folder = tempfile::tempdir().unwrap();
        let (table, mut model) = open(name, folder.path(), partition_by);
        let mut sink = table.sink();
        sink.open(1).await.unwrap();
        for round in 0..4 {
            // So many that small files of both writers are merged.
            model.rounds(&mut sink, 5, 30, 300).await;
            let after = format!("{name}, round {round}");
            if name == "v2_checkpoint" {
                // Polars refuses the feature.
                model.check_alone(&table, &after).await;
            } else {
                model.check(&table, &after).await;
            }
        }
    }
}

/// To Spark, a path that is escaped in another way is another file: taken out under that, it would stay.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_taken_out_under_the_very_name_it_came_with() {
    let folder = tempfile::tempdir().unwrap();
    let (table, mut model) = open("partitioned", folder.path(), &["region"]);
    // What is loaded with the table, and what is followed entry by entry.
    for _ in 0..2 {
        let mut sink = table.sink();
        sink.open(1).await.unwrap();
        model.rounds(&mut sink, 12, 30, 300).await;
        sink.tend(Patience::ToEnd).await;
    }
    let (mut added, mut removed) = (BTreeSet::new(), BTreeSet::new());
    for action in log(&table) {
        for (kind, paths) in [("add", &mut added), ("remove", &mut removed)] {
            paths.extend(action[kind]["path"].as_str().map(str::to_owned));
        }
    }
    assert!(removed.iter().any(|path| path.contains("R&D")), "which other writers spell R%26D");
    assert_eq!(removed.difference(&added).collect::<Vec<_>>(), Vec::<&String>::new());
}

/// Returns what the entries of the table's log say, in their order.
fn log(table: &Wide) -> Vec<Value> {
    let entries = std::fs::read_dir(table.path().join("_delta_log")).unwrap().map(|entry| entry.unwrap().path());
    let mut entries: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    entries.sort();
    let texts = entries.iter().map(|path| std::fs::read_to_string(path).unwrap());
    texts.flat_map(|text| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>()).collect()
}

fn checkpoint(table: &Wide) -> u64 {
    let hint = std::fs::read_to_string(table.path().join("_delta_log/_last_checkpoint")).unwrap();
    serde_json::from_str::<Value>(&hint).unwrap()["version"].as_u64().unwrap()
}

/// Writes so many rounds that a checkpoint of ours stands behind those of Spark.
pub(crate) async fn rounds_to_a_checkpoint(table: &Wide, model: &mut Model, sink: &mut Box<dyn Sink>) {
    let before = checkpoint(table);
    model.rounds(sink, 52, 3, 300).await;
    sink.tend(Patience::ToEnd).await;
    assert!(checkpoint(table) > before + 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn our_checkpoint_follows_that_of_spark() {
    for name in ["checkpointed", "v2_checkpoint"] {
        let folder = tempfile::tempdir().unwrap();
        let (table, mut model) = open(name, folder.path(), &[]);
        let mut sink = table.sink();
        sink.open(1).await.unwrap();
        rounds_to_a_checkpoint(&table, &mut model, &mut sink).await;
        model.check_alone(&table, name).await;
        drop(sink);
        let mut sink = table.sink();
        assert_eq!(sink.open(1).await.unwrap().mark.seq, model.seq);
        model.rounds(&mut sink, 3, 30, 300).await;
        model.check_alone(&table, name).await;
    }
}

/// Writes the next entry of the table's log as another writer would; `change` is given the table's metadata and protocol.
fn foreign_entry(table: &Wide, change: impl Fn(&mut Value, &mut Value)) {
    let (mut metadata, mut protocol, mut version) = (Value::Null, Value::Null, 0);
    for action in log(table) {
        for (name, held) in [("metaData", &mut metadata), ("protocol", &mut protocol)] {
            if action[name].is_object() {
                held.clone_from(&action[name]);
            }
        }
        version += u64::from(action["commitInfo"].is_object());
    }
    change(&mut metadata, &mut protocol);
    let body = format!("{}\n{}\n", json!({ "metaData": metadata }), json!({ "protocol": protocol }));
    std::fs::write(table.path().join(format!("_delta_log/{version:020}.json")), body).unwrap();
}

fn property(name: &'static str, value: &'static str) -> impl Fn(&mut Value, &mut Value) {
    move |metadata, _| metadata["configuration"][name] = value.into()
}

/// Declares a feature to writers, and sets the property that uses it.
fn feature(name: &'static str, used_by: &'static str, value: &'static str) -> impl Fn(&mut Value, &mut Value) {
    move |metadata, protocol| {
        protocol["writerFeatures"].as_array_mut().unwrap().push(name.into());
        metadata["configuration"][used_by] = value.into();
    }
}

/// What another writer turns on stops us at our next round, not only when the table is opened.
#[tokio::test]
async fn a_feature_turned_on_between_rounds_is_noticed() {
    type Turn = Box<dyn Fn(&mut Value, &mut Value)>;
    let turns: [(Turn, &str); 5] = [
        (Box::new(|metadata, _| metadata["partitionColumns"] = json!(["region"])), "R0214"),
        (Box::new(feature("checkConstraints", "delta.constraints.c", "id > 0")), "R0206"),
        (Box::new(feature("columnMapping", "delta.columnMapping.mode", "name")), "R0206"),
        (Box::new(property("delta.setTransactionRetentionDuration", "interval 30 days")), "R0207"),
        (Box::new(property("delta.appendOnly", "true")), "R0232"),
    ];
    for (turn, code) in turns {
        let folder = tempfile::tempdir().unwrap();
        let (table, mut model) = open("plain", folder.path(), &[]);
        let mut sink = table.sink();
        sink.open(1).await.unwrap();
        model.rounds(&mut sink, 2, 30, 300).await;
        foreign_entry(&table, turn);
        let held = model.clone();
        let changes = model.round(30, 300);
        assert_eq!(model.commit(&mut sink, &changes).await.unwrap_err().code(), code);
        let reopened = table.sink().open(2).await;
        // What is asked of rounds is no reason against opening.
        assert_eq!(reopened.is_ok(), code == "R0232");
        match table.lines().await {
            Ok(lines) => same(&lines, &held.lines(), "our source", code),
            // The columns of this one are mapped to no names.
            Err(error) => assert_eq!((error.code(), code), ("R0209", "R0206")),
        }
    }
}

/// New rows may come where rows may not go.
#[tokio::test]
async fn a_table_that_is_only_appended_to_takes_new_rows() {
    let folder = tempfile::tempdir().unwrap();
    let (mut table, mut model) = open("plain", folder.path(), &[]);
    table.mode = WriteMode::Append;
    foreign_entry(&table, property("delta.appendOnly", "true"));
    let mut sink = table.sink();
    sink.open(1).await.unwrap();
    for round in 0..12 {
        let row = [Some("north".to_owned()), None, Some("1.00".to_owned()), None];
        model.rows.insert(1000 + round, row.clone());
        model.commit(&mut sink, &[("c", 1000 + round, row, None)]).await.unwrap();
        sink.tend(Patience::Between).await;
    }
    sink.tend(Patience::ToEnd).await;
    model.check_alone(&table, "twelve rounds").await;
}

/// `not null` is kept: a round that breaks it is refused whole, and any other goes on.
#[tokio::test]
async fn a_value_that_the_table_asks_for_may_not_lack() {
    let folder = tempfile::tempdir().unwrap();
    let (table, mut model) = open("plain", folder.path(), &[]);
    foreign_entry(&table, |metadata, _| {
        let mut columns: Value = serde_json::from_str(metadata["schemaString"].as_str().unwrap()).unwrap();
        columns["fields"][1]["nullable"] = false.into();
        metadata["schemaString"] = columns.to_string().into();
    });
    let mut sink = table.sink();
    sink.open(1).await.unwrap();
    let row = |region: Option<&str>| [region.map(str::to_owned), Some("b".into()), None, None];
    model.rows.insert(3, row(Some("north")));
    model.commit(&mut sink, &[("u", 3, row(Some("north")), None)]).await.unwrap();
    let refused = model.commit(&mut sink, &[("u", 4, row(None), None)]).await;
    assert_eq!(refused.unwrap_err().code(), "R0233");
    model.check_alone(&table, "a row without a region").await;
}
