//! `COPY … TO STDOUT (FORMAT binary)`: rows parsed in place, value by value into the builders of their columns.

use std::pin::Pin;

use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use lakehead_core::{BatchBudget, Error, Result};
use tokio_postgres::CopyOutStream;

use crate::fault;
use crate::rows::{Change, Rows};
use crate::session::Session;
use crate::type_map::Kind;

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// The signature, the flags and the length of the header's extension.
const HEADER_BYTES: usize = 19;

/// One running COPY.
pub(crate) struct CopyReader {
    table: String,
    kinds: Vec<(String, Kind)>,
    stream: Pin<Box<CopyOutStream>>,
    /// Bytes of a row that ended with its message; empty where messages hold whole rows, which is always so today.
    rest: BytesMut,
    header_read: bool,
    trailer_read: bool,
    /// The stream has said its last word, and must not be asked again.
    is_over: bool,
    rows_read: u64,
}

impl std::fmt::Debug for CopyReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopyReader").field("table", &self.table).finish_non_exhaustive()
    }
}

impl CopyReader {
    /// Starts `COPY (select) TO STDOUT`; `kinds` are the names and kinds of its columns in order.
    pub(crate) async fn start(
        session: &Session,
        table: &str,
        select: &str,
        kinds: Vec<(String, Kind)>,
    ) -> Result<Self> {
        let sql = format!("copy ({select}) to stdout (format binary)");
        let stream = session
            .client
            .copy_out(&sql)
            .await
            .map_err(|error| session.error(&error, "starting to copy").with("table", table))?;
        Ok(Self {
            table: table.to_owned(),
            kinds,
            stream: Box::pin(stream),
            rest: BytesMut::new(),
            header_read: false,
            trailer_read: false,
            is_over: false,
            rows_read: 0,
        })
    }

    /// Appends rows until the budget is used up; returns `false` once the last row has been read.
    ///
    /// Cancel-safe: what has been received is in `rows`, and the next call goes on behind it.
    pub(crate) async fn fill(
        &mut self,
        session: &Session,
        rows: &mut Rows,
        budget: BatchBudget,
        change: Option<Change<'_>>,
    ) -> Result<bool> {
        if self.is_over {
            return Ok(false);
        }
        while rows.count() < budget.rows_max && rows.bytes() < budget.bytes_max {
            match self.stream.next().await {
                Some(Ok(bytes)) => self.take(&bytes, rows, change)?,
                Some(Err(error)) => {
                    return Err(session.error(&error, "copying").with("table", &self.table));
                }
                None if self.trailer_read => {
                    self.is_over = true;
                    return Ok(false);
                }
                None => {
                    let cut = Error::external(fault::CONNECTION_LOST, "the copy ended before its trailer");
                    return Err(cut.with("table", &self.table).with("rows", self.rows_read));
                }
            }
        }
        Ok(true)
    }

    fn take(&mut self, bytes: &Bytes, rows: &mut Rows, change: Option<Change<'_>>) -> Result<()> {
        if self.rest.is_empty() {
            let used = self.parse(bytes, rows, change)?;
            self.rest.extend_from_slice(&bytes[used..]);
        } else {
            self.rest.extend_from_slice(bytes);
            let joined = std::mem::take(&mut self.rest);
            let used = self.parse(&joined, rows, change)?;
            self.rest = joined;
            self.rest.advance(used);
        }
        Ok(())
    }

    /// Reads every whole row of `bytes` and returns how many bytes they took.
    fn parse(&mut self, bytes: &[u8], rows: &mut Rows, change: Option<Change<'_>>) -> Result<usize> {
        let mut at = 0;
        if !self.header_read {
            let Some(length) = header_length(bytes)? else {
                return Ok(0);
            };
            self.header_read = true;
            at = length;
        }
        while let Some(count) = bytes.get(at..at + 2) {
            if self.trailer_read {
                return Err(fault::unreadable("the copy goes on behind its trailer").with("table", &self.table));
            }
            let count = i16::from_be_bytes([count[0], count[1]]);
            if count == -1 {
                self.trailer_read = true;
                at += 2;
                continue;
            }
            if usize::try_from(count) != Ok(self.kinds.len()) {
                return Err(fault::unreadable("a copied row has another number of columns").with("table", &self.table));
            }
            let Some(length) = row_length(&bytes[at + 2..], self.kinds.len())? else {
                break;
            };
            let row = &bytes[at + 2..at + 2 + length];
            self.append(row, rows)?;
            rows.end_row(length, change);
            self.rows_read += 1;
            at += 2 + length;
        }
        Ok(at)
    }

    fn append(&self, row: &[u8], rows: &mut Rows) -> Result<()> {
        let mut rest = row;
        for ((name, kind), column) in self.kinds.iter().zip(&mut rows.columns) {
            let (length, tail) =
                rest.split_first_chunk::<4>().ok_or_else(|| fault::unreadable("a copied row is cut"))?;
            let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
                column.append_null();
                rest = tail;
                continue;
            };
            let (value, tail) =
                tail.split_at_checked(length).ok_or_else(|| fault::unreadable("a copied row is cut"))?;
            column.append(kind, value).map_err(|reason| reason.in_column(&self.table, name))?;
            rest = tail;
        }
        Ok(())
    }
}

/// Returns the header's length, or `None` where it has not come in full.
fn header_length(bytes: &[u8]) -> Result<Option<usize>> {
    let Some((head, _)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Ok(None);
    };
    if !head.starts_with(SIGNATURE) {
        return Err(fault::unreadable("the copy does not begin with the binary signature"));
    }
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    // The upper half of the flags is critical by the format's own rule: an unknown one must not be ignored.
    if word(11) >> 16 != 0 {
        return Err(fault::unreadable("the copy has unknown critical flags"));
    }
    let length = HEADER_BYTES + word(15) as usize;
    Ok((bytes.len() >= length).then_some(length))
}

/// Returns how many bytes the values of a row take, or `None` where they have not come in full.
fn row_length(bytes: &[u8], columns: usize) -> Result<Option<usize>> {
    let mut at = 0;
    for _ in 0..columns {
        let Some(length) = bytes.get(at..at + 4) else {
            return Ok(None);
        };
        at += 4;
        match i32::from_be_bytes([length[0], length[1], length[2], length[3]]) {
            -1 => {}
            length => {
                at += usize::try_from(length).map_err(|_| fault::unreadable("a copied value has a negative length"))?;
            }
        }
    }
    Ok((at <= bytes.len()).then_some(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_in_full_or_not_at_all() {
        let mut header = SIGNATURE.to_vec();
        header.extend([0, 0, 0, 0, 0, 0, 0, 2, 9]);
        assert_eq!(header_length(&header).unwrap(), None);
        header.push(9);
        assert_eq!(header_length(&header).unwrap(), Some(21));
        header[11] = 1;
        assert!(header_length(&header).is_err());
        assert!(header_length(&[0; 19]).is_err());
    }

    #[test]
    fn a_row_that_is_cut_waits_for_its_rest() {
        let row = [0, 0, 0, 2, 7, 7, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(row_length(&row, 2).unwrap(), Some(10));
        for cut in 0..row.len() {
            assert_eq!(row_length(&row[..cut], 2).unwrap(), None);
        }
        assert!(row_length(&[0xff, 0, 0, 0], 1).is_err());
    }
}
