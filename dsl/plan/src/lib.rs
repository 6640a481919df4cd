//! From trees to a typed plan: names, settings, variables, schemas, SQL types and every check that needs no running
//! system. Pure: no file, no clock, no network, no engine; SQL is read through [`SqlAnalyzer`].

mod definitions;
mod graph;
mod lock;
mod lowering;
mod model;
mod options;
mod project;
mod sinks;
mod sources;
mod sql;
mod steps;
mod test_plan;
mod triggers;
mod values;

pub use graph::{graph_mermaid, graph_text};
pub use lock::{Lock, LockEntry};
pub use lowering::{Input, Planned, plan};
pub use model::{
    AlertPlan, Layout, LayoutTransform, Node, NodeKind, OnMisfit, Outcome, Overlap, Catchup, Plan, RetryPlan, SchemaChanges,
    SinkPlan, SourceDeclaration, SourcePlan, StepPlan, Step, Stream, StreamId, TablePlan, TestCase, TestCell, TestTable, Trigger, When,
    SecretSource, Branch, Target, Truncate, JoinSide,
};
pub use options::{DEAD_LETTER_COLUMNS, dead_letter_schema, sink_settings, source_settings};
pub use project::Project;
pub use sql::{Column, ExpressionShape, QueryShape, Scope, SqlAnalyzer, SqlText};
pub use values::expand_run;
