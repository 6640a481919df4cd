//! The brace of a step that holds settings instead of SQL.

use crate::ast::{File, Item, Sql, Stage, StepKind};
use crate::lex::{SqlPart, SqlParts};
use crate::{Diagnostic, FileId};

/// Tells of steps whose brace holds `a = b, c = d`.
///
/// In a condition a comma outside of brackets is never SQL; in a `derive` every item would need an `as`. A single
/// `a = b` is a comparison and is left alone.
pub(crate) fn check(file: &File, id: FileId, diagnostics: &mut Vec<Diagnostic>) {
    let pipelines = file.items.iter().filter_map(|item| match item {
        Item::Pipeline(pipeline) => Some(pipeline),
        _ => None,
    });
    let transforms = pipelines.flat_map(|pipeline| &pipeline.stages).filter_map(|stage| match stage {
        Stage::Transform(transform) => Some(transform),
        _ => None,
    });
    for step in transforms.flat_map(|transform| &transform.steps) {
        let sql = match &step.kind {
            StepKind::Where(sql) | StepKind::Derive(sql) => sql,
            StepKind::Expect(expect) => &expect.condition,
            _ => continue,
        };
        if holds_settings(&sql.text) {
            diagnostics.push(told(id, step.kind.word(), sql));
        }
    }
}

fn told(id: FileId, word: &str, sql: &Sql) -> Diagnostic {
    let help = match word {
        "derive" => "a column is computed by `derive { expression as name }`",
        _ => "conditions are joined by `and`",
    };
    Diagnostic::error("E0110", format!("this brace of `{word}` holds SQL, not settings"))
        .primary(id, sql.span, "`name = value` is a setting")
        .note("settings go in the braces of the source or the sink")
        .help(help)
}

/// Whether the text is `name = value, name = value`, at least two of them and nothing else.
fn holds_settings(sql: &str) -> bool {
    let (mut depth, mut items) = (0_usize, 0);
    let mut item: Vec<&str> = Vec::new();
    for (part, start, end) in SqlParts::new(sql, 0) {
        let word = &sql[start..end];
        match (part, word) {
            (SqlPart::Blank | SqlPart::Line | SqlPart::Block, _) => continue,
            (SqlPart::Plain, "(" | "[" | "{") => depth += 1,
            (SqlPart::Plain, ")" | "]" | "}") => depth = depth.saturating_sub(1),
            (SqlPart::Plain, ",") if depth == 0 => {
                if !is_setting(&item) {
                    return false;
                }
                items += 1;
                item.clear();
                continue;
            }
            (SqlPart::Plain, word) if word.eq_ignore_ascii_case("as") && depth == 0 => {
                return false;
            }
            _ => {}
        }
        if item.len() < 3 {
            item.push(word);
        }
    }
    items >= 1 && (item.is_empty() && items >= 2 || is_setting(&item))
}

fn is_setting(item: &[&str]) -> bool {
    match item {
        [name, "=", value] => name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && *value != "=",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::holds_settings;

    #[test]
    fn settings_are_told_from_sql() {
        for sql in ["a = b, c = d", " a = 1,\n b = f(x, y),\n", "topic = \"a\", format = json"] {
            assert!(holds_settings(sql), "{sql}");
        }
        for sql in
            ["a = b", "", "a = b and c = d", "(a, b) = (c, d)", "a = b as c, d = e as f", "x in (a, b)", "a = b, c"]
        {
            assert!(!holds_settings(sql), "{sql}");
        }
    }
}
