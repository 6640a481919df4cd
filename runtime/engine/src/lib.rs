//! Runs one plan: read → transform → stage → commit → acknowledge, exactly once from source position to table version.
//! Never names a connector.

mod chain;
mod event;
mod fate;
mod flow;
mod json;
mod layout;
mod reject;
mod rows;
mod run;
mod source_task;
mod step;
mod truncate;

pub use chain::{Chain, EpochRecord, Kind, Progress};
pub use event::{Event, Observer, Silent};
pub use flow::Flow;
pub use json::rows_to_json;
pub use reject::Rejected;
pub use rows::{with_reserved, without_reserved};
pub use run::{Engine, Limits, Parts, Reopen, SinkPart, SourcePart, Stop, Summary, Until};
