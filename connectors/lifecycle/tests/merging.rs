//! Laws of putting our rules beside those of others.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod policy;

use lakehead_core::{Lifecycle, StorageClass};
use lakehead_lifecycle::{Location, S3Rules, emit_json, merge};
use policy::{DAY, move_to, orders, rules};
use serde_json::{Value, json};

fn rules_of(json: &str) -> Vec<Value> {
    serde_json::from_str::<Value>(json).unwrap()["Rules"].as_array().unwrap().clone()
}

/// Rules of people, and of another pipeline whose name begins like ours.
fn foreign() -> Vec<Value> {
    vec![
        json!({ "ID": "tmp", "Prefix": "tmp/", "Status": "Enabled", "Expiration": { "Days": 1 } }),
        json!({ "Status": "Disabled", "Filter": {}, "Expiration": { "Date": "2030-01-01T00:00:00+00:00" } }),
        json!({ "ID": "lakehead:shop2:t:1", "Status": "Enabled", "Filter": { "Prefix": "t/" },
            "Transitions": [{ "Days": 1e2, "StorageClass": "NEW_CLASS" }], 
            "Unheard": [1.50, 12345678901234567890123_u128] }),
        json!({ "ID": "lakehead:", "Status": "Enabled", "Filter": { "Prefix": "z/" }, "Expiration": { "Days": 9 } }),
    ]
}

fn existing(rules: &[Value]) -> String {
    json!({ "TransitionDefaultMinimumObjectSize": "varies_by_storage_class", "Rules": rules }).to_string()
}

#[test]
fn in_an_empty_bucket_a_merge_is_what_is_emitted() {
    for nothing in ["", " \n", "{}", "{\"Rules\": []}"] {
        let merged = merge(nothing, &rules()).unwrap();
        assert_eq!(merged.json, emit_json(&rules()), "{nothing:?}");
        assert_eq!((merged.count, merged.foreign_count, merged.added.len()), (4, 0, 4));
    }
}

#[test]
fn rules_of_others_keep_their_values_and_their_order() {
    let merged = merge(&existing(&foreign()), &rules()).unwrap();
    let written = rules_of(&merged.json);
    assert_eq!(written[..4], foreign());
    // As texts too: numbers are not read and written anew.
    let texts = |rules: &[Value]| rules.iter().map(Value::to_string).collect::<Vec<_>>();
    assert_eq!(texts(&written[..4]), texts(&foreign()));
    assert_eq!((merged.count, merged.foreign_count), (8, 4));
    assert_eq!(merged.minimum_object_size.as_deref(), Some("varies_by_storage_class"));
}

#[test]
fn merging_twice_is_merging_once() {
    for start in [String::new(), existing(&foreign())] {
        let once = merge(&start, &rules()).unwrap();
        let twice = merge(&once.json, &rules()).unwrap();
        assert_eq!(twice.json, once.json);
        assert!(twice.added.is_empty() && twice.changed.is_empty() && twice.removed.is_empty(), "{twice:?}");
    }
}

#[test]
fn our_rules_are_replaced_where_they_stood_and_taken_away_when_they_are_gone() {
    let mut start = foreign();
    let old = |table: &str| {
        json!({ "ID": format!("lakehead:shop:{table}:1"), "Status": "Enabled", "Filter": { "Prefix": "old/" },
            "AbortIncompleteMultipartUpload": { "DaysAfterInitiation": 3 } })
    };
    start.insert(1, old("shop.orders"));
    start.insert(3, old("shop.gone"));
    let merged = merge(&existing(&start), &rules()).unwrap();
    let written = rules_of(&merged.json);
    let ids: Vec<_> = written.iter().map(|rule| rule["ID"].as_str().unwrap_or("-")).collect();
    let expected = [
        "tmp",
        "lakehead:shop:shop.orders:1",
        "lakehead:shop:shop.orders:2",
        "lakehead:shop:logs.compacted:1",
        "lakehead:shop:logs.compacted:2",
        "-",
        "lakehead:shop2:t:1",
        "lakehead:",
    ];
    assert_eq!(ids, expected);
    assert_eq!(merged.changed, ["lakehead:shop:shop.orders:1"]);
    assert_eq!(merged.removed, ["lakehead:shop:shop.gone:1"]);
    assert_eq!(merged.added.len(), 3);
    let none = merge(&merged.json, &S3Rules::new("shop", "acme-lake").unwrap()).unwrap();
    assert_eq!(rules_of(&none.json), foreign());
    assert_eq!(none.removed.len(), 4);
}

#[test]
fn two_pipelines_of_a_bucket_leave_each_other_alone() {
    let mut other = S3Rules::new("shop2", "acme-lake").unwrap();
    other.add("t", &Location::parse("s3://acme-lake/t").unwrap(), &orders()).unwrap();
    let both = merge(&merge("", &rules()).unwrap().json, &other).unwrap();
    assert_eq!((both.count, both.foreign_count), (6, 4));
    assert_eq!(merge(&both.json, &rules()).unwrap().json, both.json);
}

#[test]
fn a_bucket_takes_a_thousand_rules_and_not_one_more() {
    let rule = |number: usize| json!({ "ID": format!("r{number}"), "Status": "Enabled", "Prefix": "x/" });
    let many: Vec<_> = (0..996).map(rule).collect();
    assert_eq!(merge(&existing(&many), &rules()).unwrap().count, 1000);
    let many: Vec<_> = (0..997).map(rule).collect();
    assert_eq!(merge(&existing(&many), &rules()).unwrap_err().code(), "R0557");
}

#[test]
fn what_is_not_understood_is_not_overwritten() {
    for text in [
        "{",
        "[]",
        "null",
        "7",
        "{\"Rules\": {}}",
        "{\"Rules\": [1]}",
        "{\"Rule\": []}",
        "{\"TransitionDefaultMinimumObjectSize\": 1}",
    ] {
        assert_eq!(merge(text, &rules()).unwrap_err().code(), "R0556", "{text}");
    }
    assert!(merge("{\"ResponseMetadata\": {}, \"Rules\": []}", &rules()).is_ok());
}

#[test]
fn rules_of_others_that_would_break_a_table_are_told() {
    let enabled = |id: &str, filter: Value| json!({ "ID": id, "Status": "Enabled", "Filter": filter, "Expiration": { "Days": 30 } });
    let cold = json!({ "ID": "cold", "Status": "Enabled", 
        "Filter": { "And": { "Prefix": "tables/", "ObjectSizeGreaterThan": 9 } },
        "Transitions": [{ "Days": 9, "StorageClass": "DEEP_ARCHIVE" }] });
    let markers = json!({ "ID": "markers", "Status": "Enabled", "Filter": {},
        "Expiration": { "ExpiredObjectDeleteMarker": true } });
    let start = vec![
        enabled("all", json!({})),
        enabled("inside", json!({ "Prefix": "raw/logs/compacted/_delta_log/" })),
        enabled("elsewhere", json!({ "Prefix": "raw/other/" })),
        enabled("tagged", json!({ "Tag": { "Key": "a", "Value": "b" } })),
        cold,
        markers,
    ];
    let merged = merge(&existing(&start), &rules()).unwrap();
    let expected = [
        "the rule `all` deletes live files in tables/shop/orders/",
        "the rule `inside` deletes live files in raw/logs/compacted/",
        "the rule `cold` archives live files in tables/shop/orders/",
    ];
    assert_eq!(merged.warnings, expected);
}

/// S3 as moto plays it: what it does not take as a configuration it refuses, and what it took it shows again.
#[test]
fn a_bucket_takes_the_rules_and_shows_them_again() {
    let Some(python) = std::env::var_os("LAKEHEAD_READERS") else { return };
    let short = Lifecycle {
        name: "short".into(),
        transitions: vec![move_to(StorageClass::Infrequent, 30)],
        vacuum_after: Some(DAY),
        ..Lifecycle::default()
    };
    let mut other = S3Rules::new("other", "acme-lake").unwrap();
    other.add("t", &Location::parse("s3://acme-lake/t").unwrap(), &short).unwrap();
    let merged = merge(&emit_json(&other), &rules()).unwrap();
    let script = "import boto3, json, moto, sys\n\
         with moto.mock_aws():\n    \
         s3 = boto3.client('s3', region_name='us-east-1', aws_access_key_id='k', aws_secret_access_key='s')\n    \
         s3.create_bucket(Bucket='acme-lake')\n    \
         given = json.loads(sys.argv[1])\n    \
         s3.put_bucket_lifecycle_configuration(Bucket='acme-lake', LifecycleConfiguration=given)\n    \
         print(json.dumps(s3.get_bucket_lifecycle_configuration(Bucket='acme-lake'), default=str))\n";
    let output = std::process::Command::new(python).args(["-c", script, &merged.json]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown = String::from_utf8(output.stdout).unwrap();
    // moto forgets the size of an `And`, which boto3 has checked against the model of the API before it was sent.
    let mut sent = rules_of(&merged.json);
    let mut sizes = 0;
    for rule in &mut sent {
        let and = rule["Filter"].get_mut("And").and_then(Value::as_object_mut);
        sizes += and.map_or(0, |and| usize::from(and.remove("ObjectSizeGreaterThan").is_some()));
    }
    assert_eq!((sizes, rules_of(&shown)), (3, sent));
    // What a bucket shows is what the next merge reads: it puts back what was lost, and nothing else has changed.
    let again = merge(&shown, &rules()).unwrap();
    assert_eq!(again.changed, ["lakehead:shop:shop.orders:1", "lakehead:shop:logs.compacted:1"]);
    assert!(again.added.is_empty() && again.removed.is_empty(), "{again:?}");
}
