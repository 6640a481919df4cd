//! What catalogs must know of a table, as its manifest says it.

use std::collections::BTreeSet;

use lakehead_core::{ListedBuckets, ListedPartition, Listing, Result};

use crate::layout::Buckets;
use crate::manifest::{Manifest, ManifestFile};
use crate::schema::parse_columns;

/// Returns the whole listing. The order of rows is not in the manifest: files written before it was asked for have none.
pub(crate) fn of_manifest(manifest: &Manifest, sort_by: &[String]) -> Result<Listing> {
    let sorted = sort_by.iter().filter(|column| !manifest.partition_by.contains(column));
    Ok(Listing {
        schema: parse_columns(&manifest.columns)?,
        partition_by: manifest.partition_by.clone(),
        partitions: manifest.files.iter().filter_map(partition_of).collect::<BTreeSet<_>>(),
        buckets: manifest.buckets.as_ref().map(listed_buckets),
        sort_by: sorted.cloned().collect(),
    })
}

/// Whether a round that only added `files` leaves the listing as it is.
pub(crate) fn covers(listing: &Listing, files: &[ManifestFile]) -> bool {
    files.iter().filter_map(partition_of).all(|partition| listing.partitions.contains(&partition))
}

fn partition_of(file: &ManifestFile) -> Option<ListedPartition> {
    if file.partition.is_empty() {
        return None;
    }
    let values = file.partition.iter().map(|(_, value)| value.clone()).collect();
    let folder = file.name.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
    Some(ListedPartition { values, folder })
}

fn listed_buckets(buckets: &Buckets) -> ListedBuckets {
    ListedBuckets { columns: buckets.columns.clone(), count: buckets.count.get(), hash: buckets.hash.clone() }
}
