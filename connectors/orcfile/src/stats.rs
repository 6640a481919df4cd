//! Statistics of a column over a row group, a stripe and the file: kept for the group, merged upwards.

use crate::wire::{Message, put_varint};

/// A text's bound that is longer than this is cut, as the other writers do; more would make indexes larger than data.
const TEXT_BOUND_BYTES_MAX: usize = 1024;

/// What is known of a column's values besides how many there are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Values {
    /// Structs.
    None,
    Bool {
        trues: u64,
    },
    Int {
        range: Option<(i64, i64)>,
        sum: Option<i64>,
    },
    Date {
        range: Option<(i64, i64)>,
    },
    /// `nan`: one was seen, so that a bound would lie to readers that order it differently.
    Float {
        range: Option<(f64, f64)>,
        sum: f64,
        nan: bool,
    },
    Text {
        range: Option<(Box<str>, Box<str>)>,
        bytes: i64,
    },
    Binary {
        bytes: i64,
    },
    Decimal {
        range: Option<(i128, i128)>,
        sum: Option<i128>,
        scale: i8,
    },
    /// Nanoseconds since 1970, and how many times fell into the second that has no place (`write::time`).
    Time {
        range: Option<(i128, i128)>,
        last_second: u64,
    },
    /// Lists and maps: the fewest and the most children of one, and all of them.
    Children {
        range: Option<(u64, u64)>,
        total: u64,
    },
}

/// Statistics of one column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stats {
    /// Values that are not null.
    pub(crate) count: u64,
    pub(crate) nulls: u64,
    pub(crate) values: Values,
}

/// Widens `range` by one value.
pub(crate) fn widen<T: PartialOrd + Copy>(range: &mut Option<(T, T)>, value: T) {
    match range {
        None => *range = Some((value, value)),
        Some((min, max)) => {
            if value < *min {
                *min = value;
            }
            if value > *max {
                *max = value;
            }
        }
    }
}

/// Widens a range of texts, copying only what becomes a bound.
pub(crate) fn widen_text(range: &mut Option<(Box<str>, Box<str>)>, value: &str) {
    match range {
        None => *range = Some((value.into(), value.into())),
        Some((min, max)) => {
            if value < &**min {
                *min = value.into();
            } else if value > &**max {
                *max = value.into();
            }
        }
    }
}

fn widen_both<T: PartialOrd + Copy>(range: &mut Option<(T, T)>, other: Option<(T, T)>) {
    if let Some((min, max)) = other {
        widen(range, min);
        widen(range, max);
    }
}

impl Stats {
    /// Returns the statistics of no value, of the kind of `values`.
    pub(crate) fn new(values: Values) -> Self {
        Self { count: 0, nulls: 0, values }
    }

    /// Returns the statistics of no value, of the kind of these.
    pub(crate) fn emptied(&self) -> Self {
        Self::new(match &self.values {
            Values::None => Values::None,
            Values::Bool { .. } => Values::Bool { trues: 0 },
            Values::Int { .. } => Values::Int { range: None, sum: Some(0) },
            Values::Date { .. } => Values::Date { range: None },
            Values::Float { .. } => Values::Float { range: None, sum: 0.0, nan: false },
            Values::Text { .. } => Values::Text { range: None, bytes: 0 },
            Values::Binary { .. } => Values::Binary { bytes: 0 },
            Values::Decimal { scale, .. } => Values::Decimal { range: None, sum: Some(0), scale: *scale },
            Values::Time { .. } => Values::Time { range: None, last_second: 0 },
            Values::Children { .. } => Values::Children { range: None, total: 0 },
        })
    }

    /// Returns what was gathered and starts again.
    pub(crate) fn take(&mut self) -> Self {
        let empty = self.emptied();
        std::mem::replace(self, empty)
    }

    /// Adds another column part's statistics, which are of the same kind.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.nulls += other.nulls;
        match (&mut self.values, &other.values) {
            (Values::Bool { trues }, Values::Bool { trues: more }) => *trues += more,
            (Values::Int { range, sum }, Values::Int { range: wider, sum: more }) => {
                widen_both(range, *wider);
                *sum = sum.zip(*more).and_then(|(sum, more)| sum.checked_add(more));
            }
            (Values::Date { range }, Values::Date { range: wider }) => widen_both(range, *wider),
            (Values::Float { range, sum, nan }, Values::Float { range: wider, sum: more, nan: also }) => {
                widen_both(range, *wider);
                *sum += more;
                *nan |= also;
            }
            (Values::Text { range, bytes }, Values::Text { range: wider, bytes: more }) => {
                if let Some((min, max)) = wider {
                    widen_text(range, min);
                    widen_text(range, max);
                }
                *bytes = bytes.saturating_add(*more);
            }
            (Values::Binary { bytes }, Values::Binary { bytes: more }) => *bytes = bytes.saturating_add(*more),
            (Values::Decimal { range, sum, .. }, Values::Decimal { range: wider, sum: more, .. }) => {
                widen_both(range, *wider);
                *sum = sum.zip(*more).and_then(|(sum, more)| sum.checked_add(more));
            }
            (Values::Time { range, last_second }, Values::Time { range: wider, last_second: more }) => {
                widen_both(range, *wider);
                *last_second += more;
            }
            (Values::Children { range, total }, Values::Children { range: wider, total: more }) => {
                widen_both(range, *wider);
                *total += more;
            }
            _ => {}
        }
    }

    /// Returns the `ColumnStatistics` message.
    pub(crate) fn message(&self) -> Message {
        let mut message = Message::default();
        message.uint(1, self.count);
        if let Some((field, body)) = self.values.message() {
            message.nested(field, body);
        }
        message.uint(10, u64::from(self.nulls > 0));
        message
    }
}

impl Values {
    fn message(&self) -> Option<(u32, Message)> {
        let mut body = Message::default();
        let field = match self {
            Self::None => return None,
            Self::Bool { trues } => {
                body.packed(1, [*trues]);
                5
            }
            Self::Int { range, sum } => {
                let bounds = range.map(|(min, max)| [Some(min), Some(max)]).unwrap_or_default();
                signed(&mut body, &[bounds.as_slice(), &[*sum]].concat());
                2
            }
            Self::Date { range } => {
                signed(&mut body, &range.map(|(min, max)| [Some(min), Some(max)]).unwrap_or_default());
                7
            }
            Self::Float { range, sum, nan } => {
                if let Some((min, max)) = range.filter(|_| !nan) {
                    // Both zeros are equal to a query and differ in Java's order: the bounds take the outer one.
                    body.double(1, if min == 0.0 { -0.0 } else { min });
                    body.double(2, if max == 0.0 { 0.0 } else { max });
                }
                body.double(3, if *nan { f64::NAN } else { *sum });
                3
            }
            Self::Text { range, bytes } => {
                if let Some((min, max)) = range {
                    text_bounds(&mut body, min, max);
                }
                body.sint(3, *bytes);
                4
            }
            Self::Binary { bytes } => {
                body.sint(1, *bytes);
                8
            }
            Self::Decimal { range, sum, scale } => {
                let bounds = range.map(|(min, max)| [Some(min), Some(max)]).unwrap_or_default();
                for (field, value) in (1..).zip([bounds.as_slice(), &[*sum]].concat()) {
                    if let Some(value) = value {
                        body.bytes(field, decimal_text(value, *scale).as_bytes());
                    }
                }
                6
            }
            Self::Time { range, .. } => {
                if let Some((min, max)) = range {
                    time_bounds(&mut body, *min, *max);
                }
                9
            }
            Self::Children { range, total } => {
                if let Some((min, max)) = range {
                    body.uint(1, *min).uint(2, *max);
                }
                body.uint(3, *total);
                11
            }
        };
        Some((field, body))
    }
}

/// Writes minimum, maximum and, if it has a place, sum: the fields one, two and three.
fn signed(body: &mut Message, values: &[Option<i64>]) {
    for (field, value) in (1..).zip(values) {
        if let Some(value) = value {
            body.sint(field, *value);
        }
    }
}

fn text_bounds(body: &mut Message, min: &str, max: &str) {
    let cut = |text: &str| text.floor_char_boundary(TEXT_BOUND_BYTES_MAX);
    if min.len() <= TEXT_BOUND_BYTES_MAX {
        body.bytes(1, min.as_bytes());
    } else {
        body.bytes(4, min.get(..cut(min)).unwrap_or_default().as_bytes());
    }
    if max.len() <= TEXT_BOUND_BYTES_MAX {
        body.bytes(2, max.as_bytes());
    } else if let Some(above) = next_text(max.get(..cut(max)).unwrap_or_default()) {
        body.bytes(5, above.as_bytes());
    }
}

/// Returns a text greater than every text that begins with `prefix`: its last character that can be is raised by one.
fn next_text(prefix: &str) -> Option<String> {
    let mut characters: Vec<char> = prefix.chars().collect();
    while let Some(last) = characters.pop() {
        if let Some(next) = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32) {
            characters.push(next);
            return Some(characters.into_iter().collect());
        }
    }
    None
}

/// Milliseconds in UTC and what lies below them, one more than it is: zero means that nobody said.
fn time_bounds(body: &mut Message, min: i128, max: i128) {
    let split = |nanos: i128| (nanos.div_euclid(1_000_000), nanos.rem_euclid(1_000_000) as u64);
    let ((min, min_below), (max, max_below)) = (split(min), split(max));
    if let (Ok(min), Ok(max)) = (i64::try_from(min), i64::try_from(max)) {
        body.sint(1, min).sint(2, max).sint(3, min).sint(4, max);
        body.uint(5, min_below + 1).uint(6, max_below + 1);
    }
}

/// Writes a decimal with all digits of its scale.
pub(crate) fn decimal_text(unscaled: i128, scale: i8) -> String {
    let scale = usize::from(scale.unsigned_abs());
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if unscaled < 0 { "-" } else { "" };
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// Returns the positions and statistics of row groups as a `RowIndex`'s bytes.
pub(crate) fn row_index<'a>(groups: impl Iterator<Item = (Vec<u64>, &'a Stats)>) -> Vec<u8> {
    let mut index = Message::default();
    for (positions, stats) in groups {
        let mut entry = Message::default();
        let mut body = Vec::new();
        positions.iter().for_each(|position| put_varint(*position, &mut body));
        entry.bytes(1, &body).nested(2, stats.message());
        index.nested(1, entry);
    }
    index.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_written_with_all_their_digits() {
        for (unscaled, scale, text) in [
            (0, 0, "0"),
            (0, 2, "0.00"),
            (-5, 2, "-0.05"),
            (12345, 2, "123.45"),
            (i128::MIN, 0, "-170141183460469231731687303715884105728"),
        ] {
            assert_eq!(decimal_text(unscaled, scale), text);
        }
    }

    #[test]
    fn a_cut_bound_lies_above_every_text_that_it_was_cut_from() {
        for prefix in ["a", "é", "\u{d7ff}", "a\u{10ffff}"] {
            let next = next_text(prefix).unwrap();
            assert!(next.as_str() > format!("{prefix}\u{10ffff}\u{10ffff}").as_str(), "{prefix:?}");
        }
        assert_eq!(next_text("\u{10ffff}"), None);
    }

    #[test]
    fn merged_statistics_are_those_of_all_values() {
        let part = |min, max, sum| Stats { count: 2, nulls: 1, values: Values::Int { range: Some((min, max)), sum } };
        let mut all = part(1, 2, Some(3));
        all.merge(&part(-4, 0, Some(-4)));
        assert_eq!(all, Stats { count: 4, nulls: 2, values: Values::Int { range: Some((-4, 2)), sum: Some(-1) } });
        all.merge(&part(i64::MIN, 0, Some(i64::MIN)));
        assert!(matches!(all.values, Values::Int { sum: None, .. }));
        let mut group = part(1, 2, Some(3));
        assert_eq!(group.take().count, 2);
        assert_eq!(group, Stats::new(Values::Int { range: None, sum: Some(0) }));
    }
}
