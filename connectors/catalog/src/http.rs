//! Calls over HTTP, bounded in time and size.

use std::time::Duration;

use futures::StreamExt;
use lakehead_core::{Error, Result};
use object_store::ClientOptions;
use object_store::client::{HttpClient, HttpConnector, HttpRequest, ReqwestConnector};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one call may take where the catalog says nothing.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an answer at most: a page of a thousand partitions has less than one.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// A client for one service.
#[derive(Debug)]
pub(crate) struct Http {
    client: HttpClient,
    /// What it is called in errors.
    service: &'static str,
    endpoint: String,
}

impl Http {
    /// Builds a client; connects to nothing yet.
    pub(crate) fn new(service: &'static str, endpoint: &str, timeout: Duration) -> Result<Self> {
        let options = ClientOptions::new()
            .with_timeout(timeout)
            .with_connect_timeout(timeout.min(CONNECT_TIMEOUT))
            .with_allow_http(true);
        let client = ReqwestConnector::default().connect(&options).map_err(|error| {
            Error::user("R0623", "a client for the catalog cannot be made")
                .with("service", service)
                .help("look at the proxy variables of the environment, and at the certificates of this machine")
                .caused_by(error)
        })?;
        Ok(Self { client, service, endpoint: endpoint.to_owned() })
    }

    /// Makes a request with a JSON body.
    pub(crate) fn request(&self, method: &str, path: &str, body: Vec<u8>) -> Result<HttpRequest> {
        let mut request = HttpRequest::new(body.into());
        let unusable = || Error::bug("a request cannot be made").with("path", path);
        *request.method_mut() = method.parse().map_err(|_| unusable())?;
        *request.uri_mut() = format!("{}{path}", self.endpoint.trim_end_matches('/')).parse().map_err(|_| {
            Error::user("R0623", "the catalog's address is not one")
                .with("endpoint", &self.endpoint)
                .help("endpoint = \"https://host:port\"")
        })?;
        Ok(request)
    }

    /// Sends a request and returns status and body.
    pub(crate) async fn send(&self, request: HttpRequest) -> Result<(u16, Vec<u8>)> {
        // The source of such an error may hold the request, its headers too.
        let unreachable = |kind: String| {
            Error::external("R0623", "the catalog did not answer")
                .with("service", self.service)
                .with("endpoint", &self.endpoint)
                .with("kind", kind)
                .help("data is committed all the same; the table is registered when the catalog answers again")
        };
        let response = self.client.execute(request).await.map_err(|e| unreachable(format!("{:?}", e.kind())))?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        let mut parts = response.into_body().bytes_stream();
        while let Some(part) = parts.next().await {
            body.extend_from_slice(&part.map_err(|e| unreachable(format!("{:?}", e.kind())))?);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(unreachable("an answer without an end".into()));
            }
        }
        Ok((status, body))
    }
}
