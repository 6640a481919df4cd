//! Containers of Azure's Blob Storage and Data Lake Storage.

use std::sync::Arc;

use lakehead_core::{Result, Settings};
use lakehead_lakefile::{StoreKind, storage_error};
use object_store::ObjectStore;
use object_store::azure::MicrosoftAzureBuilder;
use url::Url;

/// `az://container/…`, `abfss://…` and the addresses of Azure. Account and credentials come from the environment, a
/// workload identity or the machine's.
pub static STORE: StoreKind = StoreKind { name: "azure", open, signed: None };

fn open(url: &Url, _: &Settings) -> Result<Arc<dyn ObjectStore>> {
    let store = MicrosoftAzureBuilder::from_env().with_url(url.as_str()).build();
    Ok(Arc::new(store.map_err(|error| storage_error(error, url.as_str()))?))
}
