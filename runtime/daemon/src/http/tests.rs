use std::time::Duration;

use lakehead_core::{Clock, ManualClock};
use lakehead_engine::{Event, Observer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::*;
use crate::board::{Counting, PipelineState, PipelineStatus, Status};

struct Server {
    address: SocketAddr,
    board: Arc<Board>,
    clock: Arc<ManualClock>,
    _task: JoinSet<Result<()>>,
}

impl Server {
    async fn start() -> Self {
        let clock = Arc::new(ManualClock::at(1_000_000));
        let board = Arc::new(Board::new(Arc::clone(&clock) as Arc<dyn Clock>, Duration::from_secs(60)));
        let listener = listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut task = JoinSet::new();
        let table = |name: &str| {
            let (schema, _) = name.split_once('.').unwrap();
            json!({ "full_name": format!("main.{name}"), "catalog_name": "main", "schema_name": schema })
        };
        let tables = vec![table("ops.a"), table("shop.b"), table("shop.c")];
        task.spawn(serve(listener, Arc::clone(&board), Arc::new(move || Ok(tables.clone()))));
        Self { address, board, clock, _task: task }
    }

    /// Asks as a plain client; returns the code and everything behind it.
    async fn ask(&self, path: &str, hosts: &[&str]) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let hosts: String = hosts.iter().map(|host| format!("Host: {host}\r\n")).collect();
        let request = format!("GET {path} HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (_, rest) = answer.split_once(' ').unwrap();
        (rest[..3].parse().unwrap(), rest[3..].to_owned())
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.ask(path, &["localhost:8686"]).await
    }

    fn show(&self, state: PipelineState) {
        let pipeline = PipelineStatus {
            name: "shop_mirror".into(),
            state,
            continuous: true,
            run: None,
            waiting: 0,
            failures: 1,
            last_run: None,
            next_run: None,
            last_error_code: Some("R0301".into()),
            last_error: Some("the server went away".into()),
        };
        self.board.show(Status { pipelines: vec![pipeline], ..Status::default() });
    }
}

fn plan() -> lakehead_plan::Plan {
    use lakehead_plan::{Catchup, Overlap, Plan, RetryPlan, Trigger, When};
    Plan {
        name: "shop_mirror".into(),
        id: String::new(),
        doc: None,
        file: Default::default(),
        span: Default::default(),
        trigger: Trigger {
            when: When::Continuous,
            timezone: "UTC".into(),
            delay: Duration::ZERO,
            catchup: Catchup::None,
            overlap: Overlap::Skip,
            within: None,
            enabled: true,
        },
        streams: Vec::new(),
        nodes: Vec::new(),
        dead_letter: None,
        retry: RetryPlan::default(),
        alerts: Vec::new(),
        parameters: std::collections::BTreeMap::new(),
        not_yet: Vec::new(),
    }
}

#[tokio::test]
async fn health_and_progress_are_two_questions() {
    let server = Server::start().await;
    server.show(PipelineState::Running);
    assert_eq!(server.get("/readyz").await.0, 200);
    server.show(PipelineState::Failed);
    let (code, answer) = server.get("/readyz").await;
    assert_eq!(code, 503);
    assert!(answer.contains(r#"{"reason":"failed","pipeline":"shop_mirror","error":"R0301"}"#), "{answer}");
    assert_eq!(server.get("/healthz").await.0, 200);
    server.show(PipelineState::Retrying);
    server.board.counters("shop_mirror").note_pending(server.clock.monotonic());
    assert_eq!(server.get("/readyz").await.0, 200);
    server.clock.advance(Duration::from_secs(61));
    let (code, answer) = server.get("/readyz").await;
    assert_eq!(code, 503);
    assert!(answer.contains(r#""reason":"stalled","pipeline":"shop_mirror","error":"R0301","seconds":61"#), "{answer}");
}

#[tokio::test]
async fn status_is_json() {
    let server = Server::start().await;
    server.show(PipelineState::Retrying);
    let (code, answer) = server.get("/status").await;
    assert_eq!(code, 200);
    let body: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body["pipelines"][0]["state"], "retrying");
    assert_eq!(body["pipelines"][0]["last_error_code"], "R0301");
    assert_eq!(server.get("/other").await.0, 404);
}

#[tokio::test]
async fn metrics_count_what_runs_tell() {
    let server = Server::start().await;
    let clock = Arc::clone(&server.clock) as Arc<dyn Clock>;
    let counters = server.board.counters("shop_mirror");
    let counting = Counting::new(&plan(), Arc::clone(&counters), clock);
    counting.event(Event::Read { node: "shop".into(), rows: 5, bytes: 50, newest: None });
    counting.event(Event::Rejected { rows: 1 });
    for table in ["lake:a", "lake:b"] {
        counting.event(Event::Committed { round: 1, table: table.into(), version: 1, rows: 2, bytes: 20 });
    }
    counters.count_run(lakehead_state::RunState::Failed);
    server.board.counters("odd \"name\"");
    let (code, answer) = server.get("/metrics").await;
    assert_eq!(code, 200);
    for line in [
        "content-type: text/plain; version=0.0.4; charset=utf-8",
        "# TYPE lakehead_rows_read_total counter",
        "lakehead_rows_read_total{pipeline=\"shop_mirror\"} 5",
        "lakehead_rows_written_total{pipeline=\"shop_mirror\"} 4",
        "lakehead_rows_rejected_total{pipeline=\"shop_mirror\"} 1",
        "lakehead_rounds_total{pipeline=\"shop_mirror\"} 1",
        "lakehead_runs_total{pipeline=\"shop_mirror\",state=\"failed\"} 1",
        "lakehead_runs_total{pipeline=\"shop_mirror\",state=\"succeeded\"} 0",
        "lakehead_last_commit_timestamp_seconds{pipeline=\"shop_mirror\"} 1",
        "lakehead_rows_read_total{pipeline=\"odd \\\"name\\\"\"} 0",
    ] {
        assert!(answer.lines().any(|found| found == line), "{line} is not in {answer}");
    }
}

#[tokio::test]
async fn only_the_names_of_loopback_are_answered() {
    let server = Server::start().await;
    for host in ["localhost", "LOCALHOST:8686", "127.0.0.1:1", "127.9.9.9", "[::1]:8686", "[::ffff:127.0.0.1]"] {
        assert_eq!(server.ask("/status", &[host]).await.0, 200, "{host}");
    }
    for host in ["evil.example", "localhost.evil.example:8686", "10.0.0.1", "", "[::2]:1", "[::1", "127.0.0.1.nip.io"] {
        assert_eq!(server.ask("/status", &[host]).await.0, 421, "{host}");
    }
    assert_eq!(server.ask("/status", &[]).await.0, 421);
    assert_eq!(server.ask("/status", &["localhost", "evil.example"]).await.0, 421);
}

#[tokio::test]
async fn an_address_that_others_reach_is_refused() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:8686"] {
        assert_eq!(listen(address).await.unwrap_err().code(), "R1007", "{address}");
    }
    assert_eq!(listen("nonsense").await.unwrap_err().code(), "R1006");
    let taken = listen("127.0.0.1:0").await.unwrap();
    assert_eq!(listen(&taken.local_addr().unwrap().to_string()).await.unwrap_err().code(), "R1008");
}

#[tokio::test]
async fn tables_are_listed_as_unity_catalog_lists_them() {
    let server = Server::start().await;
    let names = |answer: &str| {
        let body: Value = serde_json::from_str(&answer[answer.find('{').unwrap()..]).unwrap();
        let tables = body["tables"].as_array().unwrap();
        let names: Vec<String> = tables.iter().map(|table| table["full_name"].as_str().unwrap().to_owned()).collect();
        (names.join(" "), body["next_page_token"].clone())
    };
    let api = "/api/2.1/unity-catalog/tables";
    let (code, answer) = server.get(api).await;
    assert_eq!((code, names(&answer).0.as_str()), (200, "main.ops.a main.shop.b main.shop.c"));
    let (_, answer) = server.get(&format!("{api}?catalog_name=main&schema_name=shop&max_results=1")).await;
    assert_eq!(names(&answer), ("main.shop.b".to_owned(), json!("1")));
    let (_, answer) = server.get(&format!("{api}?schema_name=shop&max_results=1&page_token=1")).await;
    assert_eq!(names(&answer), ("main.shop.c".to_owned(), Value::Null));
    assert_eq!(server.get(&format!("{api}/main.shop.b")).await.0, 200);
    assert_eq!(server.get(&format!("{api}/main.shop.x")).await.0, 404);
    assert_eq!(server.get(&format!("{api}?page_token=-1")).await.0, 400);
    assert_eq!(server.ask(api, &["evil.example"]).await.0, 421);
}
