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

/// What a connector is or can do is said by its roles. `init --from` alone asks a database that it knows.
#[test]
fn the_language_and_the_runtime_name_no_connector() {
    let declared = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        let names = text.lines().filter_map(|line| line.strip_prefix("    name: "));
        names.map(|name| name.trim_end_matches(',').to_owned()).collect::<Vec<_>>()
    };
    let is_connector = |path: &&PathBuf| {
        path.ends_with("src/lib.rs") && path.components().any(|part| part.as_os_str() == "connectors")
    };
    let names: Vec<String> = sources().iter().filter(is_connector).flat_map(declared).collect();
    assert!(names.len() >= 7, "{names:?}");
    let named: Vec<String> = sources()
        .iter()
        .filter(|path| {
            !path
                .components()
                .any(|part| ["connectors", "tests", "tests.rs"].iter().any(|other| part.as_os_str() == *other))
        })
        .filter(|path| !path.file_stem().is_some_and(|stem| stem.to_string_lossy().starts_with("init")))
        .flat_map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
            let words = |line: &str| line.contains("K::Word(");
            let found = |name: &&String| code.lines().any(|line| line.contains(name.as_str()) && !words(line));
            names.iter().filter(found).map(|name| format!("{} names {name}", path.display())).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(named, Vec::<String>::new());
}
