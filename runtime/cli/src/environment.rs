//! The one place that reads the environment: secrets, failpoints, the log level.
#![allow(clippy::disallowed_methods, reason = "the command line alone reads the environment")]

use std::collections::BTreeMap;

use lakehead_core::{Error, Result, Secret, Value};
use lakehead_plan::{NodeKind, Plan, SecretSource};

use crate::args::Arguments;

/// Sets up what the process shares: TLS, logs, failpoints.
pub(crate) fn start(arguments: &Arguments) {
    // Two providers are in the tree: the first user without one would fail.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let level = match (arguments.common.quiet, arguments.common.verbose) {
        (true, _) => "error",
        (_, 0) => "warn",
        (_, 1) => "info",
        _ => "debug",
    };
    // What these two call an error comes back as ours, with its cure, or was tried again.
    let libraries = if arguments.common.verbose > 1 { "debug" } else { "off" };
    let filter = std::env::var("LAKEHEAD_LOG")
        .unwrap_or_else(|_| format!("{level},buoyant_kernel={libraries},deltalake_core={libraries}"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .without_time()
        .try_init();
    if let Ok(points) = std::env::var("LAKEHEAD_FAILPOINTS")
        && let Err(part) = lakehead_core::failpoint::configure(&points)
    {
        eprintln!("warning: LAKEHEAD_FAILPOINTS: `{part}` is not a failpoint");
    }
}

/// SIGXFSZ on Linux and macOS: a file came to the limit of this process (`ulimit -f`).
const FILE_TOO_LARGE: i32 = 25;

/// Takes over the signal of a file that may not grow: unheard it ends the process in the middle, heard the write fails, as
/// on a full disk. Whoever waits for it or not: the first to listen replaces the default.
pub(crate) fn outlive_file_limits() {
    let kind = tokio::signal::unix::SignalKind::from_raw(FILE_TOO_LARGE);
    if let Err(error) = tokio::signal::unix::signal(kind) {
        tracing::debug!(%error, "a limit on the size of files would end this process");
    }
}

/// Returns whether people want colour.
pub(crate) fn color() -> bool {
    use std::io::IsTerminal;
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Returns `PGPASSWORD`.
pub(crate) fn postgres_password() -> Option<String> {
    std::env::var("PGPASSWORD").ok()
}

/// Puts the secrets of a plan in place of their names.
pub(crate) fn fill_secrets(plan: &mut Plan, sources: &BTreeMap<String, SecretSource>) -> Result<()> {
    for node in &mut plan.nodes {
        match &mut node.kind {
            NodeKind::Source(source) => {
                fill_settings(&mut source.connection, sources)?;
                fill_settings(&mut source.settings, sources)?;
            }
            NodeKind::Sink(sink) => {
                fill_settings(&mut sink.connection, sources)?;
                fill_settings(&mut sink.settings, sources)?;
                sink.catalogs.iter_mut().try_for_each(|catalog| fill_settings(&mut catalog.settings, sources))?;
                sink.copies.iter_mut().try_for_each(|copy| fill_settings(&mut copy.connection, sources))?;
            }
            _ => {}
        }
    }
    if let Some(sink) = &mut plan.dead_letter {
        fill_settings(&mut sink.connection, sources)?;
        sink.catalogs.iter_mut().try_for_each(|catalog| fill_settings(&mut catalog.settings, sources))?;
        sink.copies.iter_mut().try_for_each(|copy| fill_settings(&mut copy.connection, sources))?;
    }
    for alert in &mut plan.alerts {
        fill_settings(&mut alert.connection, sources)?;
    }
    Ok(())
}

/// Puts secrets in place of their names in one set of settings.
pub(crate) fn fill_settings(
    settings: &mut lakehead_core::Settings,
    sources: &BTreeMap<String, SecretSource>,
) -> Result<()> {
    let mut failure = None;
    settings.map_values(&mut |value| {
        if let Value::SecretName(name) = value {
            match read_secret(name, sources) {
                Ok(secret) => *value = Value::Secret(secret),
                Err(error) => failure = Some(error),
            }
        }
    });
    failure.map_or(Ok(()), Err)
}

/// A secret's file may be read by its owner alone.
fn refuse_open_file(name: &str, path: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let open = std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o077 != 0);
    if open {
        return Err(Error::user("R0953", "a secret's file can be read by others")
            .with("secret", name)
            .with("file", path)
            .help(format!("chmod 600 {path}")));
    }
    Ok(())
}

fn read_secret(name: &str, sources: &BTreeMap<String, SecretSource>) -> Result<Secret> {
    if let Some(SecretSource::File(path)) = sources.get(name) {
        refuse_open_file(name, path)?;
    }
    match sources.get(name) {
        Some(SecretSource::Environment(variable)) => std::env::var(variable).map(Secret::new).map_err(|_| {
            Error::user("R0951", "a secret's environment variable is not set")
                .with("secret", name)
                .with("variable", variable)
                .help(format!("export {variable}=…"))
        }),
        Some(SecretSource::File(path)) => std::fs::read_to_string(path)
            .map(|text| Secret::new(text.trim_end_matches(['\r', '\n'])))
            .map_err(|error| {
                Error::user("R0952", "a secret's file cannot be read")
                    .with("secret", name)
                    .with("file", path)
                    .help("make the file readable for the user who runs lakehead")
                    .caused_by(error)
            }),
        None => Err(Error::bug("a secret has no definition").with("secret", name)),
    }
}
