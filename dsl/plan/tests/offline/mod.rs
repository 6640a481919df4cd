//! Connectors that build nothing, and no SQL: enough to plan what has none.

use lakehead_core::{
    Connector, Error, OptionKind, OptionSpec, RecordStore, Result, SinkRole, SinkSpec, SourceRole, WriteMode,
};
use lakehead_plan::{
    ExpressionShape, Input, Lock, NodeKind, Planned, Project, QueryShape, Scope, SinkPlan, SqlAnalyzer, SqlForm,
    SqlText, plan,
};
use lakehead_syntax::{Diagnostic, FileId, parse_file};

fn records(_: &SinkSpec) -> Result<Option<std::sync::Arc<dyn RecordStore>>> {
    Ok(None)
}

const fn sink(options: &'static [OptionSpec]) -> Option<SinkRole> {
    Some(SinkRole {
        options,
        modes: &[WriteMode::Append],
        build: |_| Err(Error::bug("nothing is built")),
        records,
        exists: None,
        describe: None,
        data_files: None,
        past_age: None,
        replicate: None,
        holds_copies: false,
        query: |_| None,
        readers: |_, _| None,
    })
}

static CONNECTION: [OptionSpec; 2] = [
    OptionSpec::new("path", OptionKind::Text, "where"),
    OptionSpec::new("cold", OptionKind::Text, "where what is old goes"),
];

static TABLE: [OptionSpec; 1] = [OptionSpec::new("table", OptionKind::Text, "which")];

/// A lake whose tables lie at `path`, where it is set.
pub(crate) const fn lake(name: &'static str, options: &'static [OptionSpec]) -> Connector {
    Connector {
        name,
        summary: "a lake",
        built_in: true,
        connection: &CONNECTION,
        source: None,
        sink: sink(options),
        alert: None,
    }
}

/// Rows of declared columns.
/// A lake whose tables keep rows and files for as long as a lifecycle says.
#[allow(dead_code, reason = "not every test that shares this file has lifecycles")]
pub(crate) const fn keeping(name: &'static str) -> Connector {
    let lake = lake(name, &[]);
    let role = match lake.sink {
        Some(role) => {
            Some(SinkRole { modes: &KEEPING_MODES, past_age: Some(|_| Box::pin(async { Ok(None) })), ..role })
        }
        None => None,
    };
    let source = match ROWS.source {
        Some(role) => Some(SourceRole { options: &TABLE, ..role }),
        None => None,
    };
    Connector { source, sink: role, ..lake }
}

static KEEPING_MODES: [WriteMode; 3] = [WriteMode::Append, WriteMode::Scd2, WriteMode::Compact];

pub(crate) static ROWS: Connector = Connector {
    name: "rows",
    summary: "rows",
    built_in: true,
    connection: &[],
    source: Some(SourceRole {
        options: &[],
        endless: |_| false,
        changes: |_| false,
        build: |_| Err(Error::bug("nothing is built")),
        discover: |_| Box::pin(async { Ok(Vec::new()) }),
        arrivals: None,
        column_rule: |_| None,
        makes: |_| Vec::new(),
        comparable: false,
    }),
    sink: None,
    alert: None,
};

/// No pipeline here has SQL.
pub(crate) struct NoSql;

impl SqlAnalyzer for NoSql {
    fn form(&self, _: &SqlText, _: SqlForm) -> Result<(), Vec<Diagnostic>> {
        Err(Vec::new())
    }
    fn expression(&self, _: &SqlText, _: &Scope, _: bool) -> Result<ExpressionShape, Vec<Diagnostic>> {
        Err(Vec::new())
    }
    fn select_list(&self, _: &SqlText, _: &Scope, _: bool) -> Result<Vec<lakehead_plan::Column>, Vec<Diagnostic>> {
        Err(Vec::new())
    }
    fn query(&self, _: &SqlText, _: &Scope) -> Result<QueryShape, Vec<Diagnostic>> {
        Err(Vec::new())
    }
}

/// What a build without Google's store says.
fn check_store(path: &str) -> lakehead_core::Result<()> {
    match path.starts_with("gs://") {
        true => Err(lakehead_core::Error::user("R0640", "no such store").help("take a build with the feature `gcs`")),
        false => Ok(()),
    }
}

/// Plans one file.
pub(crate) fn planned(text: &str, lakes: &[&'static Connector]) -> Planned {
    let (tree, mistakes) = parse_file(text, FileId(0));
    assert!(mistakes.is_empty(), "{mistakes:?}");
    let project = Project::parse("name = \"t\"\nedition = 1\n").unwrap();
    let connectors: Vec<_> = lakes.iter().copied().chain([&ROWS]).collect();
    plan(&Input {
        project: &project,
        files: &[(FileId(0), &tree)],
        lock: &Lock::default(),
        connectors: &connectors,
        catalogs: &[],
        check_store,
        analyzer: &NoSql,
        profile: None,
        variables: &[],
    })
}

/// The first sink of the first pipeline.
pub(crate) fn sink_of(planned: &Planned) -> &SinkPlan {
    let nodes = &planned.plans[0].nodes;
    nodes.iter().find_map(|node| if let NodeKind::Sink(sink) = &node.kind { Some(sink) } else { None }).unwrap()
}
