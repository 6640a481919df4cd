//! Small files merged: the same rows before and after, as readers that others wrote see them, through any crash.

use std::path::Path;
use std::process::Command;

use super::lakehead::{command, project, succeed, text};

const PIPELINES: &str = r#"connection plain parquet { path = "lake" }
connection orcs orc { path = "orcs" }

pipeline orders {
  source orders = generate {
    rows    = 3000
    columns = { id = sequence(), customer = name(), amount = money(1, 900), at = timestamp() }
  }
  sink a = plain from orders { table = "orders", mode = append, bucket_by = [id], bucket_count = 4, sort_by = [id]COMPACT }
  sink b = orcs from orders { table = "orders", mode = appendCOMPACT }
}
"#;

/// Prints rows, sum of ids and amounts, and files of the Parquet table by DuckDB, then of the ORC table by pyarrow.
pub(crate) const SUMS: &str = r#"
import sys, glob, duckdb, pyarrow.dataset as d, pyarrow.compute as c
files = [file for file in glob.glob(f"{sys.argv[1]}/lake/orders/**/*.parquet", recursive=True)]
print(*duckdb.sql(f"select count(*), sum(id), sum(amount) from read_parquet({files})").fetchone(), "files", len(files))
for file in files:
    ids = [row[0] for row in duckdb.sql(f"select id from read_parquet('{file}')").fetchall()]
    assert ids == sorted(ids), file
rows = d.dataset(f"{sys.argv[1]}/orcs/orders", format="orc").to_table()
print(len(rows), c.sum(rows["id"]), c.sum(rows["amount"]), "files", len(glob.glob(f"{sys.argv[1]}/orcs/orders/*.orc")))
"#;

/// Returns what the readers say, without the files, and the files of each table.
pub(crate) fn sums(folder: &Path) -> Option<(Vec<String>, Vec<usize>)> {
    let output = Command::new(std::env::var_os("LAKEHEAD_READERS")?).args(["-c", SUMS]).arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    let lines = said.lines().map(|line| line.split_once(" files ").unwrap());
    Some(lines.map(|(sums, files)| (sums.to_owned(), files.parse::<usize>().unwrap())).unzip())
}

#[test]
fn readers_see_the_same_rows_before_and_after_and_through_every_crash() {
    let folder = project(&PIPELINES.replace("COMPACT", ""));
    for _ in 0..9 {
        succeed(folder.path(), &["run", "orders"]);
    }
    let Some((before, files)) = sums(folder.path()) else { return };
    assert_eq!(files, [36, 9]);
    let merging = PIPELINES.replace("COMPACT", ", compact = {}").replace("rows    = 3000", "rows    = 0");
    std::fs::write(folder.path().join("p.lake"), merging).unwrap();
    for point in [
        "parquet.compact.files",
        "parquet.compact.staged",
        "parquet.published",
        "parquet.put=2*",
        "parquet.put.answer=2*",
        "parquet.compact.committed",
    ] {
        let point = if point.contains('=') { format!("{point}abort") } else { format!("{point}=abort") };
        let copy = tempfile::tempdir().unwrap();
        let copied = Command::new("cp").arg("-r").arg(folder.path().join(".")).arg(copy.path()).status().unwrap();
        assert!(copied.success());
        let crashed = command(copy.path()).args(["run", "orders"]).env("LAKEHEAD_FAILPOINTS", &point).output().unwrap();
        assert!(!crashed.status.success(), "{point}");
        succeed(copy.path(), &["run", "orders"]);
        let (after, files) = sums(copy.path()).unwrap();
        assert_eq!((after, files), (before.clone(), vec![4, 1]), "{point}");
    }
}
