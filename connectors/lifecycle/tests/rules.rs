//! The rules of a bucket as text, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod policy;

use std::time::Duration;

use lakehead_core::{Lifecycle, StorageClass};
use lakehead_lifecycle::{Location, S3Rules, S3Step, emit_json, emit_terraform};
use policy::{DAY, move_to, orders, rules};

/// Compares with a file beside this one; LAKEHEAD_GOLDEN=write writes it anew.
fn golden(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("LAKEHEAD_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{name}");
}

#[test]
fn the_rules_of_a_pipeline_are_these_texts() {
    golden("orders.json", &emit_json(&rules()));
    golden("orders.tf", &emit_terraform(&rules()));
}

#[test]
fn no_rule_deletes_and_every_move_asks_for_the_tag_and_the_size() {
    let written: serde_json::Value = serde_json::from_str(&emit_json(&rules())).unwrap();
    for rule in written["Rules"].as_array().unwrap() {
        assert!(rule.get("Expiration").is_none() && rule.get("NoncurrentVersionExpiration").is_none(), "{rule}");
        if rule.get("Transitions").is_some() {
            let and = &rule["Filter"]["And"];
            assert!(and["Prefix"].as_str().unwrap().ends_with('/'), "{rule}");
            assert_eq!(and["Tags"][0]["Key"], "lakehead-tier", "{rule}");
            assert_eq!(and["ObjectSizeGreaterThan"], 131_072, "{rule}");
        }
    }
}

#[test]
fn what_is_not_done_by_rules_is_said_with_who_does_it() {
    let expected = [
        "shop.orders: only files with the tag lakehead-tier=order_retention move, so that the log never does",
        "shop.orders: rows expire after 2555 days by the table's owner, with a delete and a vacuum; no rule of the bucket \
         deletes live files",
        "shop.orders: vacuum after 14 days is the table owner's",
        "shop.orders: the copy in `dr_bucket` is not made by these rules",
    ];
    assert_eq!(rules().notes()[..4], expected);
}

#[test]
fn a_table_without_moves_has_its_uploads_aborted_only() {
    let swept = Lifecycle { name: "swept".into(), vacuum_after: Some(DAY * 7), ..Lifecycle::default() };
    let mut rules = S3Rules::new("p", "lake").unwrap();
    rules.add("t", &Location::parse("s3://lake/t").unwrap(), &swept).unwrap();
    let steps: Vec<_> = rules.rules().iter().map(|rule| (rule.id.as_str(), &rule.step)).collect();
    assert_eq!(steps, [("lakehead:p:t:1", &S3Step::Abort)]);
}

#[test]
fn names_that_would_end_a_text_of_terraform_do_not() {
    let mut rules = S3Rules::new("a\"b", "lake").unwrap();
    let at = Location::parse("s3://lake/\"\\t").unwrap();
    rules.add("%{if}${t}", &at, &orders()).unwrap();
    let text = emit_terraform(&rules);
    assert!(text.contains("\"lakehead_a_b\" {"), "{text}");
    assert!(text.contains(r#"id     = "lakehead:a\"b:%%{if}$${t}:1""#), "{text}");
    assert!(text.contains(r#"prefix                   = "\"\\t/""#), "{text}");
}

#[test]
fn a_step_that_would_break_the_table_or_that_s3_refuses_is_refused_and_adds_nothing() {
    let archive = move_to(StorageClass::Archive, 365);
    let infrequent = |days| move_to(StorageClass::Infrequent, days);
    let instant = |days| move_to(StorageClass::ArchiveInstant, days);
    let mut hours = infrequent(30);
    hours.after += Duration::from_secs(3600);
    for transitions in [
        vec![archive],
        vec![infrequent(29)],
        vec![instant(0)],
        vec![hours],
        vec![instant(u64::from(u32::MAX))],
        vec![instant(30), infrequent(60)],
        vec![infrequent(60), instant(60)],
    ] {
        let mut rules = S3Rules::new("p", "lake").unwrap();
        let lifecycle = Lifecycle { name: "kept".into(), transitions, ..Lifecycle::default() };
        let error = rules.add("t", &Location::parse("s3://lake/t").unwrap(), &lifecycle).unwrap_err();
        assert_eq!(error.code(), "R0554", "{lifecycle:?}");
        assert!(rules.rules().is_empty() && rules.notes().is_empty());
    }
}

#[test]
fn names_and_buckets_that_do_not_fit_are_refused() {
    assert_eq!(S3Rules::new("a:b", "lake").unwrap_err().code(), "R0555");
    assert_eq!(S3Rules::new("", "lake").unwrap_err().code(), "R0555");
    let mut rules = S3Rules::new("p", "lake").unwrap();
    let here = Location::parse("s3://lake/t").unwrap();
    let there = Location::parse("s3://other/t").unwrap();
    assert_eq!(rules.add(&"t".repeat(300), &here, &orders()).unwrap_err().code(), "R0555");
    assert_eq!(rules.add("t", &here, &Lifecycle { name: "a&b".into(), ..orders() }).unwrap_err().code(), "R0555");
    assert_eq!(rules.add("t", &there, &orders()).unwrap_err().code(), "R0558");
    rules.add("t", &here, &orders()).unwrap();
    assert_eq!(rules.add("t", &here, &orders()).unwrap_err().code(), "R0554");
    assert_eq!(rules.rules().len(), 2);
}

#[test]
fn a_pipeline_has_no_more_rules_than_a_bucket_can() {
    let mut rules = S3Rules::new("p", "lake").unwrap();
    for table in 0..500 {
        rules.add(&format!("t{table}"), &Location::parse(&format!("s3://lake/t{table}")).unwrap(), &orders()).unwrap();
    }
    let error = rules.add("t500", &Location::parse("s3://lake/t500").unwrap(), &orders()).unwrap_err();
    assert_eq!(error.code(), "R0557");
    assert_eq!(rules.rules().len(), 1000);
}
