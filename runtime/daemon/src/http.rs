//! Health, metrics and status over HTTP: read-only, and for this machine alone.
//!
//! Tokens are not built, so whoever reaches the port reads everything: the address must be a loopback one. A web page of
//! another origin reaches loopback too, by a name that it lets point here (DNS rebinding): only the names of loopback
//! are answered.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use lakehead_core::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::board::Board;

#[cfg(test)]
mod tests;

/// Tables of one page at most.
const PAGE_MAX: usize = 1000;

/// Opens an address, `127.0.0.1:8686`.
///
/// # Errors
/// `R1006` where it is no address, `R1007` where others than this machine would reach it, `R1008` where it cannot be
/// opened.
pub async fn listen(address: &str) -> Result<TcpListener> {
    let found: Vec<SocketAddr> = tokio::net::lookup_host(address)
        .await
        .map_err(|error| {
            Error::user("R1006", "the address to listen on is none")
                .with("address", address)
                .help("--listen 127.0.0.1:8686")
                .caused_by(error)
        })?
        .collect();
    if let Some(reachable) = found.iter().find(|address| !is_loopback(address.ip())) {
        return Err(Error::user("R1007", "health and status are for this machine alone, in this version")
            .with("address", reachable)
            .help("--listen 127.0.0.1:8686   and a proxy with TLS and a login in front, where others are to read it"));
    }
    TcpListener::bind(found.as_slice()).await.map_err(|error| {
        Error::user("R1008", "the address cannot be listened on")
            .with("address", address)
            .help("another daemon may be on; --listen 127.0.0.1:0   takes a free port")
            .caused_by(error)
    })
}

/// Returns the tables beside the ledger, each as Unity Catalog's interface shows one. Blocks.
pub type Tables = Arc<dyn Fn() -> Result<Vec<Value>> + Send + Sync>;

/// Answers until it is dropped.
///
/// # Errors
/// `R1008` where the listener breaks.
pub async fn serve(listener: TcpListener, board: Arc<Board>, tables: Tables) -> Result<()> {
    axum::serve(listener, router(board, tables))
        .await
        .map_err(|error| Error::external("R1008", "the address cannot be listened on any more").caused_by(error))
}

fn router(board: Arc<Board>, tables: Tables) -> Router {
    let listed = Router::new()
        .route("/tables", get(list_tables))
        .route("/tables/{full_name}", get(one_table))
        .with_state(tables);
    Router::new()
        .nest("/api/2.1/unity-catalog", listed)
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .with_state(board)
        .layer(middleware::from_fn(guard))
}

/// Refuses names that are not loopback's, and tells browsers to guess nothing.
async fn guard(request: Request, next: Next) -> Response {
    if !names_loopback(request.headers()) {
        return (StatusCode::MISDIRECTED_REQUEST, "this address answers to localhost alone\n").into_response();
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'self'"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn names_loopback(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next().and_then(|host| host.to_str().ok()), hosts.next()) else {
        return false;
    };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(name, _)| name),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(is_loopback)
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// The process lives.
async fn healthz() -> &'static str {
    "ok\n"
}

/// The pipelines make progress.
async fn readyz(State(board): State<Arc<Board>>) -> Response {
    let reasons = board.not_ready();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let answer = json!({ "ready": reasons.is_empty(), "reasons": reasons });
    (status, axum::Json(answer)).into_response()
}

async fn metrics(State(board): State<Arc<Board>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], board.metrics()).into_response()
}

async fn status(State(board): State<Arc<Board>>) -> Response {
    axum::Json(board.status()).into_response()
}

/// Which tables are asked for, and from which on.
#[derive(Deserialize)]
struct Wanted {
    catalog_name: Option<String>,
    schema_name: Option<String>,
    max_results: Option<usize>,
    page_token: Option<usize>,
}

async fn list_tables(State(tables): State<Tables>, Query(wanted): Query<Wanted>) -> Response {
    let is = |table: &Value, name: &str, wanted: &Option<String>| {
        wanted.as_ref().is_none_or(|wanted| table[name].as_str() == Some(wanted))
    };
    let mut found = match ask(tables).await {
        Ok(found) => found,
        Err(refused) => return refused,
    };
    found.retain(|table| {
        is(table, "catalog_name", &wanted.catalog_name) && is(table, "schema_name", &wanted.schema_name)
    });
    let from = wanted.page_token.unwrap_or(0).min(found.len());
    let end = from.saturating_add(wanted.max_results.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX)).min(found.len());
    let next = (end < found.len()).then(|| end.to_string());
    axum::Json(json!({ "tables": found[from..end], "next_page_token": next })).into_response()
}

async fn one_table(State(tables): State<Tables>, Path(full_name): Path<String>) -> Response {
    match ask(tables).await {
        Ok(found) => match found.into_iter().find(|table| table["full_name"] == full_name.as_str()) {
            Some(table) => axum::Json(table).into_response(),
            None => refused(StatusCode::NOT_FOUND, "TABLE_DOES_NOT_EXIST", &full_name),
        },
        Err(refused) => refused,
    }
}

/// Reads the catalog where nothing waits for it.
async fn ask(tables: Tables) -> Result<Vec<Value>, Response> {
    let found = tokio::task::spawn_blocking(move || tables()).await;
    match found {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(refused(StatusCode::INTERNAL_SERVER_ERROR, error.code(), error.message())),
        Err(_) => Err(refused(StatusCode::INTERNAL_SERVER_ERROR, "R0001", "the catalog's reader ended")),
    }
}

fn refused(status: StatusCode, code: &str, message: &str) -> Response {
    (status, axum::Json(json!({ "error_code": code, "message": message }))).into_response()
}
