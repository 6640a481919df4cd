//! A metastore of Hive, from the jars that Spark brings.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::buckets::free_port;
use super::lakehead::text;
use super::running::Running;

/// A metastore, stopped at the end.
pub(crate) struct Metastore {
    _server: Running,
    pub(crate) port: u16,
    pub(crate) folder: tempfile::TempDir,
}

const SITE: &str = "<configuration>
<property><name>javax.jdo.option.ConnectionURL</name><value>jdbc:derby:;databaseName=FOLDER/db;create=true</value></property>
<property><name>datanucleus.schema.autoCreateAll</name><value>true</value></property>
<property><name>datanucleus.connectionPoolingType</name><value>HikariCP</value></property>
<property><name>hive.metastore.schema.verification</name><value>false</value></property>
<property><name>hive.async.log.enabled</name><value>false</value></property>
<property><name>hive.in.test</name><value>true</value></property>
<property><name>hive.metastore.warehouse.dir</name><value>FOLDER/warehouse</value></property>
</configuration>
";

const LOG: &str = "status = ERROR
name = told
appenders = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %m%n
rootLogger.level = INFO
rootLogger.appenderRefs = root
rootLogger.appenderRef.root.ref = console
";

impl Metastore {
    /// Starts one; `None` where Spark is not installed.
    pub(crate) fn start() -> Option<Self> {
        let jars = jars()?;
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().to_str().unwrap();
        std::fs::write(folder.path().join("hive-site.xml"), SITE.replace("FOLDER", here)).unwrap();
        std::fs::write(folder.path().join("hive-log4j2.properties"), LOG).unwrap();
        let port = free_port();
        let mut java = Command::new("java");
        java.args(["-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"])
            .arg(format!("{here}:{}/*", jars.display()))
            .args(["org.apache.hadoop.hive.metastore.HiveMetaStore", "-p", &port.to_string()])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let server = Running::start(java, |server| server.stderr.take().unwrap(), "Started the new metaserver");
        Some(Self { _server: server, port, folder })
    }
}

/// Returns the Python of an installation of Spark; `None` where there is none.
pub(crate) fn spark() -> Option<std::ffi::OsString> {
    let found = std::env::var_os("LAKEHEAD_SPARK");
    if found.is_none() {
        println!("skipped: Spark and its metastore are absent (tests/spark/install)");
    }
    found
}

fn jars() -> Option<PathBuf> {
    let script = "import os, pyspark; print(os.path.join(os.path.dirname(pyspark.__file__), 'jars'))";
    let output = Command::new(spark()?).args(["-c", script]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    Some(Path::new(text(&output.stdout).trim()).to_path_buf())
}
