//! `05_log_compactor.lake` as it is written: small files become one file per interval, late objects open it again.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::buckets::Bucket;
use super::lakehead::{command, fail, root, run, succeed, text};

/// What differs between machines: here everything is a folder.
const SHARED: &str = r#"var make_logs: bool = true

connection landing files { path = "landing" }
connection raw parquet { path = "raw" }
connection ops webhook { url = "http://127.0.0.1:9/" }

lifecycle log_retention {}
"#;

const BACKFILL: [&str; 6] =
    ["backfill", "log_compactor", "--from", "2020-05-01T10:00:00Z", "--to", "2020-05-01T10:05:00Z"];

/// Prints rows, and whether there is one file for the interval (in each hour of its rows), sorted, snappy, of bucket 0.
const READ: &str = r#"
import sys, duckdb
table = sys.argv[1]
files = [row[0] for row in duckdb.sql(f"select file from glob('{table}/**/[!_]*.parquet')").fetchall()]
if not files:
    print("0 rows"); sys.exit()
rows = duckdb.sql(f"select count(*) from read_parquet({files})").fetchone()[0]
good = True
for file in files:
    keys = duckdb.sql(f"select service, epoch_us(ts) from read_parquet('{file}')").fetchall()
    packed = duckdb.sql(f"select distinct compression from parquet_metadata('{file}')").fetchall()
    good &= keys == sorted(keys) and packed == [("SNAPPY",)] and "/000000_0_part-" in file
good &= len(files) == len({file.rsplit("/", 1)[0] for file in files})
print(f"{rows} rows" + ("" if good else ", not as the sink says"))
"#;

/// Prints reasons and sources of the dead letters.
const LETTERS: &str = r#"
import sys, duckdb
for row in duckdb.sql(f"select _reason, _source from read_parquet('{sys.argv[1]}/[!_]*.parquet') order by all").fetchall():
    print(*row)
"#;

pub(crate) fn python(script: &str, folder: &Path) -> Option<String> {
    let output = Command::new(std::env::var_os("LAKEHEAD_READERS")?).args(["-c", script]).arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    Some(text(&output.stdout).trim().to_owned())
}

/// A project with the acceptance file, and what two runs of its generator left.
struct Logs {
    folder: tempfile::TempDir,
    minute: PathBuf,
}

impl Logs {
    fn new(change: impl Fn(String) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = root().join("dsl/syntax/tests/acceptance/05_log_compactor.lake");
        std::fs::create_dir(folder.path().join("shared")).unwrap();
        std::fs::write(folder.path().join("lakehead.toml"), "name = \"t\"\nedition = 1\n").unwrap();
        std::fs::write(folder.path().join("shared/shared.lake"), SHARED).unwrap();
        std::fs::write(folder.path().join("p.lake"), change(std::fs::read_to_string(file).unwrap())).unwrap();
        succeed(folder.path(), &["run", "log_generator"]);
        succeed(folder.path(), &["lock"]);
        // The generator writes into the minute it runs in: a time of the tests' own cannot fall together with it.
        let mut made = folder.path().join("landing/logs");
        for _ in 0..4 {
            made = std::fs::read_dir(&made).unwrap().next().unwrap().unwrap().path();
        }
        let minute = folder.path().join("landing/logs/2020/05/01/1002");
        std::fs::create_dir_all(minute.parent().unwrap()).unwrap();
        std::fs::rename(made, &minute).unwrap();
        let logs = Self { folder, minute };
        logs.late("second");
        logs
    }

    /// Puts one more object of 5,000 lines into the interval's minute.
    fn late(&self, name: &str) {
        let first = std::fs::read_dir(&self.minute).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
        std::fs::copy(first, self.minute.join(format!("{name}.json.gz"))).unwrap();
    }

    fn lose_the_ledger(&self) {
        std::fs::remove_dir_all(self.folder.path().join(".lakehead")).unwrap();
    }

    fn inputs(&self) -> usize {
        std::fs::read_dir(&self.minute).map_or(0, Iterator::count)
    }

    #[track_caller]
    fn holds(&self, expected: &str) {
        if let Some(found) = python(READ, &self.folder.path().join("raw/logs/compacted")) {
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn an_interval_is_one_sorted_file_and_a_late_object_opens_it_again() {
    let logs = Logs::new(|file| file);
    let folder = logs.folder.path();
    succeed(folder, &["test"]);
    // A minute that is no part of the interval: its file is not read.
    let ahead = folder.join("landing/logs/2020/05/01/1005");
    std::fs::create_dir_all(&ahead).unwrap();
    std::fs::copy(logs.minute.join("second.json.gz"), ahead.join("a.json.gz")).unwrap();
    let first = succeed(folder, &BACKFILL);
    assert!(first.contains("1 interval: 1 to do") && first.contains("10,000 rows"), "{first}");
    logs.holds("10000 rows");
    assert!(succeed(folder, &BACKFILL).contains("1 already done"));
    logs.lose_the_ledger();
    succeed(folder, &BACKFILL);
    logs.holds("10000 rows");

    logs.late("late");
    let again = succeed(folder, &BACKFILL);
    assert!(again.contains("1 to do") && again.contains("15,000 rows"), "{again}");
    logs.holds("15000 rows");
    assert!(succeed(folder, &BACKFILL).contains("1 already done"), "once");
    assert_eq!((logs.inputs(), std::fs::read_dir(&ahead).unwrap().count()), (3, 1), "kept for a day");

    // What it was made of is gone: it is not replaced by less.
    std::fs::remove_file(logs.minute.join("second.json.gz")).unwrap();
    logs.lose_the_ledger();
    let refused = fail(folder, &BACKFILL, 1);
    assert!(refused.contains("R0420"), "{refused}");
    logs.holds("15000 rows");
}

/// The process dies at every step from the evaluation to the last removed input. The same command again, or another run
/// first: rows are there once, inputs go only when they are.
#[test]
fn a_crash_between_commit_and_removal_loses_and_doubles_nothing() {
    let points = [
        "engine.evaluated",
        "parquet.prepared",
        "engine.document",
        "parquet.published",
        "parquet.put",
        "parquet.committed",
        "engine.committed",
        "files.recorded",
        "files.closed",
        "files.removed",
    ];
    for point in points {
        let logs = Logs::new(|file| file.replace("keep_inputs   = 1d ", "keep_inputs   = 0s "));
        let folder = logs.folder.path();
        let crashed =
            command(folder).args(BACKFILL).env("LAKEHEAD_FAILPOINTS", format!("{point}=abort")).output().unwrap();
        assert!(!crashed.status.success(), "{point}");
        if point.starts_with("files") {
            succeed(folder, &["run", "log_compactor"]);
        }
        let again = run(folder, &BACKFILL);
        let closed = text(&again.stderr).contains("R0420");
        assert!(again.status.success() || closed && point.starts_with("files"), "{point}: {}", text(&again.stderr));
        logs.holds("10000 rows");
        assert_eq!(logs.inputs(), 0, "{point}");
    }
}

#[test]
fn a_late_object_of_a_closed_interval_is_a_dead_letter_once() {
    let logs = Logs::new(|file| file.replace("keep_inputs   = 1d ", "keep_inputs   = 0s "));
    let folder = logs.folder.path();
    std::fs::copy(logs.minute.join("second.json.gz"), folder.join("kept")).unwrap();
    succeed(folder, &BACKFILL);
    assert_eq!(logs.inputs(), 0);
    std::fs::create_dir_all(&logs.minute).unwrap();
    std::fs::copy(folder.join("kept"), logs.minute.join("late.json.gz")).unwrap();
    let told = succeed(folder, &["run", "log_compactor"]);
    assert!(told.contains("1 inputs could not be read and were set aside"), "{told}");
    let next = ["backfill", "log_compactor", "--from", "2020-05-01T10:05:00Z", "--to", "2020-05-01T10:10:00Z"];
    succeed(folder, &next);
    let refused = fail(folder, &["run", "log_compactor"], 1);
    assert!(refused.contains("R0420"), "{refused}");
    logs.holds("10000 rows");
    assert_eq!(logs.inputs(), 1, "what was not read is never removed");
    if let Some(letters) = python(LETTERS, &folder.join("raw/ops/log_rejects")) {
        let lines: Vec<&str> = letters.lines().collect();
        assert!(lines.len() == 1 && lines[0].starts_with("window_closed logs/") && lines[0].ends_with("/late.json.gz"));
    }
}

#[test]
fn the_same_in_a_bucket() {
    let Some(bucket) = Bucket::start() else {
        println!("skipped: an S3 server is absent");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let store = format!(
        "endpoint = \"http://127.0.0.1:{}\", region = \"us-east-1\", access_key_id = secret.key, \
         secret_access_key = secret.key",
        bucket.port
    );
    let pipeline = include_str!("compactor_bucket.lake").replace("STORE", &store);
    std::fs::write(folder.path().join("lakehead.toml"), "name = \"t\"\nedition = 1\n").unwrap();
    std::fs::write(folder.path().join("p.lake"), pipeline).unwrap();
    let lakehead = |arguments: &[&str]| {
        let output = command(folder.path()).args(arguments).env("BUCKET_KEY", "k").output().unwrap();
        assert!(output.status.success(), "{}\n{}", arguments.join(" "), text(&output.stderr));
        text(&output.stdout)
    };
    let fill = ["backfill", "log_compactor", "--from", "2026-05-01T10:00:00Z", "--to", "2026-05-01T10:10:00Z"];
    bucket.put_packed("in/logs/2026/05/01/1000/a.json.gz", "{\"id\":1}\n{\"id\":2}\n");
    bucket.put_packed("in/logs/2026/05/01/1004/b.json.gz", "{\"id\":3}\n");
    bucket.put_packed("in/logs/2026/05/01/1005/c.json.gz", "{\"id\":4}\n");
    let said = lakehead(&fill);
    assert!(said.contains("10:00:00Z  3 rows") && said.contains("10:05:00Z  1 rows"), "{said}");
    bucket.put_packed("in/logs/2026/05/01/1001/late.json.gz", "{\"id\":5}\n");
    let said = lakehead(&fill);
    assert!(said.contains("1 to do, 1 already done") && said.contains("10:00:00Z  4 rows"), "{said}");
}

#[test]
fn the_example_gives_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let example = root().join("examples/log_compactor");
    let copied = Command::new("cp").arg("-r").arg(example.join(".")).arg(folder.path()).status().unwrap();
    assert!(copied.success());
    succeed(folder.path(), &["test"]);
    let fill = ["backfill", "compact", "--from", "2026-05-01T10:00:00Z", "--to", "2026-05-01T10:05:00Z"];
    succeed(folder.path(), &fill);
    let expected = std::fs::read_to_string(example.join("expected.txt")).unwrap();
    if let Some(found) = python(LINES, &folder.path().join("lake/logs")) {
        assert_eq!(found, expected.trim());
    }
    let late = folder.path().join("landing/logs/2026/05/01/1004");
    std::fs::create_dir_all(&late).unwrap();
    let line = r#"{"ts":"2026-05-01T10:04:59Z","service":"api","level":"info","message":"late"}"#;
    std::fs::write(late.join("late.json"), line).unwrap();
    assert!(succeed(folder.path(), &fill).contains("4 rows"));
}

const LINES: &str = r#"
import sys, duckdb
rows = duckdb.sql(f"""select service, strftime(ts at time zone 'UTC', '%Y-%m-%dT%H:%M:%SZ'), level, message
    from read_parquet('{sys.argv[1]}/**/[!_]*.parquet') order by all""").fetchall()
print("\n".join(" ".join(row) for row in rows))
"#;

#[test]
fn what_could_not_be_made_again_is_refused_by_check_or_run() {
    let pipeline = |source: &str, sink: &str| {
        super::lakehead::project(&format!(
            "connection landing files {{ path = \"in\" }}\nconnection raw parquet {{ path = \"raw\" }}\n\npipeline p {{\n  \
             trigger every 5m\n  source small = landing {{ path = \"%Y/%m/%d/%H%M/*.json\", columns = {{ id = bigint }}, \
             interval = run, {source} }}\n  sink raw {{ table = \"t\", mode = overwrite{sink} }}\n}}\n"
        ))
    };
    let moved = pipeline("done_prefix = \"done/\"", ", overwrite_by = run_interval");
    let said = fail(moved.path(), &["check"], 1);
    assert!(said.contains("error[E0520]") && said.contains("keep_inputs = 1d"), "{said}");
    let whole = pipeline("after_success = delete", "");
    succeed(whole.path(), &["check"]);
    assert!(fail(whole.path(), &["run", "p"], 1).contains("R0971"));
}

/// The daemon looks at the inputs as it starts, and makes the interval again that gained one.
#[test]
fn a_daemon_makes_the_interval_of_a_late_object_again() {
    use std::io::{BufRead, BufReader};
    let folder = super::lakehead::project(
        "connection landing files { path = \"in\" }\nconnection raw parquet { path = \"raw\" }\n\npipeline p {\n  trigger every \
         1d\n  source small = landing { path = \"%Y/%m/%d/*.json\", columns = { id = bigint }, interval = run, after_success \
         = delete }\n  sink raw { table = \"t\", mode = overwrite, overwrite_by = run_interval }\n}\n",
    );
    let day = folder.path().join("in/2020/05/01");
    std::fs::create_dir_all(&day).unwrap();
    std::fs::write(day.join("a.json"), "{\"id\":1}\n{\"id\":2}\n").unwrap();
    let fill = ["backfill", "p", "--from", "2020-05-01", "--to", "2020-05-02"];
    assert!(succeed(folder.path(), &fill).contains("2 rows"));
    std::fs::write(day.join("late.json"), "{\"id\":3}\n").unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut daemon = command(folder.path())
        .args(["serve", ".", "--listen", &format!("127.0.0.1:{port}")])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(daemon.stderr.take().unwrap()).lines().map_while(Result::ok);
    let ended =
        lines.into_iter().find(|line| line.contains("2020-05-02T00:00:00Z again") && !line.ends_with("started"));
    Command::new("kill").args(["-TERM", &daemon.id().to_string()]).status().unwrap();
    daemon.wait().unwrap();
    let ended = ended.unwrap();
    assert!(ended.contains("succeeded   3 rows read, 3 written"), "{ended}");
    assert!(succeed(folder.path(), &fill).contains("0 to do"), "nothing is late any more");
}
