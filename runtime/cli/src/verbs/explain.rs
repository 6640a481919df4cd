//! `lakehead explain`: a page for a code.

use lakehead_core::Result;

use super::Ended;
use crate::args::{Common, Explain, Format};

struct Page {
    code: &'static str,
    title: &'static str,
    why: &'static str,
    wrong: &'static str,
    right: &'static str,
}

static PAGES: [Page; 73] = [
    Page {
        code: "E0105",
        title: "not a duration",
        why: "units are ms, s, m, h, d, w, y, written without a blank; they can be joined",
        wrong: "watermark = 30 seconds",
        right: "watermark = 30s        lookback = 1h30m",
    },
    Page {
        code: "E0201",
        title: "no such connection",
        why: "a connection is defined once, in any file of the directory or one that `use` adds",
        wrong: "source clicks = evnts { … }",
        right: "connection events files { path = \"data\" }\nsource clicks = events { … }",
    },
    Page {
        code: "E0204",
        title: "say what a stage reads",
        why: "`from` may be left out only where the node above is the one unread node",
        wrong: "sink archive = lake { table = \"a.b\" }",
        right: "sink archive = lake from clean { table = \"a.b\" }",
    },
    Page {
        code: "E0220",
        title: "no such kind of catalog",
        why: "the word behind a catalog's name says what it is",
        wrong: "catalog cloud aws { … }",
        right: "catalog cloud glue { region = \"eu-west-1\" }",
    },
    Page {
        code: "E0221",
        title: "no such catalog",
        why: "`catalog` of a connection or a sink names a definition, or a list of them",
        wrong: "connection lake delta { path = \"lake\", catalog = cluod }",
        right: "catalog cloud glue { region = \"eu-west-1\" }\nconnection lake delta { path = \"lake\", catalog = cloud }",
    },
    Page {
        code: "E0222",
        title: "a name that the catalog does not hold",
        why: "a catalog that folds or refuses names would list the table under another one, or not at all",
        wrong: "table = \"shop.Order-Items\"",
        right: "table = \"shop.order_items\"",
    },
    Page {
        code: "E0223",
        title: "a format that the catalog does not list",
        why: "an entry of another format would not be readable",
        wrong: "connection raw parquet { path = \"raw\", catalog = unity_prod }",
        right: "connection raw parquet { path = \"raw\", catalog = cloud }",
    },
    Page {
        code: "E0224",
        title: "two tables of one name in a catalog",
        why: "each would take the entry from the other at its next commit",
        wrong: "sink a = lake { table = \"shop.orders\" }   sink b = raw { table = \"shop.orders\" }",
        right: "connection raw parquet { path = \"raw\", prefix = \"raw_\", catalog = cloud }",
    },
    Page {
        code: "E0301",
        title: "no such column",
        why: "a step sees the columns that the step above it left",
        wrong: "where { satus < 500 }",
        right: "where { status < 500 }",
    },
    Page {
        code: "E0304",
        title: "a condition must be true or false",
        why: "where, when, on and expect take a boolean",
        wrong: "where { amount }",
        right: "where { amount > 0 }",
    },
    Page {
        code: "E0305",
        title: "text compared with a number",
        why: "no value is converted silently",
        wrong: "where { country > 5 }",
        right: "where { country > '5' }\nwhere { try_cast(country as bigint) > 5 }",
    },
    Page {
        code: "E0310",
        title: "`union` comes first",
        why: "it puts the inputs of `from` end to end; later steps see one input",
        wrong: "transform from a, b { where { x > 1 } union }",
        right: "transform from a, b { union where { x > 1 } }",
    },
    Page {
        code: "E0406",
        title: "a key computed from other columns",
        why: "a delete of the source carries only its key, so the sink's key must follow from it",
        wrong: "derive { region || id as id }",
        right: "derive { lpad(cast(id as varchar), 8, '0') as id }",
    },
    Page {
        code: "E0407",
        title: "an unsent column mixed with others",
        why: "Postgres does not send large values that an update leaves unchanged",
        wrong: "derive { title || ' ' || body as text }",
        right: "alter table posts replica identity full;",
    },
    Page {
        code: "E0503",
        title: "which rows are the same?",
        why: "an upsert replaces the row of a key",
        wrong: "sink lake { table = \"a.b\", mode = upsert }",
        right: "sink lake { table = \"a.b\", mode = upsert, key = [id] }",
    },
    Page {
        code: "E0504",
        title: "changes into `append`",
        why: "updates and deletes cannot be appended",
        wrong: "mode = append",
        right: "mode = upsert        the newest row per key\nmode = changelog     every change as a row",
    },
    Page {
        code: "E0506",
        title: "a cursor into `append`",
        why: "rows that commit late lie behind the cursor and would be lost",
        wrong: "cursor = updated_at … mode = append",
        right: "cursor = updated_at, lookback = 10m … mode = upsert, key = [id]",
    },
    Page {
        code: "E0513",
        title: "versions without an order",
        why: "a version ends where the next begins, so rows must come in the order of a change log, or of a column",
        wrong: "source crm { query = \"select * from customers\" }\nsink lake { mode = scd2, key = [id] }",
        right: "source crm { capture = cdc, … }\nsink lake { mode = scd2, key = [id], sequence_by = updated_at }",
    },
    Page {
        code: "E0520",
        title: "an interval whose inputs are moved away",
        why: "an interval is made again from its recorded inputs when a late object comes; moved, they are not there",
        wrong: "source small = landing { interval = run, done_prefix = \"done/\" }\nsink raw { mode = overwrite, overwrite_by = run_interval }",
        right: "source small = landing { interval = run, after_success = delete, keep_inputs = 1d }",
    },
    Page {
        code: "E0521",
        title: "a compaction that changes rows",
        why: "the same rows in fewer files: no step, no other source and no other sink belongs to it",
        wrong: "source a = lake { table = \"x\" }\ntransform { where { id > 5 } }\nsink lake { table = \"x\", mode = compact }",
        right: "source a = lake { table = \"x\" }\nsink lake { table = \"x\", mode = compact }",
    },
    Page {
        code: "E0522",
        title: "a column that tables have no type for",
        why: "a map, a struct or an interval would stop the first run; its parts have types",
        wrong: "derive { named_struct('x', id) as c }",
        right: "derive { id as c_x }",
    },
    Page {
        code: "E0530",
        title: "a budget of no requests",
        why: "a round writes its rows, its vectors and the table's log: without a request nothing is ever committed",
        wrong: "requests_per_hour = 0",
        right: "requests_per_hour = 600   or leave it out",
    },
    Page {
        code: "E0540",
        title: "a secret stands in the file for everybody to read",
        why: "passwords, keys and tokens come from the environment or from a file of their own; a text, also by way of a \
              variable, would be versioned, copied and shown with the pipeline. Stores find keys in the environment by themselves",
        wrong: "password = \"hunter2\"",
        right: "secret shop_password = env(\"PGPASSWORD\")\npassword = secret.shop_password",
    },
    Page {
        code: "E0602",
        title: "a secret in a text",
        why: "texts are stored in catalogs, logs and plans",
        wrong: "path = \"s3://x/${secret.token}\"",
        right: "password = secret.token",
    },
    Page {
        code: "E0613",
        title: "the age of the partitions is not known",
        why: "rows move and expire by partition: merging and upserts write old rows into new files",
        wrong: "sink lake { table = \"orders\", lifecycle = retention }",
        right: "sink lake { table = \"orders\", partition_by = [day(created_at)], lifecycle = retention }",
    },
    Page {
        code: "W0610",
        title: "files are kept longer than the lifecycle says",
        why: "readers of the version before still open what was taken out: it stays a day at least",
        wrong: "vacuum after 1h",
        right: "vacuum after 1d",
    },
    Page {
        code: "E0615",
        title: "a copy of another kind",
        why: "a copy is the same table elsewhere, byte for byte: a Delta table is kept by a delta connection, or in a folder or bucket \
              of files",
        wrong: "connection dr parquet { path = \"s3://dr\" }    behind   replicate to dr   of a Delta table",
        right: "connection dr delta { path = \"s3://dr\" }",
    },
    Page {
        code: "E0616",
        title: "a copy in the place of its table",
        why: "what is copied onto itself is no copy",
        wrong: "replicate to lake    of a table in `lake`",
        right: "connection dr delta { path = \"s3://another-bucket/tables\" }\nreplicate to dr",
    },
    Page {
        code: "R0201",
        title: "fenced",
        why: "another process took the pipeline over; the table refuses the older one, so nothing is doubled",
        wrong: "two `lakehead serve` over one directory",
        right: "stop one of them",
    },
    Page {
        code: "R0405",
        title: "a lake file could not be written or read",
        why: "what a Parquet file claims is held against what is there before room is made for it: a footer of at most 64 MiB, lists \
              of at most a million entries in it and none longer than its bytes, chunks within the file, pages of at most 1 GiB \
              unpacked. A file that claims more, was cut short or changed is damaged",
        wrong: "a file that was copied in part",
        right: "bring it back as it was written, or have it written anew",
    },
    Page {
        code: "R0406",
        title: "the location is not one that can be read",
        why: "a path is a folder of this machine, or a URL of a store that lakehead knows: s3, gs, az, abfss, https, file",
        wrong: "connection lake delta { path = \"ftp://host/lake\" }",
        right: "connection lake delta { path = \"s3://bucket/lake\" }",
    },
    Page {
        code: "R0420",
        title: "inputs of an interval are gone",
        why: "the interval's rows were made of files that are not there any more; made again, they would be fewer",
        wrong: "lakehead backfill compactor   of an interval whose `keep_inputs` is over, or whose inputs somebody removed",
        right: "leave the interval as it is; or bring the recorded files back, or keep inputs for longer: keep_inputs = 7d",
    },
    Page {
        code: "R0421",
        title: "intervals that overlap",
        why: "rows of one file would be in the table under two intervals, and neither replaces the other",
        wrong: "trigger every 5m, later changed to   trigger every 1h, over the same files",
        right: "write into a new table with the new trigger, or backfill by the old one",
    },
    Page {
        code: "R0422",
        title: "a record of inputs cannot be read",
        why: "it says what an interval's rows come from; without it nothing is replaced and nothing is removed",
        wrong: "a file below `_lakehead/<pipeline>/inputs` that was edited or cut short",
        right: "bring it back from a backup of the bucket",
    },
    Page {
        code: "R0423",
        title: "`compact` holds something else",
        why: "it takes a duration, a size and a truth: every, file_size, enabled",
        wrong: "compact = { evry = 1h }",
        right: "compact = { every = 1h, file_size = 256MB }",
    },
    Page {
        code: "R0424",
        title: "a merge would move rows",
        why: "merged files must hold as many rows, in the same partition and bucket; the old files stay as they are",
        wrong: "a file put into a bucketed table by another program, with rows of other buckets",
        right: "write such rows through the pipeline, or into a table of their own",
    },
    Page {
        code: "R0425",
        title: "no column to order by",
        why: "`sort_by` of a compaction holds for every file of the folder",
        wrong: "sort_by = [customer]   over files that have `customer_id`",
        right: "sort_by = [customer_id]   or leave it out: the order that the files say is kept",
    },
    Page {
        code: "R0426",
        title: "another process merges the same files",
        why: "two processes found the same small files; the first one's record stands, and nothing was changed here",
        wrong: "two daemons, or a daemon and `lakehead run`, on one table at a time",
        right: "stop one of them; the next run goes on",
    },
    Page {
        code: "R0427",
        title: "the record of a merge cannot be read",
        why: "it says which files the merged one stands for, so that nothing is removed or counted twice without it",
        wrong: "a file below `_lakehead/<pipeline>/merges` that was edited or cut short",
        right: "bring it back from a backup of the bucket",
    },
    Page {
        code: "R0428",
        title: "no such object",
        why: "`peek` reads one file, at a path or the URL of a store",
        wrong: "lakehead peek lake/orders",
        right: "lakehead peek lake/orders/part-0.parquet",
    },
    Page {
        code: "R0429",
        title: "an object cannot be read",
        why: "its name says what it holds, and it holds something else; or its name says nothing",
        wrong: "lakehead peek export",
        right: "lakehead peek export.csv.gz",
    },
    Page {
        code: "R0430",
        title: "not a condition",
        why: "behind the object comes `where` and one expression that is true or false",
        wrong: "lakehead peek a.parquet \"id = 5\"",
        right: "lakehead peek a.parquet \"where { id = 5 }\"",
    },
    Page {
        code: "R0431",
        title: "no such column",
        why: "`--columns` names columns of the object itself",
        wrong: "lakehead peek a.parquet --columns Id",
        right: "lakehead peek a.parquet --columns id",
    },
    Page {
        code: "R0560",
        title: "a bucket's rules have changed since they were read",
        why: "setting a bucket's rules replaces all of them: what others wrote in between would be lost",
        wrong: "two jobs that set rules of one bucket at the same time",
        right: "lakehead lifecycle apply PIPELINE --dry-run    shows what is there now\nlakehead lifecycle apply PIPELINE",
    },
    Page {
        code: "R0561",
        title: "a bucket shows other rules than were written",
        why: "somebody set rules in the moment between the last look and the write, or right behind it",
        wrong: "a Terraform resource that owns all rules of the bucket, beside `lifecycle apply`",
        right: "lakehead lifecycle emit PIPELINE --terraform    where Terraform owns the bucket's rules",
    },
    Page {
        code: "R0562",
        title: "a bucket refuses a call for its rules",
        why: "the store's own words and the status are beside the code",
        wrong: "keys that may read and write objects, and nothing of the bucket itself",
        right: "allow s3:GetLifecycleConfiguration and s3:PutLifecycleConfiguration",
    },
    Page {
        code: "R0563",
        title: "a store drops the tags of rules",
        why: "without its tag a rule moves everything below the table's folder, its log too, and every query fails",
        wrong: "lakehead lifecycle apply PIPELINE    on a store that speaks only a part of S3's language",
        right: "leave `transition` out of the lifecycle; the old rules were put back",
    },
    Page {
        code: "R0564",
        title: "a copy that others wrote into",
        why: "what somebody else wrote there would be lost; the copy stays as it is, and no run fails by it",
        wrong: "a pipeline that writes into the copy",
        right: "write into the table itself, or move the copy away: the next look makes a new one",
    },
    Page {
        code: "R0565",
        title: "a table that names files outside its folder",
        why: "a copy that names files of the table by their place is none without the table",
        wrong: "a shallow clone",
        right: "a deep clone, or an OPTIMIZE that writes these files anew",
    },
    Page {
        code: "R0566",
        title: "an archived file cannot be read",
        why: "a class like GLACIER gives nothing back until the object is restored, which takes hours",
        wrong: "replicate to dr    of a table whose files are archived already",
        right: "aws s3api restore-object …    or a copy that is there before files are archived",
    },
    Page {
        code: "R0567",
        title: "a copied file has another size",
        why: "the file changed, or the store lost a part; it is copied again",
        wrong: "a data file that somebody wrote over",
        right: "nothing to do, where it does not come again",
    },
    Page {
        code: "R0568",
        title: "a log in a form that is not copied",
        why: "a copy that begins anew needs a checkpoint in one file",
        wrong: "delta.checkpointPolicy = v2",
        right: "alter table … set tblproperties (delta.checkpointPolicy = 'classic')",
    },
    Page {
        code: "R0569",
        title: "a table cannot be a copy of itself",
        why: "both connections name one place",
        wrong: "two connections with one path",
        right: "replicate to a connection with another `path`",
    },
    Page {
        code: "R0570",
        title: "a run was stopped before its copy was up to date",
        why: "a run that is asked to stop gives its copies ten seconds",
        wrong: "ctrl-c while a large table is copied for the first time",
        right: "lakehead run PIPELINE    goes on with the copy: files that are there are not copied again",
    },
    Page {
        code: "R0571",
        title: "a table moves on faster than it is copied",
        why: "files of a version were replaced while they were copied, several times over",
        wrong: "a slow line to the copy, and a table that is overwritten each minute",
        right: "nothing to do, where it does not come again; else a place that is nearer",
    },
    Page {
        code: "R0572",
        title: "a folder without a manifest is not copied",
        why: "nothing says which files of such a folder are the table",
        wrong: "mode = compact    over a folder of others, with `replicate`",
        right: "leave `replicate` out; copy the folder with the tools of its store",
    },
    Page {
        code: "R0573",
        title: "the cold folder belongs to another table",
        why: "files of two tables in one place could not be told apart; nothing was moved",
        wrong: "two connections with one `cold`",
        right: "connection lake delta { path = \"lake\", cold = \"/mnt/slow/lake\" }",
    },
    Page {
        code: "R0574",
        title: "a file could not be moved to the cold folder",
        why: "the disk refused, or gave back other bytes than were written; the file stays where it was",
        wrong: "a cold disk that is not mounted",
        right: "mount it: the next look tries again",
    },
    Page {
        code: "R0575",
        title: "`cold` is for folders of this machine",
        why: "a cold folder holds files behind links in their place; a bucket has no links, and classes instead, which the lifecycle's \
              steps name",
        wrong: "connection lake delta { path = \"s3://bucket/lake\", cold = \"/mnt/slow\" }",
        right: "connection lake delta { path = \"s3://bucket/lake\" }",
    },
    Page {
        code: "R0623",
        title: "a catalog does not answer",
        why: "the rows are committed: a table is registered behind its commit, and tried again until it is listed",
        wrong: "endpoint = \"http://catalog:9999\"",
        right: "lakehead status          says since when\nlakehead catalog sync    tries at once",
    },
    Page {
        code: "R0624",
        title: "the name is taken",
        why: "the catalog lists a table of another place that this pipeline did not register; it is never written over",
        wrong: "two profiles that write `shop.orders` into two buckets and one catalog",
        right: "prefix = var.schema_prefix    in the connection, another in each profile",
    },
    Page {
        code: "R0625",
        title: "a catalog refuses a call",
        why: "its own words and the call are beside the code",
        wrong: "keys without glue:CreateTable",
        right: "allow glue:GetTable, CreateTable, UpdateTable, CreateDatabase, GetPartitions, BatchCreatePartition, BatchDeletePartition",
    },
    Page {
        code: "R0650",
        title: "the disk of the state folder is full",
        why: "the ledger, the embedded catalog, the key index and what does not fit in memory lie there; positions stand in the \
              lake, so that nothing is lost and the next run goes on from the last commit",
        wrong: "a state folder on a small disk",
        right: "free space there; or in lakehead.toml    state = \"/var/lib/lakehead\"",
    },
    Page {
        code: "R0651",
        title: "this process may not write so large a file",
        why: "a limit on the size of files was reached; the write fails as on a full disk and nothing is committed in part",
        wrong: "ulimit -f 100000; lakehead run mirror",
        right: "ulimit -f unlimited        LimitFSIZE=infinity   in a service",
    },
    Page {
        code: "R0652",
        title: "the disk fails",
        why: "the system answers a read or a write with an input/output error; the run is tried again, then it ends where its \
              last commit stands",
        wrong: "a failing disk, or a network disk that went away",
        right: "dmesg and the disk's own report say more; start again once it answers",
    },
    Page {
        code: "R0654",
        title: "a file of deletion vectors is gone",
        why: "rows of a Delta table go by vectors in files beside the data; a full vacuum by a program that does not know them \
              (delta-rs 1.6: vacuum(full=True)) removes these files from under the newest version, which no reader can read then",
        wrong: "table.vacuum(retention_hours=0, full=True, …)",
        right: "lakehead resync PIPELINE   brings the table back; lakehead removes old files itself (docs/upkeep.md)",
    },
    Page {
        code: "R0656",
        title: "the age of partitions is not known",
        why: "files of a table that is only compacted move by the age that its own partitions tell: a date, a time, or what \
              `partition_by` makes of one; without it none would ever move",
        wrong: "mode = compact, lifecycle = colder    over   t/part-1.parquet   or   t/city=Graz/part-1.parquet",
        right: "t/day=2026-05-01/part-1.parquet    or leave the moves out of the lifecycle",
    },
    Page {
        code: "R0640",
        title: "this build of lakehead has no such store",
        why: "each store is a cargo feature, on unless it was turned off: `s3`, `azure`, `gcs`, `http`; a build without one carries \
              none of its code",
        wrong: "cargo build --no-default-features --features gcs        path = \"s3://bucket/lake\"",
        right: "cargo build --no-default-features --features gcs,s3",
    },
    Page {
        code: "R0641",
        title: "only S3 encrypts by a setting of the connection",
        why: "`encryption`, `kms_key` and `bucket_key` become headers of S3; a store that does not know them would keep rows in the \
              clear that were to be encrypted. A key needs `sse_kms` or `dsse_kms`",
        wrong: "connection lake delta { path = \"gs://bucket/lake\", encryption = sse_kms }",
        right: "connection lake delta { path = \"s3://bucket/lake\", encryption = sse_kms, kms_key = \"alias/lake\" }",
    },
    Page {
        code: "R0642",
        title: "the store's listing does not know a table that is there",
        why: "its first entry or its checkpoint is found by name, and the listing of the folder is empty: the listing lags. The \
              table is neither gone nor to be made anew; the run ends and is tried again",
        wrong: "nothing in the file is wrong",
        right: "nothing to do; where it stays, look for a cache or a proxy between lakehead and the store",
    },
    Page {
        code: "R0643",
        title: "the store writes over an object that was to be created",
        why: "every commit is a create that must fail where the object is there (`If-None-Match: *`); a store that lets the \
              later of two writers win loses rounds. It is asked once a start, at `_lakehead/_created_once` of the connection",
        wrong: "a gateway that drops the header, or an old S3-compatible server",
        right: "a store with conditional writes: S3, Azure, GCS, R2, MinIO, versitygw, …",
    },
    Page {
        code: "R0644",
        title: "the store cannot be opened with what is set",
        why: "before anybody is asked, the client of a store wants to know its account, region or key, and something of it is missing \
              or cannot be read; the cause is printed below the error",
        wrong: "connection lake delta { path = \"az://container/lake\" }     lakehead run orders",
        right: "export AZURE_STORAGE_ACCOUNT_NAME=…     lakehead run orders",
    },
    Page {
        code: "R0645",
        title: "the bucket or container is not there",
        why: "lakehead makes tables and folders, and never a bucket: whose it is, where it lies and who may read it are not its to decide",
        wrong: "connection lake delta { path = \"s3://bukcet/lake\" }",
        right: "aws s3 mb s3://bucket     connection lake delta { path = \"s3://bucket/lake\" }",
    },
];

/// Prints a page, or says which there are.
pub(crate) fn explain(arguments: &Explain, common: &Common) -> Result<Ended> {
    let code = arguments.code.to_uppercase();
    if let Some(page) = PAGES.iter().find(|page| page.code == code) {
        if common.format == Format::Json {
            let Page { code, title, why, wrong, right } = page;
            let said = serde_json::json!({ "code": code, "title": title, "why": why, "wrong": wrong, "right": right });
            println!("{said}");
            return Ok(Ended::Done);
        }
        println!(
            "{}  {}\n\n{}\n\nwrong\n  {}\n\nright\n  {}",
            page.code,
            page.title,
            page.why,
            page.wrong.replace('\n', "\n  "),
            page.right.replace('\n', "\n  ")
        );
        return Ok(Ended::Done);
    }
    let codes: Vec<_> = PAGES.iter().map(|page| page.code).collect();
    eprintln!("no page for {code}; the message itself carries its cure. Pages: {}", codes.join(", "));
    Ok(Ended::NothingMatched)
}
