//! Small whole stories: a project, a few commands, what stands in the lake.

use super::lakehead::{command, fail, project, run, succeed, text};

#[test]
fn a_new_project_runs_at_once_and_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &["init", "demo"]);
    let demo = folder.path().join("demo");
    succeed(&demo, &["test"]);
    let first = succeed(&demo, &["run", "hello"]);
    assert!(first.contains("500 rows read"), "{first}");
    let second = succeed(&demo, &["run", "hello"]);
    assert!(second.contains("version 4"), "{second}");
    let status = succeed(&demo, &["status"]);
    assert!(status.contains("hello") && status.contains("ok"), "{status}");
}

#[test]
fn losing_the_ledger_loses_no_position() {
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &["init", "demo"]);
    let demo = folder.path().join("demo");
    succeed(&demo, &["run", "hello"]);
    std::fs::remove_dir_all(demo.join(".lakehead")).unwrap();
    succeed(&demo, &["run", "hello"]);
    let verified = succeed(&demo, &["run", "hello", "--format", "json"]);
    assert!(verified.contains("\"round\":3"), "{verified}");
}

/// Every failpoint of the loop, hit by abort: after a restart the table holds each row once (faults F1, case 75).
#[test]
fn a_crash_at_every_step_of_the_commit_loop_loses_and_doubles_nothing() {
    for point in POINTS {
        for passes in ["", "1*", "2*"] {
            let folder = project(TWO_TABLES);
            let crashed = command(folder.path())
                .args(["run", "split"])
                .env("LAKEHEAD_FAILPOINTS", format!("{point}={passes}abort"))
                .output()
                .unwrap();
            succeed(folder.path(), &["run", "split"]);
            let rows = rows_of(folder.path());
            // One run, or two where the first was complete before it died.
            let whole = [1000, 2000];
            assert!(whole.contains(&rows), "{point}={passes}abort left {rows} rows\n{}", text(&crashed.stderr));
        }
    }
}

/// A row is routed by chance, so that another evaluation would choose otherwise; the process dies between the commits of
/// the two tables. The recorded round is finished with its own files: each row stands once.
#[test]
fn a_crash_between_two_tables_whose_routing_changes_doubles_and_loses_nothing() {
    for passes in ["", "1*"] {
        let folder = project(&TWO_TABLES.replace("amount < 100 }", "random() < 0.5 }").replace("\ntest ", "\n# test "));
        let file = std::fs::read_to_string(folder.path().join("p.lake")).unwrap();
        let without_test = file.split("# test ").next().unwrap().to_owned();
        std::fs::write(folder.path().join("p.lake"), without_test).unwrap();
        let crashed = command(folder.path())
            .args(["run", "split"])
            .env("LAKEHEAD_FAILPOINTS", format!("engine.committed_one={passes}abort"))
            .output()
            .unwrap();
        assert!(!crashed.status.success());
        let again = succeed(folder.path(), &["run", "split"]);
        assert!(passes == "1*" || again.contains("of an earlier process finished"), "{again}");
        let rows = rows_of(folder.path());
        assert_eq!(rows, 2000, "one round of each run, whole: {again}");
    }
}

/// The same steps with an error, or a pause, in place of the crash: the retry inside the process finishes the run.
#[test]
fn an_error_or_a_pause_at_every_step_changes_nothing() {
    for point in POINTS.iter().chain(&["delta.put.answer", "delta.merge"]) {
        for action in ["error", "1*error", "delay(30)"] {
            let folder = project(TWO_TABLES);
            let output = command(folder.path())
                .args(["run", "split"])
                .env("LAKEHEAD_FAILPOINTS", format!("{point}={action}"))
                .output()
                .unwrap();
            assert!(output.status.success(), "{point}={action}: {}", text(&output.stderr));
            assert_eq!(rows_of(folder.path()), 1000, "{point}={action}");
        }
    }
}

/// Every step of the commit loop that a process can die at, one name each.
const POINTS: [&str; 13] = [
    "engine.take",
    "engine.taken",
    "engine.fenced",
    "engine.evaluated",
    "engine.prepared",
    "engine.document",
    "engine.recorded",
    "engine.committed_one",
    "engine.committed",
    "delta.fence",
    "delta.stage.close",
    "delta.prepared",
    "delta.put",
];

pub(crate) const TWO_TABLES: &str = r#"
connection lake delta { path = "lake" }

pipeline split {
  source orders = generate { rows = 1000, columns = { id = sequence(), amount = money(1, 500) } }
  route {
    small when { amount < 100 }
    else large
  }
  sink a = lake from small { table = "small", mode = append }
  sink b = lake from large { table = "large", mode = append }
  retry { max = 3, backoff = 10ms }
}

test "each goes one way" of split {
  given orders {
    | id | amount |
    | 1  | 5.00   |
  }
  then a {
    | id |
    | 1  |
  }
  then b empty
}
"#;

/// Counts the rows of both tables, by reading them back through a pipeline of their own.
pub(crate) fn rows_of(folder: &std::path::Path) -> u64 {
    let mut total = 0;
    for table in ["small", "large"] {
        let log = folder.join("lake").join(table).join("_delta_log");
        let mut names: Vec<_> = std::fs::read_dir(&log).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        for name in names.iter().filter(|name| name.extension().is_some_and(|e| e == "json")) {
            for line in std::fs::read_to_string(name).unwrap().lines() {
                let action: serde_json::Value = serde_json::from_str(line).unwrap();
                if let Some(stats) = action["add"]["stats"].as_str() {
                    let stats: serde_json::Value = serde_json::from_str(stats).unwrap();
                    total += stats["numRecords"].as_u64().unwrap();
                }
            }
        }
    }
    total
}

#[test]
fn a_wrong_pipeline_name_says_what_was_meant() {
    let folder = project(TWO_TABLES);
    let output = fail(folder.path(), &["run", "splot"], 1);
    assert!(output.contains("did you mean `split`?"), "{output}");
}

/// An upsert that dies at any step of its commit: whole on both sides of it, and every key stands once.
#[test]
fn an_upsert_that_dies_at_any_step_leaves_every_key_once() {
    let file = "connection drops files { path = \"in\" }\nconnection lake delta { path = \"lake\" }\n\
        pipeline p {\n  source rows = drops { path = \"*.csv\", columns = { id = bigint, n = bigint } }\n  \
        sink lake { table = \"t\", mode = upsert, key = [id] }\n}\n";
    for point in
        ["delta.stage.close", "delta.prepared", "delta.merge", "delta.vectors", "delta.vectors.put", "delta.put"]
    {
        for end in ["abort", "error", "delay(20)"] {
            let folder = project(file);
            std::fs::create_dir(folder.path().join("in")).unwrap();
            let write = |name: &str, ids: std::ops::Range<i64>, n: i64| {
                let rows: String = ids.map(|id| format!("{id},{n}\n")).collect();
                std::fs::write(folder.path().join("in").join(name), format!("id,n\n{rows}")).unwrap();
            };
            write("1.csv", 0..100, 1);
            succeed(folder.path(), &["run", "p"]);
            write("2.csv", 50..120, 2);
            let died = command(folder.path())
                .args(["run", "p"])
                .env("LAKEHEAD_FAILPOINTS", format!("{point}={end}"))
                .output()
                .unwrap();
            // An error passes, and the run is made again by itself.
            let (said, aborts) = (text(&died.stderr), end == "abort");
            assert!(died.status.success() != aborts, "{point}={end}\n{said}");
            assert_eq!(said.contains("R0003"), end == "error", "{point}={end}\n{said}");
            write("3.csv", 110..130, 3);
            succeed(folder.path(), &["run", "p"]);
            assert_eq!(live_rows(&folder.path().join("lake/t")), 130, "{point}={end}");
        }
    }
}

/// Files are merged at the end of a run: a process that dies over it has changed no row, and the next run merges them.
#[test]
fn a_merge_that_dies_changes_no_row_and_is_made_again() {
    let file = "connection drops files { path = \"in\" }\nconnection lake delta { path = \"lake\" }\n\
        pipeline p {\n  source rows = drops { path = \"*.csv\", columns = { id = bigint, n = bigint } }\n  \
        sink lake { table = \"t\", mode = upsert, key = [id] }\n}\n";
    for (point, end) in [("delta.merge.files", "abort"), ("delta.compact", "abort"), ("delta.compact", "error")] {
        let folder = project(file);
        std::fs::create_dir(folder.path().join("in")).unwrap();
        let write = |number: i64| {
            let rows: String = (0..40).map(|id| format!("{},{number}\n", id * number)).collect();
            std::fs::write(folder.path().join(format!("in/{number}.csv")), format!("id,n\n{rows}")).unwrap();
        };
        for number in 1..=7 {
            write(number);
            succeed(folder.path(), &["run", "p"]);
        }
        write(8);
        let dying = format!("{point}={end}");
        let died = command(folder.path()).args(["run", "p"]).env("LAKEHEAD_FAILPOINTS", &dying).output().unwrap();
        let said = text(&died.stderr);
        assert_eq!(died.status.success(), end == "error", "{dying}\n{said}");
        let rows = live_rows(&folder.path().join("lake/t"));
        let expected: std::collections::BTreeSet<i64> =
            (1..=8).flat_map(|number| (0..40).map(move |id| id * number)).collect();
        assert_eq!(rows, i64::try_from(expected.len()).unwrap(), "{dying}");
        assert!(live_files(&folder.path().join("lake/t")).len() >= 8, "{dying}: nothing was merged");
        succeed(folder.path(), &["run", "p"]);
        assert_eq!(live_rows(&folder.path().join("lake/t")), rows, "{dying}");
        let left = live_files(&folder.path().join("lake/t")).len();
        assert!(left < 3, "{dying}: {left} files after the merge");
        let records = std::fs::read_dir(folder.path().join("lake/_lakehead")).unwrap().next().unwrap().unwrap().path();
        let positions = std::fs::read_dir(records.join("pos")).unwrap().count();
        assert_eq!(positions, 1, "{dying}: the positions of earlier processes are gone, but for the last one's");
        assert!(succeed(folder.path(), &["cut", "show", "p"]).contains("one table"), "{dying}");
        let told = succeed(folder.path(), &["status"]);
        assert!(told.contains(&format!("{left} file")) && told.contains("swept next"), "{told}");
    }
}

/// Two tables that a route fills: the versions of a cut hold whole rounds, through a crash between the two commits.
#[test]
fn a_cut_names_versions_that_belong_together() {
    let folder = project(
        "connection drops files { path = \"in\" }\nconnection lake delta { path = \"lake\" }\n\
        pipeline p {\n  source rows = drops { path = \"*.csv\", columns = { id = bigint } }\n  \
        route {\n    evens when { id % 2 = 0 }\n    else odds\n  }\n  \
        sink e = lake from evens { table = \"e\", mode = append }\n  sink o = lake from odds { table = \"o\", mode = append }\n}\n",
    );
    std::fs::create_dir(folder.path().join("in")).unwrap();
    let write = |name: &str, ids: &[i64]| {
        let rows: String = ids.iter().map(|id| format!("{id}\n")).collect();
        std::fs::write(folder.path().join("in").join(name), format!("id\n{rows}")).unwrap();
    };
    let rows_of_cut = || {
        let said = succeed(folder.path(), &["cut", "show", "p", "--format", "json"]);
        let said: serde_json::Value = serde_json::from_str(said.trim()).unwrap();
        let tables = said["tables"].as_array().unwrap();
        assert_eq!(tables.len(), 2, "{said}");
        let rows = tables.iter().map(|table| {
            let path = std::path::Path::new(table["location"].as_str().unwrap());
            live_files_at(path, table["version"].as_u64().unwrap()).values().sum::<i64>()
        });
        rows.sum::<i64>()
    };
    assert!(fail(folder.path(), &["cut", "show", "p"], 2).contains("lakehead run p"), "there is none yet");
    write("1.csv", &[1, 2, 3, 4, 5, 6]);
    succeed(folder.path(), &["run", "p"]);
    assert_eq!(rows_of_cut(), 6);
    write("2.csv", &[11, 12, 13]);
    let dying = "engine.committed_one=abort";
    let died = command(folder.path()).args(["run", "p"]).env("LAKEHEAD_FAILPOINTS", dying).output().unwrap();
    assert!(!died.status.success());
    assert_eq!(rows_of_cut(), 6, "one of the two tables has the second round");
    // The round is finished first; what follows touches one table alone.
    write("3.csv", &[22, 24]);
    succeed(folder.path(), &["run", "p"]);
    assert_eq!(rows_of_cut(), 11);
    write("4.csv", &[31]);
    succeed(folder.path(), &["run", "p"]);
    assert_eq!(rows_of_cut(), 12);
}

/// A table that is written anew by each file that comes keeps its rows until the next one is there.
#[test]
fn a_table_is_replaced_by_the_next_file_and_not_by_none() {
    let folder = project(
        "connection drops files { path = \"in\" }\nconnection lake delta { path = \"lake\" }\n\npipeline p {\n  \
         source rows = drops { path = \"*.csv\", columns = { id = bigint } }\n  \
         sink lake { table = \"t\", mode = overwrite }\n}\n",
    );
    std::fs::create_dir(folder.path().join("in")).unwrap();
    let table = folder.path().join("lake/t");
    for (name, rows, live) in [("1", "id\n1\n2\n3\n", 3), ("2", "id\n4\n5\n", 2), ("3", "id\n", 0)] {
        std::fs::write(folder.path().join(format!("in/{name}.csv")), rows).unwrap();
        for run in ["the file is there", "no other has come"] {
            succeed(folder.path(), &["run", "p"]);
            assert_eq!(live_rows(&table), live, "{name}: {run}");
        }
    }
}

/// Counts the live rows that the newest entries of a log speak of: rows of live files less those that are gone.
pub(crate) fn live_rows(table: &std::path::Path) -> i64 {
    live_files(table).values().sum()
}

/// The live files and the rows of each that are not gone.
pub(crate) fn live_files(table: &std::path::Path) -> std::collections::BTreeMap<String, i64> {
    live_files_at(table, u64::MAX)
}

fn live_files_at(table: &std::path::Path, version: u64) -> std::collections::BTreeMap<String, i64> {
    let mut entries: Vec<_> =
        std::fs::read_dir(table.join("_delta_log")).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    entries.retain(|path| path.file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap() <= version);
    entries.sort();
    let mut files = std::collections::BTreeMap::new();
    for entry in entries {
        let lines = std::fs::read_to_string(entry).unwrap();
        let actions: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for path in actions.iter().filter_map(|action| action["remove"]["path"].as_str()) {
            files.remove(path);
        }
        for add in actions.iter().map(|action| &action["add"]).filter(|add| add.is_object()) {
            let stats: serde_json::Value = serde_json::from_str(add["stats"].as_str().unwrap()).unwrap();
            let gone = add["deletionVector"]["cardinality"].as_i64().unwrap_or(0);
            files.insert(add["path"].as_str().unwrap().to_owned(), stats["numRecords"].as_i64().unwrap() - gone);
        }
    }
    files
}

/// A secret's file that others can read is refused, and neither it nor its text is ever shown.
#[test]
fn a_secret_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "hunter2\n").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    let project = project(&format!(
        "secret key = file(\"{}\")\nconnection lake delta {{ path = \"lake\", access_key_id = secret.key, secret_access_key = secret.key }}\n\
         pipeline p {{\n  source rows = generate {{ rows = 1, columns = {{ id = sequence() }} }}\n  sink lake {{ table = \"t\" }}\n}}\n",
        secret.display()
    ));
    let said = fail(project.path(), &["run", "p"], 1);
    assert!(said.contains("R0953") && said.contains("chmod 600"), "{said}");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    for verb in
        [&["run", "p"][..], &["plan", "p", "--format", "json"], &["graph", "p", "--format", "json"], &["status"]]
    {
        let said = succeed(project.path(), verb);
        assert!(!said.contains("hunter2"), "{verb:?} shows it: {said}");
    }
}

#[test]
fn what_is_checked_and_not_built_is_refused_by_run() {
    let folder = project(
        &TWO_TABLES.replace("table = \"small\", mode = append", "table = \"small\", mode = append, sort_by = [id]"),
    );
    let checked = text(&run(folder.path(), &["check"]).stderr);
    assert!(checked.contains("note: split: this version does not carry out sort_by (sink to"), "{checked}");
    let output = fail(folder.path(), &["run", "split"], 1);
    assert!(output.contains("R0971") && output.contains("sort_by"), "{output}");
}
