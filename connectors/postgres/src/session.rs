//! A connection for SQL: the catalogue, COPY and the setting up of slots and publications.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lakehead_core::{Clock, Error, Result};
use tokio::task::JoinHandle;
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::tls::{NoTls, TlsConnect};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Row};

use crate::endpoint::Endpoint;
use crate::fault;
use crate::link::{self, Link};

/// What a short question to the catalogue may take before it counts as lost.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(60);
/// When an answer to it counts as lost on the way: the server has given up by then, and said so.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(75);

/// Lifts every time limit that the server knows: what a role or a database is set to is meant for its application.
pub(crate) const TIME_LIMITS_LIFTED: &str = "select pg_catalog.set_config(name, '0', false) from pg_catalog.pg_settings
    where name in ('statement_timeout', 'lock_timeout', 'idle_session_timeout', 'idle_in_transaction_session_timeout',
        'transaction_timeout')";

/// A connection for SQL, closed when it is dropped.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    endpoint: Endpoint,
    driver: JoinHandle<()>,
    clock: Arc<dyn Clock>,
    /// Statements may take as long as they need.
    is_unlimited: AtomicBool,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Hands a link that has done its handshake already to the SQL client.
struct Established;

impl TlsConnect<Link> for Established {
    type Stream = Link;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Link>>;

    fn connect(self, link: Link) -> Self::Future {
        std::future::ready(Ok(link))
    }
}

impl Session {
    /// Connects and logs in.
    pub(crate) async fn connect(endpoint: &Endpoint, clock: &Arc<dyn Clock>) -> Result<Self> {
        let link = Link::connect(endpoint, &**clock).await?;
        let login = Self::log_in(endpoint, link, Arc::clone(clock));
        tokio::select! {
            session = login => session,
            () = clock.sleep(endpoint.connect_timeout) => Err(link::timed_out(endpoint)),
        }
    }

    async fn log_in(endpoint: &Endpoint, link: Link, clock: Arc<dyn Clock>) -> Result<Self> {
        let mut config = Config::new();
        config.user(&endpoint.user).dbname(&endpoint.database).application_name(&endpoint.application_name);
        if let Some(password) = &endpoint.password {
            config.password(password.reveal());
        }
        let failed = |error: tokio_postgres::Error| fault::client_error(&error, endpoint, "logging in");
        let (client, driver) = if matches!(link, Link::Secure { .. }) {
            config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
            let (client, connection) = config.connect_raw(link, Established).await.map_err(failed)?;
            (client, tokio::spawn(drive(connection)))
        } else {
            config.ssl_mode(SslMode::Disable);
            let (client, connection) = config.connect_raw(link, NoTls).await.map_err(failed)?;
            (client, tokio::spawn(drive(connection)))
        };
        let is_unlimited = AtomicBool::new(false);
        let session = Self { client, endpoint: endpoint.clone(), driver, clock, is_unlimited };
        // The text of a timestamp or a float must not depend on the role's settings.
        let settings = format!(
            "{TIME_LIMITS_LIFTED};
             set timezone = 'UTC'; set datestyle = 'ISO'; set intervalstyle = 'postgres'; set extra_float_digits = 3;
             set statement_timeout = {}",
            QUESTION_TIMEOUT.as_millis()
        );
        session.run("setting up the session", &settings).await?;
        // A statement whose client has gone is ended, where the server and its system can tell.
        let _ = session.client.batch_execute("set client_connection_check_interval = '10s'").await;
        Ok(session)
    }

    /// Lets statements run as long as they need: for COPY, and for what waits on other transactions.
    pub(crate) async fn lift_time_limit(&self) -> Result<()> {
        self.run("setting up the session", TIME_LIMITS_LIFTED).await?;
        self.is_unlimited.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Waits for an answer, for somewhat longer than the server may take: one that is gone without a word never ends a
    /// statement.
    async fn answer<T>(&self, doing: &str, asked: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T> {
        let asked = async { asked.await.map_err(|error| self.error(&error, doing)) };
        if self.is_unlimited.load(Ordering::Relaxed) {
            return asked.await;
        }
        tokio::select! {
            biased;
            answer = asked => answer,
            () = self.clock.sleep(ANSWER_TIMEOUT) => Err(self
                .endpoint
                .at(Error::external(fault::CONNECTION_LOST, format!("the server did not answer while {doing}")))
                .with("timeout", format!("{ANSWER_TIMEOUT:?}"))
                .help("check the network and the firewalls between; the pipeline connects again")),
        }
    }

    /// Runs statements without a result.
    pub(crate) async fn run(&self, doing: &str, sql: &str) -> Result<()> {
        self.answer(doing, self.client.batch_execute(sql)).await
    }

    /// Runs a query.
    pub(crate) async fn rows(&self, doing: &str, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        self.answer(doing, self.client.query(sql, values)).await
    }

    /// Runs a query of one row.
    pub(crate) async fn row(&self, doing: &str, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Row> {
        self.answer(doing, self.client.query_one(sql, values)).await
    }

    /// Returns the error of ours for one of the client.
    pub(crate) fn error(&self, error: &tokio_postgres::Error, doing: &str) -> lakehead_core::Error {
        fault::client_error(error, &self.endpoint, doing)
    }

    /// Returns the server's version as in `server_version_num`, 150018 for 15.18.
    pub(crate) async fn version(&self) -> Result<i32> {
        let row = self.row("asking for the version", "select current_setting('server_version_num')::int4", &[]).await?;
        Ok(row.get(0))
    }
}

async fn drive<T>(connection: tokio_postgres::Connection<Link, T>)
where
    T: tokio_postgres::tls::TlsStream + Unpin,
{
    if let Err(error) = connection.await {
        // The statement that was under way has its own error; this is for a connection that broke while it was idle.
        tracing::debug!(cause = %error, "a sql connection ended");
    }
}
