//! Buckets of Amazon S3, and of stores that speak its language.

mod signed;

use std::sync::Arc;

use lakehead_core::{Error, Result, Settings};
use lakehead_lakefile::{StoreKind, unopened};
use object_store::ObjectStore;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use url::Url;

/// `s3://bucket/…`, and the addresses of Amazon and Cloudflare. Credentials come from the environment, a web identity, the
/// container's or the machine's role, in this order, unless the connection names secrets.
pub static STORE: StoreKind = StoreKind { name: "s3", open, signed: Some(signed::open) };

const HELP: &str = "say `region` and, for a store that is not Amazon's, `endpoint` in the connection (docs/stores.md)";

fn open(url: &Url, settings: &Settings) -> Result<Arc<dyn ObjectStore>> {
    let mut builder = builder(url, settings);
    for (name, value) in encryption(settings)? {
        let setting: AmazonS3ConfigKey =
            name.parse().map_err(|error| Error::bug("a setting of S3 has no such name").caused_by(error))?;
        builder = builder.with_config(setting, value);
    }
    Ok(Arc::new(builder.build().map_err(|error| unopened(error, url, HELP))?))
}

/// Returns what a connection says of its bucket, over what the environment says.
fn builder(url: &Url, settings: &Settings) -> AmazonS3Builder {
    let mut builder =
        AmazonS3Builder::from_env().with_url(url.as_str()).with_conditional_put(S3ConditionalPut::ETagMatch);
    if let Some(region) = settings.text("region") {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = settings.text("endpoint") {
        builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
    }
    if let (Some(id), Some(key)) = (settings.secret("access_key_id"), settings.secret("secret_access_key")) {
        builder = builder.with_access_key_id(id).with_secret_access_key(key);
    }
    builder
}

/// Returns how S3 is to encrypt what is written, as the connection says it, by the names of `object_store`; a bucket has a rule
/// of its own for what says nothing.
fn encryption(settings: &Settings) -> Result<Vec<(&'static str, String)>> {
    let by = match settings.text("encryption") {
        Some("sse_s3") => Some("AES256"),
        Some("sse_kms") => Some("aws:kms"),
        Some("dsse_kms") => Some("aws:kms:dsse"),
        _ => None,
    };
    let key = settings.text("kms_key");
    let bucket_key = settings.get("bucket_key").map(|_| settings.bool_or("bucket_key", false));
    if (key.is_some() || bucket_key.is_some()) && !by.is_some_and(|by| by.starts_with("aws:kms")) {
        return Err(Error::user("R0641", "`kms_key` and `bucket_key` are for keys of KMS")
            .help("add `encryption = sse_kms` to the connection, or take them out"));
    }
    let said = [
        ("aws_server_side_encryption", by.map(str::to_owned)),
        ("aws_sse_kms_key_id", key.map(str::to_owned)),
        ("aws_sse_bucket_key_enabled", bucket_key.map(|asks| asks.to_string())),
    ];
    Ok(said.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
}

#[cfg(test)]
mod tests {
    use lakehead_core::Value;

    use super::*;

    fn opened(settings: &[(&str, Value)]) -> Result<Arc<dyn ObjectStore>> {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        open(&Url::parse("s3://bucket/lake").unwrap(), &Settings::new(settings))
    }

    #[test]
    fn a_key_of_kms_without_kms_is_refused() {
        let (kms, key) = (Value::Name("sse_kms".into()), Value::Text("alias/lake".into()));
        assert!(opened(&[("encryption", kms), ("kms_key", key.clone())]).is_ok());
        for settings in [
            vec![("kms_key", key.clone())],
            vec![("encryption", Value::Name("sse_s3".into())), ("kms_key", key)],
            vec![("bucket_key", Value::Bool(true))],
        ] {
            assert_eq!(opened(&settings).unwrap_err().code(), "R0641");
        }
    }
}
