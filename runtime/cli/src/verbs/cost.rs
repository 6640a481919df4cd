//! What the lifecycle of a table saves or costs, from its files as they lie there now.

use std::collections::BTreeMap;

use lakehead_core::{Lifecycle, Micros, MovedBy, StorageClass, WriteMode};
use lakehead_lifecycle::{Held, OBJECT_BYTES_OVER, PRICES_OF, class_name, cost};
use lakehead_plan::SinkPlan;

use super::propose::FILES_MAX;
use crate::show::{counted, grouped, size};

/// What is said of a table in a bucket whose partitions tell no time.
const NO_AGE: &str = "no partition tells an age: the bucket's rules move what is merged, by the day it was written";

/// Returns a line for each step of a sink's lifecycle: days, class, bytes, and in S3 the saving or the loss. None where
/// nothing moves.
pub(crate) fn cost_lines(sink: &SinkPlan, files: &[(String, u64)], now: Micros) -> Vec<String> {
    let mut retention = sink.retention();
    let Some(lifecycle) = sink.lifecycle.as_deref().filter(|_| !retention.moves.is_empty()) else {
        return Vec::new();
    };
    let partitioned: Vec<_> = files.iter().map(|(name, bytes)| (partition_of(name), *bytes)).collect();
    let in_s3 = sink.connection.text("path").is_some_and(|path| path.starts_with("s3://"));
    if sink.mode == WriteMode::Compact {
        let by = if in_s3 { MovedBy::Bucket } else { MovedBy::Writer };
        let partitions = partitioned.iter().flat_map(|(partition, _)| partition);
        let partitions = partitions.map(|(column, value)| (column.as_str(), Some(value.as_str())));
        // What is wrong with it was told as such.
        let Ok(told) = retention.of_table(&sink.schema, partitions, by) else { return Vec::new() };
        retention = told;
        if in_s3 && !retention.tells_age() {
            return vec![NO_AGE.to_owned()];
        }
    }
    let mut held: BTreeMap<StorageClass, Held> = BTreeMap::new();
    for (partition, bytes) in &partitioned {
        let class = retention.class_of(|column| partition.get(column).map(String::as_str), now);
        class.into_iter().for_each(|class| held.entry(class).or_default().add(*bytes));
    }
    let mut lines: Vec<String> = Vec::new();
    for (place, step) in lifecycle.transitions.iter().enumerate() {
        let held = held.get(&step.class).copied().unwrap_or_default();
        lines.push(line(lifecycle, place, held, in_s3));
    }
    let small: u64 = held.values().map(|held| held.small_files).sum();
    if small > 0 && in_s3 {
        lines.push(format!(
            "{} of {} or less stay where they are",
            counted(small, "old file"),
            size(OBJECT_BYTES_OVER)
        ));
    }
    if in_s3 && held.values().any(|held| held.files > 0) {
        lines.push(format!("by {PRICES_OF}; reading, requests and discounts are not in it"));
    }
    if files.len() == FILES_MAX {
        lines.push(format!("of the first {} files; there are more", grouped(FILES_MAX as u64)));
    }
    lines
}

fn line(lifecycle: &Lifecycle, place: usize, held: Held, in_s3: bool) -> String {
    let step = &lifecycle.transitions[place];
    let days = |after| Lifecycle::days(after).unwrap_or(0);
    let age = days(step.after);
    let (moving, bytes) = (counted(held.files, "file"), size(held.bytes));
    let mut text = format!("{} after {age} days: {moving}, {bytes} old enough now", step.class.word());
    if held.files == 0 || !in_s3 {
        return text;
    }
    let next = lifecycle.transitions.get(place + 1).map(|next| next.after).or(lifecycle.expire_after);
    let stay = next.map(|next| days(next).saturating_sub(age));
    let cost = cost(step.class, held, stay);
    text.push_str(&format!("; {} saves {} a month, ", class_name(step.class), dollars(cost.month)));
    text.push_str(&format!("moving costs {} once", dollars(cost.once)));
    if cost.early > 0.0 {
        text.push_str(&format!(", leaving early {}", dollars(cost.early)));
    }
    let over = stay.map_or_else(|| "a year".to_owned(), |days| format!("{days} days"));
    let (word, amount) = if cost.stay < 0.0 { ("LOSES", -cost.stay) } else { ("saves", cost.stay) };
    text.push_str(&format!(": {word} {} over {over}", dollars(amount)));
    text
}

/// Cents where they say something.
fn dollars(amount: f64) -> String {
    if amount.abs() >= 0.995 || amount == 0.0 { format!("${amount:.2}") } else { format!("${amount:.4}") }
}

/// The values of a file's partition, by its folders.
fn partition_of(name: &str) -> BTreeMap<String, String> {
    let folders = name.rsplit_once('/').map_or("", |(folders, _)| folders).split('/');
    let pairs = folders.filter_map(|folder| folder.split_once('=')).filter(|(_, value)| !value.starts_with("__HIVE_"));
    pairs.map(|(column, value)| (decoded(column), decoded(value))).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let code = behind.get(..2).filter(|_| *first == b'%').and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lakehead_core::Transition;

    use super::*;

    #[test]
    fn folders_tell_the_partition() {
        let found =
            partition_of("ts_day=2026-05-01/at=2026-05-01%2010%3A00%3A00/b=__HIVE_DEFAULT_PARTITION__/f.parquet");
        let found: Vec<_> = found.iter().map(|(column, value)| (column.as_str(), value.as_str())).collect();
        assert_eq!(found, [("at", "2026-05-01 10:00:00"), ("ts_day", "2026-05-01")]);
        assert_eq!((decoded("100%"), decoded("%zz")), ("100%".to_owned(), "%zz".to_owned()));
    }

    #[test]
    fn a_step_says_days_class_bytes_and_saving_or_loss() {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        let step = |class, after| Transition { class, after: days(after), unreadable_allowed: false };
        let lifecycle = Lifecycle {
            transitions: vec![step(StorageClass::Infrequent, 30), step(StorageClass::ArchiveInstant, 90)],
            expire_after: Some(days(120)),
            ..Lifecycle::default()
        };
        let held = |files: u64, bytes: u64| {
            let mut held = Held::default();
            (0..files).for_each(|_| held.add(bytes));
            held
        };
        let said = line(&lifecycle, 0, held(1024, 100 << 20), true);
        let expected = "infrequent after 30 days: 1,024 files, 100.0 GB old enough now; STANDARD_IA saves $1.05 a month, \
            moving costs $0.0102 once: saves $2.09 over 60 days";
        assert_eq!(said, expected);
        let said = line(&lifecycle, 1, held(9000, 150 << 10), true);
        assert!(said.contains("leaving early") && said.contains("LOSES $0.1658 over 30 days"), "{said}");
        assert_eq!(line(&lifecycle, 1, held(0, 0), true), "archive_instant after 90 days: 0 files, 0 B old enough now");
    }
}
