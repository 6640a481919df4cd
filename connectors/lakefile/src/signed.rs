//! Calls of S3 that no object store has: a bucket's own settings, and copies into another class. The crate of the store makes
//! and signs them; nothing here knows how.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use lakehead_core::{Result, Settings};
use url::Url;

use crate::stores::signed_calls;

/// What the crate of a store offers beside its objects.
#[async_trait]
pub trait SignedCalls: fmt::Debug + Send + Sync {
    /// Returns the bucket's name.
    fn bucket(&self) -> &str;

    /// Makes one call, once, as [`SignedBucket::call`] says.
    async fn call(&self, method: &str, target: &str, headers: &[(&'static str, String)], body: &str) -> Result<Answer>;
}

/// One bucket, for calls that are signed.
#[derive(Clone, Debug)]
pub struct SignedBucket(Arc<dyn SignedCalls>);

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
    /// R0640 where this build has no such store, R0404 and R0406 where such a client cannot be made.
    pub fn open(url: &Url, settings: &Settings) -> Result<Self> {
        Ok(Self(signed_calls(url, settings)?))
    }

    /// Returns the bucket's name.
    pub fn bucket(&self) -> &str {
        self.0.bucket()
    }

    /// Makes one call, once. `target` is what stands behind the bucket's name, encoded: `?lifecycle`, `/folder/object`. A copy is
    /// encrypted as the connection says.
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
        self.0.call(method, target, headers, body).await
    }
}
