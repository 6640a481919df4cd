//! Which crate may depend on which.

use std::collections::BTreeMap;

use cargo_metadata::{DependencyKind, MetadataCommand};

const CONNECTORS: [&str; 6] = ["console", "delta", "files", "generate", "parquet", "postgres"];

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
        ("lakefile", vec!["core"]),
        ("keyindex", vec!["core"]),
        ("memory", vec!["core"]),
        ("conformance", vec!["core"]),
        ("registry", [&["core"], CONNECTORS.as_slice()].concat()),
    ]);
    for connector in ["console", "generate", "postgres"] {
        allowed.insert(connector, vec!["core"]);
    }
    for lake in ["files", "parquet"] {
        allowed.insert(lake, vec!["core", "lakefile"]);
    }
    allowed.insert("delta", vec!["core", "keyindex", "lakefile"]);
    allowed
}

#[test]
fn no_crate_uses_another_than_the_architecture_says() {
    let metadata =
        MetadataCommand::new().manifest_path(super::lakehead::root().join("Cargo.toml")).no_deps().exec().unwrap();
    let allowed = allowed();
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let name = package.name.trim_start_matches("lakehead-");
        if matches!(name, "cli" | "tests") {
            continue;
        }
        let may = allowed.get(name).unwrap_or_else(|| panic!("say in arrows.rs what `{name}` may use"));
        for dependency in package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal) {
            if let Some(used) = dependency.name.strip_prefix("lakehead-")
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
