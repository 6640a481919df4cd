"""Writes an ORC file in a zone: times, and the text of what a clock on the wall showed then."""

import sys

from pyspark.sql import SparkSession

folder, zone = sys.argv[1:]
spark = (
    SparkSession.builder.master("local[1]")
    .config("spark.sql.session.timeZone", zone)
    .config("spark.driver.extraJavaOptions", f"-Duser.timezone={zone}")
    .config("spark.ui.enabled", "false")
    .config("spark.sql.orc.compression.codec", "zlib")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")
micros = [
    -2208970800000000, -2000001, -1500000, -1000001, -999999, 0, 1, 1388534400123456, 1420070399999999, 1420070400000001,
    1435708800500000, 1446354000000000, 1446361200000000, 2147483648999999,
]
rows = spark.createDataFrame([(micro,) for micro in micros * 1000], "micro long").coalesce(1)
shown = "date_format({}, 'yyyy-MM-dd\\'T\\'HH:mm:ss.SSSSSS')"
rows.selectExpr(
    "timestamp_micros(micro) time",
    shown.format("timestamp_micros(micro)") + " shown",
    "cast(micro / 1000000 as decimal(38, 6)) amount",
    "map('a', micro, 'b', null) pairs",
    "array(named_struct('x', micro), null) things",
).write.mode("overwrite").orc(folder)
