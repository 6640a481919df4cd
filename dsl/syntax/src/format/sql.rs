//! SQL islands: as written, but for the blanks at line beginnings and before `as` in lists.

use crate::ast::Sql;
use crate::lex::{SqlPart, SqlParts};

/// A line of an island.
struct SqlLine {
    text: String,
    /// Whether the line begins within a quoted text or a comment, and must not be moved.
    fixed: bool,
}

/// How an island is written.
pub(super) enum Island {
    /// `{ … }`
    OneLine(String),
    /// The lines between the braces; each with whether it must stay where it is.
    Lines(Vec<(String, bool)>),
}

/// Prepares an island; `is_list` says that it is a list of `expression as name`.
pub(super) fn island(sql: &Sql, is_list: bool) -> Island {
    if !sql.text.contains('\n') {
        let text = sql.text.trim();
        let text = if text.is_empty() { "{ }".to_string() } else { format!("{{ {text} }}") };
        return Island::OneLine(text);
    }
    let mut lines = dedented(split(&sql.text));
    if is_list {
        align_as(&mut lines);
    }
    Island::Lines(lines.into_iter().map(|line| (line.text, line.fixed)).collect())
}

/// Cuts at line ends that are not quoted.
fn split(text: &str) -> Vec<SqlLine> {
    let mut lines = vec![SqlLine { text: String::new(), fixed: false }];
    for (part, start, end) in SqlParts::new(text, 0) {
        let piece = &text[start..end];
        let quoted = matches!(part, SqlPart::Quoted | SqlPart::Block);
        for (n, row) in piece.split('\n').enumerate() {
            if n > 0 {
                lines.push(SqlLine { text: String::new(), fixed: quoted });
            }
            if let Some(line) = lines.last_mut() {
                line.text.push_str(row);
            }
        }
    }
    for at in 0..lines.len() {
        let goes_on = lines.get(at + 1).is_some_and(|next| next.fixed);
        if !goes_on {
            let line = &mut lines[at].text;
            line.truncate(line.trim_end().len());
        }
    }
    lines
}

/// Takes away empty lines at both ends and the blanks that all lines begin with.
fn dedented(mut lines: Vec<SqlLine>) -> Vec<SqlLine> {
    let is_empty = |line: &SqlLine| line.text.is_empty() && !line.fixed;
    while lines.last().is_some_and(is_empty) {
        lines.pop();
    }
    let blanks = |line: &SqlLine| line.text.len() - line.text.trim_start_matches([' ', '\t']).len();
    // What stands in the line of the opening brace has no indentation of its own.
    let opening = lines.first().is_some_and(|line| !is_empty(line));
    let below = lines.iter().skip(usize::from(opening));
    let own = below.filter(|line| !line.fixed && !line.text.is_empty());
    let common = own.map(blanks).min().unwrap_or(0);
    for (n, line) in lines.iter_mut().enumerate().filter(|(_, line)| !line.fixed) {
        let cut = if n == 0 && opening { blanks(line) } else { common };
        line.text.drain(..cut.min(line.text.len()));
    }
    let first = lines.iter().position(|line| !is_empty(line)).unwrap_or(lines.len());
    lines.drain(..first);
    lines
}

/// Aligns `as` over the lines that are one item each.
fn align_as(lines: &mut [SqlLine]) {
    let mut depth = 0_usize;
    let mut item_begins = true;
    let mut places = Vec::new();
    for at in 0..lines.len() {
        let fixed = lines[at].fixed || lines.get(at + 1).is_some_and(|next| next.fixed);
        let (place, ends) = scan(&lines[at].text, &mut depth);
        let single = item_begins && depth == 0 && (ends || at + 1 == lines.len());
        if let Some(place) = place.filter(|_| single && !fixed) {
            places.push((at, place));
        }
        if !lines[at].text.is_empty() {
            item_begins = ends && depth == 0;
        }
    }
    let before = |text: &str, place: usize| text[..place].trim_end().to_string();
    let widths = places.iter().map(|(at, place)| before(&lines[*at].text, *place).chars().count());
    let width = widths.max().unwrap_or(0);
    for (at, place) in places {
        let line = &mut lines[at].text;
        let head = before(line, place);
        let gap = " ".repeat(width - head.chars().count() + 1);
        *line = format!("{head}{gap}{}", &line[place..]);
    }
}

/// The only `as` outside of brackets that has a blank before it and one word behind it, and whether the line ends with
/// a comma.
fn scan(text: &str, depth: &mut usize) -> (Option<usize>, bool) {
    let (mut found, mut words_behind, mut clean) = (None, 0, true);
    let (mut ends, mut blank) = (false, false);
    for (part, start, end) in SqlParts::new(text, 0) {
        let word = &text[start..end];
        match part {
            SqlPart::Blank => {
                blank = true;
                continue;
            }
            SqlPart::Line | SqlPart::Block | SqlPart::Open => clean = false,
            SqlPart::Plain if blank && word.eq_ignore_ascii_case("as") && *depth == 0 => {
                clean &= found.is_none();
                found = Some(start);
                words_behind = 0;
            }
            SqlPart::Plain if matches!(word, "(" | "[") => *depth += 1,
            SqlPart::Plain if matches!(word, ")" | "]") => *depth = depth.saturating_sub(1),
            SqlPart::Plain if word == "," && *depth == 0 => {
                clean &= !ends;
                ends = true;
                continue;
            }
            _ => {
                words_behind += 1;
            }
        }
        blank = false;
        // Something behind a comma: more than one item in the line.
        clean &= !ends;
        ends = false;
    }
    (found.filter(|_| clean && words_behind == 1), ends)
}
