//! Sinks that are no tables: the standard output, and an address that takes rows as requests. Alerts go the second way.
//!
//! Neither can be asked what it holds, so that a round is there once only as far as this process remembers it: after a
//! crash between writing and recording, `stdout` shows the round again, and a webhook gets it again under the same
//! idempotency keys.

mod lines;
mod post;
mod round;
mod stdout;
mod webhook;

use lakehead_core::{Connector, OptionKind, OptionSpec, SinkRole, WriteMode};

/// The `stdout` connector.
pub static STDOUT: Connector = Connector {
    name: "stdout",
    summary: "rows on the standard output",
    built_in: true,
    connection: &[],
    source: None,
    sink: Some(SinkRole {
        options: &STDOUT_SINK,
        modes: &[WriteMode::Append],
        build: |spec| Ok(Box::new(stdout::StdoutSink::new(spec, Box::new(std::io::stdout()))?)),
        records: |_| Ok(None),
        exists: None,
        describe: None,
        data_files: None,
        past_age: None,
        replicate: None,
        holds_copies: false,
        query: |_| None,
        readers: |_, _| None,
    }),
    alert: Some(|_, _, text| Box::pin(stdout::show_alert(text))),
};

/// The `webhook` connector.
pub static WEBHOOK: Connector = Connector {
    name: "webhook",
    summary: "an address that takes each row as a request",
    built_in: false,
    connection: &WEBHOOK_CONNECTION,
    source: None,
    sink: Some(SinkRole {
        options: &[],
        modes: &[WriteMode::Append],
        build: |spec| Ok(Box::new(webhook::WebhookSink::new(spec)?)),
        records: |_| Ok(None),
        exists: None,
        describe: None,
        data_files: None,
        past_age: None,
        replicate: None,
        holds_copies: false,
        query: |_| None,
        readers: |_, _| None,
    }),
    alert: Some(|connection, pipeline, text| Box::pin(post::post_alert(connection, pipeline, text))),
};

static STDOUT_SINK: [OptionSpec; 1] =
    [OptionSpec::new("format", OptionKind::Word(&["json", "csv"]), "json is one row a line").default("json")];

static WEBHOOK_CONNECTION: [OptionSpec; 1] =
    [OptionSpec::new("url", OptionKind::TextOrSecret, "address that is posted to; it may hold a token").required()];
