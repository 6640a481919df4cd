//! Expressions on batches: row by row the same as the plan typed them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::CastOptions;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::BinaryExpr;
use lakehead_core::{Error, Micros, Result, RunContext, Value};
use lakehead_plan::{Scope, SqlText};

use crate::Sql;
use crate::analyze::{bind, df_schema};
use crate::parse::expression;

/// Values of `$name`, and the time that `now()` gives.
#[derive(Clone, Debug)]
pub struct Parameters {
    values: BTreeMap<String, ScalarValue>,
    now: Micros,
}

impl Parameters {
    /// Collects the parameters of a run: its interval, its id, the profile, and every variable.
    pub fn new(variables: &BTreeMap<String, Value>, run: &RunContext, profile: &str, now: Micros) -> Self {
        let instant = |at: Micros| ScalarValue::TimestampMicrosecond(Some(at), Some("UTC".into()));
        let mut values: BTreeMap<String, ScalarValue> = [
            ("run_start".to_owned(), instant(run.start)),
            ("run_end".to_owned(), instant(run.end)),
            ("run_id".to_owned(), ScalarValue::Utf8(Some(run.id.clone()))),
            ("profile".to_owned(), ScalarValue::Utf8(Some(profile.to_owned()))),
        ]
        .into();
        for (name, value) in variables {
            values.insert(name.clone(), scalar(value));
        }
        Self { values, now }
    }

    /// Sets the time that `now()` gives: fixed for a batch, and stored with the epoch.
    pub fn set_now(&mut self, now: Micros) {
        self.now = now;
    }

    pub(crate) fn value(&self, name: &str) -> Option<ScalarValue> {
        self.values.get(name).cloned()
    }

    /// Replaces `now()` and its kin by the batch's time.
    fn fix_time(&self, expr: Expr) -> Result<Expr, DataFusionError> {
        let fixed = expr.transform_up(|node| {
            let Expr::ScalarFunction(call) = &node else { return Ok(Transformed::no(node)) };
            let value = match call.func.name() {
                "now" | "current_timestamp" => {
                    ScalarValue::TimestampNanosecond(self.now.checked_mul(1000), Some("+00:00".into()))
                }
                "current_date" | "today" => {
                    ScalarValue::Date32(i32::try_from(self.now.div_euclid(86_400_000_000)).ok())
                }
                _ => return Ok(Transformed::no(node)),
            };
            Ok(Transformed::yes(Expr::Literal(value, None)))
        })?;
        Ok(fixed.data)
    }

    pub(crate) fn freeze(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let fixed = plan.transform_up_with_subqueries(|node| {
            node.map_expressions(|expr| {
                let name = expr.schema_name().to_string();
                let fixed = self.fix_time(expr)?;
                let renamed = if fixed.schema_name().to_string() == name { fixed } else { fixed.alias(name) };
                Ok(Transformed::yes(renamed))
            })
        });
        Ok(fixed.map_err(row_error)?.data)
    }
}

fn scalar(value: &Value) -> ScalarValue {
    match value {
        Value::Int(number) => ScalarValue::Int64(Some(*number)),
        Value::Size(bytes) => ScalarValue::Int64(i64::try_from(*bytes).ok()),
        Value::Bool(value) => ScalarValue::Boolean(Some(*value)),
        Value::Duration(length) => ScalarValue::DurationMicrosecond(i64::try_from(length.as_micros()).ok()),
        other => ScalarValue::Utf8(other.as_text().map(str::to_owned)),
    }
}

/// A failure of evaluation: overflow, division by zero, a failed cast. The caller finds the row by halving.
pub(crate) fn row_error(error: DataFusionError) -> Error {
    let text = error.find_root().strip_backtrace();
    let text = text
        .trim_start_matches("Arrow error: ")
        .trim_start_matches("Compute error: ")
        .trim_start_matches("Cast error: ")
        .trim_start_matches("Execution error: ");
    // Values of rows must not reach a log: what stands in quotes, or behind an overflow, is left out.
    let text = text.split_once(" happened on: ").map_or(text, |(what, _)| what);
    let without_values: String = text.split('\'').step_by(2).collect::<Vec<_>>().join("…");
    Error::user("R0101", format!("an expression failed: {}", without_values.to_lowercase()))
}

/// A condition on rows.
#[derive(Clone, Debug)]
pub struct Predicate {
    expr: Arc<dyn PhysicalExpr>,
    columns: Vec<String>,
}

impl Predicate {
    /// Returns the columns it reads.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    pub(crate) fn expr(&self) -> &Arc<dyn PhysicalExpr> {
        &self.expr
    }

    /// Returns TRUE, FALSE or NULL for each row.
    pub fn evaluate(&self, rows: &RecordBatch) -> Result<BooleanArray> {
        let array = self.expr.evaluate(rows).and_then(|value| value.into_array(rows.num_rows())).map_err(row_error)?;
        array.as_any().downcast_ref::<BooleanArray>().cloned().ok_or_else(|| Error::bug("a condition is not boolean"))
    }
}

/// Named expressions on rows.
#[derive(Clone, Debug)]
pub struct Projection(Vec<(String, Arc<dyn PhysicalExpr>, DataType)>);

impl Projection {
    /// Returns each column's name and values, in the type the plan gave it.
    pub fn evaluate(&self, rows: &RecordBatch) -> Result<Vec<(String, ArrayRef)>> {
        let mut columns = Vec::with_capacity(self.0.len());
        for (name, expr, data_type) in &self.0 {
            let array = expr.evaluate(rows).and_then(|value| value.into_array(rows.num_rows())).map_err(row_error)?;
            columns.push((name.clone(), cast(&array, data_type)?));
        }
        Ok(columns)
    }

    /// Returns the names of the columns.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, ..)| name.as_str())
    }
}

fn cast(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    if array.data_type() == data_type {
        return Ok(Arc::clone(array));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    // Nanoseconds to microseconds and a named zone to UTC keep the instant.
    if let (DataType::Timestamp(_, Some(_)), DataType::Timestamp(TimeUnit::Microsecond, Some(_))) =
        (array.data_type(), data_type)
    {
        return Ok(arrow::compute::cast_with_options(array, data_type, &options)?);
    }
    arrow::compute::cast_with_options(array, data_type, &options)
        .map_err(|error| row_error(DataFusionError::ArrowError(Box::new(error), None)))
}

/// Brings a result to the columns the plan gave it, by position.
pub(crate) fn conform(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let mut columns = Vec::with_capacity(schema.fields().len());
    for (column, field) in rows.columns().iter().zip(schema.fields()) {
        columns.push(cast(column, field.data_type())?);
    }
    let nullable: Vec<_> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    Ok(RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(nullable)), columns)?)
}

impl Sql {
    /// Compiles a condition over the rows of `scope`.
    pub fn predicate(&self, sql: &SqlText, scope: &Scope, parameters: &Parameters) -> Result<Predicate> {
        let expr = self.plan_condition(sql, scope, parameters)?;
        let columns = expr.column_refs().into_iter().map(|column| column.name.clone()).collect();
        Ok(Predicate { expr: self.physical(expr, scope)?, columns })
    }

    /// Compiles a select list over the rows of `scope`; the types are those of `schema` by name.
    pub fn projection(
        &self,
        sql: &SqlText,
        scope: &Scope,
        parameters: &Parameters,
        schema: &SchemaRef,
    ) -> Result<Projection> {
        let mut columns = Vec::new();
        for (name, expr) in self.plan_bound(sql, scope, parameters)? {
            let data_type = match schema.field_with_name(&name) {
                Ok(field) => field.data_type().clone(),
                Err(_) if lakehead_core::is_reserved(&name) => lakehead_core::reserved_field(&name).data_type().clone(),
                Err(_) => return Err(Error::bug("a computed column is not in the plan").with("column", name)),
            };
            columns.push((name, self.physical(expr, scope)?, data_type));
        }
        Ok(Projection(columns))
    }

    pub(crate) fn plan_condition(&self, sql: &SqlText, scope: &Scope, parameters: &Parameters) -> Result<Expr> {
        let parsed = expression(sql).map_err(|found| Error::bug(found.message))?;
        let schema = df_schema(&scope.inputs).map_err(row_error)?;
        let aliased = datafusion::sql::sqlparser::ast::ExprWithAlias { expr: parsed, alias: None };
        let expr = self.context.state().create_logical_expr_from_sql_expr(aliased, &schema).map_err(row_error)?;
        self.bound(expr, parameters)
    }

    pub(crate) fn plan_bound(
        &self,
        sql: &SqlText,
        scope: &Scope,
        parameters: &Parameters,
    ) -> Result<Vec<(String, Expr)>> {
        let mut bound = Vec::new();
        let items = self.plan_items_with(sql, scope)?;
        for (name, expr) in items {
            bound.push((name, self.bound(expr, parameters)?));
        }
        Ok(bound)
    }

    fn plan_items_with(&self, sql: &SqlText, scope: &Scope) -> Result<Vec<(String, Expr)>> {
        use datafusion::sql::sqlparser::ast::{ExprWithAlias, SelectItem};
        let schema = df_schema(&scope.inputs).map_err(row_error)?;
        let plan = |expr| {
            let aliased = ExprWithAlias { expr, alias: None };
            self.context.state().create_logical_expr_from_sql_expr(aliased, &schema).map_err(row_error)
        };
        let mut items = Vec::new();
        for item in crate::parse::select_list(sql).map_err(|found| Error::bug(found.message))? {
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    let expr = plan(expr)?;
                    let Expr::Column(column) = &expr else { return Err(Error::bug("a computed column has no name")) };
                    items.push((column.name.clone(), expr));
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    let name = if alias.quote_style.is_some() { alias.value } else { alias.value.to_lowercase() };
                    items.push((name, plan(expr)?));
                }
                _ => items.extend(
                    scope
                        .inputs
                        .iter()
                        .flat_map(|(side, schema)| schema.fields().iter().map(move |field| (side, field)))
                        .filter(|(_, field)| !lakehead_core::is_reserved(field.name()))
                        .map(|(side, field)| {
                            let qualifier = (!side.is_empty()).then_some(side.as_str());
                            let column = datafusion::common::Column::new(
                                qualifier.map(datafusion::common::TableReference::bare),
                                field.name(),
                            );
                            (field.name().clone(), Expr::Column(column))
                        }),
                ),
            }
        }
        Ok(items)
    }

    fn bound(&self, expr: Expr, parameters: &Parameters) -> Result<Expr> {
        let bound = bind(expr, &|name| parameters.value(name))
            .map_err(|name| Error::bug("a parameter has no value").with("parameter", name))?;
        parameters.fix_time(bound).map_err(row_error)
    }

    fn physical(&self, expr: Expr, scope: &Scope) -> Result<Arc<dyn PhysicalExpr>> {
        let schema = df_schema(&scope.inputs).map_err(row_error)?;
        // Some functions exist only in their simplified form (`coalesce` is a CASE).
        let context = SimplifyContext::builder().with_schema(Arc::new(schema.clone())).build();
        let simplifier = ExprSimplifier::new(context);
        let simplified =
            simplifier.coerce(expr, &schema).and_then(|expr| simplifier.simplify(expr)).map_err(row_error)?;
        let planned = self.context.state().create_physical_expr(simplified, &schema).map_err(row_error)?;
        // Stock arithmetic on whole numbers wraps; here it is checked (the dialect page of the language).
        let checked = planned.transform_up(|node| {
            let rebuilt = node.downcast_ref::<BinaryExpr>().map(|binary| {
                BinaryExpr::new(Arc::clone(binary.left()), *binary.op(), Arc::clone(binary.right()))
                    .with_fail_on_overflow(true)
            });
            match rebuilt {
                Some(rebuilt) => Ok(Transformed::yes(Arc::new(rebuilt) as Arc<dyn PhysicalExpr>)),
                None => Ok(Transformed::no(node)),
            }
        });
        Ok(checked.map_err(row_error)?.data)
    }
}

impl Sql {
    /// Judges a rule on the batch: an expression with aggregates over all rows.
    pub async fn run_batch_rule(
        &self,
        condition: &SqlText,
        scope: &Scope,
        batches: Vec<RecordBatch>,
        parameters: &Parameters,
    ) -> Result<bool> {
        let parsed = SqlText { text: format!("{} as holds", condition.text), ..condition.clone() };
        let schema = Arc::new(arrow::datatypes::Schema::new(vec![arrow::datatypes::Field::new(
            "holds",
            DataType::Boolean,
            true,
        )]));
        let results = self.run_total(&parsed, scope, batches, parameters, &schema).await?;
        let Some(first) = results.first() else { return Ok(true) };
        let holds = first
            .column(0)
            .as_any()
            .downcast_ref::<BooleanArray>()
            .ok_or_else(|| Error::bug("a condition is not boolean"))?;
        Ok(holds.is_valid(0) && holds.value(0))
    }
}
