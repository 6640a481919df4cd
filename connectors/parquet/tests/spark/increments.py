"""Shows that Spark prunes by our buckets behind a thousand increments, Parquet and ORC, whose small files were merged meanwhile.

    cargo build --release --workspace --example bucketed_rounds
    python increments.py TARGET/release/examples/bucketed_rounds [1000 [orc]]     # the Python of tests/spark/install

A thousand take some ten minutes, a debug build's hours. Ends with a line `every check held`, or with the first one that did not.
"""

import glob
import os
import re
import subprocess
import sys
import tempfile

from pyspark.sql import SparkSession

WRITER, ROUNDS = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1000
KINDS = sys.argv[3:] or ["parquet", "orc"]
COLUMNS = "id BIGINT, name STRING, amount DECIMAL(20,4), day DATE"
# Bucket column and count of two tables of the writer, and what is asked of them.
TABLES = {"plain": ("id", 16, "id = 42"), "parts": ("name", 5, "name = '日本語日本語'")}


def check(holds, what):
    if not holds:
        sys.exit(f"FAILED: {what}")
    print("held:", what)


def session(folder):
    builder = SparkSession.builder.master("local[1]")
    for name, value in {
        "spark.ui.enabled": "false",
        "spark.log.level": "ERROR",
        "spark.driver.memory": "2g",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.warehouse.dir": os.path.join(folder, "warehouse"),
        # Else the plan shows buckets only where a join asks for them.
        "spark.sql.sources.bucketing.autoBucketedScan.enabled": "false",
    }.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def look(spark, kind, folder):
    for table, (by, count, where) in TABLES.items():
        name, place = f"{kind}_{table}", f"{folder}/{table}"
        parts = "PARTITIONED BY (day)" if table == "parts" else ""
        spark.sql(f"CREATE TABLE {name} ({COLUMNS}) USING {kind} {parts} CLUSTERED BY ({by}) SORTED BY ({by}) "
                  f"INTO {count} BUCKETS LOCATION '{place}'")
        if parts:
            spark.sql(f"MSCK REPAIR TABLE {name}")
        files = glob.glob(f"{place}/**/*.{kind}", recursive=True)
        rows = spark.table(name).count()
        check(rows == 3000 * ROUNDS and len(files) < 16 * ROUNDS // 4, f"{name}: {rows} rows of {ROUNDS} increments in {len(files)} files")
        whole = spark.read.schema(COLUMNS).format(kind).load(place)
        strays = whole.selectExpr(f"pmod(hash({by}), {count}) as bucket",
                                  r"cast(regexp_extract(input_file_name(), '.*_(\\d+)(?:\\..*)?$', 1) as int) as named")
        check(strays.where("bucket <> named or named is null").count() == 0, f"{name}: each row in Spark's own bucket")
        query = f"select count(*), sum(amount), min(day) from {name} where {where}"
        said = "\n".join(row[0] for row in spark.sql("EXPLAIN FORMATTED " + query).collect())
        found = re.search(r"SelectedBucketsCount: (\d+) out of (\d+)", said)
        check(found and found.groups() == ("1", str(count)), f"{name}: {found and found[0]} where {where}")
        whole.createOrReplaceTempView("whole")
        expected = spark.sql(query.replace(f"from {name} ", "from whole ")).collect()
        check(spark.sql(query).collect() == expected and expected[0][0] > 0, f"{name}: the {expected[0][0]} rows that a whole read finds")


with tempfile.TemporaryDirectory() as home:
    spark = session(home)
    for kind in KINDS:
        subprocess.run([WRITER, os.path.join(home, kind), "spark", "1", str(ROUNDS), kind], check=True)
        look(spark, kind, os.path.join(home, kind))
    spark.stop()
print("every check held")
