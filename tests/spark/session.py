"""Spark as a process that answers: each line in is a JSON text of SQL, each line out is what it came to.

Out: {"rows": [[…], …]}, every value a string or null, or {"error": "…"}. The end of the input ends the process.
"""

import json
import os
import sys
import tempfile

from pyspark.sql import SparkSession

SETTINGS = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    # A test's tables are small: one task each, and a machine that starts fast.
    "spark.sql.shuffle.partitions": "1",
    "spark.default.parallelism": "1",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "1",
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.driver.memory": "1g",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.ui.enabled": "false",
    "spark.log.level": "ERROR",
    "spark.sql.session.timeZone": "UTC",
    # Tests vacuum what was written a moment ago.
    "spark.databricks.delta.retentionDurationCheck.enabled": "false",
}


def start(folder):
    """Returns a session whose own files lie in `folder`."""
    builder = SparkSession.builder.master("local[1]").appName("lakehead")
    for name, value in SETTINGS.items():
        builder = builder.config(name, value)
    builder = builder.config("spark.sql.warehouse.dir", os.path.join(folder, "warehouse"))
    return builder.config("spark.local.dir", folder).getOrCreate()


def answer(spark, sql):
    rows = spark.sql(sql).collect()
    return {"rows": [[None if value is None else str(value) for value in row] for row in rows]}


def main():
    # What Java writes to the standard output is no answer.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory() as folder:
        spark = start(folder)
        for line in sys.stdin:
            try:
                said = answer(spark, json.loads(line))
            except Exception as error:  # noqa: BLE001 - whatever Spark says is the answer
                said = {"error": f"{type(error).__name__}: {error}"}
            answers.write(json.dumps(said) + "\n")
            answers.flush()
        spark.stop()


if __name__ == "__main__":
    main()
