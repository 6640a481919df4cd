//! Requests to an address that may itself be a secret.

use std::time::Duration;

use lakehead_core::{Error, Result, Settings};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use url::Url;

/// How long one request may take, from the connection to the end of the answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An address. Its path and query are never shown: webhooks keep their token there.
#[derive(Clone)]
pub(crate) struct Address(Url);

impl Address {
    /// Reads an address; only `http` and `https` lead anywhere.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::user("R0805", "the address of a webhook is not one")
                .help("`url` begins with https:// and names a host")
        };
        let url = Url::parse(text.trim()).map_err(|_| wrong())?;
        let known = matches!(url.scheme(), "http" | "https") && url.has_host();
        if known { Ok(Self(url)) } else { Err(wrong()) }
    }

    /// Returns what may be shown of it.
    pub(crate) fn shown(&self) -> String {
        let port = self.0.port().map_or_else(String::new, |port| format!(":{port}"));
        format!("{}://{}{port}", self.0.scheme(), self.0.host_str().unwrap_or_default())
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}

/// Returns a client that follows no redirect: a body must not end up where nobody sent it.
pub(crate) fn client() -> Result<Client> {
    Client::builder()
        .timeout(TIMEOUT)
        .redirect(Policy::none())
        .build()
        .map_err(|error| Error::external("R0806", "no client for requests could be set up").caused_by(error))
}

/// Posts one JSON text. The answer's body is not read; its status says whether it was taken.
pub(crate) async fn post(client: &Client, address: &Address, body: String, key: Option<&str>) -> Result<()> {
    let mut request = client.post(address.0.clone()).header("Content-Type", "application/json").body(body);
    if let Some(key) = key {
        request = request.header("Idempotency-Key", key);
    }
    let answer = request.send().await.map_err(|error| {
        Error::external("R0807", "a webhook could not be reached")
            .with("address", address.shown())
            .caused_by(error.without_url())
    })?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    Err(refused(status).with("address", address.shown()).with("status", status.as_u16()))
}

fn refused(status: StatusCode) -> Error {
    let passes =
        status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    if passes {
        Error::external("R0808", "a webhook did not take a request")
    } else if status.is_redirection() {
        Error::user("R0809", "a webhook sends its callers elsewhere, and redirects are not followed")
            .help("set `url` to the address that it names")
    } else {
        Error::user("R0809", "a webhook refuses its requests")
            .help("check the `url` of the connection, and what the other side wants to be sent")
    }
}

/// Posts an alert, as a body of the form `{"text": …, "pipeline": …}`. Nothing of the address but its host ever shows in an error.
pub(crate) async fn post_alert(connection: &Settings, pipeline: &str, text: &str) -> Result<()> {
    let address = Address::parse(connection.secret("url").unwrap_or_default())?;
    let body = serde_json::json!({ "text": text, "pipeline": pipeline });
    post(&client()?, &address, body.to_string(), None).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_an_address_shows_but_its_host() {
        let address = Address::parse("https://user:pw@hooks.example.com:8443/services/T0/SECRET?token=x").unwrap();
        assert_eq!(format!("{address:?}"), "https://hooks.example.com:8443");
        for text in ["file:///etc/passwd", "hooks.example.com/x", "ftp://h/SECRET", ""] {
            let error = Address::parse(text).unwrap_err();
            assert_eq!(error.code(), "R0805");
            assert!(!format!("{error:?}").contains("SECRET"));
        }
    }
}
