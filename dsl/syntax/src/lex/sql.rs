//! SQL islands: where they end. Quotes and comments are respected, braces must balance, nothing else is understood.

use super::{Brackets, DEPTH_MAX, Kind, Lexer, begins_item};
use crate::{Diagnostic, Span};

/// What a stretch of SQL text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SqlPart {
    /// Anything that is neither quoted nor a comment: one sign or one word.
    Plain,
    /// One blank or line end.
    Blank,
    /// A quoted text or name, closed.
    Quoted,
    /// `-- …` up to the line end.
    Line,
    /// `/* … */`, closed.
    Block,
    /// A quote or comment that is not closed; the part is its opening sign alone.
    Open,
}

/// Cuts the text from a place on into parts `(part, start, end)`; the caller stops where its island ends.
pub(crate) struct SqlParts<'a> {
    text: &'a str,
    at: usize,
    /// Whether a quoted text that goes over a line end may not hold a closing brace.
    strict: bool,
}

impl<'a> SqlParts<'a> {
    pub(crate) fn new(text: &'a str, at: usize) -> Self {
        let strict = false;
        Self { text, at, strict }
    }

    fn byte(&self, at: usize) -> u8 {
        self.text.as_bytes().get(at).copied().unwrap_or(0)
    }

    /// The end of a text quoted by `quote`, whose body begins at `from`.
    fn quoted(&self, from: usize, quote: u8, escapes: bool) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let (mut at, mut braces, mut lines) = (from, false, false);
        while at < bytes.len() {
            match bytes[at] {
                byte if byte == quote => {
                    if !escapes || self.byte(at + 1) != quote {
                        return Some(at + 1);
                    }
                    at += 1;
                }
                b'\\' if escapes => at += 1,
                b'\n' => lines = true,
                b'}' => braces = true,
                _ => {}
            }
            if self.strict && lines && braces {
                return None;
            }
            at += 1;
        }
        None
    }

    /// `$$ … $$` or `$tag$ … $tag$`; not `$run_start`.
    fn dollar(&self, start: usize) -> (SqlPart, usize) {
        let mut tag_end = start + 1;
        while self.byte(tag_end).is_ascii_alphanumeric() || self.byte(tag_end) == b'_' {
            tag_end += 1;
        }
        if self.byte(tag_end) != b'$' || self.byte(start + 1).is_ascii_digit() {
            return (SqlPart::Plain, start + 1);
        }
        tag_end += 1;
        let tag = &self.text[start..tag_end];
        match self.text[tag_end..].find(tag) {
            Some(n) => (SqlPart::Quoted, tag_end + n + tag.len()),
            None => (SqlPart::Open, tag_end),
        }
    }

    /// `/* … */`, nested.
    fn block(&self, start: usize) -> (SqlPart, usize) {
        let bytes = self.text.as_bytes();
        let (mut at, mut depth) = (start, 0);
        while at + 1 < bytes.len() && depth <= DEPTH_MAX {
            match &bytes[at..at + 2] {
                b"/*" => {
                    depth += 1;
                    at += 2;
                }
                b"*/" => {
                    depth -= 1;
                    at += 2;
                    if depth == 0 {
                        return (SqlPart::Block, at);
                    }
                }
                _ => at += 1,
            }
        }
        (SqlPart::Open, start + 2)
    }

    fn word_end(&self, start: usize) -> usize {
        let mut end = start;
        while self.byte(end).is_ascii_alphanumeric() || matches!(self.byte(end), b'_' | b'$' | b'#' | b'@') {
            end += 1;
        }
        end
    }

    fn part(&self) -> (SqlPart, usize) {
        let start = self.at;
        let quoted = |opening: usize, quote: u8, escapes: bool| {
            let body = start + opening;
            self.quoted(body, quote, escapes).map_or((SqlPart::Open, body), |end| (SqlPart::Quoted, end))
        };
        match self.byte(start) {
            b' ' | b'\t' | b'\r' | b'\n' => (SqlPart::Blank, start + 1),
            quote @ (b'\'' | b'"' | b'`') => quoted(1, quote, false),
            b'e' | b'E' if self.byte(start + 1) == b'\'' => quoted(2, b'\'', true),
            b'-' if self.byte(start + 1) == b'-' => {
                let rest = &self.text[start..];
                let end = rest.find('\n').unwrap_or(rest.len());
                (SqlPart::Line, start + end)
            }
            b'/' if self.byte(start + 1) == b'*' => self.block(start),
            b'$' => self.dollar(start),
            byte if byte.is_ascii_alphanumeric() || byte == b'_' => (SqlPart::Plain, self.word_end(start)),
            _ => {
                let length = self.text[start..].chars().next().map_or(1, char::len_utf8);
                (SqlPart::Plain, start + length)
            }
        }
    }
}

impl Iterator for SqlParts<'_> {
    type Item = (SqlPart, usize, usize);

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.text.len() {
            return None;
        }
        let start = self.at;
        let (part, end) = self.part();
        self.at = end;
        Some((part, start, end))
    }
}

/// Unclosed quotes after which the file is not read further: each costs a look at the rest of it.
const OPEN_QUOTES_MAX: usize = 16;

impl Lexer<'_> {
    /// Reads an island as one token.
    pub(super) fn sql(&mut self) {
        let open = self.at;
        let outside = usize::from(self.brackets.depth());
        let (mut braces, mut rounds) = (vec![open], 0_usize);
        let mut end = self.text.len();
        let mut parts = SqlParts::new(self.text, open + 1);
        parts.strict = self.strict;
        for (part, start, part_end) in parts {
            match (part, self.bytes[start]) {
                (SqlPart::Open, _) => self.quote_not_closed(start, part_end),
                (SqlPart::Blank, b'\n') if begins_item(self.text, part_end) => {
                    end = part_end;
                    break;
                }
                (SqlPart::Plain, b'{') => braces.push(start),
                (SqlPart::Plain, b'(' | b'[') => rounds += 1,
                (SqlPart::Plain, b')' | b']') => rounds = rounds.saturating_sub(1),
                (SqlPart::Plain, b'}') => {
                    if let Some(partner) = braces.pop() {
                        self.pair(partner, start);
                    }
                    if braces.is_empty() {
                        return self.push(Kind::Sql, part_end);
                    }
                }
                _ => {}
            }
            self.check_depth(start, outside + braces.len() + rounds);
            if self.tokens.fatal {
                return;
            }
        }
        let innermost = braces[braces.len() - 1];
        let at = self.brackets.suspect().unwrap_or(innermost);
        let other = self.next_definition(end);
        self.not_closed(at, '{', other);
        self.push(Kind::Sql, open + self.text[open..end].trim_end().len());
        // What was open around the island is the same mistake.
        self.brackets = Brackets::default();
    }

    fn quote_not_closed(&mut self, start: usize, end: usize) {
        self.quote_open = true;
        let opening = &self.text[start..end];
        let (what, cure) = match opening {
            "/*" => ("comment", "close it with `*/`"),
            "\"" | "`" => ("quoted name", "close it with the same quote"),
            _ => ("text", "close it with the same quote; within a text it is written twice: 'it''s'"),
        };
        let diagnostic = Diagnostic::error("E0112", format!("this {what} is not closed"))
            .primary(self.file, Span::new(start, end), "opened here")
            .help(cure);
        self.mistake(start, diagnostic);
        let all = self.tokens.mistakes.iter();
        let open = all.filter(|mistake| mistake.diagnostic.code == "E0112");
        if open.count() > OPEN_QUOTES_MAX {
            self.tokens.fatal = true;
        }
    }
}
