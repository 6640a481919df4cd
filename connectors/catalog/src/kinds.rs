//! The kinds of catalogs, as data.

use lakehead_core::{CatalogKind, OptionKind, OptionSpec};

use crate::names::{any_name, safe_hive_column, safe_hive_name, safe_unity_name};

/// Every kind that is built in.
pub static KINDS: &[&CatalogKind] = &[&SQLITE, &GLUE, &HIVE, &UNITY];

/// Finds a kind by its word.
pub fn kind(name: &str) -> Option<&'static CatalogKind> {
    KINDS.iter().copied().find(|kind| kind.name == name)
}

const HIVE_NAMES: &str = "lower case letters, digits and `_`, 128 at most";

static SQLITE: CatalogKind = CatalogKind {
    name: "sqlite",
    summary: "a file beside the ledger; lists what names no catalog",
    is_default: true,
    options: &[],
    formats: &["delta", "parquet", "orc"],
    parts_max: usize::MAX,
    names: "any name",
    safe_name: any_name,
    safe_column: any_name,
    folds_case: false,
};

static GLUE: CatalogKind = CatalogKind {
    name: "glue",
    summary: "the AWS Glue Data Catalog, which Athena, EMR and Redshift read",
    is_default: false,
    options: &GLUE_OPTIONS,
    formats: &["delta", "parquet", "orc"],
    parts_max: 2,
    names: HIVE_NAMES,
    safe_name: safe_hive_name,
    safe_column: safe_hive_column,
    folds_case: true,
};

static GLUE_OPTIONS: [OptionSpec; 8] = [
    OptionSpec::new("region", OptionKind::Text, "region of the catalog, where the environment says none"),
    OptionSpec::new("catalog_id", OptionKind::Text, "account whose catalog it is").default("the caller's"),
    OptionSpec::new("database", OptionKind::Text, "database of tables whose name has none").default("\"default\""),
    OptionSpec::new("endpoint", OptionKind::Text, "address of the service, where it is not AWS's own"),
    OptionSpec::new("access_key_id", OptionKind::Secret, "key id, where the environment holds none"),
    OptionSpec::new("secret_access_key", OptionKind::Secret, "key, where the environment holds none"),
    OptionSpec::new("session_token", OptionKind::Secret, "token of a temporary key"),
    OptionSpec::new("timeout", OptionKind::Duration, "how long one call may take").default("30s"),
];

static HIVE: CatalogKind = CatalogKind {
    name: "hive",
    summary: "a metastore of Hive, which Spark, Trino and Hive read",
    is_default: false,
    options: &HIVE_OPTIONS,
    formats: &["delta", "parquet", "orc"],
    parts_max: 2,
    names: HIVE_NAMES,
    safe_name: safe_hive_name,
    safe_column: safe_hive_column,
    folds_case: true,
};

static HIVE_OPTIONS: [OptionSpec; 3] = [
    OptionSpec::new("uri", OptionKind::Text, "address, thrift://host:9083; several with commas between").required(),
    OptionSpec::new("database", OptionKind::Text, "database of tables whose name has none").default("\"default\""),
    OptionSpec::new("timeout", OptionKind::Duration, "how long one call may take").default("30s"),
];

static UNITY: CatalogKind = CatalogKind {
    name: "unity",
    summary: "Unity Catalog, for Delta tables",
    is_default: false,
    options: &UNITY_OPTIONS,
    formats: &["delta"],
    parts_max: 3,
    names: "names without dots, blanks and slashes, 255 bytes at most",
    safe_name: safe_unity_name,
    safe_column: any_name,
    folds_case: true,
};

static UNITY_OPTIONS: [OptionSpec; 5] = [
    OptionSpec::new("endpoint", OptionKind::Text, "address of the server, https://host").required(),
    OptionSpec::new("token", OptionKind::Secret, "token of a user or service"),
    OptionSpec::new("catalog", OptionKind::Text, "catalog of tables whose name has none").default("\"unity\""),
    OptionSpec::new("schema", OptionKind::Text, "schema of tables whose name has none").default("\"default\""),
    OptionSpec::new("timeout", OptionKind::Duration, "how long one call may take").default("30s"),
];
