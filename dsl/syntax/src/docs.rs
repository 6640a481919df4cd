//! Doc comments: `##` lines belong to the block that begins on the next line.

use std::collections::HashMap;

use crate::ast::{File, Item};
use crate::lex::{Token, Tokens};
use crate::{Diagnostic, FileId, LineIndex, Span};

/// Whether a comment is a doc line. A ruler of three or more signs is not.
pub(crate) fn is_doc(comment: &str) -> bool {
    comment.starts_with("##") && !comment.starts_with("###")
}

/// Hands the doc comments of a file to its blocks and warns of those that belong to none.
///
/// Where the file has errors, a comment above something that did not parse is not warned of.
pub(crate) fn attach(text: &str, file: &mut File, tokens: &Tokens, id: FileId, has_errors: bool) -> Vec<Diagnostic> {
    let lines = LineIndex::new(text);
    let mut blocks: HashMap<usize, &mut Option<String>> = HashMap::new();
    for item in &mut file.items {
        let start = item.span().start as usize;
        if let Item::Pipeline(pipeline) = item {
            for stage in &mut pipeline.stages {
                blocks.insert(stage.span().start as usize, stage.doc_mut());
            }
            blocks.insert(start, &mut pipeline.doc);
        } else {
            blocks.insert(start, item.doc_mut());
        }
    }
    let mut warnings = Vec::new();
    let mut group: Vec<&Token> = Vec::new();
    let docs = tokens.comments.iter();
    for comment in docs.filter(|comment| is_doc(comment.text(text))) {
        if !comment.first {
            warnings.push(stray(id, comment));
            continue;
        }
        let follows = group.last().is_some_and(|last| lines.line(last.start) + 1 == lines.line(comment.start));
        if !follows {
            group.clear();
        }
        group.push(comment);
        let next_line = lines.line(comment.start) + 1;
        let next_comment = tokens.comments.partition_point(|other| other.start <= comment.start);
        let goes_on = tokens
            .comments
            .get(next_comment)
            .is_some_and(|next| next.first && lines.line(next.start) == next_line && is_doc(next.text(text)));
        if goes_on {
            continue;
        }
        let behind = tokens.list.partition_point(|token| token.start < comment.end);
        let below = tokens.list.get(behind);
        let below = below.filter(|token| lines.line(token.start) == next_line);
        match below.and_then(|token| blocks.get_mut(&token.start)) {
            Some(doc) => **doc = Some(joined(text, &group)),
            None if has_errors && below.is_some() => {}
            None => warnings.extend(group.iter().map(|comment| stray(id, comment))),
        }
        group.clear();
    }
    warnings
}

fn joined(text: &str, group: &[&Token]) -> String {
    let line = |comment: &&Token| {
        let line = &comment.text(text)[2..];
        line.strip_prefix(' ').unwrap_or(line)
    };
    group.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn stray(file: FileId, comment: &Token) -> Diagnostic {
    let sign = Span::new(comment.start, comment.start + 2);
    Diagnostic::warning("W0106", "this doc comment describes nothing")
        .primary(file, comment.span(), "no block begins on the next line")
        .note("a `##` comment stands right above the definition or stage it describes")
        .help("write a plain comment with one `#`")
        .fix(file, sign, "#")
}
