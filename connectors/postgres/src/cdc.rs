//! `capture = cdc`: a snapshot of all tables, then every change, from a replication slot.
//!
//! ```text
//!   empty checkpoint ─▶ publication ─▶ slot ─▶ Snapshot ─▶ Keeping ─▶ Starting ─▶ Streaming
//!   checkpoint ───────▶ identity, slot, publication checked ─────────────────────▶ Streaming
//! ```
//!
//! A snapshot that does not end is worth nothing: its exported snapshot is gone with the connection, and the slot, which
//! is temporary until then, with it. The next start reads every table anew under a new one. The only positions that are handed out are the consistent
//! point after the whole snapshot, and ends of transactions. No lock is taken but ACCESS SHARE for the snapshot.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lakehead_core::{BatchBudget, Checkpoint, Clock, Error, Result, Source, SourceEvent, SourceSpec, failpoint};
use sha2::Digest;
use tokio::task::JoinHandle;

use crate::catalog::{self, CatalogTable, Scope};
use crate::endpoint::Endpoint;
use crate::fault;
use crate::feed::Feed;
use crate::lsn::{self, Identity, Lsn};
use crate::names::{self, Patterns};
use crate::publication;
use crate::scan::{Scan, SnapshotMark};
use crate::server;
use crate::session::Session;
use crate::slot::{self, Slot, System};
use crate::stream::{Lookup, Stream};
use crate::transaction::{Assembler, Delivery};
use crate::wire::Wire;

/// Captures changes.
#[derive(Debug)]
pub(crate) struct ChangeSource {
    spec: SourceSpec,
    endpoint: Endpoint,
    slot: String,
    publication: String,
    may_publish: bool,
    excluded: Patterns,
    identity: Option<Identity>,
    /// The proof that nothing was confirmed is still there.
    is_marked: bool,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Closed,
    Snapshot {
        scan: Box<Scan>,
        /// Holds the temporary slot.
        wire: Box<Wire>,
        start: Start,
    },
    /// The slot is made permanent by a task, so that a dropped `next` does not leave half an answer behind.
    Keeping {
        task: JoinHandle<Result<()>>,
        start: Start,
    },
    /// The connection is made by a task, so that a dropped `next` does not leave a half-made one behind.
    Starting {
        task: JoinHandle<Result<Feed>>,
        start: Start,
    },
    Streaming(Box<Stream>),
}

/// Where and with what streaming begins.
#[derive(Clone, Debug)]
struct Start {
    position: Lsn,
    confirmed: Lsn,
    publications: Vec<String>,
    oids: Vec<u32>,
    /// How far the log went when the source was opened: who has come so far has caught up.
    target: Lsn,
    feedback_interval: Duration,
}

impl ChangeSource {
    /// Creates the source; does no input or output.
    pub(crate) fn new(spec: SourceSpec) -> Result<Self> {
        let endpoint = Endpoint::from_settings(&spec.connection, &spec.root)?;
        let excluded = Patterns::parse_columns(&spec.settings.texts("exclude_columns"))?;
        let slot = match spec.settings.text("slot") {
            Some(name) => name.to_owned(),
            None => default_slot(&spec.pipeline, &spec.node),
        };
        let length_max = names::NAME_BYTES_MAX - slot::ENDING_BYTES_MAX;
        if slot != names::as_slot_name(&slot) || slot.is_empty() || slot.len() > length_max {
            return Err(Error::user(fault::SETTING, "the setting `slot` is no name of a slot")
                .with("slot", &slot)
                .help(format!("use up to {length_max} lower case letters, digits and underscores")));
        }
        let publication = spec.settings.text("publication").unwrap_or(&slot).to_owned();
        if publication.len() > length_max {
            return Err(Error::user(fault::SETTING, "the setting `publication` is too long for a name")
                .with("publication", &publication)
                .help(format!(
                    "use up to {length_max} bytes: the server cuts what is longer than {}",
                    names::NAME_BYTES_MAX
                )));
        }
        let may_publish = spec.settings.bool_or("publication_create", false);
        Ok(Self {
            spec,
            endpoint,
            slot,
            publication,
            may_publish,
            excluded,
            identity: None,
            is_marked: false,
            stage: Stage::Closed,
        })
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.spec.clock)
    }

    async fn catalog_tables(&self, session: &Session) -> Result<Vec<CatalogTable>> {
        let names: Vec<&str> = self.spec.tables.iter().map(|table| table.name.as_str()).collect();
        let tables = catalog::named(session, &names).await?;
        for (table, spec) in tables.iter().zip(&self.spec.tables) {
            table.require_changes()?;
            require_identity(table, &spec.key)?;
        }
        let parts: Vec<String> = tables.iter().filter(|table| table.kind == b'p').map(CatalogTable::name).collect();
        if !parts.is_empty() {
            tracing::warn!(
                tables = parts.join(", "),
                "TRUNCATE, DROP and DETACH of a single partition are no changes to the stream: its rows stay in the lake"
            );
        }
        Ok(tables)
    }

    /// The first start: publication, slot, snapshot.
    async fn open_first(&mut self, session: Session) -> Result<()> {
        let tables = self.catalog_tables(&session).await?;
        let wanted = publication::wanted(&self.publication, &tables);
        let publications = publication::ensure(&session, &wanted, self.may_publish).await?;
        slot::make_room(&session, &self.slot, &*self.spec.clock).await?;
        failpoint::hit("postgres.slot.create").await?;
        let mut wire = self.replicate().await?;
        let system = System::identify(&mut wire).await?;
        let created = slot::create(&mut wire, &self.slot).await?;
        self.begin_snapshot(&session, wire, &system, &created, publications).await
    }

    async fn begin_snapshot(
        &mut self,
        session: &Session,
        wire: Wire,
        system: &System,
        created: &slot::Created,
        publications: Vec<String>,
    ) -> Result<()> {
        let reader = Session::connect(&self.endpoint, &self.spec.clock).await?;
        reader.lift_time_limit().await?;
        let sql = format!(
            "begin isolation level repeatable read read only; set transaction snapshot {}",
            names::literal(&created.snapshot)
        );
        reader.run("taking the snapshot", &sql).await?;
        let sql = "select (extract(epoch from now()) * 1000000)::int8";
        let taken_at = reader.row("reading the time", sql, &[]).await?.get(0);
        let tables = self.catalog_tables(&reader).await?;
        let mark = SnapshotMark { position: format!("{}.0", created.consistent), taken_at };
        let scope = Scope { changes: true, excluded: &self.excluded };
        let scan = Scan::plan(reader, &self.spec.tables, &tables, scope, Some(mark)).await?;
        self.identity = Some(self.identify(session, system, &tables, &publications).await?);
        let start = Start {
            position: created.consistent,
            confirmed: created.consistent,
            publications,
            oids: tables.iter().map(|table| table.oid).collect(),
            target: server::log_end(session).await?,
            feedback_interval: server::feedback_interval(session).await?,
        };
        self.stage = Stage::Snapshot { scan: Box::new(scan), wire: Box::new(wire), start };
        Ok(())
    }

    /// A later start: everything must be as the position says, or nothing is read.
    async fn open_again(&mut self, session: Session, position: &str) -> Result<()> {
        let (identity, position) = lsn::read_position(position)?;
        let mut wire = self.replicate().await?;
        let system = System::identify(&mut wire).await?;
        system.require(&identity, server::database_oid(&session).await?, position)?;
        let tables = self.catalog_tables(&session).await?;
        require_snapshots(&identity, &tables)?;
        let found = Slot::find(&session, &self.slot).await?;
        let found = found.ok_or_else(|| slot::lost(&self.slot, "does not exist any more"))?;
        let confirmed = found.require_position(position)?;
        slot::drop_marker(&session, &self.slot).await?;
        let publications = publication::verify(&session, &publication::wanted(&self.publication, &tables)).await?;
        let ours = self.identify(&session, &system, &tables, &publications).await?;
        require_memberships(&identity, &ours)?;
        self.identity = Some(ours);
        let start = Start {
            position,
            confirmed,
            publications,
            oids: tables.iter().map(|table| table.oid).collect(),
            target: server::log_end(&session).await?,
            feedback_interval: server::feedback_interval(&session).await?,
        };
        let feed = start_feed(wire, &self.slot, &start, self.clock()).await?;
        self.stage = Stage::Streaming(Box::new(self.stream(feed, &start)?));
        Ok(())
    }

    async fn replicate(&self) -> Result<Wire> {
        let wire = Wire::connect(&self.endpoint, &*self.spec.clock).await;
        wire.map_err(|error| slot::rights(error, &self.endpoint))
    }

    async fn identify(
        &self,
        session: &Session,
        system: &System,
        tables: &[CatalogTable],
        publications: &[String],
    ) -> Result<Identity> {
        Ok(Identity {
            system: system.id.clone(),
            database: server::database_oid(session).await?,
            slot: self.slot.clone(),
            timeline: system.timeline,
            tables: tables.iter().map(|table| (table.name(), table.oid)).collect(),
            published: publication::memberships(session, publications, tables).await?,
        })
    }

    fn stream(&self, feed: Feed, start: &Start) -> Result<Stream> {
        let assembler = Assembler::new(&self.spec.tables, &start.oids, start.position)?;
        let lookup = Lookup::new(self.endpoint.clone(), self.clock(), self.slot.clone(), self.excluded.clone());
        Ok(Stream::new(feed, assembler, lookup, start.target))
    }

    fn progress(&self, end: Lsn) -> Result<SourceEvent> {
        let identity =
            self.identity.as_ref().ok_or_else(|| Error::bug("a position is wanted before the source is open"))?;
        let mut checkpoint = Checkpoint::default();
        checkpoint.set(self.slot.clone(), lsn::write_position(identity, end)?);
        Ok(SourceEvent::Progress(checkpoint))
    }

    /// Makes the slot permanent in a task of its own, at the end of the snapshot.
    fn start_keeping(&mut self) {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Closed) {
            Stage::Snapshot { wire, start, .. } => {
                let task = tokio::spawn(slot::keep(*wire, self.slot.clone(), start.position));
                Stage::Keeping { task, start }
            }
            other => other,
        };
    }

    /// Drops the proof that nothing was confirmed, before anything is.
    async fn unmark(&mut self) -> Result<()> {
        if self.is_marked {
            let session = Session::connect(&self.endpoint, &self.spec.clock).await?;
            slot::drop_marker(&session, &self.slot).await?;
            self.is_marked = false;
        }
        Ok(())
    }

    /// Starts to stream in a task of its own, behind the snapshot.
    fn start_streaming(&self, start: &Start) -> JoinHandle<Result<Feed>> {
        let (endpoint, clock, slot, start) = (self.endpoint.clone(), self.clock(), self.slot.clone(), start.clone());
        tokio::spawn(async move {
            let wire = Wire::connect(&endpoint, &*clock).await.map_err(|error| slot::rights(error, &endpoint))?;
            start_feed(wire, &slot, &start, clock).await
        })
    }
}

#[async_trait]
impl Source for ChangeSource {
    async fn open(&mut self, from: &Checkpoint) -> Result<()> {
        let session = Session::connect(&self.endpoint, &self.spec.clock).await?;
        catalog::require_version(&session).await?;
        server::require_logical(&session, &self.endpoint).await?;
        if from.is_empty() {
            return self.open_first(session).await;
        }
        let position = from.get(&self.slot).ok_or_else(|| {
            let slots: Vec<&str> = from.iter().map(|(slot, _)| slot).collect();
            Error::incident(fault::IDENTITY, "the checkpoint is of another slot")
                .with("slot", &self.slot)
                .with("checkpoint_slot", slots.join(", "))
                .help(
                    "set `slot` back to the slot of the checkpoint, or read the tables anew: lakehead resync PIPELINE",
                )
        })?;
        self.open_again(session, position).await
    }

    async fn next(&mut self, budget: BatchBudget) -> Result<SourceEvent> {
        loop {
            match &mut self.stage {
                Stage::Closed => return Err(Error::bug("the source is not open")),
                Stage::Snapshot { scan, .. } => {
                    if let Some(event) = scan.next(budget).await? {
                        return Ok(event);
                    }
                    failpoint::hit("postgres.snapshot.end").await?;
                    self.start_keeping();
                }
                Stage::Keeping { task, start } => {
                    let (kept, start) = (task.await, start.clone());
                    // A task that has ended must not be asked again.
                    self.stage = Stage::Closed;
                    kept.map_err(|error| Error::bug("the task that keeps the slot ended").caused_by(error))??;
                    self.is_marked = true;
                    let progress = self.progress(start.position)?;
                    self.stage = Stage::Starting { task: self.start_streaming(&start), start };
                    return Ok(progress);
                }
                Stage::Starting { task, start } => {
                    let (feed, start) = (task.await, start.clone());
                    self.stage = Stage::Closed;
                    let feed =
                        feed.map_err(|error| Error::bug("the task that starts to stream ended").caused_by(error))??;
                    let mut stream = self.stream(feed, &start)?;
                    stream.progress_was_said();
                    self.stage = Stage::Streaming(Box::new(stream));
                }
                Stage::Streaming(stream) => {
                    return match stream.next(budget).await? {
                        Delivery::Event(event) => Ok(event),
                        Delivery::Progress(end) => self.progress(end),
                    };
                }
            }
        }
    }

    async fn acknowledge(&mut self, durable: &Checkpoint) -> Result<()> {
        let Some(position) = durable.get(&self.slot) else {
            return Ok(());
        };
        let (identity, position) = lsn::read_position(position)?;
        if self
            .identity
            .as_ref()
            .is_some_and(|ours| ours.system != identity.system || ours.timeline != identity.timeline)
        {
            return Err(Error::bug("a position of another server is to be acknowledged"));
        }
        self.unmark().await?;
        match &mut self.stage {
            Stage::Streaming(stream) => stream.acknowledge(position),
            Stage::Starting { start, .. } | Stage::Keeping { start, .. } | Stage::Snapshot { start, .. } => {
                start.confirmed = start.confirmed.max(position);
            }
            Stage::Closed => {}
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.stage, Stage::Closed) {
            Stage::Streaming(stream) => stream.close().await,
            Stage::Starting { task, .. } => {
                if let Ok(Ok(feed)) = task.await {
                    feed.close(&*self.spec.clock).await;
                }
            }
            Stage::Keeping { task, .. } => {
                // What it has made is dropped by the next start, for no position behind the snapshot was handed out.
                let _ = task.await;
            }
            // The temporary slot goes with its connection.
            Stage::Snapshot { .. } | Stage::Closed => {}
        }
        Ok(())
    }
}

async fn start_feed(mut wire: Wire, slot: &str, start: &Start, clock: Arc<dyn Clock>) -> Result<Feed> {
    let publications: Vec<String> = start.publications.iter().map(|name| names::quote(name)).collect();
    let sql = format!(
        "START_REPLICATION SLOT {} LOGICAL {} (proto_version '1', publication_names {}, binary 'true')",
        names::quote(slot),
        start.position,
        names::replication_literal(&publications.join(","))
    );
    let started = wire.start_copy("starting to stream", &sql).await;
    started.map_err(|error| match sqlstate(&error) {
        Some("42704") => slot::lost(slot, "does not exist any more").caused_by(error),
        Some("55000") => slot::lost(slot, "was invalidated").caused_by(error),
        _ => error,
    })?;
    Ok(Feed::start(wire, start.confirmed, start.feedback_interval, clock))
}

fn sqlstate(error: &Error) -> Option<&str> {
    error.context().iter().find(|(name, _)| *name == "sqlstate").map(|(_, code)| code.as_str())
}

/// Returns the slot's name where none is set: it names the pipeline and the node, and is the same at every start.
///
/// A node's name that does not fit as it is ends with a hash of itself: `shop-a` and `shop_a` must not share a slot.
fn default_slot(pipeline: &str, node: &str) -> String {
    let pipeline: String = pipeline.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
    let full = format!("lakehead_{pipeline}_{node}");
    let length_max = names::NAME_BYTES_MAX - slot::ENDING_BYTES_MAX;
    let name = names::as_slot_name(&full);
    if name == full && name.len() <= length_max {
        return name;
    }
    let digest = sha2::Sha256::digest(full.as_bytes());
    let hash: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let cut: String = name.chars().take(length_max - hash.len() - 1).collect();
    format!("{cut}_{hash}")
}

/// Refuses a table whose deletes would not carry the key that the pipeline tells its rows apart by.
fn require_identity(table: &CatalogTable, key: &[String]) -> Result<()> {
    let name = table.name();
    let refuse = |what: &str| {
        Error::user(fault::REPLICA_IDENTITY, format!("`{name}` {what}"))
            .with("table", &name)
            .with("identity", table.identity.words())
            .help(format!(
                "alter table {} replica identity default; with no primary key: replica identity full",
                table.quoted()
            ))
    };
    if key.is_empty() && !table.may_publish_updates() {
        // Only its inserts are published.
        return Ok(());
    }
    if !table.may_publish_updates() {
        return Err(refuse("has a key in the pipeline, and no replica identity that carries it"));
    }
    if table.identity == catalog::ReplicaIdentity::Full {
        return match &table.partition_not_full {
            Some(partition) => Err(partition_not_full(table, partition)),
            None => Ok(()),
        };
    }
    if !key.iter().all(|column| table.change_key().contains(column)) {
        return Err(refuse("has a replica identity that does not carry its key"));
    }
    Ok(())
}

/// Returns the refusal of a table whose stream would promise whole old rows that one of its partitions does not hold.
fn partition_not_full(table: &CatalogTable, partition: &str) -> Error {
    Error::user(
        fault::REPLICA_IDENTITY,
        format!("`{}` has the replica identity full, and a partition of it has not", table.name()),
    )
    .with("table", table.name())
    .with("partition", partition)
    .help(format!(
        "alter table {partition} replica identity full, and so every partition; or alter table {} replica identity default",
        table.quoted()
    ))
}

/// Refuses a table that was not published all the time since the checkpoint: the log lacks its changes between.
fn require_memberships(then: &Identity, now: &Identity) -> Result<()> {
    for (table, entry) in &then.published {
        if now.tables.contains_key(table) && now.published.get(table) != Some(entry) {
            return Err(Error::incident(
                fault::GAP,
                format!("`{table}` was taken out of its publication and put back: changes made between are not sent"),
            )
            .with("table", table)
            .with("expected_entry", entry)
            .help("the tables must be read anew: lakehead resync PIPELINE"));
        }
    }
    Ok(())
}

/// Refuses tables that the checkpoint's snapshot did not include: their earlier rows would be missing.
fn require_snapshots(identity: &Identity, tables: &[CatalogTable]) -> Result<()> {
    for table in tables {
        let name = table.name();
        match identity.tables.get(&name) {
            Some(oid) if *oid == table.oid => {}
            Some(_) => {
                return Err(Error::incident(
                    fault::SCHEMA_CHANGED,
                    format!("the table `{name}` was dropped and made again"),
                )
                .with("table", name)
                .help("lakehead resync PIPELINE   reads the tables anew"));
            }
            None => {
                return Err(Error::user(
                    fault::TABLE_WITHOUT_SNAPSHOT,
                    format!("`{name}` is new in a pipeline that has its snapshot already"),
                )
                .with("table", name)
                .help("read it in a pipeline of its own, or read all tables anew: lakehead resync PIPELINE"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_different_nodes_have_different_names_and_room_for_an_ending() {
        let pipeline = "0b8e5a1e-0000-4000-8000-000000000000";
        assert_eq!(default_slot(pipeline, "shop"), "lakehead_0b8e5a1e0000_shop");
        let long = "n".repeat(60);
        let nodes = ["shop_a", "shop-a", "shop a", "Shop_a", &long, &format!("{long}x")];
        let mut names: Vec<String> = nodes.iter().map(|node| default_slot(pipeline, node)).collect();
        assert!(names.iter().all(|name| name.len() <= 55 && *name == names::as_slot_name(name)), "{names:?}");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), nodes.len(), "{names:?}");
    }
}
