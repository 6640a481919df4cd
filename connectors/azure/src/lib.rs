//! Containers of Azure's Blob Storage and Data Lake Storage.

use std::sync::Arc;

use lakehead_core::{Result, Settings};
use lakehead_lakefile::{StoreKind, unopened};
use object_store::ObjectStore;
use object_store::azure::MicrosoftAzureBuilder;
use url::Url;

/// `az://container/…`, `abfss://…` and the addresses of Azure. Account and credentials come from the environment, a
/// workload identity or the machine's.
pub static STORE: StoreKind = StoreKind { name: "azure", open, signed: None };

const HELP: &str = "set AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY where no identity of the machine is used (docs/stores.md)";

fn open(url: &Url, _: &Settings) -> Result<Arc<dyn ObjectStore>> {
    let store = MicrosoftAzureBuilder::from_env().with_url(url.as_str()).build();
    Ok(Arc::new(store.map_err(|error| unopened(error, url, HELP))?))
}
