//! `on_reject`: what becomes of a key whose newest row is set aside.

use super::lakehead::{fail, project, succeed};

const PIPELINE: &str = r#"connection lake delta { path = "lake" }

pipeline p {
  source orders = generate {
    rows    = 400
    columns = { id = sequence(), amount = number(1, 100), parts = number(1, 9) }
    changes = { key = id, updates = 30%, deletes = 5% }
  }

  transform checked {
    derive { amount - 1 as less }
    expect positive { amount > 0 } else dead_letter
  }

  transform shares from checked {
    derive { amount / parts as share, id as number }
  }

  sink strict = lake from shares { table = "strict", mode = upsert, on_reject = delete }
  sink mild   = lake from checked { table = "mild", mode = upsert }
  sink past   = lake from shares { table = "past", mode = scd2, on_reject = delete }
  dead_letter lake { table = "rejects" }
}

test "a refused update deletes where it is said, and stays elsewhere" of p {
  given orders {
    | _op | _source_ts           | id | amount | parts |
    | c   | 2026-01-01T00:00:00Z | 1  | 10     | 2     |
    | c   | 2026-01-01T00:00:00Z | 2  | 20     | 2     |
    | c   | 2026-01-01T00:00:00Z | 3  | 30     | 2     |
    | u   | 2026-01-02T00:00:00Z | 1  | -1     | 2     |
    | u   | 2026-01-02T00:00:00Z | 2  | 21     | 0     |
    | c   | 2026-01-02T00:00:00Z | 4  | -4     | 2     |
    | d   | 2026-01-03T00:00:00Z | 3  |        |       |
  }
  then strict empty
  then mild {
    | id | amount |
    | 1  | 10     |
    | 2  | 21     |
  }
  then past {
    | id | amount | is_current | valid_to             |
    | 1  | 10     | false      | 2026-01-02T00:00:00Z |
    | 2  | 20     | false      | 2026-01-02T00:00:00Z |
    | 3  | 30     | false      | 2026-01-03T00:00:00Z |
  }
  then dead_letter {
    | _reason     | _expectation | _op | id | _error                                                                                    |
    | expectation | positive     | u   | 1  | a row of its key is deleted from past, strict; a row of its key stays in mild             |
    | error       |              | u   | 2  | an expression failed: divide by zero error; a row of its key is deleted from past, strict |
    | expectation | positive     | c   | 4  | a row of its key is deleted from past, strict; a row of its key stays in mild             |
  }
}
"#;

const ROWS: &str = r#"connection lake delta { path = "lake" }

pipeline p {
  source orders = generate { rows = 40, columns = { id = sequence(), amount = number(1, 100) } }

  transform checked {
    expect positive { amount > 0 } else drop
  }

  route from checked {
    small when { amount < 50 }
    large when { amount < 100 }
    else dead_letter
  }

  transform counted from checked {
    aggregate { count(*) as n } by { global() }
  }

  sink a = lake from small { table = "small", mode = upsert, key = [id], on_reject = delete }
  sink b = lake from large { table = "large", mode = upsert, key = [id], on_reject = delete }
  dead_letter lake { table = "rejects" }
}

test "a row without a way deletes its key on every way" of p {
  given orders {
    | id | amount |
    | 1  | 10     |
    | 2  | 60     |
    | 3  | 10     |
    | 1  | 1000   |
    | 2  | -5     |
    | 4  | 1000   |
    | 4  | 20     |
  }
  then a {
    | id | amount |
    | 3  | 10     |
    | 4  | 20     |
  }
  then b empty
  then dead_letter {
    | _reason  | id | _error                                        |
    | no_route | 1  | a row of its key is deleted from large, small |
    | no_route | 4  | a row of its key is deleted from large, small |
  }
}
"#;

#[test]
fn a_refused_row_deletes_its_key_where_the_file_says_so() {
    let folder = project(PIPELINE);
    let said = succeed(folder.path(), &["test"]);
    assert!(said.contains("1 test, 1 ok, 0 failed"), "{said}");
    succeed(folder.path(), &["run", "p"]);
    let without_count = ROWS
        .replace("  transform counted from checked {\n    aggregate { count(*) as n } by { global() }\n  }\n\n", "");
    let folder = project(&without_count);
    let said = succeed(folder.path(), &["test"]);
    assert!(said.contains("1 test, 1 ok, 0 failed"), "{said}");
}

/// Keys of refused rows are no rows: what counts rows never sees them.
#[test]
fn a_step_over_whole_inputs_counts_no_refused_row() {
    let start = ROWS.find("  route from").unwrap();
    let file = format!(
        "{}  transform counted from checked {{\n    aggregate {{ count(*) as n, 1 as one }} by {{ amount > 0 as plus }}\n  }}\n\n  \
         sink a = lake from checked {{ table = \"small\", mode = upsert, key = [id], on_reject = delete }}\n  sink n = lake from counted \
         {{ table = \"n\", mode = append }}\n}}\n\ntest \"t\" of p {{\n  given orders {{\n    | id | amount |\n    | 1  | 10     |\n    | 2  | \
         -1     |\n  }}\n  then n {{\n    | n |\n    | 1 |\n  }}\n}}\n",
        &ROWS[..start]
    )
    .replace(", 1 as one", "");
    let folder = project(&file);
    let said = succeed(folder.path(), &["test"]);
    assert!(said.contains("1 test, 1 ok, 0 failed"), "{said}");
    let folder = project(&file.replace("mode = upsert, key = [id], on_reject", "mode = append, on_reject"));
    let said = fail(folder.path(), &["check"], 1);
    assert!(said.starts_with("error[E0514]: `on_reject` says nothing in `mode = append`\n"), "{said}");
}

/// A file that holds little but broken rows: they are handed on in parts, and committed with the one that fits.
#[test]
fn letters_of_one_file_that_are_many_come_in_one_commit() {
    let folder = project(
        "connection drops files { path = \"in\" }\nconnection lake delta { path = \"lake\" }\n\
         pipeline p {\n  source rows = drops { path = \"*.csv\", columns = { id = bigint }, on_misfit = dead_letter }\n\
         sink lake { table = \"t\", mode = append }\n  dead_letter lake { table = \"rejects\" }\n}\n",
    );
    std::fs::create_dir(folder.path().join("in")).unwrap();
    let broken: String = (0..30_000).map(|n| format!("x{n}\n")).collect();
    std::fs::write(folder.path().join("in/a.csv"), format!("id\n7\n{broken}")).unwrap();
    let said = succeed(folder.path(), &["run", "p"]);
    assert!(said.contains("30,000 rows set aside") && said.contains("1 written"), "{said}");
    let log = std::fs::read_dir(folder.path().join("lake/rejects/_delta_log")).unwrap();
    let entries = log.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap_or_default());
    let rows: Vec<usize> = entries.map(|entry| counted(&entry)).filter(|rows| *rows > 0).collect();
    assert_eq!(rows, [30_000]);
}

/// Returns the rows of the files that an entry of a log adds.
fn counted(entry: &str) -> usize {
    let added = entry.lines().filter(|line| line.contains("\"add\""));
    let rows =
        added.filter_map(|line| line.split("numRecords\\\":").nth(1)?.split([',', '}']).next()?.parse::<usize>().ok());
    rows.sum()
}
