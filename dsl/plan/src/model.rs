//! The plan: plain data, in an order in which every part reads only what stands before it.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow_schema::{DataType, SchemaRef};
use lakehead_core::{Lifecycle, Settings, WriteMode};
use lakehead_syntax::{FileId, Span};
use serde::Serialize;

use crate::SqlText;

/// A number of a stream in [`Plan::streams`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct StreamId(pub usize);

/// Rows of one shape between two parts of the plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stream {
    /// The node's name, with the table of a set: `clean`, `shop.customers`.
    pub name: String,
    /// Data columns.
    #[serde(skip)]
    pub schema: SchemaRef,
    /// The columns of the key, if it is known.
    pub key: Vec<String>,
    /// Whether rows are changes (`_op`, deletes that carry only their key).
    pub changes: bool,
    /// Whether a delete or an update names its old row whole, whatever the key.
    pub whole_old_rows: bool,
    /// Columns that a change may leave unsent.
    pub unsent: Vec<String>,
    /// Where the schema comes from, for people.
    pub origin: String,
    /// The source's table that the rows come from, as the source names it: what `${table}` stands for. None where
    /// several tables meet.
    pub table: Option<String>,
}

/// A compiled pipeline.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// Its identity over restarts and renames: a uuid from project, pipeline and profile.
    pub id: String,
    /// Its doc comment.
    pub doc: Option<String>,
    /// The file it stands in.
    #[serde(skip)]
    pub file: FileId,
    /// Its place.
    #[serde(skip)]
    pub span: Span,
    /// When it runs.
    pub trigger: Trigger,
    /// Streams by number.
    pub streams: Vec<Stream>,
    /// Parts that read, compute and write, in order.
    pub nodes: Vec<Node>,
    /// Where rejected rows go.
    pub dead_letter: Option<SinkPlan>,
    /// How a failed run is repeated.
    pub retry: RetryPlan,
    /// Who is told.
    pub alerts: Vec<AlertPlan>,
    /// Parameters of SQL by name, `$name`: variables as the profile has them.
    pub parameters: BTreeMap<String, lakehead_core::Value>,
    /// Settings that are checked and not carried out yet, with their places; `run` refuses them.
    pub not_yet: Vec<(String, String)>,
}

/// One part of a plan.
#[derive(Clone, Debug, Serialize)]
pub struct Node {
    /// Its name in the pipeline.
    pub name: String,
    /// What it does.
    pub kind: NodeKind,
}

/// What a node does.
#[derive(Clone, Debug, Serialize)]
pub enum NodeKind {
    /// Reads.
    Source(SourcePlan),
    /// Computes one stream from others.
    Transform {
        /// What it reads.
        inputs: Vec<StreamId>,
        /// What it computes.
        output: StreamId,
        /// How, in order.
        steps: Vec<Step>,
    },
    /// Sends each row one way.
    Route {
        /// What it reads.
        input: StreamId,
        /// Branches in the order they are tried.
        branches: Vec<Branch>,
        /// Where the other rows go.
        otherwise: Target,
    },
    /// Writes.
    Sink(SinkPlan),
}

/// One branch of a route.
#[derive(Clone, Debug, Serialize)]
pub struct Branch {
    /// Its name.
    pub name: String,
    /// Which rows take it.
    pub condition: SqlText,
    /// Where they go.
    pub output: StreamId,
}

/// Where a row goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Target {
    /// Into a stream.
    Stream(StreamId),
    /// To the dead letters.
    DeadLetter,
}

/// What to do with a row that does not fit its declared columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum OnMisfit {
    /// The run fails.
    Fail,
    /// The row is left out.
    Drop,
    /// The row is set aside.
    DeadLetter,
}

/// What to do when a source's columns change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum SchemaChanges {
    /// Added columns are taken over; anything else stops the table.
    Evolve,
    /// The pipeline stops until `apply`.
    Ask,
    /// The old columns are read.
    Ignore,
    /// The pipeline fails.
    Fail,
}

/// A node that reads.
#[derive(Clone, Debug, Serialize)]
pub struct SourcePlan {
    /// The connector's name.
    pub connector: String,
    /// The connection's name.
    pub connection_name: String,
    /// The connection's settings.
    pub connection: Settings,
    /// The node's settings.
    pub settings: Settings,
    /// Its tables and the streams they feed.
    pub tables: Vec<TablePlan>,
    /// Whether it never ends.
    pub endless: bool,
    /// Whether it emits changes.
    pub changes: bool,
    /// Whether inputs arrive by themselves, so that a look tells of them.
    pub arrives: bool,
    /// Rows that do not fit.
    pub on_misfit: OnMisfit,
    /// Columns that change.
    pub schema_changes: SchemaChanges,
}

/// A source as the file declares it, before its columns are known.
#[derive(Clone, Debug)]
pub struct SourceDeclaration {
    /// The pipeline's name.
    pub pipeline: String,
    /// The node's name.
    pub node: String,
    /// What the lock file calls it, where it is not a set of tables.
    pub object: String,
    /// The connector's name.
    pub connector: String,
    /// The connection's name.
    pub connection_name: String,
    /// The connection's settings.
    pub connection: Settings,
    /// The node's settings.
    pub settings: Settings,
}

/// One table of a source.
#[derive(Clone, Debug, Serialize)]
pub struct TablePlan {
    /// The source's name of it.
    pub name: String,
    /// The stream it feeds, before any in-place transform.
    pub stream: StreamId,
}

/// A catalog that lists a table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CatalogPlan {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Its settings.
    pub settings: Settings,
    /// The table's name in it, parts joined by dots.
    pub table: String,
}

/// What catalogs say of a table to people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Comments {
    /// Of the table: the sink's doc comment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Of columns, by their names: what the source says of them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
}

/// One step of a transform, with the columns it leaves.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// What it does.
    pub kind: StepPlan,
    /// Data columns before it, by the name that qualifies them: more than one side after a join.
    #[serde(skip)]
    pub sides: Vec<(String, SchemaRef)>,
    /// Data columns behind it.
    #[serde(skip)]
    pub schema: SchemaRef,
    /// The key behind it.
    pub key: Vec<String>,
    /// For each column behind it, the columns before it that it is computed from (row-wise steps).
    pub lineage: BTreeMap<String, Vec<String>>,
    /// Whether a row's result depends on that row alone.
    pub row_wise: bool,
}

/// The right side of a join.
#[derive(Clone, Debug, Serialize)]
pub struct JoinSide {
    /// The name it is qualified by.
    pub name: String,
    /// Its stream.
    pub stream: StreamId,
}

/// What a step does.
#[derive(Clone, Debug, Serialize)]
pub enum StepPlan {
    /// Keeps rows.
    Where(SqlText),
    /// Adds or replaces columns.
    Derive(SqlText),
    /// Leaves exactly these columns.
    Select(SqlText),
    /// Removes columns.
    Drop(Vec<String>),
    /// Groups.
    Aggregate {
        /// Aggregates, a select list.
        values: SqlText,
        /// Keys, a select list.
        by: SqlText,
    },
    /// Joins a second stream.
    Join {
        /// Whether rows without a partner stay.
        left: bool,
        /// The name the left side is qualified by.
        left_name: String,
        /// The right side.
        right: JoinSide,
        /// The condition.
        on: SqlText,
    },
    /// Keeps the first row per key.
    Dedupe(SqlText),
    /// All inputs, end to end.
    Union,
    /// A rule.
    Expect {
        /// Its name.
        name: String,
        /// What must be true.
        condition: SqlText,
        /// What happens otherwise.
        action: lakehead_syntax::ast::Action,
        /// Whether it is a rule on the batch.
        batch: bool,
    },
    /// A whole query.
    Query {
        /// Its text.
        sql: SqlText,
        /// Its tables: name and stream; `input` where steps came before.
        tables: Vec<(String, StreamId)>,
    },
}

/// How a column of a layout is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum LayoutTransform {
    /// The column itself.
    Identity,
    /// `year(c)`: int.
    Year,
    /// `month(c)`: text YYYY-MM.
    Month,
    /// `day(c)`: date.
    Day,
    /// `hour(c)`: int, 0-23.
    Hour,
    /// `truncate(c, n)`: the first `n` characters of a text, or the greatest multiple of `n` that is not above a number.
    Truncate(u32),
}

/// One partition column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Layout {
    /// The column it is made from.
    pub source: String,
    /// How.
    pub transform: LayoutTransform,
    /// Its name: `ts_day`.
    pub name: String,
    /// Its type.
    #[serde(skip)]
    pub data_type: DataType,
}

/// What a truncated source table does to the lake's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Truncate {
    /// Empties it.
    Apply,
    /// Stops and asks.
    Pause,
    /// Nothing.
    Ignore,
    /// Fails.
    Fail,
}

/// A node that writes: one table.
#[derive(Clone, Debug, Serialize)]
pub struct SinkPlan {
    /// The sink's name in the file; several tables of a set share it.
    pub node: String,
    /// The connector's name.
    pub connector: String,
    /// The connection's name.
    pub connection_name: String,
    /// The connection's settings.
    pub connection: Settings,
    /// The node's settings.
    pub settings: Settings,
    /// The stream it reads.
    pub input: StreamId,
    /// The table's name; for a files sink its path, `${run.…}` not yet filled in.
    pub table: String,
    /// How the table is changed.
    pub mode: WriteMode,
    /// Which rows are the same.
    pub key: Vec<String>,
    /// Data columns written, layout columns included.
    #[serde(skip)]
    pub schema: SchemaRef,
    /// Partition columns, in order.
    pub layout: Vec<Layout>,
    /// The storage rules of the table, whole, so that nobody needs the definitions; boxed, as few sinks have any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Box<Lifecycle>>,
    /// Where the table is copied to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<CopyPlan>,
    /// The catalogs that list the table.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub catalogs: Vec<CatalogPlan>,
    /// What catalogs say of the table to people.
    pub comments: Box<Comments>,
    /// The column that orders the rows of a key where the source does not.
    pub sequence_by: Option<String>,
    /// What a truncated source does.
    pub on_truncate: Truncate,
    /// Whether deletes of the source delete.
    pub deletes: bool,
    /// Whether a row that is set aside deletes its key's row (`on_reject = delete`); else the last good one stays.
    pub deletes_rejected: bool,
    /// Greatest age of an epoch.
    #[serde(skip)]
    pub commit_every: Option<Duration>,
    /// The sink's place.
    #[serde(skip)]
    pub span: Span,
}

/// A place that keeps a copy of a table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CopyPlan {
    /// The name of the connection that takes it, of the same kind as the table's.
    pub connection_name: String,
    /// Its settings.
    pub connection: Settings,
    /// Whether what no version of the copy needs is removed from it.
    pub deletes: bool,
}

/// When a pipeline runs.
#[derive(Clone, Debug, Serialize)]
pub struct Trigger {
    /// The occasion.
    pub when: When,
    /// The time zone of a cron text.
    pub timezone: String,
    /// How long after the occasion.
    pub delay: Duration,
    /// Which missed occasions are made up for.
    pub catchup: Catchup,
    /// What an occasion does while a run is on.
    pub overlap: Overlap,
    /// How far apart the parents of an `after` may end; how long arrivals settle.
    pub within: Option<Duration>,
    /// Whether it fires at all.
    pub enabled: bool,
}

/// An occasion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum When {
    /// Always on.
    Continuous,
    /// By hand.
    Manual,
    /// A new object.
    Arrival,
    /// At times.
    Cron(String),
    /// At equal distances from the epoch.
    Every(Duration),
    /// An event of this type.
    Event(String),
    /// When others have ended.
    After(Vec<String>, Outcome),
}

/// How a parent must have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Outcome {
    /// Well.
    Succeeded,
    /// Badly.
    Failed,
    /// Either way.
    Finished,
}

/// Which missed occasions are made up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Catchup {
    /// Each.
    All,
    /// The last.
    Latest,
    /// None.
    None,
}

/// What an occasion does while a run is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Overlap {
    /// It is left out.
    Skip,
    /// It waits.
    Queue,
}

/// How a failed run is repeated.
#[derive(Clone, Debug, Serialize)]
pub struct RetryPlan {
    /// Attempts after the first.
    pub max: u32,
    /// The first pause; each next one is twice as long.
    pub backoff: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
    /// How long one attempt may take.
    pub timeout: Option<Duration>,
}

impl Default for RetryPlan {
    fn default() -> Self {
        let (backoff, backoff_max) = (Duration::from_secs(1), Duration::from_secs(60));
        Self { max: 5, backoff, backoff_max, timeout: None }
    }
}

/// Who is told of what.
#[derive(Clone, Debug, Serialize)]
pub struct AlertPlan {
    /// The connector's name.
    pub connector: String,
    /// The connection's name.
    pub connection_name: String,
    /// The connection's settings.
    pub connection: Settings,
    /// `failed`, `missed`, `lag_over`, `dead_letters_over`, `after`.
    pub settings: Settings,
}

/// Where a secret's text is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum SecretSource {
    /// In an environment variable.
    Environment(String),
    /// In a file.
    File(String),
}

/// A test of a pipeline.
#[derive(Clone, Debug)]
pub struct TestCase {
    /// Its title.
    pub title: String,
    /// Its pipeline.
    pub pipeline: String,
    /// The file it stands in.
    pub file: FileId,
    /// Its place.
    pub span: Span,
    /// `now`, `run_start`, `run_end` in microseconds since the epoch, and `drain`.
    pub now: Option<i64>,
    /// Start of the run's interval.
    pub run_start: Option<i64>,
    /// End of the run's interval.
    pub run_end: Option<i64>,
    /// Rows that go in.
    pub given: Vec<TestTable>,
    /// Rows that must come out.
    pub then: Vec<TestTable>,
}

/// Rows of a test.
#[derive(Clone, Debug)]
pub struct TestTable {
    /// The node, or a table of it, as it is written: `lake.customers`.
    pub node: String,
    /// Its place.
    pub span: Span,
    /// Column names.
    pub header: Vec<String>,
    /// Rows of cells.
    pub rows: Vec<Vec<TestCell>>,
    /// A file that holds the rows instead.
    pub path: Option<String>,
}

/// A cell of a test's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestCell {
    /// Its text; `None` is NULL.
    pub value: Option<String>,
    /// Its place.
    pub span: Span,
}
