//! What a user can say of a file.

use lakehead_core::Result;

use crate::codec::Compression;
use crate::fault::option;

/// Settings of an [`OrcWriter`](crate::OrcWriter). The defaults are those of the other writers, but for zstd.
#[derive(Clone, Debug, PartialEq)]
pub struct OrcOptions {
    /// How chunks are compressed.
    pub compression: Compression,
    /// 0 to 9 for zlib (6 when not said), 1 to 22 for zstd (1 when not said); the others have none.
    pub compression_level: Option<i32>,
    /// A stripe is closed when it holds this many bytes, compressed as far as it is. 64 MiB: one reader's task.
    pub stripe_bytes: usize,
    /// Rows of a row group: what a reader can skip by statistics and Bloom filters.
    pub row_group_rows: usize,
    /// Columns with a Bloom filter: names of the top, or paths with dots (`address.city`, `tags.element`, `m.key`).
    /// Booleans have none.
    pub bloom_columns: Vec<String>,
    /// The share of row groups that a Bloom filter keeps although they lack the value, above 0 and below 1.
    pub bloom_false_positives: f64,
    /// Names and values that the file's footer carries.
    pub metadata: Vec<(String, Vec<u8>)>,
}

impl Default for OrcOptions {
    fn default() -> Self {
        Self {
            compression: Compression::default(),
            compression_level: None,
            stripe_bytes: 64 * 1024 * 1024,
            row_group_rows: 10_000,
            bloom_columns: Vec::new(),
            bloom_false_positives: 0.01,
            metadata: Vec::new(),
        }
    }
}

impl OrcOptions {
    pub(super) fn check(&self) -> Result<()> {
        if self.stripe_bytes == 0 {
            return Err(option("stripe_bytes", "at least one byte"));
        }
        // The readers' own bounds for the index stride; fewer rows make an index larger than its data.
        if !(1_000..=1_000_000).contains(&self.row_group_rows) {
            return Err(option("row_group_rows", "1,000 to 1,000,000"));
        }
        if !(self.bloom_false_positives > 0.0 && self.bloom_false_positives < 1.0) {
            return Err(option("bloom_false_positives", "above 0 and below 1"));
        }
        Ok(())
    }
}
