//! What a check says of buckets, order and partitions of a sink.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod offline;

use lakehead_core::{Connector, OptionKind, OptionSpec};
use lakehead_plan::{LayoutTransform, Planned};
use lakehead_syntax::Diagnostic;
use offline::{lake, sink_of};

static PARQUET: Connector = lake(
    "parquet",
    &[
        OptionSpec::new("bucket_by", OptionKind::Columns, "columns"),
        OptionSpec::new("bucket_count", OptionKind::Int, "number"),
        OptionSpec::new("bucket_hash", OptionKind::Word(&["hive2", "spark"]), "rule"),
        OptionSpec::new("sort_by", OptionKind::Columns, "order"),
    ],
);
static DELTA: Connector = lake(
    "delta",
    &[
        OptionSpec::new("requests_per_hour", OptionKind::Int, "bound"),
        OptionSpec::new("compact", OptionKind::Settings(&COMPACT), "merging"),
    ],
);
static COMPACT: [OptionSpec; 2] =
    [OptionSpec::new("every", OptionKind::Duration, "pause"), OptionSpec::new("enabled", OptionKind::Bool, "whether")];

/// Plans a pipeline whose sink has these settings.
fn planned(kind: &str, settings: &str) -> (Planned, String) {
    let text = format!(
        "pipeline p {{\n  source a = rows {{ columns = {{ id = bigint, code = varchar, tags = list(varchar), price = double, \
         at = timestamp, day = date }} }}\n  sink b = {kind} {{ table = \"t\", {settings} }}\n}}\n"
    );
    (offline::planned(&text, &[&PARQUET, &DELTA]), text)
}

#[test]
fn what_has_no_buckets_or_other_ones_is_refused_with_place_and_cure() {
    for (kind, settings, code, place, part_of_help) in [
        ("delta", "bucket_by = [id], bucket_count = 8", "E0517", "bucket_by", "partition_by = [bucket]"),
        ("delta", "bucket_count = 8", "E0517", "bucket_count", "partition_by = [bucket]"),
        ("parquet", "bucket_by = [id]", "E0509", "bucket_by", "bucket_count = 16"),
        ("parquet", "bucket_count = 8", "E0509", "bucket_count", "bucket_by = [id]"),
        ("parquet", "bucket_hash = spark", "E0509", "bucket_hash", "bucket_by = [id]"),
        ("parquet", "bucket_by = [id], bucket_count = 0", "E0519", "0", "bucket_count = 16"),
        ("parquet", "bucket_by = [id], bucket_count = 100001", "E0519", "100001", "bucket_count = 16"),
        ("parquet", "bucket_by = [idd], bucket_count = 8", "E0301", "[idd]", ""),
        ("parquet", "bucket_by = [tags], bucket_count = 8", "E0518", "[tags]", "columns that can: id, code, price"),
        ("parquet", "bucket_by = [id, id], bucket_count = 8", "E0519", "[id, id]", "leave one of them out"),
        ("parquet", "partition_by = [day], bucket_by = [day], bucket_count = 8", "E0519", "[day]", "bucket_by = [id]"),
        ("parquet", "partition_by = [day(at)], bucket_by = [at_day], bucket_count = 8", "E0519", "[at_day]", ""),
        ("delta", "requests_per_hour = 0", "E0530", "0", "requests_per_hour = 1000"),
        ("delta", "compact = { evry = 1h }", "E0208", "evry", ""),
        ("delta", "compact = { enabled = yes }", "E0210", "yes", "enabled = true"),
        ("delta", "compact = { every = 1h, every = 2h }", "E0205", "every", "leave one of them out"),
        ("delta", "compact = 3", "E0210", "3", "compact = {}"),
        ("parquet", "sort_by = [prise]", "E0301", "[prise]", ""),
        ("parquet", "partition_by = [truncate(price, 2)]", "E0510", "[truncate(price, 2)]", ""),
        ("parquet", "partition_by = [truncate(code)]", "E0510", "[truncate(code)]", "truncate(code, 3)"),
        ("parquet", "partition_by = [truncate(code, 0)]", "E0510", "[truncate(code, 0)]", "truncate(code, 3)"),
        ("parquet", "partition_by = [day(at, 2)]", "E0510", "[day(at, 2)]", "day(c)"),
        ("parquet", "partition_by = [shorten(code, 2)]", "E0510", "[shorten(code, 2)]", "truncate(c, 3)"),
    ] {
        let (planned, text) = planned(kind, settings);
        let errors: Vec<_> = planned.diagnostics.iter().filter(|found| found.is_error()).collect();
        assert_eq!(errors.len(), 1, "{settings}: {errors:#?}");
        let label = &errors[0].labels[0];
        assert_eq!((errors[0].code, &text[label.span.range()]), (code, place), "{settings}: {errors:#?}");
        assert!(errors[0].helps.join("\n").contains(part_of_help), "{settings}: {:?}", errors[0].helps);
        assert!(planned.plans.is_empty());
    }
    let (meant, _) = planned("parquet", "bucket_by = [codee], bucket_count = 8");
    assert!(format!("{:?}", meant.diagnostics).contains("did you mean `code`?"), "{:?}", meant.diagnostics);
    let (meant, _) = planned("delta", "compact = { evry = 1h }");
    assert!(format!("{:?}", meant.diagnostics).contains("did you mean `every`?"), "{:?}", meant.diagnostics);
}

#[test]
fn what_a_connector_declares_it_carries_out() {
    let settings = "partition_by = [day], bucket_by = [id, code], bucket_count = 8, sort_by = [at, id]";
    let (found, _) = planned("parquet", settings);
    assert!(!found.diagnostics.iter().any(Diagnostic::is_error), "{:?}", found.diagnostics);
    assert!(found.plans[0].not_yet.is_empty(), "{:?}", found.plans[0].not_yet);
    assert_eq!(sink_of(&found).settings.texts("bucket_by"), ["id", "code"]);
    // Elsewhere the order is checked and not carried out, and `run` refuses it.
    let (found, _) = planned("delta", "sort_by = [id]");
    assert_eq!(found.plans[0].not_yet.len(), 1);
}

#[test]
fn a_truncated_column_is_a_partition_of_the_same_type() {
    let (found, _) = planned("delta", "partition_by = [truncate(code, 3), truncate(id, 1000), year(at)]");
    assert!(!found.diagnostics.iter().any(Diagnostic::is_error), "{:?}", found.diagnostics);
    let sink = sink_of(&found);
    let parts: Vec<_> = sink.layout.iter().map(|part| (part.name.as_str(), part.transform)).collect();
    let expected = [
        ("code_truncate", LayoutTransform::Truncate(3)),
        ("id_truncate", LayoutTransform::Truncate(1000)),
        ("at_year", LayoutTransform::Year),
    ];
    assert_eq!(parts, expected);
    for (name, source) in [("code_truncate", "code"), ("id_truncate", "id")] {
        let field = |name: &str| sink.schema.field_with_name(name).unwrap().data_type().clone();
        assert_eq!(field(name), field(source));
    }
}
