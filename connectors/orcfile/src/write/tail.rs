//! The ends of stripes and of the file: footers, statistics and the postscript.

use std::io::Write;

use lakehead_core::Result;

use super::OrcWriter;
use super::column::StripeParts;
use crate::codec::CHUNK_BYTES;
use crate::wire::Message;

/// What a file begins with, and what its postscript ends with.
pub(crate) const MAGIC: &[u8] = b"ORC";
/// The times of this writer are of no zone or of UTC, so there is nothing to shift.
const TIME_ZONE: &[u8] = b"UTC";
/// The format's version, 0.12: run-length version 2.
const FORMAT_VERSION: [u64; 2] = [0, 12];
/// Our number among the writers. The registered ones are 0 to 5, each with its own known mistakes; readers treat any
/// other as one without.
pub(crate) const WRITER: u64 = 0x6c68;
/// ORC-14, the newest number: statistics of times are in UTC and Bloom filters hash UTF-8.
const WRITER_VERSION: u64 = 9;
/// Dates and times count as if today's calendar had always been.
const PROLEPTIC_GREGORIAN: u64 = 2;

/// A stripe that lies in the file.
pub(super) struct Stripe {
    pub(super) offset: u64,
    pub(super) index_len: u64,
    pub(super) data_len: u64,
    pub(super) footer_len: u64,
    pub(super) rows: u64,
}

pub(super) fn stripe_footer(parts: &StripeParts) -> Vec<u8> {
    let mut footer = Message::default();
    for (column, stream) in parts.index.iter().chain(&parts.data) {
        let mut message = Message::default();
        message.uint(1, stream.kind as u64).uint(2, u64::from(*column)).uint(3, stream.bytes.len() as u64);
        footer.nested(1, message);
    }
    for encoding in &parts.encodings {
        footer.bytes(2, encoding.as_bytes());
    }
    footer.bytes(3, TIME_ZONE);
    footer.into_bytes()
}

/// Returns the bytes behind the last stripe.
pub(super) fn bytes<W: Write>(writer: &mut OrcWriter<W>) -> Result<Vec<u8>> {
    let metadata = std::mem::take(&mut writer.stripe_stats).into_bytes();
    let metadata = writer.codec.whole(&metadata)?;
    let footer = footer(writer).into_bytes();
    let footer = writer.codec.whole(&footer)?;
    let mut postscript = Message::default();
    postscript.uint(1, footer.len() as u64).uint(2, writer.codec.number());
    if !writer.codec.is_none() {
        postscript.uint(3, CHUNK_BYTES as u64);
    }
    postscript.packed(4, FORMAT_VERSION).uint(5, metadata.len() as u64).uint(6, WRITER_VERSION).bytes(8000, MAGIC);
    let postscript = postscript.into_bytes();
    // A few numbers of at most ten bytes each: one byte is enough for the length.
    let length = [postscript.len() as u8];
    Ok([metadata.as_slice(), &footer, &postscript, &length].concat())
}

fn footer<W: Write>(writer: &OrcWriter<W>) -> Message {
    let mut footer = Message::default();
    footer.uint(1, MAGIC.len() as u64).uint(2, writer.offset);
    for stripe in &writer.stripes {
        let mut message = Message::default();
        message.uint(1, stripe.offset).uint(2, stripe.index_len).uint(3, stripe.data_len);
        message.uint(4, stripe.footer_len).uint(5, stripe.rows);
        footer.nested(3, message);
    }
    for orc_type in &writer.types {
        footer.nested(4, orc_type.message());
    }
    for (name, value) in &writer.options.metadata {
        let mut item = Message::default();
        item.bytes(1, name.as_bytes()).bytes(2, value);
        footer.nested(5, item);
    }
    footer.uint(6, writer.rows);
    let mut stats = Vec::new();
    writer.root.file_stats(&mut stats);
    for column in stats {
        footer.nested(7, column);
    }
    footer.uint(8, writer.options.row_group_rows as u64).uint(9, WRITER).uint(11, PROLEPTIC_GREGORIAN);
    footer.bytes(12, concat!("lakehead ", env!("CARGO_PKG_VERSION")).as_bytes());
    footer
}
