//! `test` blocks.

use lakehead_core::parse_micros;
use lakehead_syntax::ast::{self, TestRole, TestRows, ValueKind};
use lakehead_syntax::{Diagnostic, FileId, did_you_mean};

use crate::definitions::Definitions;
use crate::model::{NodeKind, Plan, TestCase, TestCell, TestTable};

/// Lowers one test; its nodes must be those of the plan.
pub(crate) fn lower(
    file: FileId,
    test: &ast::Test,
    plan: &Plan,
    definitions: &Definitions<'_>,
    found: &mut Vec<Diagnostic>,
) -> Option<TestCase> {
    let before = found.len();
    let mut case = TestCase {
        title: test.title.as_text().unwrap_or_default().to_owned(),
        pipeline: plan.name.clone(),
        file,
        span: test.title.span,
        now: None,
        run_start: None,
        run_end: None,
        given: Vec::new(),
        then: Vec::new(),
    };
    for setting in &test.settings {
        read_setting(file, setting, &mut case, definitions, found);
    }
    for table in &test.tables {
        check_node(file, table, plan, found);
        let lowered = lower_table(table);
        match table.role {
            TestRole::Given => case.given.push(lowered),
            TestRole::Then => case.then.push(lowered),
        }
    }
    if case.then.is_empty() {
        found.push(
            Diagnostic::error("E0802", "the test expects nothing")
                .primary(file, test.title.span, "has no `then`")
                .help("then lake { … }   or   then dead_letter empty"),
        );
    }
    (found.len() == before).then_some(case)
}

fn read_setting(
    file: FileId,
    setting: &ast::Setting,
    case: &mut TestCase,
    definitions: &Definitions<'_>,
    found: &mut Vec<Diagnostic>,
) {
    let names = ["now", "run_start", "run_end", "drain"];
    if !names.contains(&setting.name.text.as_str()) {
        found.push(crate::definitions::unknown("E0208", "setting", &setting.name, file, &names));
        return;
    }
    if setting.name.text == "drain" {
        return;
    }
    let text = match &setting.value.kind {
        ValueKind::String(_) => definitions.value(file, &setting.value, &[], found),
        _ => None,
    };
    let at = text.as_ref().and_then(|value| value.as_text()).and_then(parse_micros);
    if at.is_none() {
        found.push(
            Diagnostic::error("E0803", format!("`{}` is not a time", setting.name.text))
                .primary(file, setting.value.span, "needs a time")
                .help("\"2026-05-01T10:00:00Z\""),
        );
    }
    match setting.name.text.as_str() {
        "now" => case.now = at,
        "run_start" => case.run_start = at,
        _ => case.run_end = at,
    }
}

fn lower_table(table: &ast::TestTable) -> TestTable {
    let node = table.node.to_string();
    let mut lowered = TestTable { node, span: table.span, header: Vec::new(), rows: Vec::new(), path: None };
    match &table.rows {
        TestRows::Table { header, rows } => {
            lowered.header = header.cells.iter().map(|cell| cell.value.clone().unwrap_or_default()).collect();
            lowered.rows = rows
                .iter()
                .map(|row| {
                    row.cells.iter().map(|cell| TestCell { value: cell.value.clone(), span: cell.span }).collect()
                })
                .collect();
        }
        TestRows::File(path) => lowered.path = path.as_text().map(str::to_owned),
        TestRows::Empty => {}
    }
    lowered
}

fn check_node(file: FileId, table: &ast::TestTable, plan: &Plan, found: &mut Vec<Diagnostic>) {
    let head = &table.node.head().text;
    let names: Vec<&str> = plan
        .nodes
        .iter()
        .filter(|node| match table.role {
            TestRole::Given => matches!(node.kind, NodeKind::Source(_)),
            TestRole::Then => matches!(node.kind, NodeKind::Sink(_)),
        })
        .map(|node| node.name.as_str())
        .chain((table.role == TestRole::Then).then_some("dead_letter"))
        .collect();
    if names.contains(&head.as_str()) {
        return;
    }
    let kind = if table.role == TestRole::Given { "source" } else { "sink" };
    let meant = did_you_mean(head, names.iter().copied());
    let label = meant.map_or_else(String::new, |meant| format!("did you mean `{meant}`?"));
    let mut names = names;
    names.dedup();
    found.push(
        Diagnostic::error("E0804", format!("the pipeline has no {kind} `{head}`"))
            .primary(file, table.node.span, label)
            .note(format!("there are: {}", names.join(", "))),
    );
}
