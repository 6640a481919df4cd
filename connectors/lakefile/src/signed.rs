//! Calls of S3 that no object store has: a bucket's own settings, and copies into another class. Signed like every other,
//! with the keys of the connection or of the usual chain.

use std::time::Duration;

use futures::StreamExt;
use lakehead_core::{Error, Result, Settings};
use object_store::ClientOptions;
use object_store::aws::{AmazonS3, AmazonS3ConfigKey, AwsAuthorizer};
use object_store::client::{HttpClient, HttpConnector, HttpRequest, ReqwestConnector};
use url::Url;

use crate::location::s3_builder;

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
pub struct SignedBucket {
    client: HttpClient,
    /// Gives keys: those of the connection, else environment, web identity, container, machine.
    keys: AmazonS3,
    region: String,
    /// `https://host/bucket`.
    base: String,
    bucket: String,
}

/// What S3 answered: also what it refused.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status of HTTP.
    pub status: u16,
    /// The headers whose values are text, names in small letters.
    pub headers: Vec<(String, String)>,
    /// The body, where it is text; S3 answers in XML.
    pub body: String,
}

impl Answer {
    /// Returns a header; its name is given in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns the text of the first element of that name in the body: `Code` or `Message` of a refusal.
    pub fn element(&self, name: &str) -> Option<&str> {
        let rest = self.body.split_once(&format!("<{name}>"))?.1;
        Some(rest.split_once(&format!("</{name}>"))?.0)
    }

    /// Returns whether it was done. A copy may fail behind status 200, which then holds an error.
    pub fn is_done(&self) -> bool {
        self.status < 300 && !self.body.contains("<Error>")
    }
}

impl SignedBucket {
    /// Builds a client for the bucket of `s3://bucket/…`, with a connection's settings; asks nobody yet.
    ///
    /// # Errors
    ///
    /// R0404 and R0406 where such a client cannot be made.
    pub fn open(url: &Url, settings: &Settings) -> Result<Self> {
        let builder = s3_builder(url, settings);
        let region = builder.get_config_value(&AmazonS3ConfigKey::Region).filter(|region| !region.is_empty());
        let region = region.unwrap_or_else(|| REGION.to_owned());
        let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
        let endpoint = endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let keys = builder.build().map_err(|error| crate::storage_error(error, url.as_str()))?;
        let bucket = url.host_str().unwrap_or_default().to_owned();
        let options =
            ClientOptions::new().with_timeout(CALL_TIMEOUT).with_connect_timeout(CONNECT_TIMEOUT).with_allow_http(true);
        let client =
            ReqwestConnector::default().connect(&options).map_err(|error| crate::storage_error(error, url.as_str()))?;
        let base = format!("{}/{bucket}", endpoint.trim_end_matches('/'));
        Ok(Self { client, keys, region, base, bucket })
    }

    /// Returns the bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Makes one call, once. `target` is what stands behind the bucket's name, encoded: `?lifecycle`, `/folder/object`.
    ///
    /// # Errors
    ///
    /// R0404 where nobody answers, R0402 where there are no keys. What S3 refuses is an answer.
    pub async fn call(
        &self,
        method: &str,
        target: &str,
        headers: &[(&'static str, String)],
        body: &str,
    ) -> Result<Answer> {
        let unusable = || Error::bug("a request cannot be made").with("target", target);
        let mut request = HttpRequest::new(body.as_bytes().to_vec().into());
        *request.method_mut() = method.parse().map_err(|_| unusable())?;
        *request.uri_mut() = format!("{}{target}", self.base).parse().map_err(|_| {
            Error::user("R0406", "the store's address is not one")
                .with("endpoint", &self.base)
                .help("endpoint = \"https://host:port\"")
        })?;
        for (name, value) in headers {
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
