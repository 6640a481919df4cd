//! What can go wrong: damage, which means a rebuild, and what the system answers, which a person mends.

use std::io::{self, ErrorKind};
use std::path::Path;

use lakehead_core::{DiskFault, Error};

/// The code of an index that is damaged: a checksum, a length or a file does not hold.
pub const DAMAGED: &str = "R1101";
/// The code of an index that another version of lakehead wrote.
pub const OTHER_FORMAT: &str = "R1102";

/// Returns whether an error means that the index is to be built anew from its table; nothing else is lost then.
pub fn means_rebuild(error: &Error) -> bool {
    matches!(error.code(), DAMAGED | OTHER_FORMAT)
}

pub(crate) fn damaged(path: &Path, what: &'static str) -> Error {
    Error::incident(DAMAGED, "the key index is damaged")
        .with("file", path.display())
        .with("what", what)
        .help("nothing is lost: the index is a cache and is built anew from the table")
}

pub(crate) fn other_format(path: &Path, found: u32, known: u32) -> Error {
    Error::incident(OTHER_FORMAT, "the key index has another format")
        .with("file", path.display())
        .with("format", found)
        .with("known", known)
        .help("nothing is lost: the index is a cache and is built anew from the table")
}

/// Turns an error of the file system into one of ours.
pub(crate) fn io_error(error: io::Error, path: &Path) -> Error {
    let limited = DiskFault::of(&error).filter(|fault| *fault == DiskFault::Limited).and_then(DiskFault::common);
    if let Some(limited) = limited {
        return limited.with("file", path.display()).caused_by(error);
    }
    let known = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Error::incident("R1103", "the disk of the key index is full")
                .help("free space there, then start again: the table is whole, the index is only a cache of it")
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::NotADirectory => {
            Error::user("R1104", "the folder of the key index cannot be used")
                .help("give the user who runs lakehead the right to read and write there, or choose another folder")
        }
        _ => Error::external("R1105", "a file of the key index could not be read or written")
            .help("check the disk; the folder may be deleted while lakehead is stopped: it is only a cache"),
    };
    known.with("file", path.display()).caused_by(error)
}

/// Turns an error of reading what must be there into one of ours: what is missing or short is damage.
pub(crate) fn read_error(error: io::Error, path: &Path) -> Error {
    match error.kind() {
        ErrorKind::UnexpectedEof => damaged(path, "a file is shorter than it says").caused_by(error),
        ErrorKind::NotFound => damaged(path, "a file is missing").caused_by(error),
        _ => io_error(error, path),
    }
}
