//! Diagnostics as text for people and as JSON for programs.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::{Diagnostic, FileId, Label, LineColumn, Severity, SourceMap, SourceText, Span};

mod snippet;

/// Diagnostics written out in text: more than can be mended before the next run.
const SHOWN_MAX: usize = 100;

/// The files that diagnostics point into, with their lines.
struct Sources<'a> {
    map: &'a SourceMap,
    texts: HashMap<FileId, SourceText<'a>>,
}

impl<'a> Sources<'a> {
    fn new(map: &'a SourceMap, diagnostics: &[Diagnostic]) -> Self {
        let labels = diagnostics.iter().flat_map(|one| &one.labels);
        let fixes = diagnostics.iter().flat_map(|one| &one.fixes);
        let files = labels.map(|label| label.file);
        let texts = files
            .chain(fixes.map(|fix| fix.file))
            .collect::<std::collections::HashSet<_>>()
            .into_iter()
            .map(|file| (file, SourceText::new(map.text(file))))
            .collect();
        Self { map, texts }
    }

    fn place(&self, file: FileId, offset: u32) -> LineColumn {
        match self.texts.get(&file) {
            Some(text) => text.line_column(offset as usize),
            None => LineColumn { line: 1, column: 1 },
        }
    }
}

/// Colours of a terminal, or none.
#[derive(Clone, Copy)]
struct Paint {
    color: bool,
}

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.color && !text.is_empty() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_string() }
    }

    fn head(self, severity: Severity, text: &str) -> String {
        self.with(self.code(severity), text)
    }

    fn code(self, severity: Severity) -> &'static str {
        match severity {
            Severity::Error => "1;31",
            Severity::Warning => "1;33",
        }
    }

    fn gutter(self, text: &str) -> String {
        self.with("34", text)
    }

    fn strong(self, text: &str) -> String {
        self.with("1", text)
    }
}

/// Writes diagnostics for people, in the order given; the first hundred, and how many there are besides.
///
/// Facts are written `= …`, cures `= help: …`; a fact that begins with `note: ` (the reason why) comes behind the cures.
pub fn render_text(diagnostics: &[Diagnostic], files: &SourceMap, color: bool) -> String {
    let sources = Sources::new(files, &diagnostics[..diagnostics.len().min(SHOWN_MAX)]);
    let paint = Paint { color };
    let mut out = String::new();
    for diagnostic in diagnostics.iter().take(SHOWN_MAX) {
        if !out.is_empty() {
            out.push('\n');
        }
        render_one(diagnostic, &sources, paint, &mut out);
    }
    if let Some(more @ 1..) = diagnostics.len().checked_sub(SHOWN_MAX) {
        out.push_str(&format!("\n… and {more} more; `--format json` has all\n"));
    }
    out
}

fn render_one(diagnostic: &Diagnostic, sources: &Sources<'_>, paint: Paint, out: &mut String) {
    let severity = diagnostic.severity;
    let head = format!("{}[{}]", severity.word(), diagnostic.code);
    let message = format!(": {}", diagnostic.message);
    out.push_str(&paint.head(severity, &head));
    out.push_str(&paint.strong(&message));
    out.push('\n');
    let blocks = snippet::blocks(diagnostic, sources);
    let width = snippet::gutter_width(&blocks);
    let empty = paint.gutter(&format!("{:width$}│", ""));
    for (at, block) in blocks.iter().enumerate() {
        let place = format!("{}:{}:{}", sources.map.path(block.file), block.place.line, block.place.column);
        out.push_str(&paint.gutter(&format!("{:width$}┌─ ", "")));
        out.push_str(&place);
        out.push('\n');
        if at == 0 {
            out.push_str(&empty);
            out.push('\n');
        }
        snippet::draw(block, sources, severity, width, paint, out);
    }
    let (reasons, facts): (Vec<&String>, Vec<&String>) =
        diagnostic.notes.iter().partition(|note| note.starts_with("note: "));
    let helps = diagnostic.helps.iter().map(|help| format!("help: {help}"));
    let lines = facts.into_iter().cloned().chain(helps);
    let lines: Vec<String> = lines.chain(reasons.into_iter().cloned()).collect();
    if !lines.is_empty() && !blocks.is_empty() {
        out.push_str(&empty);
        out.push('\n');
    }
    let sign = paint.gutter(&format!("{:width$}=", ""));
    for line in lines {
        let mut rows = line.split('\n');
        let first = rows.next().unwrap_or("");
        out.push_str(&format!("{sign} {first}\n"));
        for row in rows {
            out.push_str(&format!("{:width$}  {row}\n", ""));
        }
    }
}

/// Diagnostics for programs: a list of records, all of them.
pub fn render_json(diagnostics: &[Diagnostic], files: &SourceMap) -> Value {
    let sources = Sources::new(files, diagnostics);
    let records = diagnostics.iter().map(|one| record(one, &sources));
    Value::Array(records.collect())
}

fn record(diagnostic: &Diagnostic, sources: &Sources<'_>) -> Value {
    let labels = diagnostic.labels.iter().map(|label: &Label| {
        let mut span = place(label.file, label.span, sources);
        span["primary"] = json!(label.primary);
        span["label"] = json!(label.text);
        span
    });
    let fixes = diagnostic.fixes.iter().map(|fix| {
        let mut span = place(fix.file, fix.span, sources);
        span["replacement"] = json!(fix.replacement);
        span
    });
    json!({
        "code": diagnostic.code,
        "severity": diagnostic.severity.word(),
        "message": diagnostic.message,
        "spans": labels.collect::<Vec<_>>(),
        "notes": diagnostic.notes,
        "help": diagnostic.helps,
        "fixes": fixes.collect::<Vec<_>>(),
    })
}

fn place(file: FileId, span: Span, sources: &Sources<'_>) -> Value {
    let (start, end) = (sources.place(file, span.start), sources.place(file, span.end));
    json!({
        "file": sources.map.path(file),
        "line": start.line,
        "column": start.column,
        "end_line": end.line,
        "end_column": end.column,
    })
}

#[cfg(test)]
mod tests;
