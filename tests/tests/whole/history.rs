//! `mode = scd2` through the binary: the language's own page, mistakes with place and cure, a run and its table.

use super::errors::sql;
use super::lakehead::{command, fail, project, root, succeed, text};
use super::server::Server;

const PIPELINE: &str = r#"connection lake delta { path = "lake" }

pipeline history {
  source customers = generate {
    rows    = 400
    columns = { id = sequence(), name = name(), segment = choice(["small", "large"]) }
    changes = { key = id, updates = 40%, deletes = 10% }
  }

  sink lake { table = "customers", mode = scd2 }
}
"#;

/// The acceptance file as it stands, but for the connector that is missing.
#[test]
fn the_language_s_own_history_checks_clean_and_its_test_passes() {
    let acceptance = root().join("dsl/syntax/tests/acceptance");
    let file = std::fs::read_to_string(acceptance.join("02_customer_history.lake")).unwrap();
    let connections = "secret crm_password = env(\"CRM\")\n\nconnection lake delta { path = \"lake\" }\n\nconnection ops webhook { url = \"http://localhost/\" }\n\n\
                       connection crm postgres {\n  host     = \"h\"\n  database = \"crm\"\n  user     = \"u\"\n  password = secret.crm_password\n}\n\n";
    let file = file.replace("use \"shared\"\n", connections).replace("server_id = 5401", "slot = \"lakehead_crm\"");
    let folder = project(&file);
    std::fs::copy(acceptance.join("lakehead.lock"), folder.path().join("lakehead.lock")).unwrap();
    let said = succeed(folder.path(), &["check"]);
    assert!(!said.contains("error[") && !said.contains("warning["), "{said}");
    let said = succeed(folder.path(), &["test"]);
    assert!(said.contains("1 test, 1 ok, 0 failed"), "{said}");
}

#[test]
fn the_shipped_example_checks_tests_and_runs() {
    let file = std::fs::read_to_string(root().join("examples/history/history.lake")).unwrap();
    let folder = project(&file);
    assert!(!succeed(folder.path(), &["check"]).contains("error["));
    let said = succeed(folder.path(), &["test"]);
    assert!(said.contains("3 tests, 3 ok, 0 failed"), "{said}");
    let said = succeed(folder.path(), &["run", "customer_history", "--rows", "3"]);
    assert!(said.contains("valid_from") && said.contains("is_deleted"), "{said}");
}

#[track_caller]
fn refused(from: &str, to: &str, expected: &str) {
    assert!(PIPELINE.contains(from), "{from}");
    let folder = project(&PIPELINE.replace(from, to));
    let said = fail(folder.path(), &["check"], 1);
    assert!(said.starts_with(expected), "\n--- wanted\n{expected}\n--- said\n{said}");
    assert_eq!(said.matches("error[").count(), 1, "{said}");
}

#[test]
fn what_versions_cannot_be_made_of_is_told_with_place_and_cure() {
    refused(
        "segment = choice([\"small\", \"large\"])",
        "valid_to = recent(\"1h\")",
        "error[E0512]: `valid_to` is a column that `mode = scd2` adds itself
  ┌─ p.lake:10:43
  │
10│   sink lake { table = \"customers\", mode = scd2 }
  │                                           ^^^^ the rows have one already
  │
  = it adds: valid_from, valid_to, is_current, is_deleted
  = help: derive { valid_to as source_valid_to }   drop { valid_to }   before the sink
",
    );
    refused(
        "    changes = { key = id, updates = 40%, deletes = 10% }\n  }\n\n  sink lake { table = \"customers\", mode = scd2 }",
        "  }\n\n  sink lake { table = \"customers\", mode = scd2, sequence_by = name }",
        "error[E0503]: `mode = scd2` does not know which rows are the same",
    );
    refused(
        "    changes = { key = id, updates = 40%, deletes = 10% }\n  }\n\n  sink lake { table = \"customers\", mode = scd2 }",
        "  }\n\n  sink lake { table = \"customers\", mode = scd2, key = [id] }",
        "error[E0513]: `mode = scd2` does not know which row is newer
  ┌─ p.lake:9:8
  │
 9│   sink lake { table = \"customers\", mode = scd2, key = [id] }
  │        ^^^^ needs the order of a change log
  │
  = the rows of `customers` are no changes
  = help: capture = cdc   in the source;   or   sequence_by = updated_at   here
",
    );
    refused(
        "mode = scd2 }",
        "mode = upsert, ignore_columns = [name] }",
        "error[E0514]: `ignore_columns` says nothing in `mode = upsert`
  ┌─ p.lake:10:51
  │
10│   sink lake { table = \"customers\", mode = upsert, ignore_columns = [name] }
  │                                                   ^^^^^^^^^^^^^^ only `scd2` opens versions
  │
  = help: leave it out
",
    );
    refused(
        "mode = scd2 }",
        "mode = scd2, deletes = rewrite }",
        "error[E0514]: `deletes` says nothing in `mode = scd2`",
    );
    refused(
        "mode = scd2 }",
        "mode = scd2, partition_by = [day(valid_from)] }",
        "error[E0515]: rows cannot be laid out by `valid_from_day`",
    );
}

const SOFT: &str = r#"connection lake delta { path = "lake" }

pipeline soft {
  source customers = generate {
    rows    = 400
    columns = { id = sequence(), name = name() }
    changes = { key = id, updates = 20%, deletes = 20% }
  }

  sink lake { table = "customers", mode = upsert, on_delete = soft }
}

test "a deleted row stays with its last values, and is back when its key is" of soft {
  given customers {
    | _op | id | name |
    | c   | 1  | Ann  |
    | c   | 2  | Bob  |
    | u   | 2  | Bo   |
    | d   | 1  |      |
    | d   | 2  |      |
    | c   | 1  | Eve  |
  }
  then lake {
    | id | name | is_deleted |
    | 1  | Eve  | false      |
    | 2  | Bo   | true       |
  }
}
"#;

#[test]
fn rows_stay_that_were_deleted_softly() {
    let folder = project(SOFT);
    assert!(!succeed(folder.path(), &["check"]).contains("error["));
    assert!(succeed(folder.path(), &["test"]).contains("1 ok"));
    let said = succeed(folder.path(), &["run", "soft", "--rows", "400"]);
    assert!(said.contains("| true ") && said.contains("| false "), "{said}");
    let named = SOFT
        .replace("name = name() }", "is_deleted = bool }")
        .replace("test \"", "#")
        .split("\n#")
        .next()
        .unwrap()
        .to_owned();
    let folder = project(&named);
    let said = fail(folder.path(), &["check"], 1);
    let expected = "error[E0512]: `is_deleted` is a column that `on_delete = soft` adds itself\n";
    assert!(said.starts_with(expected), "{said}");
    let folder = project(&named.replace("mode = upsert", "mode = changelog").replace("is_deleted =", "flag ="));
    let said = fail(folder.path(), &["check"], 1);
    assert!(said.starts_with("error[E0514]: `on_delete` says nothing in `mode = changelog`\n"), "{said}");
}

/// A live source: what changed between runs is there with its versions, and what stands is equal to the source.
#[test]
fn histories_of_a_database_are_equal_to_it() {
    let server = Server::shared();
    sql(&server, "postgres", "create database history");
    sql(&server, "history", "create table orders (id bigint primary key, note varchar, seen int)");
    sql(&server, "history", "insert into orders select n, 'note ' || n, 0 from generate_series(1, 50) n");
    let connection = format!(
        "connection lake delta {{ path = \"lake\" }}\n\nconnection shop postgres {{ host = \"127.0.0.1\", port = {}, database = \"history\", user \
         = \"postgres\", tls = disabled }}\n",
        server.port()
    );
    let pipeline = |name: &str, sink: &str| {
        format!(
            "\npipeline {name} {{\n  source shop {{ capture = cdc, tables = [\"public.orders\"], slot = \"lakehead_{name}\" }}\n  sink lake {{ \
             table = \"{name}\", on_delete = soft, {sink} }}\n}}\n"
        )
    };
    let versions = pipeline("versions", "mode = scd2, ignore_columns = [seen]");
    let folder = project(&(connection + &versions + &pipeline("marked", "mode = upsert")));
    succeed(folder.path(), &["lock"]);
    let run = |verb: &[&str]| {
        let output = command(folder.path()).args(verb).output().unwrap();
        assert!(output.status.success(), "{verb:?} {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    };
    for change in [
        "select 1",
        "update orders set seen = 1 where id < 10; update orders set note = 'new' where id < 5; delete from orders where id > 45",
        "insert into orders values (50, 'again', 3); update orders set id = 100 where id = 7; delete from orders where id = 1",
    ] {
        sql(&server, "history", change);
        for name in ["versions", "marked"] {
            run(&["run", name, "--until", "caught-up"]);
            let verified = run(&["verify", name]);
            assert!(verified.contains("same") && !verified.contains("DIFFERS"), "{verified}");
        }
    }
    // Read anew, history stays: 50 first versions, 4 changed, 1 came back, 1 has another key.
    sql(&server, "history", "select pg_drop_replication_slot('lakehead_versions')");
    run(&["resync", "versions"]);
    run(&["run", "versions", "--until", "caught-up"]);
    assert!(!run(&["verify", "versions"]).contains("DIFFERS"));
    // A column of the source that has the name of one that the sink adds.
    sql(&server, "history", "alter table orders add column is_current int; insert into orders (id) values (200)");
    let output = command(folder.path()).args(["run", "versions", "--until", "caught-up"]).output().unwrap();
    let said = text(&output.stderr);
    assert!(
        !output.status.success() && said.contains("error[R0112]") && said.contains("help: lakehead lock"),
        "{said}"
    );
    let count = r#"connection lake delta { path = "lake" }

pipeline count {
  source rows = lake { table = "versions" }

  transform {
    derive { cast(is_current as int) as c, cast(is_deleted as int) as d }
    aggregate { count(*) as n, sum(c) as c, sum(d) as d } by { valid_from is null as unknown }
  }

  sink stdout { format = json }
}
"#;
    std::fs::write(folder.path().join("p.lake"), count).unwrap();
    succeed(folder.path(), &["lock"]);
    let counted = succeed(folder.path(), &["run", "count"]);
    assert!(counted.contains("\"n\":56") && counted.contains("\"c\":45") && counted.contains("\"d\":7"), "{counted}");
}

/// A table is one of versions or it is not: the mode of a sink cannot be changed over rows that are there.
#[test]
fn a_table_of_versions_takes_no_upserts_and_the_other_way_round() {
    for (first, second, code) in [("scd2", "upsert", "R0228"), ("upsert", "scd2", "R0227")] {
        let folder = project(&PIPELINE.replace("mode = scd2", &format!("mode = {first}")));
        succeed(folder.path(), &["run", "history"]);
        let other = PIPELINE.replace("mode = scd2", &format!("mode = {second}"));
        std::fs::write(folder.path().join("p.lake"), other).unwrap();
        let said = fail(folder.path(), &["run", "history"], 1);
        assert!(said.contains(code) && said.contains("help:"), "{said}");
    }
}
