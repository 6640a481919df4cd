//! What the plan needs to know of a piece of SQL; who reads it is not its business.

use std::collections::{BTreeMap, BTreeSet};

use arrow_schema::{DataType, SchemaRef};
use lakehead_syntax::{Diagnostic, FileId, Span};
use serde::Serialize;

/// A piece of SQL with its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SqlText {
    /// Exactly the text between the braces.
    pub text: String,
    /// The file.
    pub file: FileId,
    /// Exactly its bytes in the file.
    pub span: Span,
}

/// What a piece of SQL may refer to.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Inputs by name; columns of a single one need no qualifier. Reserved columns are part of the schemas.
    pub inputs: Vec<(String, SchemaRef)>,
    /// Types of `$name` parameters.
    pub parameters: BTreeMap<String, DataType>,
    /// Where the schema comes from, as a line for people.
    pub origin: String,
}

/// One column of a select list.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// The input columns it is computed from.
    pub inputs: BTreeSet<String>,
    /// Whether it is an input column as it stands.
    pub plain: bool,
}

/// What an expression is.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpressionShape {
    /// Its type.
    pub data_type: DataType,
    /// The input columns it reads.
    pub inputs: BTreeSet<String>,
    /// Whether it holds an aggregate.
    pub aggregate: bool,
}

/// What a query returns.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryShape {
    /// Its columns.
    pub schema: SchemaRef,
}

/// What a piece of SQL must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SqlForm {
    /// One expression.
    Expression,
    /// A select list.
    SelectList,
    /// A whole query.
    Query,
}

/// Reads SQL offline. Every mistake is a diagnostic in file coordinates.
pub trait SqlAnalyzer {
    /// Reads a piece of SQL of which no column is known: only its form is checked.
    fn form(&self, sql: &SqlText, form: SqlForm) -> Result<(), Vec<Diagnostic>>;
    /// Types one expression; `aggregates` says whether an aggregate may stand in it.
    fn expression(&self, sql: &SqlText, scope: &Scope, aggregates: bool) -> Result<ExpressionShape, Vec<Diagnostic>>;
    /// Types a select list: `expr as name, …`.
    fn select_list(&self, sql: &SqlText, scope: &Scope, aggregates: bool) -> Result<Vec<Column>, Vec<Diagnostic>>;
    /// Types a whole query over the inputs as tables.
    fn query(&self, sql: &SqlText, scope: &Scope) -> Result<QueryShape, Vec<Diagnostic>>;
}
