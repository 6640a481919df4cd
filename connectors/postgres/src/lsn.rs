//! Positions in the write-ahead log, and what a checkpoint says about them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use lakehead_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::fault;

/// A position in the write-ahead log, written `16/B374D848`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Lsn(pub(crate) u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl FromStr for Lsn {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let halves = text
            .split_once('/')
            .and_then(|(high, low)| Some((u32::from_str_radix(high, 16).ok()?, u32::from_str_radix(low, 16).ok()?)));
        let (high, low) =
            halves.ok_or_else(|| fault::unreadable("a log position cannot be read").with("position", text))?;
        Ok(Self(u64::from(high) << 32 | u64::from(low)))
    }
}

/// Which server, database and slot a position belongs to: without it a position means nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// The system identifier of the cluster.
    pub(crate) system: String,
    /// The oid of the database.
    pub(crate) database: u32,
    /// The slot's name.
    pub(crate) slot: String,
    /// The timeline of the log.
    pub(crate) timeline: u32,
    /// The tables whose snapshot the position includes, with their oids.
    pub(crate) tables: BTreeMap<String, u32>,
    /// By which entry of the catalogue each of them is published; absent in older checkpoints.
    #[serde(default)]
    pub(crate) published: BTreeMap<String, u32>,
}

#[derive(Serialize, Deserialize)]
struct Document {
    lsn: String,
    #[serde(flatten)]
    identity: Identity,
}

/// Writes the text of a position.
pub(crate) fn write_position(identity: &Identity, lsn: Lsn) -> Result<String> {
    let document = Document { lsn: lsn.to_string(), identity: identity.clone() };
    serde_json::to_string(&document).map_err(|error| Error::bug("a position cannot be written").caused_by(error))
}

/// Reads the text of a position.
pub(crate) fn read_position(text: &str) -> Result<(Identity, Lsn)> {
    let document: Document = serde_json::from_str(text).map_err(|error| {
        Error::incident(fault::IDENTITY, "the checkpoint holds a position that is none of PostgreSQL").caused_by(error)
    })?;
    Ok((document.identity, document.lsn.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_compared_as_numbers_and_written_as_the_server_writes_them() {
        for text in ["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"] {
            assert_eq!(text.parse::<Lsn>().unwrap().to_string(), text);
        }
        assert!("A/0".parse::<Lsn>().unwrap() > "9/FFFFFFFF".parse::<Lsn>().unwrap());
        for text in ["", "1", "x/1", "1/100000000"] {
            assert!(text.parse::<Lsn>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_position_reads_back_with_its_identity() {
        let identity = Identity {
            system: "7000000000000000001".into(),
            database: 5,
            slot: "s".into(),
            timeline: 1,
            tables: [("public.t".to_owned(), 16_385)].into(),
            published: [("public.t".to_owned(), 16_390)].into(),
        };
        let text = write_position(&identity, Lsn(0x10)).unwrap();
        assert!(text.starts_with("{\"lsn\":\"0/10\""), "{text}");
        assert_eq!(read_position(&text).unwrap(), (identity, Lsn(0x10)));
        let older = text.replace(",\"published\":{\"public.t\":16390}", "");
        assert!(read_position(&older).unwrap().0.published.is_empty(), "{older}");
        assert!(read_position("{}").is_err());
    }
}
