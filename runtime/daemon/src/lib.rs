//! Runs pipelines when their triggers say so, and tells how they are. Never names a connector, and never reads the
//! machine's clock but through [`lakehead_core::Clock`].

mod arrival;
mod attempt;
mod board;
mod daemon;
mod freshness;
mod host;
pub mod http;
mod late;
mod occasion;
mod pipeline;
pub mod schedule;

/// What an implementation of [`Host`] is written with.
pub use async_trait::async_trait;
pub use board::{Board, PipelineState, PipelineStatus, Status};
pub use daemon::{Daemon, Ended, Limits, Request, serve};
pub use host::{Change, Host, LeftOut, Notice};
