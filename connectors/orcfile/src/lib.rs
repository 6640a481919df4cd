//! ORC files from and to Arrow record batches (the format's version 1, <https://orc.apache.org/specification/ORCv1/>).

mod bloom;
mod codec;
#[cfg(test)]
mod dice;
mod fault;
mod read;
mod run;
mod schema;
mod stats;
mod wire;
mod write;

pub use codec::Compression;
pub use read::{OrcReadOptions, OrcReader};
pub use write::{Bound, ColumnSummary, OrcOptions, OrcSummary, OrcWriter};
