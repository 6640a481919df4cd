//! Lifecycles through the binary: tags on what may move, rules for the bucket, and what is not carried out yet.

use std::path::Path;
use std::process::Command;

use super::buckets::Bucket;
use super::lakehead::{command, fail, project, run, succeed, text};
use super::stories::{live_files, live_rows};

const PIPELINES: &str = r#"secret key = env("BUCKET_KEY")

connection drops files {
  path = "s3://lake/in", endpoint = "http://127.0.0.1:PORT", region = "us-east-1"
  access_key_id = secret.key, secret_access_key = secret.key
}
connection lake delta {
  path = "s3://lake/tables", endpoint = "http://127.0.0.1:PORT", region = "us-east-1"
  access_key_id = secret.key, secret_access_key = secret.key
}
connection plain parquet {
  path = "s3://lake/plain", endpoint = "http://127.0.0.1:PORT", region = "us-east-1"
  access_key_id = secret.key, secret_access_key = secret.key
}

lifecycle colder {
  transition to infrequent      after 30d
  transition to archive_instant after 90d
}

pipeline orders {
  source rows = drops { path = "*.csv", columns = { id = bigint, day = date } }
  sink up = lake from rows { table = "orders", mode = upsert, key = [id], partition_by = [day], lifecycle = colder }
  sink all = plain from rows { table = "orders", mode = append, partition_by = [day], lifecycle = colder }
  sink free = lake from rows { table = "free", mode = append }
}
"#;

/// Prints each object with its tags; then sets the rules given in a file, and prints what the bucket has.
const LOOK: &str = r#"
import sys, json, boto3
s3 = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{sys.argv[1]}", region_name="us-east-1",
                  aws_access_key_id="k", aws_secret_access_key="k")
for page in s3.get_paginator("list_objects_v2").paginate(Bucket="lake"):
    for item in page.get("Contents", []):
        tags = s3.get_object_tagging(Bucket="lake", Key=item["Key"])["TagSet"]
        print("object", item["Key"], ",".join(f"{tag['Key']}={tag['Value']}" for tag in tags) or "-")
s3.put_bucket_lifecycle_configuration(Bucket="lake", LifecycleConfiguration=json.load(open(sys.argv[2])))
for rule in s3.get_bucket_lifecycle_configuration(Bucket="lake")["Rules"]:
    print("rule", rule["ID"], [step["StorageClass"] for step in rule.get("Transitions", [])])
"#;

#[test]
fn data_files_carry_the_tag_that_the_bucket_s_rules_ask_for_and_nothing_else_does() {
    let Some(bucket) = Bucket::start() else {
        println!("skipped: an S3 server is absent");
        return;
    };
    let folder = project(&PIPELINES.replace("PORT", &bucket.port.to_string()));
    let lakehead = |arguments: &[&str]| {
        let output = command(folder.path()).args(arguments).env("BUCKET_KEY", "k").output().unwrap();
        assert!(output.status.success(), "{}\n{}", arguments.join(" "), text(&output.stderr));
        text(&output.stdout)
    };
    // So many rounds that small files are merged, and vectors written.
    for round in 0..10 {
        bucket.put(&format!("in/{round}.csv"), &format!("id,day\n{round},2026-01-01\n7,2026-01-01\n"));
        lakehead(&["run", "orders"]);
    }
    let rules = folder.path().join("rules.json");
    std::fs::write(&rules, lakehead(&["lifecycle", "emit", "orders"])).unwrap();
    let python = std::env::var_os("LAKEHEAD_READERS").unwrap();
    let output = Command::new(python).args(["-c", LOOK, &bucket.port.to_string()]).arg(&rules).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    let objects: Vec<Vec<&str>> =
        said.lines().filter(|line| line.starts_with("object ")).map(|line| line.split(' ').collect()).collect();
    let (mut tagged, mut vectors) = (0, 0);
    for object in &objects {
        let (key, tags) = (object[1], object[2]);
        let is_data = key.ends_with(".parquet") && !key.contains("/_") && !key.contains("/free/");
        assert_eq!(tags, if is_data { "lakehead-tier=colder" } else { "-" }, "{key}");
        tagged += usize::from(is_data);
        vectors += usize::from(key.ends_with(".bin"));
    }
    assert!(tagged > 12 && vectors > 0 && objects.len() > 60, "{said}");
    for table in ["tables/orders", "plain/orders"] {
        assert!(objects.iter().any(|object| object[1].starts_with(table) && object[2] != "-"), "{table}\n{said}");
    }
    let moves = said.lines().filter(|line| line.ends_with("['STANDARD_IA', 'GLACIER_IR']")).count();
    assert_eq!(moves, 2, "{said}");
    let ids: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("rule ")?.split(' ').next()).collect();
    assert!(ids.contains(&"lakehead:orders:lake.orders:1") && ids.iter().all(|id| !id.contains("free")), "{ids:?}");
}

#[test]
fn what_nobody_carries_out_is_refused_by_a_run() {
    let file = r#"connection lake parquet { path = "lake" }

lifecycle short { transition to archive_instant after 90d; expire after 1y }

pipeline p {
  source a = generate { rows = 5, columns = { id = sequence(), at = timestamp() } }
  sink lake { table = "t", mode = append, partition_by = [day(at)], lifecycle = short }
}
"#
    .replace("after 90d; expire", "after 90d\n  expire");
    let folder = project(&file);
    succeed(folder.path(), &["check"]);
    let said = fail(folder.path(), &["run", "p"], 1);
    assert!(said.contains("R0971") && said.contains("of lifecycle short"), "{said}");
    let output = run(folder.path(), &["lifecycle", "emit", "p"]);
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains("error[R0552]"), "{said}");
}

const EXPIRING: &str = r#"connection drops files { path = "in" }
connection lake delta { path = "lake" }

lifecycle short {
  expire after 2y
  vacuum after 14d
}

pipeline p {
  source rows = drops { path = "*.csv", columns = { id = bigint, at = timestamp } }
  sink lake { table = "t", mode = upsert, key = [id], partition_by = [month(at)], lifecycle = short }
}
"#;

/// Rows of a table, by its log.
fn live(folder: &Path) -> (i64, usize) {
    let table = folder.join("lake/t");
    (live_rows(&table), live_files(&table).len())
}

#[test]
fn old_partitions_expire_by_a_run_that_may_die_over_it() {
    for (point, end) in [("delta.expire", "abort"), ("delta.expire", "error")] {
        let folder = project(EXPIRING);
        std::fs::create_dir(folder.path().join("in")).unwrap();
        let old = "1,2020-02-29 10:00:00\n2,2020-02-01 10:00:00\n3,2021-12-31 23:59:59\n";
        let rows = format!("id,at\n{old}4,2999-01-01 10:00:00\n5,\n");
        std::fs::write(folder.path().join("in/1.csv"), rows).unwrap();
        let dying = format!("{point}={end}");
        let died = command(folder.path()).args(["run", "p"]).env("LAKEHEAD_FAILPOINTS", &dying).output().unwrap();
        assert_eq!(died.status.success(), end == "error", "{dying}\n{}", text(&died.stderr));
        if end == "error" {
            // It is told, and looked at again when the run ends.
            assert!(text(&died.stderr).contains("could not be taken out"), "{}", text(&died.stderr));
            assert_eq!(live(folder.path()), (2, 2));
        } else {
            assert_eq!(live(folder.path()), (5, 4), "{dying}");
            let said = succeed(folder.path(), &["plan", "p"]);
            assert!(said.contains("expires now: 2 partitions, 2 files, 3 rows"), "{said}");
            assert!(said.contains("measured: 4 files"), "{said}");
            // What the lake still holds and what it does not are no differences, and are told.
            let said = succeed(folder.path(), &["verify", "p"]);
            assert!(said.contains("older than 730 days: 3 rows of the source, 3 of the lake"), "{said}");
        }
        // A key of an expired row comes again, and a row that has expired by the time that it comes.
        std::fs::write(folder.path().join("in/2.csv"), "id,at\n1,2999-01-01 10:00:00\n6,2019-01-01 10:00:00\n")
            .unwrap();
        succeed(folder.path(), &["run", "p"]);
        assert_eq!(live(folder.path()).0, 3, "{dying}");
        let said = succeed(folder.path(), &["plan", "p"]);
        assert!(said.contains("expires now: nothing"), "{said}");
        let (_, files) = live(folder.path());
        assert!(
            said.contains(&format!("measured: {files} files")),
            "what has expired lies in the folder still: {said}"
        );
        let said = succeed(folder.path(), &["verify", "p"]);
        assert!(!said.contains("DIFFERS"), "{said}");
        let said = succeed(folder.path(), &["verify", "p", "--format", "json"]);
        assert!(said.contains("\"lake_rows_expired\":0"), "{said}");
    }
}

/// A table that is only compacted does not say what its partitions were made from: what goes by age is refused, what does not is
/// done.
#[test]
fn what_is_only_compacted_is_vacuumed_and_expires_nothing() {
    let keeper = "\npipeline keep {\n  source t = lake { table = \"t\" }\n  sink lake { table = \"t\", mode = compact, lifecycle = short }\n}\n";
    let folder = project(&format!("{}{keeper}", EXPIRING.replace(", lifecycle = short", "")));
    std::fs::create_dir(folder.path().join("in")).unwrap();
    std::fs::write(folder.path().join("in/1.csv"), "id,at\n1,2020-02-29 10:00:00\n").unwrap();
    succeed(folder.path(), &["run", "p"]);
    let said = fail(folder.path(), &["run", "keep"], 1);
    assert!(said.contains("R0971") && said.contains("expire of lifecycle short"), "{said}");
    let file = std::fs::read_to_string(folder.path().join("p.lake")).unwrap();
    std::fs::write(folder.path().join("p.lake"), file.replace("  expire after 2y\n", "")).unwrap();
    succeed(folder.path(), &["run", "keep"]);
    assert_eq!(live(folder.path()), (1, 1));
    let log = folder.path().join("lake/t/_delta_log");
    let entries =
        std::fs::read_dir(log).unwrap().filter_map(|entry| std::fs::read_to_string(entry.unwrap().path()).ok());
    assert!(entries.into_iter().any(|entry| entry.contains("interval 14 days")));
}

const LOGS: &str = r#"secret key = env("BUCKET_KEY")

connection landing files { path = "landing" }
connection lake delta {
  path = "s3://lake/tables", endpoint = "http://127.0.0.1:PORT", region = "us-east-1"
  access_key_id = secret.key, secret_access_key = secret.key
}

lifecycle log_retention {
  transition to infrequent      after 30d
  transition to archive_instant after 90d
  transition to archive         after 1y { unreadable = allow }   # to be restored before it is read
  expire after 2y
}

pipeline log_compactor {
  trigger cron "*/5 * * * *" { timezone = "UTC", delay = 1m, catchup = all, overlap = skip }

  source small = landing {
    path     = "logs/%Y/%m/%d/%H%M/*.json"
    columns  = { ts = timestamptz, service = varchar, level = varchar, message = varchar }
    interval = run
  }

  sink lake {
    table        = "logs.compacted"
    mode         = overwrite
    overwrite_by = run_interval
    partition_by = [day(ts), hour(ts)]
    lifecycle    = log_retention
  }
}
"#;

/// The retention of `10_lifecycle.lake` over the sink of `05_log_compactor.lake`, as a Delta table: intervals of long ago are
/// written and expire, those of today stay.
#[test]
fn the_logs_of_the_language_s_compactor_expire_in_a_bucket() {
    let Some(bucket) = Bucket::start() else {
        println!("skipped: an S3 server is absent");
        return;
    };
    let folder = project(&LOGS.replace("PORT", &bucket.port.to_string()));
    let lakehead = |arguments: &[&str]| {
        let output =
            command(folder.path()).args(arguments).env("BUCKET_KEY", "k").env("LAKEHEAD_LOG", "info").output().unwrap();
        assert!(output.status.success(), "{}\n{}", arguments.join(" "), text(&output.stderr));
        format!("{}{}", text(&output.stdout), text(&output.stderr))
    };
    for (year, expired) in [("2999", false), ("2020", true)] {
        let landing = folder.path().join(format!("landing/logs/{year}/05/01/1000"));
        std::fs::create_dir_all(&landing).unwrap();
        let line =
            format!("{{\"ts\":\"{year}-05-01T10:00:10Z\",\"service\":\"api\",\"level\":\"info\",\"message\":\"m\"}}\n");
        std::fs::write(landing.join("1.json"), line).unwrap();
        let (from, to) = (format!("{year}-05-01T10:00:00Z"), format!("{year}-05-01T10:05:00Z"));
        let said = lakehead(&["backfill", "log_compactor", "--from", &from, "--to", &to]);
        assert_eq!(said.contains("old partitions have expired"), expired, "{said}");
        assert!(lakehead(&["plan", "log_compactor"]).contains("expires now: nothing"));
    }
    let rules = lakehead(&["lifecycle", "emit", "log_compactor"]);
    assert!(
        rules.contains("GLACIER_IR") && !rules.contains("\"Days\": 730"),
        "live files are not the bucket's to delete: {rules}"
    );
}

const PLAIN_LOGS: &str = r#"connection landing files { path = "landing" }
connection raw parquet { path = "raw" }

lifecycle log_retention { expire after 2y }

pipeline log_compactor {
  trigger cron "*/5 * * * *" { timezone = "UTC", delay = 1m, catchup = all, overlap = skip }

  source small = landing {
    path          = "logs/%Y/%m/%d/%H%M/*.json"
    columns       = { ts = timestamptz, service = varchar, level = varchar, message = varchar }
    interval      = run
    after_success = delete
    keep_inputs   = 1000d
  }

  sink raw {
    table        = "logs.compacted"
    mode         = overwrite
    overwrite_by = run_interval
    partition_by = [day(ts), hour(ts)]
    bucket_by    = [service]
    bucket_count = 1
    sort_by      = [service, ts]
    compression  = snappy
    lifecycle    = log_retention
  }
}
"#;

/// The same over a plain table: partitions leave the manifest and the catalog, files stay in the folder for a day.
#[test]
fn the_logs_of_the_language_s_compactor_expire_in_a_plain_table() {
    let folder = project(PLAIN_LOGS);
    for year in ["2020", "2999"] {
        let landing = folder.path().join(format!("landing/logs/{year}/05/01/1000"));
        std::fs::create_dir_all(&landing).unwrap();
        let line =
            format!("{{\"ts\":\"{year}-05-01T10:00:10Z\",\"service\":\"api\",\"level\":\"info\",\"message\":\"m\"}}\n");
        std::fs::write(landing.join("1.json"), line).unwrap();
        let (from, to) = (format!("{year}-05-01T10:00:00Z"), format!("{year}-05-01T10:05:00Z"));
        let arguments = ["backfill", "log_compactor", "--from", &from, "--to", &to, "-v"];
        if year == "2020" {
            // A process that dies over it leaves rows that the next one takes out.
            let died = command(folder.path())
                .args(arguments)
                .env("LAKEHEAD_FAILPOINTS", "parquet.expire=abort")
                .output()
                .unwrap();
            assert!(!died.status.success());
            let said = succeed(folder.path(), &["plan", "log_compactor"]);
            assert!(said.contains("expires now: 1 partitions, 1 files, 1 rows"), "{said}");
            succeed(folder.path(), &["catalog", "sync"]);
            continue;
        }
        let said = succeed(folder.path(), &arguments);
        assert!(said.contains("old partitions have expired"), "{said}");
        assert!(succeed(folder.path(), &["plan", "log_compactor"]).contains("expires now: nothing"));
    }
    let said = succeed(folder.path(), &["catalog", "sync", "--check"]);
    assert!(!said.contains("partition"), "{said}");
    let of = |year: &str| folder.path().join(format!("raw/logs/compacted/ts_day={year}-05-01/ts_hour=10"));
    let files = |year| std::fs::read_dir(of(year)).unwrap().count();
    assert_eq!((files("2020"), files("2999")), (1, 1), "files stay for a day");
    let views = succeed(folder.path(), &["status", "log_compactor"]);
    assert!(views.contains("1 file, ") && views.contains(" 1 rows"), "{views}");
}
