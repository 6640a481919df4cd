//! Rows as a stream of changes: which row is a new one, and which changes or removes an earlier one.
//!
//! All of it is a pure function of (seed, ordinal): nothing is remembered. Two rules make that possible. A delete at
//! ordinal n can remove only the row made at n - `lag(n)`, and no two deletes share one; so whether a row still lives
//! is known from a single roll. And only rows whose own roll says "new" are ever changed or removed.

use lakehead_core::{Error, Op, Result, Settings, Value};

use crate::dice::{Dice, name_hash};

/// Earlier rows that an update looks at before it gives up and becomes a new row.
const TRIES_MAX: u32 = 16;
/// How far back most deletes reach.
const LAG_NEAR: u64 = 16;
/// How far back every fourth delete reaches. Both are multiples of four, so that the two kinds never meet in one row.
const LAG_FAR: u64 = 4096;

/// The mix of changes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mix {
    /// The column that says which row is meant.
    pub(crate) key: String,
    updates: f64,
    deletes: f64,
    bad: f64,
    /// From this ordinal on, rows have one column more.
    pub(crate) add_column_at: Option<u64>,
}

/// What happens at one ordinal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) op: Op,
    /// The ordinal at which the row of this key was made.
    pub(crate) made_at: u64,
    /// Whether the row lacks every value but its key.
    pub(crate) bad: bool,
}

impl Mix {
    /// Reads `changes`; `None` where it is not set.
    pub(crate) fn parse(settings: &Settings) -> Result<Option<Self>> {
        let Some(value) = settings.get("changes") else { return Ok(None) };
        let Value::Map(pairs) = value else { return Err(wrong("it is not a map")) };
        let mut mix = Self { key: String::new(), updates: 0.2, deletes: 0.05, bad: 0.0, add_column_at: None };
        for (name, value) in pairs {
            match name.as_str() {
                "key" => mix.key = value.as_text().ok_or_else(|| wrong("`key` is not a column"))?.to_owned(),
                "updates" => mix.updates = share(name, value)?,
                "deletes" => mix.deletes = share(name, value)?,
                "bad" => mix.bad = share(name, value)?,
                "add_column_at" => match value {
                    Value::Int(at) if *at >= 0 => mix.add_column_at = Some(at.cast_unsigned()),
                    _ => return Err(wrong("`add_column_at` is not a row's number")),
                },
                other => {
                    let known = "settings are key, updates, deletes, bad, add_column_at";
                    return Err(wrong(&format!("there is no setting `{other}`")).help(known));
                }
            }
        }
        if mix.key.is_empty() {
            return Err(wrong("`key` is missing").help("changes = { key = id, updates = 20%, deletes = 5% }"));
        }
        if mix.updates + mix.deletes > 1.0 {
            return Err(wrong("updates and deletes are more than all rows"));
        }
        Ok(Some(mix))
    }

    /// Returns what happens at `ordinal`.
    pub(crate) fn at(&self, seed: u64, ordinal: u64) -> Change {
        let mut dice = Dice::new(seed, ordinal, name_hash("_op"));
        let bad = Dice::new(seed, ordinal, name_hash("_bad")).share() < self.bad;
        let change = |op, made_at| Change { op, made_at, bad: bad && op != Op::Delete };
        match self.roll(seed, ordinal) {
            Op::Delete => match ordinal.checked_sub(lag(ordinal)) {
                Some(made_at) if self.is_new(seed, made_at) => change(Op::Delete, made_at),
                _ => change(Op::Create, ordinal),
            },
            Op::Update => {
                let tries = (0..TRIES_MAX).map(|_| dice.below(ordinal)).chain([0]);
                match tries.into_iter().find(|made_at| self.lives(seed, *made_at, ordinal)) {
                    Some(made_at) => change(Op::Update, made_at),
                    None => change(Op::Create, ordinal),
                }
            }
            _ => change(Op::Create, ordinal),
        }
    }

    /// What the row's own roll says, before it is known whether there is a row to change.
    fn roll(&self, seed: u64, ordinal: u64) -> Op {
        let rolled = Dice::new(seed, ordinal, name_hash("_roll")).share();
        if ordinal == 0 {
            Op::Create
        } else if rolled < self.deletes {
            Op::Delete
        } else if rolled < self.deletes + self.updates {
            Op::Update
        } else {
            Op::Create
        }
    }

    fn is_new(&self, seed: u64, ordinal: u64) -> bool {
        self.roll(seed, ordinal) == Op::Create
    }

    fn lives(&self, seed: u64, made_at: u64, now: u64) -> bool {
        let ends_at = made_at.saturating_add(lag(made_at));
        self.is_new(seed, made_at) && (ends_at >= now || self.roll(seed, ends_at) != Op::Delete)
    }
}

/// Returns how far back a delete at `ordinal` reaches; the same for the ordinal it reaches.
fn lag(ordinal: u64) -> u64 {
    if ordinal % 4 == 3 { LAG_FAR } else { LAG_NEAR }
}

fn share(name: &str, value: &Value) -> Result<f64> {
    let share = match value {
        Value::Percent(share) | Value::Number(share) => *share,
        Value::Int(0) => 0.0,
        Value::Int(1) => 1.0,
        _ => return Err(wrong(&format!("`{name}` is no share, as in 5%"))),
    };
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(wrong(&format!("`{name}` lies outside 0% to 100%"))) }
}

fn wrong(reason: &str) -> Error {
    Error::user("R0503", "the setting `changes` cannot be carried out").with("reason", reason)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn mix(pairs: &[(&str, Value)]) -> Result<Option<Mix>> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Mix::parse(&Settings::new([("changes".to_owned(), Value::Map(pairs))]))
    }

    #[test]
    fn only_rows_that_live_are_changed_or_removed() {
        for (updates, deletes) in [(0.2, 0.05), (0.5, 0.5), (1.0, 0.0), (0.0, 1.0)] {
            let key = ("key", Value::Name("id".into()));
            let mix = mix(&[key, ("updates", Value::Percent(updates)), ("deletes", Value::Percent(deletes))]);
            let mix = mix.unwrap().unwrap();
            let mut alive = HashSet::new();
            let mut counts = [0; 3];
            for ordinal in 0..20_000 {
                let change = mix.at(7, ordinal);
                match change.op {
                    Op::Create => {
                        counts[0] += 1;
                        assert!(change.made_at == ordinal && alive.insert(ordinal));
                    }
                    Op::Update => {
                        counts[1] += 1;
                        assert!(alive.contains(&change.made_at), "{ordinal} changes {}", change.made_at);
                    }
                    _ => {
                        counts[2] += 1;
                        assert!(alive.remove(&change.made_at), "{ordinal} removes {}", change.made_at);
                    }
                }
            }
            if updates == 0.2 {
                assert!(counts[1] > 3_500 && counts[2] > 500, "{counts:?}");
            }
        }
    }

    #[test]
    fn settings_that_cannot_be_are_refused() {
        let key = ("key", Value::Name("id".into()));
        for pairs in [
            vec![],
            vec![key.clone(), ("updates", Value::Percent(1.5))],
            vec![key.clone(), ("updates", Value::Percent(0.6)), ("deletes", Value::Percent(0.6))],
            vec![key, ("inserts", Value::Percent(0.5))],
        ] {
            assert_eq!(mix(&pairs).unwrap_err().code(), "R0503");
        }
    }
}
