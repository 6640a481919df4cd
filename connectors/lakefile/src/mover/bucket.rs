//! Files of a bucket, copied onto themselves in another class.

use lakehead_core::{Result, Settings, StorageClass, failpoint};

use super::{Aged, BYTES_OVER, Memory, Moved};
use crate::carry::{encoded, refused};
use crate::location::Location;
use crate::signed::SignedBucket;

/// Bytes that S3 copies with one call (its API reference, `CopyObject`).
const COPY_BYTES_MAX: u64 = 5 << 30;

#[derive(Debug)]
pub(super) struct BucketMover {
    calls: SignedBucket,
    location: Location,
}

impl BucketMover {
    pub(super) fn open(location: &Location, connection: &Settings) -> Result<Self> {
        Ok(Self { calls: SignedBucket::open(location.url(), connection)?, location: location.untagged() })
    }

    pub(super) async fn work(&self, aged: &[Aged], memory: &mut Memory) -> Result<Moved> {
        let mut moved = Moved::default();
        let fits = |file: &&Aged| file.size > BYTES_OVER && file.size <= COPY_BYTES_MAX;
        for file in aged.iter().filter(fits) {
            if memory.there.get(&file.name).is_some_and(|class| *class >= file.class) {
                continue;
            }
            if !memory.may_ask(2) {
                break;
            }
            failpoint::hit("mover.file").await?;
            let target = format!("/{}", encoded(self.location.path(&file.name).as_ref()));
            let head = self.calls.call("HEAD", &target, &[], "").await?;
            if head.status == 404 {
                continue;
            }
            if !head.is_done() {
                return Err(refused(&head, &file.name));
            }
            if may_move(head.header("x-amz-storage-class"), file.class) {
                self.put_into(&target, file).await?;
                moved.classes.push((file.name.clone(), file.size));
            }
            memory.there.insert(file.name.clone(), file.class);
        }
        Ok(moved)
    }

    /// Tags and metadata go along: S3 copies them where nothing else is said.
    async fn put_into(&self, target: &str, file: &Aged) -> Result<()> {
        let headers = [
            ("x-amz-copy-source", format!("/{}{target}", self.calls.bucket())),
            ("x-amz-storage-class", name_of(file.class).to_owned()),
            ("x-amz-metadata-directive", "COPY".to_owned()),
        ];
        let answer = self.calls.call("PUT", target, &headers, "").await?;
        // Gone meanwhile: nothing is to be moved.
        if answer.is_done() || answer.status == 404 { Ok(()) } else { Err(refused(&answer, &file.name)) }
    }
}

/// Returns the name S3 has for a class.
fn name_of(class: StorageClass) -> &'static str {
    match class {
        StorageClass::Infrequent => "STANDARD_IA",
        StorageClass::ArchiveInstant => "GLACIER_IR",
        StorageClass::Archive => "GLACIER",
    }
}

/// Returns whether an object moves from where it is: never to what is warmer, nor out of a class that somebody chose.
fn may_move(now: Option<&str>, class: StorageClass) -> bool {
    match now {
        None | Some("STANDARD" | "REDUCED_REDUNDANCY") => true,
        Some("STANDARD_IA" | "ONEZONE_IA") => class > StorageClass::Infrequent,
        Some("GLACIER_IR") => class > StorageClass::ArchiveInstant,
        // GLACIER and DEEP_ARCHIVE cannot be read, INTELLIGENT_TIERING sees to itself.
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_to_what_is_warmer() {
        use StorageClass::{Archive, ArchiveInstant, Infrequent};
        for (now, moves) in [
            (None, [true, true, true]),
            (Some("STANDARD_IA"), [false, true, true]),
            (Some("GLACIER_IR"), [false, false, true]),
            (Some("GLACIER"), [false; 3]),
            (Some("INTELLIGENT_TIERING"), [false; 3]),
        ] {
            assert_eq!([Infrequent, ArchiveInstant, Archive].map(|class| may_move(now, class)), moves, "{now:?}");
        }
    }
}
