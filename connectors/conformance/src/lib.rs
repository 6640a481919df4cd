//! The laws of the contracts as functions: each connector's tests call them on its own parts. A law that does not hold is
//! a panic with the law's number.
#![allow(clippy::missing_panics_doc, reason = "a law that does not hold panics: that is what these functions are for")]

mod sink;
mod source;

pub use sink::{SinkUnderTest, rows, sink_laws, upsert_laws};
pub use source::{SourceUnderTest, source_laws};
