//! `lakehead peek`: rows of one object of any kind, and of a large one little more than they are.

use std::path::{Path, PathBuf};

use super::buckets::Bucket;
use super::lakehead::{command, fail, project, run, succeed, text};

const TABLES: &str = r#"connection lake parquet { path = "lake" }
connection orcs orc { path = "orcs" }
connection files files { path = "files" }

pipeline orders {
  source orders = generate {
    rows    = 600000
    columns = { id = sequence(), customer = name(), amount = money(1, 900), note = sentence(6) }
  }
  sink lake from orders { table = "orders", mode = append, sort_by = [id], commit_every = 1h }
}
pipeline large {
  source orders = generate {
    rows    = 200000
    columns = { id = sequence(), customer = name(), amount = money(1, 900), note = sentence(12) }
  }
  sink a = orcs from orders { table = "large", mode = append, commit_every = 1h }
  sink b = files from orders { path = "json", format = json, compression = gzip, commit_every = 1h }
  sink c = files from orders { path = "csv", format = csv, commit_every = 1h }
}
pipeline few {
  source orders = generate { rows = 300, columns = { id = sequence(), customer = name(), amount = money(1, 900) } }
  sink a = orcs from orders { table = "few", mode = append }
  sink b = files from orders { path = "json", format = json, compression = gzip }
  sink c = files from orders { path = "csv", format = csv }
}
"#;

fn only_file(folder: &Path) -> PathBuf {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.is_file()).max().unwrap()
}

/// Peeks, and returns the rows and the bytes read and of how many.
#[track_caller]
fn peek(folder: &Path, arguments: &[&str]) -> (String, u64, u64) {
    let output = run(folder, &[&["peek"], arguments].concat());
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    let (_, line) = said.lines().last().unwrap().split_once(" rows, ").unwrap();
    let (read, of) = line.trim_end_matches(" bytes read").split_once(" of ").unwrap();
    let number = |text: &str| text.replace(',', "").parse::<u64>().unwrap();
    (text(&output.stdout), number(read), number(of))
}

#[test]
fn a_selective_condition_reads_a_small_part_of_a_large_file() {
    let folder = project(TABLES);
    succeed(folder.path(), &["run", "orders"]);
    let file = only_file(&folder.path().join("lake/orders"));
    let object = file.to_str().unwrap();
    let (rows, read, of) = peek(folder.path(), &[object, "where { id = 554321 }", "--columns", "amount,id"]);
    assert!(rows.contains("| amount | id     |") && rows.contains("| 554321 |"), "{rows}");
    assert!(of > 5_000_000 && read * 10 < of, "{read} of {of}");
    let (rows, read, _) = peek(
        folder.path(),
        &[object, "where", "id", "between", "5", "and", "6", "--format", "json", "--columns", "id"],
    );
    assert_eq!(rows, "{\"id\":5}\n{\"id\":6}\n");
    assert!(read * 10 < of, "{read} of {of}");
    // What is in no row group costs the footer.
    let (rows, read, _) = peek(folder.path(), &[object, "where { id < 0 }"]);
    assert!(rows.is_empty() && read * 10 < of, "{read} of {of}");
    let (rows, ..) =
        peek(folder.path(), &[object, "where { amount > 500 or id = 1 }", "--limit", "3", "--format", "json"]);
    assert_eq!(rows.lines().count(), 3);
    let (rows, ..) = peek(folder.path(), &[object, "where { true }", "--limit", "2", "--format", "json"]);
    assert_eq!(rows.lines().count(), 2);
}

/// What is read of a text is what was read when the last row was found, of ORC the parts that may hold the rows.
#[test]
fn other_files_are_read_no_further_than_the_rows_that_are_shown() {
    let folder = project(TABLES);
    succeed(folder.path(), &["run", "large"]);
    let mib = 1 << 20;
    for table in ["orcs/large", "files/json", "files/csv"] {
        let file = only_file(&folder.path().join(table));
        let object = file.to_str().unwrap();
        let size = std::fs::metadata(&file).unwrap().len();
        let (rows, read, of) = peek(folder.path(), &[object, "--format", "json"]);
        assert_eq!((rows.lines().count(), of), (20, size), "{table}");
        assert!(size > 4 * mib && read <= mib && read > 0, "{table}: {read} of {of}");
        let near = [object, "where { id > 4000 }", "--limit", "2", "--columns", "id", "--format", "json"];
        let (rows, read, _) = peek(folder.path(), &near);
        assert_eq!(rows, "{\"id\":4001}\n{\"id\":4002}\n", "{table}");
        assert!(read <= 2 * mib, "{table}: {read} of {of}");
        let far = [object, "where { id = 187654 }", "--columns", "id,customer", "--format", "json"];
        let (rows, read, _) = peek(folder.path(), &far);
        assert!(rows.lines().count() == 1 && rows.starts_with("{\"id\":187654,"), "{table}: {rows}");
        if table == "orcs/large" {
            assert!(read * 4 < size, "{read} of {size}");
            let (rows, read, _) = peek(folder.path(), &[object, "where { id < 0 }"]);
            assert!(rows.is_empty() && read < 100_000, "{read} of {size}");
        } else {
            assert_eq!(read, size, "a text is looked through to its end");
        }
    }
}

#[test]
fn every_kind_of_file_is_shown_and_mistakes_are_told() {
    let folder = project(TABLES);
    succeed(folder.path(), &["run", "few"]);
    for table in ["orcs/few", "files/json", "files/csv"] {
        let file = only_file(&folder.path().join(table));
        let object = file.strip_prefix(folder.path()).unwrap().to_str().unwrap().to_owned();
        let (rows, ..) = peek(folder.path(), &[&object, "--format", "json"]);
        assert_eq!(rows.lines().count(), 20, "{table}");
        let asked =
            [object.as_str(), "where { id > 298 and customer is not null }", "--columns", "id", "--format", "json"];
        assert_eq!(peek(folder.path(), &asked).0, "{\"id\":299}\n{\"id\":300}\n", "{table}");
        for (arguments, code) in [
            (&["where { idd = 1 }"][..], "E0301"),
            (&["where { id }"], "R0430"),
            (&["where { id = 'x }"], "E03"),
            (&["id = 1"], "R0430"),
            (&["--columns", "idd"], "R0431"),
        ] {
            let said = fail(folder.path(), &[&["peek", &object], arguments].concat(), 1);
            assert!(said.contains(code), "{table} {arguments:?} {said}");
        }
    }
    std::fs::write(folder.path().join("broken.parquet"), "PAR1 not really PAR1").unwrap();
    std::fs::write(folder.path().join("broken.orc"), "ORC not really").unwrap();
    std::fs::write(folder.path().join("broken.json.gz"), "not gzip").unwrap();
    std::fs::write(folder.path().join("what"), "ever").unwrap();
    std::fs::write(folder.path().join("empty.csv"), "").unwrap();
    for (object, code) in [
        ("none.parquet", "R0428"),
        ("lake", "R0428"),
        ("broken.parquet", "R0405"),
        ("broken.orc", "error["),
        ("broken.json.gz", "R0429"),
        ("what", "R0429"),
        ("ftp://x/y.csv", "R0406"),
    ] {
        let said = fail(folder.path(), &["peek", object], 1);
        assert!(said.contains(code), "{object}: {said}");
    }
    assert!(run(folder.path(), &["peek", "empty.csv"]).status.code().is_some_and(|code| code < 2));
}

#[test]
fn an_object_may_lie_in_a_bucket() {
    let Some(bucket) = Bucket::start() else {
        println!("skipped: an S3 server is absent");
        return;
    };
    bucket.put("in/a.csv", "id,note\n1,a\n2,b\n");
    let folder = tempfile::tempdir().unwrap();
    let output = command(folder.path())
        .args(["peek", "s3://lake/in/a.csv", "where { id = 2 }", "--format", "json"])
        .envs([("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "k"), ("AWS_REGION", "us-east-1")])
        .envs([
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", bucket.port)),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
        ])
        .output()
        .unwrap();
    assert_eq!(text(&output.stdout), "{\"id\":2,\"note\":\"b\"}\n", "{}", text(&output.stderr));
}

/// Files that are small and claim to be large, shown by the binary with less memory than they claim: an error with code,
/// place and cure, no panic, nothing that ends the process from outside (fault F16).
#[test]
fn hostile_objects_are_refused_within_a_bound_of_memory() {
    let folder = project(TABLES);
    succeed(folder.path(), &["run", "few"]);
    let orc = std::fs::read(only_file(&folder.path().join("orcs/few"))).unwrap();
    // A footer that names 2^31 row groups, and one that is longer than the file.
    let groups = b"PAR1\x15\x02\x19\x1c\x48\x01r\x00\x16\x00\x19\xfc\xff\xff\xff\xff\x07\x00\x12\x00\x00\x00PAR1";
    let mut stripes = orc.clone();
    let end = stripes.len();
    stripes[end - 60..end - 40].fill(0xff);
    for (name, bytes, code) in [
        ("groups.parquet", &groups[..], "R0405"),
        ("footer.parquet", b"PAR1\x00\x00\x00\x80PAR1", "R0405"),
        ("short.parquet", b"PAR1", "R0405"),
        ("stripes.orc", &stripes, "R150"),
        ("cut.orc", &orc[orc.len() / 2..], "R150"),
        ("short.orc", b"ORC", "R150"),
    ] {
        std::fs::write(folder.path().join(name), bytes).unwrap();
        let mut shell = std::process::Command::new("bash");
        let script = "ulimit -v 6000000; exec \"$0\" peek \"$1\"";
        let shell = shell.current_dir(folder.path()).args(["-c", script]).arg(super::lakehead::binary()).arg(name);
        let output = shell.output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert!(said.contains(&format!("error[{code}")) && said.contains(name) && said.contains("= help: "), "{said}");
        assert!(!said.contains("panicked") && !said.contains("allocation"), "{said}");
    }
}
