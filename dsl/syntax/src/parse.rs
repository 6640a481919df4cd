//! From text to tree and diagnostics.

use crate::ast::{File, Item, TestRows};
use crate::grammar::{self, Rule};
use crate::lex::{self, MISTAKES_MAX, Tokens};
use crate::lower::Lower;
use crate::{Diagnostic, FileId, docs, islands, recover};

/// Parses one file whose diagnostics carry `FileId(0)`.
///
/// All mistakes are told, ordered by place; what parsed well is in the tree. Never panics; a text that is too long or
/// nested too deep is refused with a diagnostic.
pub fn parse(text: &str) -> (File, Vec<Diagnostic>) {
    parse_file(text, FileId::default())
}

/// Parses one file of a [`crate::SourceMap`]; see [`parse`].
pub fn parse_file(text: &str, id: FileId) -> (File, Vec<Diagnostic>) {
    parse_tokens(text, lex::lex(text, id), id)
}

/// Parses a text that is already cut into tokens.
pub(crate) fn parse_tokens(text: &str, tokens: Tokens, id: FileId) -> (File, Vec<Diagnostic>) {
    if tokens.fatal {
        return (File::default(), ordered(diagnostics_of(tokens)));
    }
    let (mut file, mut diagnostics) = match whole(text, &tokens) {
        Some(file) => (file, Vec::new()),
        None => recover::recover(text, &tokens, id),
    };
    let has_errors = !diagnostics.is_empty();
    diagnostics.extend(docs::attach(text, &mut file, &tokens, id, has_errors));
    check_tables(&file, id, &mut diagnostics);
    islands::check(&file, id, &mut diagnostics);
    (file, ordered(diagnostics))
}

fn diagnostics_of(tokens: Tokens) -> Vec<Diagnostic> {
    let mistakes = tokens.mistakes.into_iter();
    mistakes.map(|mistake| mistake.diagnostic).collect()
}

fn ordered(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    diagnostics.sort_by_key(Diagnostic::order);
    if diagnostics.len() > MISTAKES_MAX {
        let last = diagnostics[MISTAKES_MAX].place().cloned();
        diagnostics.truncate(MISTAKES_MAX);
        let message = format!("this file has more than {MISTAKES_MAX} mistakes");
        let mut end = Diagnostic::error("E0111", message)
            .note("nothing behind this place is told")
            .help("is this a pipeline file?");
        if let Some(label) = last {
            end = end.primary(label.file, label.span, "");
        }
        diagnostics.push(end);
    }
    diagnostics
}

/// The tree of a file without mistakes.
fn whole(text: &str, tokens: &Tokens) -> Option<File> {
    if !tokens.mistakes.is_empty() {
        return None;
    }
    let pair = grammar::parse(Rule::file, text).ok()?;
    let lower = Lower { base: 0, tokens: &tokens.list };
    Some(lower.file(pair))
}

/// Rows must have as many cells as their header.
fn check_tables(file: &File, id: FileId, diagnostics: &mut Vec<Diagnostic>) {
    let tests = file.items.iter().filter_map(|item| match item {
        Item::Test(test) => Some(test),
        _ => None,
    });
    for table in tests.flat_map(|test| &test.tables) {
        let TestRows::Table { header, rows } = &table.rows else {
            continue;
        };
        let columns = header.cells.len();
        for row in rows.iter().filter(|row| row.cells.len() != columns) {
            let cells = row.cells.len();
            let message = format!("this row has {}, and the table {columns}", counted(cells));
            let cure = if cells < columns {
                "an empty cell is NULL: write a bar for each column"
            } else {
                "a bar within a cell is written `\\|`"
            };
            let diagnostic = Diagnostic::error("E0109", message)
                .primary(id, row.span, "")
                .secondary(id, header.span, counted(columns))
                .help(cure);
            diagnostics.push(diagnostic);
        }
    }
}

fn counted(cells: usize) -> String {
    let plural = if cells == 1 { "" } else { "s" };
    format!("{cells} cell{plural}")
}
