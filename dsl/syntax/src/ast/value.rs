//! Names, settings, values and SQL islands.

use serde::Serialize;

use crate::Span;

/// A word that names something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Name {
    /// The word.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

impl Name {
    /// The word.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Names joined by dots; the parts after the first may be `*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Path {
    /// At least one part.
    pub parts: Vec<Name>,
    /// From the first part to the last.
    pub span: Span,
}

impl Path {
    /// The first part.
    pub fn head(&self) -> &Name {
        &self.parts[0]
    }

    /// The name, if the path is a single word.
    pub fn as_name(&self) -> Option<&Name> {
        (self.parts.len() == 1).then(|| &self.parts[0])
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, part) in self.parts.iter().enumerate() {
            let dot = if at > 0 { "." } else { "" };
            write!(out, "{dot}{}", part.text)?;
        }
        Ok(())
    }
}

/// `{ name = value … }`
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Settings {
    /// The settings, in text order; a name may occur twice (that is judged later).
    pub list: Vec<Setting>,
    /// The braces and what is between them.
    pub span: Span,
}

impl Settings {
    /// The first setting of that name.
    pub fn get(&self, name: &str) -> Option<&Setting> {
        self.list.iter().find(|setting| setting.name.text == name)
    }
}

/// `name = value`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Setting {
    /// Its name.
    pub name: Name,
    /// Its value.
    pub value: Value,
    /// From the name to the end of the value.
    pub span: Span,
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Value {
    /// The value.
    pub kind: ValueKind,
    /// Where it stands.
    pub span: Span,
}

/// What may stand behind `=`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum ValueKind {
    /// `"text ${path}"`
    String(Template),
    /// `true`, `false`
    Bool(bool),
    /// A whole number, as written.
    Int(String),
    /// A number with a decimal point, as written.
    Number(String),
    /// `1h30m`
    Duration(Duration),
    /// `64MB`
    Size(Size),
    /// `1.5%`
    Percent(Percent),
    /// `[a, b]`
    List(Vec<Value>),
    /// `{ a = b }`
    Map(Vec<Setting>),
    /// `env("X")`
    Call(Call),
    /// A word or a dotted name: `upsert`, `var.bucket`.
    Path(Path),
}

/// `name(value, …)`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Call {
    /// The function's name.
    pub name: Name,
    /// Its arguments.
    pub args: Vec<Value>,
    /// From the name to the closing parenthesis.
    pub span: Span,
}

/// A string with holes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Template {
    /// Text and holes, in order; two texts never follow each other; none for `""`.
    pub chunks: Vec<Chunk>,
    /// The string with its quotes.
    pub span: Span,
}

impl Template {
    /// The text, if there are no holes.
    pub fn as_text(&self) -> Option<&str> {
        match self.chunks.as_slice() {
            [] => Some(""),
            [Chunk::Text { value, .. }] => Some(value),
            _ => None,
        }
    }
}

/// A part of a string.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Chunk {
    /// Literal text, with escapes read.
    Text {
        /// What it stands for.
        value: String,
        /// Where it is written.
        span: Span,
    },
    /// `${path}` or `${path:format}`
    Hole {
        /// What is put in.
        path: Path,
        /// How it is written, such as `%Y/%m/%d`.
        format: Option<String>,
        /// From `$` to the closing brace.
        span: Span,
    },
}

/// A length of time, such as `1h30m`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Duration {
    /// As written.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

impl Duration {
    /// Units and their milliseconds. A year is 365 days: ages and limits are meant, not calendar dates.
    pub const UNITS: [(&'static str, u64); 7] = [
        ("ms", 1),
        ("s", 1_000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
        ("w", 604_800_000),
        ("y", 31_536_000_000),
    ];

    /// The length in milliseconds; `None` if it does not fit.
    pub fn milliseconds(&self) -> Option<u64> {
        let mut total = 0_u64;
        let mut rest = self.text.as_str();
        while !rest.is_empty() {
            let (digits, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
            let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
            let factor = Self::UNITS.iter().find(|(name, _)| *name == unit)?.1;
            total = total.checked_add(digits.parse::<u64>().ok()?.checked_mul(factor)?)?;
            rest = tail;
        }
        Some(total)
    }
}

/// A number of bytes, such as `64MB`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Size {
    /// As written.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

impl Size {
    /// Units and their bytes, in powers of 1024, as object stores and memory limits count.
    pub const UNITS: [(&'static str, u64); 5] =
        [("B", 1), ("KB", 1 << 10), ("MB", 1 << 20), ("GB", 1 << 30), ("TB", 1 << 40)];

    /// The number of bytes; `None` if it does not fit.
    pub fn bytes(&self) -> Option<u64> {
        let split = self.text.find(|c: char| !c.is_ascii_digit())?;
        let (digits, unit) = self.text.split_at(split);
        let factor = Self::UNITS.iter().find(|(name, _)| *name == unit)?.1;
        digits.parse::<u64>().ok()?.checked_mul(factor)
    }
}

/// A share, such as `1.5%`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Percent {
    /// As written, with the sign.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

impl Percent {
    /// The share as a fraction of one: 0.01 for `1%`.
    pub fn fraction(&self) -> Option<f64> {
        let number = self.text.strip_suffix('%')?;
        number.parse::<f64>().ok().map(|percent| percent / 100.0)
    }
}

/// What stands between the braces of a step, read by the SQL parser later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sql {
    /// Exactly the text between the braces, blanks and comments included.
    pub text: String,
    /// Exactly its bytes in the file, without the braces.
    pub span: Span,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_have_numbers() {
        let duration = |text: &str| Duration { text: text.into(), span: Span::default() };
        assert_eq!(duration("1h30m").milliseconds(), Some(5_400_000));
        assert_eq!(duration("250ms").milliseconds(), Some(250));
        assert_eq!(duration("2y").milliseconds(), Some(730 * 86_400_000));
        assert_eq!(duration("99999999999999999999y").milliseconds(), None);
        let size = |text: &str| Size { text: text.into(), span: Span::default() };
        assert_eq!(size("64MB").bytes(), Some(64 << 20));
        assert_eq!(size("7B").bytes(), Some(7));
        assert_eq!(size("99999999999TB").bytes(), None);
    }
}
