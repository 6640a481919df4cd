//! House rules that no lint knows.

use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 600;

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for group in ["dsl", "runtime", "connectors"] {
        collect(&super::lakehead::root().join(group), &mut found);
    }
    assert!(found.len() > 50, "the tidy test sees only {} files", found.len());
    found
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Lines before the tests of a file.
fn code_lines(text: &str) -> usize {
    text.split("#[cfg(test)]").next().unwrap().lines().count()
}

#[test]
fn no_file_is_longer_than_a_reader_can_hold() {
    let long: Vec<String> = sources()
        .iter()
        .filter(|path| !path.components().any(|part| part.as_os_str() == "tests"))
        .map(|path| (path, code_lines(&std::fs::read_to_string(path).unwrap())))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(path, lines)| format!("{} has {lines} lines", path.display()))
        .collect();
    assert_eq!(long, Vec::<String>::new());
}

#[test]
fn there_are_no_drawers() {
    let drawers = ["utils", "util", "common", "types", "helpers", "manager", "misc"];
    let found: Vec<String> = sources()
        .iter()
        .filter(|path| path.file_stem().is_some_and(|stem| drawers.contains(&stem.to_string_lossy().as_ref())))
        .map(|path| path.display().to_string())
        .collect();
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn features_are_chosen_in_the_registry_alone() {
    let found: Vec<String> = sources()
        .iter()
        .filter(|path| !path.ends_with("connectors/registry/src/lib.rs"))
        .filter(|path| std::fs::read_to_string(path).unwrap().contains("cfg(feature"))
        .map(|path| path.display().to_string())
        .collect();
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn the_engine_names_no_connector() {
    for path in sources().iter().filter(|path| path.components().any(|part| part.as_os_str() == "engine")) {
        let text = std::fs::read_to_string(path).unwrap();
        for name in ["\"delta\"", "\"postgres\"", "\"parquet\"", "\"files\"", "\"generate\""] {
            assert!(!text.contains(name), "{} names {name}", path.display());
        }
    }
}
