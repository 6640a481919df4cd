//! Values of settings, after variables are filled in.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::{Error, Result};

/// A text that never shows itself: printed, logged and serialized as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the secret itself, for the one call that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

/// One value of a setting.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A quoted text.
    Text(String),
    /// A bare word: an enum value, a column, a lifecycle.
    Name(String),
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Number(f64),
    /// A share, 0.01 for `1%`.
    Percent(f64),
    /// A length of time.
    Duration(Duration),
    /// A size in bytes.
    Size(u64),
    /// `[a, b]`.
    List(Vec<Value>),
    /// `{ a = b }`, in file order.
    Map(Vec<(String, Value)>),
    /// `name(argument, …)`.
    Call(String, Vec<Value>),
    /// A secret by name, before the command line has read it.
    SecretName(String),
    /// A secret itself.
    Secret(Secret),
}

impl Value {
    /// Returns the text of a quoted text or a bare word.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Name(text) => Some(text),
            _ => None,
        }
    }
}

/// Settings by name, checked against the connector's option table before anybody reads them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Settings(BTreeMap<String, Value>);

impl Settings {
    /// Creates settings from pairs.
    pub fn new(pairs: impl IntoIterator<Item = (String, Value)>) -> Self {
        Self(pairs.into_iter().collect())
    }

    /// Sets one value.
    pub fn set(&mut self, name: impl Into<String>, value: Value) {
        self.0.insert(name.into(), value);
    }

    /// Returns the value of `name`, if it was set.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Returns all settings in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Applies `change` to every value, nested ones too.
    pub fn map_values(&mut self, change: &mut dyn FnMut(&mut Value)) {
        for value in self.0.values_mut() {
            map_value(value, change);
        }
    }

    /// Returns a text or bare word.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_text)
    }

    /// Returns a text, or an error that names the missing setting.
    pub fn required_text(&self, name: &str) -> Result<&str> {
        self.text(name).ok_or_else(|| Error::bug("a required setting is missing").with("setting", name))
    }

    /// Returns a truth value, or `default`.
    pub fn bool_or(&self, name: &str, default: bool) -> bool {
        match self.get(name) {
            Some(Value::Bool(value)) => *value,
            _ => default,
        }
    }

    /// Returns a whole number, or `default`.
    pub fn int_or(&self, name: &str, default: i64) -> i64 {
        match self.get(name) {
            Some(Value::Int(value)) => *value,
            _ => default,
        }
    }

    /// Returns a size in bytes, or `default`.
    pub fn size_or(&self, name: &str, default: u64) -> u64 {
        match self.get(name) {
            Some(Value::Size(value)) => *value,
            _ => default,
        }
    }

    /// Returns a length of time.
    pub fn duration(&self, name: &str) -> Option<Duration> {
        match self.get(name) {
            Some(Value::Duration(value)) => Some(*value),
            _ => None,
        }
    }

    /// Returns the texts of a list; empty where nothing was set.
    pub fn texts(&self, name: &str) -> Vec<String> {
        match self.get(name) {
            Some(Value::List(items)) => items.iter().filter_map(Value::as_text).map(str::to_owned).collect(),
            Some(value) => value.as_text().map(str::to_owned).into_iter().collect(),
            None => Vec::new(),
        }
    }

    /// Returns a secret's text, or a plain text where the option allows both.
    pub fn secret(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Value::Secret(secret)) => Some(secret.reveal()),
            Some(value) => value.as_text(),
            None => None,
        }
    }
}

fn map_value(value: &mut Value, change: &mut dyn FnMut(&mut Value)) {
    change(value);
    match value {
        Value::List(items) | Value::Call(_, items) => {
            for item in items {
                map_value(item, change);
            }
        }
        Value::Map(pairs) => {
            for (_, item) in pairs {
                map_value(item, change);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_shows_itself() {
        let mut settings = Settings::default();
        settings.set("password", Value::Secret(Secret::new("hunter2")));
        let shown = format!("{settings:?} {}", serde_json::to_string(&settings).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(settings.secret("password"), Some("hunter2"));
    }
}
