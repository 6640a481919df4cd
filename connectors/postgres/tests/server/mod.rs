//! A PostgreSQL server of the tests' own: its own folder, a free port, stopped when the last test lets go of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};

use lakehead_core::{Settings, Value};
use tempfile::TempDir;

static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());

/// Who may log in how, before the line that trusts everybody: `scram` by SCRAM, `clear` by a readable password.
const ACCESS: &str = "host all scram 127.0.0.1/32 scram-sha-256
host all scram ::1/128 scram-sha-256
host all clear 127.0.0.1/32 password
local all all trust
host all all 127.0.0.1/32 trust
host all all ::1/128 trust
";

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    folder: TempDir,
    binaries: PathBuf,
    port: u16,
}

impl Server {
    /// Returns the server that the tests of this process share; each makes a database of its own in it.
    pub(crate) fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(server) = shared.upgrade() {
            return server;
        }
        let server = Arc::new(Self::start(&["wal_level = logical"]));
        *shared = Arc::downgrade(&server);
        server
    }

    /// Starts a server with these lines in its configuration.
    pub(crate) fn start(lines: &[&str]) -> Self {
        let binaries = binaries();
        let folder = TempDir::with_prefix("lakehead-pg-").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let own = folder.path().join("server");
        fs::create_dir(&own).unwrap();
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&own));
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self { folder, binaries, port };
        let data = server.data();
        run(server.tool("initdb").args(["-A", "trust", "-E", "UTF8", "-U", "postgres", "--no-sync", "-D"]).arg(&data));
        let mut configuration = format!(
            "port = {port}\nlisten_addresses = 'localhost'\nunix_socket_directories = '{}'\nfsync = off\n\
             max_replication_slots = 200\nmax_wal_senders = 50\nmax_connections = 200\nmax_prepared_transactions = 5\n",
            own.display()
        );
        configuration.push_str(&lines.join("\n"));
        fs::write(data.join("postgresql.auto.conf"), configuration).unwrap();
        fs::write(data.join("pg_hba.conf"), ACCESS).unwrap();
        server.boot();
        server
    }

    /// Starts the processes.
    pub(crate) fn boot(&self) {
        let log = self.folder.path().join("server/log");
        run(self.tool("pg_ctl").args(["-w", "-s", "start", "-D"]).arg(self.data()).arg("-l").arg(log));
    }

    /// Starts it again as a standby, whose primary sends nothing.
    pub(crate) fn stand_by(&self) {
        run(self.tool("pg_ctl").args(["-w", "-s", "-m", "fast", "stop", "-D"]).arg(self.data()));
        fs::write(self.data().join("standby.signal"), "").unwrap();
        self.boot();
    }

    /// Begins a shutdown as an administrator asks for it, without waiting for its end.
    pub(crate) fn begin_shutdown(&self) {
        run(self.tool("pg_ctl").args(["-W", "-s", "-m", "fast", "stop", "-D"]).arg(self.data()));
    }

    /// Returns whether its processes are there.
    pub(crate) fn is_up(&self) -> bool {
        self.data().join("postmaster.pid").exists()
    }

    /// Returns the folder of the server's files.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("server/data")
    }

    /// Returns the folder of the unix socket.
    pub(crate) fn socket_folder(&self) -> PathBuf {
        self.folder.path().join("server")
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns the settings of a `connection` block for one of its databases, without TLS.
    pub(crate) fn connection(&self, database: &str) -> Settings {
        let mut settings = Settings::default();
        settings.set("host", Value::Text("127.0.0.1".into()));
        settings.set("port", Value::Int(i64::from(self.port)));
        settings.set("database", Value::Text(database.into()));
        settings.set("user", Value::Text("postgres".into()));
        settings.set("tls", Value::Name("disabled".into()));
        settings
    }

    /// Returns one of PostgreSQL's programs, to be run as a user who may run it.
    fn tool(&self, name: &str) -> Command {
        let program = self.binaries.join(name);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir("/");
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The folder goes away with the server, so there is nothing to shut down with care.
        let _ = self.tool("pg_ctl").args(["-s", "-m", "immediate", "stop", "-D"]).arg(self.data()).output();
    }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout.starts_with(b"0\n")
}

/// Finds the folder with PostgreSQL's programs: on the path, or where Debian puts them.
fn binaries() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort();
    let listed = Command::new("sh").args(["-c", "command -v pg_ctl"]).output().unwrap();
    let on_path = Path::new(String::from_utf8_lossy(&listed.stdout).trim()).canonicalize().ok();
    folders.extend(on_path.and_then(|path| path.parent().map(Path::to_owned)));
    let found = folders.into_iter().rev().find(|folder| folder.join("initdb").exists());
    found.expect("these tests need PostgreSQL's programs: install the package postgresql")
}

fn run(command: &mut Command) {
    // No pipes: the server would inherit them and keep them open.
    let status = command.stdout(std::process::Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?} failed: {status}");
}
