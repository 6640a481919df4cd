//! Rules of the dialect that the engine does not know: no text compared with numbers, no value turned into another kind
//! unasked.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError, Spans};
use datafusion::logical_expr::expr::{Between, Cast, InList, ScalarFunction};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use lakehead_core::column_type_name;
use lakehead_plan::SqlText;
use lakehead_syntax::{Diagnostic, Span};

use crate::parse::{token_span, trimmed};

/// Reports what an expression does that the dialect forbids.
pub(crate) fn dialect(sql: &SqlText, expr: &Expr, schema: &DFSchema) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let visited = expr.apply(|node| {
        match node {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(*op) => {
                found.extend(compared(sql, schema, left, &op.to_string(), right));
            }
            Expr::Between(Between { expr, low, high, .. }) => {
                found.extend(compared(sql, schema, expr, "between", low));
                found.extend(compared(sql, schema, expr, "and", high));
            }
            Expr::InList(InList { expr, list, .. }) => {
                found.extend(list.iter().find_map(|item| compared(sql, schema, expr, "in", item)));
            }
            Expr::ScalarFunction(call) => {
                let typed = coerced(node, schema).and_then(|expr| expr.get_type(schema).map(|_| expr));
                found.extend(match typed {
                    Ok(Expr::ScalarFunction(typed)) => turned(sql, call.func.name(), &call.args, &typed.args, schema),
                    _ => mistyped(sql, call, schema),
                });
            }
            Expr::AggregateFunction(call) => {
                if let Ok(Expr::AggregateFunction(coerced)) = coerced(node, schema) {
                    found.extend(turned(sql, call.func.name(), &call.params.args, &coerced.params.args, schema));
                }
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(visited.is_ok());
    found
}

/// Returns the expression with the casts that the engine adds.
pub(crate) fn coerced(expr: &Expr, schema: &DFSchema) -> Result<Expr, DataFusionError> {
    let context = SimplifyContext::builder().with_schema(Arc::new(schema.clone())).build();
    ExprSimplifier::new(context).coerce(expr.clone(), schema)
}

fn is_comparison(op: Operator) -> bool {
    matches!(op, Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq)
}

/// Reports what a planned query does that the dialect forbids: each expression over what its node reads.
pub(crate) fn query_dialect(sql: &SqlText, plan: &LogicalPlan) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let visited = plan.apply_with_subqueries(|node| {
        let schema = merge_schema(&node.inputs());
        node.apply_expressions(|expr| {
            for mistake in dialect(sql, expr, &schema) {
                if !found.contains(&mistake) {
                    found.push(mistake);
                }
            }
            Ok(TreeNodeRecursion::Continue)
        })
    });
    debug_assert!(visited.is_ok());
    found
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn compared(sql: &SqlText, schema: &DFSchema, left: &Expr, op: &str, right: &Expr) -> Option<Diagnostic> {
    let (a, b) = (left.get_type(schema).ok()?, right.get_type(schema).ok()?);
    let clash = (is_text(&a) && b.is_numeric()) || (a.is_numeric() && is_text(&b));
    if !clash {
        return None;
    }
    let (a_name, b_name) = (column_type_name(&a), column_type_name(&b));
    let place = span_of(sql, left).or_else(|| span_of(sql, right)).unwrap_or_else(|| trimmed(sql));
    let (text_side, number_side) = if is_text(&a) { (left, right) } else { (right, left) };
    let help = match number_side {
        Expr::Literal(value, _) => format!("{} {op} '{value}'", shown(text_side)),
        _ => format!("try_cast({} as {})", shown(text_side), if is_text(&a) { &b_name } else { &a_name }),
    };
    Some(
        Diagnostic::error("E0305", "text is compared with a number")
            .primary(sql.file, place, format!("{a_name} {op} {b_name}"))
            .help(help),
    )
}

/// Returns what a call that cannot be typed says once one of its arguments is of another type.
fn mistyped(sql: &SqlText, call: &ScalarFunction, schema: &DFSchema) -> Option<Diagnostic> {
    let candidates = [
        DataType::Utf8,
        DataType::Float64,
        DataType::Int64,
        DataType::Date32,
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    ];
    call.args.iter().enumerate().find_map(|(n, given)| {
        let from = given.get_type(schema).ok()?;
        let fits = |to: &&DataType| {
            let mut args = call.args.clone();
            args[n] = Expr::Cast(Cast::new(Box::new(given.clone()), (*to).clone()));
            let cast = Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(&call.func), args));
            **to != from && coerced(&cast, schema).is_ok_and(|cast| cast.get_type(schema).is_ok())
        };
        let to = candidates.iter().find(fits)?;
        Some(needs(sql, call.func.name(), given, &from, to))
    })
}

fn needs(sql: &SqlText, name: &str, given: &Expr, from: &DataType, to: &DataType) -> Diagnostic {
    let (needed, to) =
        if is_text(to) { ("text".into(), "varchar".into()) } else { (column_type_name(to), column_type_name(to)) };
    let (type_name, shown) = (column_type_name(from), shown(given));
    let place = span_of(sql, given).unwrap_or_else(|| trimmed(sql));
    Diagnostic::error("E0303", format!("`{name}` needs {needed}, and `{shown}` is {type_name}"))
        .primary(sql.file, place, type_name)
        .help(format!("cast({shown} as {to})"))
}

/// Reports an argument that would be turned into another kind of value unasked: text into a number or back, a number into
/// a narrower one. What loses nothing (a wider number, a text literal as a time) goes by itself.
fn turned(sql: &SqlText, name: &str, given: &[Expr], taken: &[Expr], schema: &DFSchema) -> Option<Diagnostic> {
    given.iter().zip(taken).find_map(|(given, taken)| {
        let (from, to) = (given.get_type(schema).ok()?, taken.get_type(schema).ok()?);
        if matches!(given, Expr::Cast(_) | Expr::TryCast(_)) || !is_loss(&from, &to) {
            return None;
        }
        if is_text(&to) && ["concat", "concat_ws"].contains(&name) {
            return None;
        }
        Some(needs(sql, name, given, &from, &to))
    })
}

fn is_loss(from: &DataType, to: &DataType) -> bool {
    if is_text(from) {
        return to.is_numeric() || *to == DataType::Boolean;
    }
    if is_text(to) {
        return from.is_primitive() || *from == DataType::Boolean;
    }
    (from.is_floating() && (to.is_integer() || to.is_decimal())) || (from.is_decimal() && to.is_integer())
}

/// Returns an expression as a person would write it, as far as that is simple.
pub(crate) fn shown(expr: &Expr) -> String {
    match expr {
        Expr::Column(column) => column.name.clone(),
        Expr::Literal(value, _) => value.to_string(),
        other => other.schema_name().to_string(),
    }
}

/// Returns the place of the first column in an expression.
pub(crate) fn span_of(sql: &SqlText, expr: &Expr) -> Option<Span> {
    let mut place = None;
    let visited = expr.apply(|node| {
        if let Expr::Column(column) = node
            && let Some(span) = first_span(sql, &column.spans)
        {
            place = Some(span);
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(visited.is_ok());
    place
}

pub(crate) fn first_span(sql: &SqlText, spans: &Spans) -> Option<Span> {
    let span = spans.first()?;
    let location = |at: datafusion::common::Location| datafusion::sql::sqlparser::tokenizer::Location {
        line: at.line,
        column: at.column,
    };
    Some(token_span(sql, location(span.start), location(span.end)))
}
