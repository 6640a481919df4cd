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

static PAGES: [Page; 23] = [
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
        code: "E0602",
        title: "a secret in a text",
        why: "texts are stored in catalogs, logs and plans",
        wrong: "path = \"s3://x/${secret.token}\"",
        right: "password = secret.token",
    },
    Page {
        code: "R0201",
        title: "fenced",
        why: "another process took the pipeline over; the table refuses the older one, so nothing is doubled",
        wrong: "two `lakehead serve` over one directory",
        right: "stop one of them",
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
