//! Lifecycles through the binary: tags on what may move, rules for the bucket, and what is not carried out yet.

use std::process::Command;

use super::buckets::Bucket;
use super::lakehead::{command, fail, project, run, succeed, text};

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
    let file = r#"connection lake delta { path = "lake" }

lifecycle short { transition to infrequent after 30d; expire after 1y }

pipeline p {
  source a = generate { rows = 5, columns = { id = sequence(), at = timestamp() } }
  sink lake { table = "t", mode = append, partition_by = [day(at)], lifecycle = short }
}
"#
    .replace("after 30d; expire", "after 30d\n  expire");
    let folder = project(&file);
    succeed(folder.path(), &["check"]);
    let said = fail(folder.path(), &["run", "p"], 1);
    assert!(said.contains("R0971") && said.contains("of lifecycle short"), "{said}");
    let output = run(folder.path(), &["lifecycle", "emit", "p"]);
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains("error[R0552]"), "{said}");
}
