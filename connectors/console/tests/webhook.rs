//! The webhook against a server of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::{Arc, Mutex};

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use lakehead_console::WEBHOOK;
use lakehead_core::{ManualClock, Mark, Outcome, RunContext, Secret, Settings, Sink, SinkSpec, Value, WriteMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Answers each request with the next status, and keeps (idempotency key, body).
struct Server {
    url: String,
    requests: Arc<Mutex<Vec<(String, String)>>>,
}

impl Server {
    async fn start(statuses: &'static [u16]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/services/SECRET?token=SECRET", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
        let kept = Arc::clone(&requests);
        tokio::spawn(async move {
            for n in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut bytes = Vec::new();
                let request = loop {
                    let mut part = [0; 4096];
                    let size = stream.read(&mut part).await.unwrap();
                    bytes.extend_from_slice(&part[..size]);
                    if let Some(request) = parse(&String::from_utf8_lossy(&bytes)) {
                        break request;
                    }
                };
                let status = statuses.get(n).copied().unwrap_or(200);
                if status == 200 {
                    kept.lock().unwrap().push(request);
                }
                let answer = format!(
                    "HTTP/1.1 {status} X\r\nLocation: /elsewhere\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self { url, requests }
    }

    fn sink(&self) -> Box<dyn Sink> {
        (WEBHOOK.sink.unwrap().build)(SinkSpec {
            pipeline: "p".into(),
            node: "ops".into(),
            table: "ops".into(),
            schema: schema(),
            key: vec![],
            mode: WriteMode::Append,
            partition_by: vec![],
            connection: Settings::new([("url".into(), Value::Secret(Secret::new(&self.url)))]),
            settings: Settings::default(),
            root: ".".into(),
            cache: std::env::temp_dir().join("lakehead-tests"),
            run: RunContext::default(),
            clock: Arc::new(ManualClock::at(0)),
        })
        .unwrap()
    }

    fn requests(&self) -> Vec<(String, String)> {
        self.requests.lock().unwrap().clone()
    }
}

fn parse(text: &str) -> Option<(String, String)> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let header = |name: &str| {
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let size: usize = header("content-length")?.parse().ok()?;
    (body.len() >= size).then(|| (header("idempotency-key").unwrap_or_default(), body.to_owned()))
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]))
}

fn mark(seq: u64) -> Mark {
    Mark { seq, fence: 1, ..Mark::default() }
}

#[tokio::test]
async fn each_row_is_posted_with_its_key_and_a_retry_goes_on_behind_those_taken() {
    let server = Server::start(&[200, 503, 200, 200]).await;
    let mut sink = server.sink();
    sink.open(1).await.unwrap();
    let rows = RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from(vec![1, 2, 3]))]).unwrap();
    sink.stage(rows).await.unwrap();
    let round = sink.prepare().await.unwrap().unwrap();
    assert_eq!(server.requests(), []);
    let error = sink.commit(&round, mark(4)).await.unwrap_err();
    assert_eq!((error.code(), error.retry()), ("R0808", lakehead_core::Retry::Backoff));
    assert_eq!(sink.commit(&round, mark(4)).await.unwrap(), Outcome::Committed(4));
    assert_eq!(sink.commit(&round, mark(4)).await.unwrap(), Outcome::AlreadyCommitted);
    let expected = [("p/ops/4/0", "{\"id\":1}"), ("p/ops/4/1", "{\"id\":2}"), ("p/ops/4/2", "{\"id\":3}")];
    assert_eq!(server.requests(), expected.map(|(key, body)| (key.to_owned(), body.to_owned())));
}

#[tokio::test]
async fn an_alert_is_posted_and_its_errors_show_no_secret() {
    let server = Server::start(&[200, 404, 302]).await;
    let alert = WEBHOOK.alert.unwrap();
    let connection = |url: &str| Settings::new([("url".to_owned(), Value::Secret(Secret::new(url)))]);
    let body = serde_json::json!({ "text": "orders failed", "pipeline": "orders" });
    let ours = connection(&server.url);
    alert(&ours, "orders", "orders failed").await.unwrap();
    assert_eq!(server.requests(), [(String::new(), body.to_string())]);
    for _ in 0..2 {
        let error = alert(&ours, "orders", "orders failed").await.unwrap_err();
        assert_eq!(error.code(), "R0809");
        assert!(!format!("{error:?} {:?}", error.helps()).contains("SECRET"), "{error:?}");
    }
    let error = alert(&connection("http://127.0.0.1:1/services/SECRET"), "orders", "x").await.unwrap_err();
    assert_eq!(error.code(), "R0807");
    assert!(!format!("{error:?}").contains("SECRET"), "{error:?}");
}
