//! What can be said of a stage behind a source whose columns are not known: its settings and the form of its SQL. So one
//! `check` tells every mistake that stands in the file, before anybody asks the source for its tables.

use lakehead_syntax::ast::{Sql, Stage, Step, StepKind};

use crate::lowering::Lowering;
use crate::sinks;
use crate::sql::SqlForm;

/// Checks a stage without the rows that it reads.
pub(crate) fn check(lowering: &mut Lowering<'_>, stage: &Stage) {
    match stage {
        Stage::Transform(stage) => stage.steps.iter().for_each(|step| check_step(lowering, step)),
        Stage::Route(stage) => {
            for branch in &stage.branches {
                check_sql(lowering, &branch.condition, SqlForm::Expression);
            }
        }
        Stage::Sink(stage) => sinks::check_settings_of(lowering, stage),
        _ => {}
    }
}

fn check_step(lowering: &mut Lowering<'_>, step: &Step) {
    match &step.kind {
        StepKind::Where(sql) => check_sql(lowering, sql, SqlForm::Expression),
        StepKind::Expect(expect) => check_sql(lowering, &expect.condition, SqlForm::Expression),
        StepKind::Join(join) => check_sql(lowering, &join.on, SqlForm::Expression),
        StepKind::Derive(sql) | StepKind::Select(sql) | StepKind::Dedupe { by: sql, .. } => {
            check_sql(lowering, sql, SqlForm::SelectList);
        }
        StepKind::Aggregate(aggregate) => {
            check_sql(lowering, &aggregate.values, SqlForm::SelectList);
            check_sql(lowering, &aggregate.by, SqlForm::SelectList);
        }
        StepKind::Query(sql) => check_sql(lowering, sql, SqlForm::Query),
        StepKind::Drop { .. } | StepKind::Union => {}
    }
}

fn check_sql(lowering: &mut Lowering<'_>, sql: &Sql, form: SqlForm) {
    let text = lowering.sql(sql);
    if let Err(mut found) = lowering.input.analyzer.form(&text, form) {
        lowering.found.append(&mut found);
    }
}
