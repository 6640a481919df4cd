//! `lakehead serve`.

use lakehead_core::Result;

use super::Ended;
use crate::args::{Common, Serve};

/// Runs what a directory holds.
pub(crate) async fn serve(_arguments: Serve, _common: Common) -> Result<Ended> {
    Err(lakehead_core::Error::bug("serve is being written"))
}
