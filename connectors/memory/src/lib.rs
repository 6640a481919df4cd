//! A source and a sink in memory: the reference implementation of the contracts, used by `lakehead test` and by every
//! engine test.

mod records;
mod sink;
mod source;
mod versions;

pub use records::MemoryRecords;
pub use sink::{MemorySink, MemoryStore, MemoryTable};
pub use source::MemorySource;
