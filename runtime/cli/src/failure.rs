//! Errors of the world, for people and for scripts.

use lakehead_core::Error;
use serde_json::{Value, json};

/// Lines that an error may take; facts beyond are left out, help never is.
const LINES_MAX: usize = 12;

/// Writes an error as at most twelve lines: what, the facts, why, and the cure.
pub(crate) fn render(error: &Error) -> String {
    let mut lines = vec![format!("error[{}]: {}", error.code(), error.message())];
    let width = error.context().iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in error.context() {
        lines.push(format!("  {name:<width$}  {value}"));
    }
    if let Some(reason) = reason(error) {
        lines.push(format!("  = {reason}"));
    }
    let helps: Vec<String> = error
        .helps()
        .iter()
        .flat_map(|help| help.lines())
        .enumerate()
        .map(|(n, line)| if n == 0 { format!("  = help: {line}") } else { format!("          {line}") })
        .collect();
    lines.truncate(LINES_MAX.saturating_sub(helps.len()).max(1));
    lines.extend(helps);
    lines.truncate(LINES_MAX);
    lines.join("\n")
}

/// What the standard library panics with where whoever reads our output has gone.
const READER_GONE: &str = "failed printing to std";
/// The code of a process that ends so, as its shell knows it: that of SIGPIPE.
const READER_GONE_CODE: i32 = 141;

/// A decoder that fails over the bytes of a file fails that file, with an error of its own: no more is said. Where nobody reads on
/// (`| head`), the process ends without a word, as others do.
pub(crate) fn say_panics_of_ours_alone() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload_as_str().unwrap_or_default();
        if text.starts_with(READER_GONE) && text.ends_with("(os error 32)") {
            std::process::exit(READER_GONE_CODE);
        }
        if !lakehead_lakefile::is_calm() {
            usual(panic);
        }
    }));
}

/// The innermost cause, in its own words, one line.
fn reason(error: &Error) -> Option<String> {
    let mut cause = std::error::Error::source(error)?;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let text = cause.to_string();
    let line = text.lines().next().unwrap_or("").trim();
    (!line.is_empty()).then(|| line.chars().take(160).collect())
}

/// The same record for scripts.
pub(crate) fn to_json(error: &Error) -> Value {
    let context: serde_json::Map<_, _> =
        error.context().iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    json!({
        "code": error.code(),
        "message": error.message(),
        "context": context,
        "help": error.helps(),
        "reason": reason(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_why_and_how_in_few_lines() {
        let mut error =
            Error::user("R0402", "the lake's location cannot be written").help("chmod u+w lake\nor move it");
        for n in 0..20 {
            error = error.with("fact", n);
        }
        let text = render(&error);
        assert!(text.lines().count() <= 12, "{text}");
        assert!(text.starts_with("error[R0402]: the lake's location cannot be written\n"));
        assert!(text.ends_with("  = help: chmod u+w lake\n          or move it"), "{text}");
    }
}
