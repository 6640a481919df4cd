//! Buckets of Google Cloud Storage.

use std::sync::Arc;

use lakehead_core::{Result, Settings};
use lakehead_lakefile::{StoreKind, storage_error};
use object_store::ObjectStore;
use object_store::gcp::GoogleCloudStorageBuilder;
use url::Url;

/// `gs://bucket/…`. Credentials come from the environment, the application's default ones or the machine's account.
pub static STORE: StoreKind = StoreKind { name: "gcs", open, signed: None };

fn open(url: &Url, _: &Settings) -> Result<Arc<dyn ObjectStore>> {
    let store = GoogleCloudStorageBuilder::from_env().with_url(url.as_str()).build();
    Ok(Arc::new(store.map_err(|error| storage_error(error, url.as_str()))?))
}
