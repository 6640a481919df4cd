//! Copies of tables in another place: they open at every moment, go on after a crash, and never write over what others wrote.

use std::path::Path;
use std::process::Command;

use super::buckets::Bucket;
use super::lakehead::{command, fail, project, succeed, text};

const DELTA: &str = r#"connection drops files { path = "in" }
connection lake delta { path = "lake" }
connection dr files { path = "dr" }

lifecycle kept { replicate to dr }

pipeline p {
  source rows = drops { path = "*.csv", columns = { id = bigint, at = timestamp } }
  sink lake { table = "shop.t", mode = upsert, key = [id], partition_by = [day(at)], lifecycle = kept }
}
"#;

const PLAIN: &str = r#"connection drops files { path = "in" }
connection lake parquet { path = "lake" }
connection dr parquet { path = "dr" }

lifecycle kept { replicate to dr }

pipeline p {
  source rows = drops { path = "*.csv", columns = { id = bigint, at = timestamp } }
  sink lake { table = "shop.t", mode = overwrite, overwrite_by = [at_day], partition_by = [day(at)], lifecycle = kept }
}
"#;

/// Rows of one round: keys of the round, and key 0 anew.
fn drop_rows(folder: &Path, round: usize) {
    std::fs::create_dir_all(folder.join("in")).unwrap();
    let day = round % 3 + 1;
    let rows = format!("id,at\n{},2026-01-0{day} 10:00:00\n0,2026-01-0{day} 10:00:00\n", round + 1);
    std::fs::write(folder.join(format!("in/{round}.csv")), rows).unwrap();
}

fn names(folder: &Path, ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path.strip_prefix(folder).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

/// Rows and the sum of keys, as readers of others see them.
const READ_DELTA: &str = r#"
import sys, duckdb, deltalake
path = sys.argv[1]
table = deltalake.DeltaTable(path)
rows = duckdb.sql(f"select count(*), sum(id)::bigint from delta_scan('{path}')").fetchone()
print(table.version(), *rows)
"#;

const READ_PLAIN: &str = r#"
import sys, duckdb, json, glob
path = sys.argv[1]
latest = int(open(f"{path}/_manifest/_latest").read())
files = [f"{path}/{file['name']}" for file in json.load(open(f"{path}/_manifest/{latest:020}.json"))["files"]]
rows = duckdb.sql(f"select count(*), sum(id)::bigint from read_parquet({files})").fetchone()
listed = duckdb.sql(f"select count(*) from read_parquet('{path}/**/[!_]*.parquet')").fetchone()[0]
print(latest, *rows, listed)
"#;

fn read(script: &str, table: &Path) -> Option<Vec<i64>> {
    let python = std::env::var_os("LAKEHEAD_READERS")?;
    let output = Command::new(python).args(["-c", script]).arg(table).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    Some(text(&output.stdout).split_whitespace().map(|word| word.parse().unwrap()).collect())
}

/// Of a copy of a Delta table that it opens and holds whole rounds, keys 0 to some n; returns how many keys. `None` where no
/// reader is installed.
#[track_caller]
fn opens(folder: &Path) -> Option<i64> {
    let seen = read(READ_DELTA, &folder.join("dr/shop/t"))?;
    let (rows, ids) = (seen[1], seen[2]);
    assert!(rows >= 2 && ids == rows * (rows - 1) / 2, "no whole rounds: {seen:?}");
    Some(rows)
}

#[test]
fn a_copy_follows_its_table_round_by_round_and_other_readers_read_it() {
    let folder = project(DELTA);
    let mut followed = false;
    for round in 0..12 {
        drop_rows(folder.path(), round);
        let said = succeed(folder.path(), &["run", "p"]);
        assert!(said.contains("copy in dr: version") && said.contains(", up to date"), "{said}");
        let (table, copy) = (folder.path().join("lake/shop/t"), folder.path().join("dr/shop/t"));
        let entries = names(&copy.join("_delta_log"), ".json");
        followed |= entries.len() > 3;
        for entry in &entries {
            let of = |folder: &Path| std::fs::read(folder.join("_delta_log").join(entry)).unwrap();
            assert_eq!(of(&table), of(&copy), "{entry}");
        }
        if round % 4 == 3 {
            assert_eq!(read(READ_DELTA, &copy), read(READ_DELTA, &table), "round {round}");
            assert!(opens(folder.path()).is_none_or(|rows| rows == i64::try_from(round).unwrap() + 2));
        }
    }
    assert!(followed, "entries were copied one by one");
    let copy = folder.path().join("dr/shop/t");
    assert!(!names(&copy, ".bin").is_empty(), "vectors are copied");
    let status = succeed(folder.path(), &["status", "p"]);
    assert!(status.contains("copy in dr: version") && status.contains("up to date"), "{status}");
    let status = succeed(folder.path(), &["status", "p", "--format", "json"]);
    assert!(status.contains("\"copies\"") && status.contains("\"to\": \"dr\""), "{status}");
}

#[test]
fn a_crash_at_every_step_leaves_a_copy_that_opens_and_is_gone_on_with() {
    for point in ["replicate.file", "replicate.entry", "replicate.checkpoint", "replicate.pointer"] {
        for passes in ["", "1*", "3*"] {
            let folder = project(DELTA);
            drop_rows(folder.path(), 0);
            drop_rows(folder.path(), 1);
            let dying = format!("{point}={passes}abort");
            for round in 2..4 {
                drop_rows(folder.path(), round);
                let died =
                    command(folder.path()).args(["run", "p"]).env("LAKEHEAD_FAILPOINTS", &dying).output().unwrap();
                assert!(!passes.is_empty() || !died.status.success() || round > 2, "{dying} was not hit");
                let log = folder.path().join("dr/shop/t/_delta_log");
                if !names(&log, ".json").is_empty() || !names(&log, ".checkpoint.parquet").is_empty() {
                    opens(folder.path());
                }
            }
            let said = succeed(folder.path(), &["run", "p"]);
            assert!(said.contains(", up to date"), "{dying}\n{said}");
            assert!(opens(folder.path()).is_none_or(|rows| rows == 5), "{dying}");
        }
    }
}

#[test]
fn a_copy_that_others_wrote_into_is_left_alone_and_no_run_fails_by_it() {
    let folder = project(DELTA);
    drop_rows(folder.path(), 0);
    succeed(folder.path(), &["run", "p"]);
    let log = folder.path().join("dr/shop/t/_delta_log");
    let newest: u64 = names(&log, ".json").last().unwrap().trim_end_matches(".json").parse().unwrap();
    let foreign = log.join(format!("{:020}.json", newest + 1));
    std::fs::write(&foreign, "{\"commitInfo\":{\"operation\":\"WRITE\",\"timestamp\":1}}\n").unwrap();
    drop_rows(folder.path(), 1);
    let said = succeed(folder.path(), &["run", "p"]);
    assert!(said.contains("R0564") && said.contains("behind"), "{said}");
    assert!(std::fs::read_to_string(&foreign).unwrap().contains("WRITE"), "what others wrote stays");
    let status = succeed(folder.path(), &["status", "p"]);
    assert!(status.contains("versions behind") && status.contains("R0564"), "{status}");
    // Moved away, it is made anew.
    std::fs::rename(folder.path().join("dr"), folder.path().join("aside")).unwrap();
    let said = succeed(folder.path(), &["run", "p"]);
    assert!(said.contains(", up to date"), "{said}");
    assert!(opens(folder.path()).is_none_or(|rows| rows == 3));
}

#[test]
fn a_plain_table_is_copied_with_its_manifest_last_and_loses_files_only_where_asked() {
    for deletes in [false, true] {
        let file = PLAIN
            .replace("replicate to dr", if deletes { "replicate to dr { delete = true }" } else { "replicate to dr" });
        let folder = project(&file);
        for round in 0..7 {
            drop_rows(folder.path(), round);
            let dying = ["replicate.file", "replicate.entry", "replicate.pointer"][round % 3];
            if round > 0 {
                let dying = format!("{dying}=abort");
                let died =
                    command(folder.path()).args(["run", "p"]).env("LAKEHEAD_FAILPOINTS", &dying).output().unwrap();
                assert!(!died.status.success(), "{dying} was not hit");
            }
            let said = succeed(folder.path(), &["run", "p"]);
            assert!(said.contains(", up to date"), "{said}");
            let (table, copy) = (folder.path().join("lake/shop/t"), folder.path().join("dr/shop/t"));
            let (Some(table), Some(copy)) = (read(READ_PLAIN, &table), read(READ_PLAIN, &copy)) else { return };
            assert_eq!(table[..3], copy[..3], "round {round}");
            if deletes {
                assert_eq!(table, copy, "who lists the folder sees what the table's folder shows");
            } else if round > 3 {
                assert!(copy[3] > table[3], "what was replaced stays: {copy:?}");
            }
        }
    }
}

/// Nothing says which files of a folder that others write are the table: a copy of it is refused before anything is done, and what
/// would never move is, too.
#[test]
fn what_cannot_be_kept_of_a_folder_of_others_is_refused_by_plan_and_run() {
    for (rule, code, cure) in [
        ("replicate to dr", "R0572", "leave `replicate` out"),
        ("transition to archive_instant after 90d", "R0656", "lay files out by a date"),
    ] {
        let folder = project(&format!(
            "connection lake parquet {{ path = \"lake\", cold = \"cold\" }}\nconnection dr files {{ path = \"dr\" \
             }}\n\nlifecycle kept {{ {rule} }}\n\npipeline p {{\n  source rows = lake {{ table = \"t\", columns = {{ id = \
             bigint }} }}\n  sink lake {{ table = \"t\", mode = compact, lifecycle = kept }}\n}}\n"
        ));
        let python = std::env::var_os("LAKEHEAD_READERS");
        let Some(python) = python else { return };
        let script = "import sys, os, pyarrow as a, pyarrow.parquet as p\nos.makedirs('lake/t')\nfor n in range(2): \
                      p.write_table(a.table({'id': [n]}), f'lake/t/{n}.parquet')";
        let written = Command::new(python).current_dir(folder.path()).args(["-c", script]).status().unwrap();
        assert!(written.success());
        succeed(folder.path(), &["check"]);
        let said = fail(folder.path(), &["plan", "p"], 1);
        assert!(
            said.contains(&format!("error[{code}]")) && said.contains("p.lake:8:") && said.contains(cure),
            "{said}"
        );
        let said = fail(folder.path(), &["run", "p"], 1);
        assert!(said.contains(code) && said.contains(cure), "{said}");
        assert_eq!(names(&folder.path().join("lake/t"), ".parquet"), ["0.parquet", "1.parquet"]);
    }
}

#[test]
fn a_bucket_copies_by_itself_and_takes_copies_of_local_tables() {
    let Some(bucket) = Bucket::start() else {
        println!("skipped: an S3 server is absent");
        return;
    };
    let port = bucket.port;
    let s3 = |path: &str| {
        format!(
            "path = \"s3://lake/{path}\", endpoint = \"http://127.0.0.1:{port}\", region = \"us-east-1\"\n  \
             access_key_id = secret.key, secret_access_key = secret.key"
        )
    };
    for (from, to) in [(s3("a"), s3("b")), ("path = \"lake\"".to_owned(), s3("c"))] {
        for file in [DELTA, PLAIN] {
            let file = file
                .replace("path = \"dr\"", &format!("\n  {to}\n"))
                .replace("path = \"lake\"", &format!("\n  {from}\n"))
                .replace(" { \n", " {\n");
            let kind = if file.contains(" delta ") { "delta" } else { "plain" };
            let file = file.replace("shop.t", &format!("{kind}.t"));
            let folder = project(&format!("secret key = env(\"BUCKET_KEY\")\n\n{file}"));
            for round in 0..3 {
                drop_rows(folder.path(), round);
                let output = command(folder.path()).args(["run", "p"]).env("BUCKET_KEY", "k").output().unwrap();
                let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
                assert!(output.status.success() && said.contains(", up to date"), "{file}\n{said}");
            }
        }
    }
}
