//! `lakehead lifecycle apply` against a bucket that has rules of others.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::buckets::Bucket;
use super::lakehead::{command, project, text};

const PIPELINES: &str = r#"secret key = env("BUCKET_KEY")

connection drops files { path = "in" }
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
}
"#;

/// Two rules of others, one of them of the old form; with an argument, one more.
const OTHERS: &str = r#"
import sys, boto3
s3 = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{sys.argv[1]}", region_name="us-east-1",
                  aws_access_key_id="k", aws_secret_access_key="k")
rules = [
  {"ID": "theirs <&> \"first\"", "Status": "Enabled",
   "Filter": {"And": {"Prefix": "logs/", "Tags": [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}],
                      "ObjectSizeGreaterThan": 7}},
   "Transitions": [{"Days": 40, "StorageClass": "ONEZONE_IA"}, {"Days": 80, "StorageClass": "DEEP_ARCHIVE"}],
   "NoncurrentVersionTransitions": [{"NoncurrentDays": 9, "StorageClass": "GLACIER", "NewerNoncurrentVersions": 3}],
   "NoncurrentVersionExpiration": {"NoncurrentDays": 100}},
  {"ID": "lakehead:another:lake.orders:1", "Status": "Disabled", "Filter": {"Prefix": "tmp/"},
   "Expiration": {"ExpiredObjectDeleteMarker": True}},
]
rules += [{"ID": extra, "Status": "Enabled", "Filter": {"Prefix": "x/"}, "Expiration": {"Days": 3}} for extra in sys.argv[2:]]
s3.put_bucket_lifecycle_configuration(Bucket="lake", LifecycleConfiguration={"Rules": rules})
"#;

/// Prints each rule.
const SHOW: &str = r#"
import sys, json, boto3, botocore
s3 = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{sys.argv[1]}", region_name="us-east-1",
                  aws_access_key_id="k", aws_secret_access_key="k")
try:
    for rule in s3.get_bucket_lifecycle_configuration(Bucket="lake")["Rules"]:
        print(json.dumps(rule, sort_keys=True))
except botocore.exceptions.ClientError as error:
    print(error.response["Error"]["Code"])
"#;

fn python(script: &str, arguments: &[&str]) -> Vec<String> {
    let python = std::env::var_os("LAKEHEAD_READERS").unwrap();
    let output = Command::new(python).args(["-c", script]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn rules_are_put_beside_those_of_others_changed_and_taken_away_again() {
    let Some(bucket) = Bucket::start() else {
        println!("skipped: an S3 server is absent");
        return;
    };
    let port = bucket.port.to_string();
    let file = PIPELINES.replace("PORT", &port);
    let folder = project(&file);
    let lakehead = |arguments: &[&str]| {
        let output = command(folder.path()).args(arguments).env("BUCKET_KEY", "k").output().unwrap();
        assert!(output.status.success(), "{}\n{}", arguments.join(" "), text(&output.stderr));
        text(&output.stdout)
    };
    let rules = || python(SHOW, &[&port]);
    let said = lakehead(&["lifecycle", "apply", "orders", "--dry-run"]);
    assert!(said.contains("+ lakehead:orders:lake.orders:1  data files to STANDARD_IA after 30 days"), "{said}");
    assert_eq!(rules(), ["NoSuchLifecycleConfiguration"], "nothing is written by a look");

    python(OTHERS, &[&port]);
    let others = rules();
    assert_eq!(others.len(), 2);
    let said = lakehead(&["lifecycle", "apply", "orders"]);
    assert!(said.contains("2 rules of others stay") && said.contains("written, and read back"), "{said}");
    let all = rules();
    assert_eq!(all.len(), 6, "{all:?}");
    assert!(others.iter().all(|rule| all.contains(rule)), "{all:?}\n{others:?}");
    assert!(all.iter().any(|rule| rule.contains("lakehead-tier") && rule.contains("GLACIER_IR")), "{all:?}");
    lakehead(&["lifecycle", "apply", "orders"]);
    assert_eq!(rules(), all);

    // Later, and one table less: one rule is another, those of the table are taken away.
    let later =
        file.replace("after 30d", "after 40d").replace(", partition_by = [day], lifecycle = colder }\n}", " }\n}");
    std::fs::write(folder.path().join("p.lake"), &later).unwrap();
    let said = lakehead(&["lifecycle", "apply", "orders"]);
    assert!(said.contains("~ lakehead:orders:lake.orders:1  data files to STANDARD_IA after 40 days"), "{said}");
    assert!(said.contains("- lakehead:orders:plain.orders:2  is taken away"), "{said}");
    assert_eq!(rules().len(), 4);

    // Rules that are there as they should be are not written again.
    let kept = later.replace(
        "  transition to infrequent      after 40d\n  transition to archive_instant after 90d",
        "  vacuum after 14d",
    );
    std::fs::write(folder.path().join("p.lake"), kept).unwrap();
    lakehead(&["lifecycle", "apply", "orders"]);
    let again = lakehead(&["lifecycle", "apply", "orders", "--format", "json"]);
    assert!(again.contains("\"written\":false") && again.contains("\"rules\":3"), "{again}");
    assert!(lakehead(&["lifecycle", "apply", "orders"]).contains("nothing to change"));

    // No table is under a lifecycle any more: what others have stays, and at last there is nothing.
    std::fs::write(folder.path().join("p.lake"), file.replace(", lifecycle = colder", "")).unwrap();
    lakehead(&["lifecycle", "apply", "orders"]);
    assert_eq!(rules(), others);
    let emptied = "s3.delete_bucket_lifecycle(Bucket=\"lake\")\n";
    python(&format!("{}{emptied}", OTHERS.split("rules = [").next().unwrap()), &[&port]);
    std::fs::write(folder.path().join("p.lake"), &file).unwrap();
    lakehead(&["lifecycle", "apply", "orders"]);
    std::fs::write(folder.path().join("p.lake"), file.replace(", lifecycle = colder", "")).unwrap();
    lakehead(&["lifecycle", "apply", "orders"]);
    assert_eq!(rules(), ["NoSuchLifecycleConfiguration"]);
}

#[test]
fn rules_that_others_change_meanwhile_are_not_written_over() {
    let Some(bucket) = Bucket::start() else {
        println!("skipped: an S3 server is absent");
        return;
    };
    let port = bucket.port.to_string();
    let folder = project(&PIPELINES.replace("PORT", &port));
    python(OTHERS, &[&port]);
    let mut applying = command(folder.path())
        .args(["lifecycle", "apply", "orders"])
        .env("BUCKET_KEY", "k")
        .env("LAKEHEAD_FAILPOINTS", "lifecycle.apply=delay(6000)")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // What would change is said before it is written.
    let mut said = BufReader::new(applying.stdout.take().unwrap()).lines();
    assert!(said.next().unwrap().unwrap().contains("2 rules of others"));
    python(OTHERS, &[&port, "a third"]);
    let output = applying.wait_with_output().unwrap();
    let error = text(&output.stderr);
    assert!(!output.status.success() && error.contains("R0560"), "{error}");
    let rules = python(SHOW, &[&port]);
    assert!(rules.len() == 3 && rules.iter().all(|rule| !rule.contains("lakehead:orders")), "{rules:?}");

    let folder = project(&PIPELINES.replace("PORT", &port).replace("s3://lake/", "s3://nowhere/"));
    let output = command(folder.path()).args(["lifecycle", "apply", "orders"]).env("BUCKET_KEY", "k").output().unwrap();
    let error = text(&output.stderr);
    assert!(!output.status.success() && error.contains("R0562") && error.contains("make the bucket"), "{error}");
}
