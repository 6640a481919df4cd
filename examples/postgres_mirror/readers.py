"""Reads the mirror with DuckDB and Polars, and compares counts and sums with the source."""

import subprocess
import sys

import duckdb
import duckdb_extensions
import polars

lake, port = sys.argv[1], sys.argv[2]
duckdb_extensions.extension_importer.import_extension("delta")
connection = duckdb.connect()
connection.execute("load delta")
TABLES = {
    "pgbench_accounts": "abalance",
    "pgbench_branches": "bbalance",
    "pgbench_tellers": "tbalance",
    "pgbench_history": "delta",
}
for table, column in TABLES.items():
    sql = f"select count(*), coalesce(sum({column}), 0) from {table}"
    command = ["psql", "-qAt", "-F", " ", "-h", "127.0.0.1", "-p", port, "-U", "postgres", "-d", "bench", "-c", sql]
    source = tuple(int(value) for value in subprocess.check_output(command, text=True).split())
    by_duckdb = connection.sql(f"select count(*), coalesce(sum({column}), 0) from delta_scan('{lake}/{table}')").fetchone()
    frame = polars.read_delta(f"{lake}/{table}")
    by_polars = (frame.height, frame[column].sum())
    print(f"{table:<18} source {source}  duckdb {tuple(map(int, by_duckdb))}  polars {by_polars}")
    assert source == tuple(map(int, by_duckdb)) == by_polars, f"{table} differs"
print("two readers agree with the source")
