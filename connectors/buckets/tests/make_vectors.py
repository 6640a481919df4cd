"""Asks Spark and Hive themselves for bucket hashes and writes tests/vectors.tsv.

Spark's own jars hold Hive 2, whose buckets are version 1 only; version 2 came with Hive 3. So three jars of Hive 3 go
first on the class path (hive-serde, hive-common, hive-storage-api and nothing that they depend on). Those of 4.0.1 answer
the same.

    mvn dependency:copy -Dartifact=org.apache.hive:hive-serde:3.1.3 -DoutputDirectory=hive3
    mvn dependency:copy -Dartifact=org.apache.hive:hive-common:3.1.3 -DoutputDirectory=hive3
    mvn dependency:copy -Dartifact=org.apache.hive:hive-storage-api:2.7.0 -DoutputDirectory=hive3
    python make_vectors.py hive3 > vectors.tsv        # any Python with pyspark 4.0

A line: types, values, then hash and bucket of 13 by hive1, hive2, spark. Several columns are parted by `|`. Floats are
their bits, decimals their unscaled value, texts and bytes hex, dates days, timestamps microseconds.
"""

import decimal
import glob
import os
import random
import struct
import sys

from pyspark.sql import SparkSession, types as T

BUCKETS = 13
decimal.getcontext().prec = 60
rng = random.Random(20_260_501)


def session(folder):
    jars = sorted(os.path.abspath(jar) for jar in glob.glob(os.path.join(folder, "*.jar")))
    assert len(jars) == 3, jars
    return (
        SparkSession.builder.master("local[1]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.extraClassPath", ":".join(jars))
        # Version 1 hashes a timestamp in the zone of the machine: UTC is what is promised.
        .config("spark.driver.extraJavaOptions", "-Duser.timezone=UTC")
        .config("spark.sql.session.timeZone", "UTC")
        .getOrCreate()
    )


def ints(bits, count):
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    near = [0, 1, -1, 13, low, high, low + 1]
    return near + [rng.randint(low, high) for _ in range(count)] + [rng.randint(-1000, 1000) >> 3 for _ in range(8)] \
        if bits > 8 else near + [rng.randint(low, high) for _ in range(count)]


def floats(form, width):
    special = [0.0, -0.0, 1.0, -1.0, 12.34, 0.1, float("nan"), float("inf"), float("-inf"), 1e-45 if width == 4 else 5e-324]
    found = [struct.pack(form, value) for value in special]
    found += [struct.pack(form, rng.uniform(-1e6, 1e6)) for _ in range(15)]
    found += [rng.randbytes(width) for _ in range(15)]
    # A NaN of another payload does not survive Python: Java makes all of them one anyway.
    keep = lambda raw: raw if struct.unpack(form, raw)[0] == struct.unpack(form, raw)[0] else struct.pack(form, float("nan"))
    return [keep(raw) for raw in found]


def texts():
    fixed = ["", "a", "ab", "abc", "abcd", "é", "aé", "éa", "abé", "abcé", "日", "日本", "日本語", "a日本語", "ab日本語",
             "abc日本語", "ñandú", "😀", "a😀", "ab😀", "abc😀", "Grüße", "强大的Trino引擎", "\U00020ffc\U00020ffd\U00020ffe\U00020fff",
             "test string", "Trino rocks", "Spark", "iceberg", "\x00", "a\x00", "ÿ" * 7]
    alphabet = "abcxyz 0189éüßñ日本語中文кирилл😀𝛑"
    return fixed + ["".join(rng.choice(alphabet) for _ in range(rng.randint(0, 12))) for _ in range(60)]


def decimals(precision):
    top = 10 ** precision - 1
    # 4294967296 and 2^63, 2^64, 2^96 are where words and bytes of Java's numbers end.
    edges = [0, 1, -1, 10, -10, 100, 128, -128, -129, 255, 256, 32767, 32768, -32768, 2**31 - 1, 2**31, -2**31, 2**32,
             2**63 - 1, 2**63, -2**63, 2**64, 2**96, -2**96, top, -top, 1500, 150000000000000000]
    found = [edge for edge in edges if abs(edge) <= top]
    return found + [rng.randint(-10 ** d, 10 ** d) for d in range(1, precision + 1) for _ in range(2)]


class Hive:
    """The same values as Hive's own objects."""

    def __init__(self, spark):
        self.gateway, self.jvm = spark.sparkContext._gateway, spark._jvm
        self.utils = self.jvm.org.apache.hadoop.hive.serde2.objectinspector.ObjectInspectorUtils
        self.inspectors = self.jvm.org.apache.hadoop.hive.serde2.objectinspector.primitive.PrimitiveObjectInspectorFactory
        self.io, self.hive_io = self.jvm.org.apache.hadoop.io, self.jvm.org.apache.hadoop.hive.serde2.io

    def cell(self, kind, value):
        word = kind.split("(")[0]
        inspector = getattr(self.inspectors, {
            "bool": "writableBooleanObjectInspector", "tinyint": "writableByteObjectInspector",
            "smallint": "writableShortObjectInspector", "int": "writableIntObjectInspector",
            "bigint": "writableLongObjectInspector", "real": "writableFloatObjectInspector",
            "double": "writableDoubleObjectInspector", "decimal": "writableHiveDecimalObjectInspector",
            "varchar": "writableStringObjectInspector", "bytea": "writableBinaryObjectInspector",
            "date": "writableDateObjectInspector", "timestamp": "writableTimestampObjectInspector",
            "timestamptz": "writableTimestampObjectInspector",
        }[word])
        if word == "decimal":
            info = self.jvm.org.apache.hadoop.hive.serde2.typeinfo.TypeInfoFactory.getDecimalTypeInfo(*digits_of(kind))
            inspector = self.inspectors.getPrimitiveWritableObjectInspector(info)
        if value is None:
            return None, inspector
        common = self.jvm.org.apache.hadoop.hive.common.type
        make = {
            "bool": lambda: self.io.BooleanWritable(value),
            "tinyint": lambda: self.hive_io.ByteWritable(value),
            "smallint": lambda: self.hive_io.ShortWritable(value),
            "int": lambda: self.io.IntWritable(value),
            "bigint": lambda: self.io.LongWritable(value),
            "real": lambda: self.io.FloatWritable(value),
            "double": lambda: self.hive_io.DoubleWritable(value),
            "decimal": lambda: self.hive_io.HiveDecimalWritable(common.HiveDecimal.create(
                self.jvm.java.math.BigDecimal(self.jvm.java.math.BigInteger(str(value)), digits_of(kind)[1]))),
            "varchar": lambda: self.io.Text(value),
            "bytea": lambda: self.io.BytesWritable(bytearray(value)),
            "date": lambda: self.hive_io.DateWritableV2(value),
            "timestamp": lambda: self.hive_io.TimestampWritableV2(
                common.Timestamp.ofEpochSecond(value // 1_000_000, value % 1_000_000 * 1000)),
        }
        return make["timestamp" if word == "timestamptz" else word](), inspector

    def hashes(self, kinds, values):
        objects = self.gateway.new_array(self.jvm.java.lang.Object, len(kinds))
        interface = self.jvm.org.apache.hadoop.hive.serde2.objectinspector.ObjectInspector
        inspectors = self.gateway.new_array(interface, len(kinds))
        for place, (kind, value) in enumerate(zip(kinds, values)):
            objects[place], inspectors[place] = self.cell(kind, value)
        old, new = self.utils.getBucketHashCodeOld(objects, inspectors), self.utils.getBucketHashCode(objects, inspectors)
        return old, new, self.utils.getBucketNumber(old, BUCKETS), self.utils.getBucketNumber(new, BUCKETS)


def digits_of(kind):
    """Precision and scale of `decimal(p,s)`."""
    return tuple(int(number) for number in kind[len("decimal("):-1].split(","))


def spark_type(kind):
    simple = {"bool": T.BooleanType(), "tinyint": T.ByteType(), "smallint": T.ShortType(), "int": T.IntegerType(),
              "bigint": T.LongType(), "real": T.FloatType(), "double": T.DoubleType(), "varchar": T.StringType(),
              "bytea": T.BinaryType(), "date": T.IntegerType(), "timestamp": T.LongType(), "timestamptz": T.LongType()}
    if kind in simple:
        return simple[kind]
    return T.DecimalType(*digits_of(kind))


def spark_column(kind, name):
    return {
        "date": f"date_add(date'1970-01-01', {name})",
        "timestamptz": f"timestamp_micros({name})",
        "timestamp": f"cast(timestamp_micros({name}) as timestamp_ntz)",
    }.get(kind, name)


def spark_hashes(spark, kinds, rows):
    def cell(kind, value):
        if value is None or not kind.startswith("decimal"):
            return value
        return decimal.Decimal(value).scaleb(-digits_of(kind)[1])
    schema = T.StructType([T.StructField("n", T.IntegerType())] +
                          [T.StructField(f"c{place}", spark_type(kind)) for place, kind in enumerate(kinds)])
    data = [(n, *[cell(kind, value) for kind, value in zip(kinds, row)]) for n, row in enumerate(rows)]
    call = "hash(" + ", ".join(spark_column(kind, f"c{place}") for place, kind in enumerate(kinds)) + ")"
    frame = spark.createDataFrame(data, schema).selectExpr("n", f"{call} as h", f"pmod({call}, {BUCKETS}) as b")
    return [(row.h, row.b) for row in sorted(frame.collect(), key=lambda row: row.n)]


def written(kind, value):
    if value is None:
        return "null"
    if kind == "bool":
        return "true" if value else "false"
    if kind == "real":
        return struct.pack(">f", value).hex()
    if kind == "double":
        return struct.pack(">d", value).hex()
    if kind == "varchar":
        return "x" + value.encode().hex()
    if kind == "bytea":
        return "x" + bytes(value).hex()
    return str(value)


def plans():
    moments = [0, 1, -1, 999_999, 1_000_000, -1_000_000, 1_500_000, -1_500_000, 100_000, 123_456, 2**31 * 1_000_000,
               (2**31 - 1) * 1_000_000, 2**31 * 1_000_000 + 250_000, -(2**31) * 1_000_000 - 1]
    # From 1600 on: before, version 1 goes through a calendar that changed.
    moments += [rng.randint(-11_676_096_000, 250_000_000_000) * 1_000_000 + rng.choice([0, 0, 500_000, rng.randrange(10**6)])
                for _ in range(40)]
    plain = {
        "bool": [True, False],
        "tinyint": ints(8, 10), "smallint": ints(16, 20) + [300], "int": ints(32, 30) + [300_000],
        "bigint": ints(64, 30) + [300_000_000_000, 2**32, -2**32],
        "real": [struct.unpack(">f", raw)[0] for raw in floats(">f", 4)],
        "double": [struct.unpack(">d", raw)[0] for raw in floats(">d", 8)],
        "decimal(9,2)": decimals(9), "decimal(18,0)": decimals(18), "decimal(18,6)": decimals(18),
        "decimal(19,4)": decimals(19), "decimal(38,10)": decimals(38), "decimal(38,0)": decimals(38),
        "varchar": texts(),
        "bytea": [bytearray(rng.randbytes(length)) for length in range(0, 20) for _ in range(2)],
        "date": [0, 1, -1, 16_758, -6983] + [rng.randint(-100_000, 100_000) for _ in range(20)],
        "timestamp": moments, "timestamptz": moments,
    }
    for kind, values in plain.items():
        yield [kind], [(value,) for value in values] + [(None,)]
    pick = lambda kind: rng.choice(plain[kind] + [None])
    for kinds in (["int", "varchar"], ["bigint", "date", "varchar"], ["varchar", "decimal(19,4)", "timestamp", "bool"],
                  ["smallint", "double", "bytea"]):
        yield kinds, [tuple(pick(kind) for kind in kinds) for _ in range(25)]


def main():
    spark = session(sys.argv[1])
    hive = Hive(spark)
    for kinds, rows in plans():
        for row, (spark_hash, spark_bucket) in zip(rows, spark_hashes(spark, kinds, rows), strict=True):
            old, new, old_bucket, new_bucket = hive.hashes(kinds, row)
            values = "|".join(written(kind, value) for kind, value in zip(kinds, row))
            numbers = [old, old_bucket, new, new_bucket, spark_hash, spark_bucket]
            print("|".join(kinds), values, *numbers, sep="\t")
    spark.stop()


main()
