//! What stands before a block: each form is a list of what is wanted in turn, and the first that is not there is told.

use super::Recovery;
use crate::diagnostic::brief;
use crate::lex::{Kind, Token};
use crate::words::did_you_mean;
use crate::{Diagnostic, Span};

/// What is wanted next.
#[derive(Clone, Copy)]
pub(super) enum Want {
    /// A name; told as "the name of …".
    Name(&'static str),
    /// A dotted name.
    Path(&'static str),
    /// A word of the language.
    Word(&'static str),
    /// One of several words.
    OneOf(&'static str, &'static [&'static str]),
    /// `=` or `:`
    Sign(char),
    /// A string.
    Str(&'static str),
    /// A duration such as `5m`.
    Duration,
    /// A brace that holds SQL.
    Sql,
    /// A brace that holds settings, steps or rows.
    Block,
}

impl Want {
    fn told(self) -> String {
        match self {
            Want::Name(what) | Want::Path(what) | Want::OneOf(what, _) | Want::Str(what) => {
                format!("{what} is missing")
            }
            Want::Word(word) => format!("`{word}` is missing"),
            Want::Sign(sign) => format!("`{sign}` is missing"),
            Want::Duration => "a duration is missing".to_string(),
            Want::Sql | Want::Block => "a block in braces is missing".to_string(),
        }
    }
}

impl Recovery<'_> {
    /// Compares a piece with its form; returns what is wrong, or nothing if the form is there and ends with the piece.
    ///
    /// The first token is the word that chose the form.
    pub(super) fn compare(&self, piece: &[Token], wants: &[Want], shape: &str) -> Option<Diagnostic> {
        let mut at = 1;
        for want in wants {
            match self.want(piece, at, *want) {
                Ok(next) => at = next,
                Err(diagnostic) => {
                    let diagnostic = diagnostic.map_or_else(|| self.missing(piece, at, &want.told()), |boxed| *boxed);
                    return Some(if diagnostic.helps.is_empty() && diagnostic.code == "E0114" {
                        diagnostic.help(shape)
                    } else {
                        diagnostic
                    });
                }
            }
        }
        let extra = piece.get(at)?;
        Some(self.too_much(extra, piece).help(shape))
    }

    /// The index behind what is wanted, or the reason why it is not there (nothing where it simply is missing).
    fn want(&self, piece: &[Token], at: usize, want: Want) -> Result<usize, Option<Box<Diagnostic>>> {
        let token = piece.get(at).ok_or(None)?;
        let word = self.text_of(token);
        let found = match want {
            Want::Name(_) => token.kind == Kind::Word,
            Want::Path(_) if token.kind == Kind::Word => return Ok(path_end(piece, at)),
            Want::Word(wanted) => token.kind == Kind::Word && word == wanted,
            Want::OneOf(what, words) if token.kind == Kind::Word => {
                if words.contains(&word) {
                    return Ok(at + 1);
                }
                return Err(Some(Box::new(self.none_of(token, what, words))));
            }
            Want::Sign(sign) => token.is(sign),
            Want::Str(_) => token.kind == Kind::Str,
            Want::Duration => return self.wanted_duration(piece, at),
            Want::Sql => token.kind == Kind::Sql,
            Want::Block if token.is('{') => {
                let depth = token.depth;
                let close = piece[at + 1..].iter().position(|token| token.depth == depth && token.is('}'));
                return close.map(|n| at + n + 2).ok_or(None);
            }
            _ => false,
        };
        if found { Ok(at + 1) } else { Err(None) }
    }

    fn wanted_duration(&self, piece: &[Token], at: usize) -> Result<usize, Option<Box<Diagnostic>>> {
        let token = &piece[at];
        if token.kind != Kind::Number {
            return Err(None);
        }
        if super::value::is_duration(self.text_of(token)) {
            return Ok(at + 1);
        }
        let diagnostic = self.not_a_duration(token, piece.get(at + 1));
        Err(Some(Box::new(diagnostic)))
    }

    fn none_of(&self, token: &Token, what: &str, words: &[&str]) -> Diagnostic {
        let word = self.text_of(token);
        let near = did_you_mean(word, words.iter().copied());
        let told = near.map_or(String::new(), |near| format!("did you mean `{near}`?"));
        let mut diagnostic = Diagnostic::error("E0114", format!("`{}` is not {what}", brief(word)))
            .primary(self.file, token.span(), told)
            .note(format!("it is one of: {}", words.join(", ")));
        if let Some(near) = near {
            diagnostic = diagnostic.fix(self.file, token.span(), near);
        }
        diagnostic
    }

    /// Something is not there: told at what stands in its place, or behind the last token.
    pub(super) fn missing(&self, piece: &[Token], at: usize, what: &str) -> Diagnostic {
        let head = self.text_of(&piece[0]);
        let span = match piece.get(at) {
            Some(token) => token.span(),
            None => {
                let end = piece[piece.len() - 1].end;
                Span::new(end, end)
            }
        };
        Diagnostic::error("E0114", format!("this `{}` is not complete", brief(head))).primary(self.file, span, what)
    }

    pub(super) fn too_much(&self, extra: &Token, piece: &[Token]) -> Diagnostic {
        let last = piece[piece.len() - 1];
        if extra.is(';') || last.is(';') {
            let sign = if extra.is(';') { *extra } else { last };
            return Diagnostic::error("E0115", "there are no semicolons")
                .primary(self.file, sign.span(), "take it out")
                .fix(self.file, sign.span(), "");
        }
        let head = self.text_of(&piece[0]);
        let message = format!("`{}` does not belong to this `{}`", brief(self.text_of(extra)), brief(head));
        Diagnostic::error("E0114", message).primary(self.file, extra.span(), "")
    }
}

/// The index behind a dotted name.
pub(super) fn path_end(piece: &[Token], at: usize) -> usize {
    let mut at = at + 1;
    while piece.get(at).is_some_and(|token| token.is('.'))
        && piece.get(at + 1).is_some_and(|token| token.kind == Kind::Word || token.is('*'))
    {
        at += 2;
    }
    at
}
