//! Every type, through COPY and through the stream, against what the server itself writes.

use lakehead_core::Checkpoint;

use crate::scene::{Scene, batches, rows};

/// A type, and literals of edge values; the server's own text of each is what must arrive.
const VALUES: &[(&str, &[&str])] = &[
    ("bool", &["true", "false"]),
    ("int2", &["-32768", "32767", "0"]),
    ("int4", &["-2147483648", "2147483647"]),
    ("int8", &["-9223372036854775808", "9223372036854775807"]),
    ("numeric(12, 2)", &["0", "-0.01", "9999999999.99", "1234.5", "100"]),
    ("numeric(38, 0)", &["99999999999999999999999999999999999999", "-99999999999999999999999999999999999999", "10000"]),
    ("numeric(38, 38)", &["0.99999999999999999999999999999999999999", "0.00000000000000000000000000000000000001"]),
    ("numeric(20, 3)", &["0.125", "12345678901234567.001", "-1"]),
    ("text", &["''", "'it''s \u{1F600} \u{202E} \\ x'", "repeat('ab', 3000)"]),
    ("varchar(10)", &["'0123456789'"]),
    ("char(5)", &["'ab'"]),
    ("name", &["'a name'"]),
    ("date", &["'0001-01-01'", "'9999-12-31'", "'1970-01-01'", "'1969-12-31'"]),
    ("time", &["'00:00:00'", "'23:59:59.999999'"]),
    ("timestamp", &["'0001-01-01 00:00:00'", "'9999-12-31 23:59:59.999999'", "'1969-12-31 23:59:59.000001'"]),
    ("uuid", &["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-4fff-bfff-fffffffffffe'"]),
    ("json", &["'{\"a\" : [1, null]}'"]),
    ("jsonb", &["'{\"a\" : [1, null], \"b\": \"\\u00e9\"}'"]),
    ("mood", &["'sad'", "'so \"so\"'"]),
    ("positive", &["1.5"]),
];

fn columns() -> Vec<String> {
    (0..VALUES.len()).map(|index| format!("c{index}")).collect()
}

/// How the server's text is made to look like Arrow's.
fn expected_column(index: usize, type_name: &str) -> String {
    let column = format!("c{index}");
    match type_name {
        // A timestamp is shown with a T, a time always with six digits or none.
        "timestamp" => format!("replace({column}::text, ' ', 'T')"),
        // A cast to text would drop the blanks that the value has.
        "char(5)" => format!("case when {column} is not null then concat({column}) end"),
        _ => format!("{column}::text"),
    }
}

#[tokio::test]
async fn every_type_arrives_as_the_server_writes_it_through_copy_and_through_the_stream() {
    let declared: Vec<String> =
        VALUES.iter().enumerate().map(|(index, (name, _))| format!("c{index} {name}")).collect();
    let scene = Scene::new(&format!(
        "create type mood as enum ('sad', 'so \"so\"'); create domain positive as numeric(9, 3);
         create table t (id serial primary key, {})",
        declared.join(", ")
    ))
    .await;
    let fill = fill();
    scene.run(&fill).await;
    let mut reader = scene.open(&scene.cdc(&["public.t"]), &Checkpoint::default()).await.unwrap();
    let count: usize = scene.text("select count(*) from t").await.parse().unwrap();
    let copied = reader.until_rows(count).await;
    scene.run(&fill).await;
    let streamed = reader.until_rows(count).await;
    reader.close().await;

    let names = columns();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let parts: Vec<String> = VALUES
        .iter()
        .enumerate()
        .map(|(index, (name, _))| format!("coalesce({}, '~')", expected_column(index, name)))
        .collect();
    let sql = format!("select concat_ws('|', {}) from t where id > $1 and id <= $2 order by id", parts.join(", "));
    let count = i32::try_from(count).unwrap();
    for (events, from) in [(&copied, 0), (&streamed, count)] {
        let expected: Vec<String> =
            scene.app.query(&sql, &[&from, &(from + count)]).await.unwrap().iter().map(|row| row.get(0)).collect();
        for (found, expected) in rows(events, &names).iter().zip(&expected) {
            assert_eq!(found, expected);
        }
        assert_eq!(rows(events, &names).len(), expected.len());
    }
}

/// One row per value, null elsewhere; one row of nulls.
fn fill() -> String {
    let mut sql = "insert into t default values;".to_owned();
    for (index, (_, values)) in VALUES.iter().enumerate() {
        for value in *values {
            sql.push_str(&format!("insert into t (c{index}) values ({value});"));
        }
    }
    sql
}

#[tokio::test]
async fn binary_floats_bytes_lists_and_zoned_times_keep_every_bit() {
    let scene = Scene::new(
        "create type mood as enum ('sad');
         create table t (id int primary key, f4 float4, f8 float8, b bytea, at timestamptz, li int[], lt text[], ln numeric(9, 2)[], lm mood[], lu uuid[])",
    )
    .await;
    let fill = |id: i32| {
        format!(
            "set timezone = 'Asia/Kathmandu';
             insert into t values ({id}, 'NaN', '-0', '\\x00ff10', '2026-05-01 12:00:00.000001+02', '{{1,NULL,-3}}', '{{\"a,b\",\"\",NULL}}', '{{1.50,-2}}', '{{sad}}', '{{00000000-0000-0000-0000-00000000000a}}'),
                ({next}, '-Infinity', 5e-324, '', '1900-01-01 00:00:00Z', '{{}}', null, '{{}}', null, null)",
            next = id + 1
        )
    };
    scene.run(&fill(1)).await;
    let mut reader = scene.open(&scene.cdc(&["public.t"]), &Checkpoint::default()).await.unwrap();
    let mut lines = Vec::new();
    for id in [1, 3] {
        if id > 1 {
            scene.run(&fill(id)).await;
        }
        let events = reader.until_rows(2).await;
        lines.push(rows(&events, &["f4", "f8", "b", "at", "li", "lt", "ln", "lm", "lu"]));
        let floats = batches(&events)[0].column_by_name("f8").unwrap();
        let floats = arrow::array::AsArray::as_primitive::<arrow::datatypes::Float64Type>(floats.as_ref());
        assert_eq!((floats.value(0).to_bits(), floats.value(1).to_bits()), ((-0.0_f64).to_bits(), 1));
    }
    assert_eq!(lines[0], lines[1], "both ways agree");
    assert_eq!(
        lines[0][0],
        "NaN|-0.0|00ff10|2026-05-01T10:00:00.000001|[1, ~, -3]|[a,b, , ~]|[1.50, -2.00]|[sad]|[00000000-0000-0000-0000-00000000000a]"
    );
    assert!(lines[0][1].starts_with("-inf|5e-324||1900-01-01T00:00:00|[]|~|[]|~|~"), "{}", lines[0][1]);
    reader.close().await;
}

#[tokio::test]
async fn cases_50_and_51_what_the_lake_cannot_hold_stops_and_is_named_and_never_null() {
    for (type_name, value) in [
        ("numeric(10, 2)", "'NaN'"),
        ("date", "'infinity'"),
        ("timestamp", "'-infinity'"),
        ("timestamptz", "'infinity'"),
        ("timestamp", "'294276-12-31 23:59:59'"),
        ("time", "'24:00:00'"),
        ("int[]", "'{{1,2},{3,4}}'"),
        ("int[]", "'[2:3]={1,2}'"),
    ] {
        let scene = Scene::new(&format!("create table t (id int primary key, v {type_name})")).await;
        let (mut reader, _) = scene.streaming(&["public.t"]).await;
        scene.run(&format!("insert into t values (1, {value})")).await;
        let streamed = reader.until_error().await;
        drop(reader);
        let settings = crate::scene::settings(&[("tables", lakehead_core::Value::Text("public.t".into()))]);
        let mut reader = scene.open(&settings, &Checkpoint::default()).await.unwrap();
        assert!(streamed.helps()[0].contains("the log holds the change"), "{:?}", streamed.helps());
        for error in [streamed, reader.until_error().await] {
            assert_eq!(error.code(), "R0316", "{type_name} {value}: {error}");
            assert!(error.message().contains("column `v` of `public.t`"), "{error}");
        }
    }
}
