//! Unity Catalog, as its documented API has it: a server in the test that refuses requests of another shape.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::lakehead::{command, fail, project, succeed, text};

/// What the server was asked, and the tables that it has.
#[derive(Default)]
struct Kept {
    asked: Vec<String>,
    schemas: Vec<String>,
    tables: BTreeMap<String, Value>,
}

fn start() -> (u16, Arc<Mutex<Kept>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let kept = Arc::new(Mutex::new(Kept::default()));
    let shared = Arc::clone(&kept);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            serve(stream.unwrap(), &shared);
        }
    });
    (port, kept)
}

fn serve(stream: TcpStream, kept: &Mutex<Kept>) {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    if reader.read_line(&mut first).unwrap_or(0) == 0 {
        return;
    }
    let (mut length, mut token) = (0, String::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "authorization" => token = value.to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap().to_owned());
    let (status, answer) = if token == "Bearer hunter2" {
        answer(method, &path, &serde_json::from_slice(&body).unwrap_or(Value::Null), &mut kept.lock().unwrap())
    } else {
        (401, json!({ "error_code": "UNAUTHENTICATED", "message": "no token" }))
    };
    let answer = answer.to_string();
    let head = format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nConnection: close\r\n");
    let _ = reader.into_inner().write_all(format!("{head}Content-Length: {}\r\n\r\n{answer}", answer.len()).as_bytes());
}

fn answer(method: &str, path: &str, body: &Value, kept: &mut Kept) -> (u16, Value) {
    kept.asked.push(format!("{method} {path}"));
    let missing = (404, json!({ "error_code": "NOT_FOUND", "message": path }));
    let path = path.strip_prefix("/api/2.1/unity-catalog/").expect("the documented place");
    match (method, path.split_once('/')) {
        ("GET", Some(("tables", name))) => kept.tables.get(name).map_or(missing, |table| (200, table.clone())),
        ("GET", Some(("schemas", name))) => {
            if kept.schemas.iter().any(|schema| schema == name) {
                (200, json!({ "full_name": name }))
            } else {
                missing
            }
        }
        // What changes entries is unknown to servers before 0.5.
        ("GET", Some(("delta", _))) => missing,
        ("POST", None) if path == "schemas" => {
            kept.schemas.push(format!("{}.{}", texts(body, "catalog_name"), texts(body, "name")));
            (200, body.clone())
        }
        ("POST", None) if path == "tables" => {
            assert_eq!((&body["table_type"], &body["data_source_format"]), (&json!("EXTERNAL"), &json!("DELTA")));
            assert!(texts(body, "storage_location").contains("://"));
            for (position, column) in body["columns"].as_array().unwrap().iter().enumerate() {
                let type_json: Value = serde_json::from_str(texts(column, "type_json")).unwrap();
                assert_eq!(type_json["name"], column["name"]);
                assert_eq!(column["position"], position);
                assert!(["LONG", "STRING", "DECIMAL"].contains(&texts(column, "type_name")), "{column}");
            }
            let name = ["catalog_name", "schema_name", "name"].map(|part| texts(body, part)).join(".");
            kept.tables.insert(name, body.clone());
            (200, body.clone())
        }
        _ => (400, json!({ "error_code": "INVALID_ARGUMENT", "message": "no such call" })),
    }
}

/// Returns a member that is a text.
pub(crate) fn texts<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("`{name}` is not a text in {value}"))
}

const PIPELINE: &str = "
secret token = env(\"UNITY_TOKEN\")
catalog house unity { endpoint = \"http://127.0.0.1:PORT\", token = secret.token, catalog = \"main\" }
connection drops files { path = \"in\" }
connection lake delta { path = \"lake\", catalog = house }

pipeline orders {
  source rows = drops { path = \"*.csv\", columns = { id = bigint, price = decimal(12, 2), note = varchar } }
  ## Orders as they come.
  sink lake { table = \"shop.orders\", partition_by = [note] }
}
";

#[test]
fn a_delta_table_is_made_in_unity_catalog_once() {
    let (port, kept) = start();
    let folder = project(&PIPELINE.replace("PORT", &port.to_string()));
    std::fs::create_dir(folder.path().join("in")).unwrap();
    std::fs::write(folder.path().join("in/1.csv"), "id,price,note\n1,2.50,a\n").unwrap();
    let lakehead = |arguments: &[&str], token: &str| {
        let output = command(folder.path()).args(arguments).env("UNITY_TOKEN", token).output().unwrap();
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success() && !said.contains("hunter"), "{said}");
        said
    };
    let said = lakehead(&["run", "orders"], "hunter3");
    assert!(said.contains("1 rows read, 1 written") && said.contains("R0625"), "{said}");
    assert!(lakehead(&["plan"], "hunter2").contains("catalog: create unity table shop.orders"));
    let said = lakehead(&["run", "orders"], "hunter2");
    assert!(said.contains("catalog house: shop.orders: create table"), "{said}");
    let table = kept.lock().unwrap().tables["main.shop.orders"].clone();
    assert_eq!(table["comment"], "Orders as they come.");
    assert_eq!(table["columns"][1]["type_text"], "decimal(12,2)");
    assert_eq!(table["columns"][1]["type_scale"], 2);
    assert_eq!(table["columns"][2]["partition_index"], 0);
    kept.lock().unwrap().asked.clear();
    lakehead(&["run", "orders"], "hunter2");
    assert_eq!(kept.lock().unwrap().asked, Vec::<String>::new(), "nothing changed");
    assert!(lakehead(&["catalog", "sync", "--check"], "hunter2").contains("same"));

    let wider = PIPELINE.replace("PORT", &port.to_string()).replace("id = bigint,", "id = bigint, paid = date,");
    std::fs::write(folder.path().join("p.lake"), wider).unwrap();
    std::fs::write(folder.path().join("in/2.csv"), "id,paid,price,note\n2,2026-01-01,2.50,a\n").unwrap();
    let said = lakehead(&["run", "orders"], "hunter2");
    assert!(said.contains("1 rows read, 1 written") && !said.contains("warning: catalog"), "{said}");
    let listed = kept.lock().unwrap().tables["main.shop.orders"]["columns"].clone();
    assert_eq!(listed, table["columns"], "a server that changes no entry keeps it");
    assert!(lakehead(&["catalog", "sync", "--check"], "hunter2").contains("same"));
}

#[test]
fn unity_catalog_lists_delta_tables_alone() {
    let text = PIPELINE.replace("lake delta", "lake parquet").replace("PORT", "1");
    let folder = project(&text);
    let said = fail(folder.path(), &["check"], 1);
    assert!(said.contains("E0223") && said.contains("lists no `parquet` tables"), "{said}");
    let other = project(&PIPELINE.replace("shop.orders", "a.b.c.d").replace("PORT", "1"));
    let said = fail(other.path(), &["check"], 1);
    assert!(said.contains("E0222") && said.contains("table = \"a_b.c.d\""), "{said}");
    succeed(other.path(), &["explain", "E0222"]);
}
