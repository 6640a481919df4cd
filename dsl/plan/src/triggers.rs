//! `trigger`, `retry` and `alert` stages.

use std::str::FromStr;
use std::time::Duration;

use lakehead_core::{OptionKind as K, OptionSpec, RECORDED, Settings, Value, WriteMode};
use lakehead_syntax::ast;
use lakehead_syntax::{Diagnostic, FileId, Span};

use crate::lowering::Lowering;
use crate::model::{AlertPlan, Catchup, NodeKind, Outcome, Overlap, RetryPlan, Trigger, When};
use crate::options::check_settings;
use crate::sources::connection;
use crate::values::{Context, text};

static TRIGGER: [OptionSpec; 7] = [
    OptionSpec::new("timezone", K::Text, "time zone of the cron text").default("\"UTC\""),
    OptionSpec::new("delay", K::Duration, "how long after the occasion"),
    OptionSpec::new("catchup", K::Word(&["all", "latest", "none"]), "missed occasions that are made up for")
        .default("none"),
    OptionSpec::new("overlap", K::Word(&["skip", "queue"]), "an occasion while a run is on").default("skip"),
    OptionSpec::new("within", K::Duration, "how far apart the parents may end"),
    OptionSpec::new("settle", K::Duration, "how long arrivals are collected").default("10s"),
    OptionSpec::new("enabled", K::Bool, "whether it fires").default("true"),
];

static RETRY: [OptionSpec; 4] = [
    OptionSpec::new("max", K::Int, "attempts after the first").default("5"),
    OptionSpec::new("backoff", K::Duration, "first pause; each next one is twice as long").default("1s"),
    OptionSpec::new("backoff_max", K::Duration, "longest pause").default("1m"),
    OptionSpec::new("timeout", K::Duration, "how long one attempt may take"),
];

static ALERT: [OptionSpec; 5] = [
    OptionSpec::new("failed", K::Bool, "tell of failed runs"),
    OptionSpec::new("missed", K::Bool, "tell of occasions that were left out"),
    OptionSpec::new("lag_over", K::Duration, "tell when the newest row is older"),
    OptionSpec::new("dead_letters_over", K::Percent, "tell when more rows are rejected"),
    OptionSpec::new("after", K::Int, "tell after so many failures in a row").default("1"),
];

/// The trigger of a pipeline without one.
pub(crate) fn manual() -> Trigger {
    Trigger {
        when: When::Manual,
        timezone: "UTC".into(),
        delay: Duration::ZERO,
        catchup: Catchup::None,
        overlap: Overlap::Skip,
        within: None,
        enabled: true,
    }
}

fn settings(lowering: &mut Lowering<'_>, written: Option<&ast::Settings>, options: &[OptionSpec]) -> Settings {
    let empty = ast::Settings::default();
    let context = Context { definitions: lowering.definitions, file: lowering.file, holes: &[] };
    let mut found = Vec::new();
    let settings = check_settings(&context, written.unwrap_or(&empty), options, lowering.tree.name.span, &mut found);
    lowering.found.append(&mut found);
    settings
}

/// Lowers a trigger.
pub(crate) fn lower(lowering: &mut Lowering<'_>, stage: &ast::Trigger) -> Option<Trigger> {
    let settings = settings(lowering, stage.settings.as_ref(), &TRIGGER);
    let timezone = settings.text("timezone").unwrap_or("UTC").to_owned();
    if chrono_tz::Tz::from_str(&timezone).is_err() {
        let span = stage.settings.as_ref().and_then(|s| s.get("timezone")).map_or(stage.when_span, |s| s.value.span);
        lowering
            .error("E0402", format!("`{timezone}` is not a time zone"), span, "not a time zone")
            .help_last("timezone = \"Europe/Paris\"   (names of the IANA list)");
    }
    let when = when(lowering, stage)?;
    Some(Trigger {
        within: settings.duration(if when == When::Arrival { "settle" } else { "within" }),
        when,
        timezone,
        delay: settings.duration("delay").unwrap_or_default(),
        catchup: match settings.text("catchup") {
            Some("all") => Catchup::All,
            Some("latest") => Catchup::Latest,
            _ => Catchup::None,
        },
        overlap: if settings.text("overlap") == Some("queue") { Overlap::Queue } else { Overlap::Skip },
        enabled: settings.bool_or("enabled", true),
    })
}

fn when(lowering: &mut Lowering<'_>, stage: &ast::Trigger) -> Option<When> {
    Some(match &stage.when {
        ast::When::Continuous => When::Continuous,
        ast::When::Manual => When::Manual,
        ast::When::Arrival => When::Arrival,
        ast::When::Every(duration) => {
            let length = Duration::from_millis(duration.milliseconds().unwrap_or(0));
            if length < Duration::from_secs(1) {
                lowering
                    .error("E0403", "`every` needs at least a second".into(), duration.span, "too short")
                    .help_last("trigger continuous   runs always");
            }
            When::Every(length)
        }
        ast::When::Cron(template) => {
            let context = Context { definitions: lowering.definitions, file: lowering.file, holes: &[] };
            let mut found = Vec::new();
            let written = text(&context, template, &mut found);
            lowering.found.append(&mut found);
            let written = written?;
            if let Err(error) = croner::Cron::from_str(&written) {
                lowering
                    .error(
                        "E0404",
                        format!("`{written}` is not a cron text: {}", error.to_string().to_lowercase()),
                        template.span,
                        "minute hour day month weekday",
                    )
                    .help_last("\"30 2 * * *\"   is half past two, every day");
            }
            When::Cron(written)
        }
        ast::When::Event { pattern, when } => {
            if let Some(when) = when {
                lowering.sql(when);
            }
            lowering.not_yet.push(("trigger event".into(), lowering.tree.name.text.clone()));
            When::Event(pattern.as_text().unwrap_or_default().to_owned())
        }
        ast::When::After { pipelines, outcome } => {
            let mut names = Vec::new();
            for path in pipelines {
                if !lowering.definitions.pipelines.contains_key(&path.to_string()) {
                    let all: Vec<_> = lowering.definitions.pipelines.keys().map(String::as_str).collect();
                    let diagnostic = crate::definitions::unknown("E0211", "pipeline", path.head(), lowering.file, &all);
                    lowering.found.push(diagnostic);
                }
                names.push(path.to_string());
            }
            let outcome = match outcome {
                Some(ast::Outcome::Failed) => Outcome::Failed,
                Some(ast::Outcome::Finished) => Outcome::Finished,
                Some(ast::Outcome::Succeeded) | None => Outcome::Succeeded,
            };
            When::After(names, outcome)
        }
    })
}

/// Lowers `retry`.
pub(crate) fn lower_retry(lowering: &mut Lowering<'_>, stage: &ast::Retry) -> RetryPlan {
    let settings = settings(lowering, Some(&stage.settings), &RETRY);
    let default = RetryPlan::default();
    RetryPlan {
        max: u32::try_from(settings.int_or("max", i64::from(default.max))).unwrap_or(default.max),
        backoff: settings.duration("backoff").unwrap_or(default.backoff),
        backoff_max: settings.duration("backoff_max").unwrap_or(default.backoff_max),
        timeout: settings.duration("timeout"),
    }
}

/// Lowers `alert`.
pub(crate) fn lower_alert(lowering: &mut Lowering<'_>, stage: &ast::Alert) -> Option<AlertPlan> {
    let connection = connection(lowering, &stage.connection)?;
    let settings = settings(lowering, Some(&stage.settings), &ALERT);
    Some(AlertPlan {
        connector: connection.kind,
        connection_name: connection.name,
        connection: connection.settings,
        settings,
    })
}

/// A trigger must fit the sources: `continuous` needs one without end, `arrival` needs files.
pub(crate) fn check_against_sources(lowering: &mut Lowering<'_>, trigger: &Trigger) {
    record_taken_inputs(lowering);
    let place = lowering.tree.stages.iter().find_map(|stage| match stage {
        ast::Stage::Trigger(stage) => Some(stage.when_span),
        _ => None,
    });
    let Some(span) = place else { return };
    let file: FileId = lowering.file;
    let sources: Vec<_> = lowering
        .nodes
        .iter()
        .filter_map(|node| match &node.kind {
            NodeKind::Source(source) => Some((source.endless, source.arrives, source.settings.clone())),
            _ => None,
        })
        .collect();
    if trigger.when == When::Continuous && !sources.iter().any(|(endless, ..)| *endless) {
        lowering.found.push(
            Diagnostic::error("E0405", "`continuous` needs a source without end")
                .primary(file, span, "every source here ends")
                .help("trigger every 5m   or   trigger cron \"*/5 * * * *\""),
        );
    }
    if trigger.when == When::Arrival && !sources.iter().any(|(_, arrives, _)| *arrives) {
        lowering.found.push(
            Diagnostic::error("E0408", "`arrival` needs a files source")
                .primary(file, span, "no files are read here")
                .help("trigger every 5m"),
        );
    }
    let by_run = sources.iter().any(|(_, _, settings)| settings.text("interval") == Some("run"));
    if by_run && !matches!(trigger.when, When::Cron(_) | When::Every(_)) {
        lowering.found.push(
            Diagnostic::error("E0409", "`interval = run` needs a trigger with intervals")
                .primary(file, span, "has none")
                .help("trigger cron \"*/5 * * * *\"   or   trigger every 5m"),
        );
    }
}

/// A run that is made again replaces what it wrote: where its inputs were moved or removed meanwhile, it would replace
/// them by nothing. So a source whose inputs go records what each interval was read from.
fn record_taken_inputs(lowering: &mut Lowering<'_>) {
    let sinks: Vec<_> = lowering
        .nodes
        .iter()
        .filter_map(|node| match &node.kind {
            NodeKind::Sink(sink) => Some((node.name.clone(), sink.mode, sink.settings.texts("overwrite_by"))),
            _ => None,
        })
        .collect();
    if !sinks.iter().any(|(_, mode, _)| *mode == WriteMode::Overwrite) {
        return;
    }
    let once = sinks.iter().find(|(_, mode, by)| *mode != WriteMode::Overwrite || *by != ["run_interval"]);
    let mut found = Vec::new();
    let mut not_yet = Vec::new();
    for node in &mut lowering.nodes {
        let NodeKind::Source(source) = &mut node.kind else { continue };
        if source.settings.text("interval") != Some("run") {
            continue;
        }
        let span = setting_span(lowering.tree, &node.name, "done_prefix");
        if let Some(span) = span.filter(|_| source.settings.get("done_prefix").is_some()) {
            found.push(
                Diagnostic::error("E0520", "an interval whose inputs are moved away cannot be overwritten")
                    .primary(lowering.file, span, "moves them as soon as they are read")
                    .help("after_success = delete, keep_inputs = 1d   keeps them until no late object is waited for"),
            );
        } else if source.settings.text("after_success") == Some("delete") {
            match once {
                None => source.settings.set(RECORDED, Value::Bool(true)),
                Some((sink, ..)) => not_yet.push((
                    "inputs taken away beside `mode = overwrite` without `overwrite_by = run_interval`".to_owned(),
                    format!("sink {sink}"),
                )),
            }
        }
    }
    lowering.found.append(&mut found);
    lowering.not_yet.append(&mut not_yet);
}

fn setting_span(tree: &ast::Pipeline, node: &str, name: &str) -> Option<Span> {
    let sources = tree.stages.iter().filter_map(|stage| match stage {
        ast::Stage::Source(source) => Some(source),
        _ => None,
    });
    let source = sources.into_iter().find(|source| source.node_name().text == node)?;
    source.settings.get(name).map(|setting| setting.value.span)
}
