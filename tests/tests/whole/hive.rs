//! Tables by their names in a metastore of Hive, as Spark reads them there.

use std::process::Command;

use super::lakehead::{fail, project, succeed, text};
use super::metastore::{Metastore, spark};

const READ: &str = "
import sys
from pyspark.sql import SparkSession
port, folder, queries = sys.argv[1], sys.argv[2], sys.argv[3:]
builder = SparkSession.builder.master('local[1]').enableHiveSupport()
settings = {
    'spark.hadoop.hive.metastore.uris': f'thrift://127.0.0.1:{port}',
    'spark.sql.warehouse.dir': folder, 'spark.local.dir': folder, 'spark.ui.enabled': 'false',
    'spark.sql.shuffle.partitions': '1', 'spark.driver.memory': '1g', 'spark.log.level': 'ERROR',
    'spark.driver.extraJavaOptions': f'-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dderby.system.home={folder}',
    'spark.sql.session.timeZone': 'UTC',
    'spark.sql.extensions': 'io.delta.sql.DeltaSparkSessionExtension',
    'spark.sql.catalog.spark_catalog': 'org.apache.spark.sql.delta.catalog.DeltaCatalog',
}
for name, value in settings.items():
    builder = builder.config(name, value)
session = builder.getOrCreate()
for query in queries:
    print('ROWS', [tuple(str(value) for value in row) for row in session.sql(query).collect()])
";

const PIPELINES: &str = "
catalog hms hive { uri = \"thrift://127.0.0.1:PORT\", timeout = 20s }
connection drops files { path = \"in\" }
connection lake delta { path = \"lake\", catalog = hms }
connection raw parquet { path = \"raw\", catalog = hms }
connection cold orc { path = \"cold\", catalog = hms }

pipeline orders {
  source rows = drops { path = \"*.csv\", columns = { id = bigint, day = varchar, note = varchar } }
  sink newest = lake from rows { table = \"shop.newest\", mode = upsert, key = [id] }
  ## Orders as they come.
  sink plain = raw from rows { table = \"shop.orders\", partition_by = [day] }
  sink archive = cold from rows { table = \"shop.archive\", partition_by = [day], bucket_by = [id], bucket_count = 2 }
  sink hashed = raw from rows { table = \"shop.hashed\", bucket_by = [id], bucket_count = 2, bucket_hash = spark }
}
";

#[test]
fn spark_reads_tables_by_name_from_a_metastore() {
    let Some(metastore) = Metastore::start() else { return };
    let folder = project(&PIPELINES.replace("PORT", &metastore.port.to_string()));
    let put = |name: &str, rows: &str| {
        std::fs::create_dir_all(folder.path().join("in")).unwrap();
        std::fs::write(folder.path().join("in").join(name), format!("id,day,note\n{rows}")).unwrap();
    };
    put("1.csv", "1,2026-11-01,a\n2,2026-11-02,b\n");
    let said = succeed(folder.path(), &["run", "orders"]);
    assert!(said.contains("catalog hms: shop.orders: create table"), "{said}");
    assert!(said.contains("add 2 partitions"), "{said}");
    assert!(!said.contains("does not list"), "{said}");
    let said = succeed(folder.path(), &["catalog", "sync", "--check"]);
    assert_eq!(said.matches("same").count(), 4, "{said}");
    put("2.csv", "3,2026-11-03,c/d\n");
    let said = succeed(folder.path(), &["run", "orders"]);
    assert!(said.contains("catalog hms: shop.orders: add 1 partition"), "{said}");
    let queries = [
        "select id, note, day from shop.orders order by id",
        "select id, note, day from shop.archive order by id",
        "select id, note from shop.newest order by id",
        "select id, note from shop.hashed where id = 2",
        "describe table extended shop.orders",
        "alter table shop.orders drop partition (day = '2026-11-01')",
    ];
    let output = Command::new(spark().unwrap())
        .args(["-c", READ, &metastore.port.to_string(), metastore.folder.path().to_str().unwrap()])
        .args(queries)
        .current_dir(metastore.folder.path())
        .output()
        .unwrap();
    let out = text(&output.stdout);
    let rows: Vec<&str> = out.lines().filter_map(|line| line.strip_prefix("ROWS ")).collect();
    assert_eq!(rows.len(), queries.len(), "{out}{}", text(&output.stderr));
    let all = "[('1', 'a', '2026-11-01'), ('2', 'b', '2026-11-02'), ('3', 'c/d', '2026-11-03')]";
    assert_eq!(rows[0], all);
    assert_eq!(rows[1], all);
    assert_eq!(rows[2], "[('1', 'a'), ('2', 'b'), ('3', 'c/d')]");
    assert_eq!(rows[3], "[('2', 'b')]");
    assert!(rows[4].contains("Orders as they come."), "{}", rows[4]);
    // What somebody took out is brought back.
    let said = fail(folder.path(), &["catalog", "sync", "--check"], 4);
    assert!(said.contains("add 1 partition"), "{said}");
    assert!(succeed(folder.path(), &["catalog", "sync"]).contains("mended"));
    assert_eq!(succeed(folder.path(), &["catalog", "sync", "--check"]).matches("same").count(), 4);
}
