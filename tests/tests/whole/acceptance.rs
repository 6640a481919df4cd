//! The language's acceptance files through the binary.

use super::lakehead::{fail, root, run, succeed, text};

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
