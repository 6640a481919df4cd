//! From the staging folder to the table's folder, for those who list it.

use std::collections::HashSet;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use lakehead_buckets::BucketHash;
use lakehead_core::{Error, Mark, Result, failpoint};
use lakehead_lakefile::{FileKind, Location, partition_path, storage_error};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use uuid::Uuid;

use crate::layout::Buckets;
use crate::manifest::{Manifest, ManifestFile};
use crate::stage::{Staged, fence_of};

/// Files copied at once: enough to hide the round trip of a store, few enough for any connection pool.
const COPIES_MAX: usize = 8;

/// Returns the start of the names of all files that `pipeline` writes.
fn owner_prefix(pipeline: &str) -> String {
    let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, pipeline.as_bytes()).simple().to_string();
    format!("part-{}-", &id[..12])
}

/// Returns the files as the manifest names them. The names come from the round alone, so that a retry writes over its
/// own files instead of doubling them for those who list the folder; the fence keeps a daemon that was taken over from
/// writing over the files of its successor.
pub(crate) fn final_files(staged: &Staged, pipeline: &str, mark: Mark, buckets: Option<&Buckets>) -> Vec<ManifestFile> {
    let owner = owner_prefix(pipeline);
    named(staged, buckets, |n| format!("{owner}{:010}-{:05}-{n:04}", mark.seq, mark.fence))
}

/// Returns staged files as the manifest names them; `own` is what of a name tells whose it is, by the file's number.
fn named(staged: &Staged, buckets: Option<&Buckets>, own: impl Fn(usize) -> String) -> Vec<ManifestFile> {
    let hash = buckets.and_then(Buckets::rule);
    let file = |(n, file): (usize, &crate::stage::StagedFile)| {
        let ending = FileKind::of_name(&file.name).extension();
        let name = file_name(&own(n), hash.zip(file.bucket), ending);
        ManifestFile {
            name: format!("{}{name}", partition_path(&file.partition)),
            size: file.size,
            rows: file.rows,
            partition: file.partition.clone(),
            bucket: file.bucket,
            run: staged.run.clone(),
        }
    };
    staged.files.iter().enumerate().map(file).collect()
}

/// Returns the start of a name that only merges of `pipeline` give.
pub(crate) fn own_name(pipeline: &str, of: &str) -> String {
    format!("{}m{of}", owner_prefix(pipeline))
}

/// Returns merged files as the manifest names them. Each attempt has names of its own: a removal of what an earlier one left
/// may reach the store when nobody waits for it any more.
pub(crate) fn merged_files(new: &Staged, pipeline: &str, fence: u64, buckets: Option<&Buckets>) -> Vec<ManifestFile> {
    let of = Uuid::new_v4().simple().to_string();
    named(new, buckets, |n| own_name(pipeline, &format!("{}-{fence:05}-{n:04}", &of[..16])))
}

/// Returns a file's name. Readers take the bucket from it: Hive, Trino and Athena by `(0?\d+)_\d+.*`, Spark by
/// `.*_(\d+)(?:\..*)?$`; neither form may hold what the other one looks for.
fn file_name(own: &str, bucket: Option<(BucketHash, u32)>, ending: &str) -> String {
    match bucket {
        None => format!("{own}.{ending}"),
        Some((BucketHash::Spark, number)) => format!("{own}_{number:05}.c000.{ending}"),
        Some((BucketHash::Hive1 | BucketHash::Hive2, number)) => format!("{number:06}_0_{own}.{ending}"),
    }
}

/// Returns whether a file was named by the owner of `prefix`.
fn is_named_by(file: &str, prefix: &str) -> bool {
    let own = match file.split_once("_0_") {
        Some((number, own)) if number.bytes().all(|byte| byte.is_ascii_digit()) => own,
        _ => file,
    };
    own.starts_with(prefix)
}

/// Returns whether a file of a table was written by `pipeline`, by its name without folders.
pub(crate) fn is_written_by(file: &str, pipeline: &str) -> bool {
    is_named_by(file, &owner_prefix(pipeline))
}

/// Copies every staged file to its final name.
pub(crate) async fn publish(
    staging: &Location,
    table: &Location,
    staged: &Staged,
    files: &[ManifestFile],
) -> Result<()> {
    let mut copies: Vec<BoxFuture<'static, Result<()>>> = Vec::with_capacity(files.len());
    for (from, to) in staged.files.iter().zip(files) {
        let store = Arc::clone(table.store());
        copies.push(Box::pin(copy(store, staging.path(&from.name), table.path(&to.name), to.size)));
    }
    futures::stream::iter(copies).buffer_unordered(COPIES_MAX).try_collect::<Vec<()>>().await?;
    failpoint::hit("parquet.published").await
}

async fn copy(store: Arc<dyn ObjectStore>, from: Path, to: Path, size: u64) -> Result<()> {
    let failed = |error| storage_error(error, to.as_ref());
    // A hard link over itself leaves the link's temporary name behind, so the file of an earlier attempt goes first.
    match store.head(&to).await {
        Ok(_) => store.delete(&to).await.map_err(failed)?,
        Err(object_store::Error::NotFound { .. }) => {}
        Err(error) => return Err(failed(error)),
    }
    store.copy(&from, &to).await.map_err(failed)?;
    let found = store.head(&to).await.map_err(failed)?.size;
    if found != size {
        return Err(Error::external("R0408", "the store holds another size than was written")
            .with("file", &to)
            .with("written", size)
            .with("found", found));
    }
    Ok(())
}

/// Removes files from the table's folder that no manifest names any more. What is left over, the next sweep takes.
pub(crate) async fn remove(table: &Location, names: &[String]) {
    let paths: Vec<Path> = names.iter().map(|name| table.path(name)).collect();
    let store = table.store();
    let removed = futures::stream::iter(paths).map(|path| {
        let store = Arc::clone(store);
        async move { store.delete(&path).await.is_ok() }
    });
    removed.buffer_unordered(COPIES_MAX).collect::<Vec<bool>>().await;
}

/// Removes what earlier attempts of this pipeline left in the folder. Called behind a fence: whoever wrote those files
/// can no longer commit them, and a round that is committed again is copied again.
pub(crate) async fn sweep(table: &Location, pipeline: &str, manifest: &Manifest) -> Result<()> {
    let owner = owner_prefix(pipeline);
    let live: HashSet<&str> = manifest.names().collect();
    let mut stale: Vec<String> = manifest.removed.clone();
    let mut listed = table.store().list(Some(table.prefix()));
    while let Some(meta) = listed.next().await {
        let meta = match meta {
            Ok(meta) => meta,
            Err(object_store::Error::NotFound { .. }) => break,
            Err(error) => return Err(storage_error(error, table.url().as_str())),
        };
        let Some(name) = table.name_of(&meta.location) else { continue };
        let ours = name.rsplit('/').next().is_some_and(|file| is_named_by(file, &owner));
        if ours && !live.contains(name.as_str()) {
            stale.push(name);
        }
    }
    remove(table, &stale).await;
    Ok(())
}

/// Removes staged files of daemons before this one. Called when a round that this daemon staged is committed: rounds
/// are committed in order, so no round of an earlier daemon still waits.
pub(crate) async fn sweep_staging(staging: &Location, fence: u64) {
    let mut stale = Vec::new();
    let mut listed = staging.store().list(Some(staging.prefix()));
    while let Some(meta) = listed.next().await {
        let name = meta.ok().and_then(|meta| staging.name_of(&meta.location));
        stale.extend(name.filter(|name| fence_of(name).is_some_and(|found| found < fence)));
    }
    crate::stage::discard(staging, &stale).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_find_the_bucket_in_a_name_and_a_sweep_its_owner() {
        let owner = owner_prefix("p");
        let own = format!("{owner}0000000001-00001-0000");
        let hive = file_name(&own, Some((BucketHash::Hive2, 3)), "orc");
        let spark = file_name(&own, Some((BucketHash::Spark, 12)), "parquet");
        assert!(hive.starts_with("000003_0_part-"), "{hive}");
        assert!(spark.starts_with("part-") && spark.ends_with("-0000_00012.c000.parquet"), "{spark}");
        // Spark asks for the last `_` and digits before the first dot behind them.
        assert_eq!(spark.split('.').next().and_then(|stem| stem.rsplit_once('_')).map(|parts| parts.1), Some("00012"));
        for name in [&hive, &spark, &file_name(&own, None, "parquet")] {
            assert!(is_named_by(name, &owner), "{name}");
            assert!(!is_named_by(name, &owner_prefix("q")), "{name}");
        }
        assert!(!is_named_by("x_0_part-", "part-"));
    }
}
