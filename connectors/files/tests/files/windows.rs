//! What an interval was read from is recorded, until its inputs go.

use std::time::Duration;

use lakehead_core::{
    Arrived, Checkpoint, LateInterval, RECORDED, RunContext, Source, SourceSpec, Value, format_micros, parse_micros,
};

use super::{Delivered, Landing, drain};

const HOUR: Duration = Duration::from_secs(3600);

fn settings() -> Vec<(&'static str, Value)> {
    vec![
        ("path", Value::Text("logs/%Y/%m/%d/%H%M/*.json".into())),
        ("interval", Value::Name("run".into())),
        ("after_success", Value::Name("delete".into())),
        ("keep_inputs", Value::Duration(HOUR)),
        (RECORDED, Value::Bool(true)),
    ]
}

fn run(id: &str, start: &str, end: &str) -> RunContext {
    let at = |time: &str| parse_micros(&format!("2026-05-01T{time}:00Z")).unwrap();
    RunContext { id: id.into(), start: at(start), end: at(end) }
}

impl Landing {
    fn log(&self, minute: &str, name: &str, id: i64) {
        self.write(&format!("logs/2026/05/01/{minute}/{name}.json"), format!("{{\"id\":{id}}}\n"));
    }

    fn has(&self, minute: &str, name: &str) -> bool {
        self.path(&format!("logs/2026/05/01/{minute}/{name}.json")).exists()
    }

    fn window(&self, run: &RunContext) -> Box<dyn Source> {
        self.source(&settings(), run)
    }

    /// Reads an interval and acknowledges it, as a run that commits does.
    async fn compact(&self, run: &RunContext, from: &Checkpoint) -> Delivered {
        let mut source = self.window(run);
        source.open(from).await.unwrap();
        let delivered = drain(&mut source).await;
        source.acknowledge(delivered.last()).await.unwrap();
        delivered
    }

    async fn refused(&self, run: &RunContext) -> String {
        let error = self.window(run).open(&Checkpoint::default()).await.unwrap_err();
        error.code().to_owned()
    }

    async fn look(&self) -> Vec<String> {
        let spec: SourceSpec = self.spec(&settings(), &RunContext::default());
        let Arrived { late, .. } = (super::CONNECTOR.source.unwrap().arrivals.unwrap())(&spec).await.unwrap();
        late.iter().map(|LateInterval { start, .. }| format_micros(*start)[11..16].to_owned()).collect()
    }
}

#[tokio::test]
async fn a_late_object_opens_its_interval_again_until_the_inputs_go() {
    let landing = Landing::new().await;
    landing.log("1000", "a", 1);
    landing.log("1004", "b", 2);
    let first = run("r1", "10:00", "10:05");
    let read = landing.compact(&first, &Checkpoint::default()).await;
    assert_eq!((read.ids.clone(), landing.look().await), (vec![1, 2], vec![]));

    // An interval without files is recorded as well: a late object of it is one.
    let next = landing.compact(&run("r2", "10:05", "10:10"), read.last()).await;
    assert!(next.ids.is_empty());
    landing.log("1007", "c", 3);
    landing.log("1002", "late", 4);
    landing.log("1020", "ahead", 9);
    assert_eq!(landing.look().await, ["10:00", "10:05"]);
    landing.clock.advance(Duration::from_secs(1800));
    let again = landing.compact(&run("r1 again", "10:00", "10:05"), next.last()).await;
    assert_eq!(again.ids, [1, 4, 2], "recorded inputs and the late object");
    assert_eq!(landing.look().await, ["10:05"]);

    // Half an hour on, the inputs of 10:05 are due (never made again), those of 10:00 were read again and are not.
    landing.clock.advance(Duration::from_secs(1801));
    let third = landing.compact(&run("r3", "10:10", "10:15"), again.last()).await;
    assert_eq!(third.closed, ["logs/2026/05/01/1007/c.json"]);
    assert!(landing.has("1000", "a") && landing.has("1007", "c"), "what was not read is never removed");
    assert_eq!(landing.refused(&run("x", "10:05", "10:10")).await, "R0420");
    landing.clock.advance(HOUR);
    landing.log("1003", "later", 5);
    let fourth = landing.compact(&run("r4", "10:15", "10:20"), third.last()).await;
    assert_eq!(fourth.closed, ["logs/2026/05/01/1003/later.json"], "each is told of once");
    assert!(!landing.has("1000", "a") && !landing.has("1002", "late") && !landing.has("1004", "b"));
    assert!(landing.has("1003", "later") && landing.has("1020", "ahead"));
    assert!(landing.compact(&run("r5", "10:30", "10:35"), fourth.last()).await.closed.is_empty());
    assert_eq!(landing.refused(&first).await, "R0420");
    assert_eq!(landing.look().await, Vec::<String>::new());
}

#[tokio::test]
async fn what_died_between_the_commit_and_its_record_is_recorded_by_the_next() {
    let landing = Landing::new().await;
    landing.log("1000", "a", 1);
    let first = run("r1", "10:00", "10:05");
    let mut source = landing.window(&first);
    source.open(&Checkpoint::default()).await.unwrap();
    let read = drain(&mut source).await;
    drop(source);
    landing.log("1001", "late", 2);
    assert_eq!(landing.look().await, Vec::<String>::new(), "nobody knows of the interval");
    // The same run once more, or the next one: the position says what was read.
    for other in [first.clone(), run("r2", "10:05", "10:10")] {
        let mut source = landing.window(&other);
        source.open(read.last()).await.unwrap();
        source.acknowledge(read.last()).await.unwrap();
        assert_eq!(landing.look().await, ["10:00"]);
    }
    // The process dies at every step of the closing: what is left is finished by the next one, and nothing is lost.
    landing.compact(&run("r3", "10:00", "10:05"), read.last()).await;
    for (n, point) in ["files.closed", "files.removed"].into_iter().enumerate() {
        landing.clock.advance(HOUR);
        lakehead_core::failpoint::configure(&format!("{point}=error")).unwrap();
        assert!(landing.window(&run("r4", "11:00", "11:05")).open(&Checkpoint::default()).await.is_err());
        lakehead_core::failpoint::configure("").unwrap();
        assert_eq!(landing.refused(&first).await, "R0420");
        assert!(!landing.has("1000", "a") && !landing.has("1001", "late"), "{point}");
        let minute = format!("110{n}");
        landing.log(&minute, "b", 7);
        landing.compact(&run(point, &format!("11:0{n}"), &format!("11:0{}", n + 1)), &Checkpoint::default()).await;
        assert!(landing.has(&minute, "b"));
        landing.log("1000", "a", 1);
        landing.log("1001", "late", 2);
        std::fs::remove_dir_all(landing.path("_lakehead")).unwrap();
        landing.compact(&run("r3", "10:00", "10:05"), &Checkpoint::default()).await;
    }
}

#[tokio::test]
async fn an_interval_whose_recorded_inputs_are_gone_or_others_is_refused() {
    let landing = Landing::new().await;
    landing.log("1000", "a", 1);
    landing.log("1001", "b", 2);
    landing.write("logs/2026/05/01/1002/bad.json", b"\xff\xfe");
    let first = run("r1", "10:00", "10:05");
    let read = landing.compact(&first, &Checkpoint::default()).await;
    assert_eq!(read.rejected.len(), 1);
    assert_eq!(landing.look().await, Vec::<String>::new(), "what cannot be read is known");
    assert_eq!(landing.refused(&run("other", "10:04", "10:08")).await, "R0421");
    std::fs::remove_file(landing.path("logs/2026/05/01/1001/b.json")).unwrap();
    assert_eq!(landing.refused(&run("again", "10:00", "10:05")).await, "R0420");
    landing.log("1001", "b", 22);
    landing.log("1001", "b", 222);
    assert_eq!(landing.refused(&run("again", "10:00", "10:05")).await, "R0607");
    let version = [settings(), vec![("on_changed", Value::Name("version".into()))]].concat();
    let mut source = landing.source(&version, &run("again", "10:00", "10:05"));
    source.open(read.last()).await.unwrap();
    assert_eq!(drain(&mut source).await.ids, [1, 222]);
    // Closed, the file that could not be read stays, and is not told of again.
    landing.clock.advance(HOUR);
    let next = landing.compact(&run("r2", "10:05", "10:10"), read.last()).await;
    assert_eq!(next.closed, ["logs/2026/05/01/1001/b.json"], "another than the one that was read");
    assert!(landing.has("1002", "bad"));
}

#[tokio::test]
async fn many_closed_intervals_are_one_fact() {
    let landing = Landing::new().await;
    for minute in 0..59 {
        let (start, end) = (format!("10:{minute:02}"), format!("10:{:02}", minute + 1));
        landing.compact(&run(&start, &start, &end), &Checkpoint::default()).await;
    }
    for minute in 0..20 {
        let (start, end) = (format!("11:{minute:02}"), format!("11:{:02}", minute + 1));
        landing.compact(&run(&start, &start, &end), &Checkpoint::default()).await;
    }
    landing.clock.advance(HOUR);
    landing.compact(&run("last", "14:00", "14:01"), &Checkpoint::default()).await;
    assert_eq!(landing.files("_lakehead/p/inputs/drops/closed"), 2);
    for refused in ["10:30", "11:10"] {
        let end = format!("{}1", &refused[..4]);
        assert_eq!(landing.refused(&run("x", refused, &end)).await, "R0420");
    }
    assert!(landing.compact(&run("x", "10:59", "11:00"), &Checkpoint::default()).await.ids.is_empty());
}

#[tokio::test]
async fn a_time_that_there_is_not_is_of_no_interval() {
    let landing = Landing::new().await;
    landing.log("1000", "a", 1);
    for nowhen in ["0000/00/00/0000", "2026/06/31/1000", "2026/05/01/2410"] {
        landing.write(&format!("logs/{nowhen}/x.json"), "{\"id\":9}\n");
    }
    let read = landing.compact(&run("r1", "10:00", "10:05"), &Checkpoint::default()).await;
    assert_eq!(read.ids, [1]);
}
