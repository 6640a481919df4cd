//! Batches to finished lake files: where a table lies, how a Parquet or ORC file is written and read back, its statistics,
//! and the records beside the tables. Shared by every lake sink.

mod body;
mod carry;
mod chunk;
mod durable;
mod encoding;
mod gather;
mod groups;
mod head;
mod keys;
mod location;
mod mover;
mod orc;
mod partition;
mod proof;
mod reader;
mod records;
mod selective;
mod selective_orc;
mod signed;
mod splice;
mod statistics;
mod stores;
mod thrift;
mod wary;
mod writer;

pub use carry::{Carried, Carrier};
pub use gather::read_gathered;
pub use groups::RowGroups;
pub use head::{FileHead, FileOrder, read_head};
pub use keys::{KeyEncoder, KeySet};
pub use location::Location;
pub use mover::{Aged, Moved, Mover, Moving, Settled, take_over};
pub use partition::{
    PartitionValues, decode_partition_value, expired_rows, file_schema, partition_path, partition_texts,
    split_by_partition,
};
pub use reader::{cast_exactly, conform, object_size, read_batches, read_file, read_rows, read_schema, whole_times};
pub use records::ObjectRecords;
pub use selective::{Condition, Extremes, Holds, Keeps, SelectiveFile};
pub use signed::{Answer, SignedBucket, SignedCalls};
pub use splice::{SpliceInput, splice, splice_into};
pub use statistics::{ColumnStatistics, FileStatistics};
pub use stores::{OpenSigned, STORE_OPTIONS, StoreKind, check_store, offer_stores, with_store_options};
pub use wary::{calmly, is_calm, load_metadata};
pub use writer::{FileFormat, FileIndexes, FileKind, FileWriter, WrittenFile};

use lakehead_core::{DiskFault, Error, chain_text};
use url::Url;

/// Turns an error of the object store into one of ours: what is full, forbidden or not there is the user's to mend.
pub fn storage_error(error: object_store::Error, location: &str) -> Error {
    let text = chain_text(&error);
    if is_archived(&text) {
        return archived().with("location", location).caused_by(error);
    }
    let known = disk_error(&error).unwrap_or_else(|| match &error {
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => refused(),
        object_store::Error::NotFound { .. } if is_no_bucket(&text) => no_bucket(),
        object_store::Error::NotFound { .. } => Error::incident("R0403", "an object that must be there is gone"),
        _ if ["(os error 2)", "(os error 20)"].iter().any(|part| text.contains(part)) => {
            Error::user("R0402", "the lake's location cannot be written")
                .help("make the folder, or change `path` of the connection")
        }
        // Listings do not come with a kind of their own.
        _ if is_no_bucket(&text) => no_bucket(),
        _ if ["status code: 401", "status code: 403"].iter().any(|part| text.contains(part)) => refused(),
        _ => Error::external("R0404", "the object store failed"),
    });
    known.with("location", location).caused_by(error)
}

/// Returns whether Azure or S3 said that it has no such container or bucket.
fn is_no_bucket(text: &str) -> bool {
    text.contains("ContainerNotFound") || text.contains("NoSuchBucket")
}

/// The error of a bucket or container that is not there.
pub(crate) fn no_bucket() -> Error {
    Error::user("R0645", "the bucket or container is not there")
        .help("make it, or correct `path` of the connection: lakehead makes tables, and no buckets")
}

fn refused() -> Error {
    Error::user("R0402", "the lake's location refuses these credentials")
        .help("check the credentials in the environment and the bucket's policy")
}

/// Turns what a client of a store says when it is made, before it has asked anybody, into an error of ours: trying again would
/// not help. `help` names what the store takes from the environment.
pub fn unopened(error: object_store::Error, url: &Url, help: &str) -> Error {
    Error::user("R0644", "the store cannot be opened with what is set")
        .with("location", url)
        .help(help)
        .caused_by(error)
}

/// Returns what the lake's own disk has answered, where an error comes from it.
pub fn disk_error(error: &(dyn std::error::Error + 'static)) -> Option<Error> {
    let fault = DiskFault::of(error)?;
    Some(match fault {
        DiskFault::Full => Error::incident("R0401", "the disk of the lake is full")
            .help("free space, then start again: nothing was committed in part"),
        DiskFault::Forbidden => Error::user("R0402", "the lake's location cannot be written")
            .help("give the user who runs lakehead the right to write there, or change `path` of the connection"),
        DiskFault::Limited | DiskFault::Broken => return fault.common(),
    })
}

/// Returns whether S3 said that an object is in a class that is not read at once (its API reference, `InvalidObjectState`).
fn is_archived(text: &str) -> bool {
    text.contains("InvalidObjectState") || text.contains("ObjectNotInActiveTierError")
}

fn archived() -> Error {
    Error::user("R0566", "a file is archived and cannot be read until it is restored")
        .help("aws s3api restore-object   brings it back for some days, in hours; or read younger partitions alone")
}

/// Turns an error of the Parquet library into one of ours.
pub fn parquet_error(error: parquet::errors::ParquetError, location: &str) -> Error {
    let text = chain_text(&error);
    if is_archived(&text) {
        return archived().with("location", location).caused_by(error);
    }
    let known = disk_error(&error).unwrap_or_else(|| {
        Error::external("R0405", "a lake file could not be written or read")
            .help("where it is damaged or cut short, bring it back as it was written, or have it written anew")
    });
    known.with("location", location).caused_by(error)
}
