//! Tables that Spark wrote with deletion vectors (`tests/golden`, and how they were made): read, and gone on with.

use std::path::{Path, PathBuf};

use super::wide::{Model, Wide};

pub(crate) const TABLES: [(&str, &[&str]); 5] =
    [("plain", &[]), ("partitioned", &["region"]), ("checkpointed", &[]), ("optimized", &[]), ("v2_checkpoint", &[])];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn copy(from: &Path, to: &Path) {
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
