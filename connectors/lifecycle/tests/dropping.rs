//! A store that keeps a part of each rule.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "shared with tests that need more of it")]
mod policy;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use lakehead_core::{ManualClock, Result, Settings};
use lakehead_lakefile::{Answer, SignedCalls, StoreKind, offer_stores};
use lakehead_lifecycle::{BucketRules, merge};
use policy::rules;
use url::Url;

const THEIRS: &str = r#"{"Rules":[{"ID":"tmp","Prefix":"tmp/","Status":"Enabled","Expiration":{"Days":1}}]}"#;

/// What the store has, and whether it refuses whatever follows the next write.
static RULES: Mutex<String> = Mutex::new(String::new());
static REFUSES: AtomicBool = AtomicBool::new(false);

/// Drops the tags of rules.
#[derive(Debug)]
struct WithoutTags;

#[async_trait]
impl SignedCalls for WithoutTags {
    fn bucket(&self) -> &str {
        "acme-lake"
    }

    async fn call(&self, method: &str, target: &str, _: &[(&'static str, String)], body: &str) -> Result<Answer> {
        assert_eq!(target, "?lifecycle");
        let answer = |status, body: &str| Ok(Answer { status, headers: Vec::new(), body: body.to_owned() });
        let mut rules = RULES.lock().unwrap();
        match method {
            "GET" if rules.is_empty() => answer(404, "<Error><Code>NoSuchLifecycleConfiguration</Code></Error>"),
            "GET" => answer(200, &rules),
            // The bucket has our rules, and is asked to take others.
            _ if REFUSES.load(Ordering::Relaxed) && rules.contains("lakehead:") => {
                answer(503, "<Error><Code>SlowDown</Code></Error>")
            }
            _ => {
                let mut parts = body.split("<Tag>");
                *rules = parts.next().unwrap_or("").to_owned();
                parts.for_each(|part| *rules += part.split_once("</Tag>").unwrap().1);
                answer(200, "")
            }
        }
    }
}

#[tokio::test]
async fn a_store_that_drops_tags_gets_its_old_rules_back_or_it_is_said_that_it_did_not() {
    offer_stores(&[StoreKind {
        name: "s3",
        open: |_: &Url, _: &Settings| unreachable!("no object is read"),
        signed: Some(|_, _| Ok(Arc::new(WithoutTags))),
    }]);
    let open =
        || BucketRules::open("s3://acme-lake/tables", &Settings::default(), Arc::new(ManualClock::at(0))).unwrap();
    for (refuses, left) in [(false, false), (true, true)] {
        REFUSES.store(refuses, Ordering::Relaxed);
        for seen in ["", THEIRS] {
            RULES.lock().unwrap().clear();
            let bucket = open();
            if !seen.is_empty() {
                let merged = merge(seen, &lakehead_lifecycle::S3Rules::new("none", "acme-lake").unwrap()).unwrap();
                bucket.write("", &merged, &rules()).await.unwrap();
            }
            let merged = merge(seen, &rules()).unwrap();
            let error = bucket.write(seen, &merged, &rules()).await.unwrap_err();
            assert_eq!(error.code(), "R0563");
            let helps = error.helps().join("\n");
            assert_eq!(helps.contains("were put back"), !refuses, "{helps}");
            assert_eq!(helps.contains("take away those"), refuses, "{helps}");
            let now = bucket.read().await.unwrap();
            assert_eq!(now.contains("lakehead:"), left, "{now}");
            assert_eq!(now.contains("tmp/"), !seen.is_empty(), "{now}");
        }
    }
}
