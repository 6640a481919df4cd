//! `pattern("ip-10-0-[0-9]{1,3}")`: texts that match a small part of regular expressions.

use std::iter::Peekable;
use std::str::Chars;

use crate::dice::Dice;

/// Characters that `*` and `+` repeat at most.
const REPEAT_MAX: u32 = 8;
/// Characters that `{m,n}` may ask for at most.
const COUNT_MAX: u32 = 1000;

/// Literals, classes and how often each comes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pattern(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
struct Part {
    /// Inclusive ranges; never empty.
    ranges: Vec<(char, char)>,
    least: u32,
    greatest: u32,
}

impl Pattern {
    /// Reads a pattern; the error says what is not known here.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut chars = text.chars().peekable();
        let mut parts: Vec<Part> = Vec::new();
        while let Some(char) = chars.next() {
            let ranges = match char {
                '[' => class(&mut chars)?,
                '\\' => escaped(chars.next())?,
                '.' => vec![('a', 'z')],
                '(' | ')' | '|' | '^' | '$' => {
                    return Err(format!("`{char}` is not known in a pattern; write `\\{char}` for the character"));
                }
                '{' | '}' | ']' | '*' | '+' | '?' => {
                    return Err(format!("`{char}` repeats nothing; write `\\{char}` for the character"));
                }
                literal => vec![(literal, literal)],
            };
            let (least, greatest) = repetition(&mut chars)?;
            parts.push(Part { ranges, least, greatest });
        }
        Ok(Self(parts))
    }

    /// Returns a text that matches.
    pub(crate) fn make(&self, dice: &mut Dice) -> String {
        let mut text = String::new();
        for part in &self.0 {
            let count = dice.within(part.least.into(), part.greatest.into());
            for _ in 0..count {
                text.push(part.one(dice));
            }
        }
        text
    }
}

impl Part {
    fn one(&self, dice: &mut Dice) -> char {
        let size = |(from, to): &(char, char)| u64::from(u32::from(*to) - u32::from(*from)) + 1;
        let mut at = dice.below(self.ranges.iter().map(size).sum());
        for range in &self.ranges {
            if at < size(range) {
                let code = u32::from(range.0) + u32::try_from(at).unwrap_or(0);
                return char::from_u32(code).unwrap_or(range.0);
            }
            at -= size(range);
        }
        '?'
    }
}

fn escaped(char: Option<char>) -> Result<Vec<(char, char)>, String> {
    match char {
        None => Err("a pattern ends with `\\`".into()),
        Some('d') => Ok(vec![('0', '9')]),
        Some('w') => Ok(vec![('a', 'z'), ('0', '9'), ('_', '_')]),
        Some(char) if char.is_alphanumeric() => Err(format!("`\\{char}` is not known in a pattern")),
        Some(char) => Ok(vec![(char, char)]),
    }
}

fn class(chars: &mut Peekable<Chars<'_>>) -> Result<Vec<(char, char)>, String> {
    let mut ranges = Vec::new();
    loop {
        let from = match chars.next() {
            None => return Err("`[` lacks its `]`".into()),
            Some(']') if ranges.is_empty() => return Err("`[]` holds no character".into()),
            Some(']') => return Ok(ranges),
            Some('^') if ranges.is_empty() => return Err("`[^…]` is not known in a pattern".into()),
            Some('\\') => match escaped(chars.next())?.as_slice() {
                [(one, other)] if one == other => *one,
                several => {
                    ranges.extend_from_slice(several);
                    continue;
                }
            },
            Some(char) => char,
        };
        let mut ahead = chars.clone();
        if ahead.next() == Some('-') && ahead.peek().is_some_and(|char| *char != ']') {
            chars.next();
            let to = chars.next().unwrap_or(from);
            if to < from {
                return Err(format!("`{from}-{to}` runs backwards"));
            }
            ranges.push((from, to));
        } else {
            ranges.push((from, from));
        }
    }
}

fn repetition(chars: &mut Peekable<Chars<'_>>) -> Result<(u32, u32), String> {
    let bounds = match chars.peek() {
        Some('?') => (0, 1),
        Some('*') => (0, REPEAT_MAX),
        Some('+') => (1, REPEAT_MAX),
        Some('{') => {
            chars.next();
            let inner: String = chars.by_ref().take_while(|char| *char != '}').collect();
            return counts(&inner).ok_or_else(|| format!("`{{{inner}}}` is no count, as in {{3}} or {{1,3}}"));
        }
        _ => return Ok((1, 1)),
    };
    chars.next();
    Ok(bounds)
}

fn counts(inner: &str) -> Option<(u32, u32)> {
    let (least, greatest) = inner.split_once(',').unwrap_or((inner, inner));
    let least: u32 = least.trim().parse().ok()?;
    let greatest = match greatest.trim() {
        "" => least + REPEAT_MAX,
        number => number.parse().ok()?,
    };
    (least <= greatest && greatest <= COUNT_MAX).then_some((least, greatest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(text: &str) -> Vec<String> {
        let pattern = Pattern::parse(text).unwrap();
        (0..100).map(|n| pattern.make(&mut Dice::new(1, n, 0))).collect()
    }

    #[test]
    fn every_text_matches_its_pattern() {
        for text in make("ip-10-0-[0-9]{1,3}") {
            let digits = text.strip_prefix("ip-10-0-").unwrap();
            assert!((1..=3).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()), "{text}");
        }
        for text in make("[a-c_]+x?\\.") {
            let body = text.strip_suffix('.').unwrap().trim_end_matches('x');
            assert!(!body.is_empty() && body.chars().all(|c| "abc_".contains(c)), "{text}");
        }
        assert!(make("[a-z]{8}").iter().all(|text| text.len() == 8));
    }

    #[test]
    fn what_is_not_known_is_refused_with_its_place() {
        for (text, part) in [("(a|b)", "`(`"), ("[0-9", "`]`"), ("a{x}", "{x}"), ("+a", "`+`"), ("[^a]", "[^")] {
            let error = Pattern::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
