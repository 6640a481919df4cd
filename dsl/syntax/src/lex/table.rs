//! Rows of test tables: one line each, from the first bar to the last.

use super::{Kind, Lexer};
use crate::diagnostic::brief;
use crate::{Diagnostic, Span};

impl Lexer<'_> {
    /// Reads a row, which ends in its line.
    pub(super) fn row(&mut self) {
        let start = self.at;
        let line = &self.text[start..self.line_end(start)];
        let end = last_bar(line) + 1;
        let rest = line[end..].trim_start();
        if end > 1 && (rest.is_empty() || rest.starts_with(['#', '}'])) {
            return self.push(Kind::Row, start + end);
        }
        // What stands behind the last bar is a cell without its bar, but a brace at the very end is the table's.
        let line = line.trim_end();
        let body = line.strip_suffix('}').map_or(line, str::trim_end);
        let length = body.len().max(1);
        let behind = Span::new(start + length, start + length);
        let diagnostic = Diagnostic::error("E0109", "this row is not closed")
            .primary(self.file, Span::new(start, start + length), "a row begins and ends with `|`")
            .help(format!("write `{} |`", brief(&line[..length])))
            .fix(self.file, behind, " |");
        self.mistake(start, diagnostic);
        self.push(Kind::Row, start + length);
    }
}

/// The offset of the last bar of a line that is not written `\|`; the line begins with a bar.
fn last_bar(line: &str) -> usize {
    let bytes = line.as_bytes();
    let (mut last, mut at) = (0, 1);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if bytes.get(at + 1) == Some(&b'|') => at += 1,
            b'|' => last = at,
            _ => {}
        }
        at += 1;
    }
    last
}
