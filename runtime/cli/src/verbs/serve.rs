//! `lakehead serve`: the daemon, with this program's projects, connectors and manners.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use lakehead_catalog::{Book, unity_table};
use lakehead_core::{Arrived, Boxed, Clock, Error, Result, RunContext, SystemClock, format_micros};
use lakehead_daemon::{Change, Daemon, Host, LeftOut, Limits, Notice, Request};
use lakehead_engine::{Engine, Event, Observer, Stop, Summary, Until};
use lakehead_plan::{AlertPlan, Plan, SecretSource};
use lakehead_sql::Sql;
use lakehead_state::{Ledger, RunState};
use lakehead_syntax::{Diagnostic, render_text};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::Ended;
use super::check::show;
use super::run::Runner;
use crate::args::{Common, Format, Serve};
use crate::environment::fill_secrets;
use crate::failure;
use crate::parts::{Building, refuse_not_yet};
use crate::project::{Loaded, load};
use crate::show::grouped;

/// Requests that wait for the daemon: a person presses ctrl-c twice, not nine times.
const REQUESTS_MAX: usize = 8;

/// How often a directory that does not check is read again, even where nothing of what is known of it changed: it may
/// use a folder that was not there.
const BROKEN_POLL: Duration = Duration::from_secs(30);

/// Runs what a directory holds, as its triggers say, until stopped.
pub(crate) async fn serve(arguments: Serve, common: Common) -> Result<Ended> {
    let sql = Arc::new(Sql::new());
    let loaded = load(&arguments.path, &common, &sql)?;
    if loaded.diagnostics().iter().any(Diagnostic::is_error) {
        show(&loaded, &common);
        return Ok(Ended::Errors);
    }
    let listener = lakehead_daemon::http::listen(&arguments.listen).await?;
    let address = listener.local_addr().map(|address| address.to_string()).unwrap_or(arguments.listen);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let ledger = Arc::new(Ledger::open(&loaded.state_folder().join("ledger.sqlite"))?);
    let teller = Arc::new(Teller { common: common.clone(), clock: Arc::clone(&clock), broken: Mutex::default() });
    let host = Arc::new(Program {
        path: arguments.path.clone(),
        root: loaded.root.clone(),
        state: loaded.state_folder(),
        common,
        sql,
        clock: Arc::clone(&clock),
        ledger: Arc::clone(&ledger),
        book: Book::open(&loaded.state_folder())?,
        teller: Arc::clone(&teller),
        known: Mutex::new(Known::of(&loaded, &arguments.path)),
    });
    let mut daemon = Daemon::new(host, clock, ledger, Limits::default());
    if let Err(diagnostics) = daemon.load() {
        teller.tell(&Notice::LoadFailed { diagnostics });
        return Ok(Ended::Errors);
    }
    teller.line(false, &format!("serving {}   http://{address}/status", arguments.path.display()));
    let (send, requests) = mpsc::channel(REQUESTS_MAX);
    // Boxed: the future holds the daemon, and lives as long as the process.
    let serving: Boxed<'_, _> = Box::pin(lakehead_daemon::serve(daemon, listener, requests));
    let ended = tokio::select! {
        ended = serving => ended?,
        broken = hear(send) => match broken? {},
    };
    match ended {
        lakehead_daemon::Ended::Drained => Ok(Ended::Done),
        lakehead_daemon::Ended::Aborted => {
            eprintln!("aborted: what was not committed is read again");
            // A thread that reads or lists would hold a tidy end up.
            std::process::exit(130);
        }
    }
}

/// Hears ctrl-c and SIGTERM as a stop, SIGHUP as a reload.
async fn hear(requests: mpsc::Sender<Request>) -> Result<Infallible> {
    let deaf = |error: std::io::Error| Error::external("R1010", "signals cannot be heard").caused_by(error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(deaf)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(deaf)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(deaf)?;
    loop {
        let request = tokio::select! {
            _ = interrupt.recv() => Request::Stop,
            _ = terminate.recv() => Request::Stop,
            _ = hangup.recv() => Request::Reload,
        };
        if requests.send(request).await.is_err() {
            // The daemon has ended, and whoever waits for it says so.
            std::future::pending::<()>().await;
        }
    }
}

/// What this program is to its daemon.
struct Program {
    path: PathBuf,
    root: PathBuf,
    state: PathBuf,
    common: Common,
    sql: Arc<Sql>,
    clock: Arc<dyn Clock>,
    ledger: Arc<Ledger>,
    book: Book,
    teller: Arc<Teller>,
    known: Mutex<Known>,
}

/// What the last load found.
#[derive(Default)]
struct Known {
    /// Folders whose pipeline files were read.
    folders: BTreeSet<PathBuf>,
    secrets: BTreeMap<String, SecretSource>,
    broken: bool,
}

impl Known {
    fn of(loaded: &Loaded, path: &Path) -> Self {
        let files = loaded.sources.files.iter().map(|(shown, _)| loaded.root.join(shown));
        let folders = files.filter_map(|file| file.parent().map(Path::to_path_buf));
        let folders = folders.chain([path.to_path_buf()]).filter(|folder| folder.is_dir()).collect();
        let broken = loaded.diagnostics().iter().any(Diagnostic::is_error);
        Self { folders, secrets: loaded.planned.secrets.clone(), broken }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[lakehead_daemon::async_trait]
impl Host for Program {
    fn load(&self) -> std::result::Result<Vec<Plan>, String> {
        let loaded = load(&self.path, &self.common, &self.sql).map_err(|error| {
            locked(&self.known).broken = true;
            failure::render(&error)
        })?;
        let found: Vec<Diagnostic> = loaded.diagnostics().into_iter().filter(Diagnostic::is_error).collect();
        let mut known = Known::of(&loaded, &self.path);
        if !found.is_empty() {
            // What runs on goes on with the secrets it was checked with.
            known.secrets = std::mem::take(&mut locked(&self.known).secrets);
        }
        *locked(&self.known) = known;
        if !found.is_empty() {
            return Err(render_text(&found, &loaded.sources, false));
        }
        let wanted = |plan: &Plan| loaded.only.is_none_or(|only| plan.file == only);
        Ok(loaded.planned.plans.into_iter().filter(wanted).collect())
    }

    fn fingerprint(&self) -> u64 {
        let (folders, broken) = {
            let known = locked(&self.known);
            (known.folders.clone(), known.broken)
        };
        let mut hasher = DefaultHasher::new();
        for folder in &folders {
            let is_pipeline = |path: &Path| path.extension().is_some_and(|extension| extension == "lake");
            let mut files: Vec<PathBuf> = entries(folder).filter(|path| is_pipeline(path)).collect();
            files.sort();
            files.iter().for_each(|file| hash_file(file, &mut hasher));
        }
        for name in ["lakehead.toml", "lakehead.lock"] {
            hash_file(&self.root.join(name), &mut hasher);
        }
        if broken {
            (self.clock.monotonic().as_secs() / BROKEN_POLL.as_secs()).hash(&mut hasher);
        }
        hasher.finish()
    }

    async fn run(&self, plan: &Plan, run: RunContext, stop: Stop, observer: Arc<dyn Observer>) -> Result<Summary> {
        refuse_not_yet(plan)?;
        let secrets = locked(&self.known).secrets.clone();
        let mut filled = plan.clone();
        fill_secrets(&mut filled, &secrets)?;
        let watching = Watching {
            runner: self.runner(Arc::new(lakehead_engine::Silent)),
            plan: plan.clone(),
            teller: Arc::clone(&self.teller),
            daemon: observer,
        };
        let runner = self.runner(Arc::new(watching));
        Box::pin(runner.attempt(&filled, &run, Until::Stopped, stop)).await
    }

    async fn arrivals(&self, plan: &Plan) -> Result<Arrived> {
        let secrets = locked(&self.known).secrets.clone();
        let mut filled = plan.clone();
        fill_secrets(&mut filled, &secrets)?;
        let run = RunContext::default();
        let building = Building { plan: &filled, root: &self.root, state: &self.state, run: &run, clock: &self.clock };
        building.arrivals().await
    }

    async fn alert(&self, plan: &Plan, alert: &AlertPlan, text: &str) -> Result<()> {
        let secrets = locked(&self.known).secrets.clone();
        let mut filled = Plan { nodes: Vec::new(), dead_letter: None, alerts: vec![alert.clone()], ..plan.clone() };
        fill_secrets(&mut filled, &secrets)?;
        let connection = filled.alerts.first().map(|alert| &alert.connection).unwrap_or(&alert.connection);
        match lakehead_registry::connector(&alert.connector).and_then(|connector| connector.alert) {
            Some(tell) => tell(connection, &plan.name, text).await,
            None => Err(Error::user("R1009", "a connection of this kind tells nobody")
                .with("connection", &alert.connection_name)
                .with("connector", &alert.connector)
                .help("connection ops webhook { url = secret.ops_url }")),
        }
    }

    fn tables(&self) -> Result<Vec<serde_json::Value>> {
        let found = self.book.tables()?;
        Ok(found.iter().map(|(catalog, entry)| unity_table(catalog, entry)).collect())
    }

    fn notice(&self, notice: &Notice) {
        self.teller.tell(notice);
    }
}

impl Program {
    fn runner(&self, observer: Arc<dyn Observer>) -> Runner {
        let engine = Engine { sql: Arc::clone(&self.sql), clock: Arc::clone(&self.clock), observer };
        let (root, state, book) = (self.root.clone(), self.state.clone(), self.book.clone());
        Runner { root, state, engine, ledger: Arc::clone(&self.ledger), book }
    }
}

/// Passes a run's events on to the daemon's counters, lists tables as they change, and says what people want to know.
struct Watching {
    runner: Runner,
    plan: Plan,
    teller: Arc<Teller>,
    daemon: Arc<dyn Observer>,
}

impl Observer for Watching {
    fn event(&self, event: Event) {
        if let Event::Committed { table, version, .. } = &event {
            let tables = BTreeMap::from([(table.clone(), *version)]);
            if let Err(error) = self.runner.list_tables(&self.plan, &Summary { tables, ..Summary::default() }) {
                tracing::error!(pipeline = %self.plan.name, %error, "a table could not be listed");
            }
        }
        self.teller.tell_event(&self.plan.name, &event);
        self.daemon.event(event);
    }
}

/// Says what happens: a line each, or a JSON object each.
struct Teller {
    common: Common,
    clock: Arc<dyn Clock>,
    /// The diagnostics that were shown last, so that they are shown once.
    broken: Mutex<Option<String>>,
}

impl Teller {
    fn line(&self, failed: bool, text: &str) {
        if self.common.format == Format::Text && (failed || !self.common.quiet) {
            eprintln!("{} {text}", format_micros(self.clock.now() / 1_000_000 * 1_000_000));
        }
    }

    fn object(&self, object: impl serde::Serialize, pipeline: Option<&str>) {
        let Ok(mut object) = serde_json::to_value(object) else { return };
        object["at"] = format_micros(self.clock.now()).into();
        if let Some(pipeline) = pipeline {
            object["pipeline"] = pipeline.into();
        }
        println!("{object}");
    }

    fn tell(&self, notice: &Notice) {
        let shown = match notice {
            Notice::LoadFailed { diagnostics } => locked(&self.broken).replace(diagnostics.clone()),
            Notice::Loaded { .. } => locked(&self.broken).take().and(None),
            _ => None,
        };
        if matches!(notice, Notice::LoadFailed { diagnostics } if shown.as_ref() == Some(diagnostics)) {
            return;
        }
        match self.common.format {
            Format::Json => self.object(notice, None),
            Format::Text => {
                let (failed, text) = words(notice);
                self.line(failed, &text);
            }
        }
    }

    fn tell_event(&self, pipeline: &str, event: &Event) {
        let text = match event {
            Event::Committed { round, table, version, rows, .. } if self.common.verbose > 0 => {
                format!("{pipeline}: round {round}: {table} version {version}, {} rows", grouped(*rows))
            }
            Event::Recovered { round } => format!("{pipeline}: round {round} of an earlier process finished"),
            Event::Warned { expectation, rows } => {
                format!("{pipeline}: warning: expectation `{expectation}` broken by {} rows", grouped(*rows))
            }
            Event::InputRejected { origin, reason } => format!("{pipeline}: set aside: {origin}: {reason}"),
            Event::Registered { catalog, table, change } if self.common.verbose > 0 => {
                format!("{pipeline}: catalog {catalog}: {table}: {change}")
            }
            Event::NotRegistered { catalog, table, error } => {
                format!("{pipeline}: warning: catalog {catalog} does not list {table} yet: {error}")
            }
            Event::Evolved { table, added } => format!("{pipeline}: {table} gained {}", added.join(", ")),
            _ => return,
        };
        match self.common.format {
            Format::Json => self.object(event, Some(pipeline)),
            Format::Text => self.line(false, &text),
        }
    }
}

/// A notice as a line, and whether it is one for those who want failures alone.
fn words(notice: &Notice) -> (bool, String) {
    match notice {
        Notice::Loaded { pipelines } => (false, format!("{pipelines} pipelines loaded")),
        Notice::LoadFailed { diagnostics } => {
            (true, format!("the directory has mistakes; what ran before goes on\n{diagnostics}"))
        }
        Notice::PipelineChanged { pipeline, change } => {
            let word = match change {
                Change::Added => "added",
                Change::Changed => "changed, and started anew",
                Change::Removed => "removed",
            };
            (false, format!("{pipeline}: {word}"))
        }
        Notice::RunStarted { pipeline, run, retries: 0 } => (false, format!("{pipeline}: run {run} started")),
        Notice::RunStarted { pipeline, run, retries } => {
            (false, format!("{pipeline}: run {run}: attempt {}", retries + 1))
        }
        Notice::RunEnded { pipeline, run, state, rows_read, rows_written, rows_rejected, error } => {
            let rows = [rows_read, rows_written, rows_rejected].map(|rows| grouped(*rows));
            let counts = format!("{} rows read, {} written, {} set aside", rows[0], rows[1], rows[2]);
            let word = match state {
                RunState::Running => "goes on",
                RunState::Succeeded => "succeeded",
                RunState::Failed => "FAILED",
                RunState::Stopped => "stopped",
            };
            let why = error.as_ref().map_or_else(String::new, |error| format!("   {error}"));
            (*state == RunState::Failed, format!("{pipeline}: run {run} {word}   {counts}{why}"))
        }
        Notice::RunRetried { pipeline, run, error, pause_seconds } => {
            (true, format!("{pipeline}: run {run} failed, next attempt in {pause_seconds} s   {error}"))
        }
        Notice::LeftOut { pipeline, first, last, why } => {
            let why = match why {
                LeftOut::Missed => "missed, and not made up for (catchup)",
                LeftOut::Overlap => "left out: the one before is still on (overlap = skip)",
                LeftOut::QueueFull => "left out: too many wait",
            };
            let which = if first == last { format!("run {last}") } else { format!("runs {first} .. {last}") };
            (true, format!("{pipeline}: {which} {why}"))
        }
        Notice::AlertFailed { pipeline, error } => (true, format!("{pipeline}: an alert could not be sent   {error}")),
        Notice::Stopping { runs } => {
            (false, format!("stopping {runs} runs at their next consistent points; once more aborts"))
        }
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
}

fn hash_file(path: &Path, hasher: &mut DefaultHasher) {
    let found = std::fs::metadata(path).ok().map(|metadata| (metadata.len(), metadata.modified().ok()));
    let written: Option<(u64, Option<SystemTime>)> = found;
    (path, written).hash(hasher);
}
