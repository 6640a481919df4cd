//! What the server is set to, as far as changes depend on it.

use std::time::Duration;

use lakehead_core::{Error, Result};

use crate::endpoint::Endpoint;
use crate::fault;
use crate::feed::FEEDBACK_INTERVAL_MAX;
use crate::lsn::Lsn;
use crate::session::Session;

/// Refuses a server whose log is too thin to decode changes from.
pub(crate) async fn require_logical(session: &Session, endpoint: &Endpoint) -> Result<()> {
    let level: String = session.row("reading wal_level", "select current_setting('wal_level')", &[]).await?.get(0);
    if level == "logical" {
        return Ok(());
    }
    Err(endpoint
        .at(Error::user(fault::WAL_LEVEL, "the server's log does not hold what changes are decoded from"))
        .with("wal_level", level)
        .help("alter system set wal_level = logical, then restart the server; on a managed service, set rds.logical_replication or its like"))
}

/// Returns the oid of the session's database.
pub(crate) async fn database_oid(session: &Session) -> Result<u32> {
    let sql = "select oid from pg_catalog.pg_database where datname = current_database()";
    Ok(session.row("reading the database", sql, &[]).await?.get(0))
}

/// Returns how far the log goes now.
pub(crate) async fn log_end(session: &Session) -> Result<Lsn> {
    let sql =
        "select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end::text";
    let text: String = session.row("reading the position", sql, &[]).await?.get(0);
    text.parse()
}

/// Returns how often to report: well within the server's patience, `wal_sender_timeout`.
pub(crate) async fn feedback_interval(session: &Session) -> Result<Duration> {
    let sql = "select setting::int8 from pg_catalog.pg_settings where name = 'wal_sender_timeout'";
    let patience: i64 = session.row("reading wal_sender_timeout", sql, &[]).await?.get(0);
    let third = Duration::from_millis(u64::try_from(patience / 3).unwrap_or(0));
    Ok(if third.is_zero() { FEEDBACK_INTERVAL_MAX } else { third.min(FEEDBACK_INTERVAL_MAX) })
}
