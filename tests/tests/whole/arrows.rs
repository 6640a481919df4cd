//! Which crate may depend on which.

use std::collections::BTreeMap;

use serde_json::Value;

const CONNECTORS: [&str; 6] = ["console", "delta", "files", "generate", "parquet", "postgres"];

const STORES: [&str; 4] = ["azure", "gcs", "http", "s3"];

/// What each crate may use of ours; `tests` and `cli` may use everything.
fn allowed() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut allowed = BTreeMap::from([
        ("syntax", vec![]),
        ("core", vec![]),
        ("plan", vec!["syntax", "core"]),
        ("sql", vec!["core", "plan", "syntax"]),
        ("state", vec!["core"]),
        ("engine", vec!["core", "plan", "sql", "state", "syntax"]),
        ("daemon", vec!["core", "plan", "state", "engine"]),
        ("buckets", vec!["core"]),
        ("catalog", vec!["core"]),
        ("lakefile", vec!["core", "orcfile"]),
        ("keyindex", vec!["core"]),
        ("lifecycle", vec!["core", "lakefile"]),
        ("memory", vec!["core"]),
        ("orcfile", vec!["core"]),
        ("conformance", vec!["core", "lakefile"]),
        ("registry", [&["core", "lakefile"], CONNECTORS.as_slice(), STORES.as_slice()].concat()),
    ]);
    for store in STORES {
        allowed.insert(store, vec!["core", "lakefile"]);
    }
    for connector in ["console", "generate", "postgres"] {
        allowed.insert(connector, vec!["core"]);
    }
    allowed.insert("files", vec!["core", "lakefile"]);
    allowed.insert("parquet", vec!["buckets", "core", "lakefile"]);
    allowed.insert("delta", vec!["core", "keyindex", "lakefile"]);
    allowed
}

#[test]
fn no_crate_uses_another_than_the_architecture_says() {
    // A crate that reads this would turn on features that the shipped binary does not have, and build it all twice.
    let metadata = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(super::lakehead::root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 15, "{} packages", packages.len());
    let allowed = allowed();
    let mut wrong = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap().trim_start_matches("lakehead-");
        if matches!(name, "cli" | "tests") {
            continue;
        }
        let may = allowed.get(name).unwrap_or_else(|| panic!("say in arrows.rs what `{name}` may use"));
        // A kind that is not said is the usual one: neither of tests nor of builds.
        for dependency in package["dependencies"].as_array().unwrap().iter().filter(|d| d["kind"].is_null()) {
            if let Some(used) = dependency["name"].as_str().unwrap().strip_prefix("lakehead-")
                && !may.contains(&used)
            {
                wrong.push(format!("{name} -> {used}"));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn there_is_one_arrow_one_datafusion_and_one_object_store() {
    let lock = std::fs::read_to_string(super::lakehead::root().join("Cargo.lock")).unwrap();
    for name in ["arrow", "arrow-array", "datafusion", "object_store", "parquet", "deltalake"] {
        let count = lock.matches(&format!("name = \"{name}\"\n")).count();
        assert_eq!(count, 1, "{count} versions of {name}");
    }
}
