//! The messages of `pgoutput`, protocol version 1, parsed in place. Pure: bytes in, messages out.
//!
//! An unknown message, flag or letter is an error and never a skip: what is not understood may be a change.

use lakehead_core::{Micros, Result};

use crate::catalog::ReplicaIdentity;
use crate::column::EPOCH_MICROS;
use crate::fault;
use crate::lsn::Lsn;

/// One message of the stream.
#[derive(Debug, PartialEq)]
pub(crate) enum Message<'a> {
    /// A transaction begins; `commit` is where its commit record lies, by which transactions are ordered.
    Begin {
        commit: Lsn,
        committed_at: Micros,
    },
    /// The transaction is complete; `end` is where the log goes on behind it.
    Commit {
        commit: Lsn,
        end: Lsn,
    },
    /// Where a replicated transaction came from first. It changes nothing in the rows.
    Origin,
    /// The columns of a table, for the changes that follow.
    Relation(Relation<'a>),
    /// The name of a type. The catalogue is asked by oid instead.
    Type,
    Insert {
        relation: u32,
        new: Tuple<'a>,
    },
    Update {
        relation: u32,
        old: Option<OldTuple<'a>>,
        new: Tuple<'a>,
    },
    Delete {
        relation: u32,
        old: OldTuple<'a>,
    },
    Truncate {
        relations: Vec<u32>,
    },
    /// A text that somebody put into the log.
    Logical,
}

/// The columns of a table as they were when the changes that follow were made.
#[derive(Debug, PartialEq)]
pub(crate) struct Relation<'a> {
    pub(crate) oid: u32,
    pub(crate) schema: &'a str,
    pub(crate) table: &'a str,
    pub(crate) identity: ReplicaIdentity,
    pub(crate) columns: Vec<RelationColumn<'a>>,
}

/// One column of a [`Relation`].
#[derive(Debug, PartialEq)]
pub(crate) struct RelationColumn<'a> {
    pub(crate) name: &'a str,
    pub(crate) is_key: bool,
    pub(crate) type_oid: u32,
    pub(crate) typmod: i32,
}

/// What the server sent of the old row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum OldTuple<'a> {
    /// Only the columns of the replica identity; null in the others means "not sent".
    Key(Tuple<'a>),
    /// All columns.
    Full(Tuple<'a>),
}

/// The values of a row, still encoded; its framing has been checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tuple<'a> {
    count: usize,
    body: &'a [u8],
}

/// One value of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Datum<'a> {
    Null,
    /// A large value that the change left alone, and that the server did not send.
    Unchanged,
    Text(&'a [u8]),
    Binary(&'a [u8]),
}

impl<'a> Tuple<'a> {
    /// Returns how many values the row has.
    pub(crate) fn len(self) -> usize {
        self.count
    }

    /// Returns how many bytes the row took.
    pub(crate) fn bytes(self) -> usize {
        self.body.len()
    }

    /// Returns the values in column order.
    pub(crate) fn values(self) -> impl Iterator<Item = Datum<'a>> {
        let mut reader = Reader { rest: self.body };
        // The framing was checked when the message was parsed, so the reader ends with the last value.
        (0..self.count).map_while(move |_| reader.datum().ok())
    }
}

/// Parses one message.
pub(crate) fn parse(bytes: &[u8]) -> Result<Message<'_>> {
    let mut reader = Reader { rest: bytes };
    let message = match reader.byte()? {
        b'B' => {
            let message = Message::Begin { commit: reader.lsn()?, committed_at: reader.time()? };
            reader.u32()?;
            message
        }
        b'C' => {
            if reader.byte()? != 0 {
                return Err(fault::unreadable("a commit has unknown flags"));
            }
            let message = Message::Commit { commit: reader.lsn()?, end: reader.lsn()? };
            reader.time()?;
            message
        }
        b'O' => {
            reader.lsn()?;
            reader.text()?;
            Message::Origin
        }
        b'R' => Message::Relation(reader.relation()?),
        b'Y' => {
            reader.u32()?;
            reader.text()?;
            reader.text()?;
            Message::Type
        }
        b'I' => {
            let relation = reader.u32()?;
            reader.expect_new()?;
            Message::Insert { relation, new: reader.tuple()? }
        }
        b'U' => reader.update()?,
        b'D' => {
            let relation = reader.u32()?;
            let letter = reader.byte()?;
            Message::Delete { relation, old: reader.old(letter)? }
        }
        b'T' => reader.truncate()?,
        b'M' => reader.logical()?,
        other => {
            return Err(
                fault::unreadable("the stream has a message that is not known").with("message", other.escape_ascii())
            );
        }
    };
    if !reader.rest.is_empty() {
        return Err(fault::unreadable("a message of the stream is longer than its contents"));
    }
    Ok(message)
}

/// Reads the parts of a message one after the other.
#[derive(Debug)]
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (head, rest) =
            self.rest.split_at_checked(length).ok_or_else(|| fault::unreadable("a message of the stream is cut"))?;
        self.rest = rest;
        Ok(head)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) =
            self.rest.split_first_chunk().ok_or_else(|| fault::unreadable("a message of the stream is cut"))?;
        self.rest = rest;
        Ok(*head)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.fixed::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.fixed()?))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.fixed()?))
    }

    fn lsn(&mut self) -> Result<Lsn> {
        Ok(Lsn(u64::from_be_bytes(self.fixed()?)))
    }

    fn time(&mut self) -> Result<Micros> {
        Ok(i64::from_be_bytes(self.fixed()?).saturating_add(EPOCH_MICROS))
    }

    fn text(&mut self) -> Result<&'a str> {
        let end = self.rest.iter().position(|byte| *byte == 0);
        let text = self.take(end.ok_or_else(|| fault::unreadable("a name in the stream has no end"))?)?;
        self.byte()?;
        std::str::from_utf8(text).map_err(|_| fault::unreadable("a name in the stream is not UTF-8"))
    }

    fn relation(&mut self) -> Result<Relation<'a>> {
        let (oid, schema, table) = (self.u32()?, self.text()?, self.text()?);
        let identity = ReplicaIdentity::parse(self.byte()?)
            .ok_or_else(|| fault::unreadable("a table in the stream has an unknown replica identity"))?;
        let count = self.u16()?;
        let columns = (0..count)
            .map(|_| {
                let flags = self.byte()?;
                if flags > 1 {
                    return Err(fault::unreadable("a column in the stream has unknown flags"));
                }
                let (name, type_oid) = (self.text()?, self.u32()?);
                let typmod = i32::from_be_bytes(self.fixed()?);
                Ok(RelationColumn { name, is_key: flags == 1, type_oid, typmod })
            })
            .collect::<Result<_>>()?;
        // pgoutput names the schema pg_catalog by an empty text.
        let schema = if schema.is_empty() { "pg_catalog" } else { schema };
        Ok(Relation { oid, schema, table, identity, columns })
    }

    fn expect_new(&mut self) -> Result<()> {
        match self.byte()? {
            b'N' => Ok(()),
            _ => Err(fault::unreadable("a change in the stream lacks its new row")),
        }
    }

    fn old(&mut self, letter: u8) -> Result<OldTuple<'a>> {
        match letter {
            b'K' => Ok(OldTuple::Key(self.tuple()?)),
            b'O' => Ok(OldTuple::Full(self.tuple()?)),
            _ => Err(fault::unreadable("a change in the stream has an old row of an unknown form")),
        }
    }

    fn update(&mut self) -> Result<Message<'a>> {
        let relation = self.u32()?;
        let old = match self.byte()? {
            b'N' => None,
            letter => {
                let old = self.old(letter)?;
                self.expect_new()?;
                Some(old)
            }
        };
        Ok(Message::Update { relation, old, new: self.tuple()? })
    }

    fn truncate(&mut self) -> Result<Message<'a>> {
        let count = self.u32()?;
        if self.byte()? > 3 {
            return Err(fault::unreadable("a truncate has unknown flags"));
        }
        let relations = (0..count).map(|_| self.u32()).collect::<Result<_>>()?;
        Ok(Message::Truncate { relations })
    }

    fn logical(&mut self) -> Result<Message<'a>> {
        self.byte()?;
        self.lsn()?;
        self.text()?;
        let length = self.u32()? as usize;
        self.take(length)?;
        Ok(Message::Logical)
    }

    /// Checks the framing of a row and returns it undecoded.
    fn tuple(&mut self) -> Result<Tuple<'a>> {
        let count = usize::from(self.u16()?);
        let body = self.rest;
        for _ in 0..count {
            self.datum()?;
        }
        Ok(Tuple { count, body: &body[..body.len() - self.rest.len()] })
    }

    fn datum(&mut self) -> Result<Datum<'a>> {
        match self.byte()? {
            b'n' => Ok(Datum::Null),
            b'u' => Ok(Datum::Unchanged),
            letter @ (b't' | b'b') => {
                let length = self.u32()? as usize;
                let value = self.take(length)?;
                Ok(if letter == b't' { Datum::Text(value) } else { Datum::Binary(value) })
            }
            _ => Err(fault::unreadable("a value in the stream has an unknown form")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[&[u8]]) -> Vec<u8> {
        let mut bytes = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend(values.concat());
        bytes
    }

    #[test]
    fn a_transaction_begins_and_ends_with_its_commit_position() {
        let mut begin = vec![b'B'];
        begin.extend(0x10_u64.to_be_bytes());
        begin.extend(5_i64.to_be_bytes());
        begin.extend(7_u32.to_be_bytes());
        assert_eq!(parse(&begin).unwrap(), Message::Begin { commit: Lsn(16), committed_at: EPOCH_MICROS + 5 });
        let mut commit = vec![b'C', 0];
        commit.extend(0x10_u64.to_be_bytes());
        commit.extend(0x20_u64.to_be_bytes());
        commit.extend(5_i64.to_be_bytes());
        assert_eq!(parse(&commit).unwrap(), Message::Commit { commit: Lsn(16), end: Lsn(32) });
        commit[1] = 1;
        assert!(parse(&commit).is_err());
    }

    #[test]
    fn an_update_keeps_old_key_and_new_row_apart() {
        let mut bytes = b"U\0\0\0\x09K".to_vec();
        bytes.extend(row(&[b"b\0\0\0\x01\x07", b"n"]));
        bytes.push(b'N');
        bytes.extend(row(&[b"b\0\0\0\x01\x08", b"u"]));
        let Message::Update { relation: 9, old: Some(OldTuple::Key(old)), new } = parse(&bytes).unwrap() else {
            panic!("not an update with an old key")
        };
        assert_eq!(old.values().collect::<Vec<_>>(), [Datum::Binary(&[7]), Datum::Null]);
        assert_eq!(new.values().collect::<Vec<_>>(), [Datum::Binary(&[8]), Datum::Unchanged]);
    }

    #[test]
    fn a_relation_names_its_columns_and_key() {
        let mut bytes = b"R\0\0\0\x09public\0t\0d\0\x01\x01id\0".to_vec();
        bytes.extend(20_u32.to_be_bytes());
        bytes.extend((-1_i32).to_be_bytes());
        let Message::Relation(relation) = parse(&bytes).unwrap() else { panic!("not a relation") };
        assert_eq!((relation.oid, relation.schema, relation.table), (9, "public", "t"));
        assert_eq!(relation.columns, [RelationColumn { name: "id", is_key: true, type_oid: 20, typmod: -1 }]);
    }

    #[test]
    fn what_is_not_known_or_cut_is_an_error_and_never_a_skip() {
        for bytes in
            [b"S\0\0".as_slice(), b"", b"I\0\0\0\x09K", b"D\0\0\0\x09X\0\0", b"T\0\0\0\0\x04", b"I\0\0\0\x09N\0\x01x"]
        {
            assert!(parse(bytes).is_err(), "{}", bytes.escape_ascii());
        }
        let mut whole = b"I\0\0\0\x09N".to_vec();
        whole.extend(row(&[b"b\0\0\0\x02ab", b"n"]));
        assert!(parse(&whole).is_ok());
        for cut in 0..whole.len() {
            assert!(parse(&whole[..cut]).is_err(), "cut at {cut}");
        }
        whole.push(0);
        assert!(parse(&whole).is_err());
    }

    #[test]
    fn a_truncate_names_every_table() {
        assert_eq!(
            parse(b"T\0\0\0\x02\x01\0\0\0\x09\0\0\0\x0a").unwrap(),
            Message::Truncate { relations: vec![9, 10] }
        );
    }
}
