#!/usr/bin/env bash
# What an upsert costs: 2,000 changed rows into a table of ROWS (4,000,000), beside delta-rs's MERGE of the same rows into a
# copy of the table, in one run. CPU seconds, whole process for lakehead, the merge alone for delta-rs.
#
#   LAKEHEAD=target/release/lakehead PYTHON=python-with-deltalake-and-polars examples/figures/upserts.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
lakehead=$(realpath "${LAKEHEAD:?the release binary}")
python=${PYTHON:?a Python with deltalake, duckdb and polars}
rows=${ROWS:-4000000}
changes=${CHANGES:-2000}
rounds=${ROUNDS:-5}
# One run of made-up rows is one transaction, and must fit in memory: the table is filled by several.
chunk=500000
[ $((rows % chunk)) = 0 ] || { echo "ROWS must be a multiple of $chunk"; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir in
cat > lakehead.toml <<TOML
name = "figures"
edition = 1
TOML
cat > figures.lake <<LAKE
connection lake delta { path = "lake" }
connection drops files { path = "in" }

pipeline base {
  source rows = generate { rows = $chunk, columns = { id = sequence(), amount = money(1, 500), note = sentence(8) } }
  sink lake { table = "t", mode = upsert, key = [id] }
}

pipeline round {
  source rows = drops { path = "*.csv", columns = { id = bigint, amount = decimal(12, 2), note = varchar } }
  sink lake { table = "t", mode = upsert, key = [id] }
}
LAKE
TIMEFORMAT='%U %S %R'
# Prints user, system and wall seconds of a command; what it says is shown only where it fails, and ends the script.
cpu() { { time "$@" > said 2>&1; } 2> times || { cat said >&2; exit 1; }; cat times; }
bytes() { du -sb "$1" | cut -f1; }
changed() { awk -v n="$changes" -v rows="$rows" -v seed="$1" 'BEGIN { srand(seed); print "id,amount,note";
  for (i = 0; i < n; i++) { id = int(rand() * rows) + 1; if (!(id in seen)) { seen[id] = 1; printf "%d,%.2f,changed in round %d\n", id, rand() * 500, seed } } }'; }
for _ in $(seq 1 $((rows / chunk))); do cpu "$lakehead" run base > filled; done
"$python" -c "import duckdb, sys; found = duckdb.sql(\"select count(*) from delta_scan('lake/t')\").fetchone()[0]; sys.exit(found != $rows and f'the table holds {found} rows')"
echo "base table of $rows rows, $(bytes lake/t) bytes"
cp -r lake/t merged
for round in $(seq 1 "$rounds"); do
  changed "$round" > "in/$round.csv"
  before=$(bytes lake/t)
  cpu "$lakehead" run round > times_of_round
  echo "lakehead round $round: user sys wall $(cat times_of_round), $(($(bytes lake/t) - before)) bytes"
done
cpu "$lakehead" run round > times_of_round
echo "lakehead with nothing to do: user sys wall $(cat times_of_round)"
"$python" - "$rounds" <<'PY'
import os, resource, sys, polars, deltalake
def size(path):
    return sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(path) for name in names)
for number in range(1, int(sys.argv[1]) + 1):
    rows = polars.read_csv(f"in/{number}.csv", schema_overrides={"amount": polars.Decimal(12, 2)})
    table = deltalake.DeltaTable("merged")
    before, used = size("merged"), resource.getrusage(resource.RUSAGE_SELF)
    table.merge(rows, "s.id = t.id", source_alias="s", target_alias="t").when_matched_update_all().when_not_matched_insert_all().execute()
    now = resource.getrusage(resource.RUSAGE_SELF)
    print(f"delta-rs merge {number}: user sys {now.ru_utime - used.ru_utime:.3f} {now.ru_stime - used.ru_stime:.3f}, {size('merged') - before} bytes")
import duckdb
sums = [duckdb.sql(f"select count(*), sum(id)::bigint, sum(amount) from delta_scan('{path}')").fetchone() for path in ["lake/t", "merged"]]
sys.exit(0 if sums[0] == sums[1] else f"the tables differ: {sums}")
PY
