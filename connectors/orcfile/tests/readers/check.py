"""Reads every `*.orc` of a folder and compares it with the `*.arrow` of the same name. Exits with 1 on a difference."""

import glob
import os
import sys

import pyarrow as pa
import pyarrow.ipc
import pyarrow.orc as orc


def expected(path):
    with pa.memory_map(path[:-4] + ".arrow") as source:
        return pa.ipc.open_file(source).read_all()


def differ(name, got, want):
    for column in want.column_names:
        one, other = got[column].combine_chunks(), want[column].combine_chunks()
        if not one.equals(other):
            for row, (left, right) in enumerate(zip(one, other)):
                if not left.equals(right):
                    print(f"{name}: {column} row {row}: {left} instead of {right}")
                    break
            else:
                print(f"{name}: {column}: {len(one)} rows instead of {len(other)}")


def with_pyarrow(path):
    file = orc.ORCFile(path)
    got = file.read()
    want = expected(path).cast(got.schema)
    got.validate(full=True)
    if not got.equals(want):
        differ(os.path.basename(path), got, want)
        return False
    for column in ("id", "decimal", "structs"):
        assert orc.read_table(path, columns=[column])[column].equals(want[column]), column
    said = (file.nstripes, file.compression, file.software_version, dict(file.metadata or {}))
    print(os.path.basename(path), got.num_rows, *said)
    return True


def with_chdb(path):
    import chdb

    want = expected(path)
    # Times as numbers: its own text and Arrow types depend on settings. What is nested is read, and compared by `skip`.
    names = [field.name for field in want.schema if not pa.types.is_nested(field.type)]
    times = [field.name for field in want.schema if pa.types.is_timestamp(field.type)]
    wide = [name for name in names if name not in times]
    columns = wide + [f"toUnixTimestamp64Nano({name}) as {name}" for name in times]
    query = f"select {', '.join(columns)} from file('{path}', ORC)"
    got = pa.ipc.open_file(pa.BufferReader(chdb.query(query, "Arrow").bytes())).read_all()
    good = True
    for name in wide + times:
        right = want[name].combine_chunks()
        left = got[name].combine_chunks()
        if name in times:
            right = right.cast(pa.timestamp("ns", right.type.tz)).cast(pa.int64())
        left = left.cast(right.type)
        if not left.equals(right):
            print(os.path.basename(path), "chdb:", name, left.type, left[:5].to_pylist(), right[:5].to_pylist())
            good = False
    nested = [field.name for field in want.schema if field.name not in names]
    texts = ", ".join(f"toString({name})" for name in nested)
    chdb.query(f"select count(), {texts} from file('{path}', ORC) group by all limit 1")
    print(os.path.basename(path), "chdb", got.num_rows, len(wide + times), "columns equal;", len(nested), "nested read")
    return good


def skip(path):
    """Answers of ClickHouse with and without push-down, and how many rows it read for them."""
    import chdb

    def ask(where, push):
        settings = f"settings input_format_orc_filter_push_down={push}, max_threads=1, optimize_move_to_prewhere=0"
        answer = chdb.query(f"select * from file('{path}', ORC) where {where} {settings}", "TabSeparated")
        return answer.bytes(), answer.storage_rows_read()

    name = os.path.basename(path)
    rows = expected(path)
    ranges = [(60_003, 61_000), (9_990, 10_010), (30, 31)]
    checks = [(f"id between {first} and {last}", 20_000, True) for first, last in ranges]
    if name != "every.orc":
        searched = rows.slice(54_321, 1).to_pylist()[0]
        bloom = name == "bloom.orc"
        for column in ("text", "whole"):
            checks.append((f"{column} = {searched[column]!r}", 30_000, bloom))
    good = True
    for where, most, skips in checks:
        (with_push, few), (without, all_rows) = ask(where, 1), ask(where, 0)
        right = with_push == without and with_push and (few <= most) == skips and all_rows == rows.num_rows
        print(name, where, "rows read:", few, "of", all_rows, "" if right else "WRONG")
        good = good and right
    return good


def parquet(path):
    import pyarrow.parquet

    def utc(data_type):
        if pa.types.is_timestamp(data_type):
            return pa.timestamp("us", "UTC")
        if pa.types.is_list(data_type):
            return pa.list_(utc(data_type.value_type))
        return data_type

    rows = expected(path)
    rows = rows.cast(pa.schema([field.with_type(utc(field.type)) for field in rows.schema]))
    pyarrow.parquet.write_table(rows, path[:-4] + ".parquet")
    return True


def write(path):
    rows = expected(path)
    for name in rows.column_names:
        if pa.types.is_string_view(rows[name].type):
            rows = rows.set_column(rows.column_names.index(name), name, rows[name].cast(pa.string()))
    for compression in ("uncompressed", "zlib", "snappy", "lz4", "zstd"):
        options = {"compression": compression, "stripe_size": 1_000_000, "dictionary_key_size_threshold": 0.9}
        orc.write_table(rows, f"{path[:-4]}.{compression}", **options)
    return True


verbs = {"write": write, "pyarrow": with_pyarrow, "chdb": with_chdb, "skip": skip, "parquet": parquet}
verb, folder = sys.argv[1:]
paths = sorted(glob.glob(os.path.join(folder, "*.orc")))
assert paths
sys.exit(0 if all([verbs[verb](path) for path in paths]) else 1)
