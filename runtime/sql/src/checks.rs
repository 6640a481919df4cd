//! Rules of the dialect that the engine does not know: no text compared with numbers, no numbers where text belongs.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Spans};
use datafusion::logical_expr::expr::{Between, InList, ScalarFunction};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator};
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
            Expr::ScalarFunction(function) => found.extend(number_for_text(sql, schema, function)),
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(visited.is_ok());
    found
}

fn is_comparison(op: Operator) -> bool {
    matches!(op, Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq)
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

fn number_for_text(sql: &SqlText, schema: &DFSchema, function: &ScalarFunction) -> Option<Diagnostic> {
    let name = function.func.name();
    let texts = [
        "lower",
        "upper",
        "trim",
        "btrim",
        "ltrim",
        "rtrim",
        "split_part",
        "left",
        "right",
        "mask_phone",
        "mask_email",
        "mask_card",
        "ip_to_int",
        "replace",
        "regexp_replace",
        "reverse",
        "initcap",
    ];
    if !texts.contains(&name) {
        return None;
    }
    let first = function.args.first()?;
    let data_type = first.get_type(schema).ok()?;
    if is_text(&data_type) || data_type == DataType::Null {
        return None;
    }
    let type_name = column_type_name(&data_type);
    let place = span_of(sql, first).unwrap_or_else(|| trimmed(sql));
    Some(
        Diagnostic::error("E0303", format!("`{name}` needs text, and `{}` is {type_name}", shown(first)))
            .primary(sql.file, place, type_name)
            .help(format!("cast({} as varchar)", shown(first))),
    )
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
