//! Buckets of Google Cloud Storage.

use std::sync::Arc;

use lakehead_core::{Result, Settings};
use lakehead_lakefile::{StoreKind, unopened};
use object_store::ObjectStore;
use object_store::gcp::GoogleCloudStorageBuilder;
use url::Url;

/// `gs://bucket/…`. Credentials come from the environment, the application's default ones or the machine's account.
pub static STORE: StoreKind = StoreKind { name: "gcs", open, signed: None };

const HELP: &str = "set GOOGLE_APPLICATION_CREDENTIALS to the file of a service account (docs/stores.md)";

fn open(url: &Url, _: &Settings) -> Result<Arc<dyn ObjectStore>> {
    let store = GoogleCloudStorageBuilder::from_env().with_url(url.as_str()).build();
    Ok(Arc::new(store.map_err(|error| unopened(error, url, HELP))?))
}
