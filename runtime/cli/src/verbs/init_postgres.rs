//! `lakehead init --from postgres://…`: looks at a database and writes its mirror.

use std::path::Path;

use lakehead_core::{Discovery, Error, Result, Secret, Settings, Value};
use lakehead_plan::{Lock, LockEntry};
use serde_json::json;

use super::fmt::write_whole;
use super::init::write_settings;
use crate::args::{Common, Format};

/// Writes a mirror of every table that can be mirrored, and prints what a DBA must do first.
pub(crate) async fn mirror(folder: &Path, url: &str, common: &Common) -> Result<()> {
    let mut connection = lakehead_postgres::settings_from_url(url)?;
    if connection.get("password").is_none()
        && let Some(password) = crate::environment::postgres_password()
    {
        connection.set("password", Value::Secret(Secret::new(password)));
    }
    let found = lakehead_postgres::inspect::inspect(&connection, folder).await?;
    let discovery = Discovery {
        connection: connection.clone(),
        settings: Settings::new([
            ("capture".to_owned(), Value::Name("cdc".into())),
            ("tables".to_owned(), Value::List(vec![Value::Text("*.*".into())])),
        ]),
        node: "source".into(),
        root: folder.to_path_buf(),
    };
    let role = lakehead_registry::connector("postgres").and_then(|connector| connector.source);
    let role = role.ok_or_else(|| Error::bug("postgres is not built in"))?;
    let tables = (role.discover)(&discovery).await?;
    let mut lock = Lock::default();
    for table in &tables {
        let entry = LockEntry { identity: Some("default".into()), ..LockEntry::new(table.clone()) };
        lock.set("source", &table.name, entry);
    }
    let keyless: Vec<&str> = tables.iter().filter(|t| t.key.is_empty()).map(|t| t.name.as_str()).collect();
    write_settings(folder)?;
    write_whole(&folder.join("lakehead.lock"), &lock.render())?;
    let text = pipeline(&connection, &keyless);
    let text = lakehead_syntax::format(&text).unwrap_or(text);
    write_whole(&folder.join("mirror.lake"), &text)?;
    let user = connection.text("user").unwrap_or("lakehead");
    let names: Vec<(&str, &str)> = tables.iter().filter_map(|table| table.name.split_once('.')).collect();
    let mut statements = lakehead_postgres::inspect::grants(user, &names, "lakehead_mirror");
    if found.wal_level != "logical" {
        let is = &found.wal_level;
        statements.push(format!("alter system set wal_level = logical;   -- is {is}; then restart the server"));
    }
    if common.format == Format::Json {
        let said = json!({ "event": "created", "folder": folder, "files": ["lakehead.toml", "lakehead.lock", "mirror.lake"],
            "tables": tables.len(), "keyless": keyless, "wal_level": found.wal_level, "administrator": statements });
        println!("{said}");
        return Ok(());
    }
    println!(
        "created {}/mirror.lake: {} tables, {} without a key (appended only)",
        folder.display(),
        tables.len(),
        keyless.len()
    );
    println!("\nto be run by a database administrator:\n");
    for line in statements {
        println!("  {line}");
    }
    println!("\nnext:  export SOURCE_PASSWORD=…; cd {} && lakehead check && lakehead run mirror", folder.display());
    Ok(())
}

fn pipeline(connection: &Settings, keyless: &[&str]) -> String {
    let text = |name: &str| connection.text(name).unwrap_or("").to_owned();
    let port = connection.int_or("port", 5432);
    let tls = connection
        .text("tls")
        .filter(|tls| *tls != "verify_full")
        .map_or(String::new(), |tls| format!("  tls = {tls}\n"));
    let mut file = format!(
        "secret source_password = env(\"SOURCE_PASSWORD\")\n\n\
         connection source postgres {{\n  host = \"{}\"\n  port = {port}\n  database = \"{}\"\n  user = \"{}\"\n  password = secret.source_password\n{tls}}}\n\n\
         connection lake delta {{ path = \"lake\" }}\n\n\
         pipeline mirror {{\n  trigger continuous\n  source source {{ capture = cdc, tables = [\"*.*\"], slot = \"lakehead_mirror\" }}\n\n\
         sink lake {{ table = \"${{schema}}.${{table}}\", mode = upsert, on_truncate = apply }}\n",
        text("host"),
        text("database"),
        text("user")
    );
    for (n, table) in keyless.iter().take(3).enumerate() {
        let short = table.rsplit('.').next().unwrap_or(table);
        file.push_str(&format!(
            "  sink keyless_{n} = lake from source.{short} {{ table = \"{table}\", mode = append }}\n"
        ));
    }
    file.push_str("}\n");
    file
}
