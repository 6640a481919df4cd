//! Files that are broken, or larger than they look: each is set aside with its place, or read whole.

use lakehead_core::Checkpoint;

use super::{Landing, gzip};

#[tokio::test]
async fn a_file_with_a_flipped_bit_is_set_aside_or_whole() {
    let landing = Landing::new().await;
    let text: String = (0..60).map(|id| format!("{id},{id}.25\n")).collect();
    let sound = gzip(&format!("id,amount\n{text}"));
    for (n, byte) in (0..sound.len()).step_by(3).enumerate() {
        let mut bytes = sound.clone();
        bytes[byte] ^= 1 << (n % 8);
        landing.write(&format!("in/flipped/{n:03}.csv.gz"), bytes);
        landing.write(&format!("in/short/{n:03}.csv.gz"), &sound[..byte]);
    }
    let read = landing.read(&[], &Checkpoint::default()).await;
    let is_short = |origin: &&(String, String)| origin.0.starts_with("in/short/");
    assert_eq!(read.rejected.iter().filter(is_short).count(), sound.len().div_ceil(3));
    assert!(read.rejected.iter().all(|(_, reason)| reason.starts_with("its gzip data are broken: ")));
    // Bits that nothing depends on: when the archive was made, and by what.
    let whole: Vec<i64> = (0..60).collect();
    let files = read.ids.chunks(60).map(|ids| assert_eq!(ids, whole)).count();
    assert!(files > 0 && files < 10, "{files}");
    assert!(read.misfits.is_empty(), "{:?}", read.misfits);
}

#[tokio::test]
async fn what_unpacks_to_more_than_a_record_may_have_is_refused() {
    let landing = Landing::new().await;
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..48 {
        std::io::Write::write_all(&mut bomb, &vec![b'0'; 1 << 20]).unwrap();
    }
    landing.write("in/bomb/1.json", format!("{{\"id\":1,\"deep\":{}\n{{\"id\":2}}\n", "[".repeat(1_000_000)));
    landing.write("in/bomb/2.csv.gz", bomb.finish().unwrap());
    landing.write("in/bomb/3.json.zst", zstd::encode_all(&vec![b'['; 40 << 20][..], 1).unwrap());
    let read = landing.read(&[], &Checkpoint::default()).await;
    assert_eq!(read.ids, [2]);
    assert_eq!(read.misfits[0].1, "the line is not JSON");
    let longer = "the record that begins at byte 0 is longer than 33554432 bytes";
    let rejected: Vec<_> = read.rejected.iter().map(|(origin, reason)| (origin.as_str(), reason.as_str())).collect();
    assert_eq!(rejected, [("in/bomb/2.csv.gz", longer), ("in/bomb/3.json.zst", longer)]);
}

/// Read to its end first, and again for its rows: nothing of it is kept between.
#[tokio::test]
async fn a_file_of_many_blocks_has_every_row_once() {
    let landing = Landing::new().await;
    let note = "n".repeat(1000);
    let lines: String = (0..20_000).map(|id| format!("{{\"id\":{id},\"note\":\"{note}\"}}\n")).collect();
    landing.write("in/many/1.json.zst", zstd::encode_all(lines.as_bytes(), 1).unwrap());
    landing.write("in/many/2.json", format!("[{}]", lines.trim_end().replace('\n', ",\n")));
    landing.write(
        "in/many/3.csv",
        format!("id,note\n{}", lines.replace(['{', '}'], "").replace("\"id\":", "").replace("\"note\":", "")),
    );
    let evolves = [("schema_changes", lakehead_core::Value::Name("evolve".into()))];
    let read = landing.read(&evolves, &Checkpoint::default()).await;
    let once = || 0..20_000;
    assert!(read.ids.iter().copied().eq(once().chain(once()).chain(once())));
    assert_eq!((read.misfits.len(), read.rejected.len()), (0, 0));
    let mut broken = lines.into_bytes();
    broken.push(0xFF);
    landing.write("in/many/4.json", &broken);
    let read = landing.read(&evolves, read.last()).await;
    let reason = format!("it is not UTF-8 at byte {}", broken.len() - 1);
    assert_eq!((read.ids.len(), read.rejected), (0, vec![("in/many/4.json".into(), reason)]));
}
