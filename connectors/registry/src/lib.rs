//! The one list of connectors.

use lakehead_core::Connector;

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
