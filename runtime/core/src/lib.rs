//! The contracts every other crate is built on: what a source delivers, what a sink promises, what a connector
//! declares, and the words they share. Deliberately absent: any input or output, any connector, any plan.

mod ages;
mod catalog;
mod change;
mod checkpoint;
mod clock;
mod column_type;
mod connector;
mod disk;
mod error;
pub mod failpoint;
mod lifecycle;
mod record;
mod retention;
mod sink;
mod source;
mod table_copy;
mod value;

pub use ages::MovedBy;
pub use catalog::{CatalogKind, ListedBuckets, ListedPartition, Listing};
pub use change::{
    COMMITTED_AT, FILE, IS_CURRENT, IS_DELETED, OP, Op, POSITION, RESERVED, TABLE, UNCHANGED, VALID_FROM, VALID_TO,
    VERSION_COLUMNS, added_field, data_fields, is_reserved, is_unchanged, reserved_field,
};
pub use checkpoint::{Checkpoint, PartitionName, Position};
pub use clock::{Clock, ManualClock, Micros, SystemClock, format_micros, parse_micros};
pub use column_type::{BUCKETS_MAX, column_type_name, has_bucket_hash, parse_column, parse_column_type};
pub use connector::{
    Alert, Arrivals, Arrived, Boxed, Connector, DataFiles, Describe, Discover, Discovery, Exists, LateInterval,
    OptionKind, OptionSpec, PastAge, RECORDED, Records, Replicate, RunContext, SinkRole, SinkSpec, SourceRole,
    SourceSpec, TableSpec, WriteMode,
};
pub use disk::{DiskFault, chain_text, state_disk_error};
pub use error::{Blame, Error, Result, Retry};
pub use lifecycle::{LIFECYCLE_TAG, Lifecycle, Replica, StorageClass, Transition};
pub use record::{Created, RecordStore};
pub use retention::{Expired, Expiry, Move, PartitionTime, Retention, TimeColumn};
pub use sink::{Mark, Outcome, Patience, Prepared, Sink, SinkPosition, TableFigures, TableVersion};
pub use source::{BatchBudget, ChangeBatch, Source, SourceEvent};
pub use table_copy::{Copied, CopySpec, TableCopy};
pub use value::{Secret, Settings, Value};
