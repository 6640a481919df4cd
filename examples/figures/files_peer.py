"""Reads a file with DuckDB, its columns declared and on one thread, and writes Parquet: files_peer.py FILE TARGET."""

import sys

import duckdb

source, target = sys.argv[1], sys.argv[2]
number = "decimal(12, 2)"
columns = {"id": "bigint", "at": "timestamptz", "customer": "bigint", "country": "varchar", "amount": number,
           "quantity": "integer", "rate": "double", "paid": "boolean", "status": "varchar", "note": "varchar"}
if "nested" in source:
    columns = {"id": "bigint", "buyer": "json", "items": "json", "tags": "varchar[]", "amount": number}
if ".csv" in source:
    read = f"read_csv('{source}', header = true, delim = ',', columns = {columns}, auto_detect = false"
else:
    read = f"read_json('{source}', format = 'newline_delimited', columns = {columns}"
read += ", ignore_errors = true)" if "broken" in source else ")"
connection = duckdb.connect()
connection.execute("set threads = 1")
connection.execute("set preserve_insertion_order = true")
connection.execute(f"copy (from {read}) to '{target}' (format parquet, compression zstd, compression_level 1)")
