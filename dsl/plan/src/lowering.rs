//! From definitions to plans: every pipeline, in an order in which a table is written before it is read.

use std::collections::{BTreeMap, BTreeSet};

use arrow_schema::{DataType, SchemaRef, TimeUnit};
use lakehead_core::{CatalogKind, Connector, Result, Value};
use lakehead_syntax::ast::{self, Item, Stage};
use lakehead_syntax::{Diagnostic, FileId, Span};
use uuid::Uuid;

use crate::definitions::{Definitions, collect};
use crate::model::{CatalogPlan, Node, NodeKind, Plan, SourceDeclaration, Stream, StreamId, Target, TestCase};
use crate::sql::{Scope, SqlAnalyzer, SqlText};
use crate::{
    Lock, Project, SecretSource, blind, catalogs, places, routes, sinks, sources, steps, table_names, test_plan,
    triggers,
};

/// Everything a plan is made from.
pub struct Input<'a> {
    /// The project's settings.
    pub project: &'a Project,
    /// The trees of all files.
    pub files: &'a [(FileId, &'a ast::File)],
    /// Schemas of sources.
    pub lock: &'a Lock,
    /// The connectors that are built in.
    pub connectors: &'a [&'static Connector],
    /// The kinds of catalogs that are built in.
    pub catalogs: &'a [&'static CatalogKind],
    /// Fails where no store of this build opens a connection's path; asks nobody.
    pub check_store: fn(&str) -> Result<()>,
    /// Reads SQL.
    pub analyzer: &'a dyn SqlAnalyzer,
    /// The profile chosen.
    pub profile: Option<&'a str>,
    /// Variables set on the command line.
    pub variables: &'a [(String, String)],
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Planned {
    /// The pipelines without mistakes.
    pub plans: Vec<Plan>,
    /// The names of all pipelines, in file order.
    pub names: Vec<String>,
    /// The tests of the pipelines without mistakes.
    pub tests: Vec<TestCase>,
    /// Where secrets are.
    pub secrets: BTreeMap<String, SecretSource>,
    /// Every mistake and warning, by place.
    pub diagnostics: Vec<Diagnostic>,
    /// Every source of every pipeline, also of those with mistakes: what `lock` asks.
    pub sources: Vec<SourceDeclaration>,
    /// Every catalog, the default one too; no table is named in them.
    pub catalogs: Vec<CatalogPlan>,
    /// How many pieces of SQL there are.
    pub sql_count: usize,
}

/// Tables that pipelines of the project write: connection and table, to columns.
pub(crate) type Written = BTreeMap<(String, String), SchemaRef>;

/// Plans every pipeline of the files.
pub fn plan(input: &Input<'_>) -> Planned {
    let mut diagnostics = Vec::new();
    let mut definitions =
        collect(input.files, input.connectors, input.catalogs, input.profile, input.variables, &mut diagnostics);
    places::check(input.files, &mut definitions, input.check_store, &mut diagnostics);
    let mut planned = Planned { secrets: definitions.secrets.clone(), ..Planned::default() };
    planned.catalogs = catalogs::all(&definitions, input.catalogs);
    planned.names = definitions.pipelines.keys().cloned().collect();
    let mut written = Written::new();
    let mut waiting: Vec<&String> = definitions.pipelines.keys().collect();
    // A pipeline that reads a table of another waits for it; when nobody moves on, the lock file must do.
    let mut last_round = false;
    while !waiting.is_empty() {
        let before = waiting.len();
        let mut still = Vec::new();
        for name in waiting {
            let (file, tree) = definitions.pipelines[name];
            let mut lowering = Lowering::new(input, &definitions, file, tree, &written, last_round);
            let plan = lowering.lower();
            if lowering.must_wait {
                still.push(name);
                continue;
            }
            planned.sql_count += lowering.sql_count;
            planned.sources.append(&mut lowering.declared);
            let failed = lowering.leans_on_mistakes() || lowering.found.iter().any(Diagnostic::is_error);
            diagnostics.append(&mut lowering.found);
            let missing = lowering.missing;
            if missing {
                // Not to be run here, but its tables may be read: their columns follow from the lock file.
                let mut unbuilt = Lowering::new(input, &definitions, file, tree, &written, last_round);
                unbuilt.schema_only = true;
                let tables = unbuilt.lower().map(|plan| table_names::written_tables(&plan)).unwrap_or_default();
                written.extend(tables);
            }
            if let Some(plan) = plan.filter(|_| !failed) {
                for (key, schema) in table_names::written_tables(&plan) {
                    written.insert(key, schema);
                }
                planned.plans.push(plan);
            }
        }
        last_round = still.len() == before;
        waiting = still;
    }
    table_names::refuse_shared_tables(&planned.plans, &mut diagnostics);
    catalogs::refuse_shared_names(&planned.plans, input.catalogs, &mut diagnostics);
    lower_tests(input, &definitions, &mut planned, &mut diagnostics);
    diagnostics.sort_by(|a, b| a.order().cmp(&b.order()));
    diagnostics.dedup();
    planned.plans.sort_by_key(|plan| (plan.file, plan.span));
    planned.diagnostics = diagnostics;
    planned
}

fn lower_tests(
    input: &Input<'_>,
    definitions: &Definitions<'_>,
    planned: &mut Planned,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let mut tested = BTreeSet::new();
    for (file, tree) in input.files {
        for item in &tree.items {
            let Item::Test(test) = item else { continue };
            tested.insert(test.pipeline.text.clone());
            if !definitions.pipelines.contains_key(&test.pipeline.text) {
                let names: Vec<_> = definitions.pipelines.keys().map(String::as_str).collect();
                diagnostics.push(crate::definitions::unknown("E0211", "pipeline", &test.pipeline, *file, &names));
            } else if let Some(plan) = planned.plans.iter().find(|plan| plan.name == test.pipeline.text) {
                planned.tests.extend(test_plan::lower(*file, test, plan, definitions, diagnostics));
            }
        }
    }
    for plan in &planned.plans {
        if !tested.contains(&plan.name) {
            diagnostics.push(
                Diagnostic::warning("W0901", format!("pipeline `{}` has no test", plan.name))
                    .primary(plan.file, plan.span, "")
                    .help(format!("test \"title\" of {} {{ given … {{ … }} then … {{ … }} }}", plan.name)),
            );
        }
    }
}

/// One pipeline on its way to a plan.
pub(crate) struct Lowering<'a> {
    pub(crate) input: &'a Input<'a>,
    pub(crate) definitions: &'a Definitions<'a>,
    pub(crate) file: FileId,
    pub(crate) tree: &'a ast::Pipeline,
    pub(crate) written: &'a Written,
    pub(crate) last_round: bool,
    pub(crate) must_wait: bool,
    pub(crate) found: Vec<Diagnostic>,
    pub(crate) sql_count: usize,
    pub(crate) streams: Vec<Stream>,
    /// What a name stands for: one stream, or the members of a set by table.
    pub(crate) names: Vec<Named>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) read: BTreeSet<StreamId>,
    pub(crate) not_yet: Vec<(String, String)>,
    pub(crate) declared: Vec<SourceDeclaration>,
    source_failed: bool,
    /// Whether a definition that it leans on has mistakes.
    pub(crate) unsound: bool,
    /// Whether only the columns that the pipeline writes are wanted: a connector may be missing.
    pub(crate) schema_only: bool,
    /// Whether a connector is missing: the only thing that is then reported.
    pub(crate) missing: bool,
}

/// A name in a pipeline.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) span: Span,
    /// Table name (as the file writes it) and stream; the name is empty where the node has just one stream.
    pub(crate) members: Vec<(String, StreamId)>,
    /// Whether it is a sink, which nothing can read.
    pub(crate) sink: bool,
}

impl<'a> Lowering<'a> {
    fn new(
        input: &'a Input<'a>,
        definitions: &'a Definitions<'a>,
        file: FileId,
        tree: &'a ast::Pipeline,
        written: &'a Written,
        last_round: bool,
    ) -> Self {
        Self {
            input,
            definitions,
            file,
            tree,
            written,
            last_round,
            must_wait: false,
            found: Vec::new(),
            sql_count: 0,
            streams: Vec::new(),
            names: Vec::new(),
            nodes: Vec::new(),
            read: BTreeSet::new(),
            not_yet: Vec::new(),
            declared: Vec::new(),
            source_failed: false,
            unsound: false,
            schema_only: false,
            missing: false,
        }
    }

    /// Notes that the pipeline leans on a definition.
    pub(crate) fn lean_on(&mut self, kind: &'static str, name: &str) {
        self.unsound |= self.definitions.is_unsound(kind, name);
    }

    /// Returns whether a definition that the pipeline leans on has mistakes: the profile, its own name, those it uses, and
    /// those whose values it has read.
    fn leans_on_mistakes(&mut self) -> bool {
        let (profile, own) = (self.input.profile, self.tree.name.text.as_str());
        self.lean_on("pipeline", own);
        if let Some(profile) = profile {
            self.lean_on("profile", profile);
        }
        self.unsound | self.definitions.has_read_unsound()
    }

    fn lower(&mut self) -> Option<Plan> {
        self.definitions.has_read_unsound();
        if !self.schema_only {
            self.report_missing_connectors();
        }
        if self.missing {
            return None;
        }
        let mut trigger = None;
        let mut dead_letter = None;
        let mut retry = crate::RetryPlan::default();
        let mut alerts = Vec::new();
        for stage in &self.tree.stages {
            // Behind a source with mistakes every name and column would be one more: those are echoes.
            let reads = matches!(stage, Stage::Transform(_) | Stage::Route(_) | Stage::Sink(_));
            if reads && (self.source_failed || self.must_wait) {
                blind::check(self, stage);
                continue;
            }
            match stage {
                Stage::Trigger(stage) => trigger = triggers::lower(self, stage),
                Stage::Source(stage) => {
                    let nodes = self.nodes.len();
                    sources::lower(self, stage);
                    self.source_failed |= self.nodes.len() == nodes;
                }
                Stage::Transform(stage) => steps::lower(self, stage),
                Stage::Route(stage) => routes::lower(self, stage),
                Stage::Sink(stage) => sinks::lower(self, stage),
                Stage::DeadLetter(stage) => dead_letter = sinks::lower_dead_letter(self, stage),
                Stage::Retry(stage) => retry = triggers::lower_retry(self, stage),
                Stage::Alert(stage) => alerts.extend(triggers::lower_alert(self, stage)),
            }
        }
        sinks::assign_sets(self);
        let trigger = trigger.unwrap_or_else(triggers::manual);
        self.check_whole(&trigger, dead_letter.is_some());
        let errors = self.found.iter().any(Diagnostic::is_error);
        (!errors && !self.must_wait).then(|| Plan {
            name: self.tree.name.text.clone(),
            id: self.identity(),
            doc: self.tree.doc.clone(),
            file: self.file,
            span: self.tree.name.span,
            trigger,
            streams: std::mem::take(&mut self.streams),
            nodes: std::mem::take(&mut self.nodes),
            dead_letter,
            retry,
            alerts,
            parameters: self.definitions.variables.clone(),
            not_yet: std::mem::take(&mut self.not_yet),
        })
    }

    /// A rename keeps the identity by `was = "old name"`; a lost ledger does not change it.
    fn identity(&self) -> String {
        let was =
            self.tree.settings.iter().find(|setting| setting.name.text == "was").and_then(|setting| {
                match &setting.value.kind {
                    ast::ValueKind::String(text) => text.as_text(),
                    _ => None,
                }
            });
        let name = was.unwrap_or(&self.tree.name.text);
        let profile = self.input.profile.unwrap_or("");
        let text = format!("lakehead/{}/{name}/{profile}", self.input.project.name);
        Uuid::new_v5(&Uuid::NAMESPACE_URL, text.as_bytes()).to_string()
    }

    fn report_missing_connectors(&mut self) {
        for stage in &self.tree.stages {
            let name = match stage {
                Stage::Source(stage) => &stage.connection,
                Stage::Sink(stage) => &stage.connection,
                Stage::DeadLetter(stage) => &stage.connection,
                Stage::Alert(stage) => &stage.connection,
                _ => continue,
            };
            if let Some(connection) = self.definitions.connections.get(&name.text)
                && connection.connector.is_none()
                && crate::definitions::MISSING_CONNECTORS.contains(&connection.kind.as_str())
            {
                self.missing = true;
                let built_in: Vec<_> = self.input.connectors.iter().map(|connector| connector.name).collect();
                self.found.push(
                    Diagnostic::error("E0212", format!("the connector `{}` is not built in", connection.kind))
                        .primary(self.file, name.span, "needs it")
                        .secondary(connection.file, connection.span, "defined here")
                        .note(format!("built in are: {}", built_in.join(", "))),
                );
            }
        }
    }

    fn check_whole(&mut self, trigger: &crate::Trigger, has_dead_letter: bool) {
        let has_sink = self.nodes.iter().any(|node| matches!(node.kind, NodeKind::Sink(_)));
        let errors = self.found.iter().any(Diagnostic::is_error);
        if !has_sink && !errors {
            self.error(
                "E0207",
                format!("pipeline `{}` writes nothing", self.tree.name.text),
                self.tree.name.span,
                "has no sink",
            )
            .help_last("sink lake { table = \"schema.name\", mode = append }");
        }
        if errors {
            return;
        }
        let unread: Vec<Named> = self
            .names
            .iter()
            .filter(|named| !named.sink && !named.members.iter().any(|(_, stream)| self.read.contains(stream)))
            .cloned()
            .collect();
        for named in unread {
            self.found.push(
                Diagnostic::warning("W0201", format!("nothing reads `{}`", named.name))
                    .primary(self.file, named.span, "its rows go nowhere")
                    .help(format!("add a sink `from {}`, or leave it out", named.name)),
            );
        }
        let routes_to_dead_letter =
            self.nodes.iter().any(|node| matches!(&node.kind, NodeKind::Route { otherwise: Target::DeadLetter, .. }));
        if routes_to_dead_letter && !has_dead_letter {
            self.error(
                "E0511",
                "rows go to `dead_letter`, and there is none".to_owned(),
                self.tree.name.span,
                "has no dead_letter",
            )
            .help_last("dead_letter lake { table = \"ops.dead_letters\" }");
        }
        triggers::check_against_sources(self, trigger);
    }

    /// Reports an error; `help_last` may follow.
    pub(crate) fn error(&mut self, code: &'static str, message: String, span: Span, label: &str) -> &mut Self {
        self.found.push(Diagnostic::error(code, message).primary(self.file, span, label));
        self
    }

    /// Adds a cure to the newest diagnostic.
    pub(crate) fn help_last(&mut self, help: impl Into<String>) {
        if let Some(last) = self.found.pop() {
            self.found.push(last.help(help));
        }
    }

    /// Adds a stream.
    pub(crate) fn stream(&mut self, stream: Stream) -> StreamId {
        self.streams.push(stream);
        StreamId(self.streams.len() - 1)
    }

    /// Wraps a piece of SQL.
    pub(crate) fn sql(&mut self, sql: &ast::Sql) -> SqlText {
        self.sql_count += 1;
        for (place, _) in sql.text.match_indices('$') {
            let is_part = |c: char| c.is_alphanumeric() || c == '_';
            let name = sql.text[place + 1..].split(|c| !is_part(c)).next().unwrap_or_default();
            self.definitions.read("variable", name);
        }
        SqlText { text: sql.text.clone(), file: self.file, span: sql.span }
    }

    /// The scope of a step over one or more named inputs.
    pub(crate) fn scope(&self, inputs: Vec<(String, SchemaRef)>, origin: &str) -> Scope {
        let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let mut parameters: BTreeMap<String, DataType> = [
            ("run_start".to_owned(), instant.clone()),
            ("run_end".to_owned(), instant),
            ("run_id".to_owned(), DataType::Utf8),
            ("profile".to_owned(), DataType::Utf8),
        ]
        .into();
        for (name, value) in &self.definitions.variables {
            parameters.insert(name.clone(), parameter_type(value));
        }
        Scope { inputs, parameters, origin: origin.to_owned() }
    }

    /// Resolves what a stage reads: the streams behind `from`, or the node above.
    pub(crate) fn inputs(
        &mut self,
        from: &[ast::Path],
        stage: &str,
        span: Span,
    ) -> Option<Vec<(String, StreamId, String)>> {
        if from.is_empty() {
            let named = self.node_above(stage, span)?;
            return Some(expand(&named));
        }
        let mut inputs = Vec::new();
        for path in from {
            inputs.extend(self.lookup(path)?);
        }
        Some(inputs)
    }

    fn node_above(&mut self, stage: &str, span: Span) -> Option<Named> {
        let readable: Vec<Named> = self.names.iter().filter(|named| !named.sink).cloned().collect();
        let Some(last) = self.names.last().cloned() else {
            self.error("E0203", format!("`{stage}` has nothing to read"), span, "no source stands above")
                .help_last("source files { path = \"…\" }");
            return None;
        };
        let unread: Vec<&Named> = readable
            .iter()
            .filter(|named| !named.members.iter().any(|(_, stream)| self.read.contains(stream)))
            .collect();
        let all: Vec<_> = readable.iter().map(|named| named.name.clone()).collect();
        if last.sink {
            // The default sink of a set comes before its members' own sinks or behind them: either reads the set.
            if unread.len() == 1 {
                return Some(unread[0].clone());
            }
            self.found.push(
                Diagnostic::error("E0204", format!("say what `{stage}` reads"))
                    .primary(self.file, span, "`from` is missing")
                    .secondary(self.file, last.span, "the stage above is a sink, and nothing can be read from a sink")
                    .note(format!("nodes above: {}", all.join(", ")))
                    .help(format!("{stage} from {} {{ … }}", all.last().map_or("", String::as_str))),
            );
            return None;
        }
        if unread.len() > 1 {
            let names: Vec<_> = unread.iter().map(|named| named.name.clone()).collect();
            self.found.push(
                Diagnostic::error("E0204", format!("say what `{stage}` reads"))
                    .primary(self.file, span, "`from` is missing")
                    .note(format!("nodes above that nothing reads yet: {}", names.join(", ")))
                    .help(format!("{stage} from {} {{ … }}", names.join(", "))),
            );
            return None;
        }
        Some(last)
    }

    /// Resolves one path to streams.
    pub(crate) fn lookup(&mut self, path: &ast::Path) -> Option<Vec<(String, StreamId, String)>> {
        let named = self.names.iter().find(|named| !named.sink && named.name == path.head().text).cloned();
        let Some(named) = named else {
            let readable: Vec<_> =
                self.names.iter().filter(|named| !named.sink).map(|named| named.name.clone()).collect();
            let names: Vec<&str> = readable.iter().map(String::as_str).collect();
            let diagnostic = crate::definitions::unknown("E0203", "node above called", path.head(), self.file, &names);
            self.found.push(diagnostic);
            return None;
        };
        let all = expand(&named);
        let Some(member) = path.parts.get(1) else { return Some(all) };
        if member.text == "*" {
            return Some(all);
        }
        let wanted: Vec<_> = path.parts[1..].iter().map(|part| part.text.as_str()).collect();
        let wanted = wanted.join(".");
        let found: Vec<_> = all.iter().filter(|(table, ..)| is_member(table, &wanted)).cloned().collect();
        if found.is_empty() {
            let tables: Vec<&str> = all.iter().map(|(table, ..)| table.as_str()).collect();
            let diagnostic = crate::definitions::unknown("E0213", "table called", member, self.file, &tables);
            self.found.push(diagnostic.note(format!("`{}` is a set of tables", named.name)));
            return None;
        }
        Some(found)
    }

    /// Notes that a stream is read.
    pub(crate) fn mark_read(&mut self, stream: StreamId) {
        self.read.insert(stream);
    }

    /// Defines a name.
    pub(crate) fn define(&mut self, named: Named) {
        let taken = self.names.iter().find(|other| other.name == named.name && other.sink == named.sink);
        if let Some(first) = taken.map(|other| other.span) {
            self.found.push(
                Diagnostic::error("E0202", format!("there are two nodes called `{}`", named.name))
                    .primary(self.file, named.span, "the second")
                    .secondary(self.file, first, "the first")
                    .help("give one a name of its own:  sink other = lake { … }"),
            );
        }
        self.names.push(named);
    }
}

/// A table is named with or without its schema: `customers`, `public.customers`.
pub(crate) fn is_member(table: &str, wanted: &str) -> bool {
    table == wanted || table.rsplit_once('.').is_some_and(|(_, short)| short == wanted)
}

/// The streams of a name: table, stream, and the name people see.
fn expand(named: &Named) -> Vec<(String, StreamId, String)> {
    named
        .members
        .iter()
        .map(|(table, stream)| {
            let shown = if table.is_empty() { named.name.clone() } else { format!("{}.{table}", named.name) };
            (table.clone(), *stream, shown)
        })
        .collect()
}

fn parameter_type(value: &Value) -> DataType {
    match value {
        Value::Int(_) | Value::Size(_) => DataType::Int64,
        Value::Bool(_) => DataType::Boolean,
        Value::Duration(_) => DataType::Duration(TimeUnit::Microsecond),
        _ => DataType::Utf8,
    }
}
