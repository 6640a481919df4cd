//! Runs pipelines when their triggers say so, and tells how they are. Never names a connector, and never reads the
//! machine's clock but through [`lakehead_core::Clock`].

pub mod schedule;
