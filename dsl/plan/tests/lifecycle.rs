//! What a check says of `lifecycle` definitions and of sinks that name one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod offline;

use std::time::Duration;

use lakehead_core::{
    Connector, Expiry, Lifecycle, PartitionTime, Replica, Retention, StorageClass, TimeColumn, Transition,
};
use lakehead_plan::Planned;
use lakehead_syntax::Diagnostic;
use offline::{keeping, lake, sink_of};

static TABLES: Connector = lake("tables", &[]);
/// Carries out what a lifecycle asks of the writer.
static KEEPING: Connector = keeping("tables");

const DAY: Duration = Duration::from_secs(86_400);

/// Plans one sink under these rules, in a bucket.
fn planned(rules: &str, settings: &str) -> (Planned, String) {
    let text = project(rules, settings);
    (offline::planned(&text, &[&TABLES]), text)
}

fn project(rules: &str, settings: &str) -> String {
    format!(
        "connection lake tables {{ path = \"s3://b/t\" }}\nconnection disk tables {{ path = \"lake\" }}\nconnection feed rows {{ }}\n\nlifecycle kept {{\n  \
         {rules}\n}}\n\npipeline p {{\n  source a = rows {{ columns = {{ id = bigint, code = varchar, at = timestamp, \
         day = date }} }}\n  sink {settings}\n}}\n"
    )
}

/// A sink that every lifecycle suits.
const DAILY: &str = "lake { table = \"t\", partition_by = [day], lifecycle = kept }";

#[test]
fn a_lifecycle_that_would_lose_hide_or_not_work_is_refused_with_place_and_cure() {
    let by_code = "lake { table = \"t\", partition_by = [code], lifecycle = kept }";
    let by_hour = "lake { table = \"t\", partition_by = [hour(at)], lifecycle = kept }";
    let flat = "lake { table = \"t\", lifecycle = kept }";
    let missing = "lake { table = \"t\", lifecycle = keptt }";
    for (rules, sink, code, place, part) in [
        ("transition to infrequnt after 30d", DAILY, "E0219", "infrequnt", "did you mean `infrequent`?"),
        ("transition to cold after 30d", DAILY, "E0219", "cold", "there are: infrequent, archive_instant, archive"),
        ("expire after 1y\n  expire after 2y", DAILY, "E0609", "expire after 2y", "leave one of them out"),
        ("vacuum after 7d\n  vacuum after 8d", DAILY, "E0609", "vacuum after 8d", "leave one of them out"),
        (
            "transition to infrequent after 30d\n  transition to infrequent after 60d",
            DAILY,
            "E0609",
            "transition to infrequent after 60d",
            "leave one of them out",
        ),
        ("replicate to disk\n  replicate to disk", DAILY, "E0609", "replicate to disk", "leave one of them out"),
        ("replicate to disc", DAILY, "E0201", "disc", "did you mean `disk`?"),
        ("replicate to disk { deletes = false }", DAILY, "E0208", "deletes", "did you mean `delete`?"),
        (
            "transition to infrequent after 90d\n  transition to archive_instant after 90d",
            DAILY,
            "E0610",
            "transition to archive_instant after 90d",
            "transition to archive_instant after 120d",
        ),
        (
            "transition to archive_instant after 30d\n  transition to infrequent after 90d",
            DAILY,
            "E0610",
            "transition to infrequent after 90d",
            "in this order: infrequent, archive_instant, archive",
        ),
        (
            "transition to infrequent after 90d\n  expire after 90d",
            DAILY,
            "E0610",
            "expire after 90d",
            "expire after 455d",
        ),
        ("transition to infrequent after 36h", DAILY, "E0611", "36h", "after 30d"),
        ("expire after 0d", DAILY, "E0611", "0d", "after 30d"),
        ("vacuum after 99999999999999999999y", DAILY, "E0106", "99999999999999999999y", ""),
        ("transition to archive after 1y", DAILY, "E0612", "transition to archive after 1y", "{ unreadable = allow }"),
        ("transition to archive after 1y { unreadable = yes }", DAILY, "E0210", "yes", "unreadable = allow"),
        ("expire after 2y", flat, "E0613", "kept", "partition_by = [day(at)]"),
        ("transition to infrequent after 30d", by_code, "E0613", "[code]", "partition_by = [code, day(at)]"),
        ("expire after 2y", by_hour, "E0613", "[hour(at)]", "partition_by = [day(at)]"),
        ("transition to infrequent after 29d", DAILY, "E0614", "transition to infrequent after 29d", "after 30d"),
        ("replicate to lake", DAILY, "E0616", "replicate to lake", "another `path`"),
        ("replicate to feed", DAILY, "E0615", "replicate to feed", "connection feed tables {"),
        ("replicate to rows", DAILY, "E0201", "rows", "there are: disk, feed, lake"),
        ("vacuum after 7d", missing, "E0218", "keptt", "did you mean `kept`?"),
    ] {
        let (planned, text) = planned(rules, sink);
        let errors: Vec<_> = planned.diagnostics.iter().filter(|found| found.is_error()).collect();
        // A setting that could not be read leaves its rule as if it were not there.
        let found = errors.iter().find(|found| found.code == code).unwrap_or_else(|| panic!("{rules}: {errors:#?}"));
        assert!(errors.len() == 1 || code == "E0210", "{rules}: {errors:#?}");
        let label = found.place().unwrap();
        assert_eq!(&text[label.span.range()], place, "{rules}: {errors:#?}");
        assert!(format!("{found:?}").contains(part), "{rules}: {found:#?}");
    }
}

#[test]
fn a_class_left_too_soon_is_told_and_not_refused() {
    for (rules, places) in [
        ("transition to infrequent after 30d\n  transition to archive_instant after 60d\n  expire after 150d", vec![]),
        (
            "transition to infrequent after 30d\n  transition to archive_instant after 59d\n  expire after 100d",
            vec!["transition to archive_instant after 59d", "expire after 100d"],
        ),
        ("transition to archive after 90d { unreadable = allow }\n  expire after 100d", vec!["expire after 100d"]),
    ] {
        let (planned, text) = planned(rules, DAILY);
        assert!(!planned.diagnostics.iter().any(Diagnostic::is_error), "{rules}: {:#?}", planned.diagnostics);
        let told = planned.diagnostics.iter().filter(|found| found.code == "W0609");
        let told: Vec<_> = told.map(|found| &text[found.place().unwrap().span.range()]).collect();
        assert_eq!(told, places, "{rules}");
    }
}

#[test]
fn what_is_only_refused_by_s3_is_free_elsewhere() {
    let rules = "transition to infrequent after 7d\n  transition to archive_instant after 14d";
    let (planned, _) = planned(rules, "disk { table = \"t\", partition_by = [day], lifecycle = kept }");
    assert!(!planned.diagnostics.iter().any(|found| ["E0614", "W0609"].contains(&found.code)));
    assert_eq!(planned.plans.len(), 1);
}

#[test]
fn partitions_of_which_the_age_is_known_are_taken() {
    for layout in ["[day]", "[at]", "[year(at)]", "[month(at)]", "[day(at), hour(at)]", "[code, day(day)]"] {
        let sink = format!("lake {{ table = \"t\", partition_by = {layout}, lifecycle = kept }}");
        let (planned, _) = planned("transition to infrequent after 30d\n  expire after 2y", &sink);
        assert!(!planned.diagnostics.iter().any(Diagnostic::is_error), "{layout}: {:#?}", planned.diagnostics);
    }
    let (swept, _) = planned("vacuum after 14d", "lake { table = \"t\", lifecycle = kept }");
    assert!(!swept.diagnostics.iter().any(Diagnostic::is_error), "{:#?}", swept.diagnostics);
}

#[test]
fn a_sink_carries_its_lifecycle_by_value() {
    let (found, _) = planned(
        "transition to infrequent after 30d\n  transition to archive after 1y { unreadable = allow }\n  expire after 2y\n  \
         vacuum after 14d\n  replicate to disk { delete = false }",
        DAILY,
    );
    assert!(!found.diagnostics.iter().any(Diagnostic::is_error), "{:#?}", found.diagnostics);
    let transition = |class, days, unreadable_allowed| Transition { class, after: DAY * days, unreadable_allowed };
    let expected = Lifecycle {
        name: "kept".into(),
        transitions: vec![
            transition(StorageClass::Infrequent, 30, false),
            transition(StorageClass::Archive, 365, true),
        ],
        expire_after: Some(DAY * 730),
        vacuum_after: Some(DAY * 14),
        replicas: vec![Replica { connection: "disk".into(), deletes: false }],
    };
    assert_eq!(sink_of(&found).lifecycle, Some(Box::new(expected)));
    // What nobody carries out yet is refused by `run`, each by its name.
    let not_yet: Vec<&str> = found.plans[0].not_yet.iter().map(|(rule, _)| rule.as_str()).collect();
    let rules = ["expire", "vacuum", "replicate"].map(|rule| format!("{rule} of lifecycle kept"));
    assert_eq!(not_yet[1..], rules, "the first: this lake knows no lifecycles at all");
    let (without, _) = planned("expire after 2y", "lake { table = \"t\" }");
    assert_eq!(sink_of(&without).lifecycle, None);
}

/// Whoever can keep a table's rows and files for so long does; nobody takes out versions that stand.
#[test]
fn what_is_carried_out_is_not_refused() {
    const RULES: &str = "expire after 2y\n  vacuum after 14d";
    for (connector, sink, expected) in [
        (&KEEPING, "lake { table = \"t\", partition_by = [day(at), hour(at)], lifecycle = kept }", vec![]),
        (&TABLES, DAILY, vec!["expire of lifecycle kept", "vacuum of lifecycle kept"]),
        (
            &KEEPING,
            "lake { table = \"t\", mode = scd2, key = [id], sequence_by = at, partition_by = [day], lifecycle = kept }",
            vec!["expire of lifecycle kept"],
        ),
    ] {
        let text = project(RULES, sink);
        let planned = offline::planned(&text, &[connector]);
        assert_eq!(planned.plans.len(), 1, "{sink}: {:#?}", planned.diagnostics);
        let rules = planned.plans[0].not_yet.iter().map(|(rule, _)| rule.as_str());
        let rules: Vec<_> = rules.filter(|rule| rule.contains("lifecycle kept")).collect();
        assert_eq!(rules, expected, "{sink}: {:#?}", planned.diagnostics);
    }
    let text = project(RULES, "lake { table = \"t\", partition_by = [code, day(at), hour(at)], lifecycle = kept }");
    let planned = offline::planned(&text, &[&KEEPING]);
    let column = |name: &str, tells| TimeColumn { name: name.into(), source: "at".into(), tells };
    let by = vec![column("at_day", PartitionTime::Day), column("at_hour", PartitionTime::Hour)];
    let (expiry, vacuum_after) = (Some(Expiry { after: DAY * 730, by }), Some(DAY * 14));
    let expected = Retention { expiry, vacuum_after, ..Retention::default() };
    assert_eq!(sink_of(&planned).retention(), expected);
}

/// A table that is only compacted is laid out as it is: its partitions tell their age when it is opened.
#[test]
fn what_is_only_compacted_moves_by_the_partitions_that_it_has() {
    let refused = "transition outside s3:// and without `cold` of lifecycle kept";
    for (cold, expected) in [(", cold = \"slow\"", vec![]), ("", vec![refused])] {
        let text = format!(
            "connection lake tables {{ path = \"lake\"{cold} }}\n\nlifecycle kept {{ transition to archive_instant after 90d \
             }}\n\npipeline p {{\n  source a = lake {{ table = \"t\", columns = {{ id = bigint, day = varchar }} }}\n  sink \
             lake {{ table = \"t\", mode = compact, lifecycle = kept }}\n}}\n"
        );
        let planned = offline::planned(&text, &[&KEEPING]);
        assert!(!planned.diagnostics.iter().any(Diagnostic::is_error), "{:#?}", planned.diagnostics);
        let rules = planned.plans[0].not_yet.iter().map(|(rule, _)| rule.as_str());
        assert_eq!(rules.filter(|rule| rule.contains("lifecycle kept")).collect::<Vec<_>>(), expected, "{cold}");
        let retention = sink_of(&planned).retention();
        assert!(retention.moves.len() == 1 && !retention.tells_age(), "{retention:?}");
    }
}

#[test]
fn files_are_kept_a_day_at_least_and_that_is_told() {
    for (rule, told) in [("vacuum after 23h", 1), ("vacuum after 1d", 0), ("vacuum after 36h", 0)] {
        let planned = offline::planned(&project(rule, DAILY), &[&KEEPING]);
        assert_eq!(planned.diagnostics.iter().filter(|found| found.code == "W0610").count(), told, "{rule}");
        assert!(!planned.diagnostics.iter().any(Diagnostic::is_error), "{:#?}", planned.diagnostics);
    }
}

/// Those of `10_lifecycle.lake`, on the sinks of that file and of `05_log_compactor.lake`.
#[test]
fn the_lifecycles_of_the_language_s_examples_say_nothing_wrong() {
    let logs = "transition to infrequent      after 30d\n  transition to archive_instant after 90d\n  transition to archive         \
                after 1y { unreadable = allow }\n  expire after 2y";
    let orders = "transition to infrequent after 90d\n  expire after 7y\n  vacuum after 14d\n  replicate to disk { delete = false }";
    let compacted = "lake { table = \"t\", partition_by = [day(at), hour(at)], lifecycle = kept }";
    let upkeep = "lake { table = \"t\", mode = compact, lifecycle = kept }";
    for (rules, sink) in [(logs, compacted), (orders, upkeep)] {
        let (planned, _) = planned(rules, sink);
        // What is compacted here is not the table that is read: that is told, and nothing of its lifecycle.
        let others = planned.diagnostics.iter().filter(|found| !["W0901", "E0521"].contains(&found.code));
        assert_eq!(others.count(), 0, "{:#?}", planned.diagnostics);
    }
}
