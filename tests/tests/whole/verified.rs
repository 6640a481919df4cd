//! `lakehead verify` of pipelines whose source is files.

use super::lakehead::{fail, project, succeed};

/// Files may say a key again: the newest row is what the lake holds, and what it is compared with.
#[test]
fn files_that_say_a_key_again_are_verified_by_its_newest_row() {
    let folder = project(
        "connection drops files { path = \"in\" }\nconnection lake delta { path = \"lake\" }\n\
         pipeline last {\n  source rows = drops { path = \"*.csv\", columns = { id = bigint, at = bigint } }\n\
         sink lake { table = \"last\", mode = upsert, key = [id] }\n}\n\
         pipeline ordered {\n  source rows = drops { path = \"*.csv\", columns = { id = bigint, at = bigint } }\n\
         sink lake { table = \"ordered\", mode = upsert, key = [id], sequence_by = at }\n}\n\
         pipeline versions {\n  source rows = drops { path = \"*.csv\", columns = { id = bigint, at = bigint } }\n\
         sink lake { table = \"versions\", mode = scd2, key = [id], sequence_by = at }\n}\n",
    );
    std::fs::create_dir(folder.path().join("in")).unwrap();
    let write = |name: &str, rows: &str| std::fs::write(folder.path().join("in").join(name), format!("id,at\n{rows}"));
    write("1.csv", "1,10\n2,20\n3,30\n").unwrap();
    for pipeline in ["last", "ordered", "versions"] {
        succeed(folder.path(), &["run", pipeline]);
    }
    write("2.csv", "2,25\n3,5\n4,40\n").unwrap();
    for pipeline in ["last", "ordered", "versions"] {
        succeed(folder.path(), &["run", pipeline]);
        let said = succeed(folder.path(), &["verify", pipeline]);
        assert!(said.contains("4              4   same"), "{said}");
        assert!(said.contains("not compared: 2 rows of the source that have a newer one of their key"), "{said}");
    }
    // What is not there is still seen.
    write("1.csv", "1,11\n2,20\n3,30\n").unwrap();
    let said = fail(folder.path(), &["verify", "last"], 4);
    assert!(said.contains("DIFFERS"), "{said}");
}
