//! Files of old partitions in a colder place: another class of the bucket, the cold root of a local lake.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::buckets::Bucket;
use super::lakehead::{command, project, succeed, text};

const LOCAL: &str = r#"connection drops files { path = "in" }
connection lake KIND { path = "lake", cold = "cold" }

lifecycle colder {
  transition to infrequent      after 30d
  transition to archive_instant after 90d
}

pipeline p {
  source rows = drops { path = "*.csv", columns = { id = bigint, at = timestamp } }
  sink lake { table = "shop.t", MODE, partition_by = [day(at)], lifecycle = colder }
}
"#;

fn drop_rows(folder: &Path, name: &str, rows: &str) {
    std::fs::create_dir_all(folder.join("in")).unwrap();
    std::fs::write(folder.join(format!("in/{name}.csv")), format!("id,at\n{rows}")).unwrap();
}

/// Data files of a day, and whether each is a link.
fn files(table: &Path, day: &str) -> Vec<(PathBuf, bool)> {
    let found = std::fs::read_dir(table.join(format!("at_day={day}"))).into_iter().flatten();
    found.map(|entry| entry.unwrap().path()).map(|path| (path.clone(), path.is_symlink())).collect()
}

/// Counts rows as readers of others see them, by the log where there is one and by the folder.
const READ: &str = r#"
import sys, os, duckdb, deltalake, pyarrow.dataset as d
path = sys.argv[1]
if os.path.exists(path + "/_delta_log"):
    print(duckdb.sql(f"select count(*) from delta_scan('{path}')").fetchone()[0])
    print(len(deltalake.QueryBuilder().register("t", deltalake.DeltaTable(path)).execute("select id from t").read_all()))
else:
    print(duckdb.sql(f"select count(*) from read_parquet('{path}/**/[!_]*.parquet')").fetchone()[0])
    print(d.dataset(path, format="parquet", partitioning="hive", ignore_prefixes=["_", "."]).count_rows())
"#;

fn read(table: &Path) -> Option<Vec<i64>> {
    let python = std::env::var_os("LAKEHEAD_READERS")?;
    let output = Command::new(python).args(["-c", READ]).arg(table).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    Some(text(&output.stdout).split_whitespace().map(|word| word.parse().unwrap()).collect())
}

#[test]
fn old_partitions_of_a_local_lake_lie_in_the_cold_root_and_every_reader_follows() {
    for (kind, mode) in
        [("delta", "mode = upsert, key = [id]"), ("parquet", "mode = overwrite, overwrite_by = [at_day]")]
    {
        let folder = project(&LOCAL.replace("KIND", kind).replace("MODE", mode));
        let table = folder.path().join("lake/shop/t");
        drop_rows(folder.path(), "1", "1,2020-01-01 10:00:00\n2,2020-01-02 10:00:00\n3,2999-01-01 10:00:00\n");
        for (dying, linked) in [("mover.file=abort", 0), ("mover.file=1*abort", 0), ("", 2)] {
            let run = command(folder.path()).args(["run", "p"]).env("LAKEHEAD_FAILPOINTS", dying).output().unwrap();
            assert_eq!(run.status.success(), dying.is_empty(), "{kind} {dying}\n{}", text(&run.stderr));
            let days = ["2020-01-01", "2020-01-02"].iter().flat_map(|day| files(&table, day));
            assert_eq!(days.filter(|(_, is_link)| *is_link).count(), linked, "{kind} {dying}");
            assert!(read(&table).is_none_or(|rows| rows == [3, 3]), "{kind} {dying}");
        }
        assert!(files(&table, "2999-01-01").iter().all(|(_, is_link)| !is_link), "young partitions stay");
        let cold = std::fs::canonicalize(folder.path()).unwrap().join("cold/shop/t/at_day=2020-01-01");
        let target = std::fs::read_link(&files(&table, "2020-01-01")[0].0).unwrap();
        assert_eq!(std::fs::canonicalize(target.parent().unwrap()).unwrap(), cold);
        // Rounds go on over what is cold: a row of an old day changes, and others come.
        drop_rows(folder.path(), "2", "1,2020-01-01 11:00:00\n4,2020-01-03 10:00:00\n");
        succeed(folder.path(), &["run", "p"]);
        assert!(read(&table).is_none_or(|rows| rows == [4, 4]), "{kind}");
        let newest = files(&table, "2020-01-03");
        assert!(newest.len() == 1 && newest[0].1, "{newest:?}");
        let said = succeed(folder.path(), &["run", "p", "-v"]);
        assert!(!said.contains("moved to a colder place"), "nothing moves twice: {said}");
        // A pipeline that only compacts tells the age by the table's own partitions.
        let written = std::fs::read_to_string(folder.path().join("p.lake")).unwrap();
        drop_rows(folder.path(), "3", "5,2020-01-04 10:00:00\n6,2999-01-02 10:00:00\n");
        std::fs::write(folder.path().join("p.lake"), written.replace(", lifecycle = colder", "")).unwrap();
        succeed(folder.path(), &["run", "p"]);
        assert!(files(&table, "2020-01-04").iter().all(|(_, is_link)| !is_link), "{kind}");
        let (head, _) = written.split_once("pipeline p").unwrap();
        let upkeep = "pipeline q {\n  source rows = lake { table = \"shop.t\" }\n  sink lake { table = \"shop.t\", mode = \
                      compact, lifecycle = colder }\n}\n";
        std::fs::write(folder.path().join("p.lake"), format!("{head}{upkeep}")).unwrap();
        succeed(folder.path(), &["lock"]);
        let said = succeed(folder.path(), &["plan", "q"]);
        assert!(said.contains("archive_instant after 90 days: "), "{kind} {said}");
        succeed(folder.path(), &["run", "q"]);
        for (day, is_cold) in [("2020-01-01", true), ("2020-01-04", true), ("2999-01-02", false)] {
            let found = files(&table, day);
            assert!(
                !found.is_empty() && found.iter().all(|(_, is_link)| *is_link == is_cold),
                "{kind} {day} {found:?}"
            );
        }
        assert!(read(&table).is_none_or(|rows| rows == [6, 6]), "{kind}");
    }
}

#[test]
fn a_cold_folder_of_another_table_is_refused_and_no_run_fails_by_it() {
    let folder = project(&LOCAL.replace("KIND", "delta").replace("MODE", "mode = append"));
    std::fs::create_dir_all(folder.path().join("cold/shop/t")).unwrap();
    std::fs::write(folder.path().join("cold/shop/t/_of"), "/another/lake/shop/t").unwrap();
    drop_rows(folder.path(), "1", "1,2020-01-01 10:00:00\n");
    let said = succeed(folder.path(), &["run", "p"]);
    assert!(said.contains("R0573") && said.contains("old files could not be moved"), "{said}");
    assert!(files(&folder.path().join("lake/shop/t"), "2020-01-01").iter().all(|(_, is_link)| !is_link));
}

/// Prints each object with its class and tags.
const CLASSES: &str = r#"
import sys, boto3
s3 = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{sys.argv[1]}", region_name="us-east-1",
                  aws_access_key_id="k", aws_secret_access_key="k")
for page in s3.get_paginator("list_objects_v2").paginate(Bucket="lake"):
    for item in page.get("Contents", []):
        archived = item.get("StorageClass") == "GLACIER"  # whose tags this server refuses to show
        tags = [] if archived else s3.get_object_tagging(Bucket="lake", Key=item["Key"])["TagSet"]
        print(item["Key"], s3.head_object(Bucket="lake", Key=item["Key"]).get("StorageClass", "STANDARD"), len(tags), item["Size"])
"#;

/// Keys that do not pack, so that a file of them is larger than what is left where it is.
fn noise(seed: u64) -> Vec<String> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 16
    };
    (0..16_000).map(|_| format!("{:012x}{:012x}", next(), next())).collect()
}

#[test]
fn a_bucket_s_files_of_old_partitions_change_their_class_and_logs_and_small_files_do_not() {
    let Some(bucket) = Bucket::start() else {
        println!("skipped: an S3 server is absent");
        return;
    };
    let port = bucket.port.to_string();
    let place = format!(
        "path = \"s3://lake/PLACE\", endpoint = \"http://127.0.0.1:{port}\", region = \"us-east-1\"\n  \
         access_key_id = secret.key, secret_access_key = secret.key"
    );
    for (kind, mode) in [("delta", "mode = upsert, key = [id]"), ("parquet", "mode = append")] {
        let file = LOCAL.replace("KIND", kind).replace("MODE", mode).replace("id = bigint", "id = varchar");
        let file =
            file.replace(" path = \"lake\", cold = \"cold\" ", &format!("\n  {}\n", place.replace("PLACE", kind)));
        let folder = project(&format!("secret key = env(\"BUCKET_KEY\")\n\n{file}"));
        let mut rows = String::new();
        for (day, seed) in [("2020-01-01", 1), ("2999-01-01", 2)] {
            noise(seed).iter().for_each(|id| rows.push_str(&format!("{id},{day} 10:00:00\n")));
        }
        rows.push_str("small,2020-01-05 10:00:00\n");
        drop_rows(folder.path(), "1", &rows);
        for _ in 0..2 {
            let run = command(folder.path()).args(["run", "p"]).env("BUCKET_KEY", "k").output().unwrap();
            assert!(run.status.success(), "{}", text(&run.stderr));
            assert!(!text(&run.stderr).contains("could not be moved"), "{}", text(&run.stderr));
        }
        let python = std::env::var_os("LAKEHEAD_READERS").unwrap();
        let output = Command::new(python).args(["-c", CLASSES, &port]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let said = text(&output.stdout);
        let planned = command(folder.path()).args(["plan", "p"]).env("BUCKET_KEY", "k").output().unwrap();
        let planned = text(&planned.stdout);
        assert!(planned.contains("archive_instant after 90 days: 1 file, "), "{planned}");
        assert!(
            planned.contains("GLACIER_IR saves $") && planned.contains("list prices of S3 in us-east-1"),
            "{planned}"
        );
        let mut moved = 0;
        for line in said.lines().filter(|line| line.starts_with(&format!("{kind}/shop/t/"))) {
            let is_old = line.contains("at_day=2020-01-01");
            assert_eq!(line.contains(" GLACIER_IR "), is_old, "{line}\n{said}");
            assert!(!is_old || line.contains(" GLACIER_IR 1 "), "the tag goes along: {line}");
            moved += usize::from(is_old);
        }
        assert!(moved > 0, "{said}");
    }
}

/// Writes a folder as others do, in a bucket: keys that do not pack, three files a day.
const FOREIGN: &str = r#"
import sys, io, os, boto3, pyarrow as a, pyarrow.parquet as p
s3 = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{sys.argv[1]}", region_name="us-east-1",
                  aws_access_key_id="k", aws_secret_access_key="k")
for day in ("2020-01-01", "2999-01-01"):
    for n in range(3):
        file = io.BytesIO()
        p.write_table(a.table({"id": a.array([os.urandom(12).hex() for _ in range(8000)])}), file)
        s3.put_object(Bucket="lake", Key=f"plain/t/day={day}/{n}.parquet", Body=file.getvalue())
"#;

const COMPACTING: &str = r#"secret key = env("BUCKET_KEY")

connection lake parquet {
  path = "s3://lake/plain", endpoint = "http://127.0.0.1:PORT", region = "us-east-1"
  access_key_id = secret.key, secret_access_key = secret.key
}

lifecycle colder { transition to archive_instant after 90d }

pipeline p {
  source rows = lake { table = "t" }
  sink lake { table = "t", mode = compact, lifecycle = colder }
}
"#;

/// Nobody says the layout of such a folder but its own names; what is merged is under the rules that `lifecycle emit` prints.
#[test]
fn what_is_merged_in_a_folder_of_others_carries_the_tag_and_its_old_partitions_move() {
    let Some(bucket) = Bucket::start() else {
        println!("skipped: an S3 server is absent");
        return;
    };
    let port = bucket.port.to_string();
    let python = |script: &str| {
        let python = std::env::var_os("LAKEHEAD_READERS").unwrap();
        let output = Command::new(python).args(["-c", script, &port]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    python(FOREIGN);
    let folder = project(&COMPACTING.replace("PORT", &port));
    for arguments in [&["lock"][..], &["run", "p"], &["run", "p"]] {
        let run = command(folder.path()).args(arguments).env("BUCKET_KEY", "k").output().unwrap();
        assert!(run.status.success(), "{}", text(&run.stderr));
        assert!(!text(&run.stderr).contains("could not be"), "{}", text(&run.stderr));
    }
    let said = python(CLASSES);
    let files: Vec<_> = said.lines().filter(|line| line.starts_with("plain/t/")).collect();
    assert_eq!(files.len(), 2, "{said}");
    assert!(files[0].contains("/day=2020-01-01/part-") && files[0].contains(" GLACIER_IR 1 "), "{said}");
    assert!(files[1].contains("/day=2999-01-01/part-") && files[1].contains(" STANDARD 1 "), "{said}");
}

const ARCHIVING: &str = r#"secret key = env("BUCKET_KEY")

connection drops files { path = "in" }
connection lake KIND {
  path = "s3://lake/KIND", endpoint = "http://127.0.0.1:PORT", region = "us-east-1"
  access_key_id = secret.key, secret_access_key = secret.key
}
connection dr KIND { path = "dr" }

lifecycle archived {
  transition to archive after 90d { unreadable = allow }
}

pipeline p {
  source rows = drops { path = "*.csv", columns = { id = varchar, at = timestamp } }
  sink lake { table = "t", mode = append, partition_by = [day(at)], compact = { file_size = 64MB }, lifecycle = archived }
}
"#;

/// A bucket whose archived objects cannot be read, as S3's cannot: an unsafe rule is refused, and where the file allows it
/// rounds and upkeep go on beside what is archived, and whoever reads it is told so.
#[test]
fn what_is_archived_cannot_be_read_and_the_table_goes_on_beside_it() {
    let Some(bucket) = Bucket::start() else {
        println!("skipped: an S3 server is absent");
        return;
    };
    for kind in ["delta", "parquet"] {
        let file = ARCHIVING.replace("KIND", kind).replace("PORT", &bucket.port.to_string());
        let folder = project(&file.replace(" { unreadable = allow }", ""));
        let lakehead = |arguments: &[&str]| {
            let output = command(folder.path()).args(arguments).env("BUCKET_KEY", "k").output().unwrap();
            (output.status.success(), format!("{}{}", text(&output.stdout), text(&output.stderr)))
        };
        drop_rows(folder.path(), "0", "a,2020-01-01 10:00:00\n");
        for verb in ["plan", "run"] {
            let (done, said) = lakehead(&[verb, "p"]);
            assert!(!done && said.contains("E0612"), "{said}");
        }
        std::fs::write(folder.path().join("p.lake"), &file).unwrap();
        // So many files of one size in the old and in the young partition that merging them is worth it.
        for round in 1..10 {
            let mut rows: String = noise(round).iter().map(|id| format!("{id},2020-01-01 10:00:00\n")).collect();
            rows.push_str(&format!("{round},2999-01-01 10:00:00\n"));
            drop_rows(folder.path(), &round.to_string(), &rows);
            let (done, said) = lakehead(&["run", "p"]);
            assert!(done && !said.contains("could not be"), "{said}");
        }
        let python = std::env::var_os("LAKEHEAD_READERS").unwrap();
        let output = Command::new(python).args(["-c", CLASSES, &bucket.port.to_string()]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let said = text(&output.stdout);
        let of = |day: &str, class: &str| {
            let lines = said.lines().filter(|line| line.starts_with(&format!("{kind}/t/at_day={day}")));
            lines.filter(|line| line.contains(&format!(" {class} "))).count()
        };
        assert_eq!(of("2020-01-01", "GLACIER"), 9, "{said}");
        assert!(of("2999-01-01", "STANDARD") > 0 && of("2999-01-01", "GLACIER") == 0, "{said}");
        // Who reads it all is told which file it is and what helps.
        let (done, said) = lakehead(&["verify", "p"]);
        assert!(!done && said.contains("R0566") && said.contains("restore"), "{said}");
        // A copy that begins now cannot have what is archived; rounds go on.
        std::fs::write(folder.path().join("p.lake"), file.replace("allow }\n}", "allow }\n  replicate to dr\n}"))
            .unwrap();
        drop_rows(folder.path(), "10", "b,2999-01-01 10:00:00\n");
        let (done, said) = lakehead(&["run", "p"]);
        assert!(done && said.contains("R0566"), "{said}");
    }
}
