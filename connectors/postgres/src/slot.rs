//! The replication slot: what the server keeps for us, and whether it still fits our position.
//!
//! ```text
//!   <slot>_reading   temporary: holds the log while the snapshot is read, and is gone with its connection
//!   <slot>_pending   made of it at the snapshot's end, dropped once the lake has confirmed anything
//!   <slot>           made of it at the snapshot's end, read from ever after
//! ```
//!
//! A slot is dropped by us only with the proof that nothing was taken from it for good, which is its `_pending` at the
//! same position. It may belong to another tool otherwise, or to the same pipeline in another place.

use std::time::Duration;

use lakehead_core::{Clock, Error, Result};

use crate::endpoint::Endpoint;
use crate::fault;
use crate::lsn::{Identity, Lsn};
use crate::names;
use crate::session::Session;
use crate::wire::Wire;

/// How long the longest ending is that is put behind a slot's or a publication's name.
pub(crate) const ENDING_BYTES_MAX: usize = 8;
/// How often, and how many times, to look whether a connection that was cut has let its temporary slot go.
const LEAVING_PAUSE: Duration = Duration::from_millis(100);
const LEAVING_LOOKS_MAX: u32 = 50;

/// Returns the name of the temporary slot that holds the log for a snapshot.
pub(crate) fn reading(name: &str) -> String {
    format!("{name}_reading")
}

/// Returns the name of the slot that shows that nothing was confirmed yet.
fn pending(name: &str) -> String {
    format!("{name}_pending")
}

/// A slot as `pg_replication_slots` shows it.
#[derive(Debug)]
pub(crate) struct Slot {
    name: String,
    is_logical: bool,
    plugin: String,
    is_here: bool,
    active_pid: Option<i32>,
    confirmed: Option<Lsn>,
    wal_status: String,
}

impl Slot {
    /// Looks a slot up.
    pub(crate) async fn find(session: &Session, name: &str) -> Result<Option<Self>> {
        let sql =
            "select slot_type = 'logical', coalesce(plugin::text, ''), coalesce(database = current_database(), false),
                active_pid, confirmed_flush_lsn::text, coalesce(wal_status, '')
            from pg_catalog.pg_replication_slots where slot_name = $1";
        let rows = session.rows("looking the slot up", sql, &[&name]).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let confirmed: Option<String> = row.get(4);
        Ok(Some(Self {
            name: name.to_owned(),
            is_logical: row.get(0),
            plugin: row.get(1),
            is_here: row.get(2),
            active_pid: row.get(3),
            confirmed: confirmed.map(|text| text.parse()).transpose()?,
            wal_status: row.get(5),
        }))
    }

    /// Refuses a slot of somebody else's making.
    fn require_ours(&self) -> Result<()> {
        if self.is_logical && self.plugin == "pgoutput" && self.is_here {
            return Ok(());
        }
        let what = if !self.is_logical {
            "is a physical slot"
        } else if !self.is_here {
            "belongs to another database"
        } else {
            "uses another output plugin"
        };
        Err(Error::user(fault::SLOT_FOREIGN, format!("the replication slot `{}` {what}", self.name))
            .with("slot", &self.name)
            .help("give this pipeline another name with `slot`"))
    }

    fn require_idle(&self) -> Result<()> {
        let Some(pid) = self.active_pid else {
            return Ok(());
        };
        Err(Error::external(
            fault::SLOT_IN_USE,
            format!("the replication slot `{}` is in use by another connection", self.name),
        )
        .with("slot", &self.name)
        .with("active_pid", pid)
        .help("another run of this pipeline may still be ending; if not, pg_terminate_backend ends that connection"))
    }

    /// Drops a slot that an earlier start left behind before anything was delivered from it.
    async fn drop_leftover(&self, session: &Session) -> Result<()> {
        self.require_ours()?;
        self.require_idle()?;
        tracing::info!(slot = self.name, "dropping the slot of a start that delivered nothing");
        let sql = format!("select pg_catalog.pg_drop_replication_slot({})", names::literal(&self.name));
        session.run("dropping the leftover slot", &sql).await
    }

    /// Returns the incident of a slot that may be somebody's.
    fn unproven(&self) -> Error {
        Error::incident(
            fault::SLOT_UNPROVEN,
            format!("the replication slot `{}` is there already, and others may need what it keeps", self.name),
        )
        .with("slot", &self.name)
        .help(format!(
            "if no pipeline and no other tool reads from it any more: select pg_drop_replication_slot({})",
            names::literal(&self.name)
        ))
        .help("otherwise give this pipeline another name with `slot`")
    }

    /// Checks that the log from `position` on is all there, and returns what the slot has confirmed.
    ///
    /// START_REPLICATION below the confirmed position would silently begin later, so it is compared here.
    pub(crate) fn require_position(&self, position: Lsn) -> Result<Lsn> {
        self.require_ours()?;
        if self.wal_status == "lost" {
            return Err(lost(&self.name, "was invalidated: the server removed log that it still needed"));
        }
        self.require_idle()?;
        let confirmed = self.confirmed.ok_or_else(|| lost(&self.name, "has no confirmed position"))?;
        if confirmed <= position {
            return Ok(confirmed);
        }
        Err(Error::incident(
            fault::GAP,
            format!("the replication slot `{}` is ahead of the lake: changes between are gone", self.name),
        )
        .with("slot", &self.name)
        .with("lake_position", position)
        .with("slot_position", confirmed)
        .help("somebody else has read from this slot, or moved it; the tables must be read anew: lakehead resync PIPELINE"))
    }
}

/// Makes room for a first start: drops what one that delivered nothing has left behind, and nothing else.
pub(crate) async fn make_room(session: &Session, name: &str, clock: &dyn Clock) -> Result<()> {
    let reading = reading(name);
    for look in 0.. {
        let Some(slot) = Slot::find(session, &reading).await? else {
            break;
        };
        if look == LEAVING_LOOKS_MAX {
            slot.require_idle()?;
            // A temporary slot is never idle, so that this one is somebody's.
            return Err(slot.unproven());
        }
        clock.sleep(LEAVING_PAUSE).await;
    }
    let marker = Slot::find(session, &pending(name)).await?;
    if let Some(slot) = Slot::find(session, name).await? {
        slot.require_ours()?;
        slot.require_idle()?;
        if marker.as_ref().is_none_or(|marker| marker.confirmed != slot.confirmed) {
            return Err(slot.unproven());
        }
        slot.drop_leftover(session).await?;
    }
    match marker {
        Some(marker) => marker.drop_leftover(session).await,
        None => Ok(()),
    }
}

/// Drops the proof that nothing was confirmed, because something is about to be.
pub(crate) async fn drop_marker(session: &Session, name: &str) -> Result<()> {
    match Slot::find(session, &pending(name)).await? {
        Some(marker) => marker.drop_leftover(session).await,
        None => Ok(()),
    }
}

/// Makes the permanent slot of the temporary one, at its position, by way of the proof that nothing was confirmed.
///
/// There are never more than two of them. The connection is the temporary slot's own, and ends here.
pub(crate) async fn keep(mut wire: Wire, name: String, consistent: Lsn) -> Result<()> {
    let (reading, pending) = (reading(&name), pending(&name));
    copy(&mut wire, &reading, &pending, consistent).await?;
    let sql = format!("select pg_catalog.pg_drop_replication_slot({})", names::literal(&reading));
    wire.query("dropping the temporary slot", &sql).await?;
    copy(&mut wire, &pending, &name, consistent).await
}

async fn copy(wire: &mut Wire, from: &str, to: &str, consistent: Lsn) -> Result<()> {
    let (from, to) = (names::literal(from), names::literal(to));
    let sql = format!("select lsn from pg_catalog.pg_copy_logical_replication_slot({from}, {to}, false)");
    let rows = wire.query("keeping the slot", &sql).await?;
    let position = rows.into_iter().flatten().flatten().next().unwrap_or_default();
    if position.parse::<Lsn>()? == consistent {
        return Ok(());
    }
    Err(fault::unreadable("the slot was kept at another position than that of its snapshot")
        .with("expected", consistent)
        .with("found", position))
}

/// Returns the incident of a slot from which changes cannot be had any more.
pub(crate) fn lost(name: &str, what: &str) -> Error {
    Error::incident(fault::SLOT_LOST, format!("the replication slot `{name}` {what}"))
        .with("slot", name)
        .help("the log since the last checkpoint is gone, so the tables must be read anew: lakehead resync PIPELINE")
        .help("`max_slot_wal_keep_size` bounds how much log the server keeps for a slot that lags")
}

/// What CREATE_REPLICATION_SLOT answered. The snapshot lives as long as the connection stays idle.
#[derive(Debug)]
pub(crate) struct Created {
    pub(crate) consistent: Lsn,
    pub(crate) snapshot: String,
}

/// Creates the temporary slot with an exported snapshot. Waits for the transactions that are open at that moment; blocks none.
pub(crate) async fn create(wire: &mut Wire, name: &str) -> Result<Created> {
    let name = reading(name);
    let sql = format!("CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT", names::quote(&name));
    tracing::info!(slot = name, "creating the slot, which waits for transactions that are open now");
    let rows = wire.query("creating the slot", &sql).await.map_err(|error| rights(error, wire.endpoint()))?;
    let mut row = rows.into_iter().next().unwrap_or_default().into_iter().flatten();
    let (Some(_), Some(consistent), Some(snapshot)) = (row.next(), row.next(), row.next()) else {
        return Err(fault::unreadable("the answer to CREATE_REPLICATION_SLOT cannot be read"));
    };
    Ok(Created { consistent: consistent.parse()?, snapshot })
}

/// Which server this is.
#[derive(Debug)]
pub(crate) struct System {
    pub(crate) id: String,
    pub(crate) timeline: u32,
    pub(crate) end: Lsn,
}

impl System {
    /// Asks the server who it is.
    pub(crate) async fn identify(wire: &mut Wire) -> Result<Self> {
        let rows = wire.query("identifying the server", "IDENTIFY_SYSTEM").await?;
        let mut row = rows.into_iter().next().unwrap_or_default().into_iter();
        let (Some(Some(id)), Some(Some(timeline)), Some(Some(end))) = (row.next(), row.next(), row.next()) else {
            return Err(fault::unreadable("the answer to IDENTIFY_SYSTEM cannot be read"));
        };
        let timeline = timeline.parse().map_err(|_| fault::unreadable("the timeline cannot be read"))?;
        Ok(Self { id, timeline, end: end.parse()? })
    }

    /// Refuses a server that is not the one the position was taken from: another cluster, a restored backup, a clone,
    /// a promoted standby.
    pub(crate) fn require(&self, identity: &Identity, database: u32, position: Lsn) -> Result<()> {
        let differ = |what: &str, expected: &dyn std::fmt::Display, found: &dyn std::fmt::Display| {
            Err(Error::incident(fault::IDENTITY, format!("the server is not the one of the checkpoint: {what}"))
                .with("expected", expected)
                .with("found", found)
                .help("point the connection back at the server of the checkpoint, or read the tables anew: lakehead resync PIPELINE"))
        };
        if self.id != identity.system {
            return differ("its system identifier differs", &identity.system, &self.id);
        }
        if self.timeline != identity.timeline {
            return differ(
                "it is on another timeline, after a failover or a restore",
                &identity.timeline,
                &self.timeline,
            );
        }
        if database != identity.database {
            return differ("the database was made anew", &identity.database, &database);
        }
        if self.end < position {
            return differ("its log ends before the checkpoint", &position, &self.end);
        }
        Ok(())
    }
}

/// Says what a missing right means on a replication connection.
pub(crate) fn rights(error: Error, endpoint: &Endpoint) -> Error {
    if error.code() != fault::PERMISSION {
        return error;
    }
    endpoint
        .at(Error::user(fault::NO_REPLICATION, format!("user `{}` may not replicate", endpoint.user)))
        .help(format!("as a superuser: alter role {} with replication", names::quote(&endpoint.user)))
        .caused_by(error)
}
