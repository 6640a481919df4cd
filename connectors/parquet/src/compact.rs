//! Small files of one partition and bucket become one: what is worth it, and the merge itself.
//!
//! A merge reads files that never change and writes into the staging folder, so that it may run beside any number of
//! rounds. Rows stay in their partition, their bucket, the run they stand for and the order that the sink says.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;
use lakehead_core::{Error, Result, Settings, SinkSpec, Value, failpoint};
use lakehead_lakefile::{FileKind, Location, SpliceInput, conform, file_schema, read_file, splice_into};

use crate::layout::TableLayout;
use crate::manifest::ManifestFile;
use crate::schema::add_partition_columns;
use crate::stage::{StageWriters, Staged, StagedFile, discard, staged_name};

/// Bytes at which a file is closed, where the sink says nothing.
const FILE_BYTES: u64 = 128 << 20;
/// Files of one size, partition and bucket that are merged into one beside the rounds: a row is written again once for
/// each eightfold growth.
pub(crate) const FAN_IN: usize = 8;
/// Files below this size are of one size; each further size is `FAN_IN` times as large.
const TIER_BYTES: u64 = 256 * 1024;
/// Files that one merge reads at most: each may be open at once.
const STEP_FILES_MAX: usize = 256;

/// What a file's author said: `compact = { every, file_size, enabled }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Off where the sink says nothing: who lists the folder sees a merge for a moment.
    pub(crate) enabled: bool,
    /// Pause between two looks.
    pub(crate) every: Duration,
    /// Bytes at which a merged file is closed.
    pub(crate) file_bytes: u64,
}

impl Policy {
    pub(crate) fn from_settings(settings: &Settings) -> Result<Self> {
        let said = match settings.get("compact") {
            Some(Value::Map(pairs)) => Some(Settings::new(pairs.iter().cloned())),
            _ => None,
        };
        let usual = settings.size_or("file_size", FILE_BYTES);
        let Some(said) = said else { return Ok(Self { enabled: false, every: Duration::ZERO, file_bytes: usual }) };
        let fits = |name: &str, value: &Value| match name {
            "every" => matches!(value, Value::Duration(_)),
            "file_size" => matches!(value, Value::Size(size) if *size > 0),
            "enabled" => matches!(value, Value::Bool(_)),
            _ => false,
        };
        if let Some((name, _)) = said.iter().find(|(name, value)| !fits(name, value)) {
            return Err(Error::user(
                "R0423",
                "`compact` holds a setting that it does not know, or another kind of value",
            )
            .with("setting", name)
            .help("compact = { every = 1h, file_size = 256MB }"));
        }
        Ok(Self {
            enabled: said.bool_or("enabled", true),
            every: said.duration("every").unwrap_or_default(),
            file_bytes: said.size_or("file_size", usual),
        })
    }
}

/// Chooses what one merge reads: at least `least` small files of one place; with [`FAN_IN`], of about one size too.
pub(crate) fn choose(files: &[ManifestFile], file_bytes: u64, least: usize) -> Vec<ManifestFile> {
    let tier = |size: u64| (size / TIER_BYTES).checked_ilog(FAN_IN as u64).map_or(0, |tier| tier + 1);
    let mut places: BTreeMap<_, Vec<&ManifestFile>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.size < file_bytes / 2) {
        let tier = if least < FAN_IN { 0 } else { tier(file.size) };
        places.entry((tier, &file.partition, file.bucket, &file.run)).or_default().push(file);
    }
    for files in places.into_values().filter(|files| files.len() >= least) {
        let mut read = 0;
        let fitting = files.iter().take_while(|file| {
            read += file.size;
            read <= file_bytes
        });
        let chosen: Vec<ManifestFile> = fitting.take(STEP_FILES_MAX).map(|file| (*file).clone()).collect();
        if chosen.len() > 1 {
            return chosen;
        }
    }
    Vec::new()
}

/// One merge.
pub(crate) struct Merge {
    pub(crate) location: Location,
    pub(crate) staging: Location,
    /// The table's columns.
    pub(crate) schema: SchemaRef,
    pub(crate) layout: TableLayout,
    pub(crate) spec: SinkSpec,
    pub(crate) fence: u64,
    pub(crate) files: Vec<ManifestFile>,
}

/// What a merge came to.
#[derive(Debug)]
pub(crate) struct Merged {
    pub(crate) old: Vec<ManifestFile>,
    pub(crate) new: Staged,
}

impl Merge {
    /// Reads and writes; touches no table.
    pub(crate) async fn run(self) -> Result<Merged> {
        failpoint::hit("parquet.compact.files").await?;
        let files = match self.splice().await? {
            Some(file) => vec![file],
            None => self.copy().await?,
        };
        let new = Staged { files, run: self.files.first().and_then(|file| file.run.clone()), ..Staged::default() };
        self.check(&new.files).await?;
        failpoint::hit("parquet.compact.staged").await?;
        Ok(Merged { old: self.files, new })
    }

    /// Puts whole files behind one another without decoding them, where neither an order nor a filter on keys forbids it.
    async fn splice(&self) -> Result<Option<StagedFile>> {
        let Some(first) = self.files.first() else { return Ok(None) };
        let whole = self.layout.kind == FileKind::Parquet && self.layout.sort_by.is_empty() && self.spec.key.is_empty();
        if !whole {
            return Ok(None);
        }
        let input = |file: &ManifestFile| SpliceInput { name: file.name.clone(), size: file.size, rows: file.rows };
        let inputs: Vec<SpliceInput> = self.files.iter().map(input).collect();
        let name = staged_name(self.fence, FileKind::Parquet);
        let data = file_schema(&self.schema, &self.layout.partition_by);
        let Some(file) = splice_into(&self.location, &inputs, &self.staging, &name, Some(&data)).await? else {
            return Ok(None);
        };
        let (partition, bucket) = (first.partition.clone(), first.bucket);
        Ok(Some(StagedFile { name, size: file.size, rows: file.statistics.rows, partition, bucket }))
    }

    async fn copy(&self) -> Result<Vec<StagedFile>> {
        let mut writers = StageWriters::new(&self.staging, &self.schema, &self.layout, &self.spec, self.fence)?;
        let copied = self.copy_into(&mut writers).await;
        match copied {
            Ok(()) => writers.finish().await,
            Err(error) => {
                discard(&self.staging, &writers.give_up()).await;
                Err(error)
            }
        }
    }

    async fn copy_into(&self, writers: &mut StageWriters) -> Result<()> {
        for file in &self.files {
            let mut batches = read_file(&self.location, &file.name, None).await?;
            while let Some(batch) = batches.try_next().await? {
                let batch = add_partition_columns(&batch, &file.partition, &self.schema)?;
                writers.write(&conform(&batch, &self.schema)?).await?;
                // Rounds come first.
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Every row must be there, in the place it was in: a merge that moves or loses one is dropped.
    async fn check(&self, new: &[StagedFile]) -> Result<()> {
        let Some(first) = self.files.first() else { return Ok(()) };
        let before: u64 = self.files.iter().map(|file| file.rows).sum();
        let after: u64 = new.iter().map(|file| file.rows).sum();
        let moved = new.iter().find(|file| file.partition != first.partition || file.bucket != first.bucket);
        if before == after && moved.is_none() {
            return Ok(());
        }
        discard(&self.staging, &new.iter().map(|file| file.name.clone()).collect::<Vec<_>>()).await;
        let error =
            Error::incident("R0424", "files would not hold the same rows at the same place once they are merged");
        Err(error
            .with("table", self.location.url())
            .with("rows_before", before)
            .with("rows_after", after)
            .with("bucket_before", first.bucket.map_or_else(|| "none".to_owned(), |bucket| bucket.to_string()))
            .help("the files stay as they are; a row in a bucket or partition that is not its own was not written by lakehead"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, size: u64, bucket: u32) -> ManifestFile {
        ManifestFile { name: name.into(), size, rows: 1, partition: Vec::new(), bucket: Some(bucket), run: None }
    }

    fn chosen(files: &[ManifestFile], least: usize) -> Vec<String> {
        choose(files, 64 << 20, least).into_iter().map(|file| file.name).collect()
    }

    #[test]
    fn small_files_of_one_place_and_size_are_merged() {
        let mut files: Vec<_> = (0..7).map(|n| file(&format!("a{n}"), 1000, 1)).collect();
        files.extend((0..7).map(|n| file(&format!("b{n}"), 1000, 2)));
        assert!(chosen(&files, FAN_IN).is_empty(), "seven in each bucket");
        assert_eq!(chosen(&files, 2).len(), 7, "asked for by a person");
        files.push(file("large", 30 << 20, 1));
        assert!(chosen(&files, FAN_IN).is_empty(), "of another size");
        files.push(file("a7", 1000, 1));
        assert_eq!(chosen(&files, FAN_IN).len(), 8);
        let of_run = |n: u64, run: &str| ManifestFile { run: Some(run.into()), ..file(&format!("r{n}"), n, 1) };
        let runs: Vec<_> = (0..8).map(|n| of_run(n, if n % 2 == 0 { "even" } else { "odd" })).collect();
        assert!(chosen(&runs, FAN_IN).is_empty() && chosen(&runs, 2).len() == 4, "a run keeps its files");
        let large: Vec<_> = (0..9).map(|n| file(&format!("l{n}"), 20 << 20, 1)).collect();
        assert_eq!(chosen(&large, FAN_IN).len(), 3, "by the size of a file");
        assert!(chosen(&[file("x", 33 << 20, 1), file("y", 33 << 20, 1)], 2).is_empty());
    }

    #[test]
    fn what_compact_does_not_know_is_refused() {
        let said = |pairs: Vec<(&str, Value)>| {
            let pairs = pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            Policy::from_settings(&Settings::new([("compact".to_owned(), Value::Map(pairs))]))
        };
        assert!(!Policy::from_settings(&Settings::default()).unwrap().enabled);
        let usual = said(vec![("every", Value::Duration(Duration::from_secs(60)))]).unwrap();
        assert_eq!(usual, Policy { enabled: true, every: Duration::from_secs(60), file_bytes: FILE_BYTES });
        for wrong in
            [("evry", Value::Duration(Duration::ZERO)), ("file_size", Value::Size(0)), ("every", Value::Int(1))]
        {
            assert_eq!(said(vec![wrong]).unwrap_err().code(), "R0423");
        }
    }
}
