//! What a connector declares of itself: its options as data, and how it is built.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use arrow_schema::{DataType, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::{Clock, CopySpec, Expired, Listing, Micros, RecordStore, Result, Settings, Sink, Source, TableCopy, Value};

/// What a setting may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionKind {
    /// Any text.
    Text,
    /// A whole number.
    Int,
    /// `true` or `false`.
    Bool,
    /// `30s`.
    Duration,
    /// `64MB`.
    Size,
    /// `1%`, or a number.
    Percent,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A column of the rows at that place.
    Column,
    /// A list of columns.
    Columns,
    /// A list of columns or transforms of columns, `day(ts)`.
    Layout,
    /// A list of texts.
    Texts,
    /// `{ name = type, … }`, or the word `infer`.
    Schema,
    /// A map whose contents the connector checks.
    Map,
    /// `{ name = value, … }` of these settings.
    Settings(&'static [OptionSpec]),
    /// A secret by its name: a text that stands in a file is refused.
    Secret,
    /// A text, or a secret where it holds one.
    TextOrSecret,
    /// The name of a lifecycle or a sink.
    Reference,
    /// The names of catalogs: one, or a list.
    References,
    /// Anything; the connector checks it.
    Any,
}

/// One documented option: `check`, the reference, completion and redaction all come from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionSpec {
    /// The setting's name.
    pub name: &'static str,
    /// What it may hold.
    pub kind: OptionKind,
    /// Whether it must be set.
    pub required: bool,
    /// What holds where it is not set, as it would be written.
    pub default: Option<&'static str>,
    /// One line for people.
    pub summary: &'static str,
}

impl OptionSpec {
    /// Declares an option that may be left out.
    pub const fn new(name: &'static str, kind: OptionKind, summary: &'static str) -> Self {
        Self { name, kind, required: false, default: None, summary }
    }

    /// Says that the option must be set.
    #[must_use]
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Says what holds where the option is not set.
    #[must_use]
    pub const fn default(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }
}

/// How a sink changes its table (the table of modes in the language).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WriteMode {
    /// Every row, once.
    Append,
    /// The newest row per key.
    Upsert,
    /// One run's rows instead of those it covers.
    Overwrite,
    /// Every change as a row.
    Changelog,
    /// Every version, with its validity.
    Scd2,
    /// The same rows in fewer files.
    Compact,
}

impl WriteMode {
    /// Returns the word of the language.
    pub fn word(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Upsert => "upsert",
            Self::Overwrite => "overwrite",
            Self::Changelog => "changelog",
            Self::Scd2 => "scd2",
            Self::Compact => "compact",
        }
    }

    /// Reads the word of the language.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Append, Self::Upsert, Self::Overwrite, Self::Changelog, Self::Scd2, Self::Compact]
            .into_iter()
            .find(|mode| mode.word() == word)
    }
}

/// One table or stream of a source.
#[derive(Clone, Debug, PartialEq)]
pub struct TableSpec {
    /// The source's name of it: `public.orders`, or the node's name where there is just one.
    pub name: String,
    /// Its columns.
    pub schema: SchemaRef,
    /// The columns of its primary key; empty where it has none.
    pub key: Vec<String>,
}

/// The run that a source or sink is built for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunContext {
    /// The run's name, unique in its pipeline: the scheduled instant, or the interval of a backfill.
    pub id: String,
    /// The interval's start, inclusive.
    pub start: Micros,
    /// The interval's end, exclusive.
    pub end: Micros,
}

/// Everything a source is built from.
#[derive(Clone, Debug)]
pub struct SourceSpec {
    /// The pipeline's identity (a uuid as text).
    pub pipeline: String,
    /// The node's name.
    pub node: String,
    /// Settings of its connection.
    pub connection: Settings,
    /// Settings of the node.
    pub settings: Settings,
    /// The tables to read.
    pub tables: Vec<TableSpec>,
    /// The project's folder, which relative paths start at.
    pub root: PathBuf,
    /// The run.
    pub run: RunContext,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Everything a sink is built from: one table.
#[derive(Clone, Debug)]
pub struct SinkSpec {
    /// The pipeline's identity (a uuid as text).
    pub pipeline: String,
    /// The node's name.
    pub node: String,
    /// The table's name, `mirror.orders`; for a files sink, the path.
    pub table: String,
    /// The columns that will be staged and kept, layout columns included; a reserved name among them is a column too.
    pub schema: SchemaRef,
    /// The columns that say which rows are the same.
    pub key: Vec<String>,
    /// How the table is changed.
    pub mode: WriteMode,
    /// The columns whose values name a partition, in order; each is in `schema`.
    pub partition_by: Vec<String>,
    /// Settings of its connection.
    pub connection: Settings,
    /// Settings of the node.
    pub settings: Settings,
    /// The project's folder, which relative paths start at.
    pub root: PathBuf,
    /// A folder on this machine for what can be built anew.
    pub cache: PathBuf,
    /// The run.
    pub run: RunContext,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// What [`SourceRole::discover`] is asked.
#[derive(Clone, Debug)]
pub struct Discovery {
    /// Settings of the connection, secrets filled in.
    pub connection: Settings,
    /// Settings of the node; `tables` holds the patterns.
    pub settings: Settings,
    /// The node's name.
    pub node: String,
    /// The project's folder.
    pub root: PathBuf,
}

/// A boxed future, for the function pointers of a [`Connector`].
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Asks a system for the tables of a source.
pub type Discover = for<'a> fn(&'a Discovery) -> Boxed<'a, Result<Vec<TableSpec>>>;

/// Returns the place for a pipeline's records in a sink's connection.
pub type Records = fn(&SinkSpec) -> Result<Option<Arc<dyn RecordStore>>>;

/// The setting by which a plan tells a source that its runs replace what they wrote before: what an interval was read
/// from is recorded, and read again as a whole.
pub const RECORDED: &str = "recorded";

/// What a look at a source's inputs finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// Changes when inputs arrive that the source would read; `None` where there are none.
    pub fingerprint: Option<String>,
    /// Intervals that have gained inputs since they were read, in order.
    pub late: Vec<LateInterval>,
}

/// An interval that is to be made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateInterval {
    /// Its start, inclusive.
    pub start: Micros,
    /// Its end, exclusive.
    pub end: Micros,
    /// Changes with its inputs: one that could not be made again is tried again when they are others.
    pub fingerprint: String,
}

/// Looks at a source's inputs. Reads none of them, only their names, sizes and times.
pub type Arrivals = for<'a> fn(&'a SourceSpec) -> Boxed<'a, Result<Arrived>>;

/// Returns whether the table is there. Writes nothing.
pub type Exists = for<'a> fn(&'a SinkSpec) -> Boxed<'a, Result<bool>>;

/// Reads what a catalog must know of a table; `None` where the table is not there. Writes nothing.
pub type Describe = for<'a> fn(&'a SinkSpec) -> Boxed<'a, Result<Option<Listing>>>;

/// Says which rows of a table are past the age that its lifecycle asks for; `None` where no row expires, or the table is
/// not there. Writes nothing.
pub type PastAge = for<'a> fn(&'a SinkSpec) -> Boxed<'a, Result<Option<Expired>>>;

/// Names the data files that a table's newest version consists of, with their bytes; `None` where the table does not say which
/// files it consists of. Writes nothing.
pub type DataFiles = for<'a> fn(&'a SinkSpec) -> Boxed<'a, Result<Option<Vec<(String, u64)>>>>;

/// Builds what keeps a copy of a table in another connection of the same kind; does no input or output.
pub type Replicate = fn(CopySpec) -> Result<Box<dyn TableCopy>>;

/// Sends a text about a pipeline to people: the connection's settings, the pipeline's name, the text.
pub type Alert = for<'a> fn(&'a Settings, &'a str, &'a str) -> Boxed<'a, Result<()>>;

/// A connector's side that reads.
#[derive(Clone, Copy)]
pub struct SourceRole {
    /// The options of a `source` block.
    pub options: &'static [OptionSpec],
    /// Whether a source with these settings never ends.
    pub endless: fn(&Settings) -> bool,
    /// Whether a source with these settings is a set of tables with changes (`capture = cdc`).
    pub changes: fn(&Settings) -> bool,
    /// Builds the source; does no input or output.
    pub build: fn(SourceSpec) -> Result<Box<dyn Source>>,
    /// Asks the system for tables, columns and keys, for `lakehead.lock`.
    pub discover: Discover,
    /// Looks for inputs that arrive by themselves (`trigger arrival`); `None` where nothing arrives.
    pub arrivals: Option<Arrivals>,
    /// The type of a declared column whose value is a rule of this connector's and no type, `path(1)`.
    pub column_rule: fn(&Value) -> Option<DataType>,
    /// What a first run makes at the source, a line each, for `lakehead plan`.
    pub makes: fn(&Settings) -> Vec<String>,
    /// Whether the source, read again, gives the rows that tables filled from it must hold.
    pub comparable: bool,
}

/// A connector's side that writes.
#[derive(Clone, Copy)]
pub struct SinkRole {
    /// The options of a `sink` block.
    pub options: &'static [OptionSpec],
    /// The modes it knows; the first is the default.
    pub modes: &'static [WriteMode],
    /// Builds the sink; does no input or output.
    pub build: fn(SinkSpec) -> Result<Box<dyn Sink>>,
    /// Returns the place for the pipeline's records in this connection; `None` where it can hold none.
    pub records: Records,
    /// Looks whether a table is there; `None` where nothing is kept.
    pub exists: Option<Exists>,
    /// Reads what a catalog must know of a table; `None` where no catalog lists it.
    pub describe: Option<Describe>,
    /// Lists what a table consists of; `None` where that is all that lies in its folder, or nothing is kept.
    pub data_files: Option<DataFiles>,
    /// Looks for rows that expire; `None` where the writer carries out neither `expire` nor `vacuum` of a lifecycle.
    pub past_age: Option<PastAge>,
    /// Keeps copies of a table; `None` where nothing does.
    pub replicate: Option<Replicate>,
    /// Whether copies of tables of every kind may lie in its connections: these are places for objects, whatever they are.
    pub holds_copies: bool,
    /// The command that reads a table at a location with a reader that others wrote.
    pub query: fn(&str) -> Option<String>,
    /// Says what readers of such a table must know, for `check` and `plan`; `None` where nothing.
    pub readers: fn(WriteMode, &Settings) -> Option<&'static str>,
}

/// One connector: the single value by which the registry knows it.
#[derive(Clone, Copy)]
pub struct Connector {
    /// The word behind a connection's name.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// Whether it is used without a `connection` block, by its own name.
    pub built_in: bool,
    /// The options of a `connection` block.
    pub connection: &'static [OptionSpec],
    /// Its reading side.
    pub source: Option<SourceRole>,
    /// Its writing side.
    pub sink: Option<SinkRole>,
    /// How it tells people of a pipeline; `None` where it cannot.
    pub alert: Option<Alert>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("name", &self.name).finish_non_exhaustive()
    }
}
