//! `examples/postgres_mirror` as a test: a live mirror of pgbench, killed with -9 at random, equal to its source after.

use std::process::Command;

use super::lakehead::{binary, root, text};

#[test]
fn a_live_mirror_survives_kill_9_and_equals_its_source() {
    let mut script = Command::new(root().join("examples/postgres_mirror/run.sh"));
    script.env("LAKEHEAD", binary()).env("NO_COLOR", "1");
    for (name, value) in [("KILLS", "20"), ("SECONDS_OF_LOAD", "25")] {
        if std::env::var_os(name).is_none() {
            script.env(name, value);
        }
    }
    // Where readers of other houses are installed, they are asked too; the test command installs them.
    if let Some(python) = std::env::var_os("LAKEHEAD_READERS") {
        script.env("PYTHON", python);
    } else {
        println!("skipped: duckdb and polars absent");
    }
    let output = script.output().unwrap();
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{shown}\n{}", text(&output.stderr));
    assert!(shown.contains("killed 20 times") || std::env::var_os("KILLS").is_some(), "{shown}");
    assert_eq!(shown.matches("same").count(), 4, "{shown}");
}

/// Two processes on one pipeline: the later takes over, the older is fenced, nothing is doubled (delivery 3.8).
#[test]
fn of_two_daemons_the_later_takes_over_and_nothing_is_doubled() {
    use super::lakehead::{command, succeed};
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &["init", "demo"]);
    let demo = folder.path().join("demo");
    // The first stands still inside its round, after its record of the position and before the table's commit.
    let first = command(&demo)
        .args(["run", "hello"])
        .env("LAKEHEAD_FAILPOINTS", "engine.document=delay(3000)")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_document(&demo);
    succeed(&demo, &["run", "hello"]);
    let older = first.wait_with_output().unwrap();
    let said = text(&older.stderr);
    assert!(!older.status.success() && said.contains("R0201"), "{said}");
    // What the older read and did not commit is read by the next run: rows 1..=500 once, then the next ones.
    let third = succeed(&demo, &["run", "hello", "--format", "json"]);
    assert!(third.contains("\"round\":2"), "{third}");
}

/// Waits until the first daemon has written its position, by looking at the folder it writes to.
fn wait_for_document(demo: &std::path::Path) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while std::time::Instant::now() < deadline {
        let found = Command::new("find").arg(demo.join("lake")).args(["-path", "*/pos/*.json"]).output();
        if found.is_ok_and(|found| !found.stdout.is_empty()) {
            return;
        }
        std::thread::yield_now();
    }
    panic!("the first daemon wrote no position");
}
