//! The tree of one file: everything has a span, no name is resolved.
//!
//! Spans never include blanks or comments at their ends. Names, paths and settings keep the order of the text.

use serde::Serialize;

use crate::Span;

mod compare;
mod pipeline;
mod value;

pub use pipeline::*;
pub use value::{Call, Chunk, Duration, Name, Path, Percent, Setting, Settings, Size, Sql, Template, Value, ValueKind};

/// One `*.lake` file.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct File {
    /// Definitions, in text order.
    pub items: Vec<Item>,
}

/// A definition.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Item {
    /// `use "path"`
    Use(Use),
    /// `var NAME: type = default`
    Var(Var),
    /// `profile NAME { var = value }`
    Profile(Profile),
    /// `secret NAME = env("…")`
    Secret(Secret),
    /// `connection NAME TYPE { … }`
    Connection(Connection),
    /// `catalog NAME TYPE { … }`
    Catalog(Catalog),
    /// `lifecycle NAME { … }`
    Lifecycle(Lifecycle),
    /// `pipeline NAME { … }`
    Pipeline(Pipeline),
    /// `test "title" of PIPELINE { … }`
    Test(Test),
}

impl Item {
    /// The whole definition.
    pub fn span(&self) -> Span {
        match self {
            Item::Use(item) => item.span,
            Item::Var(item) => item.span,
            Item::Profile(item) => item.span,
            Item::Secret(item) => item.span,
            Item::Connection(item) => item.span,
            Item::Catalog(item) => item.span,
            Item::Lifecycle(item) => item.span,
            Item::Pipeline(item) => item.span,
            Item::Test(item) => item.span,
        }
    }

    /// The doc comment above it.
    pub fn doc(&self) -> Option<&str> {
        match self {
            Item::Use(item) => item.doc.as_deref(),
            Item::Var(item) => item.doc.as_deref(),
            Item::Profile(item) => item.doc.as_deref(),
            Item::Secret(item) => item.doc.as_deref(),
            Item::Connection(item) => item.doc.as_deref(),
            Item::Catalog(item) => item.doc.as_deref(),
            Item::Lifecycle(item) => item.doc.as_deref(),
            Item::Pipeline(item) => item.doc.as_deref(),
            Item::Test(item) => item.doc.as_deref(),
        }
    }

    pub(crate) fn doc_mut(&mut self) -> &mut Option<String> {
        match self {
            Item::Use(item) => &mut item.doc,
            Item::Var(item) => &mut item.doc,
            Item::Profile(item) => &mut item.doc,
            Item::Secret(item) => &mut item.doc,
            Item::Connection(item) => &mut item.doc,
            Item::Catalog(item) => &mut item.doc,
            Item::Lifecycle(item) => &mut item.doc,
            Item::Pipeline(item) => &mut item.doc,
            Item::Test(item) => &mut item.doc,
        }
    }
}

/// `use "path"`: another directory or file of definitions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Use {
    /// Doc comment.
    pub doc: Option<String>,
    /// The path as written.
    pub path: Template,
    /// From `use` to the path's end.
    pub span: Span,
}

/// The type of a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum VarType {
    /// `string`
    String,
    /// `int`
    Int,
    /// `bool`
    Bool,
    /// `duration`
    Duration,
    /// `size`
    Size,
}

impl VarType {
    /// The words of all types, as they are written.
    pub const WORDS: [&'static str; 5] = ["string", "int", "bool", "duration", "size"];

    /// The word for this type.
    pub fn word(self) -> &'static str {
        Self::WORDS[self as usize]
    }
}

/// `var NAME: type = default`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Var {
    /// Doc comment.
    pub doc: Option<String>,
    /// Its name.
    pub name: Name,
    /// Its type.
    pub ty: VarType,
    /// Where the type is written.
    pub ty_span: Span,
    /// The value where no profile gives one.
    pub default: Option<Value>,
    /// The whole definition.
    pub span: Span,
}

/// `profile NAME { var = value }`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Profile {
    /// Doc comment.
    pub doc: Option<String>,
    /// Its name.
    pub name: Name,
    /// Values of variables.
    pub settings: Settings,
    /// The whole definition.
    pub span: Span,
}

/// `secret NAME = env("…")`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Secret {
    /// Doc comment.
    pub doc: Option<String>,
    /// Its name.
    pub name: Name,
    /// Where it comes from.
    pub from: Call,
    /// The whole definition.
    pub span: Span,
}

/// `connection NAME TYPE { … }`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Connection {
    /// Doc comment.
    pub doc: Option<String>,
    /// Its name.
    pub name: Name,
    /// The kind of system.
    pub kind: Name,
    /// Settings; absent where there are no braces.
    pub settings: Option<Settings>,
    /// The whole definition.
    pub span: Span,
}

/// `catalog NAME TYPE { … }`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Catalog {
    /// Doc comment.
    pub doc: Option<String>,
    /// Its name.
    pub name: Name,
    /// The kind of catalog.
    pub kind: Name,
    /// Settings; absent where there are no braces.
    pub settings: Option<Settings>,
    /// The whole definition.
    pub span: Span,
}

/// `lifecycle NAME { … }`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lifecycle {
    /// Doc comment.
    pub doc: Option<String>,
    /// Its name.
    pub name: Name,
    /// Its rules, in text order.
    pub rules: Vec<Rule>,
    /// The whole definition.
    pub span: Span,
}

/// A rule of a lifecycle.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Rule {
    /// `transition to CLASS after 30d [{ … }]`
    Transition {
        /// The storage class.
        class: Name,
        /// Age at which it is moved.
        after: Duration,
        /// Settings, if there are braces.
        settings: Option<Settings>,
        /// The whole rule.
        span: Span,
    },
    /// `expire after 2y`
    Expire {
        /// Age at which it is deleted.
        after: Duration,
        /// The whole rule.
        span: Span,
    },
    /// `vacuum after 14d`
    Vacuum {
        /// Age of versions that are swept.
        after: Duration,
        /// The whole rule.
        span: Span,
    },
    /// `replicate to CONN [{ … }]`
    Replicate {
        /// The connection that takes the copy.
        to: Path,
        /// Settings, if there are braces.
        settings: Option<Settings>,
        /// The whole rule.
        span: Span,
    },
}

impl Rule {
    /// The whole rule.
    pub fn span(&self) -> Span {
        match self {
            Rule::Transition { span, .. }
            | Rule::Expire { span, .. }
            | Rule::Vacuum { span, .. }
            | Rule::Replicate { span, .. } => *span,
        }
    }
}

/// `test "title" of PIPELINE { … }`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Test {
    /// Doc comment.
    pub doc: Option<String>,
    /// Its title.
    pub title: Template,
    /// The pipeline tested.
    pub pipeline: Name,
    /// `now`, `run_start`, `run_end`, `drain`.
    pub settings: Vec<Setting>,
    /// `given` and `then`, in text order.
    pub tables: Vec<TestTable>,
    /// The whole definition.
    pub span: Span,
}

/// Whether rows go in or come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum TestRole {
    /// `given`
    Given,
    /// `then`
    Then,
}

/// `given NODE { rows }`, `then NODE = "file"`, `then NODE empty`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TestTable {
    /// In or out.
    pub role: TestRole,
    /// The node, or one table of it.
    pub node: Path,
    /// The rows.
    pub rows: TestRows,
    /// The whole clause.
    pub span: Span,
}

/// The rows of a test table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum TestRows {
    /// Written in place: a header and rows.
    Table {
        /// Column names.
        header: TableRow,
        /// Rows, each with as many cells as the header (else there is an error).
        rows: Vec<TableRow>,
    },
    /// `= "fixtures/x.jsonl"`
    File(Template),
    /// `empty`
    Empty,
}

/// A line of a table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TableRow {
    /// Its cells.
    pub cells: Vec<Cell>,
    /// From the first bar to the last.
    pub span: Span,
}

/// A cell of a table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// The text, trimmed, with `\|` read as a bar; `None` (NULL) for an empty cell, `Some("")` for `""`.
    pub value: Option<String>,
    /// The text as written, without blanks around it; for an empty cell the place where it would stand.
    pub span: Span,
}
