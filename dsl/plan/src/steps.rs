//! `transform` and `route` stages: each step's columns, key and lineage.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use lakehead_core::{RESERVED, column_type_name, reserved_field};
use lakehead_syntax::ast::{self, StepKind};
use lakehead_syntax::{Diagnostic, Span, did_you_mean};

use crate::lowering::{Lowering, Named};
use crate::model::{JoinSide, Node, NodeKind, Step, StepPlan, Stream, StreamId};
use crate::sql::{Column, Scope, SqlText};

/// The rows between two steps.
#[derive(Clone)]
pub(crate) struct Rows {
    /// Columns by the name that qualifies them; more than one after a join.
    sides: Vec<(String, SchemaRef)>,
    key: Vec<String>,
    changes: bool,
    whole_old_rows: bool,
    unsent: Vec<String>,
    origin: String,
}

impl Rows {
    pub(crate) fn of(stream: &Stream, qualifier: &str) -> Self {
        Self {
            sides: vec![(qualifier.to_owned(), Arc::clone(&stream.schema))],
            key: stream.key.clone(),
            changes: stream.changes,
            whole_old_rows: stream.whole_old_rows,
            unsent: stream.unsent.clone(),
            origin: stream.origin.clone(),
        }
    }

    fn schema(&self) -> SchemaRef {
        let fields: Vec<_> = self.sides.iter().flat_map(|(_, schema)| schema.fields().iter().cloned()).collect();
        Arc::new(Schema::new(fields))
    }

    fn replace(&mut self, schema: SchemaRef) {
        let qualifier = self.sides.first().map_or_else(String::new, |(name, _)| name.clone());
        self.sides = vec![(qualifier, schema)];
        let present = |column: &String| self.sides[0].1.field_with_name(column).is_ok();
        if !self.key.iter().all(present) {
            self.key.clear();
        }
    }

    /// Data columns with the reserved ones behind them, as expressions may read both.
    fn scope(&self) -> Vec<(String, SchemaRef)> {
        let mut sides = self.sides.clone();
        let reserved: Vec<_> = RESERVED.iter().map(|name| reserved_field(name)).collect();
        sides.push((String::new(), Arc::new(Schema::new(reserved))));
        sides
    }
}

/// Lowers a transform: a node of its own, or a change of a set's members in place.
pub(crate) fn lower(lowering: &mut Lowering<'_>, stage: &ast::Transform) {
    if let Some(target) = &stage.target
        && target.parts.len() > 1
    {
        return lower_in_place(lowering, stage, target);
    }
    let (name, span) = match &stage.target {
        Some(target) => (target.head().text.clone(), target.span),
        None => ("transform".to_owned(), Span { start: stage.span.start, end: stage.span.start + 9 }),
    };
    let Some(inputs) = lowering.inputs(&stage.from, &format!("transform {name}"), span) else { return };
    let Some((first_table, first, first_name)) = inputs.first().cloned() else { return };
    let many = inputs.len() > 1;
    let takes_many = stage.steps.first().is_some_and(|step| matches!(step.kind, StepKind::Union | StepKind::Query(_)));
    if many && !takes_many {
        let tables: Vec<_> = inputs.iter().map(|(_, _, shown)| shown.clone()).collect();
        let cure = if first_table.is_empty() {
            "begin with `union`, or with `sql { … }`".to_owned()
        } else {
            format!("transform {}.* {{ … }}   changes each table in place", first_name.split('.').next().unwrap_or(""))
        };
        lowering
            .error(
                "E0217",
                format!("`{name}` reads {} inputs, and its first step takes one", inputs.len()),
                span,
                &tables.join(", "),
            )
            .help_last(cure);
        return;
    }
    let qualifier = first_name.rsplit('.').next().unwrap_or(&first_name).to_owned();
    let rows = Rows::of(&lowering.streams[first.0], &qualifier);
    let ids: Vec<StreamId> = inputs.iter().map(|(_, stream, _)| *stream).collect();
    for id in &ids {
        lowering.mark_read(*id);
    }
    let named: Vec<(String, StreamId)> = inputs
        .iter()
        .map(|(_, stream, shown)| (shown.rsplit('.').next().unwrap_or(shown).to_owned(), *stream))
        .collect();
    let Some((steps, rows)) = lower_steps(lowering, stage, rows, &named) else {
        // The name stays known, so that what reads it is not reported as well.
        let stream = lowering.streams[first.0].clone();
        let output = lowering.stream(Stream { name: name.clone(), ..stream });
        lowering.define(Named { name, span, members: vec![(String::new(), output)], sink: false });
        return;
    };
    let output = lowering.stream(Stream {
        name: name.clone(),
        schema: rows.schema(),
        key: rows.key,
        changes: rows.changes,
        whole_old_rows: rows.whole_old_rows,
        unsent: rows.unsent,
        origin: rows.origin,
        table: common_table(lowering, &ids),
    });
    lowering.define(Named { name: name.clone(), span, members: vec![(String::new(), output)], sink: false });
    lowering.nodes.push(Node { name, kind: NodeKind::Transform { inputs: ids, output, steps } });
}

/// The table that all inputs come from, if it is one.
fn common_table(lowering: &Lowering<'_>, inputs: &[StreamId]) -> Option<String> {
    let mut tables = inputs.iter().map(|input| lowering.streams[input.0].table.as_ref());
    let first = tables.next().flatten()?;
    tables.all(|table| table == Some(first)).then(|| first.clone())
}

fn lower_in_place(lowering: &mut Lowering<'_>, stage: &ast::Transform, target: &ast::Path) {
    let Some(members) = lowering.lookup(target) else { return };
    let head = target.head().text.clone();
    for (table, stream, shown) in members {
        let qualifier = table.rsplit('.').next().unwrap_or(&table).to_owned();
        let before = lowering.streams[stream.0].clone();
        let rows = Rows::of(&before, &qualifier);
        let Some((steps, rows)) = lower_steps(lowering, stage, rows, &[(qualifier.clone(), stream)]) else { continue };
        lowering.mark_read(stream);
        let output = lowering.stream(Stream {
            name: before.name.clone(),
            schema: rows.schema(),
            key: rows.key,
            changes: rows.changes,
            whole_old_rows: rows.whole_old_rows,
            unsent: rows.unsent,
            origin: rows.origin,
            table: before.table,
        });
        for named in lowering.names.iter_mut().filter(|named| named.name == head && !named.sink) {
            for member in named.members.iter_mut().filter(|member| member.0 == table) {
                member.1 = output;
            }
        }
        lowering.nodes.push(Node { name: shown, kind: NodeKind::Transform { inputs: vec![stream], output, steps } });
    }
}

fn lower_steps(
    lowering: &mut Lowering<'_>,
    stage: &ast::Transform,
    mut rows: Rows,
    inputs: &[(String, StreamId)],
) -> Option<(Vec<Step>, Rows)> {
    let mut steps = Vec::new();
    let mut failed = false;
    for (number, step) in stage.steps.iter().enumerate() {
        let sides = rows.sides.clone();
        match lower_step(lowering, step, number, &mut rows, inputs) {
            Some((kind, lineage, row_wise)) => {
                steps.push(Step { kind, sides, schema: rows.schema(), key: rows.key.clone(), lineage, row_wise });
            }
            None => {
                failed = true;
                // What follows reads columns that are not known now; its mistakes would be echoes.
                if !matches!(step.kind, StepKind::Where(_) | StepKind::Expect(_)) {
                    return None;
                }
            }
        }
    }
    refuse_twin_columns(lowering, stage, &rows);
    (!failed).then_some((steps, rows))
}

fn refuse_twin_columns(lowering: &mut Lowering<'_>, stage: &ast::Transform, rows: &Rows) {
    let schema = rows.schema();
    let mut seen = std::collections::BTreeSet::new();
    for field in schema.fields() {
        if !seen.insert(field.name()) {
            let span = stage.steps.last().map_or(stage.span, |step| step.span);
            lowering
                .error(
                    "E0308",
                    format!("two columns are called `{}`", field.name()),
                    span,
                    "both sides of the join have it",
                )
                .help_last("name the columns to keep:  select { a.id, b.name as b_name, … }");
            return;
        }
    }
}

type Lineage = BTreeMap<String, Vec<String>>;

fn identity_lineage(schema: &Schema) -> Lineage {
    schema.fields().iter().map(|field| (field.name().clone(), vec![field.name().clone()])).collect()
}

fn lower_step(
    lowering: &mut Lowering<'_>,
    step: &ast::Step,
    number: usize,
    rows: &mut Rows,
    inputs: &[(String, StreamId)],
) -> Option<(StepPlan, Lineage, bool)> {
    match &step.kind {
        StepKind::Where(sql) => {
            let sql = condition(lowering, sql, rows, "where", false)?.0;
            Some((StepPlan::Where(sql), identity_lineage(&rows.schema()), true))
        }
        StepKind::Derive(sql) => derive(lowering, sql, rows),
        StepKind::Select(sql) => select(lowering, sql, rows),
        StepKind::Drop { if_exists, columns } => drop_columns(lowering, columns, *if_exists, rows),
        StepKind::Aggregate(aggregate) => lower_aggregate(lowering, aggregate, step.span, rows),
        StepKind::Join(join) => lower_join(lowering, join, step.span, rows),
        StepKind::Dedupe { by, within } => {
            refuse_changes(lowering, rows, step.span, "dedupe")?;
            let sql = lowering.sql(by);
            select_list(lowering, &sql, rows, false)?;
            if within.is_some() {
                lowering.not_yet.push(("dedupe … within".into(), "transform".into()));
            }
            Some((StepPlan::Dedupe(sql), identity_lineage(&rows.schema()), false))
        }
        StepKind::Union => union(lowering, step, number, rows, inputs),
        StepKind::Expect(expect) => {
            let (condition, aggregate) = condition(lowering, &expect.condition, rows, "expect", true)?;
            let name = expect.name.as_ref().map_or_else(|| format!("expect_{}", number + 1), |name| name.text.clone());
            if expect.action == ast::Action::DeadLetter && aggregate {
                lowering
                    .error(
                        "E0309",
                        "a rule on the batch cannot set rows aside".into(),
                        expect.action_span,
                        "no single row is to blame",
                    )
                    .help_last("else fail   or   else warn");
                return None;
            }
            if expect.action == ast::Action::DeadLetter && !has_dead_letter(lowering) {
                lowering
                    .error(
                        "E0511",
                        "rows go to `dead_letter`, and there is none".into(),
                        expect.action_span,
                        "nowhere to go",
                    )
                    .help_last("dead_letter lake { table = \"ops.dead_letters\" }");
            }
            let kind = StepPlan::Expect { name, condition, action: expect.action, batch: aggregate };
            Some((kind, identity_lineage(&rows.schema()), !aggregate))
        }
        StepKind::Query(sql) => query(lowering, sql, step.span, number, rows, inputs),
    }
}

pub(crate) fn has_dead_letter(lowering: &Lowering<'_>) -> bool {
    lowering.tree.stages.iter().any(|stage| matches!(stage, ast::Stage::DeadLetter(_)))
}

fn scope(lowering: &Lowering<'_>, rows: &Rows) -> Scope {
    lowering.scope(rows.scope(), &rows.origin)
}

/// Types a condition; it must be boolean. Returns whether it holds an aggregate.
pub(crate) fn condition(
    lowering: &mut Lowering<'_>,
    sql: &ast::Sql,
    rows: &Rows,
    word: &str,
    aggregates: bool,
) -> Option<(SqlText, bool)> {
    let text = lowering.sql(sql);
    let shape = match lowering.input.analyzer.expression(&text, &scope(lowering, rows), aggregates) {
        Ok(shape) => shape,
        Err(mut found) => {
            lowering.found.append(&mut found);
            return None;
        }
    };
    if shape.data_type != DataType::Boolean {
        let trimmed = trimmed(&text);
        let found = column_type_name(&shape.data_type);
        let shown = text.text.trim();
        lowering
            .error("E0304", format!("a `{word}` must be true or false, this is {found}"), trimmed, &found)
            .help_last(format!("{word} {{ {shown} > 0 }}   or   {word} {{ {shown} is not null }}"));
        return None;
    }
    refuse_mixed(lowering, rows, &shape.inputs.into_iter().collect::<Vec<_>>(), trimmed(&text))?;
    Some((text, shape.aggregate))
}

fn trimmed(sql: &SqlText) -> Span {
    let before = sql.text.len() - sql.text.trim_start().len();
    let after = sql.text.len() - sql.text.trim_end().len();
    let start = sql.span.start + u32::try_from(before).unwrap_or(0);
    Span { start, end: (sql.span.end - u32::try_from(after).unwrap_or(0)).max(start) }
}

/// A change may leave large values unsent: what mixes such a column with others cannot be computed.
fn refuse_mixed(lowering: &mut Lowering<'_>, rows: &Rows, inputs: &[String], span: Span) -> Option<()> {
    let unsent: Vec<_> = inputs.iter().filter(|column| rows.unsent.contains(column)).cloned().collect();
    let data: Vec<_> = inputs.iter().filter(|column| !lakehead_core::is_reserved(column)).collect();
    if unsent.is_empty() || data.len() < 2 {
        return Some(());
    }
    lowering.found.push(
        Diagnostic::error("E0407", format!("`{}` may be unsent, and is mixed with other columns", unsent[0]))
            .primary(lowering.file, span, format!("reads {}", inputs.join(", ")))
            .note("Postgres does not send large values that an update leaves unchanged")
            .help("alter table … replica identity full;   or   refetch = true   in the source"),
    );
    None
}

fn select_list(lowering: &mut Lowering<'_>, sql: &SqlText, rows: &Rows, aggregates: bool) -> Option<Vec<Column>> {
    match lowering.input.analyzer.select_list(sql, &scope(lowering, rows), aggregates) {
        Ok(columns) => Some(columns),
        Err(mut found) => {
            lowering.found.append(&mut found);
            None
        }
    }
}

/// Checks what is computed for keys and unsent columns, and returns the columns left that may be unsent.
fn check_computed(lowering: &mut Lowering<'_>, rows: &Rows, columns: &[Column], span: Span) -> Option<Vec<String>> {
    let mut unsent = Vec::new();
    for column in columns.iter().filter(|column| !column.plain || column.inputs.len() == 1) {
        let inputs: Vec<String> = column.inputs.iter().cloned().collect();
        refuse_mixed(lowering, rows, &inputs, span)?;
        if inputs.iter().any(|input| rows.unsent.contains(input)) {
            unsent.push(column.name.clone());
        }
        let from_key = inputs.iter().all(|input| rows.key.contains(input));
        if rows.changes && rows.key.contains(&column.name) && !from_key {
            lowering
                .error("E0406", format!("the key `{}` is computed from columns outside the key", column.name), span, &inputs.join(", "))
                .help_last("a delete carries only its key: compute the key from key columns alone, or name the column otherwise");
            return None;
        }
    }
    Some(unsent)
}

fn derive(lowering: &mut Lowering<'_>, sql: &ast::Sql, rows: &mut Rows) -> Option<(StepPlan, Lineage, bool)> {
    let text = lowering.sql(sql);
    let columns = select_list(lowering, &text, rows, false)?;
    let unsent = check_computed(lowering, rows, &columns, trimmed(&text))?;
    let mut lineage = identity_lineage(&rows.schema());
    let mut added = Vec::new();
    for column in &columns {
        let field = Arc::new(Field::new(&column.name, column.data_type.clone(), column.nullable));
        lineage.insert(column.name.clone(), column.inputs.iter().cloned().collect());
        let mut replaced = false;
        for (_, schema) in &mut rows.sides {
            if let Ok(index) = schema.index_of(&column.name)
                && !replaced
            {
                let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
                fields[index] = Arc::clone(&field);
                *schema = Arc::new(Schema::new(fields));
                replaced = true;
            }
        }
        if !replaced {
            added.push(field);
        }
    }
    rows.unsent.retain(|column| !columns.iter().any(|new| new.name == *column));
    rows.unsent.extend(unsent);
    if !added.is_empty() {
        if rows.sides.len() == 1 {
            let mut fields: Vec<_> = rows.sides[0].1.fields().iter().cloned().collect();
            fields.extend(added);
            rows.sides[0].1 = Arc::new(Schema::new(fields));
        } else {
            rows.sides.push((String::new(), Arc::new(Schema::new(added))));
        }
    }
    Some((StepPlan::Derive(text), lineage, true))
}

fn select(lowering: &mut Lowering<'_>, sql: &ast::Sql, rows: &mut Rows) -> Option<(StepPlan, Lineage, bool)> {
    let text = lowering.sql(sql);
    let columns = select_list(lowering, &text, rows, false)?;
    let unsent = check_computed(lowering, rows, &columns, trimmed(&text))?;
    let data: Vec<&Column> = columns.iter().filter(|column| !lakehead_core::is_reserved(&column.name)).collect();
    let fields: Vec<_> = data.iter().map(|c| Field::new(&c.name, c.data_type.clone(), c.nullable)).collect();
    let lineage = data.iter().map(|c| (c.name.clone(), c.inputs.iter().cloned().collect())).collect();
    rows.replace(Arc::new(Schema::new(fields)));
    rows.unsent = unsent;
    Some((StepPlan::Select(text), lineage, true))
}

fn drop_columns(
    lowering: &mut Lowering<'_>,
    sql: &ast::Sql,
    if_exists: bool,
    rows: &mut Rows,
) -> Option<(StepPlan, Lineage, bool)> {
    lowering.sql_count += 1;
    let schema = rows.schema();
    let mut dropped = Vec::new();
    let mut at = sql.span.start;
    for part in sql.text.split(',') {
        let name = part.trim().trim_matches('"');
        let start = at + u32::try_from(part.len() - part.trim_start().len()).unwrap_or(0);
        at += u32::try_from(part.len() + 1).unwrap_or(0);
        if name.is_empty() {
            continue;
        }
        if schema.field_with_name(name).is_ok() {
            dropped.push(name.to_owned());
        } else if !if_exists {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            let meant = did_you_mean(name, names.iter().copied());
            let label = meant.map_or_else(String::new, |meant| format!("did you mean `{meant}`?"));
            let span = Span { start, end: start + u32::try_from(name.len()).unwrap_or(0) };
            lowering.found.push(
                Diagnostic::error("E0301", format!("there is no column `{name}`"))
                    .primary(lowering.file, span, label)
                    .note(format!("there are: {}", names.join(", ")))
                    .help("drop if exists { … }   leaves out what is not there"),
            );
            return None;
        }
    }
    if let Some(column) = dropped.iter().find(|column| rows.changes && rows.key.contains(column)) {
        let column = column.clone();
        lowering
            .error(
                "E0406",
                format!("`{column}` is in the key, and cannot be dropped"),
                sql.span,
                "a delete carries nothing else",
            )
            .help_last("leave it in");
        return None;
    }
    for (_, side) in &mut rows.sides {
        let fields: Vec<_> = side.fields().iter().filter(|field| !dropped.contains(field.name())).cloned().collect();
        *side = Arc::new(Schema::new(fields));
    }
    rows.unsent.retain(|column| !dropped.contains(column));
    Some((StepPlan::Drop(dropped), identity_lineage(&rows.schema()), true))
}

fn refuse_changes(lowering: &mut Lowering<'_>, rows: &Rows, span: Span, word: &str) -> Option<()> {
    if !rows.changes {
        return Some(());
    }
    lowering
        .error(
            "E0410",
            format!("`{word}` over a change stream is not known in edition 1"),
            span,
            "its input changes and deletes rows",
        )
        .help_last("mirror the table first, and compute from the lake table it fills");
    None
}

fn lower_aggregate(
    lowering: &mut Lowering<'_>,
    aggregate: &ast::Aggregate,
    span: Span,
    rows: &mut Rows,
) -> Option<(StepPlan, Lineage, bool)> {
    refuse_changes(lowering, rows, span, "aggregate")?;
    if aggregate.emit.is_some() || aggregate.keep.is_some() {
        lowering.not_yet.push(("aggregate … emit".into(), "transform".into()));
    }
    let by = lowering.sql(&aggregate.by);
    let values = lowering.sql(&aggregate.values);
    let keys = select_list(lowering, &by, rows, false)?;
    let columns = select_list(lowering, &values, rows, true)?;
    let all = keys.iter().chain(&columns);
    let fields: Vec<_> = all.map(|c| Field::new(&c.name, c.data_type.clone(), c.nullable)).collect();
    rows.replace(Arc::new(Schema::new(fields)));
    rows.key = keys.iter().map(|key| key.name.clone()).collect();
    rows.unsent.clear();
    Some((StepPlan::Aggregate { values, by }, Lineage::new(), false))
}

fn lower_join(
    lowering: &mut Lowering<'_>,
    join: &ast::Join,
    span: Span,
    rows: &mut Rows,
) -> Option<(StepPlan, Lineage, bool)> {
    refuse_changes(lowering, rows, span, "join")?;
    let found = lowering.lookup(&join.with)?;
    let [(_, stream, shown)] = found.as_slice() else {
        lowering.error("E0217", format!("`{}` is a set of tables", join.with), join.with.span, "name one of them");
        return None;
    };
    lowering.mark_read(*stream);
    if !matches!(join.time, ast::JoinTime::Any) {
        lowering.not_yet.push(("join … as of / within".into(), "transform".into()));
    }
    let left_name = rows.sides.first().map_or_else(String::new, |(name, _)| name.clone());
    let right_name = shown.rsplit('.').next().unwrap_or(shown).to_owned();
    let right = Arc::clone(&lowering.streams[stream.0].schema);
    let nullable: Vec<_> = right.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    rows.sides.push((right_name.clone(), Arc::new(Schema::new(nullable))));
    let left = join.kind == ast::JoinKind::Left;
    let on = condition(lowering, &join.on, rows, "on", false)?.0;
    rows.key.clear();
    let right = JoinSide { name: right_name, stream: *stream };
    Some((StepPlan::Join { left, left_name, right, on }, Lineage::new(), false))
}

fn union(
    lowering: &mut Lowering<'_>,
    step: &ast::Step,
    number: usize,
    rows: &mut Rows,
    inputs: &[(String, StreamId)],
) -> Option<(StepPlan, Lineage, bool)> {
    if number > 0 {
        lowering.error("E0310", "`union` must be the first step".into(), step.span, "comes too late");
        return None;
    }
    let first = rows.schema();
    for (name, stream) in &inputs[1..] {
        let other = Arc::clone(&lowering.streams[stream.0].schema);
        let has = |schema: &Schema, field: &Arc<Field>| schema.field_with_name(field.name()).is_ok();
        let missing: Vec<_> =
            first.fields().iter().filter(|field| !has(&other, field)).map(|f| f.name().clone()).collect();
        let more: Vec<_> =
            other.fields().iter().filter(|field| !has(&first, field)).map(|f| f.name().clone()).collect();
        let retyped: Vec<_> = first
            .fields()
            .iter()
            .filter(|field| other.field_with_name(field.name()).is_ok_and(|f| f.data_type() != field.data_type()))
            .map(|field| field.name().clone())
            .collect();
        if !missing.is_empty() || !more.is_empty() || !retyped.is_empty() {
            let mut diagnostic = Diagnostic::error("E0311", format!("`{name}` has other columns than the first input"))
                .primary(lowering.file, step.span, "needs the same columns on all sides");
            for (what, columns) in [("it lacks", missing), ("it has more", more), ("of another type", retyped)] {
                if !columns.is_empty() {
                    diagnostic = diagnostic.note(format!("{what}: {}", columns.join(", ")));
                }
            }
            lowering.found.push(diagnostic.help("give each input a transform with the same select first"));
            return None;
        }
    }
    rows.key.clear();
    Some((StepPlan::Union, identity_lineage(&first), true))
}

fn query(
    lowering: &mut Lowering<'_>,
    sql: &ast::Sql,
    span: Span,
    number: usize,
    rows: &mut Rows,
    inputs: &[(String, StreamId)],
) -> Option<(StepPlan, Lineage, bool)> {
    refuse_changes(lowering, rows, span, "sql")?;
    let text = lowering.sql(sql);
    let tables: Vec<(String, StreamId)> = if number == 0 { inputs.to_vec() } else { Vec::new() };
    let mut schemas: Vec<(String, SchemaRef)> =
        tables.iter().map(|(name, stream)| (name.clone(), Arc::clone(&lowering.streams[stream.0].schema))).collect();
    if number > 0 {
        schemas.push(("input".into(), rows.schema()));
    }
    let scope = lowering.scope(schemas, &rows.origin);
    match lowering.input.analyzer.query(&text, &scope) {
        Ok(shape) => {
            rows.replace(shape.schema);
            rows.key.clear();
            rows.unsent.clear();
            Some((StepPlan::Query { sql: text, tables }, Lineage::new(), false))
        }
        Err(mut found) => {
            lowering.found.append(&mut found);
            None
        }
    }
}
