//! Strings: closed in their line, with known escapes and well-formed holes.

use super::{Kind, Lexer};
use crate::diagnostic::brief;
use crate::{Diagnostic, Span};

/// How far the partner of a foreign quote is sought.
const FOREIGN_BYTES_MAX: usize = 200;

impl Lexer<'_> {
    /// Reads a string; whatever is wrong in it is told here.
    pub(super) fn string(&mut self) {
        let start = self.at;
        let mut at = start + 1;
        while at < self.bytes.len() {
            match self.bytes[at] {
                b'"' => return self.push(Kind::Str, at + 1),
                b'\n' => break,
                b'\\' => at = self.escape(at),
                b'$' if self.bytes.get(at + 1) == Some(&b'{') => at = self.hole(at),
                _ => at += 1,
            }
        }
        let line_end = self.line_end(start);
        let end = start + self.text[start..line_end].trim_end().len();
        let diagnostic = Diagnostic::error("E0108", "this string is not closed")
            .primary(self.file, Span::new(start, end), "its closing quote is missing")
            .help("a string ends in its line; a line end within it is written `\\n`");
        self.mistake(start, diagnostic);
        self.push(Kind::Str, end);
    }

    fn escape(&mut self, at: usize) -> usize {
        let rest = &self.text[at + 1..];
        let Some(char) = rest.chars().next().filter(|c| *c != '\n' && *c != '\r') else {
            return at + 1;
        };
        let end = at + 1 + char.len_utf8();
        if !matches!(char, '"' | '\\' | 'n' | 't' | '$') {
            let span = Span::new(at, end);
            let diagnostic = Diagnostic::error("E0108", format!("there is no escape `\\{char}`"))
                .primary(self.file, span, "")
                .note("escapes are: \\\" \\\\ \\n \\t \\$")
                .help(format!("for a backslash write `\\\\{char}`"))
                .fix(self.file, span, format!("\\\\{char}"));
            self.mistake(at, diagnostic);
        }
        end
    }

    /// Reads `${path:format}` and returns the place behind it.
    fn hole(&mut self, at: usize) -> usize {
        let rest = &self.text[at + 2..];
        let length = rest.find(['}', '"', '\n']).unwrap_or(rest.len());
        let body = &rest[..length];
        let closed = rest[length..].starts_with('}');
        let (path, format) = match body.split_once(':') {
            Some((path, format)) => (path, Some(format)),
            None => (body, None),
        };
        let named = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        let end = at + 2 + length + usize::from(closed);
        if closed && path.split('.').all(named) && format != Some("") {
            return end;
        }
        let span = Span::new(at, end);
        let diagnostic = if closed {
            Diagnostic::error("E0108", format!("`{}` names nothing", brief(&self.text[at..end])))
                .primary(self.file, span, "a dotted name is expected in the braces")
                .help("write `${var.name}`, `${run.start:%Y/%m/%d}`, or `\\$` for a dollar sign")
        } else {
            Diagnostic::error("E0108", "this `${` is not closed")
                .primary(self.file, span, "its `}` is missing")
                .help("write `${var.name}`, or `\\$` for a dollar sign")
        };
        self.mistake(at, diagnostic);
        end
    }

    /// Reads a text in quotes of another kind, up to the next such quote in the line.
    pub(super) fn foreign_quote(&mut self, quote: char) {
        let start = self.at;
        let body = start + quote.len_utf8();
        let line_end = self.line_end(start).min(body + FOREIGN_BYTES_MAX);
        let line = &self.text[body..self.text.floor_char_boundary(line_end)];
        let partners: &[char] = match quote {
            '\'' => &['\''],
            '«' => &['»'],
            _ => &['“', '”', '’', '‘', '"'],
        };
        let found = line.char_indices().find(|(_, c)| partners.contains(c));
        let (inner, end) = match found {
            Some((n, char)) => (&line[..n], body + n + char.len_utf8()),
            None => ("", body),
        };
        let span = Span::new(start, end);
        let told = match found {
            Some(_) => format!("write `\"{inner}\"`"),
            None => format!("`{quote}` opens no string"),
        };
        let mut diagnostic = Diagnostic::error("E0108", "strings are written with straight double quotes")
            .primary(self.file, span, told)
            .note("single quotes are for texts in SQL");
        if found.is_some() && !inner.contains(['"', '\\']) {
            diagnostic = diagnostic.fix(self.file, span, format!("\"{inner}\""));
        }
        self.soft_mistake(start, diagnostic);
        self.push(Kind::Bad, end);
    }
}
