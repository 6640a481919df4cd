//! Rules as text.

use std::fmt::Write as _;

use lakehead_core::LIFECYCLE_TAG;
use serde_json::{Value, json};

use crate::s3::{ABORT_DAYS, OBJECT_BYTES_OVER, S3Rule, S3Rules, S3Step, class_name};

/// Returns what `aws s3api put-bucket-lifecycle-configuration --lifecycle-configuration file://…` takes.
///
/// That call replaces every rule of the bucket: where others have rules there, [`crate::merge`] first. A configuration
/// without rules is refused by S3; `delete-bucket-lifecycle` is the call for that.
pub fn emit_json(rules: &S3Rules) -> String {
    pretty(&json!({ "Rules": rules.rules.iter().map(rule_json).collect::<Vec<_>>() }))
}

pub(crate) fn pretty(value: &Value) -> String {
    // The alternate form is indented; writing a value into memory cannot fail.
    format!("{value:#}\n")
}

pub(crate) fn rule_json(rule: &S3Rule) -> Value {
    match &rule.step {
        S3Step::Move { tag, steps } => json!({
            "ID": rule.id,
            "Status": "Enabled",
            "Filter": { "And": {
                "Prefix": rule.prefix,
                "Tags": [{ "Key": LIFECYCLE_TAG, "Value": tag }],
                "ObjectSizeGreaterThan": OBJECT_BYTES_OVER,
            } },
            "Transitions": steps.iter().map(|(days, class)| json!({ "Days": days, "StorageClass": class_name(*class) }))
                .collect::<Vec<_>>(),
        }),
        S3Step::Abort => json!({
            "ID": rule.id,
            "Status": "Enabled",
            "Filter": { "Prefix": rule.prefix },
            "AbortIncompleteMultipartUpload": { "DaysAfterInitiation": ABORT_DAYS },
        }),
    }
}

/// Returns one `aws_s3_bucket_lifecycle_configuration`, formatted as `terraform fmt` does.
///
/// The provider owns all rules of a bucket by one such resource: where there is one, the `rule` blocks go there.
pub fn emit_terraform(rules: &S3Rules) -> String {
    let mut text =
        String::from("# A bucket has one such resource: where there is one already, move the rules there.\n");
    for note in rules.notes() {
        let _ = writeln!(text, "# {note}");
    }
    let name = resource_name(&rules.pipeline);
    let _ = writeln!(text, "resource \"aws_s3_bucket_lifecycle_configuration\" \"{name}\" {{");
    let _ = writeln!(text, "  bucket = {}", quoted(&rules.bucket));
    for rule in &rules.rules {
        text.push('\n');
        text.push_str(&rule_terraform(rule));
    }
    text.push_str("}\n");
    text
}

fn rule_terraform(rule: &S3Rule) -> String {
    let (id, prefix) = (quoted(&rule.id), quoted(&rule.prefix));
    let mut text = format!("  rule {{\n    id     = {id}\n    status = \"Enabled\"\n\n");
    match &rule.step {
        S3Step::Move { tag, steps } => {
            let _ = write!(
                text,
                "    filter {{\n      and {{\n        prefix                   = {prefix}\n        \
                 object_size_greater_than = {OBJECT_BYTES_OVER}\n        tags = {{\n          {} = {}\n        }}\n      \
                 }}\n    }}\n",
                quoted(LIFECYCLE_TAG),
                quoted(tag),
            );
            for (days, class) in steps {
                let class = class_name(*class);
                let _ = write!(
                    text,
                    "\n    transition {{\n      days          = {days}\n      storage_class = \"{class}\"\n    }}\n"
                );
            }
        }
        S3Step::Abort => {
            let _ = write!(
                text,
                "    filter {{\n      prefix = {prefix}\n    }}\n\n    abort_incomplete_multipart_upload {{\n      \
                 days_after_initiation = {ABORT_DAYS}\n    }}\n"
            );
        }
    }
    text.push_str("  }\n");
    text
}

/// Names of resources are letters, digits, `_` and `-`.
fn resource_name(pipeline: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
    format!("lakehead_{}", pipeline.chars().map(plain).collect::<String>())
}

/// A text of HCL: `${` and `%{` would begin templates.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "$${").replace("%{", "%%{");
    format!("\"{escaped}\"")
}
