//! What the measured size of a table says of its layout. Only said: a person changes the file.

use std::collections::HashSet;
use std::path::Path;

use futures::TryStreamExt;
use lakehead_core::{Error, Lifecycle, OptionSpec, Result, Value, WriteMode};
use lakehead_lakefile::Location;
use lakehead_plan::{LayoutTransform, SinkPlan};

use crate::show::{counted, grouped, size};

/// Bytes of a file that is neither many requests nor more than a reader needs at once, where the sink says nothing.
const FILE_BYTES: u64 = 128 << 20;
/// Files that are measured at most: the share of a larger table tells as much.
pub(crate) const FILES_MAX: usize = 100_000;
/// Files of one table above which larger ones serve its readers better.
const FILES_GOOD_MAX: u64 = 10_000;
/// The largest `file_size` that is proposed.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// Buckets that are proposed at most.
const BUCKETS_MAX: u64 = 1024;
/// Bytes of a file below which an order inside it spares a reader nothing.
const SORTED_BYTES_MIN: u64 = 16 << 20;
/// How far off a bucket count may be before it is worth a word.
const OFF_MIN: u64 = 4;

/// What a table consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Measured {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// Folders that hold files.
    pub(crate) partitions: u64,
}

/// What the file says of a sink's layout.
#[derive(Clone, Debug, Default)]
struct Said {
    file_bytes: u64,
    buckets: u64,
    bucketed_by: Vec<String>,
    /// Columns that an order might begin with.
    order: Vec<String>,
    sorted: bool,
    may_bucket: bool,
    may_sort: bool,
    may_merge: bool,
    overwrites: bool,
    key: Vec<String>,
}

/// Lists what lies in the folder of a sink's table, names and bytes, [`FILES_MAX`] at most: all of such a table, where it does not say
/// itself what it consists of.
pub(crate) async fn files_in_folder(sink: &SinkPlan, root: &Path) -> Result<Vec<(String, u64)>> {
    let lake = Location::open(sink.connection.required_text("path")?, root, &sink.connection)?;
    let table = lake.table(sink.connection.text("prefix").unwrap_or(""), &sink.table)?;
    let mut listed = table.store().list(Some(table.prefix()));
    let failed = |error| Error::external("R0404", "the object store failed").caused_by(error);
    let mut files = Vec::new();
    while let Some(meta) = listed.try_next().await.map_err(failed)? {
        let Some(name) = table.name_of(&meta.location) else { continue };
        let hidden = name.split('/').any(|part| part.starts_with(['_', '.']));
        if hidden || !(name.ends_with(".parquet") || name.ends_with(".orc")) {
            continue;
        }
        files.push((name, meta.size));
        if files.len() == FILES_MAX {
            break;
        }
    }
    Ok(files)
}

impl Measured {
    /// Measures the files of a table.
    pub(crate) fn of(files: &[(String, u64)]) -> Self {
        let folder = |name: &'_ str| name.rsplit_once('/').map_or_else(String::new, |(folder, _)| folder.to_owned());
        let folders: HashSet<String> = files.iter().map(|(name, _)| folder(name)).collect();
        let bytes = files.iter().map(|(_, bytes)| bytes).sum();
        Self { files: files.len() as u64, bytes, partitions: folders.len() as u64 }
    }

    /// Says what was measured.
    pub(crate) fn line(&self) -> String {
        let each = size(self.bytes / self.files.max(1));
        let partitions =
            if self.partitions > 1 { format!(", {} partitions", grouped(self.partitions)) } else { String::new() };
        format!("measured: {}, {}{partitions}, {each} a file", counted(self.files, "file"), size(self.bytes))
    }

    /// Returns what might be said otherwise in the file, each with its reason.
    pub(crate) fn proposals(&self, sink: &SinkPlan, options: &[OptionSpec]) -> Vec<String> {
        self.propose(&Said::of(sink, options))
    }

    fn propose(&self, said: &Said) -> Vec<String> {
        if self.files == 0 {
            return Vec::new();
        }
        let mut found = Vec::new();
        let per_partition = self.bytes / self.partitions.max(1);
        let each = self.bytes / self.files;
        let fitting = per_partition.div_ceil(said.file_bytes).max(1).next_power_of_two().min(BUCKETS_MAX);
        let by = if said.bucketed_by.is_empty() { &said.key } else { &said.bucketed_by };
        let off = fitting.max(said.buckets) / fitting.min(said.buckets.max(1)).max(1);
        if said.buckets > 0 && off >= OFF_MIN {
            found.push(format!(
                "bucket_count = {fitting}   {} buckets are {} each in a partition; the count of a table never changes: write a new one",
                grouped(said.buckets),
                size(per_partition / said.buckets)
            ));
        } else if said.buckets == 0 && said.may_bucket && !by.is_empty() && fitting >= 2 * OFF_MIN {
            found.push(format!(
                "bucket_by = [{}], bucket_count = {fitting}   a partition is {}; in a new table",
                by.join(", "),
                size(per_partition)
            ));
        }
        let places = self.partitions.max(1) * said.buckets.max(1);
        if said.may_merge && !said.overwrites && self.files / places >= 8 && each < said.file_bytes / 4 {
            found.push(format!(
                "compact = {{}}   {} files at one place, {} each",
                grouped(self.files / places),
                size(each)
            ));
        }
        let larger = (self.bytes / FILES_GOOD_MAX).next_power_of_two().min(FILE_BYTES_MAX);
        if larger > said.file_bytes && said.file_bytes < FILE_BYTES_MAX {
            found.push(format!(
                "file_size = {}MB   readers open {} files otherwise",
                larger >> 20,
                grouped(self.files)
            ));
        }
        if said.may_sort && !said.sorted && !said.order.is_empty() && each >= SORTED_BYTES_MIN {
            found.push(format!(
                "sort_by = [{}]   readers of few values skip row groups and pages",
                said.order.join(", ")
            ));
        }
        found
    }
}

impl Said {
    fn of(sink: &SinkPlan, options: &[OptionSpec]) -> Self {
        let may = |name: &str| options.iter().any(|option| option.name == name);
        let bucketed_by = sink.settings.texts("bucket_by");
        let times = sink.layout.iter().filter(|part| part.transform != LayoutTransform::Identity);
        let mut order: Vec<String> = Vec::new();
        for column in bucketed_by.iter().chain(&sink.key).cloned().chain(times.map(|part| part.source.clone())) {
            if !order.contains(&column) {
                order.push(column);
            }
        }
        Self {
            file_bytes: sink.settings.size_or("file_size", FILE_BYTES).max(1),
            buckets: match sink.settings.get("bucket_count") {
                Some(Value::Int(count)) => u64::try_from(*count).unwrap_or(0),
                _ => 0,
            },
            bucketed_by,
            order,
            sorted: sink.settings.get("sort_by").is_some(),
            may_bucket: may("bucket_by"),
            may_sort: may("sort_by"),
            // Where buckets may be said, nothing merges unasked.
            may_merge: may("bucket_by") && may("compact") && sink.settings.get("compact").is_none(),
            overwrites: sink.mode == WriteMode::Overwrite,
            key: sink.key.clone(),
        }
    }
}

/// Says how the rows of a sink are divided and ordered, and what becomes of old ones; a line each.
pub(crate) fn layout_lines(sink: &SinkPlan, options: &[OptionSpec], pipeline: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let columns = sink.settings.texts("bucket_by");
    if let (false, Some(Value::Int(count))) = (columns.is_empty(), sink.settings.get("bucket_count")) {
        let usual = options.iter().find(|option| option.name == "bucket_hash").and_then(|option| option.default);
        let hash = sink.settings.text("bucket_hash").or(usual).unwrap_or("none");
        lines.push(format!("in {} by {}, hash {hash}", counted(count.unsigned_abs(), "bucket"), columns.join(", ")));
    }
    let sorted = sink.settings.texts("sort_by");
    if !sorted.is_empty() {
        lines.push(format!("ordered by {}", sorted.join(", ")));
    }
    if let Some(lifecycle) = &sink.lifecycle {
        lines.push(format!("lifecycle {}: {}", lifecycle.name, rules(lifecycle)));
        if !lifecycle.transitions.is_empty() {
            lines.push(format!("rules for its bucket:  lakehead lifecycle emit {pipeline}"));
        }
    }
    lines
}

fn rules(lifecycle: &Lifecycle) -> String {
    let days = |age| Lifecycle::days(age).map_or_else(|| "part of a day".to_owned(), |days| format!("{days}d"));
    let moves = lifecycle.transitions.iter().map(|step| format!("{} after {}", step.class.word(), days(step.after)));
    let expiry = lifecycle.expire_after.map(|age| format!("expires after {}", days(age)));
    let vacuum = lifecycle.vacuum_after.map(|age| format!("vacuum after {}", days(age)));
    let copies = lifecycle.replicas.iter().map(|copy| format!("copied to {}", copy.connection));
    let all: Vec<String> = moves.chain(expiry).chain(vacuum).chain(copies).collect();
    if all.is_empty() { "no rules".to_owned() } else { all.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    fn said() -> Said {
        Said {
            file_bytes: FILE_BYTES,
            order: vec!["id".into(), "at".into()],
            key: vec!["id".into()],
            may_bucket: true,
            may_sort: true,
            may_merge: true,
            ..Said::default()
        }
    }

    /// Files, megabytes and partitions, and how the proposals begin.
    #[track_caller]
    fn check(said: &Said, files: u64, megabytes: u64, partitions: u64, expected: &[&str]) {
        let found = Measured { files, bytes: megabytes * MB, partitions }.propose(said);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}");
        }
    }

    #[test]
    fn proposals_follow_what_was_measured() {
        check(&said(), 0, 0, 0, &[]);
        check(&said(), 4, 40, 4, &[]);
        check(&said(), 400, 400, 4, &["compact = {}   100 files at one place"]);
        check(&Said { overwrites: true, ..said() }, 400, 400, 4, &[]);
        check(&said(), 4, 400, 4, &["sort_by = [id, at]"]);
        check(&said(), 100, 12_000, 4, &["bucket_by = [id], bucket_count = 32", "sort_by"]);
        let bucketed = |buckets| Said { buckets, bucketed_by: vec!["id".into()], sorted: true, ..said() };
        check(&bucketed(32), 128, 4 * 4_000, 4, &[]);
        check(&bucketed(32), 128, 400, 4, &["bucket_count = 1 "]);
        check(&bucketed(2), 800, 100_000, 4, &["bucket_count = 256"]);
        check(&Said { sorted: true, key: vec![], ..said() }, 30_000, 4_000_000, 300, &["file_size = 512MB"]);
    }
}
