//! Trino, which reads tables by their names in a metastore, looks into the buckets that hold what is asked for, and checks
//! each row that it reads against the bucket of its file.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::buckets::free_port;
use super::lakehead::{project, succeed, text};
use super::metastore::{Metastore, spark};
use super::running::Running;

/// A server, stopped at the end.
struct Trino {
    _server: Running,
    port: u16,
    folder: tempfile::TempDir,
}

const CONFIG: &str = "node.environment=test
node.id=one
coordinator=true
node-scheduler.include-coordinator=true
http-server.http.port=PORT
discovery.uri=http://127.0.0.1:PORT
plugin.dir=HOME/plugin
catalog.config-dir=FOLDER/catalog
";

/// Asks a statement, follows the answers, and prints each row as JSON.
const ASK: &str = "
import json, sys, urllib.request
port, catalog, statement = sys.argv[1:]
heads = {'X-Trino-User': 'test', 'X-Trino-Catalog': catalog, 'X-Trino-Schema': 'shop', 'X-Trino-Time-Zone': 'UTC'}
request = urllib.request.Request(f'http://127.0.0.1:{port}/v1/statement', statement.encode(), heads)
while True:
    answer = json.load(urllib.request.urlopen(request))
    if 'error' in answer:
        sys.exit(answer['error']['message'])
    for row in answer.get('data', []):
        print(json.dumps(row, ensure_ascii=False))
    if 'nextUri' not in answer:
        break
    request = answer['nextUri']
";

impl Trino {
    /// Starts one beside a metastore; `None` where Trino is not installed.
    fn start(metastore: &Metastore) -> Option<Self> {
        let Some(home) = std::env::var_os("LAKEHEAD_TRINO").map(PathBuf::from) else {
            println!("skipped: Trino is absent (tests/trino/install)");
            return None;
        };
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let here = folder.path().to_str().unwrap();
        let config = CONFIG.replace("PORT", &port.to_string()).replace("FOLDER", here);
        std::fs::write(folder.path().join("config"), config.replace("HOME", home.to_str().unwrap())).unwrap();
        std::fs::create_dir(folder.path().join("catalog")).unwrap();
        for connector in ["hive", "delta_lake"] {
            let properties = format!(
                "connector.name={connector}\nhive.metastore.uri=thrift://127.0.0.1:{}\nfs.hadoop.enabled=true\n",
                metastore.port
            );
            std::fs::write(folder.path().join(format!("catalog/{connector}.properties")), properties).unwrap();
        }
        let (said, out) = std::io::pipe().unwrap();
        let mut java = Command::new(home.join("java"));
        java.args(["-Xmx2g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "--add-modules=jdk.incubator.vector"])
            .args([
                "--enable-native-access=ALL-UNNAMED",
                "--sun-misc-unsafe-memory-access=allow",
                "-Dconfig=config",
                "-cp",
            ])
            .arg(format!("{}/lib/*", home.display()))
            .arg("io.trino.server.TrinoServer")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out);
        let server = Running::start(java, |_| said, "SERVER STARTED");
        Some(Self { _server: server, port, folder })
    }

    fn answer(&self, catalog: &str, statement: &str) -> Result<String, String> {
        let output = Command::new(spark().unwrap())
            .args(["-c", ASK, &self.port.to_string(), catalog, statement])
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        let said = if output.status.success() { Ok(output.stdout) } else { Err(output.stderr) };
        said.map(|out| text(&out).trim().to_owned()).map_err(|err| text(&err))
    }

    #[track_caller]
    fn ask(&self, catalog: &str, statement: &str) -> String {
        self.answer(catalog, statement).unwrap_or_else(|error| panic!("{statement}\n{error}"))
    }

    /// Returns how many rows a query takes from its files.
    fn rows_read(&self, query: &str) -> u64 {
        let plan = self.ask("hive", &format!("explain analyze verbose {query}"));
        let read = plan.split_once("Physical input: ").expect("a scan").0.rsplit_once("Input: ").expect("a scan").1;
        read.split_once(' ').unwrap().0.parse().unwrap()
    }
}

const PIPELINES: &str = "
catalog hms hive { uri = \"thrift://127.0.0.1:PORT\", timeout = 20s }
connection drops files { path = \"in\" }
connection lake delta { path = \"lake\", catalog = hms }
connection raw parquet { path = \"raw\", catalog = hms }
connection cold orc { path = \"cold\", catalog = hms }

pipeline orders {
  source rows = drops { path = \"*.csv\", columns = {
    id = bigint, n = integer, s = smallint, ok = boolean, x = double, day = date, note = varchar
  } }
  sink newest = lake from rows { table = \"shop.newest\", mode = upsert, key = [id] }
  sink plain = raw from rows { table = \"shop.plain\", partition_by = [day] }
  sink archive = cold from rows {
    table = \"shop.archive\", partition_by = [day], bucket_by = [id], bucket_count = 4, compact = {}
  }
BUCKETED
}
";

/// Tables in buckets by each type that Trino has a hash for: the name, the columns, other settings.
const BUCKETED: [(&str, &str, &str); 10] = [
    ("by_id", "id", ", sort_by = [id]"),
    ("by_n", "n", ""),
    ("by_s", "s", ""),
    ("by_ok", "ok", ""),
    ("by_x", "x", ""),
    ("by_day", "day", ""),
    ("by_note", "note", ""),
    ("by_three", "note, day, n", ""),
    ("by_old_note", "note", ", bucket_hash = hive1"),
    ("by_old_three", "note, x, id", ", bucket_hash = hive1"),
];

fn pipelines(port: u16) -> String {
    let sinks: String = BUCKETED
        .iter()
        .map(|(name, columns, more)| {
            format!("  sink {name} = raw from rows {{ table = \"shop.{name}\", bucket_by = [{columns}], bucket_count = 7{more} }}\n")
        })
        .collect();
    PIPELINES.replace("PORT", &port.to_string()).replace("BUCKETED", &sinks)
}

/// Rows of one file, with numbers below zero, text beyond ASCII and values that are missing.
fn rows(first: i64, count: i64) -> String {
    let mut rows = "id,n,s,ok,x,day,note\n".to_owned();
    for id in first..first + count {
        let note =
            ["", "a", "häuser", "日本語のテキスト", "\u{1f600} and more than sixteen bytes"][id.rem_euclid(5) as usize];
        let (n, s) = (id * 7_919 - 1_000_000, (id * 37).rem_euclid(65_536) - 32_768);
        rows += &format!(
            "{},{n},{s},{},{}.25,2026-11-{:02},{note}{id}\n",
            id - 40,
            id % 3 == 0,
            id - 100,
            id.rem_euclid(3) + 1
        );
    }
    rows + &format!("{},,,,,2026-11-01,\n", first + 1_000_000)
}

fn put(folder: &Path, name: &str, rows: &str) {
    std::fs::create_dir_all(folder.join("in")).unwrap();
    std::fs::write(folder.join("in").join(name), rows).unwrap();
}

const SUMS: &str = "count(*), count(distinct id), sum(id), sum(n), sum(s), count_if(ok), sum(x), count(note)";

#[test]
fn trino_reads_every_layout_and_finds_each_row_in_its_bucket() {
    let Some(metastore) = Metastore::start() else { return };
    let Some(trino) = Trino::start(&metastore) else { return };
    let folder = project(&pipelines(metastore.port));
    // Two thirds of the second file's keys are new, and of the third's.
    for (name, first) in [("1.csv", 0), ("2.csv", 200), ("3.csv", 400), ("4.csv", 600)] {
        put(folder.path(), name, &rows(first, 300));
        succeed(folder.path(), &["run", "orders"]);
    }
    let whole = trino.ask("hive", &format!("select {SUMS} from plain"));
    assert!(whole.starts_with("[1204, 904, "), "{whole}");
    for name in BUCKETED.map(|(name, ..)| name).into_iter().chain(["archive"]) {
        assert_eq!(trino.ask("hive", &format!("select {SUMS} from {name}")), whole, "{name}");
        // A query that groups by the number of the bucket has each row checked against the name of its file.
        let buckets = trino.ask("hive", &format!("select \"$bucket\" b, count(*) from {name} group by 1 order by 1"));
        assert!(buckets.lines().count() > 1, "{name}: {buckets}");
    }
    let newest = trino.ask("delta_lake", "select count(*), count(distinct id), sum(id), sum(n) from newest");
    let distinct = trino.ask(
        "hive",
        "select count(*), count(distinct id), sum(id), sum(n) from (select id, n from plain group by id, n)",
    );
    assert_eq!(newest, distinct);
    // Only the buckets that can hold the row are read.
    for (name, condition) in [
        ("by_id", "id = 165"),
        ("by_n", "n = 623395"),
        ("by_note", "note = 'a206'"),
        ("by_old_note", "note = '日本語のテキスト208'"),
        ("by_three", "note = 'a206' and day = date '2026-11-03' and n = 631314"),
        ("archive", "id = 165"),
    ] {
        let query = format!("select id from {name} where {condition}");
        let (found, read) = (trino.ask("hive", &query), trino.rows_read(&query));
        assert!(!found.is_empty(), "{query}");
        assert!(read < 600, "{query} reads {read} rows of 1204");
    }
    // And Trino would say so of a file in another's place.
    put_in_another_bucket(&folder.path().join("raw/shop/by_id"));
    let error = trino.answer("hive", &format!("select {SUMS} from by_id")).unwrap_err();
    assert!(error.contains("contains a row for bucket"), "{error}");
}

fn put_in_another_bucket(table: &Path) {
    let names = std::fs::read_dir(table).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let name = names.into_iter().find(|name| name.starts_with("000001_0")).expect("a file of the second bucket");
    std::fs::rename(table.join(&name), table.join(name.replacen("000001_0", "000002_0", 1))).unwrap();
}
