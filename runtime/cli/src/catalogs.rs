//! Registers tables in their catalogs behind the commits: beside the run, retried on its own, never in a commit's way.
//!
//! ```text
//! Event::Listed ─► wanted (the newest listing of each table) ─► task: one table and catalog after the other
//!                                                                └─ failed: kept, noted in the book, tried again later
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lakehead_catalog::{Book, Catalog, Difference, Known, TableEntry};
use lakehead_core::{Clock, Error, Listing, Result};
use lakehead_engine::{Event, Observer};
use lakehead_plan::{CatalogPlan, NodeKind, Plan, SinkPlan};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::parts::owner;
use crate::verbs::run::table_location;

/// The first pause behind a failure; each next one is twice as long.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause: a catalog that is back is noticed within it.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// What says that a catalog cannot be reached at all: its other tables need not be tried.
const UNREACHABLE: [&str; 2] = ["R0623", "R0626"];

/// Returns the sinks of a plan, dead letters too.
pub(crate) fn sinks(plan: &Plan) -> impl Iterator<Item = &SinkPlan> {
    let nodes = plan.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Sink(sink) => Some(sink),
        _ => None,
    });
    nodes.chain(&plan.dead_letter)
}

/// Returns the entry of a sink's table in one of its catalogs.
pub(crate) fn entry_of(
    root: &Path,
    plan: &Plan,
    sink: &SinkPlan,
    catalog: &CatalogPlan,
    listing: &Listing,
) -> TableEntry {
    let mut entry = TableEntry::new(&catalog.table, &sink.connector, &table_location(root, sink), listing);
    let definition = &mut entry.definition;
    definition.comment.clone_from(&sink.comments.table);
    // Dead letters of several pipelines may share a table: it is nobody's.
    let is_shared = plan.dead_letter.as_ref().is_some_and(|letters| std::ptr::eq(letters, sink));
    if !is_shared {
        definition.pipeline.clone_from(&plan.name);
        owner(&plan.id).clone_into(&mut definition.owner);
    }
    for column in definition.columns.iter_mut().filter(|column| column.comment.is_none()) {
        column.comment = sink.comments.columns.get(&column.name).cloned();
    }
    entry
}

/// Registers a table unless the book says that nothing changed; returns what was done.
pub(crate) async fn register(
    book: &Book,
    catalog: &CatalogPlan,
    entry: &TableEntry,
    now: i64,
) -> Result<Vec<Difference>> {
    let digest = entry.definition.digest(&catalog.settings)?;
    let known = if book.digest(&catalog.name, &entry.definition)?.as_ref() == Some(&digest) {
        let partitions = book.partitions(&catalog.name, &entry.definition)?;
        if partitions == entry.partitions {
            return Ok(Vec::new());
        }
        Known::Definition(partitions)
    } else {
        Known::Nothing
    };
    let opened = Catalog::open(&catalog.name, &catalog.kind, &catalog.settings, book)?;
    let done = match opened.register(entry, &known).await {
        // The entry may have been dropped since: everything is looked at.
        Err(_) if matches!(known, Known::Definition(_)) => opened.register(entry, &Known::Nothing).await,
        done => done,
    };
    match &done {
        Ok(_) => book.note_registered(&catalog.name, entry, &digest, now)?,
        Err(error) => book.note_failed(&catalog.name, entry, error, now)?,
    }
    done
}

/// What the run and the task share.
struct Shared {
    wanted: Mutex<BTreeMap<String, Arc<Listing>>>,
    bell: Notify,
    closing: AtomicBool,
}

/// Hears of tables while a run is on.
pub(crate) struct Registrar {
    shared: Arc<Shared>,
    task: JoinSet<()>,
}

/// Takes what catalogs must know.
#[derive(Clone)]
pub(crate) struct Listener(Arc<Shared>);

impl Listener {
    /// Notes the newest listing of a table; an older one that was not registered yet is no longer wanted.
    pub(crate) fn listed(&self, table: &str, listing: &Arc<Listing>) {
        let mut wanted = self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.insert(table.to_owned(), Arc::clone(listing));
        self.0.bell.notify_one();
    }
}

impl Registrar {
    /// Starts the task for one attempt of a plan, whose secrets are filled in.
    pub(crate) fn start(
        root: &Path,
        book: Book,
        plan: &Plan,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let shared =
            Arc::new(Shared { wanted: Mutex::default(), bell: Notify::new(), closing: AtomicBool::new(false) });
        let root = root.to_path_buf();
        let work = Work { shared: Arc::clone(&shared), root, book, plan: plan.clone(), clock, observer };
        let mut task = JoinSet::new();
        task.spawn(work.run());
        Self { shared, task }
    }

    /// Returns what the run tells.
    pub(crate) fn listener(&self) -> Listener {
        Listener(Arc::clone(&self.shared))
    }

    /// Registers what is left, once, and ends the task. What fails is tried by the next run.
    pub(crate) async fn close(mut self) {
        self.shared.closing.store(true, Ordering::Release);
        self.shared.bell.notify_one();
        while self.task.join_next().await.is_some() {}
    }
}

/// One table that is to be registered in one catalog.
struct Pending {
    listing: Arc<Listing>,
    failures: u32,
    due: Duration,
}

/// The task.
struct Work {
    shared: Arc<Shared>,
    root: std::path::PathBuf,
    book: Book,
    plan: Plan,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
}

/// A sink by its place, and one of its catalogs by its own.
type Target = (usize, usize);

impl Work {
    async fn run(self) {
        let sinks: Vec<&SinkPlan> = sinks(&self.plan).collect();
        let mut pending: BTreeMap<Target, Pending> = BTreeMap::new();
        loop {
            let closing = self.shared.closing.load(Ordering::Acquire);
            let wanted = std::mem::take(&mut *self.shared.wanted.lock().unwrap_or_else(PoisonError::into_inner));
            for (number, sink) in sinks.iter().enumerate() {
                let Some(listing) = wanted.get(&format!("{}:{}", sink.connection_name, sink.table)) else { continue };
                for catalog in 0..sink.catalogs.len() {
                    let new = Pending { listing: Arc::clone(listing), failures: 0, due: Duration::ZERO };
                    pending.insert((number, catalog), new);
                }
            }
            self.pass(&sinks, &mut pending, closing).await;
            if closing {
                return;
            }
            let due = pending.values().map(|pending| pending.due).min();
            tokio::select! {
                () = self.shared.bell.notified() => {}
                () = self.pause(due) => {}
            }
        }
    }

    async fn pause(&self, due: Option<Duration>) {
        match due {
            Some(due) => self.clock.sleep(due.saturating_sub(self.clock.monotonic())).await,
            None => std::future::pending().await,
        }
    }

    /// Tries everything that is due; everything there is where it is the last time.
    async fn pass(&self, sinks: &[&SinkPlan], pending: &mut BTreeMap<Target, Pending>, last: bool) {
        let mut unreachable: BTreeSet<&str> = BTreeSet::new();
        let targets: Vec<Target> = pending.keys().copied().collect();
        for target in targets {
            let (sink, catalog) = (sinks[target.0], &sinks[target.0].catalogs[target.1]);
            let Some(found) = pending.get_mut(&target) else { continue };
            if !last && found.due > self.clock.monotonic() {
                continue;
            }
            let entry = entry_of(&self.root, &self.plan, sink, catalog, &found.listing);
            let outcome = if unreachable.contains(catalog.name.as_str()) {
                let error = Error::external("R0623", "the catalog did not answer for another table");
                let _ = self.book.note_failed(&catalog.name, &entry, &error, self.clock.now());
                Err(error)
            } else {
                Box::pin(register(&self.book, catalog, &entry, self.clock.now())).await
            };
            match outcome {
                Ok(done) => {
                    self.tell_done(catalog, &done);
                    pending.remove(&target);
                }
                Err(error) => {
                    if UNREACHABLE.contains(&error.code()) {
                        unreachable.insert(&catalog.name);
                    }
                    found.failures += 1;
                    let pause = (PAUSE * 2_u32.saturating_pow(found.failures - 1)).min(PAUSE_MAX);
                    found.due = self.clock.monotonic() + pause;
                    self.tell_failed(catalog, &error);
                }
            }
        }
    }

    fn tell_done(&self, catalog: &CatalogPlan, done: &[Difference]) {
        // What is beside the ledger is not worth a line.
        if done.is_empty() || lakehead_catalog::kind(&catalog.kind).is_none_or(|kind| kind.is_default) {
            return;
        }
        let change = done.iter().map(Difference::to_string).collect::<Vec<_>>().join("; ");
        let (catalog, table) = (catalog.name.clone(), catalog.table.clone());
        tracing::info!(%catalog, %table, %change, "registered");
        self.observer.event(Event::Registered { catalog, table, change });
    }

    fn tell_failed(&self, catalog: &CatalogPlan, error: &Error) {
        let text = format!("{}: {}", error.code(), error.message());
        let (catalog, table) = (catalog.name.clone(), catalog.table.clone());
        tracing::info!(pipeline = %self.plan.name, %catalog, %table, %error, "a table is not registered yet");
        self.observer.event(Event::NotRegistered { catalog, table, error: text });
    }
}
