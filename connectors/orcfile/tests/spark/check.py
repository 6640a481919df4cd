"""Reads each ORC file of a folder in Spark, compares it with the Parquet file of the same name, and looks how much is
skipped."""

import datetime
import glob
import os
import sys

from pyspark.sql import SparkSession, functions

folder, zone = sys.argv[1:]
spark = (
    SparkSession.builder.master("local[1]")
    .config("spark.sql.session.timeZone", zone)
    .config("spark.driver.extraJavaOptions", f"-Duser.timezone={zone}")
    .config("spark.ui.enabled", "false")
    .config("spark.sql.orc.filterPushdown", "true")
    .config("spark.sql.orc.aggregatePushdown", "true")
    .config("spark.sql.parquet.datetimeRebaseModeInRead", "CORRECTED")
    .config("spark.sql.parquet.int96RebaseModeInRead", "CORRECTED")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")
wrong = 0


def lines(frame):
    # Maps cannot be compared as they are; their text can, and floats are printed whole.
    line = functions.to_json(functions.struct(*frame.columns), {"ignoreNullFields": "false"})
    return frame.select(line.alias("line"))


def scanned(frame):
    """Runs a query and returns its rows and how many the file's reader gave."""
    rows = frame.collect()
    plan = frame._jdf.queryExecution().executedPlan()
    return rows, plan.collectLeaves().apply(0).metrics().apply("numOutputRows").value()


if zone != "UTC":
    # A time without a zone is what the clock shows in any zone; an instant is the same number of microseconds.
    path = os.path.join(folder, "every_zlib")
    columns = ["id", "unix_micros(instant)", "cast(time_us as string)", "unix_micros(time_us)"]
    got = sorted(spark.read.orc(path + ".orc").selectExpr(*columns).take(20_000))
    want = sorted(spark.read.parquet(path + ".parquet").selectExpr(*columns).take(20_000))
    for (row, instant, shown, _), (same, right, _, micros) in zip(got, want, strict=True):
        clock = micros is not None and datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=micros)
        text = clock and f"{clock:%Y-%m-%d %H:%M:%S}" + f".{clock:%f}".rstrip("0").rstrip(".")
        if (row, instant, shown or False) != (same, right, text):
            print("DIFFER", (row, instant, shown), (same, right, text))
            wrong += 1
            break
    print(zone, len(got), "rows", "DIFFER" if wrong else "equal")
    sys.exit(wrong)

for path in sorted(glob.glob(os.path.join(folder, "every_*.orc"))):
    got, want = spark.read.orc(path), spark.read.parquet(path[:-4] + ".parquet")
    left, right = lines(got), lines(want)
    more, less = left.exceptAll(right).take(1), right.exceptAll(left).take(1)
    count = got.count()
    good = not more and not less and count == want.count()
    wrong += not good
    print(os.path.basename(path), count, "rows", "equal" if good else f"DIFFER: {more} instead of {less}")
    if count and "null" not in path:
        # From the middle, so that every stream of every column is sought by its position.
        for first, last in [(90_003, 91_000), (29_990, 30_010)]:
            part = f"id between {first} and {last}"
            some, few = scanned(got.where(part))
            same = sorted(map(str, some)) == sorted(map(str, want.where(part).collect()))
            wrong += not (same and few < count)
            print(os.path.basename(path), part, "rows read:", few, "of", count, "" if same else "DIFFER")
    # The newer way of reading answers these from the statistics in the footers, without a row.
    spark.conf.set("spark.sql.sources.useV1SourceList", "parquet")
    aggregates = (functions.min, functions.max, functions.count)
    aggregates = [aggregate(name) for name in ("id", "i32", "date", "f64", "bool") for aggregate in aggregates]
    bounds, other = spark.read.orc(path).agg(*aggregates), want.agg(*aggregates)
    plan = bounds._jdf.queryExecution().executedPlan().toString()
    same = bounds.collect() == other.collect() and ("agg_func_0" in plan)
    if not same:
        print(bounds.collect(), other.collect(), plan)
    spark.conf.unset("spark.sql.sources.useV1SourceList")
    wrong += not same
    print(os.path.basename(path), "minima and maxima from statistics", "equal" if same else "DIFFER")

for name, skips in [("bloom", True), ("plain", False)]:
    path = os.path.join(folder, name + ".orc")
    all_rows = spark.read.orc(path)
    row = all_rows.where("id = 54321").collect()[0]
    for where in (f"text = '{row.text}'", f"whole = {row.whole}", f"amount = {row.amount}"):
        some, few = scanned(spark.read.orc(path).where(where))
        good = some == [row] and (few <= 30_000) == skips
        wrong += not good
        print(name, where.split()[0], "rows read:", few, "of", all_rows.count(), "" if good else "WRONG")

sys.exit(1 if wrong else 0)
