//! Definitions.

use super::Printer;
use super::layout::{Class, Column, Entry, Line, Spacing};
use crate::Span;
use crate::ast::*;

impl Printer<'_> {
    pub(super) fn item(&mut self, item: &Item) -> Entry {
        match item {
            Item::Use(item) => Entry::line(format!("use {}", self.source(item.path.span))),
            Item::Var(item) => {
                let head = format!("var {}: {}", item.name.text, item.ty.word());
                match &item.default {
                    Some(value) => Entry::line(format!("{head} = {}", self.inline(value))),
                    None => Entry::line(head),
                }
            }
            Item::Secret(item) => Entry::new(
                Class::Word("secret"),
                vec![
                    (Column::Head, format!("secret {}", item.name.text)),
                    (Column::Equals, format!("= {}", self.inline_call(&item.from))),
                ],
            ),
            Item::Profile(item) => {
                let mut entry = Entry::line(format!("profile {}", item.name.text));
                self.add_settings(&mut entry, &item.settings, 0);
                entry
            }
            Item::Connection(item) => self.system("connection", &item.name, &item.kind, item.settings.as_ref()),
            Item::Catalog(item) => self.system("catalog", &item.name, &item.kind, item.settings.as_ref()),
            Item::Lifecycle(item) => self.lifecycle(item),
            Item::Pipeline(item) => self.pipeline(item),
            Item::Test(item) => self.test(item),
        }
    }

    fn system(&mut self, word: &str, name: &Name, kind: &Name, settings: Option<&Settings>) -> Entry {
        let mut entry = Entry::line(format!("{word} {} {}", name.text, kind.text));
        if let Some(settings) = settings {
            self.add_settings(&mut entry, settings, 0);
        }
        entry
    }

    /// The place of the opening brace of a block whose header ends at `from`.
    pub(super) fn brace_behind(&self, from: u32) -> u32 {
        let mut at = from as usize;
        let bytes = self.text.as_bytes();
        while at < bytes.len() && bytes[at] != b'{' {
            if bytes[at] == b'#' {
                let line = &self.text[at..];
                at += line.find('\n').unwrap_or(line.len());
            } else {
                at += 1;
            }
        }
        u32::try_from(at).unwrap_or(from)
    }

    /// Opens a block: the brace, the comments in its line, and the place of its braces.
    pub(super) fn open(&mut self, entry: &mut Entry, header_end: u32, end: u32) -> Span {
        let start = self.brace_behind(header_end);
        entry.append("{");
        self.header_comments(entry, start as usize + 1);
        Span { start, end }
    }

    fn lifecycle(&mut self, item: &Lifecycle) -> Entry {
        let mut entry = Entry::line(format!("lifecycle {}", item.name.text));
        let span = self.open(&mut entry, item.name.span.end, item.span.end);
        let mut entries = Vec::new();
        for rule in &item.rules {
            entries.push(self.entry(rule.span(), 2, |this| this.age_rule(rule)));
        }
        self.close(&mut entry, entries, span, 0, Spacing::AsWritten);
        entry
    }

    fn age_rule(&mut self, rule: &Rule) -> Entry {
        let (class, head, after, settings) = match rule {
            Rule::Transition { class, after, settings, .. } => {
                ("transition", format!("transition to {}", class.text), Some(after), settings.as_ref())
            }
            Rule::Expire { after, .. } => ("expire", "expire".to_string(), Some(after), None),
            Rule::Vacuum { after, .. } => ("vacuum", "vacuum".to_string(), Some(after), None),
            Rule::Replicate { to, settings, .. } => {
                ("replicate", format!("replicate to {to}"), None, settings.as_ref())
            }
        };
        let mut parts = vec![(Column::Head, head)];
        parts.extend(after.map(|after| (Column::After, format!("after {}", after.text))));
        let mut entry = Entry::new(Class::Word(class), parts);
        if let Some(settings) = settings {
            entry.parts.push((Column::Brace, String::new()));
            self.add_settings(&mut entry, settings, 2);
        }
        entry
    }

    fn pipeline(&mut self, item: &Pipeline) -> Entry {
        let mut entry = Entry::line(format!("pipeline {}", item.name.text));
        let span = self.open(&mut entry, item.name.span.end, item.span.end);
        let mut entries = Vec::new();
        for setting in &item.settings {
            entries.push(self.entry(setting.span, 2, |this| this.setting(setting, 2)));
        }
        for stage in &item.stages {
            entries.push(self.entry(stage.span(), 2, |this| this.stage(stage)));
        }
        self.close(&mut entry, entries, span, 0, Spacing::AroundBlocks);
        entry
    }

    fn test(&mut self, item: &Test) -> Entry {
        let title = self.source(item.title.span);
        let mut entry = Entry::line(format!("test {title} of {}", item.pipeline.text));
        let span = self.open(&mut entry, item.pipeline.span.end, item.span.end);
        let mut entries: Vec<(Span, Entry)> = Vec::new();
        let mut settings = item.settings.iter().peekable();
        let mut tables = item.tables.iter().peekable();
        loop {
            let before = |setting: &&&Setting| tables.peek().is_none_or(|table| setting.span.start < table.span.start);
            if let Some(setting) = settings.peek().filter(before).copied() {
                settings.next();
                let printed = self.entry(setting.span, 2, |this| this.setting(setting, 2));
                entries.push((setting.span, printed));
            } else if let Some(table) = tables.next() {
                let printed = self.entry(table.span, 2, |this| this.table(table));
                entries.push((table.span, printed));
            } else {
                break;
            }
        }
        let entries = entries.into_iter().map(|(_, entry)| entry).collect();
        self.close(&mut entry, entries, span, 0, Spacing::AsWritten);
        entry
    }

    fn table(&mut self, table: &TestTable) -> Entry {
        let word = match table.role {
            TestRole::Given => "given",
            TestRole::Then => "then",
        };
        let mut entry = Entry::line(format!("{word} {}", table.node));
        match &table.rows {
            TestRows::Empty => entry.append("empty"),
            TestRows::File(path) => entry.append(&format!("= {}", self.source(path.span))),
            TestRows::Table { header, rows } => {
                let span = self.open(&mut entry, table.node.span.end, table.span.end);
                let widths = self.widths(header, rows);
                let mut entries = Vec::new();
                for row in std::iter::once(header).chain(rows) {
                    let line = Entry::line(self.row(row, &widths));
                    entries.push(self.entry(row.span, 4, |_| line));
                }
                self.close(&mut entry, entries, span, 2, Spacing::AsWritten);
            }
        }
        entry
    }

    fn widths(&self, header: &TableRow, rows: &[TableRow]) -> Vec<usize> {
        let mut widths = vec![0; header.cells.len()];
        for row in std::iter::once(header).chain(rows) {
            for (width, cell) in widths.iter_mut().zip(&row.cells) {
                *width = (*width).max(self.source(cell.span).chars().count());
            }
        }
        widths
    }

    fn row(&self, row: &TableRow, widths: &[usize]) -> String {
        let mut line = "|".to_string();
        for (cell, width) in row.cells.iter().zip(widths) {
            line.push_str(&format!(" {:width$} |", self.source(cell.span)));
        }
        line
    }

    /// A line of its own within an entry.
    pub(super) fn line(indent: usize, text: impl Into<String>) -> Line {
        Line { indent, text: text.into(), comment: None }
    }
}
