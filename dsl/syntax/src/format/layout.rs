//! Entries of a block become lines: blank lines, alignment, trailing comments.

/// A comment in a line of its own.
pub(super) struct Leading {
    pub(super) start: usize,
    pub(super) blank_before: bool,
    pub(super) blank_behind: bool,
    pub(super) text: String,
}

/// Where the parts of a one-line entry are aligned, in the order in which they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Column {
    Head,
    Equals,
    From,
    After,
    When,
    Brace,
    Else,
}

const COLUMNS: [Column; 6] = [Column::Equals, Column::From, Column::After, Column::When, Column::Brace, Column::Else];

/// What an entry is aligned with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Nothing.
    Alone,
    /// Other settings, over blocks of several lines too.
    Setting,
    /// Neighbours of one line with the same word.
    Word(&'static str),
}

/// A line behind the first one of an entry.
pub(super) struct Line {
    pub(super) indent: usize,
    pub(super) text: String,
    pub(super) comment: Option<String>,
}

/// One thing of a block.
pub(super) struct Entry {
    pub(super) blank_before: bool,
    pub(super) leading: Vec<Leading>,
    pub(super) indent: usize,
    pub(super) class: Class,
    /// The first line, in parts.
    pub(super) parts: Vec<(Column, String)>,
    pub(super) comment: Option<String>,
    /// The other lines.
    pub(super) rest: Vec<Line>,
}

impl Entry {
    pub(super) fn new(class: Class, parts: Vec<(Column, String)>) -> Self {
        Self { blank_before: false, leading: Vec::new(), indent: 0, class, parts, comment: None, rest: Vec::new() }
    }

    pub(super) fn line(text: impl Into<String>) -> Self {
        Self::new(Class::Alone, vec![(Column::Head, text.into())])
    }

    /// Columns of the first line as if it stood alone.
    pub(super) fn width(&self) -> usize {
        let parts = self.parts.iter().filter(|(_, text)| !text.is_empty());
        let columns: usize = parts.map(|(_, text)| text.chars().count() + 1).sum();
        columns.saturating_sub(1)
    }

    /// Puts text at the end of the first line.
    pub(super) fn append(&mut self, text: &str) {
        if let Some((_, last)) = self.parts.last_mut() {
            if !last.is_empty() && !text.is_empty() {
                last.push(' ');
            }
            last.push_str(text);
        }
    }

    /// Puts comments behind the last line; several become one.
    pub(super) fn add_comments(&mut self, comments: Vec<String>) {
        let place = match self.rest.last_mut() {
            Some(line) => &mut line.comment,
            None => &mut self.comment,
        };
        let all: Vec<String> = place.take().into_iter().chain(comments).collect();
        *place = (!all.is_empty()).then(|| all.join(" "));
    }
}

/// Which blank lines are put between entries besides those that are there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Spacing {
    AsWritten,
    /// One around entries of several lines.
    AroundBlocks,
}

/// Writes the entries of a file.
pub(super) fn write(entries: &[Entry], left: &[Leading], indent: usize, spacing: Spacing) -> String {
    let mut out = String::new();
    for line in align_comments(lines(entries, left, indent, spacing)) {
        if !line.text.is_empty() {
            out.push_str(&" ".repeat(line.indent));
            out.push_str(&line.text);
        }
        out.push('\n');
    }
    out
}

/// The lines of a block's entries, `=` and braces aligned, trailing comments not yet.
pub(super) fn lines(entries: &[Entry], left: &[Leading], indent: usize, spacing: Spacing) -> Vec<Line> {
    let first_lines = align(entries);
    let mut out: Vec<Line> = Vec::new();
    let blank = |out: &mut Vec<Line>| {
        if out.last().is_some_and(|line| !line.text.is_empty()) {
            out.push(plain(0, String::new()));
        }
    };
    for (at, (entry, first)) in entries.iter().zip(first_lines).enumerate() {
        let several = |entry: &Entry| !entry.rest.is_empty();
        let around = spacing == Spacing::AroundBlocks && at > 0 && (several(entry) || several(&entries[at - 1]));
        if entry.blank_before && at > 0 || around {
            blank(&mut out);
        }
        for (n, comment) in entry.leading.iter().enumerate() {
            if n > 0 && comment.blank_before {
                blank(&mut out);
            }
            out.push(plain(entry.indent, comment.text.clone()));
        }
        if entry.leading.last().is_some_and(|last| last.blank_behind) {
            blank(&mut out);
        }
        out.push(Line { indent: entry.indent, text: first, comment: entry.comment.clone() });
        out.extend(entry.rest.iter().map(|line| Line {
            indent: line.indent,
            text: line.text.clone(),
            comment: line.comment.clone(),
        }));
    }
    for comment in left {
        if comment.blank_before {
            blank(&mut out);
        }
        out.push(plain(indent, comment.text.clone()));
    }
    out
}

fn plain(indent: usize, text: String) -> Line {
    Line { indent, text, comment: None }
}

/// The first line of each entry, aligned with its neighbours.
fn align(entries: &[Entry]) -> Vec<String> {
    let mut out = Vec::new();
    let mut from = 0;
    while from < entries.len() {
        let class = entries[from].class;
        let several = |entry: &Entry| class != Class::Setting && !entry.rest.is_empty();
        let mut to = from + 1;
        let alone = class == Class::Alone || several(&entries[from]);
        while !alone && to < entries.len() {
            let next = &entries[to];
            let commented = class != Class::Setting && !next.leading.is_empty();
            let gap = next.leading.iter().any(|line| line.blank_before || line.blank_behind);
            if next.class != class || next.blank_before || gap || commented || several(next) {
                break;
            }
            to += 1;
        }
        out.extend(align_run(&entries[from..to]));
        from = to;
    }
    out
}

fn align_run(run: &[Entry]) -> Vec<String> {
    let part = |entry: &Entry, column: Column| {
        let found = entry.parts.iter().find(|(of, _)| *of == column);
        found.map(|(_, text)| text.clone()).filter(|text| !text.is_empty())
    };
    let mut lines: Vec<String> = run.iter().map(|entry| part(entry, Column::Head).unwrap_or_default()).collect();
    for column in COLUMNS {
        let texts: Vec<Option<String>> = run.iter().map(|entry| part(entry, column)).collect();
        let widths = lines.iter().zip(&texts).filter(|(_, text)| text.is_some());
        let width = widths.map(|(line, _)| line.chars().count()).max().unwrap_or(0);
        for (line, text) in lines.iter_mut().zip(texts) {
            if let Some(text) = text {
                let gap = width - line.chars().count() + 1;
                line.push_str(&" ".repeat(gap));
                line.push_str(&text);
            }
        }
    }
    lines
}

/// Puts trailing comments three blanks behind the longest line of their run.
fn align_comments(mut lines: Vec<Line>) -> Vec<Line> {
    let mut from = 0;
    while from < lines.len() {
        let run = lines[from..].iter().take_while(|line| line.comment.is_some()).count();
        let width = |line: &Line| line.indent + line.text.chars().count();
        let widest = lines[from..from + run].iter().map(width).max().unwrap_or(0);
        for line in &mut lines[from..from + run] {
            let gap = widest - width(line) + 3;
            if let Some(comment) = line.comment.take() {
                line.text.push_str(&" ".repeat(gap));
                line.text.push_str(&comment);
            }
        }
        from += run.max(1);
    }
    lines
}
