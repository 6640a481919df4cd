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
    print(os.path.basename(path), got.num_rows, file.nstripes, file.compression, file.software_version, dict(file.metadata or {}))
    return True


def with_chdb(path):
    import chdb

    want = expected(path)
    # Maps and 38 digits are told apart by their text; times by their microseconds.
    names = [field.name for field in want.schema if pa.types.is_primitive(field.type) or pa.types.is_string(field.type)]
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
            print(os.path.basename(path), "chdb:", name, left.type, left.slice(0, 5).to_pylist(), right.slice(0, 5).to_pylist())
            good = False
    nested = [field.name for field in want.schema if field.name not in names]
    count = chdb.query(f"select count(), {', '.join(f'toString({name})' for name in nested)} from file('{path}', ORC) group by all limit 1")
    print(os.path.basename(path), "chdb", got.num_rows, len(wide + times), "columns equal;", len(nested), "nested read")
    return good


verb, folder = sys.argv[1:]
paths = sorted(glob.glob(os.path.join(folder, "*.orc")))
assert paths
sys.exit(0 if all([{"pyarrow": with_pyarrow, "chdb": with_chdb}[verb](path) for path in paths]) else 1)
