//! Everything in a bucket: an S3 server that the test starts holds inputs and lake.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::lakehead::{command, project, text};

/// Returns a port that nobody listens at.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// An S3 server of another house, stopped at the end.
pub(crate) struct Bucket {
    server: Child,
    pub(crate) port: u16,
}

impl Drop for Bucket {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Bucket {
    /// Starts a server; `None` where none is installed.
    pub(crate) fn start() -> Option<Self> {
        Self::start_at(free_port())
    }

    /// Starts a server at a port that is free.
    pub(crate) fn start_at(port: u16) -> Option<Self> {
        let python = std::env::var_os("LAKEHEAD_READERS")?;
        let server = Command::new(&python)
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut bucket = Self { server, port };
        let said = BufReader::new(bucket.server.stderr.take().unwrap());
        for line in said.lines() {
            let line = line.unwrap();
            if line.contains("Running on") {
                bucket.curl(&["-X", "PUT"], "lake", None);
                return Some(bucket);
            }
            assert!(!line.contains("No module named"), "{line}");
        }
        panic!("the S3 server ended");
    }

    fn curl(&self, arguments: &[&str], path: &str, body: Option<&str>) {
        let mut curl = Command::new("curl");
        curl.args(["-sf", "-o", "/dev/null"]).args(arguments);
        if let Some(body) = body {
            curl.args(["--data-binary", body]);
        }
        let signed = ["-H", "Authorization: AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/aws4_request"];
        assert!(curl.args(signed).arg(format!("http://127.0.0.1:{}/{path}", self.port)).status().unwrap().success());
    }

    pub(crate) fn put(&self, name: &str, body: &str) {
        self.curl(&["-X", "PUT", "-H", "Content-Type: text/csv"], &format!("lake/{name}"), Some(body));
    }

    /// Puts a text packed by gzip.
    pub(crate) fn put_packed(&self, name: &str, text: &str) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("text");
        std::fs::write(&file, text).unwrap();
        assert!(Command::new("gzip").arg(&file).status().unwrap().success());
        self.put(name, &format!("@{}.gz", file.display()));
    }
}

const PIPELINE: &str = r#"
secret key = env("BUCKET_KEY")

connection drops files {
  path = "s3://lake/in", endpoint = "http://127.0.0.1:PORT", region = "us-east-1"
  access_key_id = secret.key, secret_access_key = secret.key
}
connection lake delta {
  path = "s3://lake/tables", endpoint = "http://127.0.0.1:PORT", region = "us-east-1"
  access_key_id = secret.key, secret_access_key = secret.key
}

pipeline orders {
  source rows = drops { path = "*.csv", columns = { id = bigint, note = varchar } }
  sink lake { table = "orders", mode = upsert, key = [id] }
}
"#;

#[test]
fn inputs_and_lake_may_lie_in_a_bucket() {
    let Some(bucket) = Bucket::start() else {
        println!("skipped: an S3 server is absent");
        return;
    };
    let folder = project(&PIPELINE.replace("PORT", &bucket.port.to_string()));
    let lakehead = |arguments: &[&str]| {
        let output = command(folder.path()).args(arguments).env("BUCKET_KEY", "hunter2").output().unwrap();
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success(), "{}\n{said}", arguments.join(" "));
        assert!(!said.contains("hunter2"), "{said}");
        said
    };
    assert!(lakehead(&["plan", "--path", "."]).contains("1 tables to create; nothing was written"));
    bucket.put("in/1.csv", "id,note\n1,a\n2,b\n");
    assert!(lakehead(&["run", "orders"]).contains("2 rows read, 2 written"));
    assert!(lakehead(&["plan", "--path", "."]).contains("0 tables to create; nothing was written"));
    bucket.put("in/2.csv", "id,note\n2,c\n3,d\n");
    // A crash between the files and the commit, and one behind it: each file counts once.
    for point in ["delta.vectors.put", "engine.committed"] {
        let crashed = command(folder.path())
            .args(["run", "orders"])
            .env("BUCKET_KEY", "hunter2")
            .env("LAKEHEAD_FAILPOINTS", format!("{point}=abort"))
            .output()
            .unwrap();
        assert!(!crashed.status.success(), "{point}");
    }
    lakehead(&["run", "orders"]);
    assert!(lakehead(&["run", "orders"]).contains("0 rows read"));
    let python = std::env::var_os("LAKEHEAD_READERS").unwrap();
    let script = "
import sys, polars
options = {'aws_endpoint_url': f'http://127.0.0.1:{sys.argv[1]}', 'aws_region': 'us-east-1', 'aws_access_key_id': 'k',
           'aws_secret_access_key': 'k', 'aws_allow_http': 'true'}
print(sorted(polars.read_delta('s3://lake/tables/orders', storage_options=options).rows()))
";
    let output = Command::new(python).args(["-c", script, &bucket.port.to_string()]).output().unwrap();
    assert_eq!(text(&output.stdout).trim(), "[(1, 'a'), (2, 'c'), (3, 'd')]", "{}", text(&output.stderr));
}

const TABLES: &str = r#"
connection drops files { path = "in" }
connection lake delta { path = "s3://lake/tables", endpoint = "http://127.0.0.1:PORT", region = "us-east-1" }
connection raw parquet { path = "s3://lake/raw", endpoint = "http://127.0.0.1:PORT", region = "us-east-1" }

pipeline orders {
  source rows = drops { path = "*.csv", columns = { id = bigint, day = date, note = varchar } }
  sink newest = lake from rows { table = "newest", mode = upsert, key = [id] }
  sink plain = raw from rows { table = "plain", partition_by = [day] }
}
"#;

/// Reads both tables with DuckDB's own client of S3, whose extensions lie in packages: nothing is fetched or kept.
const DUCKDB: &str = "
import importlib.util, pathlib, sys, duckdb
connection = duckdb.connect()
for name in ('httpfs', 'delta'):
    found = importlib.util.find_spec(f'duckdb_extension_{name}')
    if found is None:
        sys.exit(f'skipped: duckdb-extension-{name} is absent')
    connection.load_extension(str(next(pathlib.Path(found.origin).parent.glob('extensions/*/*.duckdb_extension'))))
place = f\"endpoint '127.0.0.1:{sys.argv[1]}', url_style 'path', use_ssl false\"
connection.execute(f\"create secret (type s3, key_id 'k', secret 'k', region 'us-east-1', {place})\")
for table in ('delta_scan(\"s3://lake/tables/newest\")', 'read_parquet(\"s3://lake/raw/plain/*/[!_]*.parquet\")'):
    table = table.replace('\"', chr(39))
    print(connection.execute(f'select id, day::varchar, note from {table} order by all').fetchall())
";

#[test]
fn duckdb_reads_tables_straight_from_a_bucket() {
    let Some(bucket) = Bucket::start() else {
        println!("skipped: an S3 server is absent");
        return;
    };
    let folder = project(&TABLES.replace("PORT", &bucket.port.to_string()));
    std::fs::create_dir(folder.path().join("in")).unwrap();
    for (number, rows) in ["1,2026-01-01,a\n2,2026-01-02,b\n", "2,2026-01-02,c\n3,2026-01-02,d\n"].iter().enumerate() {
        std::fs::write(folder.path().join(format!("in/{number}.csv")), format!("id,day,note\n{rows}")).unwrap();
        let keys = [("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "k")];
        let output = command(folder.path()).args(["run", "orders"]).envs(keys).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let python = std::env::var_os("LAKEHEAD_READERS").unwrap();
    let read = Command::new(python).args(["-c", DUCKDB, &bucket.port.to_string()]).output().unwrap();
    let said = text(&read.stderr);
    if said.contains("skipped") {
        println!("{said}");
        return;
    }
    let (a, d) = ("(1, '2026-01-01', 'a')", "(3, '2026-01-02', 'd')");
    let (b, c) = ("(2, '2026-01-02', 'b')", "(2, '2026-01-02', 'c')");
    assert_eq!(text(&read.stdout), format!("[{a}, {c}, {d}]\n[{a}, {b}, {c}, {d}]\n"), "{said}");
}

/// What is written is encrypted as the connection says, whatever writes it: data files, the log, the records.
#[test]
fn what_is_written_to_s3_is_encrypted_as_the_connection_says() {
    let Some(bucket) = Bucket::start() else {
        println!("skipped: an S3 server is absent");
        return;
    };
    bucket.put("in/1.csv", "id,note\n1,a\n2,b\n");
    let lake = "path = \"s3://lake/tables\"";
    let settings = "\n  encryption = sse_kms, kms_key = \"alias/lake\", bucket_key = true";
    let folder =
        project(&PIPELINE.replace("PORT", &bucket.port.to_string()).replace(lake, &format!("{lake}{settings}")));
    let output = command(folder.path()).args(["run", "orders"]).env("BUCKET_KEY", "k").output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let python = std::env::var_os("LAKEHEAD_READERS").unwrap();
    let script = "
import sys, boto3
s3 = boto3.client('s3', endpoint_url=f'http://127.0.0.1:{sys.argv[1]}', region_name='us-east-1',
                  aws_access_key_id='k', aws_secret_access_key='k')
names = [found['Key'] for found in s3.list_objects_v2(Bucket='lake', Prefix='tables/')['Contents']]
said = {name: s3.head_object(Bucket='lake', Key=name) for name in names}
kinds = {(head.get('ServerSideEncryption'), head.get('SSEKMSKeyId'), head.get('BucketKeyEnabled')) for head in said.values()}
print(len(names) >= 6, any('.parquet' in name for name in names), kinds)
";
    let output = Command::new(python).args(["-c", script, &bucket.port.to_string()]).output().unwrap();
    let expected = "True True {('aws:kms', 'alias/lake', True)}";
    assert_eq!(text(&output.stdout).trim(), expected, "{}", text(&output.stderr));
}

#[test]
fn a_bucket_that_is_not_there_is_told_at_once() {
    let Some(bucket) = Bucket::start() else {
        println!("skipped: an S3 server is absent");
        return;
    };
    bucket.put("in/1.csv", "id,note\n1,a\n");
    let folder =
        project(&PIPELINE.replace("PORT", &bucket.port.to_string()).replace("s3://lake/tables", "s3://none/t"));
    let output = command(folder.path()).args(["run", "orders"]).env("BUCKET_KEY", "hunter2").output().unwrap();
    let said = text(&output.stderr);
    assert!(said.contains("error[R0645]") && said.contains("s3://none/t"), "{said}");
    assert!(!said.contains("tried again"), "{said}");
}

/// Keys come from the environment or from secrets: a key that stands in a file is refused, and not shown.
#[test]
fn a_key_that_stands_in_a_file_is_refused() {
    let file = PIPELINE.replacen("access_key_id = secret.key", "access_key_id = \"AKIAPLAIN\"", 1);
    let folder = project(&file.replace("PORT", "1"));
    let said = super::lakehead::fail(folder.path(), &["check"], 1);
    assert!(said.contains("error[E0540]") && said.contains("access_key_id = secret.access_key_id"), "{said}");
    assert!(said.contains("\"*********\"") && !said.contains("AKIAPLAIN"), "{said}");
    // What leans on such a connection is not run without the key.
    let said = super::lakehead::fail(folder.path(), &["run", "orders"], 1);
    assert!(said.contains("error[E0540]") && !said.contains("AKIAPLAIN"), "{said}");
}

#[test]
fn a_pipeline_does_not_run_on_a_connection_with_a_mistake() {
    let file = "connection drops files { path = \"in\" }\nconnection lake parquet { path = \"lake\", encrypton = sse_kms }\n\n\
                pipeline p {\n  source rows = drops { path = \"*.csv\", columns = { id = bigint } }\n  \
                sink lake { table = \"t\", mode = append }\n}\n";
    let folder = project(file);
    std::fs::create_dir(folder.path().join("in")).unwrap();
    std::fs::write(folder.path().join("in/1.csv"), "id\n1\n").unwrap();
    let said = super::lakehead::fail(folder.path(), &["run", "p"], 1);
    assert!(said.contains("did you mean `encryption`?"), "{said}");
    assert!(!folder.path().join("lake").exists(), "nothing is written in the clear");
    let nowhere = file.replace("\"lake\", encrypton = sse_kms", "\"ftp://host/lake\"");
    std::fs::write(folder.path().join("p.lake"), nowhere).unwrap();
    for verb in [&["check"][..], &["run", "p"]] {
        let said = super::lakehead::fail(folder.path(), verb, 1);
        assert!(said.contains("R0406") && said.contains("p.lake:2:") && said.contains("s3://bucket/…"), "{said}");
    }
}
