//! Pipelines: stages and steps.

use serde::Serialize;

use super::{Duration, Name, Path, Setting, Settings, Sql, Template};
use crate::Span;

/// `pipeline NAME { … }`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pipeline {
    /// Doc comment.
    pub doc: Option<String>,
    /// Its name.
    pub name: Name,
    /// Settings that stand before the first stage, such as `was`.
    pub settings: Vec<Setting>,
    /// Stages, in text order, which is the order of the data.
    pub stages: Vec<Stage>,
    /// The whole definition.
    pub span: Span,
}

/// A stage of a pipeline.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Stage {
    /// When it runs.
    Trigger(Trigger),
    /// A node that reads.
    Source(Source),
    /// A node that computes.
    Transform(Transform),
    /// One way per row.
    Route(Route),
    /// A node that writes.
    Sink(Sink),
    /// Where rejected rows go.
    DeadLetter(DeadLetter),
    /// How failed runs are repeated.
    Retry(Retry),
    /// Who is told.
    Alert(Alert),
}

impl Stage {
    /// The whole stage.
    pub fn span(&self) -> Span {
        match self {
            Stage::Trigger(stage) => stage.span,
            Stage::Source(stage) => stage.span,
            Stage::Transform(stage) => stage.span,
            Stage::Route(stage) => stage.span,
            Stage::Sink(stage) => stage.span,
            Stage::DeadLetter(stage) => stage.span,
            Stage::Retry(stage) => stage.span,
            Stage::Alert(stage) => stage.span,
        }
    }

    /// The doc comment above it.
    pub fn doc(&self) -> Option<&str> {
        match self {
            Stage::Trigger(stage) => stage.doc.as_deref(),
            Stage::Source(stage) => stage.doc.as_deref(),
            Stage::Transform(stage) => stage.doc.as_deref(),
            Stage::Route(stage) => stage.doc.as_deref(),
            Stage::Sink(stage) => stage.doc.as_deref(),
            Stage::DeadLetter(stage) => stage.doc.as_deref(),
            Stage::Retry(stage) => stage.doc.as_deref(),
            Stage::Alert(stage) => stage.doc.as_deref(),
        }
    }

    pub(crate) fn doc_mut(&mut self) -> &mut Option<String> {
        match self {
            Stage::Trigger(stage) => &mut stage.doc,
            Stage::Source(stage) => &mut stage.doc,
            Stage::Transform(stage) => &mut stage.doc,
            Stage::Route(stage) => &mut stage.doc,
            Stage::Sink(stage) => &mut stage.doc,
            Stage::DeadLetter(stage) => &mut stage.doc,
            Stage::Retry(stage) => &mut stage.doc,
            Stage::Alert(stage) => &mut stage.doc,
        }
    }
}

/// `trigger WHEN [{ … }]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trigger {
    /// Doc comment.
    pub doc: Option<String>,
    /// The occasion.
    pub when: When,
    /// Where the occasion is written, without the settings.
    pub when_span: Span,
    /// `timezone`, `delay`, …; absent where there are no braces.
    pub settings: Option<Settings>,
    /// The whole stage.
    pub span: Span,
}

/// When a pipeline runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum When {
    /// `continuous`
    Continuous,
    /// `manual`
    Manual,
    /// `arrival`
    Arrival,
    /// `cron "30 2 * * *"`
    Cron(Template),
    /// `every 5m`
    Every(Duration),
    /// `event "order.*" [when { SQL }]`
    Event {
        /// Pattern of the event's type.
        pattern: Template,
        /// Which of them.
        when: Option<Sql>,
    },
    /// `after A, B [succeeded / failed / finished]`
    After {
        /// The pipelines waited for.
        pipelines: Vec<Path>,
        /// How they must have ended, if it is written.
        outcome: Option<Outcome>,
    },
}

/// How a run must have ended to start another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Outcome {
    /// `succeeded`
    Succeeded,
    /// `failed`
    Failed,
    /// `finished`, either way
    Finished,
}

/// `source [NAME =] CONN { … }`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Source {
    /// Doc comment.
    pub doc: Option<String>,
    /// The name before `=`, if there is one.
    pub name: Option<Name>,
    /// The connection read.
    pub connection: Name,
    /// Settings.
    pub settings: Settings,
    /// The whole stage.
    pub span: Span,
}

impl Source {
    /// The node's name: the one before `=`, else the connection's.
    pub fn node_name(&self) -> &Name {
        self.name.as_ref().unwrap_or(&self.connection)
    }
}

/// `transform [TARGET] [from A, B] { steps }`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Transform {
    /// Doc comment.
    pub doc: Option<String>,
    /// Its name, or the table (`shop.customers`) or tables (`shop.*`) it changes in place.
    pub target: Option<Path>,
    /// The nodes after `from`; empty where there is no `from`.
    pub from: Vec<Path>,
    /// Steps, in text order.
    pub steps: Vec<Step>,
    /// The whole stage.
    pub span: Span,
}

/// `route [from A] { name when { SQL } … else name }`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Route {
    /// Doc comment.
    pub doc: Option<String>,
    /// The nodes after `from`; empty where there is no `from`.
    pub from: Vec<Path>,
    /// Branches, in the order in which they are tried.
    pub branches: Vec<Branch>,
    /// Where the other rows go.
    pub otherwise: Name,
    /// The whole stage.
    pub span: Span,
}

/// `name when { SQL }`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Branch {
    /// The branch's node name.
    pub name: Name,
    /// Which rows take it.
    pub condition: Sql,
    /// The whole branch.
    pub span: Span,
}

/// `sink [NAME =] CONN [from A] { … }`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sink {
    /// Doc comment.
    pub doc: Option<String>,
    /// The name before `=`, if there is one.
    pub name: Option<Name>,
    /// The connection written.
    pub connection: Name,
    /// The nodes after `from`; empty where there is no `from`.
    pub from: Vec<Path>,
    /// Settings.
    pub settings: Settings,
    /// The whole stage.
    pub span: Span,
}

impl Sink {
    /// The node's name: the one before `=`, else the connection's.
    pub fn node_name(&self) -> &Name {
        self.name.as_ref().unwrap_or(&self.connection)
    }
}

/// `dead_letter CONN { … }`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeadLetter {
    /// Doc comment.
    pub doc: Option<String>,
    /// The connection written.
    pub connection: Name,
    /// Settings.
    pub settings: Settings,
    /// The whole stage.
    pub span: Span,
}

/// `retry { … }`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Retry {
    /// Doc comment.
    pub doc: Option<String>,
    /// Settings.
    pub settings: Settings,
    /// The whole stage.
    pub span: Span,
}

/// `alert CONN { … }`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alert {
    /// Doc comment.
    pub doc: Option<String>,
    /// The connection told.
    pub connection: Name,
    /// Settings.
    pub settings: Settings,
    /// The whole stage.
    pub span: Span,
}

/// A step of a transform.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// What it does.
    pub kind: StepKind,
    /// The whole step.
    pub span: Span,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum StepKind {
    /// `where { SQL boolean }`
    Where(Sql),
    /// `derive { expr as name, … }`
    Derive(Sql),
    /// `select { expr as name, … }`
    Select(Sql),
    /// `drop [if exists] { a, b }`
    Drop {
        /// Whether absent columns are no mistake.
        if_exists: bool,
        /// The columns.
        columns: Sql,
    },
    /// `aggregate { … } by { … } [emit { … }] [keep { … }]`
    Aggregate(Aggregate),
    /// `[left] join NODE [as of COLUMN / within 5m] on { … }`
    Join(Join),
    /// `dedupe by { keys } [within 1h]`
    Dedupe {
        /// The keys.
        by: Sql,
        /// How far apart two rows of one key may be.
        within: Option<Duration>,
    },
    /// `union`
    Union,
    /// `expect [NAME] { SQL boolean } else ACTION`
    Expect(Expect),
    /// `sql { SELECT … }`
    Query(Sql),
}

impl StepKind {
    /// The word the step begins with (`join` for a left join).
    pub fn word(&self) -> &'static str {
        match self {
            StepKind::Where(_) => "where",
            StepKind::Derive(_) => "derive",
            StepKind::Select(_) => "select",
            StepKind::Drop { .. } => "drop",
            StepKind::Aggregate(_) => "aggregate",
            StepKind::Join(_) => "join",
            StepKind::Dedupe { .. } => "dedupe",
            StepKind::Union => "union",
            StepKind::Expect(_) => "expect",
            StepKind::Query(_) => "sql",
        }
    }
}

/// `aggregate { … } by { … } [emit { … }] [keep { … }]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Aggregate {
    /// The aggregates, a select list.
    pub values: Sql,
    /// The keys.
    pub by: Sql,
    /// When results come.
    pub emit: Option<Emit>,
    /// What stays in the window.
    pub keep: Option<Settings>,
}

/// `emit { … }`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Emit {
    /// Its settings, such as `rows` and `every`.
    pub settings: Vec<Setting>,
    /// `delta = 5 on { price }`
    pub delta: Option<Delta>,
    /// The braces and what is between them.
    pub span: Span,
}

/// `delta = 5 on { price }`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Delta {
    /// How far the value must move, as written.
    pub distance: String,
    /// Where the distance is written.
    pub distance_span: Span,
    /// The value watched.
    pub on: Sql,
    /// The whole rule.
    pub span: Span,
}

/// How the rows of two sides meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum JoinKind {
    /// Rows without a partner are dropped: `join`, `inner join`.
    Inner,
    /// Rows of the left side stay: `left join`.
    Left,
}

/// `[left] join NODE [as of COLUMN / within 5m] on { … }`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Join {
    /// Inner or left.
    pub kind: JoinKind,
    /// The right side.
    pub with: Path,
    /// How time limits the match.
    pub time: JoinTime,
    /// The condition.
    pub on: Sql,
}

/// How time limits the match of a join.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum JoinTime {
    /// Not at all.
    Any,
    /// `as of COLUMN`: the newest right row not after it.
    AsOf(Path),
    /// `within 5m`: event times at most so far apart.
    Within(Duration),
}

/// `expect [NAME] { SQL boolean } else ACTION`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Expect {
    /// The rule's name.
    pub name: Option<Name>,
    /// What must be true.
    pub condition: Sql,
    /// What happens otherwise.
    pub action: Action,
    /// Where the action is written.
    pub action_span: Span,
}

/// What happens to a row (or batch) that an expectation refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Action {
    /// `warn`
    Warn,
    /// `drop`
    Drop,
    /// `dead_letter`
    DeadLetter,
    /// `fail`
    Fail,
}
