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

    /// Runs the mirror once and returns what it said, with the port and the folder made the same for every run.
    fn said(&self) -> String {
        let folder = self.project();
        let output = command(folder.path())
            .args(["run", "mirror", "--until", "caught-up"])
            .env("SHOP_PASSWORD", self.password)
            .output()
            .unwrap();
        assert!(!output.status.success(), "it ran: {}", text(&output.stdout));
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(said.trim().lines().count() <= 12, "{said}");
        assert!(!said.contains("hunter2"), "a secret is shown: {said}");
        assert!(said.contains("help:"), "no cure: {said}");
        said.replace(&self.port.to_string(), "PORT").replace(&folder.path().display().to_string(), "FOLDER")
    }
}

#[track_caller]
fn check(said: &str, expected: &str) {
    assert_eq!(said.trim(), expected.trim(), "\n--- said\n{said}");
}

fn sql(server: &Server, database: &str, statement: &str) -> String {
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
    assert!(
        said.starts_with("error[R0321]: user `reader` may not replicate\n  server  127.0.0.1:PORT/rights\n"),
        "{said}"
    );
    assert!(said.ends_with("  = help: as a superuser: alter role \"reader\" with replication\n"), "{said}");
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
    let run = || {
        command(folder.path())
            .args(["run", "mirror", "--until", "caught-up"])
            .env("SHOP_PASSWORD", "x")
            .output()
            .unwrap()
    };
    let first = run();
    assert!(first.status.success(), "{}", text(&first.stderr));
    sql(&server, "slot_lost", "select pg_drop_replication_slot('lost_slot')");
    let second = run();
    let said = text(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("slot") && said.contains("help:"), "{said}");
    assert!(said.lines().filter(|line| !line.contains("WARN")).count() <= 12, "{said}");
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
    let said = text(&output.stderr);
    std::fs::remove_file(lake.join("filler")).unwrap();
    let again = succeed_or_text(folder.path());
    let rows = super::stories::rows_of(folder.path());
    let _ = std::process::Command::new("umount").arg(&lake).output();
    assert!(!output.status.success(), "it ran on a full disk");
    assert!(said.contains("R0401") && said.contains("free space"), "{said}");
    assert_eq!(rows, 1000, "{again}");
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
    assert!(said.contains("set aside: broken.csv.gz"), "{said}");
    assert!(said.contains("2 rows read, 2 written"), "{said}");
}
