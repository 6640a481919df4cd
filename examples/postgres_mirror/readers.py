"""Reads the mirror with Polars and DuckDB, in a bucket with delta-rs instead, and compares counts and sums with the source."""

import subprocess
import sys

import polars

lake, port = sys.argv[1], sys.argv[2]


def duckdb_sums():
    import duckdb
    import duckdb_extensions

    duckdb_extensions.extension_importer.import_extension("delta")
    connection = duckdb.connect()
    connection.execute("load delta")
    sums = "select count(*), coalesce(sum({}), 0) from delta_scan('{}')"
    return lambda table, column: connection.sql(sums.format(column, table)).fetchone()


def delta_rs_sums():
    # DuckDB's reader of buckets is an extension that is not in its wheels.
    import pyarrow
    from deltalake import DeltaTable, QueryBuilder

    def sums(table, column):
        query = QueryBuilder().register("t", DeltaTable(table))
        found = pyarrow.table(query.execute(f"select count(*), coalesce(sum({column}), 0) from t").read_all())
        return tuple(column[0].as_py() for column in found.columns)

    return sums


name, by_other = ("delta-rs", delta_rs_sums()) if lake.startswith("s3:") else ("duckdb", duckdb_sums())
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
    other = tuple(map(int, by_other(f"{lake}/{table}", column)))
    frame = polars.read_delta(f"{lake}/{table}")
    by_polars = (frame.height, frame[column].sum())
    print(f"{table:<18} source {source}  {name} {other}  polars {by_polars}")
    assert source == other == by_polars, f"{table} differs"
print("two readers agree with the source")
