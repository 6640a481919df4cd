//! The house as a whole, in one test binary. The binary under test is the one that ships; it is built by cargo before
//! this runs (`cargo test --workspace` builds every binary) or named by `LAKEHEAD_BIN`.
#![allow(missing_docs, clippy::disallowed_methods, clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod acceptance;
mod applying;
mod arrows;
mod azure;
mod buckets;
mod catalogs;
mod colder;
mod compactor;
mod copies;
mod crashes;
mod disks;
mod errors;
mod foreign;
mod gcs;
mod history;
mod hive;
mod intervals;
mod lakehead;
mod lifecycle;
mod merging;
mod metastore;
mod mirror;
mod model;
mod orc;
mod peek;
mod rejects;
mod running;
#[path = "../../../connectors/postgres/tests/server/mod.rs"]
#[allow(dead_code, reason = "the postgres crate's tests use more of it")]
mod server;
mod stories;
mod tidy;
mod trino;
mod unity;
mod unity_server;
mod unsound;
mod verified;
