//! What is worth merging: small files of about one size, and files of which much is gone.
//!
//! A row is rewritten once per tier, some four times in a table's life.

use std::collections::{BTreeMap, HashMap};

use lakehead_lakefile::PartitionValues;

use crate::live::{LiveFile, LiveTable};

/// Files of one tier and partition that are merged into one.
const FAN_IN: usize = 8;
/// Files below this size are one tier; each further tier is `FAN_IN` times as large.
const TIER_BYTES: u64 = 256 * 1024;
/// Rows that one step reads at most, but for one large file: some seconds' work, after which the table is better off.
const STEP_ROWS_MAX: u64 = 4 << 20;
/// A file is written anew where one row of so many is gone: readers pass over one dead row for four live ones at most.
const GONE_SHARE: u64 = 5;

/// Returns the tier of a size.
fn tier(size: u64) -> u32 {
    (size / TIER_BYTES).checked_ilog(FAN_IN as u64).map_or(0, |tier| tier + 1)
}

/// Files that one step reads at most.
const STEP_FILES_MAX: usize = 1024;

/// The vectors written for a live file since this process knows it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct VectorsWritten {
    count: u64,
    bytes: u64,
}

impl VectorsWritten {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }

    /// Bytes by which as many vectors of the size of today's, `newest`, outweigh those that were written.
    fn saved_by_a_fresh_start(self, newest: u64) -> u64 {
        self.count.saturating_mul(newest).saturating_sub(self.bytes)
    }
}

/// Chooses what one step merges into files of `file_bytes`: the smallest full tier first, then the file of which most
/// is gone.
///
/// Each round that takes rows out of a file writes the file's whole vector anew. Were the file written anew, its vectors
/// would begin small again, and as many rounds as there were since would cost what these did; left as it is, each costs a
/// vector of today's size at least. Once that saves as much as the file weighs, it is worth it: never more than twice what
/// the best moment would have cost. Vectors that have stopped growing (a bit for each row at most) save nothing further. What is not `is_readable`,
/// as it is archived, is left alone.
pub(crate) fn choose<'a>(
    live: &'a LiveTable,
    file_bytes: u64,
    vectors: &HashMap<String, VectorsWritten>,
    is_readable: impl Fn(&LiveFile) -> bool,
) -> Vec<&'a LiveFile> {
    let mut tiers: BTreeMap<(u32, &PartitionValues), Vec<&LiveFile>> = BTreeMap::new();
    // What stands for the interval of a run is replaced by its name: it stays as it is.
    let small = |file: &&LiveFile| file.run.is_none() && bytes(file) < file_bytes / 2;
    for file in live.files.values().filter(small).filter(|file| is_readable(file)) {
        tiers.entry((tier(bytes(file)), &file.partition)).or_default().push(file);
    }
    for files in tiers.values_mut().filter(|files| files.len() >= FAN_IN) {
        files.sort_by(|a, b| (a.modified, &a.name).cmp(&(b.modified, &b.name)));
        let (mut read, mut rows) = (0, 0);
        let fitting = files.iter().take_while(|file| {
            read += bytes(file);
            rows += file.rows().unwrap_or(0);
            read <= file_bytes && rows <= STEP_ROWS_MAX
        });
        let chosen: Vec<_> = fitting.take(STEP_FILES_MAX).copied().collect();
        if chosen.len() > 1 {
            return chosen;
        }
    }
    let much_is_gone = |file: &&LiveFile| {
        let gone = file.vector.as_ref().map_or(0, |vector| vector.cardinality);
        let outweighed = || {
            file.vector
                .as_ref()
                .zip(vectors.get(&file.name))
                .is_some_and(|(vector, written)| written.saved_by_a_fresh_start(vector.bytes()) >= bytes(file))
        };
        gone > 0 && (outweighed() || gone.saturating_mul(GONE_SHARE) >= file.rows().unwrap_or(u64::MAX))
    };
    let share = |file: &LiveFile| {
        let gone = file.vector.as_ref().map_or(0, |vector| vector.cardinality);
        gone * 1000 / file.rows().unwrap_or(1).max(1)
    };
    let worn = live.files.values().filter(|file| file.run.is_none() && is_readable(file)).filter(much_is_gone);
    worn.max_by(|a, b| (share(a), &a.name).cmp(&(share(b), &b.name))).into_iter().collect()
}

/// Returns whether what is merged now is small beside the table and beside a full file, so that it is soon merged again.
pub(crate) fn is_soon_merged_again(merged: u64, table_bytes: u64, file_bytes: u64) -> bool {
    let tiers_ahead = |whole: u64, share: u64| merged.saturating_mul(share) <= whole;
    tiers_ahead(table_bytes, FAN_IN as u64) && tiers_ahead(file_bytes, 2 * FAN_IN as u64)
}

/// Returns the bytes of a file.
pub(crate) fn bytes(file: &LiveFile) -> u64 {
    u64::try_from(file.size).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Schema;
    use serde_json::json;

    use super::*;
    use crate::live::Totals;
    use crate::stats::Stats;

    fn file(name: &str, size: i64, gone: u64) -> LiveFile {
        let vector = json!({ "storageType": "u", "pathOrInlineDv": "x", "sizeInBytes": 10, "cardinality": gone });
        LiveFile {
            name: name.into(),
            path: name.into(),
            size,
            partition: Vec::new(),
            run: None,
            stats: Stats::read(r#"{"numRecords":300}"#),
            modified: 0,
            tags: BTreeMap::new(),
            vector: (gone > 0).then(|| serde_json::from_value(vector).unwrap()),
        }
    }

    fn chosen(files: Vec<LiveFile>) -> Vec<String> {
        chosen_after(files, &HashMap::new())
    }

    fn chosen_after(files: Vec<LiveFile>, vectors: &HashMap<String, VectorsWritten>) -> Vec<String> {
        let live = LiveTable {
            version: 1,
            identity: String::new(),
            schema: Arc::new(Schema::empty()),
            partition_by: Vec::new(),
            configuration: BTreeMap::new(),
            protocol: json!({}),
            metadata: json!({}),
            files: files.into_iter().map(|file| (file.name.clone(), file)).collect(),
            totals: Totals::default(),
            numbers: HashMap::new(),
        };
        choose(&live, 64 << 20, vectors, |file| file.name != "archived")
            .into_iter()
            .map(|file| file.name.clone())
            .collect()
    }

    #[test]
    fn tiers_grow_by_the_fan_in() {
        let sizes = [0, TIER_BYTES - 1, TIER_BYTES, 8 * TIER_BYTES - 1, 8 * TIER_BYTES, 64 * TIER_BYTES];
        assert_eq!(sizes.map(tier), [0, 0, 1, 1, 2, 3]);
    }

    #[test]
    fn small_files_of_a_large_table_are_merged_again() {
        let soon = |merged, table| is_soon_merged_again(merged, table, 128 << 20);
        assert!(soon(8 << 20, 64 << 20) && !soon(9 << 20, 1 << 30), "beside a full file");
        assert!(soon(1 << 20, 8 << 20) && !soon((1 << 20) + 1, 8 << 20), "beside the table");
        assert!(!is_soon_merged_again(1 << 20, 1 << 30, 8 << 20), "files of the author's size");
    }

    #[test]
    fn a_full_tier_is_merged_and_a_worn_file_is_written_anew() {
        let small = |count: usize| (0..count).map(|n| file(&format!("s{n}"), 1000, 0)).collect::<Vec<_>>();
        assert!(chosen(small(7)).is_empty());
        assert_eq!(chosen(small(8)).len(), 8);
        assert_eq!(chosen(small(2000)).len(), 1024, "a step is bounded");
        let large: Vec<_> = (0..9).map(|n| file(&format!("l{n}"), 20 << 20, 0)).collect();
        assert_eq!(chosen(large).len(), 3, "by its bytes too");
        let worn = vec![file("a", 1000, 59), file("b", 1000, 60), file("c", 1000, 90)];
        assert_eq!(chosen(worn), ["c"]);
        assert!(chosen(vec![file("a", 100 << 20, 59)]).is_empty());
        assert_eq!(chosen(vec![file("a", 100 << 20, 60)]), ["a"], "however large");
        let written = |count, bytes| HashMap::from([("b".to_owned(), VectorsWritten { count, bytes })]);
        let files = || vec![file("a", 1000, 9), file("b", 1000, 7), file("c", 1000, 0)];
        assert!(chosen(files()).is_empty());
        assert_eq!(chosen_after(files(), &written(200, 1000)), ["b"], "a fresh start would save as much as it weighs");
        assert!(chosen_after(files(), &written(200, 1001)).is_empty());
        assert!(chosen_after(files(), &written(2000, 20_000)).is_empty(), "its vectors do not grow");
        let mut of_runs = small(8);
        of_runs.iter_mut().for_each(|file| file.run = Some("1/2".into()));
        assert!(chosen(of_runs).is_empty());
    }
}
