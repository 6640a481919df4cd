//! The lines of text shown under a diagnostic, with carets, dashes and words.

use super::{Paint, Sources};
use crate::{Diagnostic, FileId, Label, LineColumn, Severity};

/// Columns of a line that are shown; of a longer line the part around its first label.
const LINE_COLUMNS_MAX: usize = 160;

/// Columns before the first label that are shown of a longer line.
const LEAD_COLUMNS: usize = 40;

/// Lines that are near each other in one file.
pub(super) struct Block<'a> {
    pub(super) file: FileId,
    /// The place of its first primary label, else of its first label.
    pub(super) place: LineColumn,
    /// Lines counted from 0, in order, each with its labels by column.
    lines: Vec<(usize, Vec<&'a Label>)>,
    concealed: bool,
}

/// Sorts the labels into blocks: neighbouring lines together, the primary place first.
pub(super) fn blocks<'a>(diagnostic: &'a Diagnostic, sources: &Sources<'_>) -> Vec<Block<'a>> {
    let mut labels: Vec<(&Label, LineColumn)> =
        diagnostic.labels.iter().map(|label| (label, sources.place(label.file, label.span.start))).collect();
    labels.sort_by_key(|(label, place)| (label.file, *place));
    let mut blocks: Vec<Block<'a>> = Vec::new();
    for (label, place) in labels {
        let line = place.line as usize - 1;
        let near = blocks.last_mut().filter(|block| {
            let last = block.lines.last().map_or(0, |(line, _)| *line);
            block.file == label.file && line <= last + 1
        });
        match near {
            Some(block) => match block.lines.last_mut() {
                Some((last, labels)) if *last == line => labels.push(label),
                _ => block.lines.push((line, vec![label])),
            },
            None => {
                let lines = vec![(line, vec![label])];
                blocks.push(Block { file: label.file, place, lines, concealed: diagnostic.concealed });
            }
        }
    }
    let primary = diagnostic.place().map(|label| (label.file, label.span));
    let holds_primary = |block: &Block<'_>| {
        let mut labels = block.lines.iter().flat_map(|(_, labels)| labels);
        labels.any(|label| Some((label.file, label.span)) == primary)
    };
    for block in &mut blocks {
        let mut labels = block.lines.iter().flat_map(|(_, labels)| labels);
        if let Some(label) = labels.find(|label| label.primary) {
            block.place = sources.place(label.file, label.span.start);
        }
    }
    blocks.sort_by_key(|block| !holds_primary(block));
    blocks
}

/// Puts a star in the place of each character between quotes.
fn starred(text: &str) -> String {
    let mut inside = false;
    let star = |character: char| {
        inside ^= character == '"';
        if inside && character != '"' { '*' } else { character }
    };
    text.chars().map(star).collect()
}

/// Digits of the greatest line number shown, and room for the corner sign of a file without lines.
pub(super) fn gutter_width(blocks: &[Block<'_>]) -> usize {
    let lines = blocks.iter().flat_map(|block| &block.lines);
    let greatest = lines.map(|(line, _)| line + 1).max().unwrap_or(0);
    greatest.to_string().len().max(2)
}

/// A line as it is shown: control signs replaced, cut to what fits.
struct Shown {
    text: String,
    /// Column of each character of the line's text; one more for its end.
    columns: Vec<usize>,
}

impl Shown {
    fn new(line: &str, first_char: usize) -> Self {
        let count = line.chars().count();
        let skipped = if count > LINE_COLUMNS_MAX { first_char.saturating_sub(LEAD_COLUMNS) } else { 0 };
        let mut text = String::new();
        let mut column = 0;
        let mut columns = vec![0; skipped];
        if skipped > 0 {
            text.push('…');
            column = 1;
        }
        let mut cut = false;
        for char in line.chars().skip(skipped) {
            columns.push(column);
            if column >= LINE_COLUMNS_MAX {
                cut = true;
                continue;
            }
            text.push(match char {
                '\t' | '\r' => ' ',
                char if char.is_control() => '\u{fffd}',
                char => char,
            });
            column += if is_wide(char) { 2 } else { 1 };
        }
        columns.push(column);
        if cut {
            text.push('…');
        }
        Self { text, columns }
    }

    fn column(&self, char: usize) -> usize {
        self.columns[char.min(self.columns.len() - 1)]
    }
}

/// Whether a terminal draws the character over two columns.
fn is_wide(char: char) -> bool {
    matches!(u32::from(char),
        0x1100..=0x115F | 0x2E80..=0xA4CF | 0xAC00..=0xD7A3 | 0xF900..=0xFAFF | 0xFE30..=0xFE6F
        | 0xFF00..=0xFF60 | 0xFFE0..=0xFFE6 | 0x1F300..=0x1FAFF | 0x20000..=0x3FFFD)
}

/// A label on its line: columns from and to.
struct Mark<'a> {
    from: usize,
    to: usize,
    label: &'a Label,
}

/// Draws the lines of a block.
pub(super) fn draw(
    block: &Block<'_>,
    sources: &Sources<'_>,
    severity: Severity,
    width: usize,
    paint: Paint,
    out: &mut String,
) {
    let Some(source) = sources.texts.get(&block.file) else {
        return;
    };
    let empty = paint.gutter(&format!("{:width$}│", ""));
    for (line, labels) in &block.lines {
        let text = source.line_text(*line);
        let starred = block.concealed.then(|| starred(text));
        let text = starred.as_deref().unwrap_or(text);
        let char_of = |offset: u32| {
            let place = source.line_column(offset as usize);
            match (place.line as usize - 1).cmp(line) {
                std::cmp::Ordering::Greater => text.chars().count(),
                _ => place.column as usize - 1,
            }
        };
        let first = labels.iter().map(|label| char_of(label.span.start)).min();
        let shown = Shown::new(text, first.unwrap_or(0));
        let mut marks: Vec<Mark<'_>> = labels
            .iter()
            .map(|label| {
                let from = shown.column(char_of(label.span.start));
                let to = shown.column(char_of(label.span.end)).max(from + 1);
                Mark { from, to, label }
            })
            .collect();
        marks.sort_by_key(|mark| (mark.from, mark.to));
        let number = paint.gutter(&format!("{:>width$}│", line + 1));
        out.push_str(&format!("{number} {}\n", shown.text.trim_end()));
        for row in rows_below(&marks, severity, paint) {
            out.push_str(&format!("{empty} {row}\n"));
        }
    }
}

/// The carets and dashes, the last label's words behind them, the other labels' words hung below.
fn rows_below(marks: &[Mark<'_>], severity: Severity, paint: Paint) -> Vec<String> {
    let end = marks.iter().map(|mark| mark.to).max().unwrap_or(0);
    let sign_at = |column: usize| {
        let over = |mark: &&Mark<'_>| mark.from <= column && column < mark.to;
        let over = marks.iter().filter(over).map(|mark| mark.label.primary);
        over.max_by_key(|primary| *primary)
    };
    let color = |primary: bool| if primary { paint.code(severity) } else { "34" };
    let mut signs = String::new();
    let mut column = 0;
    while column < end {
        let sign = sign_at(column);
        let run = (column..end).take_while(|at| sign_at(*at) == sign).count();
        match sign {
            None => signs.push_str(&" ".repeat(run)),
            Some(true) => signs.push_str(&paint.with(color(true), &"^".repeat(run))),
            Some(false) => signs.push_str(&paint.with(color(false), &"-".repeat(run))),
        }
        column += run;
    }
    let Some((last, others)) = marks.split_last() else {
        return Vec::new();
    };
    if !last.label.text.is_empty() {
        signs.push(' ');
        signs.push_str(&paint.with(color(last.label.primary), &last.label.text));
    }
    let mut rows = vec![signs];
    let hung: Vec<&Mark<'_>> = others.iter().filter(|mark| !mark.label.text.is_empty()).collect();
    if !hung.is_empty() {
        rows.push(bars(&hung, paint));
    }
    for (at, mark) in hung.iter().enumerate().rev() {
        let bars = bars(&hung[..at], paint);
        let used = hung[..at].last().map_or(0, |mark| mark.from + 1);
        let gap = " ".repeat(mark.from.saturating_sub(used));
        let words = paint.with(color(mark.label.primary), &mark.label.text);
        rows.push(format!("{bars}{gap}{words}"));
    }
    rows
}

fn bars(marks: &[&Mark<'_>], paint: Paint) -> String {
    let mut row = String::new();
    let mut column = 0;
    for mark in marks.iter().filter(|mark| !mark.label.text.is_empty()) {
        if mark.from < column {
            continue;
        }
        row.push_str(&" ".repeat(mark.from - column));
        row.push_str(&paint.gutter("│"));
        column = mark.from + 1;
    }
    row
}
