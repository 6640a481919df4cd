//! `examples/postgres_mirror` as a test: a live mirror of pgbench, killed with -9 at random, equal to its source after.

use std::process::Command;

use super::lakehead::{binary, root, text};

#[test]
fn a_live_mirror_survives_kill_9_and_equals_its_source() {
    mirror(&[]);
}

/// The same into a bucket, where a request that is cut off may have had its effect.
#[test]
fn a_live_mirror_in_a_bucket_survives_kill_9_and_equals_its_source() {
    if std::env::var_os("LAKEHEAD_READERS").is_none() {
        println!("skipped: moto absent");
        return;
    }
    mirror(&[("STORE", "moto")]);
}

/// And into one of an S3 server that checks signatures: `tests/s3/install` installs it.
#[test]
fn a_live_mirror_in_a_bucket_of_a_server_survives_kill_9_and_equals_its_source() {
    if std::env::var_os("LAKEHEAD_READERS").is_none() || std::env::var_os("VERSITYGW").is_none() {
        println!("skipped: versitygw absent (tests/s3/install)");
        return;
    }
    mirror(&[("STORE", "versitygw")]);
}

/// Runs the example; KILLS and SECONDS_OF_LOAD of the environment ask for more than it does here.
fn mirror(settings: &[(&str, &str)]) {
    let mut script = Command::new(root().join("examples/postgres_mirror/run.sh"));
    script.env("LAKEHEAD", binary()).env("NO_COLOR", "1").envs(settings.iter().copied());
    for (name, value) in [("KILLS", "20"), ("SECONDS_OF_LOAD", "25")] {
        if std::env::var_os(name).is_none() {
            script.env(name, value);
        }
    }
    // Where readers of other houses are installed, they are asked too; the test command installs them.
    if let Some(python) = std::env::var_os("LAKEHEAD_READERS") {
        script.env("PYTHON", python);
    } else {
        println!("skipped: duckdb and polars absent");
    }
    let output = script.output().unwrap();
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{shown}\n{}", text(&output.stderr));
    assert!(shown.contains("killed 20 times") || std::env::var_os("KILLS").is_some(), "{shown}");
    assert_eq!(shown.matches("same").count(), 4, "{shown}");
}

/// Two processes on one pipeline: the later takes over, the older is fenced, nothing is doubled (delivery 3.8).
#[test]
fn of_two_daemons_the_later_takes_over_and_nothing_is_doubled() {
    use super::lakehead::{command, succeed};
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &["init", "demo"]);
    let demo = folder.path().join("demo");
    // The first stands still inside its round, after its record of the position and before the table's commit.
    let first = command(&demo)
        .args(["run", "hello"])
        .env("LAKEHEAD_FAILPOINTS", "engine.document=delay(3000)")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_document(&demo);
    succeed(&demo, &["run", "hello"]);
    let older = first.wait_with_output().unwrap();
    let said = text(&older.stderr);
    assert!(!older.status.success() && said.contains("R0201"), "{said}");
    // What the older read and did not commit is read by the next run: rows 1..=500 once, then the next ones.
    let third = succeed(&demo, &["run", "hello", "--format", "json"]);
    assert!(third.contains("\"round\":2"), "{third}");
}

/// Waits until the first daemon has written its position, by looking at the folder it writes to.
fn wait_for_document(demo: &std::path::Path) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while std::time::Instant::now() < deadline {
        let found = Command::new("find").arg(demo.join("lake")).args(["-path", "*/pos/*.json"]).output();
        if found.is_ok_and(|found| !found.stdout.is_empty()) {
            return;
        }
        std::thread::yield_now();
    }
    panic!("the first daemon wrote no position");
}

/// `init --from` writes a mirror that checks, runs, and equals its source: with a keyless table, unsent large values, key
/// changes, deletes, a truncate, and a column added while the pipeline was away.
#[test]
fn a_database_is_mirrored_from_its_address_alone() {
    use super::lakehead::{command, succeed};
    let server = super::server::Server::shared();
    let sql = |database: &str, statements: &[&str]| {
        for statement in statements {
            let output = Command::new("psql")
                .args(["-qAt", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres", "-d", database])
                .args(["-p", &server.port().to_string(), "-c", statement])
                .output()
                .unwrap();
            assert!(output.status.success(), "{statement}: {}", text(&output.stderr));
        }
    };
    sql("postgres", &["create database shop"]);
    sql(
        "shop",
        &[
            "create table orders (id bigint primary key, note text, amount numeric(12, 2), at timestamptz, tags text[])",
            "create table items (a int, b varchar(10), body text, primary key (a, b))",
            "create table log (line text)",
            "insert into orders select n, 'n' || n, n / 7.0, now(), array['a', null] from generate_series(1, 500) n",
            "alter table items alter column body set storage external",
            "insert into items select n, 'k' || n, repeat(md5(n::text), 400) from generate_series(1, 50) n",
            "insert into log values ('one')",
        ],
    );
    let folder = tempfile::tempdir().unwrap();
    let url = format!("postgres://postgres@127.0.0.1:{}/shop?sslmode=disable", server.port());
    let said = succeed(folder.path(), &["init", "m", "--from", &url]);
    assert!(said.contains("create publication") && said.contains("3 tables, 1 without a key"), "{said}");
    let project = folder.path().join("m");
    let file = std::fs::read_to_string(project.join("mirror.lake")).unwrap();
    assert!(file.lines().count() <= 25, "{file}");
    succeed(&project, &["check"]);
    succeed(&project, &["fmt", "--check"]);
    let run = |verb: &[&str]| {
        let output = command(&project).args(verb).env("SOURCE_PASSWORD", "x").output().unwrap();
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{verb:?}: {said}");
        said
    };
    run(&["run", "mirror", "--until", "caught-up"]);
    let equal = run(&["verify", "mirror"]);
    assert!(equal.contains("same") && !equal.contains("DIFFERS"), "{equal}");
    sql(
        "shop",
        &[
            "update orders set note = 'x' where id % 7 = 0",
            "delete from orders where id % 11 = 0",
            "update orders set id = id + 10000 where id % 13 = 0",
            "update items set b = 'same' where a % 3 = 0",
            "update items set a = a + 1000 where a % 5 = 0",
            "update items set a = a where a % 7 = 0",
            "begin; insert into orders values (7, 'swap', 1, now(), null) on conflict (id) do update set note = 'again'; delete from orders where id = 7; insert into orders values (7, 'back', 2, now(), '{}'); commit",
            "alter table orders add column extra int default 5",
            "insert into orders (id, note, extra) values (90001, 'late', 6)",
            "insert into log values ('two'), ('three')",
        ],
    );
    run(&["run", "mirror", "--until", "caught-up"]);
    let equal = run(&["verify", "mirror"]);
    assert!(!equal.contains("DIFFERS"), "{equal}");
    sql("shop", &["truncate items", "insert into items values (1, 'a', 'new')"]);
    run(&["run", "mirror", "--until", "caught-up"]);
    let equal = run(&["verify", "mirror"]);
    assert!(!equal.contains("DIFFERS"), "{equal}");
}
