"""What delta-rs takes for the same work, and what readers take for our tables: a JSON object a line."""

import json
import os
import random
import resource
import sys
import time

import deltalake
import duckdb
import polars


def used():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def size(path):
    return sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(path) for name in names)


def data_size(path):
    files = (name for name in os.listdir(path) if name.endswith(".parquet"))
    return sum(os.path.getsize(os.path.join(path, name)) for name in files)


def merge(path, rows):
    """2,000 changes of a table of so many rows, three times."""
    rows, dice = int(rows), random.Random(42)
    for number in range(3):
        ids = sorted(dice.sample(range(rows + 400), 2000))
        changes = polars.DataFrame({
            "id": ids,
            "amount": [dice.randrange(50000) for _ in ids],
            "changed_at": [1_750_000_000_000_000] * len(ids),
            "note": [f"changed in round {number}"] * len(ids),
        }).with_columns(
            (polars.col("amount").cast(polars.Decimal(12, 2)) / 100).cast(polars.Decimal(12, 2)),
            polars.from_epoch("changed_at", time_unit="us").dt.replace_time_zone("UTC"),
        )
        table = deltalake.DeltaTable(path)
        bytes_before, before, began = size(path), used(), time.monotonic()
        merging = table.merge(changes, "s.id = t.id", source_alias="s", target_alias="t")
        merging.when_matched_update_all().when_not_matched_insert_all().execute()
        print(json.dumps({
            "peer": "delta-rs merge", "rows": rows, "changes": 2000, "cpu_s": round(used() - before, 3),
            "wall_s": round(time.monotonic() - began, 3), "bytes": size(path) - bytes_before,
        }))


def scan(path):
    """A scan of the table as it stands against one of the same rows, compressed alike, in as few files as delta-rs writes."""
    compacted = path + "-compacted"
    rows = duckdb.sql(f"select * from delta_scan('{path}')").to_arrow_table()
    alike = deltalake.WriterProperties(compression="ZSTD", compression_level=1)
    deltalake.write_deltalake(compacted, rows, writer_properties=alike)
    query = "select count(*), sum(id)::bigint, sum(amount), sum(length(note))::bigint from delta_scan('{}')"
    times = {path: [], compacted: []}
    for _ in range(9):
        for which, seen in times.items():
            before = used()
            answer = duckdb.sql(query.format(which)).fetchone()
            seen.append(used() - before)
    assert duckdb.sql(query.format(path)).fetchone() == duckdb.sql(query.format(compacted)).fetchone()
    ours, best = min(times[path]), min(times[compacted])
    print(json.dumps({
        "reader": "duckdb", "rows": answer[0], "scan_cpu_s": round(ours, 4), "compacted_scan_cpu_s": round(best, 4),
        "ratio": round(ours / best, 3), "files": deltalake.DeltaTable(path).get_add_actions().num_rows,
    }))


def optimize(path, ours):
    """delta-rs compacts a copy of what we merged."""
    table = deltalake.DeltaTable(path)
    bytes_before, before, began = sum(table.get_add_actions(flatten=True)["size_bytes"].to_pylist()), used(), time.monotonic()
    table.optimize.compact()
    cpu = used() - before
    print(json.dumps({
        "peer": "delta-rs optimize", "table": os.path.basename(path), "bytes": bytes_before, "cpu_s": round(cpu, 3),
        "wall_s": round(time.monotonic() - began, 3), "mb_per_cpu_s": round(bytes_before / 1e6 / cpu, 1),
    }))
    query = "select count(*), sum(id)::bigint, sum(amount) from delta_scan('{}')"
    answers = [duckdb.sql(query.format(each)).fetchone() for each in (path, ours)]
    sys.exit(0 if answers[0] == answers[1] else f"the tables differ: {answers}")


{"merge": merge, "scan": scan, "optimize": optimize}[sys.argv[1]](*sys.argv[2:])
