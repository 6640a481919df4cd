//! Whether a store keeps its word: a create of what is there is refused.
//!
//! Every commit rests on it. A store, a gateway or a proxy that knows no `If-None-Match` lets the later of two writers win,
//! and rounds are lost without a word (case 76), so that it is asked before anything is written.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use lakehead_core::{Error, Result};
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use crate::{Location, storage_error};

/// The object that is created again and again: it stays, so that a later process asks once.
const NAME: &str = "_lakehead/_created_once";
/// Unclear answers before the store is said to fail.
const ATTEMPTS_MAX: usize = 8;

/// The folders of this process whose stores were asked.
static PROVED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

impl Location {
    /// Fails where the store does not refuse to create an object that is there (R0643), and where it has no such bucket
    /// (R0645). Asked once a process and connection; the
    /// local disk is not asked.
    pub async fn prove_create(&self) -> Result<()> {
        let key = self.root_url();
        if self.url().scheme() == "file" || locked(|proved| proved.contains(&key)) {
            return Ok(());
        }
        self.ask_to_create_again().await?;
        locked(|proved| proved.insert(key));
        Ok(())
    }

    async fn ask_to_create_again(&self) -> Result<()> {
        let path = self.root_path(NAME);
        let (mut made, mut last) = (0, None);
        for _ in 0..ATTEMPTS_MAX {
            let payload = PutPayload::from_static(b"lakehead asks here whether the store creates what is there\n");
            let refusal = match self.store().put_opts(&path, payload, PutOptions::from(PutMode::Create)).await {
                Ok(_) if made == 0 => {
                    made = 1;
                    continue;
                }
                Ok(_) => return Err(self.overwrites()),
                Err(error @ (object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. })) => {
                    error
                }
                Err(error) if is_unknown(&error) => return Err(self.overwrites().caused_by(error)),
                Err(error @ object_store::Error::NotFound { .. }) => {
                    return Err(crate::no_bucket().with("location", self.root_url()).caused_by(error));
                }
                Err(error) => {
                    last = Some(error);
                    continue;
                }
            };
            // Some stores refuse when they are in a hurry, too.
            match self.store().head(&path).await {
                Ok(_) => return Ok(()),
                Err(object_store::Error::NotFound { .. }) => last = Some(refusal),
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) => Err(storage_error(error, path.as_ref())),
            None => Err(self.overwrites()),
        }
    }

    fn overwrites(&self) -> Error {
        Error::user("R0643", "the store writes over an object that was to be created: two writers would lose rounds")
            .with("location", self.root_url())
            .help("write to a store with conditional writes (`If-None-Match: *`): S3, Azure, GCS, R2, MinIO and others have them")
            .help("a gateway or proxy before such a store must pass the header on")
    }
}

/// Returns whether the store says that it does not know such a create.
fn is_unknown(error: &object_store::Error) -> bool {
    let said = crate::chain_text(error);
    matches!(error, object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. })
        || ["501 Not Implemented", "<Code>NotImplemented</Code>"].iter().any(|part| said.contains(part))
}

fn locked<T>(with: impl FnOnce(&mut BTreeSet<String>) -> T) -> T {
    with(&mut PROVED.lock().unwrap_or_else(PoisonError::into_inner))
}
