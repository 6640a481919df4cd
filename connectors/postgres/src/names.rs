//! Names in SQL, and patterns over them. Every identifier and every literal in a statement of ours passes here.

use globset::{GlobBuilder, GlobMatcher};
use lakehead_core::{Error, Result};

use crate::fault;

/// The longest name that the server keeps; what is longer is cut without an error.
pub(crate) const NAME_BYTES_MAX: usize = 63;

/// Quotes an identifier. PostgreSQL names hold no NUL; one in a setting is refused before it gets here.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a schema and a name.
pub(crate) fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quote(schema), quote(name))
}

/// Quotes a text as a literal that reads the same under every setting of `standard_conforming_strings`.
pub(crate) fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') { format!(" E'{}'", doubled.replace('\\', "\\\\")) } else { format!("'{doubled}'") }
}

/// Quotes a text as a literal of the replication protocol's own grammar, which knows no backslashes.
pub(crate) fn replication_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Returns `name` as the name of a slot or a publication: lower case letters, digits and `_`, at most 63 of them.
pub(crate) fn as_slot_name(name: &str) -> String {
    name.chars()
        .map(|letter| letter.to_ascii_lowercase())
        .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' })
        .take(NAME_BYTES_MAX)
        .collect()
}

/// Patterns over `schema.name` with `*`, `?` and `{a,b}`; one without a dot means the schema `public`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patterns(Vec<Pattern>);

#[derive(Clone, Debug)]
struct Pattern {
    text: String,
    /// What it may mean.
    globs: Vec<GlobMatcher>,
}

impl Pattern {
    fn parse(setting: &str, text: &str, readings: &[String]) -> Result<Self> {
        let glob = |reading: &String| {
            let glob = GlobBuilder::new(reading).literal_separator(false).build().map_err(|error| {
                Error::user(fault::SETTING, format!("a pattern of `{setting}` cannot be read"))
                    .with("pattern", text)
                    .with("reason", error.kind())
            })?;
            Ok(glob.compile_matcher())
        };
        Ok(Self { text: text.to_owned(), globs: readings.iter().map(glob).collect::<Result<_>>()? })
    }

    fn matches(&self, name: &str) -> bool {
        self.globs.iter().any(|glob| glob.is_match(name))
    }
}

impl Patterns {
    /// Reads the patterns of a setting.
    pub(crate) fn parse(setting: &str, patterns: &[String]) -> Result<Self> {
        let pattern = |text: &String| {
            let full = if text.contains('.') { text.clone() } else { format!("public.{text}") };
            Pattern::parse(setting, text, &[full])
        };
        patterns.iter().map(pattern).collect::<Result<_>>().map(Self)
    }

    /// Reads patterns over `schema.table.column`; `table.column` means the schema `public`, beside what it is in full.
    pub(crate) fn parse_columns(patterns: &[String]) -> Result<Self> {
        let pattern = |text: &String| {
            let readings = match text.matches('.').count() {
                0 | 1 => vec![text.clone(), format!("public.{text}")],
                _ => vec![text.clone()],
            };
            Pattern::parse("exclude_columns", text, &readings)
        };
        patterns.iter().map(pattern).collect::<Result<_>>().map(Self)
    }

    /// Returns whether any pattern matches.
    pub(crate) fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(name))
    }

    /// Returns the patterns that match none of the names.
    pub(crate) fn unmatched<'a>(&'a self, names: &'a [String]) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(|pattern| !names.iter().any(|name| pattern.matches(name)))
            .map(|pattern| pattern.text.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_names_and_literals_cannot_be_left() {
        assert_eq!(quote("we\"ird"), "\"we\"\"ird\"");
        assert_eq!(literal("o'clock"), "'o''clock'");
        assert_eq!(literal("a\\'b"), " E'a\\\\''b'");
    }

    #[test]
    fn patterns_name_tables_and_a_bare_one_means_public() {
        let patterns = Patterns::parse("tables", &["orders".into(), "sales.{a,b}*".into()]).unwrap();
        for (name, expected) in
            [("public.orders", true), ("sales.alpha", true), ("sales.beta", true), ("sales.c", false)]
        {
            assert_eq!(patterns.matches(name), expected, "{name}");
        }
        let unmatched: Vec<_> = patterns.unmatched(&[]).collect();
        assert_eq!(unmatched, ["orders", "sales.{a,b}*"]);
    }

    #[test]
    fn a_column_of_a_table_without_its_schema_is_one_in_public() {
        let columns = Patterns::parse_columns(&["users.email".into(), "*.secret".into(), "a.b.c".into()]).unwrap();
        for (name, expected) in [
            ("public.users.email", true),
            ("sales.users.email", false),
            ("sales.any.secret", true),
            ("a.b.c", true),
            ("public.a.b.c", false),
        ] {
            assert_eq!(columns.matches(name), expected, "{name}");
        }
    }

    #[test]
    fn a_slot_name_holds_only_what_the_server_allows() {
        assert_eq!(as_slot_name("Lakehead-1.Orders"), "lakehead_1_orders");
        assert_eq!(as_slot_name(&"x".repeat(80)).len(), 63);
    }
}
