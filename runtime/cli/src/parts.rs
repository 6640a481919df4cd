//! From a plan to running parts: the registry builds, the run's texts are filled in.

use std::path::Path;
use std::sync::Arc;

use lakehead_core::{
    Arrived, Clock, Error, RecordStore, Result, RunContext, Settings, SinkRole, SinkSpec, SourceSpec, TableSpec, Value,
};
use lakehead_engine::{Parts, Reopen, SinkPart, SourcePart};
use lakehead_plan::{NodeKind, Plan, SinkPlan, SourcePlan, expand_run, is_of_some_run, names_run};

/// What every part is built with.
pub(crate) struct Building<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) root: &'a Path,
    /// The project's folder for what can be lost.
    pub(crate) state: &'a Path,
    pub(crate) run: &'a RunContext,
    pub(crate) clock: &'a Arc<dyn Clock>,
}

/// Refuses settings that are checked and not carried out: nothing is accepted and ignored.
pub(crate) fn refuse_not_yet(plan: &Plan) -> Result<()> {
    let Some((setting, place)) = plan.not_yet.first() else { return Ok(()) };
    Err(Error::user("R0971", "this version checks a setting that it does not carry out yet")
        .with("pipeline", &plan.name)
        .with("setting", setting)
        .with("at", place)
        .help("leave it out to run the pipeline today"))
}

/// Between a pipeline's identity and the number of a worker that fills intervals for it.
const WORKER: &str = "-backfill-";

/// Returns the plan of one worker: it owns a chain of its own, so that workers do not fence each other.
pub(crate) fn of_worker(plan: &Plan, worker: usize) -> Plan {
    Plan { id: format!("{}{WORKER}{worker}", plan.id), ..plan.clone() }
}

/// Returns the identity of the pipeline that a worker works for.
pub(crate) fn owner(id: &str) -> &str {
    id.split_once(WORKER).map_or(id, |(owner, _)| owner)
}

impl Building<'_> {
    /// Builds every source and sink of the plan. Does no input or output but make local folders.
    pub(crate) fn parts(&self) -> Result<Parts> {
        let mut parts = Parts { sources: Vec::new(), sinks: Vec::new(), records: None, reopen: Some(self.reopen()) };
        for (number, node) in self.plan.nodes.iter().enumerate() {
            match &node.kind {
                NodeKind::Source(source) => {
                    let built = self.source(&node.name, source)?;
                    parts.sources.push(SourcePart { node: number, source: built });
                }
                NodeKind::Sink(sink) => self.add_sink(&mut parts, Some(number), sink)?,
                _ => {}
            }
        }
        if let Some(sink) = &self.plan.dead_letter {
            self.add_sink(&mut parts, None, sink)?;
        }
        Ok(parts)
    }

    /// Builds one source.
    pub(crate) fn source(&self, node: &str, source: &SourcePlan) -> Result<Box<dyn lakehead_core::Source>> {
        let role = lakehead_registry::connector(&source.connector).and_then(|connector| connector.source);
        let role = role.ok_or_else(|| Error::bug("a planned source has no connector"))?;
        (role.build)(self.source_spec(node, source))
    }

    /// Returns what a source is built from.
    pub(crate) fn source_spec(&self, node: &str, source: &SourcePlan) -> SourceSpec {
        let tables = source
            .tables
            .iter()
            .map(|table| {
                let stream = &self.plan.streams[table.stream.0];
                TableSpec { name: table.name.clone(), schema: Arc::clone(&stream.schema), key: stream.key.clone() }
            })
            .collect();
        SourceSpec {
            // The workers of a backfill read what the pipeline reads.
            pipeline: owner(&self.plan.id).to_owned(),
            node: node.to_owned(),
            connection: source.connection.clone(),
            settings: self.expand(&source.settings),
            tables,
            root: self.root.to_path_buf(),
            run: self.run.clone(),
            clock: Arc::clone(self.clock),
        }
    }

    /// Looks at the inputs of all sources.
    pub(crate) async fn arrivals(&self) -> Result<Arrived> {
        let mut fingerprints = Vec::new();
        let mut late = Vec::new();
        for node in &self.plan.nodes {
            let NodeKind::Source(source) = &node.kind else { continue };
            let role = lakehead_registry::connector(&source.connector).and_then(|connector| connector.source);
            let Some(arrivals) = role.and_then(|role| role.arrivals) else { continue };
            let found = arrivals(&self.source_spec(&node.name, source)).await?;
            fingerprints.extend(found.fingerprint);
            late.extend(found.late);
        }
        // What is made again would expire at once.
        let (now, age) = (self.clock.now(), self.expires_after());
        late.retain(|interval| age.is_none_or(|age| interval.end.saturating_add(age) > now));
        Ok(Arrived { fingerprint: (!fingerprints.is_empty()).then(|| fingerprints.join(" ")), late })
    }

    /// Returns the age, in microseconds, past which no table of the plan keeps rows; `None` where one keeps them for ever.
    fn expires_after(&self) -> Option<i64> {
        let nodes = self.plan.nodes.iter().filter_map(|node| match &node.kind {
            NodeKind::Sink(sink) => Some(sink),
            _ => None,
        });
        let ages = nodes.map(|sink| sink.retention().expiry.map(|expiry| expiry.after));
        let oldest = ages.collect::<Option<Vec<_>>>()?.into_iter().max()?;
        i64::try_from(oldest.as_micros()).ok()
    }

    fn add_sink(&self, parts: &mut Parts, node: Option<usize>, sink: &SinkPlan) -> Result<()> {
        let (role, spec) = (sink_role(sink)?, self.sink_spec(sink));
        let records: Option<Arc<dyn RecordStore>> = (role.records)(&spec)?;
        // A table of this run alone tells the next run nothing: its rounds are always recorded.
        let lake = records.is_some() && !names_run(&sink.table);
        if parts.records.is_none() {
            parts.records = records;
        }
        let table = spec.table.clone();
        parts.sinks.push(SinkPart {
            node,
            table: format!("{}:{table}", sink.connection_name),
            lake,
            sink: (role.build)(spec)?,
        });
        Ok(())
    }

    /// Builds the sink of a table that another run wrote.
    fn reopen(&self) -> Reopen {
        let (plan, root, state) = (self.plan.clone(), self.root.to_path_buf(), self.state.to_path_buf());
        let (run, clock) = (self.run.clone(), Arc::clone(self.clock));
        Box::new(move |name| {
            let building = Building { plan: &plan, root: &root, state: &state, run: &run, clock: &clock };
            let sinks = plan.nodes.iter().filter_map(|node| match &node.kind {
                NodeKind::Sink(sink) => Some(sink),
                _ => None,
            });
            for sink in sinks.chain(&plan.dead_letter).filter(|sink| names_run(&sink.table)) {
                let table = name.strip_prefix(&sink.connection_name).and_then(|rest| rest.strip_prefix(':'));
                if let Some(table) = table.filter(|table| is_of_some_run(&sink.table, table)) {
                    let spec = SinkSpec { table: table.to_owned(), ..building.sink_spec(sink) };
                    return (sink_role(sink)?.build)(spec).map(Some);
                }
            }
            Ok(None)
        })
    }

    /// Returns what a sink is built from.
    pub(crate) fn sink_spec(&self, sink: &SinkPlan) -> SinkSpec {
        let mut settings = self.expand(&sink.settings);
        sink.retention().tell(&mut settings);
        SinkSpec {
            pipeline: self.plan.id.clone(),
            node: sink.node.clone(),
            table: expand_run(&sink.table, self.run),
            schema: Arc::clone(&sink.schema),
            key: sink.key.clone(),
            mode: sink.mode,
            partition_by: sink.layout.iter().map(|part| part.name.clone()).collect(),
            connection: sink.connection.clone(),
            settings,
            root: self.root.to_path_buf(),
            cache: self.state.to_path_buf(),
            run: self.run.clone(),
            clock: Arc::clone(self.clock),
        }
    }

    fn expand(&self, settings: &Settings) -> Settings {
        let mut settings = settings.clone();
        settings.map_values(&mut |value| {
            if let Value::Text(text) = value {
                *text = expand_run(text, self.run);
            }
        });
        settings
    }
}

fn sink_role(sink: &SinkPlan) -> Result<SinkRole> {
    let role = lakehead_registry::connector(&sink.connector).and_then(|connector| connector.sink);
    role.ok_or_else(|| Error::bug("a planned sink has no connector"))
}
