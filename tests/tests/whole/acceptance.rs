//! The language's acceptance files through the binary.

use super::compactor::python;
use super::lakehead::{command, fail, root, run, succeed, text};

fn acceptance() -> std::path::PathBuf {
    root().join("dsl/syntax/tests/acceptance")
}

/// Pipelines whose connectors are all built in.
const WHOLE: [&str; 6] = [
    "01_shop_mirror.lake",
    "03_partner_files.lake",
    "05_log_compactor.lake",
    "06_orders_import.lake",
    "10_lifecycle.lake",
    "13_market.lake",
];

#[test]
fn files_are_in_the_one_style() {
    for entry in std::fs::read_dir(acceptance()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "lake") {
            succeed(&acceptance(), &["fmt", "--check", path.to_str().unwrap()]);
        }
    }
    succeed(&root(), &["fmt", "--check", "pipelines", "examples"]);
}

#[test]
fn what_has_its_connectors_checks_clean_and_the_rest_says_only_which_is_missing() {
    let output = run(&acceptance(), &["check", "--format", "json"]);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for diagnostic in found.as_array().unwrap() {
        let code = diagnostic["code"].as_str().unwrap();
        let warning = diagnostic["severity"] == "warning" && code == "W0901";
        assert!(warning || code == "E0212", "{diagnostic:#}");
    }
    for file in &WHOLE[..5] {
        succeed(&acceptance(), &["check", file]);
    }
}

#[test]
fn all_six_mistakes_of_a_file_are_told_at_once() {
    let output = fail(&acceptance().join("bad"), &["check"], 1);
    for place in ["bad.lake:1:1", "bad.lake:4:3", "bad.lake:5:40", "bad.lake:8:5", "bad.lake:14:18", "bad.lake:18:40"] {
        assert!(output.contains(place), "{place} is not told\n{output}");
    }
    assert_eq!(output.matches("error[").count(), 6, "{output}");
}

#[test]
fn the_tests_beside_the_pipelines_pass() {
    let output = run(&acceptance(), &["test"]);
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{shown}{}", text(&output.stderr));
    assert!(!shown.contains("FAILED"), "{shown}");
}

#[test]
fn the_shipped_pipelines_check_test_and_draw() {
    let folder = super::lakehead::project(&std::fs::read_to_string(root().join("pipelines/hello.lake")).unwrap());
    succeed(folder.path(), &["check"]);
    succeed(folder.path(), &["test"]);
    assert!(succeed(folder.path(), &["graph", "--mermaid"]).contains("flowchart LR"));
}

/// Whole texts, as the language's page shows them.
#[test]
fn mistakes_in_sql_are_told_with_place_reason_and_cure() {
    let folder = super::lakehead::project(
        "connection lake delta { path = \"lake\" }\n\npipeline p {\n  source clicks = generate { rows = 5, columns = { status = sequence(), \
         country = name(), amount = money(1, 9) } }\n\n  transform {\n    where  { satus < 500 }\n  }\n\n  transform b from clicks \
         {\n    derive { lower(status) as country }\n    where { country > 5 }\n  }\n\n  transform c from clicks {\n    where { amount \
         }\n    where { status < and 3 }\n  }\n\n  sink lake from c { table = \"t\", mode = append }\n}\n",
    );
    let said = fail(folder.path(), &["check"], 1);
    let expected = [
        "error[E0301]: there is no column `satus`
  ┌─ p.lake:7:14
  │
 7│     where  { satus < 500 }
  │              ^^^^^ did you mean `status`?
  │
  = `clicks` has: status, country, amount
  = the columns are declared in the source
",
        "error[E0303]: `lower` needs text, and `status` is bigint
  ┌─ p.lake:11:20
  │
11│     derive { lower(status) as country }
  │                    ^^^^^^ bigint
  │
  = help: cast(status as varchar)
",
        "error[E0304]: a `where` must be true or false, this is decimal(12, 2)
  ┌─ p.lake:16:13
  │
16│     where { amount }
  │             ^^^^^^ decimal(12, 2)
  │
  = help: where { amount > 0 }   or   where { amount is not null }
",
        "error[E0320]: `3` does not fit here
  ┌─ p.lake:17:26
",
    ];
    for text in expected {
        assert!(said.contains(text), "\n--- wanted\n{text}\n--- said\n{said}");
    }
}

/// No value becomes one of another kind unasked, in single expressions and in whole queries.
#[test]
fn values_are_not_turned_into_others_unasked() {
    let pipeline = |step: &str| {
        format!(
            "connection lake delta {{ path = \"lake\" }}\n\npipeline p {{\n  source clicks = generate {{ rows = 5, columns = {{ status = \
             sequence(), country = name(), amount = money(1, 9), at = recent(\"1m\") }} }}\n  transform {{ {step} }}\n  sink lake {{ table = \
             \"t\", mode = append }}\n}}\n"
        )
    };
    let refused = [
        ("derive { sqrt('hello') as x }", "E0303", "`sqrt` needs double, and `hello` is varchar"),
        ("derive { sqrt(country) as x }", "E0303", "`sqrt` needs double, and `country` is varchar"),
        ("derive { lower(amount) as x }", "E0303", "`lower` needs text, and `amount` is decimal(12, 2)"),
        ("sql { select sqrt(country) as x from clicks }", "E0303", "`sqrt` does not take (varchar)"),
        ("sql { select status from clicks where country > 5 }", "E0305", "text is compared with a number"),
    ];
    for (step, code, sentence) in refused {
        let folder = super::lakehead::project(&pipeline(step));
        let said = fail(folder.path(), &["check"], 1);
        assert!(said.starts_with(&format!("error[{code}]: {sentence}\n")), "{step}\n{said}");
        assert_eq!(said.matches("error[").count(), 1, "{step}\n{said}");
    }
    for step in [
        "derive { sqrt(status) as x, left(country, 2) as y, date_trunc('day', at) as d, concat(country, status) as c }",
        "derive { round(amount, 1) as x, coalesce(country, 'none') as y, abs(status) as z }",
        "aggregate { sum(amount) as a, avg(status) as b, max(at) as c } by { country }",
    ] {
        let folder = super::lakehead::project(&pipeline(step));
        let checked = super::lakehead::run(folder.path(), &["check"]);
        let said = super::lakehead::text(&checked.stdout) + &super::lakehead::text(&checked.stderr);
        assert!(!said.contains("error["), "{step}\n{said}");
    }
}

/// What does not fit its type is an error, wherever it is computed.
#[test]
fn arithmetic_and_sums_never_wrap() {
    let run = |step: &str| {
        let folder = super::lakehead::project(&format!(
            "connection lake delta {{ path = \"lake\" }}\n\npipeline p {{\n  source rows = generate {{ rows = 2, columns = {{ n = \
             number(9223372036854775807, 9223372036854775807) }} }}\n  transform {{ {step} }}\n  sink lake {{ table = \"t\", mode = append \
             }}\n}}\n"
        ));
        let output = super::lakehead::run(folder.path(), &["run", "p"]);
        (output.status.success(), super::lakehead::text(&output.stderr))
    };
    for step in [
        "aggregate { sum(n) as s } by { n }",
        "sql { select sum(n) as s from rows }",
        "sql { select n + 1 as s from rows }",
        "sql { select n * 2 as s from rows where n - (-1) > 0 }",
        "derive { n + 1 as s }",
    ] {
        let (ran, said) = run(step);
        assert!(!ran && said.contains("R0101") && said.contains("overflow"), "{step}\n{said}");
        assert!(!said.contains("9223372036854775807"), "a value is shown\n{said}");
    }
    for step in [
        "sql { select sum(cast(n as decimal(38, 0))) as s from rows }",
        "aggregate { sum(distinct n) as s } by { n }",
        "sql { select n - 1 as s from rows }",
    ] {
        let (ran, said) = run(step);
        assert!(ran, "{step}\n{said}");
    }
}

/// Before anybody has asked the source for its tables, everything else that is wrong is told with it.
#[test]
fn mistakes_behind_an_unknown_table_are_told_at_once() {
    let folder = super::lakehead::project(
        r#"connection shop postgres { host = "h", port = 5432, database = "d", user = "u", password = secret.pass, tls = disabled }
connection lake delta { path = "lake" }

pipeline mirror {
  source shop { capture = snapshot, tables = ["public.orders"] }
  transform { where { amount > > 3 } }
  sink lake { table = "${table}", mod = append }
}
"#,
    );
    let said = fail(folder.path(), &["check"], 1);
    for (code, place) in
        [("E0607", "p.lake:1:99"), ("E0215", "p.lake:5:46"), ("E0320", "p.lake:6:34"), ("E0208", "p.lake:7:35")]
    {
        assert!(said.contains(&format!("error[{code}]")) && said.contains(place), "{code} at {place}\n{said}");
    }
    assert_eq!(said.matches("error[").count(), 4, "{said}");
    assert!(said.contains("= help: secret pass = env(\"PASS\")"), "{said}");
}

#[test]
fn a_table_takes_the_name_of_the_one_that_its_rows_come_from() {
    let folder = super::lakehead::project(
        r#"connection lake delta { path = "lake" }

pipeline p {
  source orders = generate { rows = 5, columns = { id = sequence() } }
  source clicks = generate { rows = 7, columns = { id = sequence() } }
  transform big from orders { where { id > 2 } }
  sink raw = lake from clicks { table = "raw.${table}", mode = append }
  sink fine = lake from big { table = "${table}", mode = append }
}
"#,
    );
    succeed(folder.path(), &["run", "p"]);
    assert!(folder.path().join("lake/orders/_delta_log").is_dir());
    assert!(folder.path().join("lake/raw/clicks/_delta_log").is_dir());
}

#[test]
fn a_table_without_a_name_is_refused() {
    let folder = super::lakehead::project(
        r#"connection lake delta { path = "lake" }

pipeline p {
  source a = generate { rows = 5, columns = { id = sequence() } }
  source b = generate { rows = 5, columns = { id = sequence() } }
  transform both from a, b { union }
  sink s1 = lake from both { table = "${table}", mode = append }
  sink s2 = lake from a { table = " ", mode = append }
  sink s3 = lake from b { table = "${schema}.x", mode = append }
}
"#,
    );
    let said = fail(folder.path(), &["check"], 1);
    let expected = "error[E0516]: `${table}` has no value here
  ┌─ p.lake:7:38
  │
 7│   sink s1 = lake from both { table = \"${table}\", mode = append }
  │                                      ^^^^^^^^^^ the rows of `both` are not those of one table
  │
  = help: table = \"s1\"   says the name itself
";
    assert!(said.contains(expected), "{said}");
    assert!(said.contains("error[E0516]: `table` is empty"), "{said}");
    assert!(said.contains("`b` is in no schema"), "{said}");
}

#[test]
fn check_says_which_readers_a_table_is_not_for() {
    let pipeline = |deletes: &str| {
        let file = r#"connection lake delta { path = "lake" }

pipeline p {
  source a = generate { rows = 5, columns = { id = sequence() } }
  sink lake { table = "t", mode = upsert, key = [id]DELETES }
}
"#;
        let folder = super::lakehead::project(&file.replace("DELETES", deletes));
        text(&run(folder.path(), &["check"]).stderr).to_owned()
    };
    let said = pipeline("");
    assert!(said.contains("note: t: rows go by deletion vectors") && said.contains("`deletes = rewrite`"), "{said}");
    let said = pipeline(", deletes = rewrite");
    assert!(said.contains("ok, 1 warning") && !said.contains("deletion vectors"), "{said}");
}

/// Prints rows, and whether each customer's stand in files of one bucket.
const SALES: &str = r#"
import sys, duckdb, collections
rows = duckdb.sql(f"""select id, customer_id, country, amount, day, filename
    from read_parquet('{sys.argv[1]}/**/[!_]*.parquet', hive_partitioning=true, filename=true) order by id""").fetchall()
buckets = collections.defaultdict(set)
for row in rows:
    buckets[row[1]].add(row[5].rsplit("/", 1)[1].split("_")[0])
assert all(len(found) == 1 for found in buckets.values()), buckets
print("\n".join(" ".join(str(value) for value in row[:5]) for row in rows))
"#;

#[test]
fn the_bucketed_example_gives_what_it_says_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let example = root().join("examples/bucketed");
    let copied = std::process::Command::new("cp").arg("-r").arg(example.join(".")).arg(folder.path()).status().unwrap();
    assert!(copied.success());
    succeed(folder.path(), &["test"]);
    succeed(folder.path(), &["run", "sales"]);
    let expected = std::fs::read_to_string(example.join("expected.txt")).unwrap();
    let table = folder.path().join("lake/shop/sales");
    assert!(python(SALES, &table).is_none_or(|found| found == expected.trim()));
    let more = "id,customer_id,country,placed,amount,state\n6,7,de,2026-05-03T10:00:00Z,1.50,paid\n";
    std::fs::write(folder.path().join("landing/orders-2.csv"), more).unwrap();
    succeed(folder.path(), &["run", "sales"]);
    let expected = format!("{}\n6 7 DE 1.50 2026-05-03", expected.trim());
    assert!(python(SALES, &table).is_none_or(|found| found == expected));
}

/// Who reads our output may stop reading: that is no failure of ours to explain.
#[test]
fn a_reader_that_goes_away_ends_the_command_without_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let rows: String = (0..50_000).map(|n| format!("{n}\n")).collect();
    std::fs::write(folder.path().join("a.csv"), format!("id\n{rows}")).unwrap();
    let mut peek = command(folder.path());
    let peek = peek.args(["peek", "a.csv", "--limit", "50000"]);
    let mut child = peek.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(141), String::new()));
}
