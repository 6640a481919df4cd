//! What people read when something is wrong: whole texts, at most twelve lines, with what was seen, why and the cure.

use super::lakehead::{command, project, succeed, text};
use super::server::Server;

const PIPELINE: &str = r#"
secret pass = env("SHOP_PASSWORD")

connection shop postgres { host = "127.0.0.1", port = PORT, database = "DATABASE", user = "USER", password = secret.pass, tls = TLS }
connection lake delta { path = "lake" }

pipeline mirror {
  trigger continuous
  source shop { capture = cdc, tables = ["public.orders"], slot = "SLOT" }
  sink lake { table = "${table}", mode = upsert }
  retry { max = 0 }
}

test "t" of mirror {
  given shop.orders {
    | id |
    | 1  |
  }
  then lake.orders {
    | id |
    | 1  |
  }
}
"#;

const LOCK: &str = "version = 1\n[shop.\"public.orders\"]\nkey = [\"id\"]\nidentity = \"default\"\ncolumns = [\"id bigint not null\", \"note varchar\"]\n";

struct Story {
    port: u16,
    database: String,
    user: &'static str,
    password: &'static str,
    tls: &'static str,
    slot: &'static str,
}

impl Story {
    fn new(server: &Server, database: &str) -> Self {
        let slot = "lakehead_errors";
        Self { port: server.port(), database: database.into(), user: "postgres", password: "x", tls: "disabled", slot }
    }

    fn project(&self) -> tempfile::TempDir {
        let file = PIPELINE
            .replace("PORT", &self.port.to_string())
            .replace("DATABASE", &self.database)
            .replace("USER", self.user)
            .replace("SLOT", self.slot)
            .replace("TLS", self.tls);
        let folder = project(&file);
        std::fs::write(folder.path().join("lakehead.lock"), LOCK).unwrap();
        folder
    }

    fn run(&self, folder: &tempfile::TempDir) -> std::process::Output {
        let arguments = ["run", "mirror", "--until", "caught-up"];
        command(folder.path()).args(arguments).env("SHOP_PASSWORD", self.password).output().unwrap()
    }

    /// Runs the mirror once and returns what it said.
    fn said(&self) -> String {
        let folder = self.project();
        self.tidied(&folder, &self.run(&folder))
    }

    /// Returns what a run that failed said, with the port and the folder made the same for every run.
    fn tidied(&self, folder: &tempfile::TempDir, output: &std::process::Output) -> String {
        let said = complaint(output);
        said.replace(&self.port.to_string(), "PORT").replace(&folder.path().display().to_string(), "FOLDER")
    }
}

/// Returns what a run that failed said: at most twelve lines, with a cure and without secrets.
#[track_caller]
fn complaint(output: &std::process::Output) -> String {
    assert!(!output.status.success(), "it ran: {}", text(&output.stdout));
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(said.trim().lines().count() <= 12, "{said}");
    assert!(!said.contains("hunter2"), "a secret is shown: {said}");
    assert!(said.contains("help:"), "no cure: {said}");
    said
}

#[track_caller]
fn check(said: &str, expected: &str) {
    assert_eq!(said.trim(), expected.trim(), "\n--- said\n{said}");
}

pub(crate) fn sql(server: &Server, database: &str, statement: &str) -> String {
    let output = std::process::Command::new("psql")
        .args(["-qAt", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres", "-d", database, "-c", statement])
        .args(["-p", &server.port().to_string()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{statement}: {}", text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

fn database(server: &Server, name: &str) {
    sql(server, "postgres", &format!("create database {name}"));
    sql(server, name, "create table orders (id bigint primary key, note varchar)");
}

#[test]
fn a_wrong_password_is_told() {
    let server = Server::shared();
    database(&server, "wrong_password");
    let story = Story { user: "scram", password: "hunter2", ..Story::new(&server, "wrong_password") };
    sql(&server, "postgres", "create role scram login replication password 'right'");
    check(
        &story.said(),
        "error[R0307]: the server refused the password of user `scram`
  server    127.0.0.1:PORT/wrong_password
  sqlstate  28P01
  answer    password authentication failed for user \"scram\"
  = help: set the connection's `password` to the role's password; `ALTER ROLE … PASSWORD` sets a new one",
    );
}

#[test]
fn a_host_that_refuses_is_told() {
    let server = Server::shared();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let story = Story { port: free, ..Story::new(&server, "nowhere") };
    check(
        &story.said(),
        "error[R0302]: the server cannot be reached
  server  127.0.0.1:PORT/nowhere
  cause   Connection refused (os error 111)
  = help: check that the server runs and listens there (`listen_addresses`, `port`)",
    );
}

#[test]
fn a_server_without_tls_is_told() {
    let server = Server::shared();
    database(&server, "no_tls");
    check(
        &Story { tls: "verify_full", ..Story::new(&server, "no_tls") }.said(),
        "error[R0304]: the server does not offer tls
  server  127.0.0.1:PORT/no_tls
  = help: turn `ssl` on in the server's configuration, or set `tls = disabled` where the network itself is trusted",
    );
}

#[test]
fn an_unknown_database_is_told() {
    let server = Server::shared();
    check(
        &Story::new(&server, "no_such_database").said(),
        "error[R0308]: the server has no database `no_such_database`
  server    127.0.0.1:PORT/no_such_database
  sqlstate  3D000
  answer    database \"no_such_database\" does not exist
  = help: `psql -l` lists the databases; set the connection's `database` to one of them",
    );
}

#[test]
fn a_table_that_is_gone_is_told() {
    let server = Server::shared();
    sql(&server, "postgres", "create database misspelt");
    sql(&server, "misspelt", "create table ordres (id bigint primary key)");
    check(
        &Story::new(&server, "misspelt").said(),
        "error[R0314]: no table matches `public.orders`
  pattern  public.orders
  tables   public.ordres
  = help: did the file mean `public.ordres`?",
    );
}

#[test]
fn a_server_that_keeps_no_logical_log_is_told() {
    let server = Server::start(&["wal_level = replica"]);
    database(&server, "replica_only");
    check(
        &Story::new(&server, "replica_only").said(),
        "error[R0320]: the server's log does not hold what changes are decoded from
  server     127.0.0.1:PORT/replica_only
  wal_level  replica
  = help: alter system set wal_level = logical, then restart the server; on a managed service, set \
         rds.logical_replication or its like",
    );
}

#[test]
fn missing_rights_are_told() {
    let server = Server::shared();
    database(&server, "rights");
    sql(
        &server,
        "rights",
        "create role reader login; grant usage on schema public to reader; grant select on orders to reader",
    );
    sql(&server, "rights", "create publication rights_one for table orders");
    let said = Story { user: "reader", slot: "rights_one", ..Story::new(&server, "rights") }.said();
    check(
        &said,
        "error[R0321]: user `reader` may not replicate
  server  127.0.0.1:PORT/rights
  = user `reader` lacks a right while logging in [R0313] server=127.0.0.1:PORT/rights sqlstate=42501 answer=must be \
         superuser or replication role to start walsende
  = help: as a superuser: alter role \"reader\" with replication",
    );
    sql(
        &server,
        "rights",
        "create role streamer login replication; grant usage on schema public to streamer; grant select on orders to streamer",
    );
    check(
        &Story { user: "streamer", slot: "rights_two", ..Story::new(&server, "rights") }.said(),
        "error[R0322]: the publication `rights_two` is missing and may not be created by this user
  publication  rights_two
  = help: as the owner of the tables: create publication \"rights_two\" for table only \"public\".\"orders\" with \
         (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)
          or let the role own the tables, have CREATE on the database, and set `publication_create = true`",
    );
}

#[test]
fn a_slot_that_is_lost_stops_the_pipeline() {
    let server = Server::shared();
    database(&server, "slot_lost");
    sql(&server, "slot_lost", "insert into orders values (1, 'a')");
    let story = Story { slot: "lost_slot", ..Story::new(&server, "slot_lost") };
    let folder = story.project();
    let run = || story.run(&folder);
    let first = run();
    assert!(first.status.success(), "{}", text(&first.stderr));
    sql(&server, "slot_lost", "select pg_drop_replication_slot('lost_slot')");
    let said = story.tidied(&folder, &run());
    check(
        &said,
        "error[R0326]: the replication slot `lost_slot` does not exist any more
  slot  lost_slot
  = help: the log since the last checkpoint is gone, so the tables must be read anew: lakehead resync PIPELINE
          `max_slot_wal_keep_size` bounds how much log the server keeps for a slot that lags",
    );
    // The cure that it names: everything is read anew, and what went meanwhile goes.
    sql(&server, "slot_lost", "delete from orders; insert into orders values (2, 'b'), (3, 'c')");
    let with_password = |arguments: &[&str]| {
        let output = command(folder.path()).args(arguments).env("SHOP_PASSWORD", "x").output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    assert_eq!(
        with_password(&["resync", "mirror"]),
        "mirror: the next run reads everything anew and replaces 1 tables, in one commit each\nnext:  lakehead run mirror\n"
    );
    assert!(run().status.success());
    let verified = with_password(&["verify", "mirror"]);
    assert!(verified.contains("same") && !verified.contains("DIFFERS"), "{verified}");
    sql(&server, "slot_lost", "update orders set note = 'd' where id = 3");
    assert!(run().status.success());
    assert!(!with_password(&["verify", "mirror"]).contains("DIFFERS"));
}

#[test]
fn a_slot_that_somebody_reads_is_told() {
    let server = Server::shared();
    database(&server, "slot_in_use");
    sql(&server, "slot_in_use", "insert into orders values (1, 'a')");
    let story = Story { slot: "busy_slot", ..Story::new(&server, "slot_in_use") };
    let folder = story.project();
    let run = || story.run(&folder);
    assert!(run().status.success());
    let mut reader = std::process::Command::new("pg_recvlogical")
        .args([
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-d",
            "slot_in_use",
            "--slot",
            "busy_slot",
            "--start",
            "-f",
            "/dev/null",
        ])
        .args(["-o", "proto_version=1", "-o", "publication_names=busy_slot", "-p", &server.port().to_string()])
        .spawn()
        .unwrap();
    let taken = "select count(*) from pg_replication_slots where slot_name = 'busy_slot' and active";
    while sql(&server, "postgres", taken) != "1" {
        assert!(reader.try_wait().unwrap().is_none(), "pg_recvlogical ended");
        std::thread::yield_now();
    }
    let pid = sql(&server, "postgres", "select active_pid from pg_replication_slots where slot_name = 'busy_slot'");
    let said = story.tidied(&folder, &run()).replace(&pid, "PID");
    reader.kill().unwrap();
    reader.wait().unwrap();
    check(
        &said,
        "error[R0325]: the replication slot `busy_slot` is in use by another connection
  slot        busy_slot
  active_pid  PID
  = help: another run of this pipeline may still be ending; if not, pg_terminate_backend ends that connection",
    );
}

/// A table without a key is never published for updates: that would break the application's own.
#[test]
fn a_table_without_a_key_in_an_upsert_is_told_before_anything_is_published() {
    let server = Server::shared();
    sql(&server, "postgres", "create database keyless");
    sql(&server, "keyless", "create table orders (id bigint, note varchar)");
    let story = Story { slot: "keyless_slot", ..Story::new(&server, "keyless") };
    let folder = story.project();
    std::fs::write(folder.path().join("lakehead.lock"), LOCK.replace("key = [\"id\"]\n", "")).unwrap();
    let said = story.tidied(&folder, &story.run(&folder));
    check(
        &said,
        "error[E0503]: `mode = upsert` does not know which rows are the same
  ┌─ p.lake:10:8
  │
10│   sink lake { table = \"${table}\", mode = upsert }
  │        ^^^^ needs `key`
  │
  = `shop.public.orders` has no primary key to take over
  = help: sink history = lake from shop.public.orders { mode = append }   for a table without a key",
    );
    assert_eq!(sql(&server, "keyless", "select count(*) from pg_publication"), "0");
    sql(&server, "keyless", "insert into orders values (1, 'a'); update orders set note = 'b'; delete from orders");
}

/// A key of the file's own is no cure: the server would not say which row an update or a delete is about.
#[test]
fn a_key_that_the_source_does_not_send_is_told() {
    let server = Server::shared();
    let story = Story::new(&server, "nowhere_yet");
    let folder = story.project();
    let file = std::fs::read_to_string(folder.path().join("p.lake")).unwrap();
    std::fs::write(folder.path().join("p.lake"), file.replace("mode = upsert }", "mode = upsert, key = [note] }"))
        .unwrap();
    check(
        &story.tidied(&folder, &story.run(&folder)),
        "error[E0507]: the source does not say which `note` a change is about
  ┌─ p.lake:10:8
  │
10│   sink lake { table = \"${table}\", mode = upsert, key = [note] }
  │        ^^^^ keyed by `note`
  │
  = a delete of `shop.public.orders` carries its key alone: id
  = help: leave `key` out to take the source's own; or have the source send whole old rows: alter table … replica identity full",
    );
}

#[test]
fn a_full_disk_is_told_and_nothing_is_committed_in_part() {
    let folder = project(super::stories::TWO_TABLES);
    let lake = folder.path().join("lake");
    std::fs::create_dir(&lake).unwrap();
    let mounted =
        std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(&lake).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        println!("skipped: a small file system cannot be mounted here");
        return;
    }
    let filler = vec![0_u8; 40 * 1024];
    std::fs::write(lake.join("filler"), filler).unwrap();
    let output = command(folder.path()).args(["run", "split"]).output().unwrap();
    std::fs::remove_file(lake.join("filler")).unwrap();
    let again = succeed_or_text(folder.path());
    let rows = super::stories::rows_of(folder.path());
    let _ = std::process::Command::new("umount").arg(&lake).output();
    assert_eq!(rows, 1000, "{again}");
    let said = complaint(&output);
    let object = said.lines().find_map(|line| line.strip_prefix("  location  ")).unwrap_or_default();
    assert!(object.ends_with(".parquet"), "{said}");
    check(
        &said.replace(object, "OBJECT"),
        "error[R0401]: the disk of the lake is full
  location  OBJECT
  = No space left on device (os error 28)
  = help: free space, then start again: nothing was committed in part",
    );
}

fn succeed_or_text(folder: &std::path::Path) -> String {
    let output = command(folder).args(["run", "split"]).output().unwrap();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_file_that_cannot_be_read_is_set_aside_and_the_others_go_on() {
    let folder = project(
        "connection drops files { path = \"in\" }\nconnection lake delta { path = \"lake\" }\n\
         pipeline p {\n  source rows = drops { path = \"*.csv.gz\", columns = { id = bigint }, on_misfit = drop }\n\
         sink lake { table = \"t\", mode = append }\n}\n",
    );
    std::fs::create_dir(folder.path().join("in")).unwrap();
    std::fs::write(folder.path().join("in/broken.csv.gz"), b"\x1f\x8b not a gzip").unwrap();
    let good = std::process::Command::new("sh")
        .args(["-c", "printf 'id\\n1\\n2\\n' | gzip > in/good.csv.gz"])
        .current_dir(folder.path())
        .status();
    assert!(good.unwrap().success());
    let said = succeed(folder.path(), &["run", "p"]);
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("set aside") || line.contains("inputs")).collect();
    let expected = [
        " set aside: broken.csv.gz: its gzip data are broken: invalid gzip header",
        " 1 rows set aside",
        "1 inputs could not be read and were set aside",
    ];
    assert!(expected.iter().all(|line| lines.contains(line)), "{said}");
}

#[test]
fn a_location_that_cannot_be_written_is_told() {
    let folder = project(&super::stories::TWO_TABLES.replace("\"lake\"", "\"/proc/nothing/lake\""));
    let output = command(folder.path()).args(["run", "split"]).output().unwrap();
    check(
        &complaint(&output),
        "error[R0402]: the lake's location cannot be written
  location  file:///proc/nothing/lake/_lakehead/e2882978-a6cf-5c54-87bc-e012e1380944/epoch/00000000000000000001.json
  = No such file or directory (os error 2)
  = help: make the folder, or change `path` of the connection",
    );
}
