//! What people see while a run is on: bars on a terminal, plain lines elsewhere, JSON lines for scripts.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use lakehead_engine::{Event, Observer};

use crate::args::{Common, Format};

/// Watches a run for people or scripts.
pub(crate) struct Display {
    mode: Mode,
    totals: Mutex<BTreeMap<String, u64>>,
}

enum Mode {
    Quiet,
    Json,
    Lines,
    Bars { all: MultiProgress, nodes: Mutex<BTreeMap<String, ProgressBar>> },
}

impl Display {
    /// Chooses by what the output is.
    pub(crate) fn new(common: &Common) -> Self {
        let mode = match common.format {
            _ if common.quiet => Mode::Quiet,
            Format::Json => Mode::Json,
            Format::Text if std::io::stderr().is_terminal() => {
                Mode::Bars { all: MultiProgress::new(), nodes: Mutex::new(BTreeMap::new()) }
            }
            Format::Text => Mode::Lines,
        };
        Self { mode, totals: Mutex::new(BTreeMap::new()) }
    }

    fn bar(&self, name: &str, rows: u64) {
        let Mode::Bars { all, nodes } = &self.mode else { return };
        let mut nodes = nodes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let bar = nodes.entry(name.to_owned()).or_insert_with(|| {
            let bar = all.add(ProgressBar::new_spinner());
            let style = ProgressStyle::with_template("{spinner} {prefix:<24} {human_pos:>12} rows  {per_sec:>16}");
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        bar.inc(rows);
    }

    fn line(&self, text: &str) {
        match &self.mode {
            Mode::Lines => eprintln!("{text}"),
            Mode::Bars { all, .. } => {
                let _ = all.println(text);
            }
            Mode::Quiet | Mode::Json => {}
        }
    }

    /// Takes the bars away.
    pub(crate) fn finish(&self) {
        if let Mode::Bars { nodes, .. } = &self.mode {
            for bar in nodes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).values() {
                bar.finish();
            }
        }
    }

    fn total(&self, name: &str, rows: u64) -> u64 {
        let mut totals = self.totals.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let total = totals.entry(name.to_owned()).or_default();
        *total += rows;
        *total
    }
}

impl Observer for Display {
    fn event(&self, event: Event) {
        if matches!(self.mode, Mode::Json) {
            if let Ok(line) = serde_json::to_string(&event) {
                println!("{line}");
            }
            return;
        }
        match event {
            Event::Read { node, rows, .. } => self.bar(&node, rows),
            Event::Committed { round, table, version, rows, bytes } => {
                let total = self.total(&table, rows);
                self.line(&format!(
                    " round {round:<4} {table:<32} version {version:<5} +{} rows ({} in all, {})",
                    grouped(rows),
                    grouped(total),
                    size(bytes)
                ));
            }
            Event::Rejected { rows } => self.line(&format!(" {} rows set aside", grouped(rows))),
            Event::Warned { expectation, rows } => {
                self.line(&format!(" warning: expectation `{expectation}` broken by {} rows", grouped(rows)));
            }
            Event::InputRejected { origin, reason } => self.line(&format!(" set aside: {origin}: {reason}")),
            Event::Evolved { table, added } => self.line(&format!(" {table} gained {}", added.join(", "))),
            Event::Recovered { round } => self.line(&format!(" round {round} of an earlier process finished")),
            Event::Registered { catalog, table, change } => {
                self.line(&format!(" catalog {catalog}: {table}: {change}"));
            }
            Event::NotRegistered { catalog, table, error } => {
                self.line(&format!(" warning: catalog {catalog} does not list {table} yet: {error}"));
            }
            Event::Copied { table, to, copied } if copied.files + copied.removed > 0 => self.line(&format!(
                " copy {to}: {table} version {}, +{} ({})",
                copied.version,
                counted(copied.files, "file"),
                size(copied.bytes)
            )),
            Event::NotCopied { table, to, error } => {
                self.line(&format!(" warning: copy {to} of {table} is not up to date: {error}"));
            }
            Event::Listed { .. } | Event::Copied { .. } => {}
            Event::Taken { .. } | Event::Holds { .. } | Event::Idle | Event::Level { .. } | Event::CaughtUp => {}
        }
    }
}

/// Returns a number with what it counts: `1 file`, `1,204 files`.
pub(crate) fn counted(number: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// Writes a number in groups: 1,204,118.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes bytes in the nearest unit.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KB", bytes / 1024),
        1_048_576..1_073_741_824 => format!("{} MB", bytes >> 20),
        _ => format!("{:.1} GB", bytes as f64 / f64::from(1 << 30)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_sizes_have_units() {
        assert_eq!(grouped(1_204_118), "1,204,118");
        assert_eq!(grouped(12), "12");
        assert_eq!(size(184 << 20), "184 MB");
    }
}
