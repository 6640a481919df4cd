//! What a disk answers that a person must mend: told apart in one place, said by each user of a disk in its own words.

use std::error::Error as StdError;

use crate::Error;

/// Why a disk does not take or give what it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// There is no space left, or none for this user.
    Full,
    /// This process may write no larger file.
    Limited,
    /// This user may not write there, or nobody may.
    Forbidden,
    /// The disk itself fails.
    Broken,
}

/// The system's numbers of Linux, and SQLite's own words. What extends its shared memory fails where the disk is full.
const ANSWERS: [(&str, DiskFault); 15] = [
    ("(os error 28)", DiskFault::Full),
    ("(os error 122)", DiskFault::Full),
    ("No space left on device", DiskFault::Full),
    ("database or disk is full", DiskFault::Full),
    ("Error code 4874:", DiskFault::Full),
    ("(os error 27)", DiskFault::Limited),
    ("File too large", DiskFault::Limited),
    ("(os error 13)", DiskFault::Forbidden),
    ("(os error 30)", DiskFault::Forbidden),
    ("Permission denied", DiskFault::Forbidden),
    ("Read-only file system", DiskFault::Forbidden),
    ("attempt to write a readonly database", DiskFault::Forbidden),
    ("(os error 5)", DiskFault::Broken),
    ("Input/output error", DiskFault::Broken),
    ("disk I/O error", DiskFault::Broken),
];

impl DiskFault {
    /// Finds the answer of a disk in an error or its causes. Libraries hand on texts: numbers alone would be lost.
    pub fn of(error: &(dyn StdError + 'static)) -> Option<Self> {
        let text = chain_text(error);
        ANSWERS.iter().find(|(answer, _)| text.contains(answer)).map(|(_, fault)| *fault)
    }

    /// Returns what is said in the same words wherever it comes up; `None` for what each place says in its own.
    pub fn common(self) -> Option<Error> {
        match self {
            Self::Limited => Some(Error::incident("R0651", "this process may not write so large a file").help(
                "raise the limit (ulimit -f; LimitFSIZE of a service), then start again: nothing was committed in part",
            )),
            Self::Broken => Some(
                Error::external("R0652", "the disk fails")
                    .help("look at it (dmesg, its health), then start again: nothing was committed in part"),
            ),
            Self::Full | Self::Forbidden => None,
        }
    }
}

/// Returns what the disk of the state folder has answered, but for a missing right.
pub fn state_disk_error(error: &(dyn StdError + 'static)) -> Option<Error> {
    match DiskFault::of(error)? {
        DiskFault::Full => {
            Some(Error::incident("R0650", "the disk of the state folder is full").help(
                "free space there, or change `state` in lakehead.toml; positions stand in the lake: the next run goes on from them",
            ))
        }
        fault => fault.common(),
    }
}

/// Returns the text of an error and of its causes, outermost first.
pub fn chain_text(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Error as IoError;

    use super::*;

    #[test]
    fn answers_of_a_disk_are_told_apart_through_whoever_hands_them_on() {
        for (number, fault) in [
            (28, Some(DiskFault::Full)),
            (122, Some(DiskFault::Full)),
            (27, Some(DiskFault::Limited)),
            (13, Some(DiskFault::Forbidden)),
            (30, Some(DiskFault::Forbidden)),
            (5, Some(DiskFault::Broken)),
            (2, None),
            (55, None),
            (104, None),
        ] {
            let of = |error: IoError| DiskFault::of(&error);
            assert_eq!(of(IoError::from_raw_os_error(number)), fault, "{number}");
            let handed_on = IoError::other(Error::bug("a part").caused_by(IoError::from_raw_os_error(number)));
            let wrapped = Error::external("R0404", "the object store failed").caused_by(handed_on);
            assert_eq!(DiskFault::of(&wrapped), fault, "{number} behind others");
        }
    }

    #[test]
    fn a_limit_and_a_failing_disk_have_codes_and_cures_of_their_own() {
        let codes = [DiskFault::Limited, DiskFault::Broken].map(|fault| fault.common().map(|error| error.code()));
        assert_eq!(codes, [Some("R0651"), Some("R0652")]);
        assert!([DiskFault::Full, DiskFault::Forbidden].iter().all(|fault| fault.common().is_none()));
    }
}
