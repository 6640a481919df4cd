//! Rules put into their bucket. S3 replaces all rules of a bucket at once and knows no condition under which it would not,
//! so they are read right before and right behind the write, and compared.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use lakehead_core::{Clock, Error, Result, Settings, failpoint};
use lakehead_lakefile::{Answer, SignedBucket};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::configuration::{from_xml, to_xml};
use crate::merge::{MINIMUM_SIZE, Merged, rules_of};
use crate::s3::S3Rules;

/// The header that carries a bucket's least size of objects that move.
const MINIMUM_SIZE_HEADER: &str = "x-amz-transition-default-minimum-object-size";
/// Looks at what was written: S3 says that new rules may take a while to be shown.
const LOOKS: u32 = 6;
/// Pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_secs(2);

/// The rules of one bucket, over the S3 API.
#[derive(Debug)]
pub struct BucketRules {
    calls: SignedBucket,
    clock: Arc<dyn Clock>,
}

impl BucketRules {
    /// Builds a client for the bucket of a location; asks nobody yet.
    ///
    /// # Errors
    ///
    /// R0551 where the location is no URL; what a client cannot be made with.
    pub fn open(location: &str, settings: &Settings, clock: Arc<dyn Clock>) -> Result<Self> {
        let url = url::Url::parse(location)
            .map_err(|error| Error::user("R0551", "the location is not a folder of a bucket").caused_by(error))?;
        Ok(Self { calls: SignedBucket::open(&url, settings)?, clock })
    }

    /// Reads the bucket's present rules, as `aws s3api get-bucket-lifecycle-configuration` prints them.
    ///
    /// # Errors
    ///
    /// R0562 where the bucket refuses, R0556 for a rule with a field that is not known, R0404 where nobody answers.
    pub async fn read(&self) -> Result<String> {
        let answer = self.calls.call("GET", "?lifecycle", &[], "").await?;
        if answer.status == 404 && answer.element("Code") == Some("NoSuchLifecycleConfiguration") {
            return Ok(String::new());
        }
        if !answer.is_done() {
            return Err(self.refused("s3:GetLifecycleConfiguration", &answer));
        }
        let mut configuration = from_xml(&answer.body)?;
        if let Some(size) = answer.header(MINIMUM_SIZE_HEADER) {
            configuration[MINIMUM_SIZE] = size.into();
        }
        Ok(configuration.to_string())
    }

    /// Writes what was merged from `seen`, and looks that the bucket has it. Returns what the store did not keep of our
    /// rules and can do without: sentences to show. Where a write fails on the way, the old rules or the new ones hold,
    /// never a mixture.
    ///
    /// # Errors
    ///
    /// R0560 where the rules are no longer those of `seen`: nothing is written. R0561 where the bucket then shows others than
    /// were written: somebody wrote at the same time. R0562 where the bucket refuses. R0563 where the store dropped what a
    /// rule may not be without: the old rules are put back, or it is said that they could not be.
    pub async fn write(&self, seen: &str, merged: &Merged, rules: &S3Rules) -> Result<Vec<String>> {
        failpoint::hit("lifecycle.apply").await?;
        let now = self.read().await?;
        if plain_rules(seen, |_| true)? != plain_rules(&now, |_| true)? {
            return Err(Error::incident("R0560", "the bucket's rules have changed since they were read")
                .with("bucket", self.calls.bucket())
                .help("nothing was written: run it again, and see what has changed"));
        }
        self.put(&merged.json, merged.minimum_object_size.as_deref()).await?;
        for look in 1..=LOOKS {
            match shown(&merged.json, &self.read().await?, &rules.own_prefix())? {
                Shown::All => return Ok(Vec::new()),
                Shown::WithoutSizes => {
                    let note =
                        "the store keeps no sizes in rules: files of 128 KB or less are moved too, and cost more";
                    return Ok(vec![note.to_owned()]);
                }
                Shown::WithoutTags => return Err(self.put_back(seen, merged).await),
                Shown::Others if look < LOOKS => self.clock.sleep(LOOK_PAUSE).await,
                Shown::Others => {}
            }
        }
        Err(Error::incident("R0561", "the bucket shows other rules than were written")
            .with("bucket", self.calls.bucket())
            .help("somebody sets rules at the same time: find out who, and run it again")
            .help("lakehead lifecycle apply … --dry-run   shows what is there"))
    }

    /// Puts the rules back that were there; returns why.
    async fn put_back(&self, seen: &str, merged: &Merged) -> Error {
        let refusal = Error::user("R0563", "the store drops the tags of rules: they would move a table's log")
            .with("bucket", self.calls.bucket());
        match self.put(seen, merged.minimum_object_size.as_deref()).await {
            Ok(()) => refusal.help("the old rules were put back; this store cannot carry out the lifecycle"),
            Err(error) => refusal
                .caused_by(error)
                .help("the old rules could not be put back: the new ones hold, and would move a table's log")
                .help("take away those whose ids begin with `lakehead:` before the store next carries them out, mostly at midnight"),
        }
    }

    async fn put(&self, configuration: &str, minimum_size: Option<&str>) -> Result<()> {
        let rules = rules_of(configuration)?;
        let answer = if rules.is_empty() {
            // A configuration without rules is refused; to have none is to take it away.
            self.calls.call("DELETE", "?lifecycle", &[], "").await?
        } else {
            let xml = to_xml(&json!({ "Rules": rules }))?;
            let digest = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(xml.as_bytes()));
            let mut headers = vec![("content-type", "application/xml".to_owned()), ("x-amz-checksum-sha256", digest)];
            headers.extend(minimum_size.map(|size| (MINIMUM_SIZE_HEADER, size.to_owned())));
            self.calls.call("PUT", "?lifecycle", &headers, &xml).await?
        };
        if answer.is_done() { Ok(()) } else { Err(self.refused("s3:PutLifecycleConfiguration", &answer)) }
    }

    fn refused(&self, permission: &str, answer: &Answer) -> Error {
        let code = answer.element("Code").unwrap_or("");
        let text = "the bucket refused a call for its rules";
        let error = if answer.status >= 500 { Error::external("R0562", text) } else { Error::incident("R0562", text) };
        let error = error
            .with("bucket", self.calls.bucket())
            .with("status", answer.status)
            .with("kind", code)
            .with("said", answer.element("Message").unwrap_or(""));
        match code {
            "AccessDenied" => error.help(format!("allow   {permission}   to the role or user of these keys")),
            "NoSuchBucket" => error.help("make the bucket, or change `path` of the connection"),
            "NotImplemented" | "MethodNotAllowed" => {
                error.help("this store keeps no rules: what moves its objects has to be set up there by hand")
            }
            _ => error.help("run it again: what was not written is written then"),
        }
    }
}

/// What a bucket shows of what was written.
#[derive(Debug, PartialEq, Eq)]
enum Shown {
    All,
    /// All but the sizes of objects that rules of ours ask for, which some stores do not know.
    WithoutSizes,
    /// All but their tags.
    WithoutTags,
    Others,
}

fn shown(written: &str, now: &str, own_prefix: &str) -> Result<Shown> {
    let is_own = |rule: &Value| rule["ID"].as_str().is_some_and(|id| id.starts_with(own_prefix));
    let others = |text| plain_rules(text, |rule| !is_own(rule));
    if others(written)? != others(now)? {
        return Ok(Shown::Others);
    }
    let own = |text| -> Result<Vec<Value>> { Ok(rules_of(text)?.into_iter().filter(is_own).collect()) };
    let (written, now) = (own(written)?, own(now)?);
    let without = |fields: &[&str]| same(&written, &now, fields);
    Ok(match () {
        () if without(&[]) => Shown::All,
        () if without(&["ObjectSizeGreaterThan"]) => Shown::WithoutSizes,
        () if without(&["ObjectSizeGreaterThan", "Tags", "Tag"]) => Shown::WithoutTags,
        () => Shown::Others,
    })
}

/// Compares rules by what they say beside some fields: neither order nor spelling counts.
fn same(one: &[Value], other: &[Value], beside: &[&str]) -> bool {
    let plain = |rules: &[Value]| {
        let mut rules: Vec<String> = rules.iter().map(|rule| plain(rule, beside)).collect();
        rules.sort();
        rules
    };
    plain(one) == plain(other)
}

fn plain_rules(text: &str, which: impl Fn(&Value) -> bool) -> Result<Vec<String>> {
    let mut rules: Vec<String> =
        rules_of(text)?.iter().filter(|rule| which(rule)).map(|rule| plain(rule, &[])).collect();
    rules.sort();
    Ok(rules)
}

/// A value with its fields and lists in order. A filter is what it asks for, however it says `And`.
fn plain(value: &Value, beside: &[&str]) -> String {
    match value {
        Value::Object(fields) => {
            let known = fields.iter().filter(|(name, _)| !beside.contains(&name.as_str()));
            let mut parts: Vec<String> = known
                .map(|(name, value)| match (name.as_str(), value) {
                    ("And", value) => plain(value, beside).trim_matches(['{', '}']).to_owned(),
                    (name, value) => format!("{name}:{}", plain(value, beside)),
                })
                .collect();
            parts.sort();
            format!("{{{}}}", parts.join(","))
        }
        Value::Array(values) => {
            let mut values: Vec<String> = values.iter().map(|value| plain(value, beside)).collect();
            values.sort();
            format!("[{}]", values.join(","))
        }
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = r#"{"ID":"lakehead:p:t:1","Filter":{"And":{"Prefix":"t/","Tags":[{"Key":"k","Value":"v"}],"ObjectSizeGreaterThan":5}},"Transitions":[{"Days":1},{"Days":2}]}"#;

    #[test]
    fn what_a_store_shows_of_its_rules_is_told_apart() {
        let of = |rules: &[&str]| format!("{{\"Rules\":[{}]}}", rules.join(","));
        let theirs = r#"{"ID":"a","Status":"Enabled"}"#;
        let written = of(&[OURS, theirs]);
        let shown = |rules: &[&str]| shown(&written, &of(rules), "lakehead:p:").unwrap();
        let turned = OURS.replace(r#"{"Days":1},{"Days":2}"#, r#"{"Days":2},{"Days":1}"#);
        assert_eq!(shown(&[theirs, &turned]), Shown::All, "in any order");
        let unsized_rule = OURS.replace(r#","ObjectSizeGreaterThan":5"#, "");
        assert_eq!(shown(&[theirs, &unsized_rule]), Shown::WithoutSizes);
        let bare = unsized_rule.replace(r#","Tags":[{"Key":"k","Value":"v"}]"#, "");
        assert_eq!(shown(&[theirs, &bare]), Shown::WithoutTags);
        let simple = bare.replace(r#"{"And":{"Prefix":"t/"}}"#, r#"{"Prefix":"t/"}"#);
        assert_eq!(shown(&[theirs, &simple]), Shown::WithoutTags);
        let later = OURS.replace(r#""Days":1"#, r#""Days":3"#);
        let added = r#"{"ID":"b"}"#;
        for others in [&[OURS][..], &[theirs], &[theirs, &later], &[theirs, OURS, added], &[]] {
            assert_eq!(shown(others), Shown::Others, "{others:?}");
        }
    }
}
