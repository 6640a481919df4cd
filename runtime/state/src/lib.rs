//! The Ledger: runs, their history and the tables they wrote, in one SQLite file. A cache for people: losing it loses
//! no position, for positions live in the lake.

mod ledger;

pub use ledger::{CopyRecord, LeaseRecord, Ledger, RunRecord, RunState, TableRecord};
