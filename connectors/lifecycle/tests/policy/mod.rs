//! The lifecycles of the language's example.

use std::time::Duration;

use lakehead_core::{Lifecycle, Replica, StorageClass, Transition};
use lakehead_lifecycle::{Location, S3Rules};

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// A move after that many days, readable or not.
pub(crate) fn move_to(class: StorageClass, days: u64) -> Transition {
    let after = Duration::from_secs(days * 86_400);
    Transition { class, after, unreadable_allowed: false }
}

/// Seven years, a copy, old versions swept.
pub(crate) fn orders() -> Lifecycle {
    Lifecycle {
        name: "order_retention".into(),
        transitions: vec![move_to(StorageClass::Infrequent, 90)],
        expire_after: Some(DAY * 2555),
        vacuum_after: Some(DAY * 14),
        replicas: vec![Replica { connection: "dr_bucket".into(), deletes: false }],
    }
}

/// Colder by age.
fn logs() -> Lifecycle {
    let archive = Transition { unreadable_allowed: true, ..move_to(StorageClass::Archive, 365) };
    Lifecycle {
        name: "log_retention".into(),
        transitions: vec![move_to(StorageClass::Infrequent, 30), move_to(StorageClass::ArchiveInstant, 90), archive],
        expire_after: Some(DAY * 730),
        ..Lifecycle::default()
    }
}

/// The rules of a pipeline with two tables.
pub(crate) fn rules() -> S3Rules {
    let mut rules = S3Rules::new("shop", "acme-lake").unwrap();
    let at = |folder: &str| Location::parse(&format!("s3://acme-lake/{folder}")).unwrap();
    rules.add("shop.orders", &at("tables/shop/orders"), &orders()).unwrap();
    rules.add("logs.compacted", &at("raw/logs/compacted"), &logs()).unwrap();
    rules
}
