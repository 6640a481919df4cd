//! Cuts tokens into pieces: definitions, stages, steps, settings.

use crate::lex::{Kind, Token};
use crate::words::{ITEM_WORDS, RULE_WORDS, STAGE_WORDS, STEP_WORDS};

/// Words that go on with what stands before them, wherever the line begins.
const GOING_ON: [&str; 15] =
    ["from", "by", "on", "of", "as", "to", "after", "else", "when", "within", "emit", "keep", "if", "exists", "empty"];

/// Cuts a file into definitions.
pub(super) fn definitions<'t>(text: &str, tokens: &'t [Token]) -> Vec<&'t [Token]> {
    cut(tokens, |before, token, after| {
        if token.depth > 0 {
            return false;
        }
        let Some(before) = before else { return true };
        // A block may have its brace on the next line.
        if before.depth == 0 && before.is('}') {
            return true;
        }
        let word = token.text(text);
        let goes_on = GOING_ON.contains(&word) || joins(before);
        let names = ITEM_WORDS.contains(&word) && after.is_some_and(|next| matches!(next.kind, Kind::Word | Kind::Str));
        token.kind == Kind::Word
            && (token.first && !goes_on || names && matches!(before.kind, Kind::Str | Kind::Close(_)))
    })
}

/// Cuts the inside of a pipeline, transform, lifecycle, route or test into its parts.
pub(super) fn parts<'t>(text: &str, tokens: &'t [Token]) -> Vec<&'t [Token]> {
    let depth = tokens.first().map_or(0, |token| token.depth);
    cut(tokens, |before, token, after| {
        if token.depth != depth {
            return false;
        }
        let Some(before) = before else { return true };
        if token.kind != Kind::Word || before.depth == depth && joins(before) {
            return false;
        }
        let word = token.text(text);
        let closed = matches!(before.kind, Kind::Close('}') | Kind::Sql) || before.is(';');
        let behind_join = matches!(before.text(text), "left" | "inner") && word == "join";
        let behind_word = GOING_ON.contains(&before.text(text)) && before.kind == Kind::Word;
        let going_on = GOING_ON.contains(&word) && !after.is_some_and(|next| next.is('='));
        if behind_join || behind_word || going_on {
            return false;
        }
        let known = STAGE_WORDS.contains(&word)
            || STEP_WORDS.contains(&word)
            || RULE_WORDS.contains(&word)
            || matches!(word, "given" | "then");
        let opens = after.is_some_and(|next| matches!(next.kind, Kind::Word | Kind::Sql | Kind::Open(_)));
        token.first || closed || before.is(',') || known && opens && before.kind != Kind::Word
    })
}

/// Cuts the inside of a settings block into settings, each with the comma behind it.
pub(super) fn settings(tokens: &[Token]) -> Vec<&[Token]> {
    let depth = tokens.first().map_or(0, |token| token.depth);
    cut(tokens, |before, token, after| {
        if token.depth != depth || token.is(',') || matches!(token.kind, Kind::Close(_)) {
            return false;
        }
        let Some(before) = before else { return true };
        if before.is(',') || before.is(';') {
            return true;
        }
        if token.kind != Kind::Word || joins(before) {
            return false;
        }
        let assigned = after.is_some_and(|next| next.is('='));
        token.first || assigned || matches!(before.kind, Kind::Str | Kind::Close(_) | Kind::Sql)
    })
}

/// Whether what follows belongs to the same piece.
fn joins(before: &Token) -> bool {
    before.is('=') || before.is(',') || before.is('.') || before.is(':')
}

fn cut(tokens: &[Token], begins: impl Fn(Option<&Token>, &Token, Option<&Token>) -> bool) -> Vec<&[Token]> {
    let mut pieces = Vec::new();
    let mut start = 0;
    for at in 1..tokens.len() {
        if begins(Some(&tokens[at - 1]), &tokens[at], tokens.get(at + 1)) {
            pieces.push(&tokens[start..at]);
            start = at;
        }
    }
    if start < tokens.len() {
        pieces.push(&tokens[start..]);
    }
    pieces
}

/// The tokens between the first opening brace of a piece and its partner: `(opening, inside, closing)` by index.
pub(super) fn block(piece: &[Token]) -> Option<(usize, usize)> {
    let depth = piece.first()?.depth;
    let open = piece.iter().position(|token| token.depth == depth && token.is('{'))?;
    let length = piece[open + 1..].iter().position(|token| token.depth == depth && token.is('}'))?;
    Some((open, open + 1 + length))
}
