//! A lake in Azure's Blob Storage, as Microsoft's emulator has it: it checks signatures and conditions.

use std::path::Path;
use std::process::{Command, Stdio};

use super::buckets::free_port;
use super::crashes::holds_each_row_once;
use super::lakehead::{command, project, text};
use super::running::Running;

/// The account and key that every Azurite has; they are printed in its documentation.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Makes a container: its arguments are the endpoint, the account, the key and the container.
const MAKE: &str = "
import base64, hashlib, hmac, sys, urllib.request
from email.utils import formatdate
endpoint, account, key, container = sys.argv[1:]
date = formatdate(usegmt=True)
heads = {'x-ms-date': date, 'x-ms-version': '2021-08-06'}
lines = ['PUT'] + [''] * 11 + [f'{name}:{value}' for name, value in heads.items()]
lines += [f'/{account}/{account}/{container}', 'restype:container']
digest = hmac.new(base64.b64decode(key), '\\n'.join(lines).encode(), hashlib.sha256).digest()
heads |= {'Authorization': f'SharedKey {account}:{base64.b64encode(digest).decode()}', 'Content-Type': ''}
urllib.request.urlopen(urllib.request.Request(f'{endpoint}/{container}?restype=container', headers=heads, method='PUT'))
";

const READ: &str = "
import sys, polars
endpoint, account, key = sys.argv[1:]
options = {'account_name': account, 'account_key': key, 'azure_storage_endpoint': endpoint, 'azure_allow_http': 'true'}
print(sorted(polars.read_delta('az://lake/tables/newest', storage_options=options).rows()))
";

const PIPELINES: &str = "
connection drops files { path = \"in\" }
connection lake delta { path = \"az://lake/tables\" }
connection raw parquet { path = \"az://lake/raw\" }

pipeline orders {
  source rows = drops { path = \"*.csv\", columns = { id = bigint, note = varchar } }
  sink newest = lake from rows { table = \"newest\", mode = upsert, key = [id] }
  sink plain = raw from rows { table = \"plain\", bucket_by = [id], bucket_count = 2 }
}
";

/// A server, stopped at the end.
struct Azurite {
    _server: Running,
    endpoint: String,
    _folder: tempfile::TempDir,
}

impl Azurite {
    /// Starts one with a container `lake`; `None` where none is installed.
    fn start() -> Option<Self> {
        let (Some(program), Some(python)) =
            (std::env::var_os("LAKEHEAD_AZURITE"), std::env::var_os("LAKEHEAD_READERS"))
        else {
            println!("skipped: Azurite or the readers of other houses are absent (tests/azurite/install)");
            return None;
        };
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let mut azurite = Command::new(program);
        azurite
            .args(["--skipApiVersionCheck", "--blobPort", &port.to_string(), "--location"])
            .arg(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let server = Running::start(azurite, |server| server.stdout.take().unwrap(), "successfully listens");
        let endpoint = format!("http://127.0.0.1:{port}/{ACCOUNT}");
        let made = Command::new(python).args(["-c", MAKE, &endpoint, ACCOUNT, KEY, "lake"]).output().unwrap();
        assert!(made.status.success(), "{}", text(&made.stderr));
        Some(Self { _server: server, endpoint, _folder: folder })
    }

    /// Runs lakehead with the environment of the account; returns whether it succeeded, and what it said.
    fn lakehead(&self, folder: &Path, more: &[(&str, &str)], arguments: &[&str]) -> (bool, String) {
        let output = command(folder)
            .args(arguments)
            .envs([("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT), ("AZURE_STORAGE_ACCOUNT_KEY", KEY)])
            .envs([("AZURE_STORAGE_ENDPOINT", self.endpoint.as_str()), ("AZURE_ALLOW_HTTP", "true")])
            .envs(more.iter().copied())
            .output()
            .unwrap();
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(!said.contains(KEY), "{said}");
        (output.status.success(), said)
    }
}

#[test]
fn a_lake_in_azure_holds_each_row_once_through_crashes() {
    let Some(azurite) = Azurite::start() else { return };
    let folder = project(PIPELINES);
    let lakehead = |more: &[(&str, &str)], arguments: &[&str]| azurite.lakehead(folder.path(), more, arguments);
    holds_each_row_once(folder.path(), lakehead, &[READ, &azurite.endpoint, ACCOUNT, KEY]);
}

#[test]
fn what_azure_refuses_is_said_at_once_with_its_cure() {
    let Some(azurite) = Azurite::start() else { return };
    let folder = project(PIPELINES);
    std::fs::create_dir(folder.path().join("in")).unwrap();
    std::fs::write(folder.path().join("in/1.csv"), "id,note\n1,a\n").unwrap();
    let elsewhere = project(&PIPELINES.replace("az://lake/", "az://none/"));
    std::fs::create_dir(elsewhere.path().join("in")).unwrap();
    std::fs::write(elsewhere.path().join("in/1.csv"), "id,note\n1,a\n").unwrap();
    for (folder, environment, code, cure) in [
        (&folder, [("AZURE_STORAGE_ACCOUNT_KEY", "AAAA")], "R0402", "check the credentials"),
        (&folder, [("AZURE_STORAGE_ACCOUNT_KEY", "not base64")], "R0644", "AZURE_STORAGE_ACCOUNT_KEY"),
        (&elsewhere, [("NOTHING", "")], "R0645", "make it"),
    ] {
        let (ran, said) = azurite.lakehead(folder.path(), &environment, &["run", "orders"]);
        assert!(!ran && said.contains(code) && said.contains(cure), "{said}");
        assert!(!said.contains("tried again"), "{said}");
    }
}
