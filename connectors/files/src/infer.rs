//! Columns from a sample of rows.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde_json::Value;

use crate::cell::{decimal, from_text, timestamp};
use crate::json::Values;
use crate::load::{Contents, Format};

/// Fraction digits up to which numbers are taken for exact amounts.
const SCALE_MAX: usize = 6;
/// Digits of an inferred decimal, and of one that needs more: as a floating point number it would be rounded.
const PRECISION: usize = 18;
const PRECISION_MAX: usize = 38;

/// What is known of one column.
#[derive(Clone, Debug)]
struct Guess {
    name: String,
    seen: bool,
    bool: bool,
    whole: bool,
    exact: bool,
    number: bool,
    date: bool,
    time: bool,
    /// Digits before and behind the point.
    digits: (usize, usize),
}

/// Gathers samples.
#[derive(Debug, Default)]
pub(crate) struct Inference {
    guesses: Vec<Guess>,
    pub(crate) rows: usize,
}

impl Inference {
    /// Takes up to `limit` rows of a text; the error says why it cannot be read.
    pub(crate) fn add(
        &mut self,
        contents: &Contents,
        limit: usize,
        delimiter: Option<u8>,
        header: bool,
    ) -> Result<(), String> {
        match contents {
            Contents::Binary(_) => Ok(()),
            Contents::Text(format @ (Format::Csv | Format::Tsv), text) => {
                let fallback = if *format == Format::Tsv { b'\t' } else { b',' };
                self.add_csv(text, limit, delimiter.unwrap_or(fallback), header)
            }
            Contents::Text(Format::Json, text) if text.trim_start().starts_with('[') => {
                let mut values = Values::default();
                while self.rows < limit
                    && let Some(value) = values.step(text)?
                {
                    self.add_json(&value);
                }
                Ok(())
            }
            Contents::Text(_, text) => {
                let values = text.lines().filter_map(|line| serde_json::from_str(line).ok());
                values.take(limit.saturating_sub(self.rows)).for_each(|value: Value| self.add_json(&value));
                Ok(())
            }
        }
    }

    fn add_csv(&mut self, text: &str, limit: usize, delimiter: u8, header: bool) -> Result<(), String> {
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .has_headers(header)
            .flexible(true)
            .from_reader(text.as_bytes());
        let names: Vec<String> = if header {
            let names = reader.headers().map_err(|error| error.to_string())?;
            names.iter().map(|name| name.trim().to_owned()).collect()
        } else {
            Vec::new()
        };
        for record in reader.records().take(limit.saturating_sub(self.rows)) {
            let record = record.map_err(|error| error.to_string())?;
            self.rows += 1;
            for (n, cell) in record.iter().enumerate() {
                let name = if header { names.get(n).cloned() } else { Some(format!("column_{}", n + 1)) };
                let Some(name) = name.filter(|name| !name.is_empty()) else { continue };
                self.guess(&name).add_text(cell);
            }
        }
        for name in names.iter().filter(|name| !name.is_empty()) {
            self.guess(name);
        }
        Ok(())
    }

    fn add_json(&mut self, value: &Value) {
        let Value::Object(object) = value else { return };
        self.rows += 1;
        for (name, value) in object {
            self.guess(name).add_json(value);
        }
    }

    fn guess(&mut self, name: &str) -> &mut Guess {
        let at = self.guesses.iter().position(|guess| guess.name == name).unwrap_or_else(|| {
            self.guesses.push(Guess::new(name));
            self.guesses.len() - 1
        });
        &mut self.guesses[at]
    }

    /// Returns the columns, in the order they first came.
    pub(crate) fn schema(&self) -> SchemaRef {
        let field = |guess: &Guess| Field::new(&guess.name, guess.data_type(), true);
        Arc::new(Schema::new(self.guesses.iter().map(field).collect::<Vec<_>>()))
    }
}

impl Guess {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            seen: false,
            bool: true,
            whole: true,
            exact: true,
            number: true,
            date: true,
            time: true,
            digits: (0, 0),
        }
    }

    fn add_text(&mut self, text: &str) {
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        self.seen = true;
        self.bool &= matches!(text.to_ascii_lowercase().as_str(), "true" | "false");
        self.add_number(text);
        self.date &= from_text(&DataType::Date32, text).is_some();
        self.time &= timestamp(text).is_some();
    }

    fn add_json(&mut self, value: &Value) {
        if value.is_null() {
            return;
        }
        self.seen = true;
        self.bool &= value.is_boolean();
        match value {
            Value::Number(number) => self.add_number(&number.to_string()),
            _ => (self.whole, self.exact, self.number) = (false, false, false),
        }
        let text = value.as_str();
        self.date &= text.is_some_and(|text| from_text(&DataType::Date32, text).is_some());
        self.time &= text.is_some_and(|text| timestamp(text).is_some());
    }

    fn add_number(&mut self, text: &str) {
        let digits = text.trim_start_matches(['+', '-']);
        let (before, after) = digits.split_once('.').unwrap_or((digits, ""));
        // `007` is a name, not a number: its zeros mean something.
        let plain = !(before.len() > 1 && before.starts_with('0'))
            && decimal(text, 38, u8::try_from(after.len().min(18)).unwrap_or(0)).is_some();
        self.whole &= plain && after.is_empty() && text.parse::<i64>().is_ok();
        self.exact &= plain && !text.contains(['e', 'E']);
        self.number &= !(before.len() > 1 && before.starts_with('0'))
            && text.starts_with(['+', '-', '.', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
            && text.parse::<f64>().is_ok_and(f64::is_finite);
        self.digits = (self.digits.0.max(before.len()), self.digits.1.max(after.len()));
    }

    fn data_type(&self) -> DataType {
        let (before, after) = self.digits;
        if !self.seen {
            DataType::Utf8
        } else if self.bool {
            DataType::Boolean
        } else if self.whole {
            DataType::Int64
        } else if self.exact && after <= SCALE_MAX && before + after <= PRECISION {
            DataType::Decimal128(18, i8::try_from(after).unwrap_or(0))
        } else if self.exact && after <= SCALE_MAX && before + after <= PRECISION_MAX {
            DataType::Decimal128(38, i8::try_from(after).unwrap_or(0))
        } else if self.number {
            DataType::Float64
        } else if self.date {
            DataType::Date32
        } else if self.time {
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
        } else {
            DataType::Utf8
        }
    }
}

#[cfg(test)]
mod tests {
    use lakehead_core::column_type_name;

    use super::*;

    fn inferred(format: Format, text: &str) -> Vec<(String, String)> {
        let mut inference = Inference::default();
        inference.add(&Contents::Text(format, text.into()), 1000, None, true).unwrap();
        let fields = inference.schema();
        fields.fields().iter().map(|f| (f.name().clone(), column_type_name(f.data_type()))).collect()
    }

    fn check(format: Format, text: &str, expected: &[(&str, &str)]) {
        let found = inferred(format, text);
        let found: Vec<_> = found.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn types_are_those_that_hold_every_sample_exactly() {
        check(
            Format::Csv,
            "id,zip,amount,ratio,day,at,ok,empty,text\n\
             1,00501,9.5,1e-9,2026-05-01,2026-05-01 10:00:00,true,,x\n\
             -2,10115,10.25,0.5,2026-05-02,2026-05-01T10:00:00Z,FALSE,,1\n",
            &[
                ("id", "bigint"),
                ("zip", "varchar"),
                ("amount", "decimal(18, 2)"),
                ("ratio", "double"),
                ("day", "date"),
                ("at", "timestamptz"),
                ("ok", "bool"),
                ("empty", "varchar"),
                ("text", "varchar"),
            ],
        );
        check(
            Format::Lines,
            "{\"id\": 1, \"n\": \"7\"}\n{\"id\": 1.1234567, \"tags\": [1], \"n\": null}\nbroken\n",
            &[("id", "double"), ("n", "varchar"), ("tags", "varchar")],
        );
        check(
            Format::Csv,
            "id,due,far\n9223372036854775808,12345678901234567.89,1e30\n99999999999999999999,1,2\n",
            &[("id", "decimal(38, 0)"), ("due", "decimal(38, 2)"), ("far", "double")],
        );
        check(Format::Json, "[{\"ok\": true}, {\"ok\": 1}]", &[("ok", "varchar")]);
    }
}
