"""Writes the golden tables anew: what Apache Spark with Delta Lake writes, with deletion vectors.

    tests/spark/install FOLDER
    FOLDER/bin/python connectors/delta/tests/golden/make.py

Beside each table stands what Spark reads in it, row by row, in the order of `id`: `name.rows`.
"""

import glob
import os
import shutil
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../../../../tests/spark"))

from session import start  # noqa: E402

COLUMNS = "id bigint, region string, body string, amount decimal(12, 2), at timestamp"
# Times before 1582 and behind 2262, nulls, and regions whose folders need escapes, which not every writer escapes alike.
ROWS = """
    select id,
      element_at(array('north', 'a=b/c', 'R&D 100%', null), cast(id % 4 as int) + 1) as region,
      if(id % 17 = 0, null, concat('body ', id)) as body,
      if(id % 13 = 0, null, cast(id * 1.25 - 100 as decimal(12, 2))) as amount,
      case when id % 19 = 0 then null
           when id % 23 = 0 then timestamp '9999-12-31 23:59:59.999999'
           when id % 29 = 0 then timestamp '0001-01-01 00:00:00'
           else timestamp_micros(1700000000000000 + id * 1000001) end as at
    from range({first}, {end}, 1, 2)
"""
SHOWN = """
    select concat_ws('|', id, coalesce(region, '~'), coalesce(body, '~'), coalesce(cast(amount as string), '~'),
      coalesce(cast(unix_micros(at) as string), '~')) from {table} order by id
"""


class Golden:
    """One table, while it is written."""

    def __init__(self, spark, name, partition="", properties=""):
        self.spark, self.name, self.path = spark, name, os.path.join(HERE, name)
        shutil.rmtree(self.path, ignore_errors=True)
        self.table = f"delta.`{self.path}`"
        self.sql(f"""create table {{table}} ({COLUMNS}) using delta {partition}
                     tblproperties ('delta.enableDeletionVectors' = 'true' {properties})""")

    def sql(self, text):
        return self.spark.sql(text.format(table=self.table)).collect()

    def insert(self, first, end):
        self.sql("insert into {table} " + ROWS.format(first=first, end=end))

    def finish(self):
        """Writes what Spark reads, and takes its checksums out: they are half of the bytes, and nobody else's."""
        with open(f"{self.path}.rows", "w", encoding="utf-8") as file:
            file.writelines(f"{row[0]}\n" for row in self.sql(SHOWN))
        for name in glob.glob(f"{self.path}/**/*.crc", recursive=True, include_hidden=True):
            os.remove(name)


def change(table):
    """Deletes, updates and merges, each by vectors."""
    table.sql("delete from {table} where id % 7 = 3")
    table.sql("update {table} set body = concat('new ', id), amount = amount + 1 where id % 11 = 2")
    table.sql("""merge into {table} t using (select id, concat('merged ', id) as body from range(0, 400, 10)) s
                 on t.id = s.id when matched and s.id % 20 = 0 then delete
                 when matched then update set body = s.body
                 when not matched then insert (id, body) values (s.id, s.body)""")
    table.sql("delete from {table} where id % 9 = 4")


def main():
    with tempfile.TemporaryDirectory() as folder:
        spark = start(folder)

        plain = Golden(spark, "plain")
        plain.insert(0, 300)
        change(plain)
        plain.finish()

        partitioned = Golden(spark, "partitioned", partition="partitioned by (region)")
        partitioned.insert(0, 300)
        change(partitioned)
        partitioned.sql("delete from {table} where region = 'north' and id < 100")
        partitioned.finish()

        # The entries before the checkpoint are gone, as after a month.
        checkpointed = Golden(spark, "checkpointed", properties=", 'delta.checkpointInterval' = '4'")
        checkpointed.insert(0, 200)
        change(checkpointed)
        checkpointed.insert(400, 460)
        checkpointed.sql("delete from {table} where id between 410 and 415")
        for version in range(4):
            os.remove(f"{checkpointed.path}/_delta_log/{version:020}.json")
        checkpointed.finish()

        optimized = Golden(spark, "optimized")
        optimized.insert(0, 200)
        change(optimized)
        optimized.sql("optimize {table}")
        optimized.sql("delete from {table} where id % 5 = 1")
        optimized.finish()

        # Checkpoints of the second form: a manifest with side files.
        second = Golden(spark, "v2_checkpoint",
                        properties=", 'delta.checkpointInterval' = '4', 'delta.checkpointPolicy' = 'v2'")
        second.insert(0, 200)
        change(second)
        second.sql("delete from {table} where id % 5 = 1")
        second.finish()

        spark.stop()


if __name__ == "__main__":
    main()
