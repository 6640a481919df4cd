//! The one list of connectors and stores: what a build has is said here alone.

use lakehead_core::Connector;
use lakehead_lakefile::{StoreKind, offer_stores};

/// Every connector that is built in.
pub static CONNECTORS: &[&Connector] = &[
    &lakehead_console::STDOUT,
    &lakehead_console::WEBHOOK,
    &lakehead_delta::CONNECTOR,
    &lakehead_files::CONNECTOR,
    &lakehead_generate::CONNECTOR,
    &lakehead_parquet::CONNECTOR,
    &lakehead_parquet::ORC,
    &lakehead_postgres::CONNECTOR,
];

/// Finds a connector by its name.
pub fn connector(name: &str) -> Option<&'static Connector> {
    CONNECTORS.iter().copied().find(|connector| connector.name == name)
}

/// Every object store that this build has.
pub static STORES: &[StoreKind] = &[
    #[cfg(feature = "azure")]
    lakehead_azure::STORE,
    #[cfg(feature = "gcs")]
    lakehead_gcs::STORE,
    #[cfg(feature = "http")]
    lakehead_http::STORE,
    #[cfg(feature = "s3")]
    lakehead_s3::STORE,
];

/// Makes the stores known to the connectors; to be called before any location is opened.
pub fn start() {
    offer_stores(STORES);
}
