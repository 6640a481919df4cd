//! `lakehead catalog sync`: what catalogs say otherwise than the tables, and mending it.

use std::path::Path;
use std::sync::Arc;

use lakehead_catalog::{Book, Catalog, Difference};
use lakehead_core::{Clock, Listing, Result, RunContext, SystemClock};
use lakehead_plan::{CatalogPlan, Plan, SinkPlan};
use lakehead_sql::Sql;
use serde_json::json;

use super::{Ended, find_plan};
use crate::args::{CatalogVerb, Common, Format};
use crate::catalogs::{entry_of, register, sinks};
use crate::environment::fill_secrets;
use crate::parts::Building;
use crate::project::load;

/// Compares every table of a pipeline, or of all, with its catalogs; mends what differs unless only asked.
pub(crate) async fn catalog(arguments: &CatalogVerb, common: &Common) -> Result<Ended> {
    let CatalogVerb::Sync { pipeline, check, path } = arguments;
    let loaded = load(path, common, &Sql::new())?;
    let plans = match pipeline {
        Some(name) => match find_plan(&loaded, name, common)? {
            Some(plan) => vec![plan],
            None => return Ok(Ended::Errors),
        },
        None => loaded.planned.plans.clone(),
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let (state, book) = (loaded.state_folder(), Book::open(&loaded.state_folder())?);
    let mut seen = Seen::default();
    for mut plan in plans {
        fill_secrets(&mut plan, &loaded.planned.secrets)?;
        for sink in sinks(&plan).filter(|sink| !sink.catalogs.is_empty()) {
            let Some(listing) = listing_of(&plan, sink, &loaded.root, &state, &clock).await? else {
                continue;
            };
            for catalog in &sink.catalogs {
                let entry = entry_of(&loaded.root, &plan, sink, catalog, &listing);
                let opened = Catalog::open(&catalog.name, &catalog.kind, &catalog.settings, &book)?;
                let outcome = match Box::pin(opened.look(&entry)).await {
                    Ok(found) if found.is_empty() || *check => Ok(found),
                    Ok(found) => {
                        book.forget_registration(&catalog.name, &entry.definition)?;
                        Box::pin(register(&book, catalog, &entry, clock.now())).await.map(|_| found)
                    }
                    Err(error) => Err(error),
                };
                if let (Ok(found), false) = (&outcome, *check)
                    && found.is_empty()
                {
                    let digest = entry.definition.digest(&catalog.settings)?;
                    book.note_registered(&catalog.name, &entry, &digest, clock.now())?;
                }
                seen.show(&plan, catalog, outcome, *check, common);
            }
        }
    }
    seen.close(*check, common)
}

/// Reads what a catalog must know of a sink's table; `None` where it is not there.
pub(crate) async fn listing_of(
    plan: &Plan,
    sink: &SinkPlan,
    root: &Path,
    state: &Path,
    clock: &Arc<dyn Clock>,
) -> Result<Option<Listing>> {
    let role = lakehead_registry::connector(&sink.connector).and_then(|connector| connector.sink);
    let Some(describe) = role.and_then(|role| role.describe) else { return Ok(None) };
    let run = RunContext::default();
    let building = Building { plan, root, state, run: &run, clock };
    describe(&building.sink_spec(sink)).await
}

/// What was compared.
#[derive(Default)]
struct Seen {
    tables: usize,
    different: usize,
    failed: usize,
    records: Vec<serde_json::Value>,
}

impl Seen {
    fn show(
        &mut self,
        plan: &Plan,
        catalog: &CatalogPlan,
        outcome: Result<Vec<Difference>>,
        check: bool,
        common: &Common,
    ) {
        self.tables += 1;
        let (word, lines) = match &outcome {
            Ok(found) if found.is_empty() => ("same", Vec::new()),
            Ok(found) => {
                self.different += 1;
                let word = if check { "differs" } else { "mended" };
                (word, found.iter().map(Difference::to_string).collect())
            }
            Err(error) => {
                self.failed += 1;
                ("FAILED", vec![crate::failure::render(error)])
            }
        };
        if common.format == Format::Json {
            self.records.push(json!({
                "pipeline": plan.name, "catalog": catalog.name, "table": catalog.table, "state": word, "found": lines,
            }));
            return;
        }
        println!("{:<16} {:<32} {word}", catalog.name, catalog.table);
        lines.iter().for_each(|line| println!("{:<16}   {line}", ""));
    }

    fn close(self, check: bool, common: &Common) -> Result<Ended> {
        if common.format == Format::Json {
            println!("{}", serde_json::to_string_pretty(&self.records).unwrap_or_default());
        } else if self.tables == 0 {
            eprintln!("no table to compare: none was written yet, or none is in a catalog");
        }
        Ok(match (self.failed, self.different) {
            (1.., _) => Ended::Errors,
            (0, 1..) if check => Ended::Differences,
            _ => Ended::Done,
        })
    }
}
