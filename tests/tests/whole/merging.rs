//! Small files merged: the same rows before and after, as readers that others wrote see them, through any crash.

use std::path::Path;
use std::process::Command;

use super::lakehead::{command, project, succeed, text};

const PIPELINES: &str = r#"connection plain parquet { path = "lake" }
connection orcs orc { path = "orcs" }

pipeline orders {
  source orders = generate {
    rows    = 3000
    columns = { id = sequence(), customer = name(), amount = money(1, 900), at = timestamp() }
  }
  sink a = plain from orders { table = "orders", mode = append, bucket_by = [id], bucket_count = 4, sort_by = [id]COMPACT }
  sink b = orcs from orders { table = "orders", mode = appendCOMPACT }
}
"#;

/// Prints rows, sum of ids and amounts, and files of the Parquet table by DuckDB, then of the ORC table by pyarrow.
pub(crate) const SUMS: &str = r#"
import sys, os, glob, duckdb, pyarrow.dataset as d, pyarrow.compute as c
files = [file for file in glob.glob(f"{sys.argv[1]}/lake/orders/**/*.parquet", recursive=True)]
print(*duckdb.sql(f"select count(*), sum(id), sum(amount) from read_parquet({files})").fetchone(), "files", len(files))
for file in files:
    ids = [row[0] for row in duckdb.sql(f"select id from read_parquet('{file}')").fetchall()]
    assert ids == sorted(ids), file
rows = d.dataset(f"{sys.argv[1]}/orcs/orders", format="orc").to_table()
print(len(rows), c.sum(rows["id"]), c.sum(rows["amount"]), "files", len(glob.glob(f"{sys.argv[1]}/orcs/orders/*.orc")), flush=True)
os._exit(0)   # threads of libraries do not always end well
"#;

/// Returns what the readers say, without the files, and the files of each table.
pub(crate) fn sums(folder: &Path) -> Option<(Vec<String>, Vec<usize>)> {
    let output = Command::new(std::env::var_os("LAKEHEAD_READERS")?).args(["-c", SUMS]).arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    let lines = said.lines().map(|line| line.split_once(" files ").unwrap());
    Some(lines.map(|(sums, files)| (sums.to_owned(), files.parse::<usize>().unwrap())).unzip())
}

#[test]
fn readers_see_the_same_rows_before_and_after_and_through_every_crash() {
    let folder = project(&PIPELINES.replace("COMPACT", ""));
    for _ in 0..9 {
        succeed(folder.path(), &["run", "orders"]);
    }
    let Some((before, files)) = sums(folder.path()) else { return };
    assert_eq!(files, [36, 9]);
    let merging = PIPELINES.replace("COMPACT", ", compact = {}").replace("rows    = 3000", "rows    = 0");
    std::fs::write(folder.path().join("p.lake"), merging).unwrap();
    for point in [
        "parquet.compact.files",
        "parquet.compact.staged",
        "parquet.published",
        "parquet.put=2*",
        "parquet.put.answer=2*",
        "parquet.compact.committed",
    ] {
        let point = if point.contains('=') { format!("{point}abort") } else { format!("{point}=abort") };
        let copy = tempfile::tempdir().unwrap();
        let copied = Command::new("cp").arg("-r").arg(folder.path().join(".")).arg(copy.path()).status().unwrap();
        assert!(copied.success());
        let crashed = command(copy.path()).args(["run", "orders"]).env("LAKEHEAD_FAILPOINTS", &point).output().unwrap();
        assert!(!crashed.status.success(), "{point}");
        succeed(copy.path(), &["run", "orders"]);
        let (after, files) = sums(copy.path()).unwrap();
        assert_eq!((after, files), (before.clone(), vec![4, 1]), "{point}");
    }
}

/// Writes folders as others do: Parquet with Hive's folders and buckets, sorted; ORC; Delta, in many small files each.
const FOREIGN: &str = r#"
import sys, os, pyarrow as a, pyarrow.parquet as p, pyarrow.orc as o, deltalake
root = sys.argv[1]
def rows(n, day):
    ids = list(range(n * 50, n * 50 + 50))
    return a.table({"id": a.array(ids, a.int64()), "amount": a.array([i / 4 for i in ids]),
                    "tags": a.array([[str(i)] for i in ids]), "small": a.array([i % 100 for i in ids], a.uint8())})
for n in range(12):
    day = f"day={n % 2}"
    for folder in ("plain", "orcs"):
        os.makedirs(f"{root}/{folder}/legacy/{day}", exist_ok=True)
    name = f"{n % 3:06}_0_{n}"
    p.write_table(rows(n, day), f"{root}/plain/legacy/{day}/{name}.parquet", sorting_columns=[p.SortingColumn(0, nulls_first=True)])
    o.write_table(rows(n, day).select(["id", "amount"]), f"{root}/orcs/legacy/{day}/{n}.orc")
for n in range(24):
    t = rows(n, "").select(["id", "amount"]).append_column("day", a.array([n % 2] * 50))
    deltalake.write_deltalake(f"{root}/deltas/legacy", t, mode="append", partition_by=["day"])
os._exit(0)
"#;

const FOREIGN_SUMS: &str = r#"
import sys, os, glob, duckdb, pyarrow.dataset as d, pyarrow.compute as c, deltalake
root = sys.argv[1]
files = sorted(glob.glob(f"{root}/plain/legacy/**/*.parquet", recursive=True))
print(*duckdb.sql(f"select count(*), sum(id), sum(amount), count(distinct tags[1]), sum(small), sum(day) from read_parquet({files}, hive_partitioning=true)").fetchone(), "files", len(files))
for file in files:
    ids = [row[0] for row in duckdb.sql(f"select id from read_parquet('{file}')").fetchall()]
    bucket = {i // 50 % 3 for i in ids}
    assert ids == sorted(ids) and len(bucket) == 1 and file.rsplit("/", 1)[1].startswith(f"{bucket.pop():06}_0_"), file
rows = d.dataset(f"{root}/orcs/legacy", format="orc", partitioning="hive").to_table()
print(len(rows), c.sum(rows["id"]), c.sum(rows["amount"]), c.sum(rows["day"]), "files", len(glob.glob(f"{root}/orcs/legacy/**/*.orc", recursive=True)))
table = deltalake.DeltaTable(f"{root}/deltas/legacy")
rows = table.to_pyarrow_table()
print(len(rows), c.sum(rows["id"]), c.sum(rows["amount"]), c.sum(rows["day"]), "files", len(table.file_uris()), flush=True)
os._exit(0)
"#;

const UPKEEP: &str = r#"connection plain parquet { path = "plain" }
connection orcs orc { path = "orcs" }
connection deltas delta { path = "deltas" }

pipeline a {
  source rows = plain { table = "legacy" }
  sink plain from rows { table = "legacy", mode = compact }
}
pipeline b {
  source rows = orcs { table = "legacy" }
  sink orcs from rows { table = "legacy", mode = compact, sort_by = [id] }
}
pipeline c {
  source rows = deltas { table = "legacy" }
  sink deltas from rows { table = "legacy", mode = compact }
}
"#;

fn foreign(script: &str, folder: &Path) -> Option<(Vec<String>, Vec<usize>)> {
    let output = Command::new(std::env::var_os("LAKEHEAD_READERS")?).args(["-c", script]).arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    let lines = said.lines().filter_map(|line| line.split_once(" files "));
    Some(lines.map(|(sums, files)| (sums.to_owned(), files.parse::<usize>().unwrap())).unzip())
}

#[test]
fn tables_that_others_write_are_compacted_and_hold_what_they_held() {
    let folder = project(UPKEEP);
    if foreign(FOREIGN, folder.path()).is_none() {
        return;
    }
    let (before, files) = foreign(FOREIGN_SUMS, folder.path()).unwrap();
    assert_eq!(files, [12, 12, 24]);
    succeed(folder.path(), &["lock"]);
    succeed(folder.path(), &["check"]);
    for point in ["files", "staged", "recorded", "copied", "removed", "removed=1*"] {
        let copy = tempfile::tempdir().unwrap();
        let copied = Command::new("cp").arg("-a").arg(folder.path().join(".")).arg(copy.path()).status().unwrap();
        assert!(copied.success());
        let action = if point.contains('=') { "abort" } else { "=abort" };
        for pipeline in ["a", "b"] {
            let crashed = command(copy.path())
                .args(["run", pipeline])
                .env("LAKEHEAD_FAILPOINTS", format!("parquet.compact.{point}{action}"))
                .output()
                .unwrap();
            assert!(!crashed.status.success(), "{point}");
            succeed(copy.path(), &["run", pipeline]);
        }
        succeed(copy.path(), &["run", "c"]);
        let (after, files) = foreign(FOREIGN_SUMS, copy.path()).unwrap();
        assert_eq!(after, before, "{point}");
        assert_eq!(files, [6, 2, 2], "{point}");
        let left: Vec<_> = std::fs::read_dir(copy.path().join("plain/_lakehead")).unwrap().collect();
        assert_eq!(left.len(), 1, "records of one pipeline");
        // Twice is once, and a new file of the others is merged with the next run.
        succeed(copy.path(), &["run", "a"]);
        assert_eq!(foreign(FOREIGN_SUMS, copy.path()).unwrap().1[0], 6);
    }
}

#[test]
fn a_table_with_manifests_is_compacted_as_they_lay_it_out() {
    let folder = project(&PIPELINES.replace("COMPACT", ""));
    for _ in 0..3 {
        succeed(folder.path(), &["run", "orders"]);
    }
    let Some((before, files)) = sums(folder.path()) else { return };
    assert_eq!(files, [12, 3]);
    let upkeep = "connection plain parquet { path = \"lake\" }\n\npipeline upkeep {\n  source rows = plain { table = \
                  \"orders\" }\n  sink plain from rows { table = \"orders\", mode = compact }\n}\n";
    std::fs::write(folder.path().join("p.lake"), upkeep).unwrap();
    succeed(folder.path(), &["lock"]);
    succeed(folder.path(), &["run", "upkeep"]);
    let (after, files) = sums(folder.path()).unwrap();
    assert_eq!((after, files), (before, vec![4, 3]));
    // The pipeline that writes it goes on.
    std::fs::write(folder.path().join("p.lake"), PIPELINES.replace("COMPACT", "")).unwrap();
    succeed(folder.path(), &["run", "orders"]);
    assert_eq!(sums(folder.path()).unwrap().1, [8, 4]);
    let other = upkeep.replace("table = \"orders\", mode", "table = \"others\", mode");
    std::fs::write(folder.path().join("p.lake"), other).unwrap();
    let said = super::lakehead::fail(folder.path(), &["check"], 1);
    assert!(said.contains("error[E0521]"), "{said}");
}

#[test]
fn plan_says_how_a_table_is_laid_out_and_what_its_size_suggests() {
    let rules = "lifecycle colder {\n  transition to infrequent after 30d\n  expire after 2y\n}\n\npipeline";
    let laid_out = PIPELINES
        .replacen("pipeline", rules, 1)
        .replace("sort_by = [id]COMPACT", "sort_by = [id], partition_by = [month(at)], lifecycle = colder");
    let folder = project(&PIPELINES.replace("COMPACT", ""));
    for _ in 0..9 {
        succeed(folder.path(), &["run", "orders"]);
    }
    std::fs::write(folder.path().join("p.lake"), laid_out.replace("COMPACT", "")).unwrap();
    let said = succeed(folder.path(), &["plan"]);
    for line in [
        "in 4 buckets by id, hash hive2",
        "ordered by id",
        "lifecycle colder: infrequent after 30d, expires after 730d",
        "lakehead lifecycle emit orders",
        "measured: 36 files, ",
        "propose  bucket_count = 1   4 buckets are ",
        "propose  compact = {}   9 files at one place, ",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
}

/// A pipeline that compacts has nothing else to do: a merge or a sweep that fails fails it, in each format.
#[test]
fn a_merge_that_was_asked_for_and_fails_is_seen_and_tried_again() {
    for (kind, point) in
        [("parquet", "parquet.compact.files"), ("delta", "delta.merge.files"), ("delta", "delta.compact")]
    {
        let tables = format!(
            "connection lake {kind} {{ path = \"lake\" }}\n\npipeline orders {{\n  source orders = generate {{ rows = 50, \
             columns = {{ id = sequence() }} }}\n  sink lake {{ table = \"orders\", mode = append, compact = {{ enabled = \
             false }} }}\n}}\n"
        );
        let folder = project(&tables);
        for _ in 0..9 {
            succeed(folder.path(), &["run", "orders"]);
        }
        let upkeep = "pipeline upkeep {\n  source rows = lake { table = \"orders\" }\n  sink lake from rows { table = \
                      \"orders\", mode = compact }\n  retry { max = RETRIES, backoff = 1ms }\n}\n";
        let run = |retries: &str, action: &str| {
            let file = tables.split("pipeline orders").next().unwrap().to_owned() + &upkeep.replace("RETRIES", retries);
            std::fs::write(folder.path().join("p.lake"), file).unwrap();
            succeed(folder.path(), &["lock"]);
            let mut run = command(folder.path());
            run.args(["run", "upkeep"]).env("LAKEHEAD_FAILPOINTS", format!("{point}={action}")).output().unwrap()
        };
        let is_merged = || {
            let table = folder.path().join("lake/orders");
            let entries = std::fs::read_dir(table.join("_delta_log")).into_iter().flatten();
            let mut bodies = entries.filter_map(|entry| std::fs::read_to_string(entry.unwrap().path()).ok());
            let files = std::fs::read_dir(&table).unwrap();
            let names = files.map(|file| file.unwrap().file_name().to_string_lossy().into_owned());
            let parts = names.filter(|name| name.ends_with(".parquet")).count();
            parts < 9 || bodies.any(|body| body.contains("\"OPTIMIZE\""))
        };
        let failed = run("0", "error");
        let said = text(&failed.stderr);
        assert_eq!(failed.status.code(), Some(1), "{point}: {said}");
        assert!(said.contains("error[R0003]") && said.contains(point), "{said}");
        let status = succeed(folder.path(), &["status", "upkeep"]);
        assert!(status.contains("failed") && status.contains("R0003"), "{status}");
        assert!(!is_merged(), "{point}");
        // Once: the retry inside the run merges.
        let tried_again = run("1", "error");
        assert!(tried_again.status.success(), "{point}: {}", text(&tried_again.stderr));
        assert!(succeed(folder.path(), &["status", "upkeep"]).contains("ok"));
        assert!(is_merged(), "{point}");
    }
}

/// What a changed file asks of a table is done by the same command, though there is nothing to fill: here what has expired.
#[test]
fn a_backfill_of_what_is_done_looks_after_the_table() {
    let with = |lifecycle: &str| {
        format!(
            "connection lake parquet {{ path = \"lake\" }}\n\nlifecycle short {{ expire after 30d }}\n\npipeline hourly {{\n  \
             trigger cron \"0 * * * *\"\n  source rows = generate {{ rows = 10, columns = {{ id = sequence() }} }}\n  transform {{ \
             select {{ id, $run_start as at }} }}\n  sink lake {{ table = \"hourly\", mode = overwrite, overwrite_by = run_interval, \
             partition_by = [day(at)]{lifecycle} }}\n}}\n"
        )
    };
    let folder = project(&with(""));
    let span = ["backfill", "hourly", "--from", "2020-05-01T00:00:00Z", "--to", "2020-05-01T03:00:00Z"];
    let rows = || {
        let status = succeed(folder.path(), &["status", "hourly", "--format", "json"]);
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        status[0]["tables"][0]["figures"]["rows"].as_u64().unwrap()
    };
    succeed(folder.path(), &span);
    assert_eq!(rows(), 30);
    std::fs::write(folder.path().join("p.lake"), with(", lifecycle = short")).unwrap();
    let again = succeed(folder.path(), &span);
    assert!(again.contains("0 to do, 3 already done"), "{again}");
    assert_eq!(rows(), 0);
}
