//! Whole relations: aggregates, joins, queries, over batches in memory.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::MemTable;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DataFusionError, JoinType, ScalarValue};
use datafusion::datasource::provider_as_source;
use datafusion::execution::context::{SessionContext, SessionState};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use lakehead_core::{Error, Result};
use lakehead_plan::{Scope, SqlText};

use crate::Sql;
use crate::evaluate::{Parameters, conform, row_error};

impl Sql {
    /// Plans a query over the inputs of a scope as empty tables.
    pub(crate) fn plan_query(
        &self,
        query: ast::Query,
        scope: &Scope,
        value: &dyn Fn(&str) -> Option<ScalarValue>,
    ) -> Result<LogicalPlan, DataFusionError> {
        let tables: Vec<_> =
            scope.inputs.iter().map(|(name, schema)| (name.clone(), Arc::clone(schema), Vec::new())).collect();
        plan_statement(&self.state_with(&tables)?, query, value)
    }

    /// Gives every expression of a plan its type.
    pub(crate) fn typed_query(&self, plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
        let state = self.context.state();
        state.analyzer().execute_and_check(plan, &state.config_options().clone(), |_, _| {})
    }

    fn state_with(&self, tables: &[(String, SchemaRef, Vec<RecordBatch>)]) -> Result<SessionState, DataFusionError> {
        let context = SessionContext::new_with_state(self.context.state());
        for (name, schema, batches) in tables {
            let _ = context.deregister_table(name.as_str())?;
            let table = MemTable::try_new(Arc::clone(schema), vec![batches.clone()])?;
            context.register_table(name.as_str(), Arc::new(table))?;
        }
        Ok(context.state())
    }

    /// Runs a query over named tables.
    pub async fn run_query(
        &self,
        sql: &SqlText,
        tables: &[(String, SchemaRef, Vec<RecordBatch>)],
        parameters: &Parameters,
        schema: &SchemaRef,
    ) -> Result<Vec<RecordBatch>> {
        let parsed = crate::parse::query(sql).map_err(|found| Error::bug(found.message))?;
        let state = self.state_with(tables).map_err(row_error)?;
        let plan = plan_statement(&state, parsed, &|name| parameters.value(name)).map_err(row_error)?;
        self.collect(&state, parameters.freeze(plan)?, schema).await
    }

    /// Groups rows.
    pub async fn run_aggregate(
        &self,
        by: &SqlText,
        values: &SqlText,
        scope: &Scope,
        batches: Vec<RecordBatch>,
        parameters: &Parameters,
        schema: &SchemaRef,
    ) -> Result<Vec<RecordBatch>> {
        let keys = self.plan_bound(by, scope, parameters)?;
        let values = self.plan_bound(values, scope, parameters)?;
        self.group(keys, values, scope, batches, schema).await
    }

    /// Aggregates all rows as one group.
    pub(crate) async fn run_total(
        &self,
        values: &SqlText,
        scope: &Scope,
        batches: Vec<RecordBatch>,
        parameters: &Parameters,
        schema: &SchemaRef,
    ) -> Result<Vec<RecordBatch>> {
        let values = self.plan_bound(values, scope, parameters)?;
        self.group(Vec::new(), values, scope, batches, schema).await
    }

    async fn group(
        &self,
        keys: Vec<(String, Expr)>,
        values: Vec<(String, Expr)>,
        scope: &Scope,
        batches: Vec<RecordBatch>,
        schema: &SchemaRef,
    ) -> Result<Vec<RecordBatch>> {
        let input = scan(scope, batches)?;
        let mut aggregates = Vec::new();
        for (_, expr) in &values {
            for found in datafusion::logical_expr::utils::find_aggregate_exprs([expr]) {
                if !aggregates.contains(&found) {
                    aggregates.push(found);
                }
            }
        }
        let groups: Vec<Expr> = keys.iter().map(|(name, expr)| expr.clone().alias(name)).collect();
        let plan = LogicalPlanBuilder::from(input).aggregate(groups, aggregates.clone()).map_err(row_error)?;
        let mut output: Vec<Expr> =
            keys.iter().map(|(name, _)| Expr::Column(datafusion::common::Column::from_name(name))).collect();
        for (name, expr) in values {
            let over = expr
                .transform_up(|node| {
                    if aggregates.contains(&node) {
                        let column = datafusion::common::Column::from_name(node.schema_name().to_string());
                        return Ok(Transformed::yes(Expr::Column(column)));
                    }
                    Ok(Transformed::no(node))
                })
                .map_err(row_error)?;
            output.push(over.data.alias(name));
        }
        let plan = plan.project(output).and_then(LogicalPlanBuilder::build).map_err(row_error)?;
        self.collect(&self.context.state(), plan, schema).await
    }

    /// Joins the rows of `left` (its sides in order) with those of `right`; the columns of the left come first.
    #[allow(clippy::too_many_arguments, reason = "the two sides of a join, what joins them, and what comes out")]
    pub async fn run_join(
        &self,
        left: (&Scope, Vec<RecordBatch>),
        right: (&Scope, Vec<RecordBatch>),
        keep_left: bool,
        on: &SqlText,
        parameters: &Parameters,
        schema: &SchemaRef,
    ) -> Result<Vec<RecordBatch>> {
        let mut both = left.0.clone();
        both.inputs.extend(right.0.inputs.iter().cloned());
        let condition = self.plan_condition(on, &both, parameters)?;
        let (left, right) = (scan(left.0, left.1)?, scan(right.0, right.1)?);
        let kind = if keep_left { JoinType::Left } else { JoinType::Inner };
        let plan = LogicalPlanBuilder::from(left)
            .join_on(right, kind, [condition])
            .and_then(LogicalPlanBuilder::build)
            .map_err(row_error)?;
        self.collect(&self.context.state(), plan, schema).await
    }

    async fn collect(&self, state: &SessionState, plan: LogicalPlan, schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
        let frame = datafusion::dataframe::DataFrame::new(state.clone(), plan);
        let batches = Box::pin(frame.collect()).await.map_err(row_error)?;
        batches.iter().filter(|batch| batch.num_rows() > 0).map(|batch| conform(batch, schema)).collect()
    }
}

/// Reads batches under the names of a scope: columns are found by place, then named and qualified, so that two sides
/// may have columns of one name.
fn scan(scope: &Scope, batches: Vec<RecordBatch>) -> Result<LogicalPlan> {
    let named: Vec<_> =
        scope.inputs.iter().flat_map(|(side, schema)| schema.fields().iter().map(move |field| (side, field))).collect();
    let fields: Vec<_> = named
        .iter()
        .enumerate()
        .map(|(n, (_, field))| arrow::datatypes::Field::new(format!("c{n}"), field.data_type().clone(), true))
        .collect();
    let schema = Arc::new(arrow::datatypes::Schema::new(fields));
    let batches = batches
        .into_iter()
        .map(|batch| {
            let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let columns = batch.columns()[..named.len()].to_vec();
            RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)
        })
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let table = MemTable::try_new(schema, vec![batches]).map_err(row_error)?;
    let columns: Vec<Expr> = named
        .iter()
        .enumerate()
        .map(|(n, (side, field))| {
            let column = Expr::Column(datafusion::common::Column::from_name(format!("c{n}")));
            let qualifier = (!side.is_empty()).then(|| datafusion::common::TableReference::bare(side.as_str()));
            column.alias_qualified(qualifier, field.name())
        })
        .collect();
    LogicalPlanBuilder::scan("rows", provider_as_source(Arc::new(table)), None)
        .and_then(|builder| builder.project(columns))
        .and_then(LogicalPlanBuilder::build)
        .map_err(row_error)
}

fn plan_statement(
    state: &SessionState,
    query: ast::Query,
    value: &dyn Fn(&str) -> Option<ScalarValue>,
) -> Result<LogicalPlan, DataFusionError> {
    let statement = Statement::Statement(Box::new(ast::Statement::Query(Box::new(query))));
    let plan = futures_block(state.statement_to_plan(statement))?;
    let bound = plan.transform_up_with_subqueries(|node| {
        node.map_expressions(|expr| {
            expr.transform_up(|expr| match &expr {
                Expr::Placeholder(placeholder) => match value(placeholder.id.trim_start_matches('$')) {
                    Some(value) => Ok(Transformed::yes(Expr::Literal(value, None))),
                    None => datafusion::common::plan_err!("there is no `{}`", placeholder.id),
                },
                _ => Ok(Transformed::no(expr)),
            })
        })
    })?;
    bound.data.recompute_schema()
}

/// Planning over tables in memory never waits: the future is ready when it is first polled.
fn futures_block<T>(future: impl Future<Output = Result<T, DataFusionError>>) -> Result<T, DataFusionError> {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(result) => result,
        std::task::Poll::Pending => datafusion::common::internal_err!("planning over memory waited"),
    }
}
