//! The one style. There are no options.
//!
//! The tree is printed anew; comments are taken from the text by their place. A comment in a line of its own stays above
//! what it stood above, one behind something stays behind it, and one in the middle of something moves behind it.

use crate::ast::File;
use crate::lex::{self, Token};
use crate::{Diagnostic, FileId, Span, parse};

mod block;
mod item;
mod layout;
mod sql;
mod value;

use layout::{Entry, Leading};

/// Columns of a line; what is wider is written over several lines where that is possible.
const WIDTH_MAX: usize = 100;

/// Settings in one line.
const INLINE_SETTINGS_MAX: usize = 4;

/// Formats a file; its errors if it has any.
///
/// `parse(format(x))` is `parse(x)` but for places and the blanks of SQL, `format(format(x))` is `format(x)`, and no
/// comment is lost.
pub fn format(text: &str) -> Result<String, Vec<Diagnostic>> {
    let tokens = lex::lex(text, FileId::default());
    let comments = tokens.comments.clone();
    let (file, diagnostics) = parse::parse_tokens(text, tokens, FileId::default());
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Err(diagnostics);
    }
    let mut printer = Printer { text, comments: &comments, next: 0 };
    Ok(printer.file(&file))
}

struct Printer<'a> {
    text: &'a str,
    comments: &'a [Token],
    /// The first comment that is not printed yet.
    next: usize,
}

impl<'a> Printer<'a> {
    fn file(&mut self, file: &File) -> String {
        let mut entries = Vec::new();
        for item in &file.items {
            let entry = self.entry(item.span(), 0, |this| this.item(item));
            entries.push(entry);
        }
        let left = self.leading(self.text.len());
        layout::write(&entries, &left, 0, layout::Spacing::AroundBlocks)
    }

    fn source(&self, span: Span) -> &'a str {
        &self.text[span.range()]
    }

    /// Prints one thing of a block with the comments around it.
    fn entry(&mut self, span: Span, indent: usize, print: impl FnOnce(&mut Self) -> Entry) -> Entry {
        let leading = self.leading(span.start as usize);
        let mut entry = print(self);
        entry.blank_before = self.blank_before(leading.first().map_or(span.start as usize, |first| first.start));
        entry.indent = indent;
        entry.leading = leading;
        let mut behind = self.take(span.end as usize);
        behind.extend(self.trailing(span.end as usize));
        entry.add_comments(behind);
        entry
    }

    /// The comments before `end` that are not printed yet, each as a line of its own.
    fn leading(&mut self, end: usize) -> Vec<Leading> {
        let from = self.next;
        while self.comments.get(self.next).is_some_and(|comment| comment.start < end) {
            self.next += 1;
        }
        let lines = self.comments[from..self.next].iter().map(|comment| Leading {
            start: comment.start,
            blank_before: self.blank_before(comment.start),
            blank_behind: self.blank_behind(comment.end),
            text: comment.text(self.text).to_string(),
        });
        lines.collect()
    }

    /// The comments before `end` that are not printed yet, to be put behind something.
    fn take(&mut self, end: usize) -> Vec<String> {
        self.leading(end).into_iter().map(|line| line.text).collect()
    }

    /// The comment behind the last thing of a line, given where that thing ends; a comma may stand between.
    fn trailing(&mut self, end: usize) -> Option<String> {
        let comment = self.comments.get(self.next).filter(|comment| !comment.first)?;
        let between = self.text[end..comment.start].trim_matches(is_blank);
        if !matches!(between, "" | ",") {
            return None;
        }
        self.next += 1;
        Some(comment.text(self.text).to_string())
    }

    fn has_comment(&self, span: Span) -> bool {
        let from = self.comments.partition_point(|comment| comment.start < span.start as usize);
        self.comments.get(from).is_some_and(|comment| comment.start < span.end as usize)
    }

    fn blank_before(&self, at: usize) -> bool {
        let before = &self.text[..at];
        let blanks = &before[before.trim_end_matches(is_blank).len()..];
        blanks.matches('\n').count() > 1 && blanks.len() < before.len()
    }

    fn blank_behind(&self, at: usize) -> bool {
        let behind = &self.text[at..];
        let blanks = &behind[..behind.len() - behind.trim_start_matches(is_blank).len()];
        blanks.matches('\n').count() > 1
    }
}

fn is_blank(char: char) -> bool {
    matches!(char, ' ' | '\t' | '\r' | '\n' | '\u{feff}')
}

#[cfg(test)]
mod tests;
