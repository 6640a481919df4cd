//! Settings and values that do not parse, and why.

use super::{Recovery, header::path_end, pieces, range};
use crate::ast::{Duration, Size};
use crate::diagnostic::brief;
use crate::grammar::Rule;
use crate::lex::{Kind, Token};
use crate::words::STEP_WORDS;
use crate::{Diagnostic, Span};

/// Other people's words for units of time, and ours.
const TIME_WORDS: [(&str, &[&str]); 7] = [
    ("ms", &["ms", "msec", "msecs", "millis", "millisecond", "milliseconds"]),
    ("s", &["s", "sec", "secs", "second", "seconds"]),
    ("m", &["m", "min", "mins", "minute", "minutes"]),
    ("h", &["h", "hr", "hrs", "hour", "hours"]),
    ("d", &["d", "day", "days"]),
    ("w", &["w", "week", "weeks"]),
    ("y", &["y", "yr", "yrs", "year", "years"]),
];

/// Other people's words for units of size, and ours.
const SIZE_WORDS: [(&str, &[&str]); 5] = [
    ("B", &["b", "byte", "bytes"]),
    ("KB", &["kb", "k", "kib", "kilobyte", "kilobytes"]),
    ("MB", &["mb", "mib", "megabyte", "megabytes"]),
    ("GB", &["gb", "g", "gib", "gigabyte", "gigabytes"]),
    ("TB", &["tb", "t", "tib", "terabyte", "terabytes"]),
];

fn unit_of(word: &str, table: &[(&'static str, &[&str])]) -> Option<&'static str> {
    let word = word.to_lowercase();
    let entry = table.iter().find(|(_, words)| words.contains(&word.as_str()));
    entry.map(|(unit, _)| *unit)
}

/// Whether the text is a duration as it must be written.
pub(super) fn is_duration(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let unit = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let known = Duration::UNITS.iter().any(|(name, _)| *name == &rest[digits..digits + unit]);
        if digits == 0 || !known {
            return false;
        }
        rest = &rest[digits + unit..];
    }
    !text.is_empty()
}

fn is_size(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    digits > 0 && Size::UNITS.iter().any(|(name, _)| *name == &text[digits..])
}

fn is_number(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let text = text.strip_suffix('%').unwrap_or(text);
    let mut halves = text.splitn(2, '.');
    let digits = |half: &str| !half.is_empty() && half.bytes().all(|byte| byte.is_ascii_digit());
    halves.all(digits)
}

impl Recovery<'_> {
    /// Parses each setting between two braces alone and tells of the bad ones.
    pub(super) fn settings(&mut self, inside: &[Token]) {
        for piece in pieces::settings(inside) {
            let last = piece.len() - 1;
            let bare = if piece[last].is(',') { &piece[..last] } else { piece };
            if bare.is_empty() {
                self.refuse(piece, |this| {
                    Diagnostic::error("E0104", "there is a comma too many")
                        .primary(this.file, piece[0].span(), "take it out")
                        .fix(this.file, piece[0].span(), "")
                });
            } else if !self.parses(Rule::one_setting, bare) {
                self.refuse(piece, |this| this.explain_setting(bare));
            }
        }
    }

    /// Why a setting does not parse.
    pub(super) fn explain_setting(&self, piece: &[Token]) -> Diagnostic {
        self.setting_mistake(piece).unwrap_or_else(|| {
            // Every part is good, the whole is not: a mistake of ours, told as well as can be.
            let all = range(piece);
            Diagnostic::error("E0104", "this setting cannot be read")
                .primary(self.file, Span::new(all.start, all.end), "")
                .help("a setting is written `name = value`")
        })
    }

    /// What is wrong in a setting, as far as its tokens show. The grammar is not asked, so that a deep nest costs once.
    fn setting_mistake(&self, piece: &[Token]) -> Option<Diagnostic> {
        let name = self.text_of(&piece[0]);
        let last = piece[piece.len() - 1];
        if last.is(';') {
            return Some(self.too_much(&last, piece));
        }
        let all = range(piece);
        let Some(second) = piece.get(1).filter(|_| piece[0].kind == Kind::Word) else {
            let message = format!("`{}` is not a setting", brief(name));
            return Some(
                Diagnostic::error("E0104", message)
                    .primary(self.file, piece[0].span(), "")
                    .help("a setting is written `name = value`"),
            );
        };
        if second.kind == Kind::Sql || second.kind == Kind::Word && STEP_WORDS.contains(&name) {
            return Some(self.unknown_word(super::word::Place::Stage, &piece[0]));
        }
        if second.is('.') {
            return Some(self.dotted_name(piece));
        }
        if second.is(':') {
            let sign = if second.start == piece[0].end { " =" } else { "=" };
            return Some(
                Diagnostic::error("E0104", "a setting is written with `=`")
                    .primary(self.file, second.span(), "write `=`")
                    .fix(self.file, second.span(), sign),
            );
        }
        if !second.is('=') {
            return Some(self.no_equals(piece, second));
        }
        match piece.get(2) {
            None => Some(
                Diagnostic::error("E0104", format!("`{name}` has no value"))
                    .primary(self.file, Span::new(all.start, all.end), "a value is missing behind `=`")
                    .help("texts are written in double quotes, words as they are"),
            ),
            Some(third) if third.is('=') => Some(
                Diagnostic::error("E0104", "a setting is written with one `=`")
                    .primary(self.file, third.span(), "take it out")
                    .fix(self.file, third.span(), ""),
            ),
            Some(_) => match self.value_end(piece, 2) {
                Err(diagnostic) => Some(*diagnostic),
                Ok(end) => self.behind_value(piece, end),
            },
        }
    }

    fn dotted_name(&self, piece: &[Token]) -> Diagnostic {
        let span = Span::new(piece[0].start, piece[path_end(piece, 0) - 1].end);
        let path = brief(&self.text[span.range()]);
        Diagnostic::error("E0104", format!("`{path}` cannot be the name of a setting"))
            .primary(self.file, span, "a name without dots is expected")
            .help("a group of settings is written `name = { … }`")
    }

    fn no_equals(&self, piece: &[Token], second: &Token) -> Diagnostic {
        let name = self.text_of(&piece[0]);
        let value = brief(self.text[second.start..range(piece).end].trim_end());
        let between = Span::new(piece[0].end, second.start);
        Diagnostic::error("E0104", format!("there is no `=` behind `{name}`"))
            .primary(
                self.file,
                Span::new(piece[0].start, piece[piece.len() - 1].end),
                format!("write `{name} = {value}`"),
            )
            .help("a setting is written `name = value`")
            .fix(self.file, between, " = ")
    }

    fn behind_value(&self, piece: &[Token], end: usize) -> Option<Diagnostic> {
        let extra = piece.get(end)?;
        let value = brief(&self.text[piece[2].start..piece[end - 1].end]);
        let rest = Span::new(extra.start, piece[piece.len() - 1].end);
        let name = self.text_of(&piece[0]);
        Some(
            Diagnostic::error("E0104", format!("the value of `{name}` ends with `{value}`"))
                .primary(self.file, rest, "this is too much")
                .help("a setting has one value: a text in double quotes, a word, a number, `[a, b]`, `{ a = b }`"),
        )
    }

    /// The index behind the value that begins at `at`, or what is wrong in it.
    fn value_end(&self, piece: &[Token], at: usize) -> Result<usize, Box<Diagnostic>> {
        let Some(token) = piece.get(at) else {
            let end = piece[piece.len() - 1].end;
            return Err(Box::new(
                Diagnostic::error("E0104", "a value is missing")
                    .primary(self.file, Span::new(end, end), "here")
                    .help("a list is written `[a, b]`"),
            ));
        };
        match token.kind {
            Kind::Str => Ok(at + 1),
            Kind::Number => self.number_end(piece, at),
            Kind::Word => {
                let end = path_end(piece, at);
                match piece.get(end) {
                    Some(open) if open.is('(') => self.list_end(piece, end),
                    _ => Ok(end),
                }
            }
            Kind::Open('[' | '(') => self.list_end(piece, at),
            Kind::Open(_) => self.map_end(piece, at),
            Kind::Sql => Ok(at + 1),
            _ => Err(Box::new(
                Diagnostic::error("E0104", format!("`{}` is not a value", brief(self.text_of(token))))
                    .primary(self.file, token.span(), "")
                    .help("a value is a text in double quotes, a word, a number, `[a, b]`, or `{ a = b }`"),
            )),
        }
    }

    fn close_of(&self, piece: &[Token], open: usize) -> usize {
        let depth = piece[open].depth;
        let partner =
            piece[open + 1..].iter().position(|token| token.depth == depth && matches!(token.kind, Kind::Close(_)));
        partner.map_or(piece.len(), |n| open + 1 + n)
    }

    fn list_end(&self, piece: &[Token], open: usize) -> Result<usize, Box<Diagnostic>> {
        let close = self.close_of(piece, open);
        let inside = &piece[..close.min(piece.len())];
        let mut at = open + 1;
        while at < inside.len() {
            at = self.value_end(inside, at)?;
            match inside.get(at) {
                None => break,
                Some(comma) if comma.is(',') => at += 1,
                Some(next) => {
                    let before = inside[at - 1].end;
                    return Err(Box::new(
                        Diagnostic::error("E0104", "a comma is missing")
                            .primary(self.file, next.span(), "write `,` before this")
                            .fix(self.file, Span::new(before, before), ","),
                    ));
                }
            }
        }
        Ok(close + 1)
    }

    fn map_end(&self, piece: &[Token], open: usize) -> Result<usize, Box<Diagnostic>> {
        let close = self.close_of(piece, open);
        for setting in pieces::settings(&piece[open + 1..close]) {
            let last = setting.len() - 1;
            let bare = if setting[last].is(',') { &setting[..last] } else { setting };
            let bare = if bare.is_empty() { setting } else { bare };
            if let Some(diagnostic) = self.setting_mistake(bare) {
                return Err(Box::new(diagnostic));
            }
        }
        Ok(close + 1)
    }

    fn number_end(&self, piece: &[Token], at: usize) -> Result<usize, Box<Diagnostic>> {
        let token = &piece[at];
        let text = self.text_of(token);
        let next = piece.get(at + 1);
        let unit = next.filter(|next| next.kind == Kind::Word && !next.first);
        let plain = is_number(text);
        if plain && let Some(unit) = unit {
            let word = self.text_of(unit);
            let is_size = unit_of(word, &SIZE_WORDS).is_some() && unit_of(word, &TIME_WORDS).is_none();
            return Err(Box::new(if is_size {
                self.not_a_size(token, next)
            } else {
                self.not_a_duration(token, next)
            }));
        }
        if plain || is_duration(text) || is_size(text) {
            return Ok(at + 1);
        }
        let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        Err(Box::new(if unit_of(&text[digits..], &TIME_WORDS).is_some() {
            self.not_a_duration(token, None)
        } else if unit_of(&text[digits..], &SIZE_WORDS).is_some() {
            self.not_a_size(token, None)
        } else {
            Diagnostic::error("E0105", format!("`{}` is not a number, a duration or a size", brief(text)))
                .primary(self.file, token.span(), "")
                .help("write `12`, `1.5`, `1%`, `30s`, `1h30m`, `64MB`, or a text in double quotes")
        }))
    }

    /// A number with a unit that is not one of ours, in the same word or in the next.
    pub(super) fn not_a_duration(&self, number: &Token, next: Option<&Token>) -> Diagnostic {
        let help = "units are ms, s, m, h, d, w, y; they can be joined: 1h30m";
        self.not_a_quantity("duration", number, next, &TIME_WORDS).help(help)
    }

    fn not_a_size(&self, number: &Token, next: Option<&Token>) -> Diagnostic {
        let help = "units are B, KB, MB, GB, TB";
        self.not_a_quantity("size", number, next, &SIZE_WORDS).help(help)
    }

    fn not_a_quantity(
        &self,
        what: &str,
        number: &Token,
        next: Option<&Token>,
        table: &[(&'static str, &[&str])],
    ) -> Diagnostic {
        let text = self.text_of(number);
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let next = next.filter(|next| next.kind == Kind::Word && digits == text.len());
        let (word, span) = match next {
            Some(next) => (self.text_of(next), number.span().to(next.span())),
            None => (&text[digits..], number.span()),
        };
        let shown = brief(&self.text[span.range()]);
        let diagnostic = Diagnostic::error("E0105", format!("`{shown}` is not a {what}"));
        match unit_of(word, table) {
            Some(unit) if digits > 0 => {
                let cure = format!("{}{unit}", &text[..digits]);
                diagnostic.primary(self.file, span, format!("write `{cure}`")).fix(self.file, span, cure)
            }
            _ if word.is_empty() => diagnostic.primary(self.file, span, "its unit is missing"),
            _ => diagnostic.primary(self.file, span, "there is no such unit"),
        }
    }
}
