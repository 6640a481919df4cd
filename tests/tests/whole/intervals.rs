//! Backfill: by intervals, resumable after kill -9, idempotent, refused where it makes no sense.

use super::lakehead::{command, fail, project, succeed, text};

const HOURLY: &str = r#"
connection lake parquet { path = "lake" }

pipeline hourly {
  trigger cron "0 * * * *"
  source rows = generate { rows = 10, columns = { id = sequence(), at = recent("1h") } }
  transform { select { id, at, $run_start as hour } }
  sink lake { table = "hourly", mode = overwrite, overwrite_by = run_interval }
}
"#;

/// Rows that the newest manifest names.
fn rows_of(folder: &std::path::Path) -> u64 {
    let verified = succeed(folder, &["run", "count", "--rows", "1"]);
    let line = verified.lines().find(|line| line.contains("rows read")).unwrap();
    let read = line.split("s.  ").nth(1).unwrap().split(' ').next().unwrap();
    read.replace(',', "").parse().unwrap()
}

fn with_count(file: &str) -> String {
    format!(
        "{file}\npipeline count {{\n  source rows = lake {{ table = \"hourly\" }}\n  sink stdout from rows {{ format = json }}\n}}\n"
    )
}

#[test]
fn a_span_is_filled_once_however_often_it_is_asked_for() {
    let folder = project(HOURLY);
    let span = ["backfill", "hourly", "--from", "2026-11-01T00:00:00Z", "--to", "2026-11-01T12:00:00Z"];
    let planned = succeed(folder.path(), &[&span[..], &["--dry-run"]].concat());
    assert!(planned.contains("12 intervals: 12 to do"), "{planned}");

    // Killed in the middle: what was whole stays, and the same command goes on.
    let killed =
        command(folder.path()).args(span).env("LAKEHEAD_FAILPOINTS", "engine.prepared=5*abort").output().unwrap();
    assert!(!killed.status.success());
    let again = succeed(folder.path(), &[&span[..], &["--workers", "2"]].concat());
    assert!(again.contains("5 already done") && again.contains("7 to do"), "{again}");
    // The ledger may be lost: then every interval is computed again, and replaces itself.
    std::fs::remove_dir_all(folder.path().join(".lakehead")).unwrap();
    succeed(folder.path(), &span);
    std::fs::write(folder.path().join("p.lake"), with_count(HOURLY)).unwrap();
    succeed(folder.path(), &["lock"]);
    assert_eq!(rows_of(folder.path()), 120);
}

#[test]
fn what_cannot_be_repeated_is_not_backfilled() {
    let appended = HOURLY.replace("mode = overwrite, overwrite_by = run_interval", "mode = append");
    let folder = project(&appended);
    let said = fail(folder.path(), &["backfill", "hourly", "--from", "2026-11-01", "--to", "2026-11-02"], 1);
    assert!(said.contains("R0913") && said.contains("overwrite_by = run_interval"), "{said}");
    let backwards = fail(folder.path(), &["backfill", "hourly", "--from", "2026-11-02", "--to", "2026-11-01"], 1);
    assert!(backwards.contains("R09"), "{backwards}");
}

#[test]
fn a_directory_is_served_and_stops_cleanly() {
    use std::io::{Read, Write};
    let folder = project(
        "connection lake delta { path = \"lake\" }\npipeline ticks {\n  trigger continuous\n\
         source rows = generate { rows = 5, rate = 100, columns = { id = sequence() } }\n\
         sink lake { table = \"ticks\", mode = append, commit_every = 1s }\n}\n",
    );
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let daemon = command(folder.path())
        .args(["serve", ".", "--listen", &format!("127.0.0.1:{port}")])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let mut metrics = String::new();
    while std::time::Instant::now() < deadline {
        metrics.clear();
        if let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) {
            let request = format!("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            let _ = stream.read_to_string(&mut metrics);
        }
        let rounds = metrics.lines().find(|line| line.starts_with("lakehead_rounds_total{"));
        if rounds.is_some_and(|line| !line.ends_with(" 0")) {
            break;
        }
        std::thread::yield_now();
    }
    assert!(metrics.contains("lakehead_rows_read_total"), "{metrics}");
    let stopped = std::process::Command::new("kill").args(["-TERM", &daemon.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    let output = daemon.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
}
