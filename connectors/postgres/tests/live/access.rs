//! Getting in: passwords, rights, TLS, and what is said where it fails.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use lakehead_core::{Checkpoint, Error, Secret, Settings, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::scene::{Scene, client, discover, settings};
use crate::server::Server;

fn tables() -> Settings {
    settings(&[("capture", Value::Name("cdc".into())), ("tables", Value::Text("public.*".into()))])
}

fn user(scene: &Scene, name: &str, password: &str) -> Settings {
    let mut connection = scene.server.connection(&scene.database);
    connection.set("user", Value::Text(name.into()));
    connection.set("password", Value::Secret(Secret::new(password)));
    connection
}

async fn failure(connection: Settings) -> Error {
    let error = discover(connection, tables()).await.unwrap_err();
    let shown = format!("{error} {error:?} {:?}", error.helps());
    assert!(!shown.contains("hunter2"), "{shown}");
    error
}

#[tokio::test]
async fn scram_lets_in_with_the_right_password_on_both_connections_and_with_no_other() {
    let scene = Scene::new("create table t (id int primary key); insert into t values (1)").await;
    let sql = "do $$ begin create role scram login replication password 'hunter2'; exception when duplicate_object then null; end $$";
    scene.run(sql).await;
    let grant = format!(
        "grant create on database {} to scram; alter table t owner to scram; grant all on schema public to scram",
        scene.database
    );
    scene.run(&grant).await;
    let found = discover(user(&scene, "scram", "hunter2"), tables()).await.unwrap();
    let mut reader = scene.build_with(user(&scene, "scram", "hunter2"), &scene.cdc(&["public.t"]), found);
    reader.source.open(&Checkpoint::default()).await.unwrap();
    reader.until_caught_up().await;
    reader.close().await;
    for wrong in ["hunter2x", ""] {
        assert_eq!(failure(user(&scene, "scram", wrong)).await.code(), "R0307");
    }
    let mut none = user(&scene, "scram", "x");
    none = Settings::new(
        none.iter().filter(|(name, _)| *name != "password").map(|(name, value)| (name.to_owned(), value.clone())),
    );
    assert_eq!(failure(none).await.code(), "R0307");
}

#[tokio::test]
async fn a_password_is_not_sent_readable_over_a_plain_connection() {
    let scene = Scene::new("create table t (id int primary key)").await;
    scene
        .run(
            "do $$ begin create role clear login password 'hunter2'; exception when duplicate_object then null; end $$",
        )
        .await;
    assert_eq!(failure(user(&scene, "clear", "hunter2")).await.code(), "R0310");
}

#[tokio::test]
async fn a_wrong_place_or_name_is_told_apart() {
    let scene = Scene::new("create table t (id int primary key)").await;
    let with = |name: &str, value: Value| {
        let mut connection = scene.server.connection(&scene.database);
        connection.set(name, value);
        connection
    };
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (connection, code) in [
        (with("port", Value::Int(i64::from(closed))), "R0302"),
        (with("host", Value::Text("no-such-host.invalid".into())), "R0301"),
        (with("host", Value::Text("/nowhere".into())), "R0302"),
        (with("database", Value::Text("no_such_database".into())), "R0308"),
        (with("user", Value::Text("no_such_role".into())), "R0309"),
        (with("tls", Value::Name("verify_full".into())), "R0304"),
        (with("tls", Value::Name("insecure".into())), "R0304"),
    ] {
        let error = failure(connection).await;
        assert_eq!(error.code(), code, "{error}");
        assert!(!error.helps().is_empty(), "{error}");
    }
    let socket = with("host", Value::Text(scene.server.socket_folder().display().to_string()));
    assert_eq!(discover(socket, tables()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_given_up_in_time() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let scene = Scene::new("").await;
    let mut connection = scene.server.connection("x");
    connection.set("port", Value::Int(i64::from(silent.local_addr().unwrap().port())));
    connection.set("connect_timeout", Value::Duration(std::time::Duration::from_millis(50)));
    assert_eq!(failure(connection).await.code(), "R0303");
}

/// Passes bytes on to the server until `is_cut` says otherwise; then the connections stay open, and nothing comes back.
async fn relay(server: std::sync::Arc<Server>, is_cut: std::sync::Arc<AtomicBool>) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let far = tokio::net::TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
            let (mut from_near, mut to_near) = near.into_split();
            let (mut from_far, mut to_far) = far.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_near, &mut to_far).await });
            let is_cut = std::sync::Arc::clone(&is_cut);
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = from_far.read(&mut bytes).await {
                    if bytes[..count].windows(8).any(|word| word == b"relname\0") {
                        is_cut.store(true, Ordering::SeqCst);
                    }
                    if !is_cut.load(Ordering::SeqCst) && to_near.write_all(&bytes[..count]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn a_server_that_falls_silent_after_the_login_is_given_up() {
    let scene = Scene::new("create table t (id int primary key)").await;
    let settings = crate::scene::settings(&[("tables", Value::Text("public.t".into()))]);
    let tables = scene.discover(&settings).await.unwrap();
    let is_cut = std::sync::Arc::new(AtomicBool::new(false));
    let port = relay(std::sync::Arc::clone(&scene.server), std::sync::Arc::clone(&is_cut)).await;
    let mut connection = scene.server.connection(&scene.database);
    connection.set("port", Value::Int(i64::from(port)));
    let settings = scene.cdc(&["public.t"]);
    let clock = std::sync::Arc::new(lakehead_core::ManualClock::at(0));
    let mut reader = scene.build_at(connection, &settings, tables, clock.clone());
    let from = Checkpoint::default();
    let mut opening = reader.source.open(&from);
    while !is_cut.load(Ordering::SeqCst) {
        assert!(futures::poll!(&mut opening).is_pending());
        tokio::task::yield_now().await;
    }
    assert!(futures::poll!(&mut opening).is_pending());
    clock.advance(std::time::Duration::from_secs(80));
    let error = tokio::time::timeout(std::time::Duration::from_secs(30), opening).await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.retry()), ("R0311", lakehead_core::Retry::Backoff), "{error}");
    assert!(error.message().contains("listing the tables"), "{error}");
}

#[tokio::test]
async fn a_missing_right_is_named_with_what_grants_it() {
    let scene = Scene::new("create table t (id int primary key)").await;
    scene.run("do $$ begin create role modest login; exception when duplicate_object then null; end $$").await;
    let connection = user(&scene, "modest", "");
    let found = discover(connection.clone(), tables()).await.unwrap();
    let open = async || {
        let mut reader = scene.build_with(connection.clone(), &scene.cdc(&["public.t"]), found.clone());
        reader.source.open(&Checkpoint::default()).await.unwrap_err()
    };
    let error = open().await;
    assert_eq!(error.code(), "R0322", "{error}");
    assert!(error.helps()[0].contains("create publication"), "{:?}", error.helps());
    scene.run(&format!("create publication {} for table t", scene.slot())).await;
    let error = open().await;
    assert_eq!(error.code(), "R0321", "{error}");
    assert!(error.helps()[0].contains("alter role \"modest\" with replication"), "{:?}", error.helps());
    scene.run("alter role modest replication").await;
    let mut reader = scene.build_with(connection.clone(), &scene.cdc(&["public.t"]), found.clone());
    reader.source.open(&Checkpoint::default()).await.unwrap();
    let error = reader.until_error().await;
    assert_eq!(error.code(), "R0313", "{error}");
    assert!(error.helps()[0].contains("GRANT SELECT"), "{:?}", error.helps());
}

#[tokio::test]
async fn a_server_without_logical_log_is_refused_before_anything_is_made() {
    let server = Server::start(&["wal_level = replica"]);
    client(&server, "postgres").await.batch_execute("create table t (id int primary key)").await.unwrap();
    let scene = Scene::new("").await;
    let connection = server.connection("postgres");
    let found = discover(connection.clone(), tables()).await.unwrap();
    let mut reader = scene.build_with(connection, &scene.cdc(&["public.t"]), found);
    let error = reader.source.open(&Checkpoint::default()).await.unwrap_err();
    assert_eq!(error.code(), "R0320", "{error}");
}

/// Makes a root, and a certificate of `localhost` signed by it; returns the files' folder.
fn certificates(server: &Server) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "set -e; cd {folder}
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=root -keyout root.key -out root.crt
        openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr
        printf 'subjectAltName=DNS:localhost\\nbasicConstraints=CA:FALSE\\n' > extensions
        openssl x509 -req -sha384 -in server.csr -CA root.crt -CAkey root.key -CAcreateserial -days 2 -extfile extensions -out server.crt
        cp server.crt server.key {data}
        chmod 600 {data}/server.key
        if [ \"$(id -u)\" = 0 ]; then chown postgres {data}/server.key; fi",
        folder = folder.path().display(),
        data = server.data().display()
    );
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder
}

#[tokio::test]
async fn tls_checks_chain_and_name_and_binds_the_password_to_the_channel() {
    let server = Server::start(&["wal_level = logical"]);
    let folder = certificates(&server);
    let app = client(&server, "postgres").await;
    app.batch_execute("alter system set ssl = on").await.unwrap();
    app.batch_execute("create table t (id int primary key); create role scram login superuser password 'hunter2'")
        .await
        .unwrap();
    app.batch_execute("select pg_reload_conf()").await.unwrap();
    while app.query_one("select current_setting('ssl')", &[]).await.unwrap().get::<_, String>(0) != "on" {
        tokio::task::yield_now().await;
    }
    let ca = Value::Text(folder.path().join("root.crt").display().to_string());
    let connection = |host: &str, tls: &str, with_ca: bool| {
        let mut connection = server.connection("postgres");
        connection.set("host", Value::Text(host.into()));
        connection.set("tls", Value::Name(tls.into()));
        connection.set("user", Value::Text("scram".into()));
        connection.set("password", Value::Secret(Secret::new("hunter2")));
        if with_ca {
            connection.set("ca", ca.clone());
        }
        connection
    };
    for (host, tls, with_ca, expected) in [
        ("localhost", "verify_full", true, None),
        ("localhost", "verify_full", false, Some("R0305")),
        ("127.0.0.1", "verify_full", true, Some("R0306")),
        ("127.0.0.1", "verify_ca", true, None),
        ("127.0.0.1", "verify_ca", false, Some("R0305")),
        ("127.0.0.1", "insecure", false, None),
    ] {
        let found = discover(connection(host, tls, with_ca), tables()).await;
        assert_eq!(found.err().map(|error| error.code()), expected, "{host} {tls} {with_ca}");
    }
    // What could be anybody gets no readable password; who is known may have it.
    app.batch_execute("create role clear login password 'hunter2'").await.unwrap();
    for (tls, with_ca, expected) in [("insecure", false, Some("R0310")), ("verify_ca", true, None)] {
        let mut connection = connection("127.0.0.1", tls, with_ca);
        connection.set("user", Value::Text("clear".into()));
        let found = discover(connection, tables()).await;
        assert_eq!(found.err().map(|error| error.code()), expected, "{tls}");
    }
    let scene = Scene::new("").await;
    let found = discover(connection("localhost", "verify_full", true), tables()).await.unwrap();
    let mut reader = scene.build_with(connection("localhost", "verify_full", true), &scene.cdc(&["public.t"]), found);
    reader.source.open(&Checkpoint::default()).await.unwrap();
    app.batch_execute("insert into t values (1)").await.unwrap();
    reader.until_rows(1).await;
    reader.close().await;
}
