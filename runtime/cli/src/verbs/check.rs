//! `lakehead check`.

use std::collections::BTreeMap;

use lakehead_core::{Clock, Result, SystemClock};
use lakehead_plan::NodeKind;
use lakehead_sql::Sql;
use lakehead_syntax::{Severity, render_json, render_text};

use super::Ended;
use crate::args::{Check, Common, Format};
use crate::environment::color;
use crate::project::{Loaded, load};
use crate::show::counted;

/// Tables that a note names.
const TABLES_SHOWN: usize = 3;

/// Checks a directory or a file, offline.
pub(crate) fn check(arguments: &Check, common: &Common) -> Result<Ended> {
    let clock = SystemClock::default();
    let loaded = load(&arguments.path, common, &Sql::new())?;
    let failed = show(&loaded, common);
    if common.format == Format::Text && !common.quiet {
        let found = loaded.diagnostics();
        let count = |severity| found.iter().filter(|d| d.severity == severity).count();
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        eprintln!(
            "{}, {}, {}   {:.2} s",
            counted(loaded.sources.files.len() as u64, "file"),
            counted(loaded.planned.names.len() as u64, "pipeline"),
            counted(loaded.planned.sql_count as u64, "SQL expression"),
            clock.monotonic().as_secs_f64()
        );
        let verdict = if errors == 0 { "ok".to_owned() } else { counted(errors as u64, "error") };
        eprintln!("{verdict}, {}", counted(warnings as u64, "warning"));
        for plan in &loaded.planned.plans {
            for (setting, place) in &plan.not_yet {
                eprintln!("note: {}: this version does not carry out {setting} ({place}): `run` refuses", plan.name);
            }
        }
        for (said, tables) in for_readers(&loaded) {
            eprintln!("note: {}: {said}", some_of(&tables));
        }
    }
    Ok(if failed { Ended::Errors } else { Ended::Done })
}

/// What readers of the tables must know, with the tables that it is true of.
fn for_readers(loaded: &Loaded) -> BTreeMap<&'static str, Vec<&str>> {
    let mut notes: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for node in loaded.planned.plans.iter().flat_map(|plan| &plan.nodes) {
        let NodeKind::Sink(sink) = &node.kind else { continue };
        let role = lakehead_registry::connector(&sink.connector).and_then(|connector| connector.sink);
        if let Some(said) = role.and_then(|role| (role.readers)(sink.mode, &sink.settings)) {
            notes.entry(said).or_default().push(&sink.table);
        }
    }
    notes
}

/// Names the first of some tables, and how many others there are.
fn some_of(tables: &[&str]) -> String {
    let shown = tables.iter().take(TABLES_SHOWN).copied().collect::<Vec<_>>().join(", ");
    match tables.len().saturating_sub(TABLES_SHOWN) {
        0 => shown,
        others => format!("{shown} and {}", counted(others as u64, "other")),
    }
}

/// Shows every mistake and warning; returns whether there are errors.
pub(crate) fn show(loaded: &Loaded, common: &Common) -> bool {
    let found = loaded.diagnostics();
    match common.format {
        Format::Json => println!("{}", render_json(&found, &loaded.sources)),
        Format::Text => {
            let shown: Vec<_> = found.iter().filter(|d| !common.quiet || d.is_error()).cloned().collect();
            if !shown.is_empty() {
                eprintln!("{}", render_text(&shown, &loaded.sources, color()));
            }
        }
    }
    found.iter().any(lakehead_syntax::Diagnostic::is_error)
}
