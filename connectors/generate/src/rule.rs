//! The rule of one column.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, TimeUnit};
use lakehead_core::{Error, Micros, Result, Value, parse_column_type};

use crate::dice::{Dice, name_hash};
use crate::pattern::Pattern;
use crate::value::{random_values, sentence};
use crate::words::{DOMAINS, FIRST_NAMES, LAST_NAMES};

/// Words of a sentence at most.
const WORDS_MAX: i64 = 1000;

/// A column with the rule that makes its values.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    name: String,
    hash: u64,
    rule: Rule,
}

#[derive(Clone, Debug)]
enum Rule {
    /// 1, 2, 3, …
    Sequence,
    /// A whole number of a range.
    Number(i64, i64),
    /// Hundredths of a range.
    Money(i64, i64),
    /// A time within that many microseconds before the end of the run.
    Recent(u64),
    Texts(Vec<String>),
    Bools(Vec<bool>),
    Ints(Vec<i64>),
    Doubles(Vec<f64>),
    Pattern(Pattern),
    Sentence(u32),
    Name,
    Email,
    /// Any value of a type, with the word that named it.
    Plain(DataType, String),
}

/// Returns the type of the values that a rule makes; `None` where it is none.
pub(crate) fn made_type(value: &Value) -> Option<DataType> {
    rule(value).ok().map(|rule| rule.data_type())
}

impl Rule {
    fn data_type(&self) -> DataType {
        match self {
            Self::Sequence | Self::Number(..) | Self::Ints(_) => DataType::Int64,
            Self::Money(..) => DataType::Decimal128(12, 2),
            Self::Recent(_) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Bools(_) => DataType::Boolean,
            Self::Doubles(_) => DataType::Float64,
            Self::Texts(_) | Self::Pattern(_) | Self::Sentence(_) | Self::Name | Self::Email => DataType::Utf8,
            Self::Plain(data_type, _) => data_type.clone(),
        }
    }
}

impl Column {
    /// Reads a rule; its type is the one that the planner gives the column.
    pub(crate) fn parse(name: &str, value: &Value) -> Result<Self> {
        let rule = rule(value).map_err(|reason| {
            Error::user("R0502", "a column has no rule that makes values").with("column", name).with("reason", reason)
        })?;
        Ok(Self { name: name.to_owned(), hash: name_hash(name), rule })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn field(&self) -> Field {
        Field::new(&self.name, self.rule.data_type(), true)
    }

    /// Returns the value of every ordinal; `None` is NULL. `end` is what `recent` counts back from.
    pub(crate) fn values(&self, seed: u64, ordinals: &[Option<u64>], end: Micros) -> Result<ArrayRef> {
        let cells = ordinals.iter().map(|at| at.map(|at| Dice::new(seed, at, self.hash)));
        let whole =
            |least: i64, greatest: i64| move |cell: Option<Dice>| cell.map(|mut dice| dice.within(least, greatest));
        let texts = |make: &dyn Fn(&mut Dice) -> String| -> ArrayRef {
            Arc::new(cells.clone().map(|cell| cell.map(|mut dice| make(&mut dice))).collect::<StringArray>())
        };
        Ok(match &self.rule {
            Rule::Sequence => {
                let number = |at: u64| i64::try_from(at + 1).unwrap_or(i64::MAX);
                Arc::new(ordinals.iter().map(|at| at.map(number)).collect::<Int64Array>())
            }
            Rule::Number(least, greatest) => Arc::new(cells.map(whole(*least, *greatest)).collect::<Int64Array>()),
            Rule::Money(least, greatest) => {
                let make = whole(*least, *greatest);
                let values: Decimal128Array = cells.map(|cell| make(cell).map(i128::from)).collect();
                Arc::new(values.with_precision_and_scale(12, 2)?)
            }
            Rule::Recent(span) => {
                let at = |mut dice: Dice| end - 1 - dice.below(*span).cast_signed();
                let values: TimestampMicrosecondArray = cells.map(|cell| cell.map(at)).collect();
                Arc::new(values.with_timezone("UTC"))
            }
            Rule::Texts(items) => texts(&|dice| chosen(items, dice)),
            Rule::Bools(items) => {
                Arc::new(cells.map(|cell| cell.map(|mut dice| chosen(items, &mut dice))).collect::<BooleanArray>())
            }
            Rule::Ints(items) => {
                Arc::new(cells.map(|cell| cell.map(|mut dice| chosen(items, &mut dice))).collect::<Int64Array>())
            }
            Rule::Doubles(items) => {
                Arc::new(cells.map(|cell| cell.map(|mut dice| chosen(items, &mut dice))).collect::<Float64Array>())
            }
            Rule::Pattern(pattern) => texts(&|dice| pattern.make(dice)),
            Rule::Sentence(words) => texts(&|dice| sentence(*words, dice)),
            Rule::Name => texts(&|dice| format!("{} {}", dice.pick(&FIRST_NAMES), dice.pick(&LAST_NAMES))),
            Rule::Email => texts(&email),
            Rule::Plain(data_type, word) => random_values(data_type, Some(word), cells.collect())?,
        })
    }
}

fn chosen<T: Clone>(items: &[T], dice: &mut Dice) -> T {
    let at = dice.below(items.len() as u64);
    items[usize::try_from(at).unwrap_or(0)].clone()
}

fn email(dice: &mut Dice) -> String {
    let (first, last) = (dice.pick(&FIRST_NAMES), dice.pick(&LAST_NAMES));
    let number = dice.below(1000);
    let domain = dice.pick(&DOMAINS);
    format!("{}.{}{number}@{domain}", first.to_lowercase(), last.to_lowercase())
}

fn rule(value: &Value) -> Result<Rule, String> {
    match value {
        Value::Name(word) => Ok(Rule::Plain(parse_column_type(word)?, word.clone())),
        Value::Call(name, arguments) => match parse_column_type(&call_text(name, arguments)) {
            Ok(data_type) => Ok(Rule::Plain(data_type, name.clone())),
            Err(_) => call(name, arguments),
        },
        _ => Err("a rule is a type or a call, as in number(1, 100)".into()),
    }
}

fn call(name: &str, arguments: &[Value]) -> Result<Rule, String> {
    match (name, arguments) {
        ("sequence", []) => Ok(Rule::Sequence),
        ("name", []) => Ok(Rule::Name),
        ("email", []) => Ok(Rule::Email),
        ("number", [Value::Int(least), Value::Int(greatest)]) if least <= greatest => {
            Ok(Rule::Number(*least, *greatest))
        }
        ("number", _) => Err("number(least, greatest) needs two whole numbers in order".into()),
        ("money", [least, greatest]) => match (cents(least), cents(greatest)) {
            (Some(least), Some(greatest)) if least <= greatest => Ok(Rule::Money(least, greatest)),
            _ => Err("money(least, greatest) needs two amounts in order, below ten thousand million".into()),
        },
        ("money", _) => Err("money(least, greatest) needs two amounts".into()),
        ("recent", [value]) => {
            let span = span_micros(value).ok_or("recent needs a duration, as in recent(\"1m\")")?;
            Ok(Rule::Recent(span))
        }
        ("choice", [Value::List(items)]) => choice(items),
        ("pattern", [Value::Text(text)]) => Ok(Rule::Pattern(Pattern::parse(text)?)),
        ("pattern", _) => Err("pattern needs a text, as in pattern(\"[a-z]{8}\")".into()),
        ("sentence", [Value::Int(words)]) if (1..=WORDS_MAX).contains(words) => {
            Ok(Rule::Sentence(u32::try_from(*words).unwrap_or(1)))
        }
        ("sentence", _) => Err(format!("sentence needs a number of words, 1 to {WORDS_MAX}")),
        ("choice", _) => Err("choice needs a list, as in choice([\"a\", \"b\"])".into()),
        ("recent", _) => Err("recent needs a duration, as in recent(\"1m\")".into()),
        _ => Err(format!("`{name}` makes no values")),
    }
}

fn choice(items: &[Value]) -> Result<Rule, String> {
    let one_kind = || "the items of choice must be of one kind".to_owned();
    let rule = match items.first() {
        None => return Err("choice needs at least one item".into()),
        Some(Value::Bool(_)) => items
            .iter()
            .map(|item| if let Value::Bool(value) = item { Some(*value) } else { None })
            .collect::<Option<_>>()
            .map(Rule::Bools),
        Some(Value::Int(_)) => items
            .iter()
            .map(|item| if let Value::Int(value) = item { Some(*value) } else { None })
            .collect::<Option<_>>()
            .map(Rule::Ints),
        Some(Value::Number(_)) => items
            .iter()
            .map(|item| match item {
                Value::Number(value) => Some(*value),
                Value::Int(value) => Some(*value as f64),
                _ => None,
            })
            .collect::<Option<_>>()
            .map(Rule::Doubles),
        Some(_) => items.iter().map(|item| item.as_text().map(str::to_owned)).collect::<Option<_>>().map(Rule::Texts),
    };
    rule.ok_or_else(one_kind)
}

/// Reads an amount as hundredths that decimal(12, 2) can hold.
fn cents(value: &Value) -> Option<i64> {
    let hundredths = match value {
        Value::Int(number) => number.checked_mul(100)?,
        Value::Number(number) if number.abs() < 1e10 => (number * 100.0).round() as i64,
        _ => return None,
    };
    (hundredths.abs() < 1_000_000_000_000).then_some(hundredths)
}

fn span_micros(value: &Value) -> Option<u64> {
    let micros = match value {
        Value::Duration(duration) => u64::try_from(duration.as_micros()).ok()?,
        other => duration_micros(other.as_text()?)?,
    };
    (micros > 0 && micros < u64::MAX / 4).then_some(micros)
}

/// Reads `1h30m` as the language does.
fn duration_micros(text: &str) -> Option<u64> {
    let mut total = 0u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|char: char| !char.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = &rest[..rest.find(|char: char| char.is_ascii_digit()).unwrap_or(rest.len())];
        let micros = match unit {
            "ms" => 1_000,
            "s" => 1_000_000,
            "m" => 60_000_000,
            "h" => 3_600_000_000,
            "d" => 86_400_000_000,
            "w" => 604_800_000_000,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(micros)?)?;
        rest = &rest[unit.len()..];
    }
    Some(total)
}

fn call_text(name: &str, arguments: &[Value]) -> String {
    let text = |value: &Value| match value {
        Value::Int(number) => number.to_string(),
        Value::Name(word) | Value::Text(word) => word.clone(),
        Value::Call(name, arguments) => call_text(name, arguments),
        other => format!("{other:?}"),
    };
    format!("{name}({})", arguments.iter().map(text).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Decimal128Type, Int64Type, TimestampMicrosecondType};

    use super::*;

    fn made(rule: &Value, end: Micros) -> ArrayRef {
        let column = Column::parse("c", rule).unwrap();
        let ordinals: Vec<_> = (0..500).map(Some).collect();
        let array = column.values(1, &ordinals, end).unwrap();
        assert_eq!(array.data_type(), column.field().data_type());
        array
    }

    fn call(name: &str, arguments: Vec<Value>) -> Value {
        Value::Call(name.into(), arguments)
    }

    #[test]
    fn ranges_hold_for_every_value() {
        let money = made(&call("money", vec![Value::Int(1), Value::Number(2.5)]), 0);
        assert!(money.as_primitive::<Decimal128Type>().values().iter().all(|cents| (100..=250).contains(cents)));
        let end = 1_000_000_000;
        let recent = made(&call("recent", vec![Value::Text("1m".into())]), end);
        let recent = recent.as_primitive::<TimestampMicrosecondType>();
        assert!(recent.values().iter().all(|at| (end - 60_000_000..end).contains(at)));
        let sequence = made(&call("sequence", vec![]), 0);
        assert_eq!(sequence.as_primitive::<Int64Type>().values()[..3], [1, 2, 3]);
        let choice =
            made(&call("choice", vec![Value::List(vec![Value::Text("a".into()), Value::Text("b".into())])]), 0);
        assert!(choice.as_string::<i32>().iter().all(|text| matches!(text, Some("a" | "b"))));
    }

    #[test]
    fn every_type_of_the_language_can_be_made_up() {
        for word in [
            "bool",
            "smallint",
            "int",
            "bigint",
            "real",
            "double",
            "varchar",
            "bytea",
            "date",
            "time",
            "timestamp",
            "timestamptz",
            "uuid",
            "json",
        ] {
            assert_eq!(made(&Value::Name(word.into()), 0).null_count(), 0, "{word}");
        }
        made(&call("decimal", vec![Value::Int(6), Value::Int(3)]), 0);
        made(&call("list", vec![Value::Name("bigint".into())]), 0);
        let rules = [
            call("name", vec![]),
            call("email", vec![]),
            call("sentence", vec![Value::Int(3)]),
            call("pattern", vec![Value::Text("[a-z]{3}".into())]),
            call("number", vec![Value::Int(-5), Value::Int(5)]),
            call("choice", vec![Value::List(vec![Value::Bool(true)])]),
        ];
        for rule in rules {
            made(&rule, 0);
        }
    }

    #[test]
    fn a_rule_that_is_none_says_what_it_needs() {
        for (rule, part) in [
            (call("number", vec![Value::Int(9), Value::Int(1)]), "in order"),
            (call("recent", vec![Value::Text("soon".into())]), "duration"),
            (call("choice", vec![Value::List(vec![])]), "at least one"),
            (call("lorem", vec![]), "makes no values"),
            (Value::Name("numbr".into()), "is not a type"),
        ] {
            let error = Column::parse("c", &rule).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
