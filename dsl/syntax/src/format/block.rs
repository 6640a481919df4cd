//! Stages and steps.

use super::layout::{Class, Column, Entry, Spacing};
use super::sql::{Island, island};
use super::{Printer, WIDTH_MAX};
use crate::ast::*;

fn from_part(from: &[Path]) -> String {
    let nodes: Vec<String> = from.iter().map(ToString::to_string).collect();
    if nodes.is_empty() { String::new() } else { format!("from {}", nodes.join(", ")) }
}

impl Printer<'_> {
    pub(super) fn stage(&mut self, stage: &Stage) -> Entry {
        match stage {
            Stage::Trigger(stage) => {
                let mut entry = Entry::line("trigger");
                self.when(&mut entry, &stage.when);
                if let Some(settings) = &stage.settings {
                    let last = entry.rest.pop();
                    self.settings_behind(&mut entry, last, settings);
                }
                entry
            }
            Stage::Source(stage) => {
                let name = (stage.name.as_ref(), &stage.connection);
                self.node("source", name, &[], &stage.settings)
            }
            Stage::Sink(stage) => {
                let name = (stage.name.as_ref(), &stage.connection);
                self.node("sink", name, &stage.from, &stage.settings)
            }
            Stage::DeadLetter(stage) => self.node("dead_letter", (None, &stage.connection), &[], &stage.settings),
            Stage::Alert(stage) => self.node("alert", (None, &stage.connection), &[], &stage.settings),
            Stage::Retry(stage) => {
                let mut entry = Entry::line("retry");
                self.add_settings(&mut entry, &stage.settings, 2);
                entry
            }
            Stage::Transform(stage) => self.transform(stage),
            Stage::Route(stage) => self.route(stage),
        }
    }

    /// Settings behind an event's condition of several lines: `last` is its closing line.
    fn settings_behind(&mut self, entry: &mut Entry, last: Option<super::layout::Line>, settings: &Settings) {
        let Some(last) = last else {
            return self.add_settings(entry, settings, 2);
        };
        let mut tail = Entry::line(last.text);
        self.add_settings(&mut tail, settings, 2);
        let text = tail.parts.swap_remove(0).1;
        entry.rest.push(super::layout::Line { indent: 2, text, comment: tail.comment });
        entry.rest.extend(tail.rest);
    }

    fn when(&mut self, entry: &mut Entry, when: &When) {
        match when {
            When::Continuous => entry.append("continuous"),
            When::Manual => entry.append("manual"),
            When::Arrival => entry.append("arrival"),
            When::Cron(text) => entry.append(&format!("cron {}", self.source(text.span))),
            When::Every(duration) => entry.append(&format!("every {}", duration.text)),
            When::Event { pattern, when } => {
                entry.append(&format!("event {}", self.source(pattern.span)));
                if let Some(sql) = when {
                    entry.append("when");
                    Self::add_sql(entry, sql, 2, false);
                }
            }
            When::After { pipelines, outcome } => {
                let names: Vec<String> = pipelines.iter().map(ToString::to_string).collect();
                entry.append(&format!("after {}", names.join(", ")));
                entry.append(match outcome {
                    None => "",
                    Some(Outcome::Succeeded) => "succeeded",
                    Some(Outcome::Failed) => "failed",
                    Some(Outcome::Finished) => "finished",
                });
            }
        }
    }

    fn node(
        &mut self,
        word: &'static str,
        (name, connection): (Option<&Name>, &Name),
        from: &[Path],
        settings: &Settings,
    ) -> Entry {
        let head = match name {
            Some(name) => [format!("{word} {}", name.text), format!("= {}", connection.text)],
            None => [format!("{word} {}", connection.text), String::new()],
        };
        let [head, equals] = head;
        let parts = vec![
            (Column::Head, head),
            (Column::Equals, equals),
            (Column::From, from_part(from)),
            (Column::Brace, String::new()),
        ];
        let mut entry = Entry::new(Class::Word(word), parts);
        self.add_settings(&mut entry, settings, 2);
        entry
    }

    fn transform(&mut self, stage: &Transform) -> Entry {
        let mut entry = Entry::line("transform");
        let mut header_end = stage.span.start;
        if let Some(target) = &stage.target {
            entry.append(&target.to_string());
            header_end = target.span.end;
        }
        entry.append(&from_part(&stage.from));
        header_end = stage.from.last().map_or(header_end, |path| path.span.end);
        let span = self.open(&mut entry, header_end, stage.span.end);
        let mut entries = Vec::new();
        for step in &stage.steps {
            entries.push(self.entry(step.span, 4, |this| this.step(step)));
        }
        self.close(&mut entry, entries, span, 2, Spacing::AsWritten);
        entry
    }

    fn route(&mut self, stage: &Route) -> Entry {
        let mut entry = Entry::line("route");
        entry.append(&from_part(&stage.from));
        let header_end = stage.from.last().map_or(stage.span.start, |path| path.span.end);
        let span = self.open(&mut entry, header_end, stage.span.end);
        let mut entries = Vec::new();
        for branch in &stage.branches {
            let parts = vec![(Column::Head, branch.name.text.clone()), (Column::When, "when".to_string())];
            let mut line = Entry::new(Class::Word("when"), parts);
            Self::add_sql(&mut line, &branch.condition, 4, false);
            entries.push(self.entry(branch.span, 4, |_| line));
        }
        let last = Entry::line(format!("else {}", stage.otherwise.text));
        // The comments above `else` stand before the word, not before the name.
        let before = &self.text[..stage.otherwise.span.start as usize];
        let word = before.rfind("else").map_or(stage.otherwise.span, |start| crate::Span {
            start: u32::try_from(start).unwrap_or(u32::MAX),
            end: stage.otherwise.span.end,
        });
        entries.push(self.entry(word, 4, |_| last));
        self.close(&mut entry, entries, span, 2, Spacing::AsWritten);
        entry
    }

    /// Puts an island at the end of what is printed of an entry.
    fn add_sql(entry: &mut Entry, sql: &Sql, indent: usize, is_list: bool) {
        let append = |entry: &mut Entry, text: &str| match entry.rest.last_mut() {
            Some(line) => {
                line.text.push(' ');
                line.text.push_str(text);
            }
            None => entry.append(text),
        };
        match island(sql, is_list) {
            Island::OneLine(text) => append(entry, &text),
            Island::Lines(lines) => {
                append(entry, "{");
                entry.rest.extend(
                    lines
                        .into_iter()
                        .map(|(text, fixed)| Self::line(if fixed || text.is_empty() { 0 } else { indent + 2 }, text)),
                );
                entry.rest.push(Self::line(indent, "}"));
            }
        }
    }

    fn add_text(entry: &mut Entry, text: &str) {
        match entry.rest.last_mut() {
            Some(line) => {
                line.text.push(' ');
                line.text.push_str(text);
            }
            None => entry.append(text),
        }
    }

    fn step(&mut self, step: &Step) -> Entry {
        let word = step.kind.word();
        let brace = |head: &str, class: &'static str| {
            let parts = vec![(Column::Head, head.to_string()), (Column::Brace, String::new())];
            Entry::new(Class::Word(class), parts)
        };
        match &step.kind {
            StepKind::Where(sql) | StepKind::Query(sql) => {
                let mut entry = brace(word, "a word and a brace");
                Self::add_sql(&mut entry, sql, 4, false);
                entry
            }
            StepKind::Derive(sql) | StepKind::Select(sql) => {
                let mut entry = brace(word, "a word and a brace");
                Self::add_sql(&mut entry, sql, 4, true);
                entry
            }
            StepKind::Drop { if_exists, columns } => {
                let mut entry = match if_exists {
                    true => brace("drop if exists", "drop if exists"),
                    false => brace("drop", "a word and a brace"),
                };
                Self::add_sql(&mut entry, columns, 4, false);
                entry
            }
            StepKind::Aggregate(step) => self.aggregate(step),
            StepKind::Join(join) => {
                let mut entry = brace(&join_head(join), "join");
                Self::add_sql(&mut entry, &join.on, 4, false);
                entry
            }
            StepKind::Dedupe { by, within } => {
                let mut entry = brace("dedupe by", "dedupe");
                Self::add_sql(&mut entry, by, 4, false);
                if let Some(within) = within {
                    Self::add_text(&mut entry, &format!("within {}", within.text));
                }
                entry
            }
            StepKind::Union => Entry::line("union"),
            StepKind::Expect(expect) => {
                let name = expect.name.as_ref().map(|name| format!(" {}", name.text));
                let mut entry = brace(&format!("expect{}", name.unwrap_or_default()), "expect");
                Self::add_sql(&mut entry, &expect.condition, 4, false);
                let action = format!("else {}", self.source(expect.action_span));
                if entry.rest.is_empty() {
                    entry.parts.push((Column::Else, action));
                } else {
                    Self::add_text(&mut entry, &action);
                }
                entry
            }
        }
    }

    fn aggregate(&mut self, step: &Aggregate) -> Entry {
        let parts = vec![(Column::Head, "aggregate".to_string()), (Column::Brace, String::new())];
        let mut entry = Entry::new(Class::Word("a word and a brace"), parts);
        Self::add_sql(&mut entry, &step.values, 4, true);
        let emit = step.emit.as_ref().map(|emit| format!("     emit {}", self.emit(emit)));
        let keep = step.keep.as_ref();
        let keep = keep.map(|keep| format!("     keep {}", self.inline_settings(&keep.list)));
        let clauses: Vec<String> = emit.into_iter().chain(keep).collect();
        let by_lines = match island(&step.by, false) {
            Island::OneLine(text) => Some(format!("by {text}")),
            Island::Lines(_) => None,
        };
        let clause_width = |text: &String| text.trim_start().chars().count() + 1;
        let head = entry.width() + 4;
        let by = by_lines.as_ref().map_or(0, clause_width);
        let all: usize = clauses.iter().map(clause_width).sum();
        let one_line = entry.rest.is_empty() && by_lines.is_some();
        match by_lines {
            Some(text) if one_line && head + by + all <= WIDTH_MAX => {
                Self::add_text(&mut entry, &text);
                clauses.iter().for_each(|text| Self::add_text(&mut entry, text.trim_start()));
                return entry;
            }
            Some(text) if one_line && head + by <= WIDTH_MAX => Self::add_text(&mut entry, &text),
            Some(text) => entry.rest.push(Self::line(4, format!("       {text}"))),
            None => {
                entry.rest.push(Self::line(4, "       by"));
                Self::add_sql(&mut entry, &step.by, 4, false);
            }
        }
        entry.rest.extend(clauses.into_iter().map(|text| Self::line(4, text)));
        entry
    }

    fn emit(&self, emit: &Emit) -> String {
        let settings = emit.settings.iter();
        let mut parts: Vec<(u32, String)> =
            settings.map(|setting| (setting.span.start, self.inline_setting(setting))).collect();
        if let Some(delta) = &emit.delta {
            let on = delta.on.text.trim();
            let text = format!("delta = {} on {{ {on} }}", delta.distance);
            parts.push((delta.span.start, text));
        }
        parts.sort();
        let parts: Vec<String> = parts.into_iter().map(|(_, text)| text).collect();
        format!("{{ {} }}", parts.join(", "))
    }
}

fn join_head(join: &Join) -> String {
    let left = if join.kind == JoinKind::Left { "left " } else { "" };
    let time = match &join.time {
        JoinTime::Any => String::new(),
        JoinTime::AsOf(column) => format!(" as of {column}"),
        JoinTime::Within(duration) => format!(" within {}", duration.text),
    };
    format!("{left}join {}{time} on", join.with)
}
