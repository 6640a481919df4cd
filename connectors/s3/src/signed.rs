//! Calls of S3 that no object store has, signed like every other: with the keys of the connection or of the usual chain.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use lakehead_core::{Error, Result, Settings};
use lakehead_lakefile::{Answer, SignedCalls, storage_error};
use object_store::ClientOptions;
use object_store::aws::{AmazonS3, AmazonS3ConfigKey, AwsAuthorizer};
use object_store::client::{HttpClient, HttpConnector, HttpRequest, ReqwestConnector};
use url::Url;

use crate::{builder, encryption};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call may take: a copy of 5 GB answers when it is done.
const CALL_TIMEOUT: Duration = Duration::from_secs(300);
/// Bytes of an answer at most: a thousand rules have less than one.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// The region of buckets that say none.
const REGION: &str = "us-east-1";

/// One bucket, for calls that are signed here.
#[derive(Debug)]
pub(crate) struct S3Bucket {
    client: HttpClient,
    /// Gives keys: those of the connection, else environment, web identity, container, machine.
    keys: AmazonS3,
    region: String,
    /// `https://host/bucket`.
    base: String,
    bucket: String,
    /// How copies are encrypted.
    encryption: Vec<(&'static str, String)>,
}

/// Builds a client for the bucket of a URL; asks nobody yet.
pub(crate) fn open(url: &Url, settings: &Settings) -> Result<Arc<dyn SignedCalls>> {
    Ok(Arc::new(S3Bucket::open(url, settings)?))
}

/// A copy is encrypted anew: by what the bucket says, where nothing else is said.
fn copy_headers(settings: &Settings) -> Result<Vec<(&'static str, String)>> {
    let header = |name: &str| match name {
        "aws_server_side_encryption" => "x-amz-server-side-encryption",
        "aws_sse_kms_key_id" => "x-amz-server-side-encryption-aws-kms-key-id",
        _ => "x-amz-server-side-encryption-bucket-key-enabled",
    };
    Ok(encryption(settings)?.into_iter().map(|(name, value)| (header(name), value)).collect())
}

impl S3Bucket {
    fn open(url: &Url, settings: &Settings) -> Result<Self> {
        let builder = builder(url, settings);
        let region = builder.get_config_value(&AmazonS3ConfigKey::Region).filter(|region| !region.is_empty());
        let region = region.unwrap_or_else(|| REGION.to_owned());
        let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
        let endpoint = endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let keys = builder.build().map_err(|error| storage_error(error, url.as_str()))?;
        let bucket = url.host_str().unwrap_or_default().to_owned();
        let options =
            ClientOptions::new().with_timeout(CALL_TIMEOUT).with_connect_timeout(CONNECT_TIMEOUT).with_allow_http(true);
        let client =
            ReqwestConnector::default().connect(&options).map_err(|error| storage_error(error, url.as_str()))?;
        let base = format!("{}/{bucket}", endpoint.trim_end_matches('/'));
        Ok(Self { client, keys, region, base, bucket, encryption: copy_headers(settings)? })
    }

    async fn send(&self, request: HttpRequest) -> Result<Answer> {
        // The source of such an error may hold the request, its headers too.
        let unreachable = |kind: String| {
            Error::external("R0404", "the object store did not answer").with("store", &self.base).with("kind", kind)
        };
        let response = self.client.execute(request).await.map_err(|e| unreachable(format!("{:?}", e.kind())))?;
        let status = response.status().as_u16();
        let mut headers = Vec::new();
        for (name, value) in response.headers() {
            headers.extend(value.to_str().ok().map(|value| (name.as_str().to_owned(), value.to_owned())));
        }
        let mut body = Vec::new();
        let mut parts = response.into_body().bytes_stream();
        while let Some(part) = parts.next().await {
            body.extend_from_slice(&part.map_err(|e| unreachable(format!("{:?}", e.kind())))?);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(unreachable("an answer without an end".into()));
            }
        }
        Ok(Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
    }
}

#[async_trait]
impl SignedCalls for S3Bucket {
    fn bucket(&self) -> &str {
        &self.bucket
    }

    async fn call(&self, method: &str, target: &str, headers: &[(&'static str, String)], body: &str) -> Result<Answer> {
        let unusable = || Error::bug("a request cannot be made").with("target", target);
        let mut request = HttpRequest::new(body.as_bytes().to_vec().into());
        *request.method_mut() = method.parse().map_err(|_| unusable())?;
        *request.uri_mut() = format!("{}{target}", self.base).parse().map_err(|_| {
            Error::user("R0406", "the store's address is not one")
                .with("endpoint", &self.base)
                .help("endpoint = \"https://host:port\"")
        })?;
        let is_copy = headers.iter().any(|(name, _)| *name == "x-amz-copy-source");
        for (name, value) in headers.iter().chain(self.encryption.iter().filter(|_| is_copy)) {
            request.headers_mut().insert(*name, value.parse().map_err(|_| unusable())?);
        }
        let keys = self.keys.credentials().get_credential().await.map_err(|error| {
            Error::external("R0402", "there are no keys for the bucket")
                .with("bucket", &self.bucket)
                .help("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the connection `access_key_id` and `secret_access_key`")
                .caused_by(error)
        })?;
        AwsAuthorizer::new(&keys, "s3", &self.region).authorize(&mut request, None);
        self.send(request).await
    }
}

#[cfg(test)]
mod tests {
    use lakehead_core::Value;

    use super::*;

    #[test]
    fn a_copy_is_encrypted_as_the_connection_says() {
        let said = [
            ("encryption", Value::Name("sse_kms".into())),
            ("kms_key", Value::Text("alias/lake".into())),
            ("bucket_key", Value::Bool(true)),
        ];
        let settings = Settings::new(said.map(|(name, value)| (name.to_owned(), value)));
        let headers = copy_headers(&settings).unwrap();
        let expected = [
            ("x-amz-server-side-encryption", "aws:kms"),
            ("x-amz-server-side-encryption-aws-kms-key-id", "alias/lake"),
            ("x-amz-server-side-encryption-bucket-key-enabled", "true"),
        ];
        assert_eq!(headers, expected.map(|(name, value)| (name, value.to_owned())));
        assert!(copy_headers(&Settings::default()).unwrap().is_empty());
    }
}
