//! The laws of the contracts as functions: each connector's tests call them on its own parts. A law that does not hold is
//! a panic with the law's number.
#![allow(clippy::missing_panics_doc, reason = "a law that does not hold panics: that is what these functions are for")]

mod faults;
mod sink;
mod source;
mod survival;

pub use faults::{Dice, FaultStore, Faults, Meets, Write};
pub use sink::{SinkUnderTest, rows, sink_laws, upsert_laws};
pub use source::{SourceUnderTest, source_laws};
pub use survival::{FaultClock, Survival, Survived, survives};
