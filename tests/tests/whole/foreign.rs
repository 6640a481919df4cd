//! A writer of another house in a keyed table of ours (fault F19): delta-rs appends, deletes, compacts, vacuums and restores,
//! between our rounds and during them. The table is exactly what a model of it says, or a run stops with code and cure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::lakehead::{command, fail, project, succeed, text};

const PIPELINE: &str = r#"
connection drops files { path = "in" }
connection lake delta { path = "lake" }

pipeline p {
  source rows = drops { path = "*.csv", columns = { id = bigint, note = varchar } }
  sink lake { table = "t", mode = upsert, key = [id], compact = { enabled = false }DELETES }
}
"#;

/// One operation of delta-rs, or `rows`; what it refuses it says.
const PYTHON: &str = r#"
import sys, os, deltalake, pyarrow as pa
folder, verb, arguments = sys.argv[1], sys.argv[2], sys.argv[3:]
try:
    table = deltalake.DeltaTable(folder + "/lake/t")
    if verb == "rows":
        import duckdb
        for id, note in duckdb.sql(f"select id, note from delta_scan('{folder}/lake/t')").fetchall():
            print(id, note)
    elif verb == "version":
        print(table.version())
    elif verb == "append":
        ids = [int(id) for id in arguments[:-1]]
        rows = pa.table({"id": pa.array(ids, pa.int64()), "note": pa.array([arguments[-1]] * len(ids), pa.string())})
        deltalake.write_deltalake(table, rows, mode="append")
    elif verb == "delete":
        table.delete(arguments[0])
    elif verb == "compact":
        table.optimize.compact()
    elif verb == "vacuum":
        table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False, full="full" in arguments)
    elif verb == "restore":
        table.restore(int(arguments[0]))
    sys.stdout.flush()
except Exception as error:
    print("refused:", type(error).__name__, str(error).replace("\n", " ")[:200], flush=True)
os._exit(0)   # threads of libraries do not always end well
"#;

/// The table and what it should hold.
struct Shared {
    folder: tempfile::TempDir,
    model: BTreeMap<i64, String>,
    /// What the source has sent: what a table that is read anew comes to.
    sent: BTreeMap<i64, String>,
    inputs: usize,
    refused: Vec<String>,
}

impl Shared {
    /// A table of two rounds; none where delta-rs is not installed.
    fn new(deletes: &str) -> Option<Self> {
        std::env::var_os("LAKEHEAD_READERS")?;
        let folder = project(&PIPELINE.replace("DELETES", deletes));
        std::fs::create_dir(folder.path().join("in")).unwrap();
        let (model, sent) = (BTreeMap::new(), BTreeMap::new());
        let mut shared = Self { folder, model, sent, inputs: 0, refused: Vec::new() };
        shared.round(0..100, "first");
        shared.round(50..150, "second");
        Some(shared)
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Puts an input there, which the next run reads.
    fn send(&mut self, ids: impl IntoIterator<Item = i64>, note: &str) {
        let rows: BTreeMap<i64, String> = ids.into_iter().map(|id| (id, note.to_owned())).collect();
        let text: String = rows.iter().map(|(id, note)| format!("{id},{note}\n")).collect();
        std::fs::write(self.path().join(format!("in/{:03}.csv", self.inputs)), format!("id,note\n{text}")).unwrap();
        self.inputs += 1;
        self.model.extend(rows.clone());
        self.sent.extend(rows);
    }

    fn round(&mut self, ids: impl IntoIterator<Item = i64>, note: &str) {
        self.send(ids, note);
        succeed(self.path(), &["run", "p"]);
        self.is_exact(note);
    }

    /// A round during which something else happens: behind its position, before its commit.
    fn round_during(&mut self, ids: impl IntoIterator<Item = i64>, note: &str, act: impl FnOnce(&mut Self)) -> Output {
        let before = self.positions();
        let mut run = command(self.path());
        run.args(["run", "p"]).env("LAKEHEAD_FAILPOINTS", "engine.document=delay(6000)");
        self.send(ids, note);
        let mut run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.positions().is_subset(&before) && run.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "the run wrote no position");
            std::thread::yield_now();
        }
        act(self);
        let ended = run.try_wait().unwrap().is_some();
        let output = run.wait_with_output().unwrap();
        assert!(!ended, "the round ended before: {}", text(&output.stderr));
        output
    }

    fn positions(&self) -> BTreeSet<String> {
        let found =
            Command::new("find").arg(self.path().join("lake")).args(["-path", "*/pos/*.json"]).output().unwrap();
        text(&found.stdout).lines().map(str::to_owned).collect()
    }

    fn python(&self, arguments: &[&str]) -> String {
        let mut python = Command::new(std::env::var_os("LAKEHEAD_READERS").unwrap());
        let output = python.args(["-c", PYTHON]).arg(self.path()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Has delta-rs do something; returns whether it did.
    fn foreign(&mut self, arguments: &[&str]) -> bool {
        let said = self.python(arguments);
        if let Some(reason) = said.trim().strip_prefix("refused: ") {
            println!("delta-rs refuses {}: {reason}", arguments[0]);
            self.refused.push(arguments[0].to_owned());
        }
        !said.contains("refused: ")
    }

    fn append(&mut self, ids: &[i64], note: &str) {
        let texts: Vec<String> = ids.iter().map(i64::to_string).collect();
        let arguments: Vec<&str> =
            std::iter::once("append").chain(texts.iter().map(String::as_str)).chain([note]).collect();
        if self.foreign(&arguments) {
            self.model.extend(ids.iter().map(|id| (*id, note.to_owned())));
        }
    }

    /// Deletes what is below `id`.
    fn delete_below(&mut self, id: i64) {
        if self.foreign(&["delete", &format!("id < {id}")]) {
            self.model = self.model.split_off(&id);
        }
    }

    #[track_caller]
    fn is_exact(&self, when: &str) {
        let mut found: Vec<String> = self.python(&["rows"]).lines().map(str::to_owned).collect();
        found.sort();
        let mut expected: Vec<String> = self.model.iter().map(|(id, note)| format!("{id} {note}")).collect();
        expected.sort();
        assert_eq!(found, expected, "{when}");
    }

    fn version(&self) -> String {
        self.python(&["version"]).trim().to_owned()
    }
}

/// Everything that another writer may do between and during rounds, but for taking the table back.
fn follows(shared: &mut Shared, vacuum: &[&str]) {
    shared.append(&[1000, 1001, 1002], "theirs");
    // Ours over theirs: their file is in no index of ours yet.
    shared.round([5, 1001, 2000], "over theirs");
    shared.delete_below(20);
    shared.round([10, 30, 2001], "behind a delete");
    shared.foreign(&["compact"]);
    shared.round([11, 40, 1002, 2002], "behind a compaction");
    shared.foreign(vacuum);
    shared.round([41, 1000, 2003], "behind a vacuum");
    let done = shared.round_during([42, 2000], "during an append", |shared| shared.append(&[1003], "theirs too"));
    assert!(done.status.success(), "{}", text(&done.stderr));
    shared.is_exact("an append during a round");
    // Both write the row: ours is committed last.
    let done = shared.round_during([60, 43, 2004], "during a delete", |shared| {
        shared.delete_below(44);
        shared.model.insert(43, "during a delete".into());
    });
    assert!(done.status.success(), "{}", text(&done.stderr));
    shared.is_exact("a delete during a round");
    let done = shared.round_during([70, 1003], "during a compaction", |shared| {
        shared.foreign(&["compact"]);
    });
    assert!(done.status.success(), "{}", text(&done.stderr));
    shared.is_exact("a compaction during a round");
    // Files of the open round are in no version yet; what a vacuum without a retention takes of them must not be committed.
    let done = shared.round_during([71, 2005], "during a vacuum", |shared| {
        shared.foreign(vacuum);
    });
    let said = text(&done.stderr);
    assert!(done.status.success() || said.contains("error[R") && said.contains("= help: "), "{said}");
    if !done.status.success() {
        println!("a vacuum without a retention stops the round: {}", said.lines().next().unwrap_or_default());
    } else {
        shared.is_exact("a vacuum during a round");
    }
}

#[test]
fn delta_rs_may_write_between_and_during_rounds_of_a_table_of_rewritten_files() {
    let Some(mut shared) = Shared::new(", deletes = rewrite") else { return };
    follows(&mut shared, &["vacuum", "full"]);
    assert!(shared.refused.is_empty(), "delta-rs refused {:?}", shared.refused);
}

/// Tables with deletion vectors: what this delta-rs does not write to it refuses, and nothing of the table has changed.
#[test]
fn delta_rs_may_write_between_and_during_rounds_of_a_table_with_vectors_or_refuses() {
    let Some(mut shared) = Shared::new("") else { return };
    follows(&mut shared, &["vacuum"]);
}

/// A full vacuum of delta-rs takes files of vectors for files that nobody needs: no reader can read the table then. The next
/// run says so, and its cure brings the table back.
#[test]
fn a_vacuum_that_removes_vectors_stops_the_pipeline_until_it_is_read_anew() {
    let Some(mut shared) = Shared::new("") else { return };
    shared.foreign(&["vacuum", "full"]);
    // What this machine remembers of the vectors is lost as well.
    std::fs::remove_dir_all(shared.path().join(".lakehead")).unwrap();
    shared.send([5, 120, 3000], "third");
    let said = fail(shared.path(), &["run", "p"], 1);
    assert!(said.contains("error[R0654]") && said.contains("lakehead resync"), "{said}");
    succeed(shared.path(), &["resync", "p"]);
    succeed(shared.path(), &["run", "p"]);
    shared.model.clone_from(&shared.sent);
    shared.is_exact("read anew");
    shared.round([6, 121, 3001], "goes on");
}

#[test]
fn a_table_that_delta_rs_took_back_stops_the_pipeline_until_it_is_read_anew() {
    let Some(mut shared) = Shared::new(", deletes = rewrite") else { return };
    let version = shared.version();
    shared.round([3, 3000], "third");
    assert!(shared.foreign(&["restore", &version]));
    shared.send([4, 3001], "fourth");
    let said = fail(shared.path(), &["run", "p"], 1);
    assert!(said.contains("error[R0235]") && said.contains("lakehead resync"), "{said}");
    // The cure that it names.
    succeed(shared.path(), &["resync", "p"]);
    succeed(shared.path(), &["run", "p"]);
    shared.model.clone_from(&shared.sent);
    shared.is_exact("read anew");
    // And while a round is under way.
    let version = shared.version();
    shared.round([5, 3002], "fifth");
    let done = shared.round_during([6], "sixth", |shared| {
        assert!(shared.foreign(&["restore", &version]));
    });
    let said = text(&done.stderr);
    assert!(!done.status.success() && said.contains("error[R0235]"), "{said}");
    succeed(shared.path(), &["resync", "p"]);
    succeed(shared.path(), &["run", "p"]);
    shared.model.clone_from(&shared.sent);
    shared.is_exact("read anew again");
}
