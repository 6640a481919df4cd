//! The compiled plan: batches of sources in, batches of sinks and rejected rows out.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{and, filter_record_batch, not};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::row::{OwnedRow, RowConverter, SortField};
use lakehead_core::{Error, Result, reserved_field};
use lakehead_plan::{Node, NodeKind, Plan, Scope, Step, StepPlan, StreamId, Target};
use lakehead_sql::{Parameters, Predicate, Projection, Sql};
use lakehead_syntax::ast::Action;

use crate::fate::{Fate, fates, without_rejected};
use crate::layout::add_layout;
use crate::reject::{Rejected, reject};
use crate::rows::{deletes, with_reserved, without_reserved};
use crate::step::{add_reserved, drop_columns, keep, keep_mask, project, split};

/// What one push brings.
#[derive(Debug, Default)]
pub struct Output {
    /// Rows for the sink at each node number, in order.
    pub sinks: Vec<(usize, RecordBatch)>,
    /// Rows set aside.
    pub rejected: Vec<Rejected>,
    /// Broken rules that only warn, with the rows that broke them.
    pub warned: Vec<(String, u64)>,
}

/// A plan, compiled as its expressions are first needed.
pub struct Flow {
    plan: Plan,
    sql: Arc<Sql>,
    parameters: Parameters,
    predicates: HashMap<(usize, usize), Predicate>,
    projections: HashMap<(usize, usize), Projection>,
    /// What becomes of the keys of rows that a step refuses.
    fates: HashMap<(usize, usize), Fate>,
    /// Rows of bounded inputs that stay for joins.
    tables: HashMap<StreamId, Vec<RecordBatch>>,
}

type Streams = HashMap<StreamId, Vec<RecordBatch>>;

impl Flow {
    /// Prepares a plan.
    pub fn new(plan: Plan, sql: Arc<Sql>, parameters: Parameters) -> Self {
        let (predicates, projections) = (HashMap::new(), HashMap::new());
        Self { fates: fates(&plan), plan, sql, parameters, predicates, projections, tables: HashMap::new() }
    }

    /// Returns the plan, with the columns that were added since it began.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Sets the time that `now()` gives until the next call.
    pub fn set_now(&mut self, now: lakehead_core::Micros) {
        self.parameters.set_now(now);
        self.predicates.clear();
        self.projections.clear();
    }

    /// Returns whether each row's result depends on that row alone, so that rows may pass as they come.
    pub fn is_row_wise(&self) -> bool {
        let batch_rule = |step: &Step| matches!(step.kind, StepPlan::Expect { batch: true, .. });
        self.plan.nodes.iter().all(|node| match &node.kind {
            NodeKind::Transform { steps, .. } => steps.iter().all(|step| step.row_wise || batch_rule(step)),
            _ => true,
        }) && !self.has_batch_rule()
    }

    fn has_batch_rule(&self) -> bool {
        self.plan.nodes.iter().any(|node| match &node.kind {
            NodeKind::Transform { steps, .. } => {
                steps.iter().any(|step| matches!(step.kind, StepPlan::Expect { batch: true, .. }))
            }
            _ => false,
        })
    }

    /// Keeps rows of a bounded input for the joins that read it.
    pub fn keep_table(&mut self, stream: StreamId, rows: &RecordBatch) -> Result<()> {
        let rows = with_reserved(rows, &self.plan.streams[stream.0].schema)?;
        self.tables.entry(stream).or_default().push(rows);
        Ok(())
    }

    /// Brings one source batch to the form that `push` takes.
    pub fn source_rows(&self, stream: StreamId, rows: &RecordBatch) -> Result<RecordBatch> {
        with_reserved(rows, &self.plan.streams[stream.0].schema)
    }

    /// Passes rows of sources through every node.
    pub async fn push(&mut self, inputs: Vec<(StreamId, RecordBatch)>) -> Result<Output> {
        let mut streams = Streams::new();
        for (stream, rows) in inputs {
            streams.entry(stream).or_default().push(rows);
        }
        let mut output = Output::default();
        let nodes: Vec<Node> = self.plan.nodes.clone();
        for (number, node) in nodes.iter().enumerate() {
            match &node.kind {
                NodeKind::Source(_) => {}
                NodeKind::Transform { inputs, output: to, steps } => {
                    let rows = self.transform(number, node, inputs, steps, &streams, &mut output).await?;
                    streams.insert(*to, rows);
                }
                NodeKind::Route { input, branches, otherwise } => {
                    for batch in self.entering(number, &streams, *input)? {
                        self.route(number, node, *input, &batch, branches, *otherwise, &mut streams, &mut output)?;
                    }
                }
                NodeKind::Sink(sink) => {
                    for batch in streams.get(&sink.input).into_iter().flatten() {
                        let batch = if sink.deletes_rejected { batch.clone() } else { without_rejected(batch)? };
                        if batch.num_rows() > 0 {
                            output.sinks.push((number, add_layout(&batch, &sink.layout)?));
                        }
                    }
                }
            }
        }
        if !output.rejected.is_empty() && self.plan.dead_letter.is_none() {
            let first = &output.rejected[0];
            return Err(Error::user("R0101", "a row cannot be computed, and there is no dead_letter")
                .with("node", &first.node)
                .with("reason", first.error.as_deref().unwrap_or(first.reason))
                .help("dead_letter lake { table = \"ops.dead_letters\" }   sets such rows aside"));
        }
        Ok(output)
    }

    async fn transform(
        &mut self,
        number: usize,
        node: &Node,
        inputs: &[StreamId],
        steps: &[Step],
        streams: &Streams,
        output: &mut Output,
    ) -> Result<Vec<RecordBatch>> {
        let Some(first) = inputs.first() else { return Ok(Vec::new()) };
        let changes = self.plan.streams[first.0].changes;
        let mut rows = self.entering(number, streams, *first)?;
        for (place, step) in steps.iter().enumerate() {
            let at = (number, place);
            rows = match &step.kind {
                StepPlan::Union => self.union(number, inputs, streams)?,
                StepPlan::Aggregate { values, by } => {
                    let scope = self.scope(step, true);
                    let made = self.sql.run_aggregate(by, values, &scope, rows, &self.parameters, &step.schema).await?;
                    reserved(&made, &step.schema)?
                }
                StepPlan::Join { .. } => self.join(step, rows, streams).await?,
                StepPlan::Query { .. } => self.query(step, rows, streams).await?,
                StepPlan::Dedupe(by) => self.dedupe(step, by, rows)?,
                StepPlan::Expect { name, condition, action, batch: true } => {
                    let scope = self.scope(step, true);
                    let holds = self.sql.run_batch_rule(condition, &scope, rows.clone(), &self.parameters).await?;
                    batch_verdict(holds, name, *action, &mut rows, output)?;
                    rows
                }
                _ => {
                    let mut passed = Vec::with_capacity(rows.len());
                    for batch in &rows {
                        self.row_wise(at, node, step, changes, batch, &mut passed, output)?;
                    }
                    passed
                }
            };
        }
        Ok(rows)
    }

    /// Returns the rows of a stream, without the keys of rows that were set aside.
    fn rows_of(&self, streams: &Streams, stream: StreamId) -> Result<Vec<RecordBatch>> {
        let rows = streams.get(&stream).or_else(|| self.tables.get(&stream));
        rows.into_iter().flatten().map(without_rejected).collect()
    }

    /// Returns the rows that enter a node; with the keys of rows set aside where a table behind it asks for them.
    fn entering(&self, number: usize, streams: &Streams, stream: StreamId) -> Result<Vec<RecordBatch>> {
        match self.fates.get(&(number, 0)) {
            Some(fate) if fate.deletes() => Ok(streams.get(&stream).cloned().unwrap_or_default()),
            _ => self.rows_of(streams, stream),
        }
    }

    fn scope(&self, step: &Step, with_reserved: bool) -> Scope {
        let mut inputs = step.sides.clone();
        if with_reserved {
            let fields: Vec<_> = lakehead_core::RESERVED.iter().map(|name| reserved_field(name)).collect();
            inputs.push((String::new(), Arc::new(Schema::new(fields))));
        }
        Scope { inputs, parameters: BTreeMap::new(), origin: String::new() }
    }

    /// Applies a step to a batch; where a row cannot be computed, halves the batch until it is found.
    #[allow(clippy::too_many_arguments, reason = "a step, its place, its rows and where they go")]
    fn row_wise(
        &mut self,
        at: (usize, usize),
        node: &Node,
        step: &Step,
        changes: bool,
        rows: &RecordBatch,
        passed: &mut Vec<RecordBatch>,
        output: &mut Output,
    ) -> Result<()> {
        match self.apply(at, node, step, changes, rows, output) {
            Ok(rows) => {
                if rows.num_rows() > 0 {
                    passed.push(rows);
                }
                Ok(())
            }
            Err(error) if error.code() != "R0101" => Err(error),
            Err(error) if rows.num_rows() == 1 => {
                let fate = self.failed_key(at, node, step, changes, rows, passed)?;
                output.rejected.extend(reject(rows, &node.name, "error", None, Some(error.message()), &fate)?);
                Ok(())
            }
            Err(_) => {
                let half = rows.num_rows() / 2;
                self.row_wise(at, node, step, changes, &rows.slice(0, half), passed, output)?;
                self.row_wise(at, node, step, changes, &rows.slice(half, rows.num_rows() - half), passed, output)
            }
        }
    }

    /// Passes the key of a row on that a step could not compute, where a table asks for it; says what became of it.
    #[allow(clippy::too_many_arguments, reason = "a step, its place, its row and where its key goes")]
    fn failed_key(
        &mut self,
        at: (usize, usize),
        node: &Node,
        step: &Step,
        changes: bool,
        row: &RecordBatch,
        passed: &mut Vec<RecordBatch>,
    ) -> Result<Fate> {
        let fate = self.fates.get(&at).cloned().unwrap_or_default();
        if !fate.deletes() || deletes(row)?.true_count() > 0 {
            return Ok(fate.kept());
        }
        let key = fate.reject(row, &BooleanArray::from(vec![true]))?;
        match self.apply(at, node, step, changes, &key, &mut Output::default()) {
            Ok(key) => {
                passed.push(key);
                Ok(fate)
            }
            Err(_) => Ok(fate.kept()),
        }
    }

    fn apply(
        &mut self,
        at: (usize, usize),
        node: &Node,
        step: &Step,
        changes: bool,
        rows: &RecordBatch,
        output: &mut Output,
    ) -> Result<RecordBatch> {
        match &step.kind {
            StepPlan::Where(sql) => keep(rows, &self.predicate(at, step, sql)?, changes, &step.key),
            StepPlan::Derive(sql) | StepPlan::Select(sql) => {
                project(rows, &self.projection(at, step, sql)?, step, changes)
            }
            StepPlan::Drop(_) => drop_columns(rows, &step.schema),
            StepPlan::Expect { name, condition, action, .. } => {
                let (passes, fails) = split(rows, &self.predicate(at, step, condition)?)?;
                if fails.true_count() == 0 {
                    return Ok(rows.clone());
                }
                let fate = self.fates.get(&at).cloned().unwrap_or_default();
                expected(rows, &passes, &fails, name, *action, node, &fate, output)
            }
            _ => Err(Error::bug("a step over whole inputs was applied to a batch")),
        }
    }

    fn predicate(&mut self, at: (usize, usize), step: &Step, sql: &lakehead_plan::SqlText) -> Result<Predicate> {
        if let Some(found) = self.predicates.get(&at) {
            return Ok(found.clone());
        }
        let compiled = self.sql.predicate(sql, &self.scope(step, true), &self.parameters)?;
        self.predicates.insert(at, compiled.clone());
        Ok(compiled)
    }

    fn projection(&mut self, at: (usize, usize), step: &Step, sql: &lakehead_plan::SqlText) -> Result<Projection> {
        if let Some(found) = self.projections.get(&at) {
            return Ok(found.clone());
        }
        let compiled = self.sql.projection(sql, &self.scope(step, true), &self.parameters, &step.schema)?;
        self.projections.insert(at, compiled.clone());
        Ok(compiled)
    }

    fn union(&self, number: usize, inputs: &[StreamId], streams: &Streams) -> Result<Vec<RecordBatch>> {
        let Some(first) = inputs.first() else { return Ok(Vec::new()) };
        let schema = Arc::clone(&self.plan.streams[first.0].schema);
        let mut rows = Vec::new();
        for input in inputs {
            for batch in self.entering(number, streams, *input)? {
                rows.push(with_reserved(&batch, &schema)?);
            }
        }
        Ok(rows)
    }

    async fn join(&self, step: &Step, rows: Vec<RecordBatch>, streams: &Streams) -> Result<Vec<RecordBatch>> {
        let StepPlan::Join { left, right, on, .. } = &step.kind else {
            return Err(Error::bug("a join is not one"));
        };
        let left_scope = self.scope(step, false);
        let right_schema = Arc::clone(&self.plan.streams[right.stream.0].schema);
        let right_scope = Scope {
            inputs: vec![(right.name.clone(), right_schema)],
            parameters: BTreeMap::new(),
            origin: String::new(),
        };
        let other = self.rows_of(streams, right.stream)?;
        let made = self
            .sql
            .run_join((&left_scope, rows), (&right_scope, other), *left, on, &self.parameters, &step.schema)
            .await?;
        reserved(&made, &step.schema)
    }

    async fn query(&self, step: &Step, rows: Vec<RecordBatch>, streams: &Streams) -> Result<Vec<RecordBatch>> {
        let StepPlan::Query { sql, tables } = &step.kind else {
            return Err(Error::bug("a query is not one"));
        };
        let mut named: Vec<(String, SchemaRef, Vec<RecordBatch>)> = Vec::new();
        let nullable = |schema: &Schema| -> SchemaRef {
            let fields: Vec<Field> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
            Arc::new(Schema::new(fields))
        };
        for (name, stream) in tables {
            let batches = self.rows_of(streams, *stream)?.iter().map(without_reserved).collect::<Result<_>>()?;
            named.push((name.clone(), nullable(&self.plan.streams[stream.0].schema), batches));
        }
        if tables.is_empty() {
            let fields: Vec<_> = step.sides.iter().flat_map(|(_, side)| side.fields().iter().cloned()).collect();
            let batches = rows.iter().map(without_reserved).collect::<Result<_>>()?;
            named.push(("input".into(), nullable(&Schema::new(fields)), batches));
        }
        let made = self.sql.run_query(sql, &named, &self.parameters, &step.schema).await?;
        reserved(&made, &step.schema)
    }

    /// Keeps the first row per key, over all rows given.
    fn dedupe(&self, step: &Step, by: &lakehead_plan::SqlText, rows: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        let fields: Vec<_> = step.sides.iter().flat_map(|(_, side)| side.fields().iter().cloned()).collect();
        let schema = Arc::new(Schema::new(fields));
        let projection = self.sql.projection(by, &self.scope(step, true), &self.parameters, &schema)?;
        let mut seen: HashSet<OwnedRow> = HashSet::new();
        let mut converter: Option<RowConverter> = None;
        let mut kept = Vec::with_capacity(rows.len());
        for batch in &rows {
            let columns: Vec<_> = projection.evaluate(batch)?.into_iter().map(|(_, column)| column).collect();
            let converter = match &mut converter {
                Some(converter) => converter,
                none => {
                    let fields = columns.iter().map(|c| SortField::new(c.data_type().clone())).collect();
                    none.insert(RowConverter::new(fields)?)
                }
            };
            let keys = converter.convert_columns(&columns)?;
            let first: BooleanArray = keys.iter().map(|key| Some(seen.insert(key.owned()))).collect();
            kept.push(filter_record_batch(batch, &first)?);
        }
        Ok(kept)
    }

    #[allow(clippy::too_many_arguments, reason = "a route, its rows and where they go")]
    fn route(
        &mut self,
        number: usize,
        node: &Node,
        input: StreamId,
        rows: &RecordBatch,
        branches: &[lakehead_plan::Branch],
        otherwise: Target,
        streams: &mut Streams,
        output: &mut Output,
    ) -> Result<()> {
        let stream = self.plan.streams[input.0].clone();
        let qualifier = stream.name.rsplit('.').next().unwrap_or(&stream.name).to_owned();
        let step = Step {
            kind: StepPlan::Union,
            sides: vec![(qualifier, Arc::clone(&stream.schema))],
            schema: Arc::clone(&stream.schema),
            key: stream.key.clone(),
            lineage: BTreeMap::new(),
            row_wise: true,
        };
        let gone = deletes(rows)?;
        let mut open = not(&gone)?;
        let mut ways = Vec::with_capacity(branches.len() + 1);
        for (place, branch) in branches.iter().enumerate() {
            let predicate = self.predicate((number, place), &step, &branch.condition)?;
            let holds = crate::rows::only_true(&predicate.evaluate(rows)?)?;
            let taken = and(&open, &holds)?;
            open = and(&open, &not(&taken)?)?;
            ways.push((branch.output, arrow::compute::or(&taken, &gone)?));
        }
        let mut rows = rows.clone();
        match otherwise {
            Target::Stream(target) => ways.push((target, arrow::compute::or(&open, &gone)?)),
            Target::DeadLetter => {
                let left = filter_record_batch(&rows, &open)?;
                let fate = self.fates.get(&(number, 0)).cloned().unwrap_or_default();
                output.rejected.extend(reject(&left, &node.name, "no_route", None, None, &fate)?);
                if fate.deletes() {
                    // Its key takes every way, in its place among the other rows.
                    rows = fate.reject(&rows, &open)?;
                    for (_, passes) in &mut ways {
                        *passes = arrow::compute::or(passes, &open)?;
                    }
                }
            }
        }
        for (target, passes) in ways {
            let kept = keep_mask(&rows, &passes, &not(&passes)?, stream.changes, &stream.key)?;
            streams.entry(target).or_default().push(kept);
        }
        Ok(())
    }

    /// Takes over columns that a source table has gained, as far as steps let them through. Returns the sinks (by node
    /// number) whose columns grew.
    pub fn evolve(&mut self, stream: StreamId, schema: &SchemaRef) -> Result<Vec<usize>> {
        let known = Arc::clone(&self.plan.streams[stream.0].schema);
        let added: Vec<_> =
            schema.fields().iter().filter(|field| known.field_with_name(field.name()).is_err()).cloned().collect();
        let mut grown: HashSet<StreamId> = HashSet::from([stream]);
        self.plan.streams[stream.0].schema = extend(&known, &added);
        let mut sinks = Vec::new();
        for number in 0..self.plan.nodes.len() {
            let mut node = self.plan.nodes[number].clone();
            match &mut node.kind {
                NodeKind::Transform { inputs, output, steps } => {
                    let grows = inputs.len() == 1 && grown.contains(&inputs[0]);
                    if grows && steps.iter_mut().all(|step| pass_added(step, &added)) {
                        let before = Arc::clone(&self.plan.streams[output.0].schema);
                        self.plan.streams[output.0].schema = extend(&before, &added);
                        grown.insert(*output);
                    }
                }
                NodeKind::Route { input, branches, otherwise } if grown.contains(input) => {
                    let mut outputs: Vec<StreamId> = branches.iter().map(|branch| branch.output).collect();
                    if let Target::Stream(target) = otherwise {
                        outputs.push(*target);
                    }
                    for output in outputs {
                        let before = Arc::clone(&self.plan.streams[output.0].schema);
                        self.plan.streams[output.0].schema = extend(&before, &added);
                        grown.insert(output);
                    }
                }
                NodeKind::Sink(sink) if grown.contains(&sink.input) => {
                    sink.schema = extend(&sink.schema, &added);
                    sinks.push(number);
                }
                _ => {}
            }
            self.plan.nodes[number] = node;
        }
        self.predicates.clear();
        self.projections.clear();
        Ok(sinks)
    }

    /// Returns the sinks (by node number) that rows of a source's stream reach.
    pub fn sinks_of(&self, stream: StreamId) -> Vec<usize> {
        let mut reached: HashSet<StreamId> = HashSet::from([stream]);
        let mut sinks = Vec::new();
        for (number, node) in self.plan.nodes.iter().enumerate() {
            match &node.kind {
                NodeKind::Transform { inputs, output, .. } if inputs.iter().any(|i| reached.contains(i)) => {
                    reached.insert(*output);
                }
                NodeKind::Route { input, branches, otherwise } if reached.contains(input) => {
                    reached.extend(branches.iter().map(|branch| branch.output));
                    if let Target::Stream(target) = otherwise {
                        reached.insert(*target);
                    }
                }
                NodeKind::Sink(sink) if reached.contains(&sink.input) => sinks.push(number),
                _ => {}
            }
        }
        sinks
    }
}

fn reserved(made: &[RecordBatch], schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
    made.iter().map(|batch| add_reserved(batch, schema)).collect()
}

fn extend(schema: &SchemaRef, added: &[Arc<Field>]) -> SchemaRef {
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    fields.extend(added.iter().filter(|field| schema.field_with_name(field.name()).is_err()).cloned());
    Arc::new(Schema::new(fields))
}

/// Lets added columns through a step; `select` and whole-input steps name theirs, and stop them.
fn pass_added(step: &mut Step, added: &[Arc<Field>]) -> bool {
    let passes =
        matches!(step.kind, StepPlan::Where(_) | StepPlan::Derive(_) | StepPlan::Drop(_) | StepPlan::Expect { .. });
    if !passes || step.sides.len() != 1 {
        return false;
    }
    step.sides[0].1 = extend(&step.sides[0].1, added);
    step.schema = extend(&step.schema, added);
    for field in added {
        step.lineage.entry(field.name().clone()).or_insert_with(|| vec![field.name().clone()]);
    }
    true
}

#[allow(clippy::too_many_arguments, reason = "a verdict, its rows and where they go")]
fn expected(
    rows: &RecordBatch,
    passes: &BooleanArray,
    fails: &BooleanArray,
    name: &str,
    action: Action,
    node: &Node,
    fate: &Fate,
    output: &mut Output,
) -> Result<RecordBatch> {
    let passing = || -> Result<RecordBatch> {
        if fate.deletes() { fate.reject(rows, fails) } else { Ok(filter_record_batch(rows, passes)?) }
    };
    let broken = fails.true_count() as u64;
    match action {
        Action::Warn => {
            output.warned.push((name.to_owned(), broken));
            Ok(rows.clone())
        }
        Action::Drop => passing(),
        Action::DeadLetter => {
            let refused = filter_record_batch(rows, fails)?;
            output.rejected.extend(reject(&refused, &node.name, "expectation", Some(name), None, fate)?);
            passing()
        }
        Action::Fail => Err(Error::user("R0103", format!("the expectation `{name}` is broken"))
            .with("node", &node.name)
            .with("rows", broken)
            .help("nothing was committed; mend the rows at the source, or say `else dead_letter`")),
    }
}

fn batch_verdict(
    holds: bool,
    name: &str,
    action: Action,
    rows: &mut Vec<RecordBatch>,
    output: &mut Output,
) -> Result<()> {
    if holds {
        return Ok(());
    }
    match action {
        Action::Warn => output.warned.push((name.to_owned(), rows.iter().map(|b| b.num_rows() as u64).sum())),
        Action::Drop => rows.clear(),
        Action::DeadLetter | Action::Fail => {
            return Err(Error::user("R0103", format!("the expectation `{name}` is broken"))
                .help("nothing was committed; mend the rows at the source, or say `else warn`"));
        }
    }
    Ok(())
}
