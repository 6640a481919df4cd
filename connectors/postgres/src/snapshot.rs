//! `capture = snapshot`: all tables as they stand at one moment, once per run.

use async_trait::async_trait;
use lakehead_core::{BatchBudget, Checkpoint, Result, Source, SourceEvent, SourceSpec};

use crate::catalog::{self, Scope};
use crate::endpoint::Endpoint;
use crate::names::Patterns;
use crate::scan::Scan;
use crate::session::Session;

/// Reads whole tables. Each run reads everything anew, whatever the checkpoint says.
#[derive(Debug)]
pub(crate) struct SnapshotSource {
    spec: SourceSpec,
    endpoint: Endpoint,
    excluded: Patterns,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Closed,
    Reading { scan: Box<Scan>, end: Checkpoint },
    AtEnd,
}

impl SnapshotSource {
    /// Creates the source; does no input or output.
    pub(crate) fn new(spec: SourceSpec) -> Result<Self> {
        let endpoint = Endpoint::from_settings(&spec.connection, &spec.root)?;
        let excluded = Patterns::parse_columns(&spec.settings.texts("exclude_columns"))?;
        Ok(Self { spec, endpoint, excluded, stage: Stage::Closed })
    }
}

#[async_trait]
impl Source for SnapshotSource {
    async fn open(&mut self, _from: &Checkpoint) -> Result<()> {
        let session = Session::connect(&self.endpoint, &self.spec.clock).await?;
        session.lift_time_limit().await?;
        session.run("starting the snapshot", "begin isolation level repeatable read read only").await?;
        let sql =
            "select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end::text";
        let lsn: String = session.row("reading the position", sql, &[]).await?.get(0);
        let names: Vec<&str> = self.spec.tables.iter().map(|table| table.name.as_str()).collect();
        let tables = catalog::named(&session, &names).await?;
        let scope = Scope { changes: false, excluded: &self.excluded };
        let scan = Scan::plan(session, &self.spec.tables, &tables, scope, None).await?;
        let mut end = Checkpoint::default();
        end.set(self.spec.node.clone(), serde_json::json!({ "snapshot": lsn }).to_string());
        self.stage = Stage::Reading { scan: Box::new(scan), end };
        Ok(())
    }

    async fn next(&mut self, budget: BatchBudget) -> Result<SourceEvent> {
        let Stage::Reading { scan, end } = &mut self.stage else {
            return Ok(SourceEvent::End);
        };
        if let Some(event) = scan.next(budget).await? {
            return Ok(event);
        }
        let progress = SourceEvent::Progress(end.clone());
        self.stage = Stage::AtEnd;
        Ok(progress)
    }

    async fn acknowledge(&mut self, _durable: &Checkpoint) -> Result<()> {
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        self.stage = Stage::Closed;
        Ok(())
    }
}
