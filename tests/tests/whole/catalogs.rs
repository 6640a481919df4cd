//! Tables in catalogs: the one beside the ledger, and Glue as an emulator has it.

use std::process::Command;

use serde_json::Value;

use super::buckets::{Bucket, free_port};
use super::lakehead::{command, fail, project, succeed, text};

const ROWS: &str = "
connection drops files { path = \"in\" }
connection lake CONNECTOR { path = \"lake\"CATALOG }

pipeline orders {
  source rows = drops { path = \"*.csv\", columns = { id = bigint, day = varchar, note = varchar } }
  ## Orders as they come.
  sink lake { table = \"shop.orders\"SETTINGS }
}
";

fn orders(connector: &str, catalog: &str, settings: &str) -> tempfile::TempDir {
    let text = ROWS.replace("CONNECTOR", connector).replace("CATALOG", catalog).replace("SETTINGS", settings);
    let folder = project(&text);
    std::fs::create_dir(folder.path().join("in")).unwrap();
    put(&folder, "1.csv", "1,2026-11-01,a\n2,2026-11-02,b\n");
    folder
}

fn put(folder: &tempfile::TempDir, name: &str, rows: &str) {
    std::fs::write(folder.path().join("in").join(name), format!("id,day,note\n{rows}")).unwrap();
}

fn glue(port: u16) -> String {
    format!(
        "\nsecret glue_key = file(\"glue.key\")\ncatalog cloud glue {{\n  endpoint = \"http://127.0.0.1:{port}\", region = \"us-east-1\"\n  \
         access_key_id = secret.glue_key, secret_access_key = secret.glue_key, timeout = 10s\n}}\n"
    )
}

fn add_text(folder: &tempfile::TempDir, more: &str) {
    let key = folder.path().join("glue.key");
    std::fs::write(&key, "hunter2\n").unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let path = folder.path().join("p.lake");
    let text = std::fs::read_to_string(&path).unwrap() + more;
    std::fs::write(path, text).unwrap();
}

fn tables(folder: &tempfile::TempDir) -> Vec<Value> {
    serde_json::from_str(&succeed(folder.path(), &["tables", "--format", "json"])).unwrap()
}

fn readers() -> Option<std::ffi::OsString> {
    let found = std::env::var_os("LAKEHEAD_READERS");
    if found.is_none() {
        println!("skipped: no readers of other houses are installed");
    }
    found
}

fn python(script: &str, arguments: &[&str]) -> String {
    let output = Command::new(std::env::var_os("LAKEHEAD_READERS").unwrap())
        .args(["-c", script])
        .args(arguments)
        .env("AWS_ACCESS_KEY_ID", "k")
        .env("AWS_SECRET_ACCESS_KEY", "k")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn tables_are_listed_beside_the_ledger_where_nothing_is_said() {
    let folder = orders("parquet", "", ", partition_by = [day]");
    assert!(succeed(folder.path(), &["tables"]).contains("no table is listed yet"));
    assert!(!succeed(folder.path(), &["run", "orders"]).contains("catalog"));
    let found = tables(&folder);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["name"], "shop.orders");
    assert_eq!(found[0]["partitions"], 2);
    assert_eq!(found[0]["comment"], "Orders as they come.");
    assert_eq!(found[0]["columns"][0]["type"], "bigint");
    put(&folder, "2.csv", "3,2026-11-02,c\n4,2026-11-03,d\n");
    succeed(folder.path(), &["run", "orders"]);
    assert_eq!(tables(&folder)[0]["partitions"], 3);
    // The file can be lost: `sync` or the next run lists everything anew.
    std::fs::remove_file(folder.path().join(".lakehead/catalog.db")).unwrap();
    assert!(fail(folder.path(), &["catalog", "sync", "--check"], 4).contains("differs"));
    assert!(succeed(folder.path(), &["catalog", "sync"]).contains("mended"));
    assert!(succeed(folder.path(), &["catalog", "sync", "--check"]).contains("same"));
    assert_eq!(tables(&folder)[0]["partitions"], 3);
}

#[test]
fn dead_letters_are_listed_and_a_table_may_be_in_no_catalog() {
    let folder = orders("delta", "", ", catalog = []");
    let path = folder.path().join("p.lake");
    let text = std::fs::read_to_string(&path).unwrap();
    let misfits = text.replace("note = varchar } }", "note = varchar }, on_misfit = dead_letter }");
    let letters = misfits.replace("\n}\n", "\n  dead_letter lake { table = \"ops.letters\" }\n}\n");
    std::fs::write(path, letters).unwrap();
    put(&folder, "2.csv", "x,2026-11-02,c\n");
    succeed(folder.path(), &["run", "orders"]);
    let found = tables(&folder);
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0]["name"], &found[0]["owner"]), (&Value::from("ops.letters"), &Value::from("")));
}

#[test]
fn a_newcomer_reads_tables_by_name() {
    if readers().is_none() {
        return;
    }
    let folder = orders("parquet", "", ", partition_by = [day]");
    succeed(folder.path(), &["run", "orders"]);
    let views = succeed(folder.path(), &["tables", "--duckdb"]);
    let script = "
import sys, duckdb
connection = duckdb.connect()
connection.execute(sys.argv[1])
print(connection.execute('select id, note, day::varchar from shop.orders order by id').fetchall())
";
    assert_eq!(python(script, &[&views]).trim(), "[(1, 'a', '2026-11-01'), (2, 'b', '2026-11-02')]");
}

#[test]
fn comments_of_the_source_reach_the_catalog() {
    let server = super::server::Server::shared();
    let sql = |database: &str, statement: &str| {
        let output = Command::new("psql")
            .args(["-qAt", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres", "-d", database])
            .args(["-p", &server.port().to_string(), "-c", statement])
            .output()
            .unwrap();
        assert!(output.status.success(), "{statement}: {}", text(&output.stderr));
    };
    sql("postgres", "create database commented");
    sql("commented", "create table orders (id bigint primary key, note text, price int)");
    sql("commented", "insert into orders values (1, 'a', 2)");
    sql("commented", "comment on column orders.id is 'what the shop \"counts\" by'");
    sql("commented", "comment on column orders.price is 'in cents'");
    let folder = project(&format!(
        "
connection shop postgres {{
  host = \"127.0.0.1\", port = {}, database = \"commented\", user = \"postgres\", tls = disabled
}}
connection lake delta {{ path = \"lake\" }}
pipeline orders {{
  source rows = shop {{ capture = snapshot, tables = [\"public.orders\"] }}
  transform {{ derive {{ cast(price as double) / 100 as price, upper(note) as loud }} }}
  sink lake {{ table = \"orders\" }}
}}
",
        server.port()
    ));
    succeed(folder.path(), &["lock"]);
    let lock = std::fs::read_to_string(folder.path().join("lakehead.lock")).unwrap();
    assert!(lock.contains("[shop.\"public.orders\".comments]"), "{lock}");
    assert!(succeed(folder.path(), &["lock"]).contains("same"));
    succeed(folder.path(), &["run", "orders"]);
    let columns = tables(&folder)[0]["columns"].as_array().unwrap().clone();
    let comments: Vec<_> =
        columns.iter().map(|column| (column["name"].as_str().unwrap(), &column["comment"])).collect();
    let id = Value::from("what the shop \"counts\" by");
    assert_eq!(comments[..3], [("id", &id), ("note", &Value::Null), ("price", &Value::Null)]);
}

#[test]
fn what_a_catalog_refuses_is_refused_by_check() {
    let check = |catalog: &str, more: &str, settings: &str| {
        let folder = orders("delta", catalog, settings);
        add_text(&folder, more);
        fail(folder.path(), &["check"], 1)
    };
    let said = check(", catalog = cluod", &glue(1), "");
    assert!(said.contains("E0221") && said.contains("did you mean `cloud`?"), "{said}");
    let said = check("", "\ncatalog other gleu\n", "");
    assert!(said.contains("E0220") && said.contains("did you mean `glue`?"), "{said}");
    let said = check("", "\ncatalog other rest { uri = \"x\" }\n", "");
    assert!(said.contains("E0220") && said.contains("Iceberg"), "{said}");
    let said = check("", "\ncatalog other glue { regoin = \"x\" }\n", "");
    assert!(said.contains("E0208") && said.contains("did you mean `region`?"), "{said}");
    let said = check(", catalog = cloud, prefix = \"Dev-\"", &glue(1), "");
    assert!(said.contains("E0222") && said.contains("a table that it holds: dev_shop.orders"), "{said}");
    // Two tables of one name would take the entry from one another.
    let folder = orders("delta", ", catalog = cloud", "");
    add_text(&folder, &glue(1));
    add_text(&folder, "connection raw parquet { path = \"raw\", catalog = cloud }\n");
    let path = folder.path().join("p.lake");
    let text = std::fs::read_to_string(&path).unwrap();
    let two = "  sink raw from rows { table = \"shop.orders\" }\n  ## Orders as they come.\n  sink lake from rows";
    std::fs::write(path, text.replace("  ## Orders as they come.\n  sink lake", two)).unwrap();
    assert!(fail(folder.path(), &["check"], 1).contains("E0224"));
    // A sink names its own.
    let folder = orders("delta", ", catalog = cluod", ", catalog = [cloud, local]");
    add_text(&folder, &glue(1));
    add_text(&folder, "\ncatalog local sqlite\n");
    assert!(fail(folder.path(), &["check"], 1).matches("E0221").count() == 1);
}

#[test]
fn a_catalog_that_does_not_answer_costs_no_row_and_is_tried_again() {
    if readers().is_none() {
        return;
    }
    let port = free_port();
    let folder = orders("parquet", ", catalog = [cloud, local]", ", partition_by = [day]");
    add_text(&folder, &(glue(port) + "\ncatalog local sqlite\n"));
    let said = succeed(folder.path(), &["run", "orders"]);
    assert!(said.contains("2 rows read, 2 written"), "{said}");
    assert!(said.contains("warning: catalog cloud does not list shop.orders yet: R0623"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    assert!(succeed(folder.path(), &["status"]).contains("catalog cloud does not list shop.orders since"));
    assert_eq!(tables(&folder).len(), 1, "the other catalog lists it all the same");
    let plan = succeed(folder.path(), &["plan"]);
    assert!(plan.contains("catalog: glue table shop.orders cannot be seen") && !plan.contains("hunter2"), "{plan}");
    let bucket = Bucket::start_at(port).unwrap();
    assert!(succeed(folder.path(), &["plan"]).contains("catalog: create glue table shop.orders"));
    // A run without a new row makes up for it.
    let said = succeed(folder.path(), &["run", "orders"]);
    assert!(said.contains("catalog cloud: shop.orders: create table; add 2 partitions"), "{said}");
    assert!(!succeed(folder.path(), &["status"]).contains("does not list"));
    // Nothing is asked where nothing changed: nobody would answer.
    drop(bucket);
    put(&folder, "2.csv", "3,2026-11-02,c\n");
    let said = succeed(folder.path(), &["run", "orders"]);
    assert!(said.contains("1 rows read, 1 written") && !said.contains("catalog"), "{said}");
}

const LOOK: &str = "
import sys, json, boto3
glue = boto3.client('glue', endpoint_url=f'http://127.0.0.1:{sys.argv[1]}', region_name='us-east-1')
table = glue.get_table(DatabaseName='shop', Name='orders')['Table']
found = glue.get_partitions(DatabaseName='shop', TableName='orders')['Partitions']
table['partitions'] = sorted([p['Values'], p['StorageDescriptor']['Location']] for p in found)
print(json.dumps(table, default=str))
";

fn look(port: u16) -> Value {
    serde_json::from_str(&python(LOOK, &[&port.to_string()])).unwrap()
}

#[test]
fn glue_lists_parquet_and_orc_with_partitions_and_buckets_within_one_commit() {
    if readers().is_none() {
        return;
    }
    for (connector, word) in [("parquet", "Parquet"), ("orc", "Orc")] {
        let bucket = Bucket::start().unwrap();
        let settings = ", partition_by = [day], bucket_by = [id], bucket_count = 2, sort_by = [id]";
        let folder = orders(connector, ", catalog = cloud", settings);
        add_text(&folder, &glue(bucket.port));
        succeed(folder.path(), &["run", "orders"]);
        let table = look(bucket.port);
        let storage = &table["StorageDescriptor"];
        assert_eq!(table["TableType"], "EXTERNAL_TABLE");
        assert_eq!(table["Description"], "Orders as they come.");
        assert_eq!(table["PartitionKeys"][0]["Name"], "day");
        assert_eq!(table["Parameters"]["bucketing_version"], "2");
        assert_eq!(table["Parameters"]["classification"], connector);
        assert_eq!(storage["Columns"][0]["Type"], "bigint");
        assert_eq!(storage["Columns"].as_array().unwrap().len(), 2);
        assert_eq!(storage["BucketColumns"][0], "id");
        assert_eq!(storage["NumberOfBuckets"], 2);
        assert_eq!(storage["SortColumns"][0]["Column"], "id");
        assert!(storage["InputFormat"].as_str().unwrap().contains(word), "{storage}");
        let location = storage["Location"].as_str().unwrap().to_owned();
        assert!(location.starts_with("file:///") && location.ends_with("/lake/shop/orders"), "{location}");
        assert_eq!(table["partitions"].as_array().unwrap().len(), 2);
        assert_eq!(table["partitions"][0][1], format!("{location}/day=2026-11-01"));
        put(&folder, "2.csv", "3,2026-11-03,c\n");
        succeed(folder.path(), &["run", "orders"]);
        assert_eq!(look(bucket.port)["partitions"].as_array().unwrap().len(), 3);
    }
}

const MEDDLE: &str = "
import sys, boto3
glue = boto3.client('glue', endpoint_url=f'http://127.0.0.1:{sys.argv[1]}', region_name='us-east-1')
table = glue.get_table(DatabaseName='shop', Name='orders')['Table']
keep = ['Name', 'Description', 'PartitionKeys', 'TableType', 'Parameters', 'StorageDescriptor']
table = {name: table[name] for name in keep if name in table}
table['StorageDescriptor']['Columns'] = [{'Name': 'id', 'Type': 'string', 'Comment': 'by hand'}]
table['Parameters']['theirs'] = 'stays'
glue.update_table(DatabaseName='shop', TableInput=table)
glue.delete_partition(DatabaseName='shop', TableName='orders', PartitionValues=['2026-11-01'])
";

#[test]
fn what_somebody_changed_in_glue_is_shown_and_mended() {
    if readers().is_none() {
        return;
    }
    let bucket = Bucket::start().unwrap();
    let folder = orders("parquet", ", catalog = cloud", ", partition_by = [day]");
    add_text(&folder, &glue(bucket.port));
    succeed(folder.path(), &["run", "orders"]);
    assert!(succeed(folder.path(), &["catalog", "sync", "--check"]).contains("same"));
    python(MEDDLE, &[&bucket.port.to_string()]);
    let said = fail(folder.path(), &["catalog", "sync", "orders", "--check"], 4);
    assert!(said.contains("columns: id string (by hand) -> id bigint (by hand), note string"), "{said}");
    assert!(said.contains("add 1 partition"), "{said}");
    assert!(succeed(folder.path(), &["catalog", "sync"]).contains("mended"));
    assert!(succeed(folder.path(), &["catalog", "sync", "--check"]).contains("same"));
    let table = look(bucket.port);
    assert_eq!(table["StorageDescriptor"]["Columns"][0]["Type"], "bigint");
    assert_eq!(table["StorageDescriptor"]["Columns"][0]["Comment"], "by hand");
    assert_eq!(table["Parameters"]["theirs"], "stays");
    assert_eq!(table["partitions"].as_array().unwrap().len(), 2);
    // Another place under the same name is somebody else's.
    let other = orders("parquet", ", catalog = cloud", "");
    add_text(&other, &glue(bucket.port));
    let path = other.path().join("p.lake");
    let text = std::fs::read_to_string(&path).unwrap().replace("pipeline orders", "pipeline others");
    std::fs::write(path, text).unwrap();
    let said = succeed(other.path(), &["run", "others"]);
    assert!(said.contains("R0624"), "{said}");
}

#[test]
fn glue_lists_delta_tables_as_athena_reads_them() {
    if readers().is_none() {
        return;
    }
    let bucket = Bucket::start().unwrap();
    let folder = orders("delta", ", catalog = cloud", ", partition_by = [day], mode = upsert, key = [id]");
    add_text(&folder, &glue(bucket.port));
    succeed(folder.path(), &["run", "orders"]);
    let table = look(bucket.port);
    assert_eq!(table["PartitionKeys"], Value::Array(Vec::new()), "said, and empty");
    assert_eq!(table["Parameters"]["spark.sql.sources.provider"], "delta");
    assert_eq!(table["Parameters"]["table_type"], "delta");
    assert_eq!(table["Parameters"]["EXTERNAL"], "TRUE");
    assert_eq!(table["StorageDescriptor"]["Columns"].as_array().unwrap().len(), 3);
    assert_eq!(table["partitions"], Value::Array(Vec::new()));
    let output = command(folder.path()).args(["catalog", "sync", "--check", "--format", "json"]).output().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()[0]["state"], "same");
}

#[test]
fn tables_of_others_are_registered_and_their_columns_told() {
    if readers().is_none() {
        return;
    }
    let folder = project("");
    let script = "
import sys, polars
frame = polars.DataFrame({'id': [1, 2, 3], 'note': ['a', None, 'c'], 'day': ['x', 'x', 'y']})
frame.write_delta(sys.argv[1] + '/theirs.delta')
frame.write_parquet(sys.argv[1] + '/files', partition_by=['day'])
";
    python(script, &[folder.path().to_str().unwrap()]);
    let said = succeed(folder.path(), &["register", "theirs.delta", "--name", "shop.theirs"]);
    assert!(said.contains("sqlite: shop.theirs: create table   3 columns, delta"), "{said}");
    let said = succeed(folder.path(), &["register", "files"]);
    assert!(said.contains("sqlite: files: create table"), "{said}");
    assert!(succeed(folder.path(), &["register", "files/"]).contains("sqlite: files: same"));
    let found = tables(&folder);
    assert_eq!((found.len(), &found[0]["partitions"]), (2, &Value::from(2)));
    assert_eq!(found[0]["partition_by"][0], "day");
    let views = succeed(folder.path(), &["tables", "--duckdb"]).replace("install delta; load delta;", "");
    let views: Vec<&str> = views.lines().filter(|line| !line.contains("delta_scan")).collect();
    let script = "
import sys, duckdb
connection = duckdb.connect()
connection.execute(sys.argv[1])
print(connection.execute('select id, day from files order by id').fetchall())
";
    assert_eq!(python(script, &[&views.join("\n")]).trim(), "[(1, 'x'), (2, 'x'), (3, 'y')]");
    assert!(fail(folder.path(), &["register", "nowhere"], 1).contains("R0628"));
    assert!(fail(folder.path(), &["register", "files", "--catalog", "cloud"], 1).contains("catalogs are: sqlite"));
    add_text(&folder, &glue(1));
    let said = fail(folder.path(), &["register", "theirs.delta", "--catalog", "cloud", "--name", "Shop.x-y"], 1);
    assert!(said.contains("R0629") && said.contains("--name shop.x_y"), "{said}");
    assert!(succeed(folder.path(), &["infer", "theirs.delta"]).contains("  note = varchar,\n"));
    std::fs::write(folder.path().join("1.csv"), "id,price,full name\n1,2.50,a\n2,3.25,\n").unwrap();
    let said = succeed(folder.path(), &["infer", "*.csv"]);
    assert!(said.contains("# from 2 rows looked at"), "{said}");
    assert!(said.contains("\"full name\" = varchar,") && said.contains("# 1 of 2 rows"), "{said}");
    assert!(said.contains("price       = decimal("), "{said}");
    assert_eq!(succeed(folder.path(), &["infer", "1.csv"]), said);
}
