//! Settings and values.

use super::layout::{self, Class, Column, Entry, Line, Spacing};
use super::{INLINE_SETTINGS_MAX, Printer, WIDTH_MAX};
use crate::Span;
use crate::ast::*;

impl Printer<'_> {
    /// A value in one line.
    pub(super) fn inline(&self, value: &Value) -> String {
        match &value.kind {
            ValueKind::List(values) => format!("[{}]", self.inline_all(values)),
            ValueKind::Map(settings) => self.inline_settings(settings),
            ValueKind::Call(call) => self.inline_call(call),
            _ => self.source(value.span).to_string(),
        }
    }

    fn inline_all(&self, values: &[Value]) -> String {
        let values = values.iter().map(|value| self.inline(value));
        values.collect::<Vec<_>>().join(", ")
    }

    pub(super) fn inline_call(&self, call: &Call) -> String {
        format!("{}({})", call.name.text, self.inline_all(&call.args))
    }

    pub(super) fn inline_setting(&self, setting: &Setting) -> String {
        format!("{} = {}", setting.name.text, self.inline(&setting.value))
    }

    pub(super) fn inline_settings(&self, settings: &[Setting]) -> String {
        if settings.is_empty() {
            return "{ }".to_string();
        }
        let settings = settings.iter().map(|setting| self.inline_setting(setting));
        format!("{{ {} }}", settings.collect::<Vec<_>>().join(", "))
    }

    /// Whether settings may stand in one line: few, without comments, and written so.
    fn may_be_inline(&self, settings: &[Setting], span: Span) -> bool {
        let written_inline = settings.first().is_none_or(|first| {
            let gap = Span { start: span.start, end: first.span.start };
            !self.source(gap).contains('\n')
        });
        written_inline
            && settings.len() <= INLINE_SETTINGS_MAX
            && !self.has_comment(span)
            && settings.iter().all(|setting| self.value_may_be_inline(&setting.value))
    }

    fn value_may_be_inline(&self, value: &Value) -> bool {
        match &value.kind {
            ValueKind::Map(settings) => self.may_be_inline(settings, value.span),
            ValueKind::List(values) => values.iter().all(|value| self.value_may_be_inline(value)),
            ValueKind::Call(call) => call.args.iter().all(|value| self.value_may_be_inline(value)),
            _ => true,
        }
    }

    /// Adds a block of settings to the last part of an entry, in one line if it fits.
    pub(super) fn add_settings(&mut self, entry: &mut Entry, settings: &Settings, indent: usize) {
        self.add_setting_list(entry, &settings.list, settings.span, indent);
    }

    pub(super) fn add_setting_list(&mut self, entry: &mut Entry, settings: &[Setting], span: Span, indent: usize) {
        if self.may_be_inline(settings, span) {
            let text = self.inline_settings(settings);
            let width = indent + entry.width() + 1 + text.chars().count();
            if width <= WIDTH_MAX || settings.is_empty() {
                return entry.append(&text);
            }
        }
        entry.append("{");
        self.header_comments(entry, span.start as usize + 1);
        let mut entries = Vec::new();
        for setting in settings {
            let printed = self.entry(setting.span, indent + 2, |this| this.setting(setting, indent + 2));
            entries.push(printed);
        }
        self.close(entry, entries, span, indent, Spacing::AsWritten);
    }

    /// Puts the comment behind an opening brace, and comments before it, into the line of the brace.
    pub(super) fn header_comments(&mut self, entry: &mut Entry, behind_brace: usize) {
        let mut comments = self.take(behind_brace);
        comments.extend(self.trailing(behind_brace));
        let all: Vec<String> = entry.comment.take().into_iter().chain(comments).collect();
        entry.comment = (!all.is_empty()).then(|| all.join(" "));
    }

    /// Adds the entries of a block and its closing brace.
    pub(super) fn close(
        &mut self,
        entry: &mut Entry,
        entries: Vec<Entry>,
        span: Span,
        indent: usize,
        spacing: Spacing,
    ) {
        let left = self.leading(span.end as usize - 1);
        entry.rest.extend(layout::lines(&entries, &left, indent + 2, spacing));
        entry.rest.push(Line { indent, text: "}".to_string(), comment: None });
    }

    pub(super) fn setting(&mut self, setting: &Setting, indent: usize) -> Entry {
        let name = (Column::Head, setting.name.text.clone());
        let mut entry = Entry::new(Class::Setting, vec![name, (Column::Equals, "=".to_string())]);
        if let ValueKind::Map(settings) = &setting.value.kind {
            self.add_setting_list(&mut entry, settings, setting.value.span, indent);
            return entry;
        }
        let text = self.inline(&setting.value);
        let width = indent + entry.width() + 1 + text.chars().count();
        match &setting.value.kind {
            ValueKind::List(values) if width > WIDTH_MAX && !values.is_empty() => {
                entry.append("[");
                for value in values {
                    let text = format!("{},", self.inline(value));
                    entry.rest.push(Line { indent: indent + 2, text, comment: None });
                }
                entry.rest.push(Line { indent, text: "]".to_string(), comment: None });
            }
            _ => entry.append(&text),
        }
        entry
    }
}
