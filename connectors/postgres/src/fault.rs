//! Errors of this connector, and how an answer of the server becomes one. A message never holds row values: what the
//! server says about data (classes 22 and 23, and everything raised by functions) is reported by its code only.

use std::io;

use lakehead_core::Error;
use rustls::CertificateError;

use crate::endpoint::Endpoint;

pub(crate) const HOST_UNKNOWN: &str = "R0301";
pub(crate) const HOST_REFUSED: &str = "R0302";
pub(crate) const CONNECT_TIMEOUT: &str = "R0303";
pub(crate) const TLS_REFUSED: &str = "R0304";
pub(crate) const CERTIFICATE_UNTRUSTED: &str = "R0305";
pub(crate) const CERTIFICATE_NAME: &str = "R0306";
pub(crate) const PASSWORD: &str = "R0307";
pub(crate) const DATABASE_UNKNOWN: &str = "R0308";
pub(crate) const ACCESS: &str = "R0309";
pub(crate) const WEAK_AUTHENTICATION: &str = "R0310";
pub(crate) const CONNECTION_LOST: &str = "R0311";
pub(crate) const STATEMENT: &str = "R0312";
pub(crate) const PERMISSION: &str = "R0313";
pub(crate) const TABLE_UNKNOWN: &str = "R0314";
pub(crate) const COLUMN_TYPE: &str = "R0315";
pub(crate) const VALUE: &str = "R0316";
pub(crate) const UNREADABLE: &str = "R0317";
pub(crate) const SCHEMA_CHANGED: &str = "R0318";
pub(crate) const CERTIFICATE_FILE: &str = "R0319";
pub(crate) const WAL_LEVEL: &str = "R0320";
pub(crate) const NO_REPLICATION: &str = "R0321";
pub(crate) const PUBLICATION_MISSING: &str = "R0322";
pub(crate) const PUBLICATION_UNFIT: &str = "R0323";
pub(crate) const REPLICA_IDENTITY: &str = "R0324";
pub(crate) const SLOT_IN_USE: &str = "R0325";
pub(crate) const SLOT_LOST: &str = "R0326";
pub(crate) const GAP: &str = "R0327";
pub(crate) const IDENTITY: &str = "R0328";
pub(crate) const SLOT_FOREIGN: &str = "R0329";
pub(crate) const SERVER_TOO_OLD: &str = "R0330";
pub(crate) const QUERY_UNFIT: &str = "R0331";
pub(crate) const TABLE_WITHOUT_SNAPSHOT: &str = "R0332";
pub(crate) const TABLE_UNFIT: &str = "R0333";
pub(crate) const LIMIT: &str = "R0334";
pub(crate) const SETTING: &str = "R0335";
pub(crate) const SNAPSHOT_OVERTAKEN: &str = "R0336";
pub(crate) const SLOT_UNPROVEN: &str = "R0337";
pub(crate) const COLUMN_UNKNOWN: &str = "R0338";
pub(crate) const COLUMN_NAME: &str = "R0339";

/// Classes of answers that may pass: of the connection, of resources, of transactions that collided.
const PASSING_CLASSES: [&str; 3] = ["08", "53", "40"];
/// Further answers that may pass: cancelled, a lock not had in time, an idle session, transaction or a transaction ended.
const PASSING: [&str; 5] = ["57014", "55P03", "57P05", "25P03", "25P04"];

/// What the server answered: its SQLSTATE and its sentence.
#[derive(Debug, Clone)]
pub(crate) struct ServerError {
    pub(crate) code: String,
    pub(crate) message: String,
}

/// Returns whether the sentence of an error of this class can hold values of rows.
fn may_hold_values(code: &str) -> bool {
    !["08", "0A", "25", "28", "3D", "3F", "42", "53", "55", "57", "58"].contains(&code.get(..2).unwrap_or(""))
}

impl ServerError {
    fn shown(&self) -> Option<&str> {
        (!may_hold_values(&self.code)).then_some(self.message.as_str())
    }

    /// Returns the error of ours that this answer means while `doing` was under way.
    pub(crate) fn into_error(self, endpoint: &Endpoint, doing: &str) -> Error {
        let error = match self.code.as_str() {
            "28P01" => Error::user(PASSWORD, format!("the server refused the password of user `{}`", endpoint.user))
                .help("set the connection's `password` to the role's password; `ALTER ROLE … PASSWORD` sets a new one"),
            "28000" => Error::user(ACCESS, format!("the server does not let user `{}` in", endpoint.user))
                .help("the role must exist and have LOGIN, and pg_hba.conf needs a line for this user, host and database"),
            "3D000" => Error::user(DATABASE_UNKNOWN, format!("the server has no database `{}`", endpoint.database))
                .help("`psql -l` lists the databases; set the connection's `database` to one of them"),
            "42501" => Error::user(PERMISSION, format!("user `{}` lacks a right while {doing}", endpoint.user)).help(
                format!(
                    "as the owner: GRANT USAGE ON SCHEMA … TO {user}; GRANT SELECT ON … TO {user}",
                    user = crate::names::quote(&endpoint.user)
                ),
            ),
            "55006" => Error::external(SLOT_IN_USE, "the replication slot is in use by another connection")
                .help("another run of this pipeline may still be ending; `select active_pid from pg_replication_slots` shows who holds it"),
            "53300" => Error::external(LIMIT, "the server has no connection left for this user")
                .help("raise max_connections, max_wal_senders or the role's connection limit"),
            "53400" => Error::user(LIMIT, "the server has no replication slot left")
                .help("a pipeline needs one, and two until the lake has taken its snapshot in")
                .help("raise max_replication_slots, or drop slots that nobody uses: select pg_drop_replication_slot('…')"),
            "57P01" | "57P02" | "57P03" => {
                Error::external(CONNECTION_LOST, "the server is shutting down or starting up")
            }
            code if PASSING_CLASSES.iter().any(|class| code.starts_with(class)) || PASSING.contains(&code) => {
                Error::external(STATEMENT, format!("the server stopped while {doing}"))
            }
            _ => Error::user(STATEMENT, format!("the server answered with an error while {doing}")),
        };
        let error = endpoint.at(error).with("sqlstate", &self.code);
        match self.shown() {
            Some(text) => error.with("answer", text),
            None => error,
        }
    }
}

/// Returns the error of ours for one of the SQL client.
pub(crate) fn client_error(error: &tokio_postgres::Error, endpoint: &Endpoint, doing: &str) -> Error {
    if let Some(answer) = error.as_db_error() {
        let answer = ServerError { code: answer.code().code().to_owned(), message: answer.message().to_owned() };
        return answer.into_error(endpoint, doing);
    }
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return lost(endpoint, io, doing);
        }
        if inner.to_string() == "password missing" {
            return no_password(endpoint);
        }
        cause = inner.source();
    }
    let text = error.to_string();
    endpoint.at(Error::external(CONNECTION_LOST, format!("the connection ended while {doing}"))).with("cause", text)
}

pub(crate) fn no_password(endpoint: &Endpoint) -> Error {
    endpoint
        .at(Error::user(PASSWORD, "the server asks for a password and the connection has none"))
        .help("set the `password` of the connection")
}

/// Returns the error for a connection that broke while `doing` was under way.
pub(crate) fn lost(endpoint: &Endpoint, error: &io::Error, doing: &str) -> Error {
    if let Some(inner) = error.get_ref() {
        if inner.is::<WeakAuthentication>() {
            return weak_authentication(endpoint);
        }
        if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
            return tls_error(endpoint, tls);
        }
    }
    endpoint.at(Error::external(CONNECTION_LOST, format!("the connection broke while {doing}"))).with("cause", error)
}

/// The server asked for the password in a form that a listener could read or replay.
#[derive(Debug)]
pub(crate) struct WeakAuthentication;

impl std::fmt::Display for WeakAuthentication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the server asks for a cleartext or md5 password on a connection that does not show who listens")
    }
}

impl std::error::Error for WeakAuthentication {}

pub(crate) fn weak_authentication(endpoint: &Endpoint) -> Error {
    endpoint
        .at(Error::user(WEAK_AUTHENTICATION, WeakAuthentication.to_string()))
        .help("use `tls = verify_full`, or set `password_encryption = 'scram-sha-256'`, set the password again, and use scram-sha-256 in pg_hba.conf")
}

/// Returns the error for a failed TLS handshake.
pub(crate) fn tls_error(endpoint: &Endpoint, error: &rustls::Error) -> Error {
    let error = match error {
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => Error::user(CERTIFICATE_NAME, format!("the server's certificate is not made out to `{}`", endpoint.host))
            .help("set `host` to a name in the certificate, or `tls = verify_ca` to check the chain without the name"),
        rustls::Error::InvalidCertificate(reason) => {
            Error::user(CERTIFICATE_UNTRUSTED, "the server's certificate is not trusted")
                .with("reason", format!("{reason:?}").chars().take(80).collect::<String>())
                .help("set `ca` to the file of the root certificate that signed it")
        }
        other => Error::external(TLS_REFUSED, "the tls handshake failed").with("reason", other),
    };
    endpoint.at(error)
}

/// Returns the error for bytes that do not follow the protocol.
pub(crate) fn unreadable(what: impl Into<String>) -> Error {
    Error::incident(UNREADABLE, what)
}
