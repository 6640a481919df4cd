//! Files behind web addresses.

use std::sync::Arc;

use lakehead_core::{Result, Settings};
use lakehead_lakefile::{StoreKind, storage_error};
use object_store::ObjectStore;
use object_store::http::HttpBuilder;
use url::{Position, Url};

/// `https://host/…`, for reading; only a WebDAV server lists folders.
pub static STORE: StoreKind = StoreKind { name: "http", open, signed: None };

fn open(url: &Url, _: &Settings) -> Result<Arc<dyn ObjectStore>> {
    let store = HttpBuilder::new().with_url(&url[..Position::BeforePath]).build();
    Ok(Arc::new(store.map_err(|error| storage_error(error, url.as_str()))?))
}
