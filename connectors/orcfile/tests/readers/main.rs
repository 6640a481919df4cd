//! Files of every type, read by others: pyarrow and chdb, through `check.py`.
//!
//! The Python that has them is named by `LAKEHEAD_READERS`; without it these tests print that they were skipped.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "tests")]

mod data;

use std::fs::File;
use std::path::Path;
use std::process::Command;

use arrow::array::RecordBatch;
use arrow::ipc::writer::FileWriter;
use lakehead_orcfile::{Compression, OrcOptions, OrcSummary, OrcWriter};

fn write(folder: &Path, name: &str, batches: &[RecordBatch], options: OrcOptions) -> OrcSummary {
    let schema = batches[0].schema();
    let file = File::create(folder.join(format!("{name}.orc"))).unwrap();
    let mut writer = OrcWriter::try_new(file, schema.clone(), options).unwrap();
    let mut expected =
        FileWriter::try_new(File::create(folder.join(format!("{name}.arrow"))).unwrap(), &schema).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
        expected.write(batch).unwrap();
    }
    expected.finish().unwrap();
    writer.finish().unwrap()
}

/// Runs `check.py` over a folder; false when there is no Python for it.
fn check(verb: &str, folder: &Path) -> bool {
    let Some(python) = std::env::var_os("LAKEHEAD_READERS") else {
        println!("skipped: LAKEHEAD_READERS names no Python");
        return false;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers/check.py");
    let output = Command::new(python).arg(script).arg(verb).arg(folder).output().unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{said}\n{wrong}");
    true
}

#[test]
fn others_read_every_type_from_every_compression() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let every = data::every_type(25_000, 1);
    let compressions = [Compression::None, Compression::Zlib, Compression::Snappy, Compression::Zstd];
    for compression in compressions {
        let name = format!("{compression:?}").to_lowercase();
        let options = OrcOptions {
            compression,
            stripe_bytes: 2_000_000,
            bloom_columns: ["id", "text", "decimal", "instant", "date", "f64", "list.element"]
                .map(String::from)
                .to_vec(),
            metadata: vec![("who".into(), "wé".into()), ("bytes".into(), vec![0, 255])],
            ..OrcOptions::default()
        };
        // Batches that end inside pieces, row groups and stripes.
        let parts = [every.slice(0, 1), every.slice(1, 9_998), every.slice(9_999, 12_345), every.slice(22_344, 2_656)];
        let summary = write(path, &name, &parts, options);
        assert_eq!(summary.rows, 25_000);
        assert!(summary.stripes > 2, "{} stripes", summary.stripes);
        assert_eq!(summary.bytes, std::fs::metadata(path.join(format!("{name}.orc"))).unwrap().len());
        assert!(summary.last_second_times > 0);
    }
    write(path, "empty", &[every.slice(0, 0)], OrcOptions::default());
    write(path, "null", &[data::all_null(10_001)], OrcOptions::default());
    write(path, "one", &[every.slice(17, 1)], OrcOptions::default());
    check("pyarrow", path);
    check("chdb", path);
}
