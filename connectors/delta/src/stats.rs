//! The statistics of a data file, as the log has them.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

/// The statistics of a file: kept as the text that they are, for nearly every round hands on what it found.
#[derive(Clone, Debug)]
pub(crate) struct Stats {
    text: Arc<str>,
    rows: Option<u64>,
    /// Whether they say that values may lie anywhere between the bounds, since rows are gone.
    loose: bool,
}

/// What is looked at in each of them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(default)]
    num_records: Value,
    #[serde(default)]
    tight_bounds: Value,
}

impl Stats {
    /// Reads statistics; `None` where they are not those of Delta.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let head: Head = serde_json::from_str(text).ok()?;
        Some(Self { text: text.into(), rows: head.num_records.as_u64(), loose: head.tight_bounds == false })
    }

    /// Returns the rows of the file, those that are gone included, where they say.
    pub(crate) fn rows(&self) -> Option<u64> {
        self.rows
    }

    /// Returns all that they say.
    pub(crate) fn value(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// Returns the same of a file of `rows` rows of which some are gone: the bounds hold, no longer closely.
    pub(crate) fn loosened(this: Option<&Self>, rows: u64) -> String {
        if let Some(same) = this.filter(|stats| stats.loose && stats.rows == Some(rows)) {
            return same.text.as_ref().to_owned();
        }
        let mut stats = this.map(Self::value).filter(Value::is_object).unwrap_or_else(|| json!({}));
        stats["numRecords"] = rows.into();
        stats["tightBounds"] = false.into();
        stats.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_loosened_once() {
        let tight = Stats::read(r#"{"numRecords":5,"minValues":{"id":1.5}}"#).unwrap();
        let once = Stats::loosened(Some(&tight), 5);
        let loose = Stats::read(&once).unwrap();
        assert_eq!((tight.rows(), loose.rows(), tight.loose, loose.loose), (Some(5), Some(5), false, true));
        assert_eq!(Stats::loosened(Some(&loose), 5), once);
        assert_eq!(loose.value(), json!({ "numRecords": 5, "tightBounds": false, "minValues": { "id": 1.5 } }));
        assert_eq!(Stats::loosened(Some(&loose), 6), once.replace("\"numRecords\":5", "\"numRecords\":6"));
        assert_eq!(Stats::loosened(None, 7), r#"{"numRecords":7,"tightBounds":false}"#);
    }

    #[test]
    fn what_others_wrote_is_taken_as_far_as_it_goes() {
        let rows = |text: &str| Stats::read(text).map(|stats| stats.rows());
        assert_eq!(
            [rows(r#"{"numRecords":"many"}"#), rows("{}"), rows("{"), rows("")],
            [Some(None), Some(None), None, None]
        );
        assert_eq!(
            Stats::loosened(Stats::read(r#"{"numRecords":-1}"#).as_ref(), 2),
            r#"{"numRecords":2,"tightBounds":false}"#
        );
    }
}
