//! From trees to a typed plan: names, settings, variables, schemas, SQL types and every check that needs no running
//! system. Pure: no file, no clock, no network, no engine; SQL is read through [`SqlAnalyzer`].

mod blind;
mod buckets;
mod catalogs;
mod definitions;
mod graph;
mod layout;
mod lifecycle;
mod lock;
mod lowering;
mod model;
mod options;
mod places;
mod project;
mod routes;
mod sinks;
mod sources;
mod sql;
mod steps;
mod storable;
mod table_names;
mod test_plan;
mod triggers;
mod values;
mod versions;

pub use graph::{graph_mermaid, graph_text};
pub use lock::{Lock, LockEntry};
pub use lowering::{Input, Planned, plan};
pub use model::{
    AlertPlan, Branch, CatalogPlan, Catchup, Comments, CopyPlan, JoinSide, Layout, LayoutTransform, Node, NodeKind,
    OnMisfit, Outcome, Overlap, Plan, RetryPlan, SchemaChanges, SecretSource, SinkPlan, SourceDeclaration, SourcePlan,
    Step, StepPlan, Stream, StreamId, TablePlan, Target, TestCase, TestCell, TestTable, Trigger, Truncate, When,
};
pub use options::{DEAD_LETTER_COLUMNS, dead_letter_schema, sink_settings, source_settings};
pub use project::Project;
pub use sql::{Column, ExpressionShape, QueryShape, Scope, SqlAnalyzer, SqlForm, SqlText};
pub use values::{expand_run, is_of_some_run, names_run};
