"""Shows that Spark prunes and joins by our buckets, and that Hive's own code puts every row where we put it.

    cargo build -p lakehead-parquet --example bucketed_rounds
    python buckets.py TARGET/debug/examples/bucketed_rounds hive3     # any Python with pyspark 4.0

`hive3` is the folder of three jars that connectors/buckets/tests/make_vectors.py tells how to get. Ends with a line
`every check held`, or with the first one that did not.
"""

import glob
import os
import re
import subprocess
import sys
import tempfile

from pyspark.sql import SparkSession

WRITER, JARS = sys.argv[1], sorted(os.path.abspath(jar) for jar in glob.glob(os.path.join(sys.argv[2], "*.jar")))
ROUNDS = 3
COLUMNS = "id BIGINT, name STRING, amount DECIMAL(20,4), day DATE"
# Bucket columns and count of the tables of the writer, and what is asked of them. Spark prunes by one bucket column
# only; by several it joins.
TABLES = {
    "plain": (["id"], 16, ["id = 42", "id = -7"]),
    "parts": (["name"], 5, ["name = '日本語日本語'", "name = 'éé'", "name = ''"]),
    "pairs": (["name", "amount"], 5, []),
}


def session(folder):
    builder = SparkSession.builder.master("local[1]")
    for name, value in {
        "spark.ui.enabled": "false",
        "spark.log.level": "ERROR",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.warehouse.dir": os.path.join(folder, "warehouse"),
        "spark.driver.extraClassPath": ":".join(JARS),
        # Small tables would be broadcast, and no bucket asked for.
        "spark.sql.autoBroadcastJoinThreshold": "-1",
        "spark.sql.adaptive.enabled": "false",
        # Else the plan shows buckets only where a join asks for them; without it, too, other buckets are not opened.
        "spark.sql.sources.bucketing.autoBucketedScan.enabled": "false",
    }.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def write(folder, rule, number):
    subprocess.run([WRITER, folder, rule, str(number)], check=True)


def plan(spark, sql):
    return "\n".join(row[0] for row in spark.sql("EXPLAIN FORMATTED " + sql).collect())


def check(holds, what):
    if not holds:
        sys.exit(f"FAILED: {what}")
    print("held:", what)


def spark_buckets(spark, folder):
    write(folder, "spark", 1)
    for table, (by, count, _) in TABLES.items():
        columns = ", ".join(by)
        parts = "PARTITIONED BY (day)" if table == "parts" else ""
        spark.sql(f"CREATE TABLE {table} ({COLUMNS}) USING parquet {parts} CLUSTERED BY ({columns}) SORTED BY ({columns}) "
                  f"INTO {count} BUCKETS LOCATION '{folder}/{table}'")
    for number in range(1, ROUNDS + 1):
        if number > 1:
            write(folder, "spark", number)
        spark.sql("MSCK REPAIR TABLE parts")
        for table, (by, count, conditions) in TABLES.items():
            spark.sql(f"REFRESH TABLE {table}")
            whole = spark.read.schema(COLUMNS).parquet(f"{folder}/{table}")
            rows = whole.selectExpr(f"pmod(hash({', '.join(by)}), {count}) as b", "input_file_name() as f").collect()
            wrong = [row.f for row in rows if int(re.search(r"_(\d+)(?:\..*)?$", row.f.rsplit("/", 1)[1])[1]) != row.b]
            check(len(rows) == 3000 * number and not wrong, f"round {number}, {table}: {len(rows)} rows, each in Spark's own bucket")
            whole.createOrReplaceTempView("whole")
            for where in conditions:
                query = f"select id, name, amount, day from {table} where {where} order by all"
                said = plan(spark, query)
                found = re.search(r"SelectedBucketsCount: (\d+) out of (\d+)", said)
                check(found and found.groups() == ("1", str(count)), f"round {number}, {table}: {found and found[0]} where {where}")
                expected = spark.sql(query.replace(f"from {table} ", "from whole ")).collect()
                rows = spark.sql(query).collect()
                check(rows == expected and rows, f"round {number}, {table}: the {len(rows)} rows that a whole read finds")
    for table, on in (("plain", "a.id = b.id"), ("pairs", "a.name = b.name and a.amount = b.amount")):
        said = plan(spark, f"select a.id, b.day from {table} a join {table} b on {on}")
        check("Exchange" not in said and "Bucketed: true" in said, f"{table}: a join on the bucket columns moves no rows")
        joined, whole = [spark.sql(f"select count(*) from {name} a join {name} b on {on}").collect()[0][0]
                         for name in (table, f"parquet.`{folder}/{table}`")]
        check(joined == whole > 0, f"{table}: it finds the same {joined} pairs as without buckets")
    only_one_bucket_is_opened(spark, f"{folder}/plain")


def only_one_bucket_is_opened(spark, table):
    """Spoils every other bucket's files, with the planner's own choice of scan."""
    spark.conf.set("spark.sql.sources.bucketing.autoBucketedScan.enabled", "true")
    query = "select count(*), min(name) from plain where id = 42"
    before = spark.sql(query).collect()
    bucket = spark.sql("select pmod(hash(42L), 16)").collect()[0][0]
    for file in glob.glob(f"{table}/*.parquet"):
        if f"_{bucket:05d}.c000" not in file:
            with open(file, "r+b") as spoilt:
                spoilt.write(b"no Parquet")
                spoilt.truncate(10)
    check(spark.sql(query).collect() == before, "a query of one id reads none of the spoilt files of other buckets")
    try:
        spark.sql("select count(name) from plain").collect()
        check(False, "a query of all rows meets them")
    except Exception as error:  # noqa: BLE001 - whatever Spark says of such a file
        check("no Parquet" in str(error) or "is not a Parquet file" in str(error), "a query of all rows meets them")


class Hive:
    def __init__(self, spark):
        self.gateway, jvm = spark.sparkContext._gateway, spark._jvm
        self.jvm, self.io = jvm, jvm.org.apache.hadoop.io
        self.serde = jvm.org.apache.hadoop.hive.serde2
        self.factory = self.serde.objectinspector.primitive.PrimitiveObjectInspectorFactory
        self.utils = self.serde.objectinspector.ObjectInspectorUtils
        info = self.serde.typeinfo.TypeInfoFactory.getDecimalTypeInfo(20, 4)
        self.inspectors = {
            "id": self.factory.writableLongObjectInspector,
            "name": self.factory.writableStringObjectInspector,
            "amount": self.factory.getPrimitiveWritableObjectInspector(info),
        }

    def cell(self, name, value):
        if value is None:
            return None
        if name == "amount":
            create = self.jvm.org.apache.hadoop.hive.common.type.HiveDecimal.create
            return self.serde.io.HiveDecimalWritable(create(self.jvm.java.math.BigDecimal(str(value))))
        return self.io.LongWritable(value) if name == "id" else self.io.Text(value)

    def bucket(self, rule, names, values, count):
        objects = self.gateway.new_array(self.jvm.java.lang.Object, len(names))
        inspectors = self.gateway.new_array(self.serde.objectinspector.ObjectInspector, len(names))
        for place, (name, value) in enumerate(zip(names, values)):
            objects[place], inspectors[place] = self.cell(name, value), self.inspectors[name]
        number = self.utils.getBucketNumber if rule == "hive2" else self.utils.getBucketNumberOld
        return number(objects, inspectors, count)


def hive_buckets(spark, folder, rule):
    for number in range(1, ROUNDS + 1):
        write(folder, rule, number)
    hive = Hive(spark)
    for table, (by, count, _) in TABLES.items():
        frame = spark.read.schema(COLUMNS).parquet(f"{folder}/{table}").selectExpr("input_file_name() as f", *by)
        rows, asked, wrong = frame.collect(), {}, 0
        for row in rows:
            key = tuple(row[1:])
            if key not in asked:
                asked[key] = hive.bucket(rule, by, key, count)
            named = int(re.fullmatch(r"(0?\d+)_\d+.*", row.f.rsplit("/", 1)[1])[1])
            wrong += named != asked[key]
        check(len(rows) == 3000 * ROUNDS and wrong == 0, f"{rule}, {table}: {len(rows)} rows, {len(asked)} keys, each in Hive's own bucket")


def main():
    with tempfile.TemporaryDirectory() as folder:
        spark = session(folder)
        spark_buckets(spark, os.path.join(folder, "spark"))
        for rule in ("hive2", "hive1"):
            hive_buckets(spark, os.path.join(folder, rule), rule)
        spark.stop()
    print("every check held")


main()
