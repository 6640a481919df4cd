//! A project on disk: `lakehead.toml`, the files of a directory and what they use, the lock file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lakehead_core::{Connector, Error, Result};
use lakehead_plan::{Input, Lock, Planned, Project, plan};
use lakehead_sql::Sql;
use lakehead_syntax::ast::{File, Item};
use lakehead_syntax::{Diagnostic, FileId, Severity, SourceMap, parse_file};

use crate::args::Common;

/// Files that a project may hold; more is a mistake of a path.
const FILES_MAX: usize = 20_000;

/// A project that was read and planned.
pub(crate) struct Loaded {
    pub(crate) root: PathBuf,
    pub(crate) project: Project,
    pub(crate) sources: SourceMap,
    pub(crate) planned: Planned,
    /// The file that was asked for, where it was one.
    pub(crate) only: Option<FileId>,
    pub(crate) lock_path: PathBuf,
    pub(crate) lock: Lock,
}

/// Reads and plans the project that `path` lies in.
pub(crate) fn load(path: &Path, common: &Common, sql: &Sql) -> Result<Loaded> {
    let absolute = path
        .canonicalize()
        .map_err(|error| Error::user("R0901", "the path is not there").with("path", path.display()).caused_by(error))?;
    let (folder, wanted) = if absolute.is_dir() {
        (absolute, None)
    } else {
        (absolute.parent().map_or_else(PathBuf::new, Path::to_path_buf), Some(absolute))
    };
    let root = find_root(&folder)?;
    let project = read_project(&root)?;
    let lock_path = root.join("lakehead.lock");
    let lock = read_lock(&lock_path)?;
    let mut files =
        Files { root: &root, map: SourceMap::default(), trees: Vec::new(), found: Vec::new(), seen: BTreeSet::new() };
    files.add_folder(&folder)?;
    let only = match wanted {
        Some(wanted) => {
            let shown = files.shown(&wanted);
            files.map.files.iter().position(|(path, _)| *path == shown).and_then(|n| u32::try_from(n).ok()).map(FileId)
        }
        None => None,
    };
    let Files { map, mut trees, mut found, .. } = files;
    leave_out_broken(&mut trees, &found);
    let references: Vec<(FileId, &File)> = trees.iter().map(|(id, tree)| (*id, tree)).collect();
    let variables = variables(common)?;
    let connectors: &[&'static Connector] = lakehead_registry::CONNECTORS;
    let mut planned = plan(&Input {
        project: &project,
        files: &references,
        lock: &lock,
        connectors,
        catalogs: lakehead_catalog::KINDS,
        check_store: lakehead_lakefile::check_store,
        analyzer: sql,
        profile: common.profile.as_deref(),
        variables: &variables,
    });
    let broken: BTreeSet<FileId> =
        found.iter().filter(|d| d.is_error()).filter_map(|d| d.place().map(|label| label.file)).collect();
    if !broken.is_empty() {
        // What does not parse is not resolved: names that a broken file would define are not reported as missing.
        planned.diagnostics.retain(|d| {
            !d.is_error() || !matches!(d.code, "E0201" | "E0207" | "E0211" | "E0221" | "E0601" | "E0607" | "E0804")
        });
    }
    found.append(&mut planned.diagnostics);
    for diagnostic in &mut found {
        if diagnostic.severity == Severity::Warning && project.check.deny.iter().any(|code| code == diagnostic.code) {
            diagnostic.severity = Severity::Error;
        }
    }
    found.sort_by(|a, b| a.order().cmp(&b.order()));
    planned.diagnostics = found;
    Ok(Loaded { root, project, sources: map, planned, only, lock_path, lock })
}

/// Takes pipelines with syntax mistakes out: what does not parse is not resolved.
fn leave_out_broken(trees: &mut [(FileId, File)], found: &[Diagnostic]) {
    let places: Vec<_> = found.iter().filter(|d| d.is_error()).filter_map(Diagnostic::place).collect();
    for (file, tree) in trees {
        tree.items.retain(|item| {
            let span = item.span();
            let inside = |label: &&&lakehead_syntax::Label| {
                label.file == *file && label.span.start >= span.start && label.span.end <= span.end
            };
            !places.iter().any(|label| inside(&label))
        });
    }
}

fn variables(common: &Common) -> Result<Vec<(String, String)>> {
    let split = |text: &String| {
        text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(|| {
            Error::user("R0902", "`--var` needs a name and a value").with("given", text).help("--var bucket=acme-lake")
        })
    };
    common.variables.iter().map(split).collect()
}

fn find_root(folder: &Path) -> Result<PathBuf> {
    folder.ancestors().find(|dir| dir.join("lakehead.toml").is_file()).map(Path::to_path_buf).ok_or_else(|| {
        Error::user("R0903", "there is no lakehead.toml here or above")
            .with("folder", folder.display())
            .help("lakehead init NAME   makes a project")
    })
}

fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|error| Error::user("R0904", "a file cannot be read").with("file", path.display()).caused_by(error))
}

fn read_project(root: &Path) -> Result<Project> {
    let path = root.join("lakehead.toml");
    Project::parse(&read_text(&path)?).map_err(|reason| {
        Error::user("R0905", "lakehead.toml is not right")
            .with("file", path.display())
            .with("reason", reason)
            .help("name = \"acme\"\nedition = 1")
    })
}

fn read_lock(path: &Path) -> Result<Lock> {
    if !path.is_file() {
        return Ok(Lock::default());
    }
    Lock::parse(&read_text(path)?).map_err(|reason| {
        Error::user("R0906", "lakehead.lock is not right")
            .with("file", path.display())
            .with("reason", reason)
            .help("lakehead lock   writes it anew")
    })
}

struct Files<'a> {
    root: &'a Path,
    map: SourceMap,
    trees: Vec<(FileId, File)>,
    found: Vec<Diagnostic>,
    seen: BTreeSet<PathBuf>,
}

impl Files<'_> {
    fn shown(&self, path: &Path) -> String {
        path.strip_prefix(self.root).unwrap_or(path).display().to_string()
    }

    fn add_folder(&mut self, folder: &Path) -> Result<()> {
        let unreadable = |error: std::io::Error| {
            Error::user("R0904", "a folder cannot be read").with("folder", folder.display()).caused_by(error)
        };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.extension().is_some_and(|extension| extension == "lake") && path.is_file() {
                paths.push(path);
            }
        }
        paths.sort();
        for path in paths {
            self.add_file(&path)?;
        }
        Ok(())
    }

    fn add_file(&mut self, path: &Path) -> Result<()> {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        if !self.seen.insert(path.clone()) {
            return Ok(());
        }
        if self.seen.len() > FILES_MAX {
            return Err(
                Error::user("R0907", "there are more pipeline files than a project may hold").with("limit", FILES_MAX)
            );
        }
        let text = read_text(&path)?;
        let id = self.map.add(self.shown(&path), text.clone());
        let (tree, mut found) = parse_file(&text, id);
        self.found.append(&mut found);
        let uses: Vec<_> = tree
            .items
            .iter()
            .filter_map(|item| match item {
                Item::Use(item) => Some((item.path.as_text().unwrap_or_default().to_owned(), item.path.span)),
                _ => None,
            })
            .collect();
        self.trees.push((id, tree));
        for (used, span) in uses {
            let target = path.parent().unwrap_or(self.root).join(&used);
            if target.is_dir() {
                self.add_folder(&target)?;
            } else if target.is_file() {
                self.add_file(&target)?;
            } else {
                self.found.push(
                    Diagnostic::error("E0902", format!("there is nothing at `{used}`"))
                        .primary(id, span, "no such directory or file")
                        .help("the path is relative to this file"),
                );
            }
        }
        Ok(())
    }
}

impl Loaded {
    /// Returns the diagnostics that concern what was asked for.
    pub(crate) fn diagnostics(&self) -> Vec<Diagnostic> {
        let concerns = |diagnostic: &&Diagnostic| match (self.only, diagnostic.place()) {
            (Some(only), Some(label)) => label.file == only || diagnostic.labels.iter().any(|l| l.file == only),
            _ => true,
        };
        self.planned.diagnostics.iter().filter(concerns).cloned().collect()
    }

    /// Returns the folder of the ledger.
    pub(crate) fn state_folder(&self) -> PathBuf {
        self.root.join(&self.project.state)
    }
}
