//! Which server, which database, as whom: the settings of a connection.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use lakehead_core::{Error, Result, Secret, Settings, Value};

use crate::fault;

/// How the connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    /// TLS; the chain and the name are checked.
    VerifyFull,
    /// TLS; the chain is checked, the name is not.
    VerifyCa,
    /// TLS; nothing is checked.
    Insecure,
    /// No TLS.
    Disabled,
}

/// The settings of a connection, read once.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) database: String,
    pub(crate) user: String,
    pub(crate) password: Option<Secret>,
    pub(crate) protection: Protection,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) application_name: String,
    pub(crate) connect_timeout: Duration,
}

impl Endpoint {
    /// Reads the settings of a `connection` block; a relative path of `ca` starts at `root`.
    pub(crate) fn from_settings(settings: &Settings, root: &Path) -> Result<Self> {
        let port = settings.int_or("port", 5432);
        let protection = match settings.text("tls").unwrap_or("verify_full") {
            "verify_full" => Protection::VerifyFull,
            "verify_ca" => Protection::VerifyCa,
            "insecure" => Protection::Insecure,
            "disabled" => Protection::Disabled,
            other => {
                return Err(Error::user(fault::SETTING, "the setting `tls` has an unknown word").with("tls", other));
            }
        };
        let endpoint = Self {
            host: settings.required_text("host")?.to_owned(),
            port: u16::try_from(port)
                .map_err(|_| Error::user(fault::SETTING, "the setting `port` is not a port").with("port", port))?,
            database: settings.required_text("database")?.to_owned(),
            user: settings.required_text("user")?.to_owned(),
            password: settings.secret("password").map(Secret::new),
            protection,
            ca: settings.text("ca").map(|ca| root.join(ca)),
            application_name: settings.text("application_name").unwrap_or("lakehead").to_owned(),
            connect_timeout: settings.duration("connect_timeout").unwrap_or(Duration::from_secs(10)),
        };
        for text in [&endpoint.host, &endpoint.database, &endpoint.user, &endpoint.application_name] {
            if text.contains('\0') {
                return Err(Error::user(fault::SETTING, "a setting of the connection holds a NUL character"));
            }
        }
        Ok(endpoint)
    }

    /// Returns whether the host is the folder of a unix socket.
    pub(crate) fn is_local_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    /// Adds which server it was to an error.
    pub(crate) fn at(&self, error: Error) -> Error {
        error.with("server", format!("{}:{}/{}", self.host, self.port, self.database))
    }
}

/// Turns `postgres://user:password@host:port/database?sslmode=…` into the settings of a `connection` block.
///
/// `sslmode` disable, verify-ca and verify-full are taken over; anything weaker than verify-ca except `disable` becomes
/// `verify_full`, because "prefer" can be talked out of TLS by anybody on the way. So does verify-ca without a
/// `sslrootcert` of its own, which would trust whoever has a certificate of any name.
pub fn settings_from_url(url: &str) -> Result<Settings> {
    let unreadable = || {
        Error::user(fault::SETTING, "the address of the server cannot be read")
            .help("write it as postgres://user@host:5432/database")
    };
    let (plain, mode, ca) = without_tls_parameters(url);
    let config = tokio_postgres::Config::from_str(&plain).map_err(|_| unreadable())?;
    let host = match config.get_hosts().first().ok_or_else(unreadable)? {
        tokio_postgres::config::Host::Tcp(name) => name.clone(),
        tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
    };
    let user = config.get_user().ok_or_else(unreadable)?.to_owned();
    let mut settings = Settings::default();
    settings.set("host", Value::Text(host));
    settings.set("port", Value::Int(i64::from(config.get_ports().first().copied().unwrap_or(5432))));
    settings.set("database", Value::Text(config.get_dbname().unwrap_or(&user).to_owned()));
    if let Some(password) = config.get_password() {
        settings.set("password", Value::Secret(Secret::new(String::from_utf8_lossy(password))));
    }
    settings.set("user", Value::Text(user));
    let word = match mode.as_deref() {
        Some("disable") => "disabled",
        Some("verify-ca") if ca.is_some() => "verify_ca",
        _ => "verify_full",
    };
    settings.set("tls", Value::Name(word.to_owned()));
    if let Some(ca) = ca {
        settings.set("ca", Value::Text(ca));
    }
    Ok(settings)
}

/// Takes `sslmode` and `sslrootcert` out of a URL: the client's own parser knows only some of their values.
fn without_tls_parameters(url: &str) -> (String, Option<String>, Option<String>) {
    let Some((base, query)) = url.split_once('?') else {
        return (url.to_owned(), None, None);
    };
    let (mut mode, mut ca, mut rest) = (None, None, Vec::new());
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("sslmode", value)) => mode = Some(value.to_owned()),
            // The system's roots are trusted without a word.
            Some(("sslrootcert", "system")) => {}
            Some(("sslrootcert", value)) => ca = Some(value.to_owned()),
            _ => rest.push(pair),
        }
    }
    let plain = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
    (plain, mode, ca)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_becomes_settings_and_a_weak_sslmode_becomes_a_full_check() {
        let settings = settings_from_url("postgres://app:pw@db.local:6543/shop?sslmode=prefer").unwrap();
        let endpoint = Endpoint::from_settings(&settings, Path::new("/")).unwrap();
        assert_eq!((endpoint.host.as_str(), endpoint.port, endpoint.user.as_str()), ("db.local", 6543, "app"));
        assert_eq!(endpoint.protection, Protection::VerifyFull);
        assert_eq!(settings.secret("password"), Some("pw"));
        assert!(!format!("{endpoint:?}").contains("pw\""));
        assert!(settings_from_url("mysql:/x").is_err());
        for (query, expected) in [
            ("sslmode=verify-ca", Protection::VerifyFull),
            ("sslmode=verify-ca&sslrootcert=system", Protection::VerifyFull),
            ("sslmode=verify-ca&sslrootcert=/root.crt", Protection::VerifyCa),
            ("sslmode=disable", Protection::Disabled),
        ] {
            let settings = settings_from_url(&format!("postgres://app@db.local/shop?{query}")).unwrap();
            assert_eq!(Endpoint::from_settings(&settings, Path::new("/")).unwrap().protection, expected, "{query}");
        }
    }
}
