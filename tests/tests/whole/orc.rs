//! `connection … orc { … }` through the binary: ORC tables, read by our own source and by readers that others wrote.

use std::process::Command;

use super::lakehead::{fail, project, succeed, text};

const PIPELINES: &str = r#"connection plain orc { path = "lake" }
connection copies parquet { path = "copies" }

pipeline orders {
  source orders = generate {
    rows    = 30000
    columns = { id = sequence(), customer = name(), amount = money(1, 900), at = timestamp() }
  }
  sink plain from orders { table = "shop.orders", mode = append, partition_by = [month(at)], bucket_by = [id], bucket_count = 4, sort_by = [id] }
}

pipeline again {
  source orders = plain { table = "shop.orders" }
  sink copies from orders { table = "orders", mode = append }
}
"#;

/// Prints `reader: count, sum of ids, sum of amounts` of the ORC table as pyarrow and ClickHouse read it, and of our copy.
const READ: &str = r#"
import sys, duckdb, chdb, pyarrow.dataset as d, pyarrow.compute as c
table, copy = sys.argv[1], sys.argv[2]
rows = d.dataset(table, format="orc", partitioning="hive").to_table()
def show(reader, count, ids, amounts): print(reader, count, ids, f"{float(amounts):.2f}")
show("pyarrow", len(rows), c.sum(rows["id"]), c.sum(rows["amount"]).as_py())
said = chdb.query(f"select count(), sum(id), sum(amount) from file('{table}/**/*.orc', ORC)", "TabSeparated")
show("clickhouse", *str(said).split())
show("copy", *duckdb.sql(f"select count(*), sum(id), sum(amount) from read_parquet('{copy}/**/[!_]*.parquet')").fetchone())
"#;

#[test]
fn orc_tables_are_read_by_others_and_by_us() {
    let folder = project(PIPELINES);
    succeed(folder.path(), &["check"]);
    succeed(folder.path(), &["run", "orders"]);
    succeed(folder.path(), &["lock"]);
    succeed(folder.path(), &["run", "again"]);
    let Some(python) = std::env::var_os("LAKEHEAD_READERS") else { return };
    let output = Command::new(python)
        .args(["-c", READ])
        .arg(folder.path().join("lake/shop/orders"))
        .arg(folder.path().join("copies/orders"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(lines.len(), 3, "{said}");
    for line in &lines {
        assert_eq!(line[1], "30000", "{said}");
        assert_eq!(line[1..], lines[0][1..], "{said}");
    }
}

#[test]
fn a_table_keeps_its_format() {
    let folder = project(PIPELINES);
    succeed(folder.path(), &["run", "orders"]);
    let file = folder.path().join("p.lake");
    let other = std::fs::read_to_string(&file).unwrap().replace("plain orc", "plain parquet");
    std::fs::write(&file, other).unwrap();
    let said = fail(folder.path(), &["run", "orders"], 1);
    assert!(said.contains("error[R0238]: the table has files of another format"), "{said}");
}
