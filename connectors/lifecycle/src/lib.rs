//! Storage rules of tables as rules of the bucket they lie in: as text for a person to review, or put there beside the
//! rules of others.
//!
//! # What a bucket's own rules may do here
//!
//! They move data files to colder classes, and abort uploads that nobody ended. They do nothing else:
//!
//! - **No expiry.** A rule that deletes live files leaves a table whose log names files that are gone: every query
//!   that touches one fails, and time travel with it. Expiry is a delete of the table's rows followed by a vacuum,
//!   done by the one who writes the table.
//! - **No log.** `_delta_log`, `_manifest`, `_lakehead` and `_staging` stay hot. A rule's prefix cannot leave a
//!   folder out, and the log lies below the table. So every rule that moves filters by the tag
//!   [`lakehead_core::LIFECYCLE_TAG`] as well, which data files get when they are written and nothing else ever does.
//! - **Late rather than early.** A rule counts from the day a file was written, a lifecycle from the day of its
//!   partition. Rows are seldom written before the day they are of, so a rule comes late (after a merge or a
//!   backfill) and not early.
//!
//! # Codes
//!
//! | code | what |
//! |---|---|
//! | R0551 | the location is not a folder of a bucket |
//! | R0552 | no rules are made for this kind of store yet |
//! | R0553 | the location is inside a folder of a table's own books |
//! | R0554 | the store cannot carry out a step of the lifecycle, or it would break the table |
//! | R0555 | a name does not fit into a rule's id or tag |
//! | R0556 | the bucket's present configuration is not understood |
//! | R0557 | the bucket would have more rules than it can |
//! | R0558 | the tables lie in several buckets |
//! | R0560 | the bucket's rules have changed since they were read |
//! | R0561 | the bucket shows other rules than were written |
//! | R0562 | the bucket refused a call for its rules |
//! | R0563 | the store drops what a rule may not be without |

mod apply;
mod configuration;
mod cost;
mod emit;
mod location;
mod merge;
mod s3;

pub use apply::BucketRules;
pub use cost::{Cost, Held, PRICES_OF, cost};
pub use emit::{emit_json, emit_terraform};
pub use location::Location;
pub use merge::{Merged, merge};
pub use s3::{ABORT_DAYS, OBJECT_BYTES_OVER, RULES_MAX, S3Rule, S3Rules, S3Step, class_name};
