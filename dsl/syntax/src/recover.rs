//! What is done when the whole-file parse fails: the text is cut into definitions, a bad pipeline into stages, a bad
//! stage into steps or settings; each piece is parsed alone, each bad one explained. The bad pieces are then blanked
//! out and the definition around them is parsed again, so that what is good of it stays.

use std::ops::Range;

use crate::ast::File;
use crate::grammar::{self, Rule};
use crate::lex::{Kind, MISTAKES_MAX, Mistake, Token, Tokens};
use crate::lower::Lower;
use crate::{Diagnostic, FileId};

mod explain;
mod header;
mod pieces;
mod value;
mod word;

use pieces::definitions;

/// Parses piece by piece; returns what is good, and all mistakes.
pub(crate) fn recover(text: &str, tokens: &Tokens, file: FileId) -> (File, Vec<Diagnostic>) {
    let mut recovery = Recovery { text, file, tokens, told: Vec::new(), silenced: Vec::new(), bad: Vec::new() };
    let mut tree = File::default();
    for piece in definitions(text, &tokens.list) {
        if recovery.told.len() >= MISTAKES_MAX {
            break;
        }
        tree.items.extend(recovery.definition(piece));
    }
    (tree, recovery.finish())
}

struct Recovery<'a> {
    text: &'a str,
    file: FileId,
    tokens: &'a Tokens,
    told: Vec<Diagnostic>,
    /// Stretches in which mistakes of the lexer that are soft are not told.
    silenced: Vec<Range<usize>>,
    /// Stretches of the current definition that did not parse.
    bad: Vec<Range<usize>>,
}

/// The bytes of a piece.
fn range(piece: &[Token]) -> Range<usize> {
    let start = piece.first().map_or(0, |token| token.start);
    start..piece.last().map_or(start, |token| token.end)
}

impl<'a> Recovery<'a> {
    fn finish(mut self) -> Vec<Diagnostic> {
        let silenced = |at: usize| self.silenced.iter().any(|range| range.contains(&at));
        for mistake in &self.tokens.mistakes {
            if !(mistake.soft && silenced(mistake.at)) {
                self.told.push(mistake.diagnostic.clone());
            }
        }
        if self.told.is_empty() {
            // The pieces are good and the whole is not; the pieces must have been cut in a wrong way.
            self.told.push(
                Diagnostic::error("E0100", "this file cannot be read")
                    .primary(self.file, crate::Span::new(0, 0), "")
                    .help("check its braces; every definition stands for itself"),
            );
        }
        self.told
    }

    /// Whether the lexer found something wrong in the range.
    fn has_mistake(&self, range: &Range<usize>) -> bool {
        !self.mistakes(range).is_empty()
    }

    /// Whether a bracket of the range has no partner.
    fn is_broken(&self, range: &Range<usize>) -> bool {
        let mut mistakes = self.mistakes(range).iter();
        mistakes.any(|mistake| mistake.diagnostic.code == "E0107")
    }

    /// What the lexer found wrong in the range.
    fn mistakes(&self, range: &Range<usize>) -> &'a [Mistake] {
        let all = &self.tokens.mistakes;
        let from = all.partition_point(|mistake| mistake.at < range.start);
        let to = all.partition_point(|mistake| mistake.at < range.end);
        &all[from..to]
    }

    /// Whether the piece parses by the rule.
    fn parses(&self, rule: Rule, piece: &[Token]) -> bool {
        let range = range(piece);
        !self.has_mistake(&range) && grammar::parse(rule, &self.text[range]).is_ok()
    }

    /// Marks a piece as bad, and tells why unless the lexer has.
    fn refuse(&mut self, piece: &[Token], diagnostic: impl FnOnce(&Self) -> Diagnostic) {
        let range = range(piece);
        if !self.has_mistake(&range) {
            let diagnostic = diagnostic(self);
            self.told.push(diagnostic);
        }
        self.bad.push(range);
    }

    /// Marks a piece as bad whose first word is wrong; small mistakes in it are not worth telling.
    fn refuse_word(&mut self, piece: &[Token], diagnostic: Diagnostic) {
        self.told.push(diagnostic);
        self.silenced.push(range(piece));
        self.bad.push(range(piece));
    }

    fn definition(&mut self, piece: &[Token]) -> Option<crate::ast::Item> {
        let whole = range(piece);
        if !self.has_mistake(&whole)
            && let Ok(pair) = grammar::parse(Rule::one_item, &self.text[whole.clone()])
        {
            return self.lower(whole.start, pair);
        }
        self.bad.clear();
        if self.is_broken(&whole) {
            // Where brackets do not match, everything else would be guessed.
            return None;
        }
        self.explain_definition(piece);
        let mut bad = std::mem::take(&mut self.bad);
        bad.retain(|range| range.start > whole.start);
        if bad.is_empty() {
            return None;
        }
        let text = blanked(&self.text[whole.clone()], whole.start, &bad);
        let pair = grammar::parse(Rule::one_item, &text).ok()?;
        self.lower(whole.start, pair)
    }

    fn lower(&self, base: usize, pair: pest::iterators::Pair<'_, Rule>) -> Option<crate::ast::Item> {
        let lower = Lower { base, tokens: &self.tokens.list };
        lower.item(pair.into_inner().next()?)
    }

    /// The words of a token.
    fn text_of(&self, token: &Token) -> &'a str {
        token.text(self.text)
    }

    fn is_word(&self, token: Option<&Token>, word: &str) -> bool {
        token.is_some_and(|token| token.kind == Kind::Word && self.text_of(token) == word)
    }
}

/// The text with every bad stretch replaced by blanks of the same length.
fn blanked(text: &str, base: usize, bad: &[Range<usize>]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for range in bad {
        bytes[range.start - base..range.end - base].fill(b' ');
    }
    // Only whole characters were replaced, because tokens hold whole characters.
    String::from_utf8(bytes).unwrap_or_default()
}
