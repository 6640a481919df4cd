//! The connector against a real server. A test that carries a number is the case of that number in the correctness
//! list.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod server;

#[path = "live/access.rs"]
mod access;
#[path = "live/batch.rs"]
mod batch;
#[path = "live/changes.rs"]
mod changes;
#[path = "live/identity.rs"]
mod identity;
#[path = "live/laws.rs"]
mod laws;
#[path = "live/resume.rs"]
mod resume;
#[path = "live/scene.rs"]
mod scene;
#[path = "live/shutdown.rs"]
mod shutdown;
#[path = "live/snapshots.rs"]
mod snapshots;
#[path = "live/values.rs"]
mod values;
