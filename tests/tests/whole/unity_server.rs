//! Unity Catalog's own server, which checks tokens: what it is told of a table, and what it says of it then.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::buckets::free_port;
use super::lakehead::{command, project, text};
use super::running::Running;
use super::unity::texts;

/// Starts the server at the loopback alone; its own `main` listens at every address of the machine.
const LAUNCH: &str = "
public class Launch {
    public static void main(String[] of) throws Exception {
        io.unitycatalog.server.UnityCatalogServer.builder().port(Integer.parseInt(of[0])).build().start();
        System.out.println(\"unity listens\");
        Thread.currentThread().join();
    }
}
";

/// A server, stopped at the end.
struct Unity {
    _server: Running,
    port: u16,
    /// The token that the server made for its administrator.
    token: String,
    _folder: tempfile::TempDir,
}

impl Unity {
    /// Starts one with a catalog `main`; `None` where none is installed.
    fn start() -> Option<Self> {
        let Some(home) = std::env::var_os("LAKEHEAD_UNITY").map(PathBuf::from) else {
            println!("skipped: Unity Catalog is absent (docs/catalogs.md)");
            return None;
        };
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let conf = folder.path().join("etc/conf");
        std::fs::create_dir_all(&conf).unwrap();
        for entry in std::fs::read_dir(home.join("etc/conf")).unwrap().map(Result::unwrap) {
            std::fs::copy(entry.path(), conf.join(entry.file_name())).unwrap();
        }
        set(&conf.join("server.properties"), "server.authorization", "enable");
        set(&conf.join("hibernate.properties"), "hibernate.connection.url", "jdbc:h2:mem:unity;DB_CLOSE_DELAY=-1");
        std::fs::write(folder.path().join("Launch.java"), LAUNCH).unwrap();
        let java = std::env::var_os("JAVA_HOME").map_or("java".into(), |java| PathBuf::from(java).join("bin/java"));
        let (said, out) = std::io::pipe().unwrap();
        let mut server = Command::new(java);
        server
            .args(["-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
            .arg(format!("{}/jars/*", home.display()))
            .args(["Launch.java", &port.to_string()])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out);
        let server = Running::start(server, |_| said, "unity listens");
        let token = std::fs::read_to_string(conf.join("token.txt")).unwrap().trim().to_owned();
        let unity = Self { _server: server, port, token, _folder: folder };
        assert_eq!(unity.ask("POST", "catalogs", &json!({ "name": "main" }))["name"], "main");
        Some(unity)
    }

    /// Calls the server as its administrator.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let output = Command::new("curl")
            .args(["-s", "-X", method, "-H", "Content-Type: application/json", "-d", &body.to_string()])
            .args(["-H", &format!("Authorization: Bearer {}", self.token)])
            .arg(format!("http://127.0.0.1:{}/api/2.1/unity-catalog/{path}", self.port))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    fn table(&self) -> Value {
        self.ask("GET", "tables/main.shop.orders", &Value::Null)
    }

    /// Changes the entry as somebody else would.
    fn change(&self, updates: &Value) {
        let uuid = self.table()["table_id"].clone();
        let request = json!({ "requirements": [{ "type": "assert-table-uuid", "uuid": uuid }], "updates": updates });
        let answer = self.ask("POST", "delta/v1/catalogs/main/schemas/shop/tables/orders", &request);
        assert!(answer.get("error").is_none(), "{answer}");
    }

    /// Runs lakehead with a token; returns its exit code, and what it said.
    fn lakehead(&self, folder: &Path, token: &str, arguments: &[&str]) -> (i32, String) {
        let output = command(folder).args(arguments).env("UNITY_TOKEN", token).output().unwrap();
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(!said.contains(token), "{said}");
        (output.status.code().unwrap(), said)
    }
}

/// Sets a line of a file of properties.
fn set(file: &Path, name: &str, value: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    let others = text.lines().filter(|line| !line.starts_with(&format!("{name}=")));
    let lines: Vec<_> = others.map(str::to_owned).chain([format!("{name}={value}")]).collect();
    std::fs::write(file, lines.join("\n")).unwrap();
}

const PIPELINE: &str = "
secret token = env(\"UNITY_TOKEN\")
catalog house unity { endpoint = \"http://127.0.0.1:PORT\", token = secret.token, catalog = \"main\" }
connection drops files { path = \"in\" }
connection lake delta { path = \"lake\", catalog = house }

pipeline orders {
  retry { max = 0 }
  source rows = drops { path = \"*.json\", columns = {
    id = bigint, price = decimal(12, 2), note = varchar, at = timestamp, seen = timestamptz, day = date, clock = time,
    ok = boolean, n = integer, s = smallint, x = double, r = real, tags = list(varchar), times = list(timestamp)
  } }
  ## Orders as they come.
  sink lake { table = \"shop.orders\", partition_by = [note] }
}
";

/// Name and type of each listed column.
fn columns(table: &Value) -> Vec<String> {
    let listed = table["columns"].as_array().unwrap_or_else(|| panic!("no columns: {table}"));
    listed.iter().map(|column| format!("{} {}", texts(column, "name"), texts(column, "type_text"))).collect()
}

fn put(folder: &Path, number: usize) {
    std::fs::create_dir_all(folder.join("in")).unwrap();
    let row = format!("{{\"id\":{number},\"price\":2.5,\"note\":\"a\",\"tags\":[\"b\"]}}\n");
    std::fs::write(folder.join(format!("in/{number}.json")), row).unwrap();
}

#[test]
fn unity_catalog_lists_a_table_as_it_is_through_new_columns_and_changes_by_others() {
    let Some(unity) = Unity::start() else { return };
    let pipeline = PIPELINE.replace("PORT", &unity.port.to_string());
    let folder = project(&pipeline);
    let lakehead = |arguments: &[&str]| unity.lakehead(folder.path(), &unity.token, arguments);
    put(folder.path(), 1);
    let (code, said) = unity.lakehead(folder.path(), "hunter2", &["run", "orders"]);
    assert!(code == 0 && said.contains("1 rows read, 1 written") && said.contains("R0625"), "{said}");
    let (_, said) = unity.lakehead(folder.path(), "hunter2", &["catalog", "sync"]);
    assert!(said.contains("UNAUTHENTICATED") && said.contains("look at `token`"), "{said}");

    assert!(lakehead(&["plan"]).1.contains("catalog: create unity table shop.orders"));
    let (code, said) = lakehead(&["run", "orders"]);
    assert!(code == 0 && said.contains("catalog house: shop.orders: create table"), "{said}");
    let table = unity.table();
    assert_eq!((texts(&table, "table_type"), texts(&table, "data_source_format")), ("EXTERNAL", "DELTA"));
    assert_eq!(texts(&table, "comment"), "Orders as they come.");
    assert_eq!(texts(&table["properties"], "lakehead.pipeline"), "orders");
    assert_eq!(table["columns"][2]["partition_index"], 0);
    let made = columns(&table);
    assert_eq!(made[1], "price decimal(12,2)");
    assert_eq!(made[3..7], ["at timestamp_ntz", "seen timestamp", "day date", "clock string"]);
    assert_eq!(made[12..], ["tags array<string>", "times array<timestamp_ntz>"]);
    assert!(lakehead(&["catalog", "sync", "--check"]).1.contains("same"));

    std::fs::write(folder.path().join("p.lake"), pipeline.replace("id = bigint,", "id = bigint, paid = date,"))
        .unwrap();
    put(folder.path(), 2);
    let (code, said) = lakehead(&["run", "orders"]);
    assert!(code == 0 && said.contains("catalog house: shop.orders: columns: "), "{said}");
    let wider = columns(&unity.table());
    assert_eq!(wider.len(), made.len() + 1, "{wider:?}");
    assert!(wider.contains(&"paid date".to_owned()) && made.iter().all(|column| wider.contains(column)), "{wider:?}");
    assert_eq!(unity.table()["table_id"], table["table_id"], "it keeps its grants");
    assert!(lakehead(&["catalog", "sync", "--check"]).1.contains("same"));

    let fields = json!([
        { "name": "id", "type": "string", "nullable": true, "metadata": { "comment": "the number" } },
        { "name": "note", "type": "string", "nullable": true, "metadata": {} }
    ]);
    unity.change(&json!([
        { "action": "set-table-comment", "comment": "mine" },
        { "action": "set-properties", "updates": { "lakehead.pipeline": "theirs", "team": "sales" } },
        { "action": "set-columns", "columns": { "type": "struct", "fields": fields } },
    ]));
    let (code, said) = lakehead(&["catalog", "sync", "--check"]);
    assert!(code == 4 && said.contains("comment: mine -> Orders as they come."), "{said}");
    assert!(said.contains("lakehead.pipeline: theirs -> orders") && said.contains("id string (the number)"), "{said}");
    assert!(lakehead(&["catalog", "sync"]).1.contains("mended"));
    let mended = unity.table();
    assert_eq!(columns(&mended), wider);
    assert_eq!(mended["columns"][0]["comment"], "the number", "what others say of a column stays");
    assert_eq!(texts(&mended["properties"], "team"), "sales");
    assert!(lakehead(&["catalog", "sync", "--check"]).1.contains("same"));
}

#[test]
fn unity_catalog_loses_no_entry_and_gives_none_of_others() {
    let Some(unity) = Unity::start() else { return };
    let folder = project(&PIPELINE.replace("PORT", &unity.port.to_string()));
    let lakehead = |arguments: &[&str]| unity.lakehead(folder.path(), &unity.token, arguments);
    put(folder.path(), 1);
    let elsewhere = project(&PIPELINE.replace("PORT", &unity.port.to_string()).replace("\"main\"", "\"none\""));
    put(elsewhere.path(), 1);
    let (_, said) = unity.lakehead(elsewhere.path(), &unity.token, &["run", "orders"]);
    assert!(said.contains("R0625"), "{said}");
    let (_, said) = unity.lakehead(elsewhere.path(), &unity.token, &["catalog", "sync"]);
    assert!(said.contains("make that catalog first"), "{said}");

    assert_eq!(lakehead(&["run", "orders"]).0, 0);
    unity.ask("DELETE", "tables/main.shop.orders", &Value::Null);
    assert_eq!(lakehead(&["catalog", "sync", "--check"]).0, 4);
    assert!(lakehead(&["catalog", "sync"]).1.contains("create table"));
    assert_eq!(columns(&unity.table()).len(), 14);

    // The same name from another folder is another table.
    let other = project(&PIPELINE.replace("PORT", &unity.port.to_string()));
    put(other.path(), 1);
    let (_, said) = unity.lakehead(other.path(), &unity.token, &["run", "orders"]);
    assert!(said.contains("R0624"), "{said}");
    assert!(texts(&unity.table(), "storage_location").contains(folder.path().to_str().unwrap()));
}
