//! Written values to values: variables filled in, secrets kept by name, `${run.…}` left for the run.

use std::time::Duration;

use lakehead_core::{Micros, RunContext, Value};
use lakehead_syntax::ast::{self, Chunk, ValueKind};
use lakehead_syntax::{Diagnostic, FileId};

use crate::definitions::{Definitions, unknown};

/// Where a value stands.
pub(crate) struct Context<'a, 'd> {
    pub(crate) definitions: &'a Definitions<'d>,
    pub(crate) file: FileId,
    /// Names that `${…}` may hold beside variables, filled in later: `table`, `run.start`.
    pub(crate) holes: &'a [&'a str],
}

/// Reads a value; `None` after a mistake was reported.
pub(crate) fn value(
    context: &Context<'_, '_>,
    written: &ast::Value,
    secret_allowed: bool,
    found: &mut Vec<Diagnostic>,
) -> Option<Value> {
    let too_large = |found: &mut Vec<Diagnostic>| {
        found.push(Diagnostic::error("E0106", "this number does not fit").primary(
            context.file,
            written.span,
            "too large",
        ));
        None
    };
    match &written.kind {
        ValueKind::Bool(value) => Some(Value::Bool(*value)),
        ValueKind::Int(text) => text.parse().map_or_else(|_| too_large(found), |n| Some(Value::Int(n))),
        ValueKind::Number(text) => text.parse().map_or_else(|_| too_large(found), |n| Some(Value::Number(n))),
        ValueKind::Percent(percent) => percent.fraction().map(Value::Percent),
        ValueKind::Duration(value) => {
            value.milliseconds().map_or_else(|| too_large(found), |ms| Some(Value::Duration(Duration::from_millis(ms))))
        }
        ValueKind::Size(value) => value.bytes().map_or_else(|| too_large(found), |n| Some(Value::Size(n))),
        ValueKind::String(template) => text(context, template, found).map(Value::Text),
        ValueKind::List(items) => {
            let items: Vec<_> = items.iter().map(|item| value(context, item, false, found)).collect();
            items.into_iter().collect::<Option<_>>().map(Value::List)
        }
        ValueKind::Map(pairs) => {
            let pairs: Vec<_> = pairs
                .iter()
                .map(|pair| Some((pair.name.text.clone(), value(context, &pair.value, false, found)?)))
                .collect();
            pairs.into_iter().collect::<Option<_>>().map(Value::Map)
        }
        ValueKind::Call(call) => {
            let items: Vec<_> = call.args.iter().map(|item| value(context, item, false, found)).collect();
            let items = items.into_iter().collect::<Option<_>>()?;
            Some(Value::Call(call.name.text.clone(), items))
        }
        ValueKind::Path(path) => reference(context, path, secret_allowed, found),
    }
}

fn reference(
    context: &Context<'_, '_>,
    path: &ast::Path,
    secret_allowed: bool,
    found: &mut Vec<Diagnostic>,
) -> Option<Value> {
    match (path.head().text.as_str(), path.parts.get(1)) {
        ("var", Some(name)) => variable(context, name, found).cloned(),
        ("secret", Some(name)) => {
            let known = secret_known(context, name, found);
            if known && !secret_allowed {
                found.push(
                    Diagnostic::error("E0602", "a secret would be written where everybody reads it")
                        .primary(context.file, path.span, "this setting is shown in plans and logs")
                        .help("secrets belong into settings such as `password`"),
                );
                return None;
            }
            known.then(|| Value::SecretName(name.text.clone()))
        }
        _ => Some(Value::Name(path.to_string())),
    }
}

fn variable<'a>(context: &'a Context<'_, '_>, name: &ast::Name, found: &mut Vec<Diagnostic>) -> Option<&'a Value> {
    context.definitions.read("variable", &name.text);
    let value = context.definitions.variables.get(&name.text);
    if value.is_none() {
        let names: Vec<_> = context.definitions.variables.keys().map(String::as_str).collect();
        found.push(unknown("E0601", "variable with a value", name, context.file, &names));
    }
    value
}

fn secret_known(context: &Context<'_, '_>, name: &ast::Name, found: &mut Vec<Diagnostic>) -> bool {
    context.definitions.read("secret", &name.text);
    let known = context.definitions.secrets.contains_key(&name.text);
    if !known {
        let names: Vec<_> = context.definitions.secrets.keys().map(String::as_str).collect();
        found.push(unknown("E0607", "secret", name, context.file, &names));
    }
    known
}

/// Reads a text with its holes.
pub(crate) fn text(context: &Context<'_, '_>, template: &ast::Template, found: &mut Vec<Diagnostic>) -> Option<String> {
    let mut text = String::new();
    for chunk in &template.chunks {
        match chunk {
            Chunk::Text { value, .. } => text.push_str(value),
            Chunk::Hole { path, format, span } => {
                let written = path.to_string();
                if path.head().text == "secret" {
                    found.push(
                        Diagnostic::error("E0602", "a secret would be written into a text")
                            .primary(context.file, *span, "secrets can only be a whole value")
                            .note("texts are stored in the catalog, in logs and in plans"),
                    );
                    return None;
                }
                if let ("var", Some(name)) = (path.head().text.as_str(), path.parts.get(1)) {
                    text.push_str(&plain(variable(context, name, found)?));
                } else if context.holes.contains(&written.as_str()) {
                    let format = format.as_ref().map_or_else(String::new, |format| format!(":{format}"));
                    text.push_str(&format!("${{{written}{format}}}"));
                } else {
                    let holes: Vec<&str> = context.holes.to_vec();
                    let name = ast::Name { text: written, span: path.span };
                    found.push(unknown("E0608", "text to fill in called", &name, context.file, &holes));
                    return None;
                }
            }
        }
    }
    Some(text)
}

fn plain(value: &Value) -> String {
    match value {
        Value::Text(text) | Value::Name(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Size(bytes) => bytes.to_string(),
        Value::Duration(duration) => format!("{}s", duration.as_secs()),
        other => format!("{other:?}"),
    }
}

/// Fills `${run.start}`, `${run.end}`, `${run.id}` of a text, with an optional strftime format: `${run.start:%Y/%m}`.
pub fn expand_run(text: &str, run: &RunContext) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${run.") {
        let Some(end) = rest[at..].find('}') else { break };
        expanded.push_str(&rest[..at]);
        let hole = &rest[at + "${run.".len()..at + end];
        let (name, format) = hole.split_once(':').unwrap_or((hole, "%Y-%m-%dT%H:%M:%SZ"));
        match name {
            "start" => expanded.push_str(&time(run.start, format)),
            "end" => expanded.push_str(&time(run.end, format)),
            "id" => expanded.push_str(&run.id),
            _ => expanded.push_str(&rest[at..=at + end]),
        }
        rest = &rest[at + end + 1..];
    }
    expanded.push_str(rest);
    expanded
}

/// Returns whether a text differs from run to run.
pub fn names_run(text: &str) -> bool {
    text.contains("${run.")
}

/// Returns whether a text may be what another run made of a pattern: the parts between its holes are there, in order.
pub fn is_of_some_run(pattern: &str, text: &str) -> bool {
    let mut rest = text;
    let mut pattern = pattern;
    let mut first = true;
    loop {
        let (fixed, behind) = match pattern.split_once("${run.") {
            Some((fixed, hole)) => (fixed, hole.split_once('}').map(|(_, behind)| behind)),
            None => (pattern, None),
        };
        let at = if first { rest.starts_with(fixed).then_some(0) } else { rest.find(fixed) };
        let Some(at) = at else { return false };
        rest = &rest[at + fixed.len()..];
        first = false;
        match behind {
            Some(behind) => pattern = behind,
            None => return rest.is_empty() || fixed.is_empty() || text.ends_with(fixed),
        }
    }
}

fn time(at: Micros, format: &str) -> String {
    chrono::DateTime::from_timestamp_micros(at).map_or_else(String::new, |time| time.format(format).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_is_filled_into_texts() {
        let run = RunContext { id: "r1".into(), start: 1_777_629_600_000_000, end: 0 };
        assert_eq!(expand_run("logs/${run.start:%Y/%m/%d/%H%M}/x", &run), "logs/2026/05/01/1000/x");
        assert_eq!(expand_run("${run.id}-${error.code}", &run), "r1-${error.code}");
        assert_eq!(expand_run("${run.start", &run), "${run.start");
        for (pattern, is_one) in [
            ("t_${run.start:%Y%m}", true),
            ("t_${run.start}_x", false),
            ("${run.id}", true),
            ("t_202605", true),
            ("u_${run.start:%Y%m}", false),
            ("t_2026", false),
        ] {
            assert_eq!(is_of_some_run(pattern, "t_202605"), is_one, "{pattern}");
        }
    }
}
