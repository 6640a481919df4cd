//! Files as a source: each once, whole or set aside.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use lakehead_core::{
    Arrived, BatchBudget, ChangeBatch, Checkpoint, Discovery, Error, Result, Settings, Source, SourceEvent, SourceSpec,
    TableSpec, Value, parse_column_type,
};
use lakehead_lakefile::{Location, load_metadata};

use crate::infer::Inference;
use crate::listing::{Entry, Ledger, excluded, list};
use crate::load::{Contents, load_rows, load_sample};
use crate::pattern::Pattern;
use crate::retire::{Retirement, copy_below};
use crate::rows::{Chunk, Column, Layout, RowReader, check_types};
use crate::windows::{Opened, Windows, look};

/// A position is written after each file while it is short, and then after so many that all positions together stay
/// below a thousand times the last one.
const FILES_PER_PROGRESS_DIVISOR: usize = 1000;
/// Files that `infer` looks at: the sample of rows is full long before.
const SAMPLE_FILES_MAX: usize = 100;

/// Reads files.
pub(crate) struct FilesSource {
    spec: SourceSpec,
    location: Location,
    pattern: Pattern,
    layout: Arc<Layout>,
    versions: bool,
    ledger: Ledger,
    waiting: VecDeque<Entry>,
    open: Option<(Entry, RowReader)>,
    events: VecDeque<SourceEvent>,
    /// Files read to their end that no `Progress` has named yet.
    unannounced: usize,
    announced: bool,
    read: Vec<Entry>,
    retirement: Retirement,
    /// What runs have read, where their files are read again.
    windows: Option<Windows>,
}

impl FilesSource {
    /// Builds the source.
    pub(crate) fn new(spec: SourceSpec) -> Result<Self> {
        let location = Location::open(spec.connection.required_text("path")?, &spec.root, &spec.connection)?;
        let path = pattern_text(&spec.connection, &spec.settings)?;
        let pattern =
            if reads_interval(&spec.settings) { Pattern::of_run(&path, &spec.run)? } else { Pattern::any_time(&path)? };
        let layout = Arc::new(layout(&spec)?);
        let retirement = Retirement::new(&location, &spec.settings, &spec.pipeline, &spec.node)?;
        let windows = Windows::new(&location, &spec.settings, &spec.pipeline, &spec.node)?;
        Ok(Self {
            versions: spec.settings.text("on_changed") == Some("version"),
            location,
            pattern,
            layout,
            ledger: Ledger::default(),
            waiting: VecDeque::new(),
            open: None,
            events: VecDeque::new(),
            unannounced: 0,
            announced: false,
            read: Vec::new(),
            retirement,
            windows,
            spec,
        })
    }

    fn table(&self) -> String {
        self.spec.tables.first().map_or_else(|| self.spec.node.clone(), |table| table.name.clone())
    }

    fn take(&mut self, chunk: Chunk) {
        let table = self.table();
        if let Some(rows) = chunk.rows {
            self.events.push_back(SourceEvent::Changes(ChangeBatch { table: table.clone(), rows }));
        }
        if !chunk.misfits.is_empty() {
            self.events.push_back(SourceEvent::Misfits { table, rows: chunk.misfits });
        }
    }

    fn finish(&mut self, entry: Entry) {
        self.ledger.rejected.remove(&entry.path);
        self.ledger.seen.insert(entry.path.clone(), entry.identity.clone());
        self.read.push(entry);
        self.unannounced += 1;
    }

    /// A file that cannot be read is never moved or removed: it may be the only copy.
    fn reject(&mut self, entry: Entry, reason: String) {
        self.events.push_back(SourceEvent::Rejected { origin: entry.path.clone(), reason });
        self.ledger.rejected.insert(entry.path, entry.identity);
        self.unannounced += 1;
    }

    fn progress(&mut self) -> Result<SourceEvent> {
        self.unannounced = 0;
        self.announced = true;
        Ok(SourceEvent::Progress(self.ledger.checkpoint()?))
    }

    /// Opens the next file. Until it is open it stays the next one, so that nothing is lost when this is dropped.
    async fn open_next(&mut self, entry: Entry) -> Result<()> {
        let opened = load_rows(&self.location, &entry, &self.spec.settings, &self.layout).await?;
        match opened {
            Ok(reader) => {
                self.waiting.pop_front();
                self.open = Some((entry, reader));
            }
            Err(reason) => {
                if let Some(prefix) = self.spec.settings.text("error_prefix") {
                    copy_below(&self.location, &entry.path, prefix).await?;
                }
                self.waiting.pop_front();
                self.reject(entry, reason);
            }
        }
        Ok(())
    }

    /// Opens the interval of this run: all its files are read, whether a run has read them before or not.
    async fn open_window(&mut self, before: Ledger, run: String) -> Result<()> {
        let Some(windows) = &mut self.windows else { return Ok(()) };
        let now = self.spec.clock.now();
        // The process may have died between the commit and this.
        windows.write_down_before(&before, now).await?;
        windows.remove_due(now).await?;
        if before.run == run {
            self.ledger = before;
            return Ok(());
        }
        let pattern = Pattern::any_time(&pattern_text(&self.spec.connection, &self.spec.settings)?)?;
        let listed = list(&self.location, &pattern, &excluded(&self.spec.settings)).await?;
        let Opened { waiting, late } = windows.open(&self.spec.run, listed, &pattern, self.versions).await?;
        let interval = Some((self.spec.run.start, self.spec.run.end));
        self.ledger = Ledger { run, interval, ..Ledger::default() };
        for (entry, interval) in late {
            self.events.push_back(SourceEvent::WindowClosed { origin: entry.path.clone(), interval });
            self.ledger.late.insert(entry.path, entry.identity);
            self.unannounced += 1;
        }
        self.waiting = waiting.into();
        Ok(())
    }

    /// Files of the checkpoint that are still where they were: their rows are durable, and what was to become of them
    /// may have been cut short.
    async fn catch_up(&mut self, listed: &[Entry]) -> Result<()> {
        let now = self.spec.clock.now();
        self.retirement.remove_due(now).await?;
        let seen = |entry: &&Entry| self.ledger.seen.get(&entry.path) == Some(&entry.identity);
        let durable: Vec<Entry> = listed.iter().filter(seen).cloned().collect();
        self.retirement.retire(durable, now).await
    }
}

#[async_trait]
impl Source for FilesSource {
    async fn open(&mut self, from: &Checkpoint) -> Result<()> {
        let run = if reads_interval(&self.spec.settings) { self.spec.run.id.clone() } else { String::new() };
        let ledger = Ledger::read(from)?;
        if self.windows.is_some() {
            return self.open_window(ledger, run).await;
        }
        // A run that reads its own interval starts anew; the files of other runs are no concern of its.
        self.ledger = if ledger.run == run { ledger } else { Ledger { run, ..Ledger::default() } };
        let listed = list(&self.location, &self.pattern, &excluded(&self.spec.settings)).await?;
        self.catch_up(&listed).await?;
        self.waiting = self.ledger.unread(listed, self.versions)?.into();
        Ok(())
    }

    async fn next(&mut self, budget: BatchBudget) -> Result<SourceEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            if let Some((_, reader)) = self.open.as_mut() {
                if let Some(chunk) = reader.next_chunk(budget).await? {
                    self.take(chunk);
                } else if let Some((entry, _)) = self.open.take() {
                    self.finish(entry);
                }
                continue;
            }
            let named = self.ledger.seen.len() + self.ledger.rejected.len();
            let pause = 1 + named / FILES_PER_PROGRESS_DIVISOR;
            if self.unannounced >= pause {
                return self.progress();
            }
            match self.waiting.front().cloned() {
                Some(entry) => self.open_next(entry).await?,
                None if self.unannounced > 0 || !self.announced => return self.progress(),
                None => return Ok(SourceEvent::End),
            }
        }
    }

    async fn acknowledge(&mut self, durable: &Checkpoint) -> Result<()> {
        let ledger = Ledger::read(durable)?;
        if ledger.run != self.ledger.run {
            return Ok(());
        }
        if let Some(windows) = &self.windows {
            let now = self.spec.clock.now();
            windows.write_down(&ledger, now).await?;
            return windows.remove_due(now).await;
        }
        let is_durable = |entry: &Entry| ledger.seen.get(&entry.path) == Some(&entry.identity);
        let (gone, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.read).into_iter().partition(is_durable);
        self.read = kept;
        let rejected = gone.clone();
        let result = self.retirement.retire(gone, self.spec.clock.now()).await;
        if result.is_err() {
            // Told again, they are tried again.
            self.read.extend(rejected);
        }
        result
    }

    async fn close(&mut self) -> Result<()> {
        self.open = None;
        Ok(())
    }
}

/// Looks for files that a source would read, and for intervals that have gained some since they were read.
pub(crate) async fn arrivals(spec: &SourceSpec) -> Result<Arrived> {
    let location = Location::open(spec.connection.required_text("path")?, &spec.root, &spec.connection)?;
    let pattern = Pattern::any_time(&pattern_text(&spec.connection, &spec.settings)?)?;
    let listed = list(&location, &pattern, &excluded(&spec.settings)).await?;
    let mut hasher = DefaultHasher::new();
    for entry in &listed {
        (&entry.path, &entry.identity).hash(&mut hasher);
    }
    let fingerprint = (!listed.is_empty()).then(|| format!("{} {:x}", listed.len(), hasher.finish()));
    let windows = Windows::new(&location, &spec.settings, &spec.pipeline, &spec.node)?;
    look(windows.as_ref(), &listed, &pattern, spec.clock.now(), fingerprint).await
}

fn reads_interval(settings: &Settings) -> bool {
    settings.text("interval") == Some("run")
}

fn pattern_text(connection: &Settings, settings: &Settings) -> Result<String> {
    let prefix = connection.text("prefix").unwrap_or("").trim_start_matches('/');
    Ok(format!("{prefix}{}", settings.required_text("path")?.trim_start_matches('/')))
}

fn delimiter(settings: &Settings) -> Result<Option<u8>> {
    match settings.text("delimiter") {
        None => Ok(None),
        Some("\\t") => Ok(Some(b'\t')),
        Some(text) => match text.as_bytes() {
            [byte] => Ok(Some(*byte)),
            _ => Err(Error::user("R0610", "`delimiter` must be one character").with("delimiter", text)),
        },
    }
}

fn layout(spec: &SourceSpec) -> Result<Layout> {
    let declared = match spec.settings.get("columns") {
        Some(Value::Map(columns)) => columns.as_slice(),
        _ => &[],
    };
    let schema = match spec.tables.first() {
        Some(table) => Arc::clone(&table.schema),
        None => declared_schema(declared)?,
    };
    let rule = |name: &str| declared.iter().find(|(found, _)| found == name).map(|(_, rule)| rule);
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let star = match rule(field.name()) {
            Some(Value::Call(name, arguments)) if name == "path" => Some(star(field.name(), arguments)?),
            _ => None,
        };
        let json = matches!(rule(field.name()), Some(Value::Name(word)) if word == "json")
            || field.metadata().get("lakehead.type").is_some_and(|word| word == "json");
        columns.push(Column { field: Arc::new(field.as_ref().clone().with_nullable(true)), star, json });
    }
    check_types(&columns)?;
    Ok(Layout {
        columns,
        header: spec.settings.bool_or("header", true),
        delimiter: delimiter(&spec.settings)?,
        null: spec.settings.text("null").unwrap_or("").to_owned(),
        may_lack: matches!(spec.settings.text("schema_changes"), Some("evolve" | "ignore")),
    })
}

fn star(column: &str, arguments: &[Value]) -> Result<usize> {
    match arguments {
        [Value::Int(n)] if *n >= 1 => Ok(usize::try_from(*n - 1).unwrap_or(usize::MAX)),
        _ => Err(Error::user("R0611", "path(n) counts the stars of the path from 1").with("column", column)),
    }
}

fn declared_schema(declared: &[(String, Value)]) -> Result<SchemaRef> {
    let mut fields = Vec::with_capacity(declared.len());
    for (name, rule) in declared {
        let text = match rule {
            Value::Name(word) | Value::Text(word) => word.clone(),
            Value::Call(call, _) if call == "path" => "varchar".into(),
            Value::Call(call, arguments) => format!("{call}({})", argument_texts(arguments)),
            _ => String::new(),
        };
        let data_type = parse_column_type(&text).map_err(|reason| Error::user("R0603", reason).with("column", name))?;
        fields.push(Field::new(name, data_type, true));
    }
    Ok(Arc::new(Schema::new(fields)))
}

fn argument_texts(arguments: &[Value]) -> String {
    let text = |value: &Value| match value {
        Value::Int(number) => number.to_string(),
        Value::Call(call, arguments) => format!("{call}({})", argument_texts(arguments)),
        other => other.as_text().unwrap_or_default().to_owned(),
    };
    arguments.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// Infers the columns from a sample of the files that are there.
pub(crate) async fn discover(discovery: &Discovery) -> Result<Vec<TableSpec>> {
    let settings = &discovery.settings;
    if let Some(Value::Map(declared)) = settings.get("columns") {
        let schema = declared_schema(declared)?;
        return Ok(vec![TableSpec { name: discovery.node.clone(), schema, key: Vec::new() }]);
    }
    let path = discovery.connection.required_text("path")?;
    let location = Location::open(path, &discovery.root, &discovery.connection)?;
    let text = pattern_text(&discovery.connection, settings)?;
    let entries = list(&location, &Pattern::any_time(&text)?, &excluded(settings)).await?;
    let sample = usize::try_from(settings.int_or("sample", 1000)).unwrap_or(1000).max(1);
    let mut inference = Inference::default();
    let mut reasons = Vec::new();
    for entry in entries.iter().take(SAMPLE_FILES_MAX) {
        let found = match load_sample(&location, entry, settings, delimiter(settings)?, sample).await? {
            Ok(Contents::Binary(bytes)) => match load_metadata(&bytes) {
                Ok(metadata) => {
                    let schema = readable(metadata.schema());
                    return Ok(vec![TableSpec { name: discovery.node.clone(), schema, key: Vec::new() }]);
                }
                Err(error) => Err(error.to_string()),
            },
            Ok(contents) => inference.add(&contents, sample, delimiter(settings)?, settings.bool_or("header", true)),
            Err(reason) => Err(reason),
        };
        reasons.extend(found.err());
        if inference.rows >= sample {
            break;
        }
    }
    let schema = inference.schema();
    if schema.fields().is_empty() {
        let mut error = Error::user("R0612", "there is no file to infer columns from")
            .with("path", text)
            .with("files", entries.len())
            .help("put a file there first, or say `columns = { name = type, … }`");
        if let Some(reason) = reasons.first() {
            error = error.with("reason", reason);
        }
        return Err(error);
    }
    Ok(vec![TableSpec { name: discovery.node.clone(), schema, key: Vec::new() }])
}

/// Returns the columns of a Parquet file in the types that files are read into.
fn readable(schema: &SchemaRef) -> SchemaRef {
    let field = |field: &Arc<Field>| {
        let words = lakehead_core::column_type_name(field.data_type());
        let data_type = parse_column_type(&words).unwrap_or(DataType::Utf8);
        Field::new(field.name(), data_type, true)
    };
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}
