//! The house as a whole, in one test binary. The binary under test is the one that ships; it is built by cargo before
//! this runs (`cargo test --workspace` builds every binary) or named by `LAKEHEAD_BIN`.
#![allow(missing_docs, clippy::disallowed_methods, reason = "tests")]

mod acceptance;
mod arrows;
mod lakehead;
mod mirror;
mod model;
mod stories;
mod tidy;
