//! Types SQL offline, and says what is wrong in the user's words.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError, ScalarValue, SchemaError, TableReference};
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::sql::sqlparser::ast::{self, SelectItem};
use lakehead_plan::{Column, ExpressionShape, QueryShape, Scope, SqlAnalyzer, SqlForm, SqlText};
use lakehead_syntax::{Diagnostic, did_you_mean};

use crate::Sql;
use crate::checks::{coerced, dialect, first_span, query_dialect, shown, span_of};
use crate::normal::normalized;
use crate::parse::{expression, reserved_column, select_list, trimmed};

/// One named item of a select list.
pub(crate) struct Item {
    pub(crate) name: String,
    pub(crate) expr: Expr,
}

/// Returns the qualified schema of a scope: a side's name qualifies its columns, an empty name does not.
pub(crate) fn df_schema(inputs: &[(String, SchemaRef)]) -> Result<DFSchema, DataFusionError> {
    let mut fields: Vec<(Option<TableReference>, FieldRef)> = Vec::new();
    for (name, schema) in inputs {
        let qualifier = (!name.is_empty()).then(|| TableReference::bare(name.as_str()));
        fields.extend(schema.fields().iter().map(|field| (qualifier.clone(), Arc::clone(field))));
    }
    DFSchema::new_with_metadata(fields, std::collections::HashMap::new())
}

impl Sql {
    /// Plans one parsed expression; parameters become typed values.
    pub(crate) fn plan_expr(&self, sql: &SqlText, expr: ast::Expr, scope: &Scope) -> Result<Expr, Vec<Diagnostic>> {
        let schema = df_schema(&scope.inputs).map_err(|error| vec![self.explain(sql, scope, &error)])?;
        let aliased = ast::ExprWithAlias { expr, alias: None };
        let planned = self
            .context
            .state()
            .create_logical_expr_from_sql_expr(aliased, &schema)
            .map_err(|error| vec![self.explain(sql, scope, &error)])?;
        let bound = bind(planned, &|name| {
            let data_type = scope.parameters.get(name)?;
            ScalarValue::try_from(data_type).ok()
        })
        .map_err(|name| vec![unknown_parameter(sql, scope, &name)])?;
        let found = dialect(sql, &bound, &schema);
        if !found.is_empty() {
            return Err(found);
        }
        refuse_reserved(sql, &bound)?;
        Ok(bound)
    }

    /// Plans a select list.
    pub(crate) fn plan_items(&self, sql: &SqlText, scope: &Scope) -> Result<Vec<Item>, Vec<Diagnostic>> {
        let parsed = select_list(sql).map_err(|found| vec![*found])?;
        let mut items = Vec::new();
        let mut found = Vec::new();
        for item in parsed {
            match item {
                SelectItem::Wildcard(_) => items.extend(all_columns(scope)),
                SelectItem::UnnamedExpr(expr) => match self.plan_expr(sql, expr, scope) {
                    Ok(Expr::Column(column)) => {
                        items.push(Item { name: column.name.clone(), expr: Expr::Column(column) });
                    }
                    Ok(expr) => found.push(unnamed(sql, &expr)),
                    Err(mut mistakes) => found.append(&mut mistakes),
                },
                SelectItem::ExprWithAlias { expr, alias } => match self.plan_expr(sql, expr, scope) {
                    Ok(expr) => items.push(Item { name: ident(&alias), expr }),
                    Err(mut mistakes) => found.append(&mut mistakes),
                },
                other => found.push(
                    Diagnostic::error("E0313", format!("`{other}` is not known here"))
                        .primary(sql.file, trimmed(sql), "write the columns")
                        .help("name each column, or `*` for all"),
                ),
            }
        }
        let mut seen = BTreeSet::new();
        for item in &items {
            if !seen.insert(&item.name) {
                found.push(
                    Diagnostic::error("E0314", format!("two columns are called `{}`", item.name))
                        .primary(sql.file, span_of(sql, &item.expr).unwrap_or_else(|| trimmed(sql)), "the second")
                        .help(format!("… as other_{}", item.name)),
                );
            }
        }
        if found.is_empty() { Ok(items) } else { Err(found) }
    }

    fn typed(&self, sql: &SqlText, expr: &Expr, scope: &Scope) -> Result<(DataType, bool), Vec<Diagnostic>> {
        let schema = df_schema(&scope.inputs).map_err(|error| vec![self.explain(sql, scope, &error)])?;
        let whole =
            coerced(expr, &schema).map_err(|error| vec![self.explain_type(sql, scope, expr, &schema, &error)])?;
        let data_type =
            whole.get_type(&schema).map_err(|error| vec![self.explain_type(sql, scope, expr, &schema, &error)])?;
        let nullable = whole.nullable(&schema).unwrap_or(true);
        Ok((normalized(&data_type), nullable))
    }

    /// Says in the user's words what the engine found.
    pub(crate) fn explain(&self, sql: &SqlText, scope: &Scope, error: &DataFusionError) -> Diagnostic {
        if let DataFusionError::SchemaError(schema_error, _) = error.find_root() {
            return self.explain_schema(sql, scope, schema_error, error);
        }
        let message = error.find_root().strip_backtrace();
        let text = message.strip_prefix("Error during planning: ").unwrap_or(&message);
        if let Some(name) = text.strip_prefix("Invalid function '").and_then(|rest| rest.split('\'').next()) {
            return self.no_function(sql, name, error);
        }
        if let Some(rest) = text.split("table '").nth(1).or_else(|| text.split("No table named '").nth(1)) {
            let name = rest.split('\'').next().unwrap_or("").rsplit('.').next().unwrap_or("");
            let names: Vec<&str> =
                scope.inputs.iter().map(|(name, _)| name.as_str()).filter(|n| !n.is_empty()).collect();
            let meant = did_you_mean(name, names.iter().copied());
            let label = meant.map_or_else(String::new, |meant| format!("did you mean `{meant}`?"));
            return Diagnostic::error("E0315", format!("there is no table `{name}`"))
                .primary(sql.file, place(sql, error), label)
                .note(format!("the inputs are: {}", names.join(", ")));
        }
        if let Some(mistyped) = mistyped_call(sql, text) {
            return mistyped;
        }
        Diagnostic::error("E0316", simple(text)).primary(sql.file, place(sql, error), "")
    }

    fn explain_schema(&self, sql: &SqlText, scope: &Scope, error: &SchemaError, whole: &DataFusionError) -> Diagnostic {
        match error {
            SchemaError::FieldNotFound { field, .. } => {
                let span = first_span(sql, &field.spans).or_else(|| find_word(sql, &field.name));
                no_column(sql, scope, &field.name, span.unwrap_or_else(|| place(sql, whole)))
            }
            SchemaError::AmbiguousReference { field } => {
                let span = first_span(sql, &field.spans).unwrap_or_else(|| place(sql, whole));
                let sides: Vec<_> = scope
                    .inputs
                    .iter()
                    .filter(|(_, schema)| schema.field_with_name(&field.name).is_ok())
                    .map(|(name, _)| format!("{name}.{}", field.name))
                    .collect();
                Diagnostic::error("E0317", format!("`{}` is a column of both inputs", field.name))
                    .primary(sql.file, span, "which?")
                    .help(sides.join("   or   "))
            }
            other => Diagnostic::error("E0316", simple(&other.to_string())).primary(sql.file, place(sql, whole), ""),
        }
    }

    fn no_function(&self, sql: &SqlText, name: &str, error: &DataFusionError) -> Diagnostic {
        let state = self.context.state();
        let mut names: Vec<&str> = state.scalar_functions().keys().map(String::as_str).collect();
        names.extend(state.aggregate_functions().keys().map(String::as_str));
        names.sort_unstable();
        let meant = did_you_mean(name, names.iter().copied());
        let label = meant.map_or_else(String::new, |meant| format!("did you mean `{meant}`?"));
        let diagnostic = Diagnostic::error("E0302", format!("there is no function `{name}`"));
        let diagnostic = diagnostic.primary(sql.file, find_word(sql, name).unwrap_or_else(|| place(sql, error)), label);
        if meant.is_some() {
            diagnostic
        } else {
            diagnostic.note("functions are those of DataFusion, and mask_phone, mask_email, mask_card, ip_to_int")
        }
    }

    /// Finds the smallest call or operation that cannot be typed.
    fn explain_type(
        &self,
        sql: &SqlText,
        scope: &Scope,
        expr: &Expr,
        schema: &DFSchema,
        error: &DataFusionError,
    ) -> Diagnostic {
        let mut culprit: Option<(String, Expr)> = None;
        let visited = expr.apply(|node| {
            let fails = node.get_type(schema).is_err() || coerced(node, schema).is_err();
            if !fails {
                return Ok(TreeNodeRecursion::Jump);
            }
            let types = |args: &[Expr]| -> String {
                let names =
                    args.iter().map(|a| a.get_type(schema).map_or("?".into(), |t| lakehead_core::column_type_name(&t)));
                names.collect::<Vec<_>>().join(", ")
            };
            match node {
                Expr::ScalarFunction(call) => {
                    culprit =
                        Some((format!("`{}` does not take ({})", call.func.name(), types(&call.args)), node.clone()));
                }
                Expr::BinaryExpr(binary) => {
                    let sides = [binary.left.as_ref().clone(), binary.right.as_ref().clone()];
                    culprit = Some((
                        format!("`{}` does not take {}", binary.op, types(&sides).replace(", ", " and ")),
                        node.clone(),
                    ));
                }
                _ => {}
            }
            Ok(TreeNodeRecursion::Continue)
        });
        debug_assert!(visited.is_ok());
        match culprit {
            Some((message, node)) => Diagnostic::error("E0303", message)
                .primary(sql.file, span_of(sql, &node).unwrap_or_else(|| trimmed(sql)), "cast one side")
                .help(format!("cast({} as …)", shown(&first_argument(&node)))),
            None => self.explain(sql, scope, error),
        }
    }
}

fn first_argument(node: &Expr) -> Expr {
    match node {
        Expr::ScalarFunction(call) => call.args.first().cloned().unwrap_or_else(|| node.clone()),
        Expr::BinaryExpr(binary) => binary.left.as_ref().clone(),
        other => other.clone(),
    }
}

fn ident(ident: &ast::Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

fn all_columns(scope: &Scope) -> Vec<Item> {
    let mut items = Vec::new();
    for (side, schema) in &scope.inputs {
        let qualifier = (!side.is_empty()).then(|| TableReference::bare(side.as_str()));
        for field in schema.fields().iter().filter(|field| !lakehead_core::is_reserved(field.name())) {
            let column = datafusion::common::Column::new(qualifier.clone(), field.name());
            items.push(Item { name: field.name().clone(), expr: Expr::Column(column) });
        }
    }
    items
}

fn unnamed(sql: &SqlText, expr: &Expr) -> Diagnostic {
    Diagnostic::error("E0312", "a computed column needs a name")
        .primary(sql.file, span_of(sql, expr).unwrap_or_else(|| trimmed(sql)), "what is it called?")
        .help("expression as name")
}

fn unknown_parameter(sql: &SqlText, scope: &Scope, name: &str) -> Diagnostic {
    let names: Vec<&str> = scope.parameters.keys().map(String::as_str).collect();
    let meant = did_you_mean(name, names.iter().copied());
    let label = meant.map_or_else(String::new, |meant| format!("did you mean `${meant}`?"));
    Diagnostic::error("E0609", format!("there is no `${name}`"))
        .primary(sql.file, find_word(sql, &format!("${name}")).unwrap_or_else(|| trimmed(sql)), label)
        .note(format!("there are: ${}", names.join(", $")))
}

fn no_column(sql: &SqlText, scope: &Scope, name: &str, span: lakehead_syntax::Span) -> Diagnostic {
    let mut names: Vec<&str> = Vec::new();
    for (_, schema) in &scope.inputs {
        names.extend(schema.fields().iter().map(|f| f.name().as_str()).filter(|n| !lakehead_core::is_reserved(n)));
    }
    let meant = did_you_mean(name, names.iter().copied());
    let label = meant.map_or_else(String::new, |meant| format!("did you mean `{meant}`?"));
    let side = scope.inputs.first().map_or("input", |(name, _)| name.as_str());
    let mut diagnostic = Diagnostic::error("E0301", format!("there is no column `{name}`"))
        .primary(sql.file, span, label)
        .note(format!("`{side}` has: {}", names.join(", ")));
    if !scope.origin.is_empty() {
        diagnostic = diagnostic.note(scope.origin.clone());
    }
    match meant {
        Some(meant) => diagnostic.fix(sql.file, span, meant),
        None => diagnostic,
    }
}

fn refuse_reserved(sql: &SqlText, expr: &Expr) -> Result<(), Vec<Diagnostic>> {
    let mut found = Vec::new();
    let visited = expr.apply(|node| {
        if let Expr::Column(column) = node
            && reserved_column(&column.name)
        {
            found.push(Diagnostic::error("E0320", format!("`{}` does not fit here", column.name)).primary(
                sql.file,
                first_span(sql, &column.spans).unwrap_or_else(|| trimmed(sql)),
                "a value is missing before it",
            ));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(visited.is_ok());
    if found.is_empty() { Ok(()) } else { Err(found) }
}

/// Replaces `$name` by values; the error is the name that has none.
pub(crate) fn bind(expr: Expr, value: &dyn Fn(&str) -> Option<ScalarValue>) -> Result<Expr, String> {
    let mut missing = None;
    let bound = expr.transform_up(|node| {
        if let Expr::Placeholder(placeholder) = &node {
            let name = placeholder.id.trim_start_matches('$');
            match value(name) {
                Some(value) => return Ok(Transformed::yes(Expr::Literal(value, None))),
                None => missing = Some(name.to_owned()),
            }
        }
        Ok(Transformed::no(node))
    });
    match (bound, missing) {
        (Ok(bound), None) => Ok(bound.data),
        (_, Some(name)) => Err(name),
        (Err(error), None) => Err(error.to_string()),
    }
}

/// Reads the engine's message about a call inside a query, which comes without a place.
fn mistyped_call(sql: &SqlText, text: &str) -> Option<Diagnostic> {
    let rest = text.split_once("satisfy a call to '")?.1;
    let (name, rest) = rest.split_once('\'')?;
    let types = rest.split_once("coercion from ")?.1.split_once(" to the signature")?.0;
    let types = types.replace("Utf8View", "varchar").replace("Utf8", "varchar").replace("Int64", "bigint");
    let types = types.replace("Float64", "double").replace("Int32", "integer").replace("Decimal128", "decimal");
    let span = find_word(sql, name).unwrap_or_else(|| trimmed(sql));
    let types = types.to_lowercase();
    Some(
        Diagnostic::error("E0303", format!("`{name}` does not take ({types})"))
            .primary(sql.file, span, "cast what it is given")
            .help(format!("{name}(cast(… as …))")),
    )
}

fn place(sql: &SqlText, error: &DataFusionError) -> lakehead_syntax::Span {
    error.diagnostic().and_then(|diagnostic| diagnostic.span).map_or_else(
        || trimmed(sql),
        |span| {
            let mut spans = datafusion::common::Spans::new();
            spans.add_span(span);
            first_span(sql, &spans).unwrap_or_else(|| trimmed(sql))
        },
    )
}

/// Finds a word of the text that stands by itself.
fn find_word(sql: &SqlText, word: &str) -> Option<lakehead_syntax::Span> {
    let (lower, word) = (sql.text.to_lowercase(), word.to_lowercase());
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let stands_alone =
        |at: &usize| !is_part(lower[..*at].chars().next_back()) && !is_part(lower[at + word.len()..].chars().next());
    let at = lower.match_indices(&word).map(|(at, _)| at).find(stands_alone)?;
    let start = sql.span.start + u32::try_from(at).ok()?;
    Some(lakehead_syntax::Span { start, end: start + u32::try_from(word.len()).ok()? })
}

/// The first sentence of an engine's message, in our style.
fn simple(text: &str) -> String {
    let first = text.lines().next().unwrap_or(text).trim_end_matches('.');
    let mut sentence = first.strip_prefix("This feature is not implemented: ").unwrap_or(first).to_owned();
    if let Some(head) = sentence.get_mut(0..1) {
        head.make_ascii_lowercase();
    }
    sentence
}

fn inputs_of(expr: &Expr) -> BTreeSet<String> {
    expr.column_refs().into_iter().map(|column| column.name.clone()).collect()
}

fn has_aggregate(expr: &Expr) -> bool {
    expr.exists(|node| Ok(matches!(node, Expr::AggregateFunction(_)))).unwrap_or(false)
}

impl SqlAnalyzer for Sql {
    fn form(&self, sql: &SqlText, form: SqlForm) -> Result<(), Vec<Diagnostic>> {
        let read = match form {
            SqlForm::Expression => expression(sql).map(drop),
            SqlForm::SelectList => crate::parse::select_list(sql).map(drop),
            SqlForm::Query => crate::parse::query(sql).map(drop),
        };
        read.map_err(|found| vec![*found])
    }

    fn expression(&self, sql: &SqlText, scope: &Scope, aggregates: bool) -> Result<ExpressionShape, Vec<Diagnostic>> {
        let parsed = expression(sql).map_err(|found| vec![*found])?;
        let expr = self.plan_expr(sql, parsed, scope)?;
        let aggregate = has_aggregate(&expr);
        if aggregate && !aggregates {
            return Err(vec![aggregate_misplaced(sql, &expr)]);
        }
        let (data_type, _) = self.typed(sql, &expr, scope)?;
        Ok(ExpressionShape { data_type, inputs: inputs_of(&expr), aggregate })
    }

    fn select_list(&self, sql: &SqlText, scope: &Scope, aggregates: bool) -> Result<Vec<Column>, Vec<Diagnostic>> {
        let mut columns = Vec::new();
        let mut found = Vec::new();
        for item in self.plan_items(sql, scope)? {
            if has_aggregate(&item.expr) && !aggregates {
                found.push(aggregate_misplaced(sql, &item.expr));
                continue;
            }
            match self.typed(sql, &item.expr, scope) {
                Ok((data_type, nullable)) => columns.push(Column {
                    name: item.name,
                    data_type,
                    nullable,
                    inputs: inputs_of(&item.expr),
                    plain: matches!(item.expr, Expr::Column(_)),
                }),
                Err(mut mistakes) => found.append(&mut mistakes),
            }
        }
        if found.is_empty() { Ok(columns) } else { Err(found) }
    }

    fn query(&self, sql: &SqlText, scope: &Scope) -> Result<QueryShape, Vec<Diagnostic>> {
        let parsed = crate::parse::query(sql).map_err(|found| vec![*found])?;
        let value = |name: &str| ScalarValue::try_from(scope.parameters.get(name)?).ok();
        let explain = |error: DataFusionError| vec![self.explain(sql, scope, &error)];
        let plan = self.plan_query(parsed, scope, &value).map_err(explain)?;
        let found = query_dialect(sql, &plan);
        if !found.is_empty() {
            return Err(found);
        }
        let plan = self.typed_query(plan).map_err(explain)?;
        let fields: Vec<_> = plan
            .schema()
            .fields()
            .iter()
            .map(|field| Field::new(field.name(), normalized(field.data_type()), field.is_nullable()))
            .collect();
        Ok(QueryShape { schema: Arc::new(Schema::new(fields)) })
    }
}

fn aggregate_misplaced(sql: &SqlText, expr: &Expr) -> Diagnostic {
    Diagnostic::error("E0318", "an aggregate cannot stand here")
        .primary(sql.file, span_of(sql, expr).unwrap_or_else(|| trimmed(sql)), "is about many rows")
        .help("aggregate { count(*) as n } by { key }")
}
