//! Files of a folder that others write: listed, grouped, and merged behind a record of what is to go.
//!
//! ```text
//! staged ──record──> copied into the folder ──> inputs removed ──> record removed
//! ```
//!
//! There is no manifest, so the record is the commit: whoever finds one finishes it. The new file's name comes from the
//! names of its inputs, so that it is the same file however often it is copied.

use std::collections::HashSet;
use std::sync::Arc;

use futures::TryStreamExt;
use lakehead_core::{Created, Error, RecordStore, Result, Retention, SinkSpec, failpoint};
use lakehead_lakefile::{
    FileHead, FileKind, FileOrder, Location, ObjectRecords, file_schema, read_head, storage_error,
};
use object_store::{ObjectMeta, ObjectStore as _, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::compact::{Merge, Merged, Policy, choose};
use crate::layout::TableLayout;
use crate::manifest::{ManifestFile, is_data_file};
use crate::publish::own_name;
use crate::stage::discard;

mod colder;

/// Merges of one run: a folder with more goes on with the next one.
pub(crate) const STEPS_MAX: usize = 10_000;

/// What is to happen to one group of files.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    /// Staged files and their places, with their bytes.
    copies: Vec<(String, String, u64)>,
    /// Files that go, each with what it was.
    inputs: Vec<(String, String)>,
}

/// A folder of files without a manifest.
pub(crate) struct Folder {
    pub(crate) spec: SinkSpec,
    pub(crate) kind: FileKind,
    pub(crate) location: Location,
    pub(crate) staging: Location,
    pub(crate) records: ObjectRecords,
    pub(crate) fence: u64,
    pub(crate) policy: Policy,
    /// What the folder's lifecycle asks for.
    pub(crate) retention: Retention,
}

/// A listed file and what it was then.
struct Listed {
    file: ManifestFile,
    identity: String,
}

impl Folder {
    /// Finishes what an earlier process began, merges what is small, and moves what is old.
    pub(crate) async fn tend(&self) -> Result<()> {
        self.finish().await?;
        self.merge_all().await?;
        self.move_old().await
    }

    async fn merge_all(&self) -> Result<()> {
        let mut left_alone: HashSet<String> = HashSet::new();
        for _ in 0..STEPS_MAX {
            let listed = self.list().await?;
            let small: Vec<ManifestFile> = listed
                .iter()
                .map(|listed| &listed.file)
                .filter(|file| !left_alone.contains(&file.name) && !self.is_archived(&file.name))
                .cloned()
                .collect();
            let chosen = choose(&small, self.policy.file_bytes, 2);
            let Some(first) = chosen.first().map(|file| file.name.clone()) else { return Ok(()) };
            let chosen = self.alike(chosen).await?;
            let Some((files, head)) = chosen.filter(|(files, _)| files.len() > 1) else {
                left_alone.insert(first);
                continue;
            };
            let names: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
            if !self.merge(files, head, &listed).await? {
                left_alone.extend(names);
            }
        }
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Listed>> {
        let found: Vec<ObjectMeta> = match self.location.store().list(Some(self.location.prefix())).try_collect().await
        {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => Vec::new(),
            Err(error) => return Err(storage_error(error, self.location.url().as_str())),
        };
        let mut listed = Vec::new();
        for meta in &found {
            if let Some(name) = self.location.name_of(&meta.location).filter(|name| belongs_to_a_format(name)) {
                return Err(Error::user(
                    "R0216",
                    "a table of another format lies in this folder: its own log names its files",
                )
                .with("table", self.location.url())
                .with("found", name)
                .help("name the connection of that format, or a folder below that holds files alone"));
            }
            let Some(name) = self.location.name_of(&meta.location) else { continue };
            let is_data = |part: &str| !part.starts_with('_') && !part.starts_with('.');
            let ours = is_data_file(&name) && FileKind::of_name(&name) == self.kind && name.split('/').all(is_data);
            if !ours {
                continue;
            }
            let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
            let bucket = Bucket::of(name.rsplit('/').next().unwrap_or_default());
            let file = ManifestFile {
                size: meta.size,
                rows: 0,
                partition: Vec::new(),
                bucket: bucket.map(|bucket| bucket.number),
                // What keeps files apart: their folder, and whose buckets they are.
                run: Some(format!("{folder}|{}", bucket.is_some_and(|bucket| bucket.spark))),
                name,
            };
            listed.push(Listed { file, identity: identity(meta) });
        }
        listed.sort_by(|a, b| a.file.name.cmp(&b.file.name));
        Ok(listed)
    }

    /// Returns those of the files that have the columns and the order of the first, with their rows.
    async fn alike(&self, chosen: Vec<ManifestFile>) -> Result<Option<(Vec<ManifestFile>, FileHead)>> {
        let mut first: Option<FileHead> = None;
        let mut alike = Vec::with_capacity(chosen.len());
        for file in chosen {
            let head = match read_head(&self.location, &file.name).await {
                // A bucket's rules archive by the day a file was written: such a file is left alone.
                Err(error) if error.code() == "R0566" => continue,
                head => head?,
            };
            let rows = head.rows;
            match &first {
                None if head.order == FileOrder::Other => return Ok(None),
                None => first = Some(head),
                Some(first) if head.schema.fields() != first.schema.fields() || head.order != first.order => continue,
                Some(_) => {}
            }
            alike.push(ManifestFile { rows, bucket: None, run: None, ..file });
        }
        Ok(first.map(|first| (alike, first)))
    }

    async fn merge(&self, files: Vec<ManifestFile>, head: FileHead, listed: &[Listed]) -> Result<bool> {
        let fields = head.schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let schema = Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()));
        let mut layout = TableLayout::of(&self.spec, self.kind)?;
        (layout.partition_by, layout.buckets) = (Vec::new(), None);
        if let (FileOrder::Rising(columns), true) = (&head.order, layout.sort_by.is_empty()) {
            layout.sort_by.clone_from(columns);
        }
        let missing = layout.sort_by.iter().find(|column| schema.field_with_name(column).is_err());
        if let Some(column) = missing {
            return Err(Error::user("R0425", "files have no column of the order they are to be in")
                .with("column", column)
                .with("file", &files[0].name)
                .help("leave the column out of `sort_by`"));
        }
        let merge = Merge {
            location: self.location.clone(),
            staging: self.staging.clone(),
            schema: file_schema(&schema, &[]),
            layout,
            spec: self.spec.clone(),
            fence: self.fence,
            files,
        };
        let Merged { old, new } = merge.run().await?;
        let staged: Vec<String> = new.files.iter().map(|file| file.name.clone()).collect();
        if new.files.len() >= old.len() {
            discard(&self.staging, &staged).await;
            return Ok(false);
        }
        let names: Vec<&str> = old.iter().map(|file| file.name.as_str()).collect();
        let was = |name: &&str| {
            let found = listed.iter().find(|listed| listed.file.name == **name);
            found.map(|listed| ((*name).to_owned(), listed.identity.clone()))
        };
        let inputs: Vec<(String, String)> = names.iter().filter_map(was).collect();
        // Others give their names again once they are free: what the files were tells one merge from the next.
        let of: Vec<String> = inputs.iter().map(|(name, identity)| format!("{name}\n{identity}")).collect();
        let of = Uuid::new_v5(&Uuid::NAMESPACE_OID, of.join("\n").as_bytes()).simple().to_string();
        let place = |(n, file): (usize, &crate::stage::StagedFile)| {
            let to = own_name(&self.spec.pipeline, &format!("{}-{n:04}", &of[..16]));
            let folder = names[0].rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
            let bucket = Bucket::of(names[0].rsplit('/').next().unwrap_or_default());
            let to = format!("{folder}{}", Bucket::name(bucket, &to, self.kind.extension()));
            (file.name.clone(), to, file.size)
        };
        let record = Record { copies: new.files.iter().enumerate().map(place).collect(), inputs };
        let body = serde_json::to_vec(&record).map_err(|error| Error::bug("a record is not JSON").caused_by(error))?;
        let name = format!("{}{of}.json", self.folder_of_records());
        if self.records.create(&name, body).await? == Created::Exists {
            discard(&self.staging, &staged).await;
            return Err(
                Error::external("R0426", "another process merges the same files").with("table", self.location.url())
            );
        }
        failpoint::hit("parquet.compact.recorded").await?;
        self.carry_out(&name, &record).await
    }

    fn folder_of_records(&self) -> String {
        let table = Uuid::new_v5(&Uuid::NAMESPACE_URL, self.location.url().as_str().as_bytes()).simple().to_string();
        format!("merges/{}/", &table[..16])
    }

    /// Finishes merges that are recorded.
    async fn finish(&self) -> Result<()> {
        for name in self.records.list(&self.folder_of_records()).await? {
            let Some(body) = self.records.get(&name).await? else { continue };
            let record = serde_json::from_slice(&body).map_err(|error| {
                Error::incident("R0427", "the record of a merge cannot be read")
                    .with("record", &name)
                    .help("bring the file back from a backup: it says which files the merged one stands for")
                    .caused_by(error)
            })?;
            self.carry_out(&name, &record).await?;
        }
        crate::publish::sweep_staging(&self.staging, self.fence).await;
        Ok(())
    }

    /// Copies the new files and removes their inputs; drops the merge where an input went before it was copied.
    async fn carry_out(&self, name: &str, record: &Record) -> Result<bool> {
        if !self.is_copied(record).await? {
            for (input, identity_then) in &record.inputs {
                let stands = self.identity(input).await?.as_ref() == Some(identity_then);
                // Another process may have gone on with the same record meanwhile.
                if !stands && !self.is_copied(record).await? {
                    return self.give_up(name, record).await;
                }
            }
            for (from, to, size) in &record.copies {
                if self.size(&self.location, to).await? == Some(*size) {
                    continue;
                }
                if self.size(&self.staging, from).await? != Some(*size) && !self.is_copied(record).await? {
                    return self.give_up(name, record).await;
                }
                self.copy(from, to, *size).await?;
            }
        }
        failpoint::hit("parquet.compact.copied").await?;
        for (input, identity_then) in &record.inputs {
            if self.identity(input).await?.as_ref() == Some(identity_then) {
                let gone = self.location.store().delete(&self.location.path(input)).await;
                match gone {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(storage_error(error, input)),
                }
            }
            failpoint::hit("parquet.compact.removed").await?;
        }
        discard(&self.staging, &record.copies.iter().map(|(from, ..)| from.clone()).collect::<Vec<_>>()).await;
        self.records.delete(name).await?;
        tracing::info!(table = %self.location.url(), files = record.inputs.len(), into = record.copies.len(), "files were merged");
        Ok(true)
    }

    async fn is_copied(&self, record: &Record) -> Result<bool> {
        for (_, to, size) in &record.copies {
            if self.size(&self.location, to).await? != Some(*size) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Puts a staged file into its place, over what an attempt may have left there: who lists sees one or the other.
    async fn copy(&self, from: &str, to: &str, size: u64) -> Result<()> {
        let copied = self.location.store().copy(&self.staging.path(from), &self.location.path(to)).await;
        copied.map_err(|error| storage_error(error, to))?;
        match self.size(&self.location, to).await? {
            Some(found) if found == size => Ok(()),
            found => Err(Error::external("R0408", "the store holds another size than was written")
                .with("file", to)
                .with("written", size)
                .with("found", found.unwrap_or(0))),
        }
    }

    async fn give_up(&self, name: &str, record: &Record) -> Result<bool> {
        tracing::warn!(table = %self.location.url(), "a file changed while it was merged; the files stay as they are");
        let begun: Vec<String> = record.copies.iter().map(|(_, to, _)| to.clone()).collect();
        crate::publish::remove(&self.location, &begun).await;
        discard(&self.staging, &record.copies.iter().map(|(from, ..)| from.clone()).collect::<Vec<_>>()).await;
        self.records.delete(name).await?;
        Ok(false)
    }

    async fn size(&self, location: &Location, name: &str) -> Result<Option<u64>> {
        match location.store().head(&location.path(name)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(storage_error(error, name)),
        }
    }

    async fn identity(&self, name: &str) -> Result<Option<String>> {
        match self.location.store().head(&self.location.path(name)).await {
            Ok(meta) => Ok(Some(identity(&meta))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(storage_error(error, name)),
        }
    }
}

/// Whether a file is one of those by which Delta, Iceberg, Hudi or we ourselves say what a table holds.
fn belongs_to_a_format(name: &str) -> bool {
    let mut parts = name.rsplit('/');
    let last = parts.next().unwrap_or_default();
    let is_log = |part: &str| ["_delta_log", "_manifest", ".hoodie"].contains(&part);
    let mut folders = parts.peekable();
    let is_iceberg = folders.peek() == Some(&"metadata") && last.ends_with(".metadata.json");
    is_iceberg || folders.any(is_log)
}

fn identity(meta: &ObjectMeta) -> String {
    let version = meta.e_tag.clone().unwrap_or_else(|| meta.last_modified.timestamp_micros().to_string());
    format!("{}/{}", version.trim_matches('"'), meta.size)
}

/// The bucket in a file's name, in the form of Hive (`000003_0…`) or of Spark (`…_00003.c000.parquet`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    number: u32,
    spark: bool,
}

impl Bucket {
    fn of(name: &str) -> Option<Self> {
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u32>().ok())?;
        let hive = name.split_once('_').filter(|(_, rest)| rest.starts_with(|char: char| char.is_ascii_digit()));
        if let Some(number) = hive.and_then(|(number, _)| digits(number)) {
            return Some(Self { number, spark: false });
        }
        let stem = name.split('.').next().unwrap_or(name);
        let number = digits(stem.rsplit_once('_')?.1)?;
        Some(Self { number, spark: true })
    }

    fn name(bucket: Option<Self>, own: &str, ending: &str) -> String {
        match bucket {
            None => format!("{own}.{ending}"),
            Some(Self { number, spark: true }) => format!("{own}_{number:05}.c000.{ending}"),
            Some(Self { number, spark: false }) => format!("{number:06}_0_{own}.{ending}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_of_another_format_is_known() {
        for name in ["_delta_log/0.json", "a/_manifest/1.json", ".hoodie/x", "t/metadata/00001-ab.metadata.json"] {
            assert!(belongs_to_a_format(name), "{name}");
        }
        for name in ["a.parquet", "day=1/a.parquet", "metadata/a.parquet", "_temporary/0/a.parquet", "_delta_log"] {
            assert!(!belongs_to_a_format(name), "{name}");
        }
    }

    #[test]
    fn the_bucket_of_a_name_is_that_of_the_merged_one() {
        for (name, number, spark) in [
            ("000003_0_part-ab.parquet", 3, false),
            ("00012_0.orc", 12, false),
            ("part-00000-ab-12_00007.c000.snappy.parquet", 7, true),
        ] {
            let bucket = Bucket::of(name);
            assert_eq!(bucket, Some(Bucket { number, spark }), "{name}");
            assert_eq!(Bucket::of(&Bucket::name(bucket, "part-ab-0000", "parquet")), bucket);
        }
        for name in ["part-00000-e6f7a1d2-c000.snappy.parquet", "orders.parquet", "a_b.parquet"] {
            assert_eq!(Bucket::of(name), None, "{name}");
        }
    }
}
