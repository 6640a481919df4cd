//! A lake in Google's store, by its own dialect of S3's calls.
//!
//! No server that a package brings has the part of Google's API that lists, writes in parts and removes. So the client's
//! calls are put into S3's words where the two differ, and go on to the S3 server of the other tests: whoever calls shows
//! a token that was signed by a service account's key, a create says `x-goog-if-generation-match: 0`, a copy
//! `x-goog-copy-source`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::buckets::Bucket;
use super::crashes::{holds_each_row_once, put};
use super::lakehead::{command, project, text};

const SIGNED: &str = "Authorization: AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/aws4_request";

const PIPELINES: &str = "
connection drops files { path = \"in\" }
connection lake delta { path = \"gs://lake/tables\" }
connection raw parquet { path = \"gs://lake/raw\" }

pipeline orders {
  source rows = drops { path = \"*.csv\", columns = { id = bigint, note = varchar } }
  sink newest = lake from rows { table = \"newest\", mode = upsert, key = [id] }
  sink plain = raw from rows { table = \"plain\", bucket_by = [id], bucket_count = 2 }
}
";

const READ: &str = "
import sys, polars
options = {'google_service_account': sys.argv[1], 'allow_http': 'true'}
print(sorted(polars.read_delta('gs://lake/tables/newest', storage_options=options).rows()))
";

/// What a store does with the condition of a create.
#[derive(Clone, Copy, PartialEq)]
enum Conditions {
    Kept,
    Dropped,
}

/// A store that is asked in Google's dialect, with a bucket `lake`.
struct Google {
    bucket: Bucket,
    address: String,
    /// The file of a service account that may call it.
    account: PathBuf,
    _folder: tempfile::TempDir,
}

impl Google {
    /// Starts one; `None` where no S3 server is installed.
    fn start(conditions: Conditions) -> Option<Self> {
        let Some(bucket) = Bucket::start() else {
            println!("skipped: an S3 server is absent");
            return None;
        };
        let (listener, port) = (TcpListener::bind("127.0.0.1:0").unwrap(), bucket.port);
        let address = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                // A caller that aborts cuts its calls off.
                std::thread::spawn(move || pass_on(client.unwrap(), port, conditions).ok());
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let account = folder.path().join("account.json");
        let made = Command::new("openssl").args(["genrsa", "2048"]).output().unwrap();
        let said = json!({
            "type": "service_account", "client_email": "lake@project.example", "private_key_id": "1",
            "private_key": text(&made.stdout), "gcs_base_url": address,
        });
        std::fs::write(&account, said.to_string()).unwrap();
        Some(Self { bucket, address, account, _folder: folder })
    }

    /// Runs lakehead as the account; returns whether it succeeded, and what it said.
    fn lakehead(&self, folder: &Path, more: &[(&str, &str)], arguments: &[&str]) -> (bool, String) {
        let output = command(folder)
            .args(arguments)
            .env("GOOGLE_APPLICATION_CREDENTIALS", &self.account)
            .env("GOOGLE_BASE_URL", &self.address)
            .envs(more.iter().copied())
            .output()
            .unwrap();
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(!said.contains("PRIVATE KEY"), "{said}");
        (output.status.success(), said)
    }

    /// The names of all objects, and their entity tags: that of an object which went up in parts ends in their number.
    fn objects(&self) -> Vec<(String, String)> {
        let url = format!("http://127.0.0.1:{}/lake?list-type=2", self.bucket.port);
        let listed = text(&Command::new("curl").args(["-s", "-H", SIGNED, &url]).output().unwrap().stdout);
        let part = |object: &str, name: &str| {
            let (_, rest) = object.split_once(&format!("<{name}>")).expect("an object has it");
            rest.split_once('<').unwrap().0.replace("&quot;", "").replace('"', "")
        };
        listed.split("<Contents>").skip(1).map(|object| (part(object, "Key"), part(object, "ETag"))).collect()
    }
}

/// Passes one call on, and the answer back.
fn pass_on(client: TcpStream, port: u16, conditions: Conditions) -> std::io::Result<()> {
    let mut reader = BufReader::new(client);
    let (mut head, mut length, mut is_signed) = (String::new(), 0, false);
    reader.read_line(&mut head)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => {
                let parts: Vec<_> = value.trim_start_matches("Bearer ").split('.').collect();
                is_signed = parts.len() == 3 && parts.iter().all(|part| !part.is_empty());
            }
            "x-goog-if-generation-match" => {
                assert_eq!(value, "0", "no object is written over");
                if conditions == Conditions::Kept {
                    head += "If-None-Match: *\r\n";
                }
            }
            "x-goog-copy-source" => head += &format!("x-amz-copy-source: {value}\r\n"),
            "connection" => {}
            "content-length" => {
                length = value.parse().expect("a length");
                head += &line;
            }
            _ => head += &line,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut client = reader.into_inner();
    if !is_signed {
        return client.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    server.write_all(format!("{head}{SIGNED}\r\nConnection: close\r\n\r\n").as_bytes())?;
    server.write_all(&body)?;
    std::io::copy(&mut server, &mut client).map(drop)
}

#[test]
fn a_lake_in_googles_store_holds_each_row_once_through_crashes() {
    let Some(google) = Google::start(Conditions::Kept) else { return };
    let folder = project(PIPELINES);
    let lakehead = |more: &[(&str, &str)], arguments: &[&str]| google.lakehead(folder.path(), more, arguments);
    holds_each_row_once(folder.path(), lakehead, &[READ, google.account.to_str().unwrap()]);
}

#[test]
fn a_store_that_drops_googles_condition_is_found_before_anything_is_written() {
    let Some(google) = Google::start(Conditions::Dropped) else { return };
    let folder = project(PIPELINES);
    put(folder.path(), 1);
    let (ran, said) = google.lakehead(folder.path(), &[], &["run", "orders"]);
    assert!(!ran && said.contains("R0643") && said.contains("conditional writes"), "{said}");
    assert!(!said.contains("tried again"), "{said}");
    let objects = google.objects();
    assert!(
        !objects.is_empty() && objects.iter().all(|(name, _)| name.ends_with("_lakehead/_created_once")),
        "{objects:?}"
    );
}

#[test]
fn what_is_too_large_for_one_call_goes_to_googles_store_in_parts() {
    let Some(google) = Google::start(Conditions::Kept) else { return };
    let folder = project(PIPELINES);
    std::fs::create_dir(folder.path().join("in")).unwrap();
    let mut rows = "id,note\n".to_owned();
    // Texts that do not pack: the steps of a generator with the full period, as letters.
    let mut state = 1_u64;
    for id in 0..150_000 {
        rows.push_str(&format!("{id},"));
        for _ in 0..16 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            rows.extend((0..10).map(|at| char::from(b'A' + (state >> (24 + 4 * at) & 15) as u8)));
        }
        rows.push('\n');
    }
    std::fs::write(folder.path().join("in/1.csv"), rows).unwrap();
    let (ran, said) = google.lakehead(folder.path(), &[], &["run", "orders"]);
    assert!(ran, "{said}");
    let in_parts = |(name, tag): &(String, String)| name.ends_with(".parquet") && tag.contains('-');
    assert!(google.objects().iter().any(in_parts), "{:?}", google.objects());
    let (same, said) = google.lakehead(folder.path(), &[], &["verify", "orders"]);
    assert!(same && !said.contains("DIFFERENT"), "{said}");
}

#[test]
fn what_googles_store_refuses_is_said_at_once_with_its_cure() {
    let Some(google) = Google::start(Conditions::Kept) else { return };
    let folder = project(PIPELINES);
    let elsewhere = project(&PIPELINES.replace("gs://lake/", "gs://none/"));
    put(folder.path(), 1);
    put(elsewhere.path(), 1);
    let unsound = folder.path().join("unsound.json");
    std::fs::write(&unsound, "{\"type\":\"service_account\"}").unwrap();
    let unsigned = folder.path().join("unsigned.json");
    let account = json!({ "private_key": "", "private_key_id": "", "client_email": "", "disable_oauth": true });
    std::fs::write(&unsigned, account.to_string()).unwrap();
    for (folder, name, value, code, cure) in [
        (
            &folder,
            "GOOGLE_APPLICATION_CREDENTIALS",
            unsound.to_str().unwrap(),
            "R0644",
            "GOOGLE_APPLICATION_CREDENTIALS",
        ),
        (&folder, "GOOGLE_SERVICE_ACCOUNT", unsigned.to_str().unwrap(), "R0402", "check the credentials"),
        (&elsewhere, "NOTHING", "", "R0645", "make it"),
    ] {
        let mut environment = vec![(name, value)];
        if name == "GOOGLE_SERVICE_ACCOUNT" {
            environment.push(("GOOGLE_APPLICATION_CREDENTIALS", ""));
        }
        let (ran, said) = google.lakehead(folder.path(), &environment, &["run", "orders"]);
        assert!(!ran && said.contains(code) && said.contains(cure), "{said}");
        assert!(!said.contains("tried again"), "{said}");
    }
}
