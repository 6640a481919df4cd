#!/usr/bin/env bash
# Measures files to Parquet: NDJSON and CSV, packed, nested and with one row of fifty broken, beside DuckDB with declared
# columns and one thread over the same files. A figure is MB of the file a second of CPU, the whole process counted.
#
#   LAKEHEAD=target/release/lakehead PYTHON=… ROWS=4000000 ./files.sh      PYTHON has duckdb (`./test` makes one)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
lakehead=${LAKEHEAD:-lakehead}
python=${PYTHON:-python3}
work=$(mktemp -d "${TMPDIR:-/tmp}/lakehead-files-XXXXXX")
trap '[ -n "${KEEP:-}" ] || rm -rf "$work"' EXIT
mkdir "$work/data" "$work/project"
echo "writing ${ROWS:-4000000} rows"
"$python" "$here/files_data.py" "$work/data" "${ROWS:-4000000}"
# What the disk still has to write would be counted against the first file.
sync
cd "$work/project"
printf 'name = "files"\nedition = 1\n' > lakehead.toml

pipeline() {
  local columns='id = bigint, at = timestamptz, customer = bigint, country = varchar, amount = decimal(12, 2), quantity = int,
      rate = double, paid = bool, status = varchar, note = varchar'
  case $1 in nested*) columns='id = bigint, buyer = json, items = json, tags = list(varchar), amount = decimal(12, 2)' ;; esac
  cat > p.lake <<LAKE
connection drops files { path = "$work/data" }
connection lake parquet { path = "lake" }

pipeline p {
  source rows = drops { path = "$1", on_misfit = dead_letter, columns = { $columns } }
  sink lake { table = "t", mode = append }
  dead_letter lake { table = "rejects" }
}
LAKE
}

# Prints user and system seconds and the peak of memory of a command.
measured() { /usr/bin/env time -f "%U %S %M" -o "$work/time" "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }; cat "$work/time"; }

for file in rows.ndjson rows.csv rows.ndjson.gz rows.csv.gz broken.ndjson broken.csv nested.ndjson; do
  size=$(stat -c %s "$work/data/$file")
  rm -rf lake .lakehead "$work/peer.parquet"
  pipeline "$file"
  ours=$(measured "$lakehead" run p --quiet)
  peer=$(measured "$python" "$here/files_peer.py" "$work/data/$file" "$work/peer.parquet")
  "$python" - "$work" "$file" "$size" "$ours" "$peer" <<'PY'
import glob
import sys

import duckdb

work, file, size, ours, peer = sys.argv[1:]
ours, peer = [float(n) for n in ours.split()], [float(n) for n in peer.split()]
count = lambda path: duckdb.sql(f"select count(*), sum(id) from read_parquet('{path}')").fetchone()
found, expected = count(f"{work}/project/lake/t/*.parquet"), count(f"{work}/peer.parquet")
if "broken" not in file:
    assert found == expected, (file, found, expected)
speed = lambda used: int(size) / 1e6 / (used[0] + used[1])
print(f"{file:<15} {int(size) / 1e6:4.0f} MB   lakehead {speed(ours):4.0f} MB/CPU-s, RSS {ours[2] / 1024:4.0f} MiB   "
      f"DuckDB {speed(peer):4.0f} MB/CPU-s, RSS {peer[2] / 1024:4.0f} MiB   {speed(ours) / speed(peer):.2f} times")
PY
done
