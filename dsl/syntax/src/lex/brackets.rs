//! Brackets: what is open, and which one is at fault when they do not match.

use super::{DEPTH_MAX, Kind, Lexer};
use crate::words::ITEM_WORDS;
use crate::{Diagnostic, Span};

/// A bracket that is open.
#[derive(Clone, Copy, Debug)]
struct Open {
    sign: char,
    at: usize,
}

/// The brackets around the current place.
#[derive(Debug, Default)]
pub(super) struct Brackets {
    stack: Vec<Open>,
    /// The first brace of the current definition that was closed by a brace standing further left than its line.
    suspect: Option<usize>,
}

impl Brackets {
    pub(super) fn depth(&self) -> u16 {
        u16::try_from(self.stack.len()).unwrap_or(u16::MAX)
    }

    pub(super) fn suspect(&self) -> Option<usize> {
        self.suspect
    }
}

fn closing(open: char) -> char {
    match open {
        '{' => '}',
        '[' => ']',
        _ => ')',
    }
}

impl Lexer<'_> {
    pub(super) fn open(&mut self, sign: char) {
        let at = self.at;
        self.push(Kind::Open(sign), at + 1);
        self.brackets.stack.push(Open { sign, at });
        self.check_depth(at, self.brackets.stack.len());
    }

    /// Refuses the file where brackets are nested deeper than the stack of a parser may be trusted with.
    pub(super) fn check_depth(&mut self, at: usize, depth: usize) {
        if depth <= DEPTH_MAX || self.tokens.fatal {
            return;
        }
        self.tokens.fatal = true;
        let diagnostic = Diagnostic::error("E0111", "brackets are nested too deep")
            .primary(self.file, Span::new(at, at + 1), format!("level {depth}"))
            .note(format!("{DEPTH_MAX} levels are read; nothing behind this place was"))
            .help("is a closing bracket missing further up?");
        self.mistake(at, diagnostic);
    }

    pub(super) fn close(&mut self, sign: char) {
        let at = self.at;
        let partner = self.brackets.stack.iter();
        // A closing bracket of another kind closes what was left open within its own pair.
        let Some(partner) = partner.rev().position(|open| closing(open.sign) == sign) else {
            let diagnostic = Diagnostic::error("E0107", format!("this `{sign}` closes nothing"))
                .primary(self.file, Span::new(at, at + 1), "nothing is open here")
                .help("take it out, or look for one too many further up");
            self.mistake(at, diagnostic);
            self.push(Kind::Bad, at + 1);
            return;
        };
        for _ in 0..partner {
            if let Some(open) = self.brackets.stack.pop() {
                let text = format!("`{}` is expected before this", closing(open.sign));
                self.not_closed(open.at, open.sign, Some((Span::new(at, at + 1), text)));
            }
        }
        if let Some(open) = self.brackets.stack.pop() {
            self.pair(open.at, at);
        }
        self.push(Kind::Close(sign), at + 1);
        if self.brackets.stack.is_empty() {
            self.brackets.suspect = None;
        }
    }

    /// Remembers the first pair that looks as if its closing bracket belonged to a block further out.
    pub(super) fn pair(&mut self, open: usize, close: usize) {
        if self.brackets.suspect.is_some() {
            return;
        }
        let close_line = self.line_start_of(close);
        let begins_line = self.text[close_line..close].trim_start().is_empty();
        if begins_line && close - close_line < self.indent(open) {
            self.brackets.suspect = Some(open);
        }
    }

    fn line_start_of(&self, at: usize) -> usize {
        let from = at.saturating_sub(INDENT_MAX);
        let before = &self.bytes[from..at];
        before.iter().rposition(|byte| *byte == b'\n').map_or(self.text.floor_char_boundary(from), |n| from + n + 1)
    }

    /// Bytes of blanks at the beginning of the line of `at`.
    fn indent(&self, at: usize) -> usize {
        let line = &self.text[self.line_start_of(at)..at];
        line.len() - line.trim_start().len()
    }

    /// Tells what is still open at the end of the text, or where a definition begins within another.
    pub(super) fn close_all(&mut self, end: usize) {
        let Some(innermost) = self.brackets.stack.last().copied() else {
            return;
        };
        // One message for all of them: the others are nearly always the same mistake.
        let (at, sign) = match self.brackets.suspect {
            Some(at) => (at, '{'),
            None => (innermost.at, innermost.sign),
        };
        let other = self.next_definition(end);
        self.not_closed(at, sign, other);
        self.brackets = Brackets::default();
    }

    /// The word at `at` as a label, unless the text ends there.
    pub(super) fn next_definition(&self, at: usize) -> Option<(Span, String)> {
        let rest = &self.text[at..];
        if rest.trim().is_empty() {
            return None;
        }
        let word = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let text = "the next definition begins here".to_string();
        Some((Span::new(at, at + word), text))
    }

    pub(super) fn not_closed(&mut self, at: usize, sign: char, other: Option<(Span, String)>) {
        let close = closing(sign);
        let span = Span::new(at, at + 1);
        let mut diagnostic = Diagnostic::error("E0107", format!("this `{sign}` is not closed")).primary(
            self.file,
            span,
            format!("its `{close}` is missing"),
        );
        if let Some((span, text)) = other {
            diagnostic = diagnostic.secondary(self.file, span, text);
        }
        let diagnostic = diagnostic.help(format!("add `{close}` where the block ends"));
        self.mistake(at, diagnostic);
    }
}

/// How far left the beginning of a line is sought: nobody indents further, and a line may be a mebibyte long.
const INDENT_MAX: usize = 4_096;

/// Whether a line that begins at `at` without blanks begins a definition, whatever is open: the word and what must
/// follow it are both there.
pub(crate) fn begins_item(text: &str, at: usize) -> bool {
    if at > 0 && text.as_bytes()[at - 1] != b'\n' {
        return false;
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let rest = &text[at..];
    let word_end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
    let (word, rest) = rest.split_at(word_end);
    if !ITEM_WORDS.contains(&word) || !rest.starts_with([' ', '\t']) {
        return false;
    }
    let rest = rest.trim_start_matches([' ', '\t']);
    if matches!(word, "use" | "test") {
        return rest.starts_with('"');
    }
    let name_end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
    let after = rest[name_end..].trim_start_matches([' ', '\t']);
    name_end > 0
        && match word {
            "var" => after.starts_with(':'),
            "secret" => after.starts_with('='),
            "connection" | "catalog" => after.starts_with(|c: char| c.is_ascii_alphabetic()),
            _ => after.starts_with('{'),
        }
}
