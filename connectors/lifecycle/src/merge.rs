//! Our rules beside those that a bucket has. Setting a bucket's rules replaces all of them, so what others wrote is
//! read first and written again.

use lakehead_core::{Error, Result};
use serde_json::{Map, Value, json};

use crate::emit::{pretty, rule_json};
use crate::s3::{RULES_MAX, S3Rules, too_many};

/// A setting of a bucket that is read with its rules and written beside them.
pub(crate) const MINIMUM_SIZE: &str = "TransitionDefaultMinimumObjectSize";
/// What a client library adds to what it read.
const OF_CLIENT: &str = "ResponseMetadata";

/// The whole configuration of a bucket, and what has changed in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// What `put-bucket-lifecycle-configuration` takes. Where `count` is 0 S3 refuses it: `delete-bucket-lifecycle`.
    pub json: String,
    /// Rules in it.
    pub count: usize,
    /// Rules of others in it.
    pub foreign_count: usize,
    /// Ids of ours that were not there.
    pub added: Vec<String>,
    /// Ids of ours that were otherwise.
    pub changed: Vec<String>,
    /// Ids of ours that are gone.
    pub removed: Vec<String>,
    /// The bucket's least size of objects that move by default, where it was said: to be given along as
    /// `--transition-default-minimum-object-size`, or S3 sets it back.
    pub minimum_object_size: Option<String>,
    /// Rules of others that would delete or archive live files of our tables: sentences to show.
    pub warnings: Vec<String>,
}

impl Merged {
    /// Returns whether the bucket has these rules already.
    pub fn is_there(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

/// Puts the rules of one pipeline into a bucket's configuration, as `get-bucket-lifecycle-configuration` shows it; an
/// empty text is a bucket without rules.
///
/// Rules whose id begins with `lakehead:<pipeline>:` are replaced; all others keep their values and their order.
/// Merging twice is merging once.
///
/// # Errors
///
/// R0556 for a text that is no such configuration, R0557 past [`RULES_MAX`] rules.
pub fn merge(existing: &str, rules: &S3Rules) -> Result<Merged> {
    let (present, minimum_object_size) = read(existing)?;
    let own_prefix = rules.own_prefix();
    let is_own = |rule: &Value| id(rule).is_some_and(|id| id.starts_with(&own_prefix));
    let place = present.iter().position(is_own);
    let (own, foreign): (Vec<Value>, Vec<Value>) = present.into_iter().partition(is_own);
    let wanted: Vec<Value> = rules.rules.iter().map(rule_json).collect();
    let count = foreign.len() + wanted.len();
    if count > RULES_MAX {
        return Err(too_many(&rules.bucket, count));
    }
    let before = |rule: &Value| own.iter().find(|old| id(old) == id(rule));
    let ids = |rules: Vec<&Value>| rules.into_iter().filter_map(id).map(str::to_owned).collect();
    let added = ids(wanted.iter().filter(|rule| before(rule).is_none()).collect());
    let changed = ids(wanted.iter().filter(|rule| before(rule).is_some_and(|old| old != *rule)).collect());
    let gone = |old: &&Value| !wanted.iter().any(|rule| id(rule) == id(old));
    let removed = ids(own.iter().filter(gone).collect());
    let warnings = foreign.iter().flat_map(|rule| warning(rule, rules)).collect();
    let foreign_count = foreign.len();
    let mut all = foreign;
    // Where they stood, so that what a person compares has not moved.
    let place = place.unwrap_or(all.len());
    all.splice(place..place, wanted);
    let json = pretty(&json!({ "Rules": all }));
    Ok(Merged { json, count, foreign_count, added, changed, removed, minimum_object_size, warnings })
}

fn id(rule: &Value) -> Option<&str> {
    rule.get("ID").and_then(Value::as_str)
}

fn read(existing: &str) -> Result<(Vec<Value>, Option<String>)> {
    if existing.trim().is_empty() {
        return Ok((Vec::new(), None));
    }
    let value: Value =
        serde_json::from_str(existing).map_err(|error| not_understood("it is no JSON").caused_by(error))?;
    let Value::Object(mut fields) = value else { return Err(not_understood("it is no object")) };
    fields.remove(OF_CLIENT);
    let minimum = match fields.remove(MINIMUM_SIZE) {
        None => None,
        Some(Value::String(text)) => Some(text),
        Some(_) => return Err(not_understood("TransitionDefaultMinimumObjectSize is no text")),
    };
    let rules = match fields.remove("Rules") {
        None => Vec::new(),
        Some(Value::Array(rules)) if rules.iter().all(Value::is_object) => rules,
        Some(_) => return Err(not_understood("Rules is no list of rules")),
    };
    // What is not known would be lost, and a bucket's rules are not ours to lose.
    if let Some(name) = fields.keys().next() {
        return Err(not_understood("it has a field that is not known").with("field", name));
    }
    Ok((rules, minimum))
}

/// Returns the rules of a configuration.
pub(crate) fn rules_of(existing: &str) -> Result<Vec<Value>> {
    read(existing).map(|(rules, _)| rules)
}

pub(crate) fn not_understood(reason: &str) -> Error {
    Error::user("R0556", "the bucket's present configuration is not understood")
        .with("reason", reason)
        .help("give what `aws s3api get-bucket-lifecycle-configuration` prints, or nothing for a bucket without rules")
}

/// A rule of others without a tag reaches the log and live files of every table below its prefix.
fn warning(rule: &Value, rules: &S3Rules) -> Option<String> {
    let harm = harm(rule)?;
    let enabled = rule.get("Status").and_then(Value::as_str) == Some("Enabled");
    let empty = Map::new();
    let filter = rule.get("Filter").and_then(Value::as_object).unwrap_or(&empty);
    let and = filter.get("And").and_then(Value::as_object);
    let tagged = filter.contains_key("Tag") || and.is_some_and(|and| and.contains_key("Tags"));
    let prefix = [rule.get("Prefix"), filter.get("Prefix"), and.and_then(|and| and.get("Prefix"))];
    let prefix = prefix.into_iter().flatten().find_map(Value::as_str).unwrap_or("");
    let reached = |ours: &str| ours.starts_with(prefix) || prefix.starts_with(ours);
    let reached = rules.rules.iter().find(|ours| reached(&ours.prefix))?;
    let name = id(rule).unwrap_or("without an id");
    (enabled && !tagged).then(|| format!("the rule `{name}` {harm} live files in {}", reached.prefix))
}

fn harm(rule: &Value) -> Option<&'static str> {
    let has = |field: &str, inner: &[&str]| {
        rule.get(field).is_some_and(|found| inner.iter().any(|name| found.get(name).is_some()))
    };
    if has("Expiration", &["Days", "Date"]) {
        return Some("deletes");
    }
    let class = |step: &Value| step.get("StorageClass").and_then(Value::as_str).map(str::to_owned);
    let steps = rule.get("Transitions").and_then(Value::as_array)?;
    let offline = |class: String| class == "GLACIER" || class == "DEEP_ARCHIVE";
    steps.iter().filter_map(class).any(offline).then_some("archives")
}
