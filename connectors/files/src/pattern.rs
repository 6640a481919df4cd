//! Which paths a source reads: globs, and the times of a run in them.

use std::collections::{BTreeSet, HashSet};

use chrono::{DateTime, NaiveDate, Utc};
use lakehead_core::{Error, Micros, Result, RunContext};
use regex::Regex;

/// Microseconds of a minute.
const MINUTE: Micros = 60_000_000;
/// Times that one run may stand for: two years of minutes.
const TIMES_MAX: usize = 1_100_000;
/// Folders that are listed one by one; above that, what they have in common is listed.
const FOLDERS_MAX: usize = 64;

/// A path with `*`, `**`, `?`, `{a,b}` and `%Y %m %d %H %M`.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    regex: Regex,
    /// The capture groups of the times, with their letters, and those of the stars.
    times: Vec<(usize, char)>,
    stars: Vec<usize>,
    /// The times that count, written in the order of `times`; `None` where any does.
    allowed: Option<HashSet<String>>,
    /// Folders that hold every match; empty text for all.
    folders: BTreeSet<String>,
}

impl Pattern {
    /// Reads a pattern for which any time counts.
    pub(crate) fn any_time(text: &str) -> Result<Self> {
        Self::parse(text, None)
    }

    /// Reads a pattern for which the times of `run` count alone.
    pub(crate) fn of_run(text: &str, run: &RunContext) -> Result<Self> {
        Self::parse(text, Some(run))
    }

    fn parse(text: &str, run: Option<&RunContext>) -> Result<Self> {
        let wrong =
            |reason: String| Error::user("R0601", "`path` is not a pattern").with("path", text).with("reason", reason);
        let text = text.trim_start_matches('/');
        let mut translation = Translation::default();
        translation.translate(text).map_err(wrong)?;
        let regex = Regex::new(&format!("^{}$", translation.regex)).map_err(|error| wrong(error.to_string()))?;
        let mut pattern = Self {
            regex,
            times: translation.times,
            stars: translation.stars,
            allowed: None,
            folders: BTreeSet::from([folder(text, None)]),
        };
        if let Some(run) = run.filter(|_| !pattern.times.is_empty()) {
            let times = times(&pattern.times, run)
                .ok_or_else(|| Error::user("R0602", "the run is too long for a path with times").with("path", text))?;
            let letters: Vec<char> = pattern.times.iter().map(|(_, letter)| *letter).collect();
            pattern.allowed = Some(times.iter().map(|time| written(&letters, time)).collect());
            let folders: BTreeSet<String> = times.iter().map(|time| folder(text, Some(time))).collect();
            if folders.len() <= FOLDERS_MAX {
                pattern.folders = folders;
            }
        }
        Ok(pattern)
    }

    /// Returns the folders that hold every match.
    pub(crate) fn folders(&self) -> impl Iterator<Item = &str> {
        self.folders.iter().map(String::as_str)
    }

    /// Returns what the stars matched; `None` where the path is none of these.
    pub(crate) fn matches(&self, path: &str) -> Option<Vec<String>> {
        let found = self.regex.captures(path)?;
        let group = |n: usize| found.get(n).map_or("", |part| part.as_str());
        if let Some(allowed) = &self.allowed {
            let time: Vec<&str> = self.times.iter().map(|(n, _)| group(*n)).collect();
            if !allowed.contains(&time.join("/")) {
                return None;
            }
        }
        Some(self.stars.iter().map(|n| group(*n).to_owned()).collect())
    }

    /// Returns whether paths name a time.
    pub(crate) fn has_times(&self) -> bool {
        !self.times.is_empty()
    }

    /// Returns the time that a path names, as the half-open minute, hour or day; `None` where it names none.
    pub(crate) fn time_of(&self, path: &str) -> Option<(Micros, Micros)> {
        if self.times.is_empty() {
            return None;
        }
        let found = self.regex.captures(path)?;
        let number = |letter: char, missing: u32| {
            let place = self.times.iter().find(|(_, time)| *time == letter);
            place.map_or(Some(missing), |(n, _)| found.get(*n)?.as_str().parse::<u32>().ok())
        };
        let date = NaiveDate::from_ymd_opt(i32::try_from(number('Y', 1970)?).ok()?, number('m', 1)?, number('d', 1)?)?;
        let time = date.and_hms_opt(number('H', 0)?, number('M', 0)?, 0)?;
        let start = time.and_utc().timestamp_micros();
        Some((start, start + step(&self.times)))
    }
}

#[derive(Default)]
struct Translation {
    regex: String,
    groups: usize,
    times: Vec<(usize, char)>,
    stars: Vec<usize>,
}

impl Translation {
    fn translate(&mut self, text: &str) -> std::result::Result<(), String> {
        let mut chars = text.chars().peekable();
        let mut depth = 0;
        while let Some(char) = chars.next() {
            match char {
                '*' if chars.peek() == Some(&'*') => {
                    chars.next();
                    if chars.peek() == Some(&'/') {
                        chars.next();
                        self.regex.push_str("(?:.*/)?");
                    } else {
                        self.regex.push_str(".*");
                    }
                }
                '*' => {
                    self.groups += 1;
                    self.stars.push(self.groups);
                    self.regex.push_str("([^/]*)");
                }
                '?' => self.regex.push_str("[^/]"),
                '{' => {
                    depth += 1;
                    self.regex.push_str("(?:");
                }
                '}' if depth > 0 => {
                    depth -= 1;
                    self.regex.push(')');
                }
                ',' if depth > 0 => self.regex.push('|'),
                '%' => self.time(chars.next())?,
                literal => self.regex.push_str(&regex::escape(literal.encode_utf8(&mut [0; 4]))),
            }
        }
        if depth == 0 { Ok(()) } else { Err("`{` lacks its `}`".into()) }
    }

    fn time(&mut self, letter: Option<char>) -> std::result::Result<(), String> {
        let digits = match letter {
            Some('%') => {
                self.regex.push('%');
                return Ok(());
            }
            Some('Y') => 4,
            Some('m' | 'd' | 'H' | 'M') => 2,
            _ => return Err("after `%` comes one of Y, m, d, H, M, %".into()),
        };
        self.groups += 1;
        self.times.extend(letter.map(|letter| (self.groups, letter)));
        self.regex.push_str(&format!("([0-9]{{{digits}}})"));
        Ok(())
    }
}

/// Returns one time for each minute, hour or day of the run, whichever is the finest that the path names.
fn times(letters: &[(usize, char)], run: &RunContext) -> Option<Vec<DateTime<Utc>>> {
    let step = step(letters);
    let mut at = run.start.div_euclid(step) * step;
    let mut times = Vec::new();
    while at < run.end {
        if times.len() == TIMES_MAX {
            return None;
        }
        times.push(DateTime::from_timestamp_micros(at)?);
        at += step;
    }
    Some(times)
}

/// Returns the length of the finest time that the path names.
fn step(letters: &[(usize, char)]) -> Micros {
    let has = |letter: char| letters.iter().any(|(_, found)| *found == letter);
    if has('M') {
        MINUTE
    } else if has('H') {
        60 * MINUTE
    } else {
        24 * 60 * MINUTE
    }
}

fn written(letters: &[char], time: &DateTime<Utc>) -> String {
    let parts: Vec<String> = letters.iter().map(|letter| time.format(&format!("%{letter}")).to_string()).collect();
    parts.join("/")
}

/// Returns the folder before the first part that is not literal.
fn folder(text: &str, time: Option<&DateTime<Utc>>) -> String {
    let mut folder = String::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match (char, time) {
            ('*' | '?' | '{', _) | ('%', None) => break,
            ('%', Some(time)) => match chars.next() {
                Some(letter @ ('Y' | 'm' | 'd' | 'H' | 'M')) => folder.push_str(&written(&[letter], time)),
                _ => folder.push('%'),
            },
            _ => folder.push(char),
        }
    }
    folder.rsplit_once('/').map_or_else(String::new, |(folder, _)| folder.to_owned())
}

#[cfg(test)]
mod tests {
    use lakehead_core::parse_micros;

    use super::*;

    #[test]
    fn stars_are_handed_back_in_their_order() {
        let pattern = Pattern::any_time("partners/*/orders/*.{csv,json,csv.gz}").unwrap();
        assert_eq!(pattern.matches("partners/acme/orders/a.csv.gz").unwrap(), ["acme", "a"]);
        assert_eq!(pattern.matches("partners/acme/orders/a.xml"), None);
        assert_eq!(pattern.matches("partners/acme/old/orders/a.csv"), None);
        assert_eq!(pattern.folders().collect::<Vec<_>>(), ["partners"]);
        let deep = Pattern::any_time("**/*.json").unwrap();
        assert!(deep.matches("a.json").is_some() && deep.matches("x/y/a.json").is_some());
        assert!(Pattern::any_time("x/a?.csv").unwrap().matches("x/a1.csv").is_some());
    }

    #[test]
    fn a_run_takes_the_minutes_of_its_own_interval() {
        let run = RunContext {
            id: "r".into(),
            start: parse_micros("2026-05-01T10:00:00Z").unwrap(),
            end: parse_micros("2026-05-01T10:05:00Z").unwrap(),
        };
        let pattern = Pattern::of_run("logs/%Y/%m/%d/%H%M/*.json.gz", &run).unwrap();
        for (path, taken) in [
            ("logs/2026/05/01/1000/a.json.gz", true),
            ("logs/2026/05/01/1004/a.json.gz", true),
            ("logs/2026/05/01/1005/a.json.gz", false),
            ("logs/2026/05/01/0959/a.json.gz", false),
        ] {
            assert_eq!(pattern.matches(path).is_some(), taken, "{path}");
        }
        assert_eq!(pattern.folders().count(), 5);
        assert!(pattern.folders().any(|folder| folder == "logs/2026/05/01/1004"));
        let any = Pattern::any_time("logs/%Y/%m/%d/%H%M/*.json.gz").unwrap();
        let minute = parse_micros("2026-05-01T10:04:00Z").unwrap();
        assert_eq!(any.time_of("logs/2026/05/01/1004/a.json.gz"), Some((minute, minute + MINUTE)));
        assert_eq!(any.time_of("logs/2026/05/41/1004/a.json.gz"), None);
        let hours = Pattern::of_run("x/%Y%m%d%H.csv", &run).unwrap();
        assert!(hours.matches("x/2026050110.csv").is_some() && hours.matches("x/2026050111.csv").is_none());
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["a/{b", "a/%q"] {
            assert_eq!(Pattern::any_time(text).unwrap_err().code(), "R0601");
        }
    }
}
