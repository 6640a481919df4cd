//! A text in blocks: read and unpacked piece by piece, each cut where a record ends, so that memory does not grow with the
//! file.

use std::fmt;
use std::io::Read;

use memchr::{memchr, memchr_iter, memchr2, memrchr};

use crate::load::Format;

/// Bytes of a block: what a core keeps close while its rows are read, and few enough blocks to hand on.
pub(crate) const BLOCK_BYTES: usize = 1 << 20;
/// Bytes that one record may have: it is in memory whole, and a small archive can unpack to anything.
pub(crate) const RECORD_BYTES_MAX: usize = 32 << 20;

/// How a text may say that it is UTF-8.
const MARK: &[u8] = b"\xEF\xBB\xBF";

/// Why there is no next block.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The store's, which may pass.
    Store(lakehead_core::Error),
    /// What is wrong with the file itself.
    File(String),
}

/// A store's error on its way through a decoder.
#[derive(Debug)]
pub(crate) struct StoreFault(pub(crate) lakehead_core::Error);

impl fmt::Display for StoreFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl std::error::Error for StoreFault {}

/// Where a text may be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Behind a line.
    Lines,
    /// Behind a CSV row with this delimiter.
    Rows(u8),
    /// Behind a comma between two values of one JSON array.
    Values,
}

/// Reads a text.
pub(crate) struct Blocks {
    reader: Box<dyn Read + Send>,
    /// What is said of data that cannot be unpacked.
    kind: &'static str,
    cut: Cut,
    may_be_array: bool,
    block_bytes: usize,
    record_bytes_max: usize,
    /// A buffer, and how many bytes at its beginning were read and are in no block yet.
    rest: Vec<u8>,
    have: usize,
    /// A buffer that may be used again.
    spare: Vec<u8>,
    begun: bool,
    ended: bool,
    /// Where the text begins, behind a mark of its encoding.
    start: u64,
    /// Bytes before `rest`, and line ends, where they are counted.
    passed: u64,
    lines: u64,
}

impl fmt::Debug for Blocks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Blocks").field("cut", &self.cut).field("passed", &self.passed).finish_non_exhaustive()
    }
}

impl Blocks {
    /// Takes a reader of a text; `kind` says what it unpacks.
    pub(crate) fn new(reader: Box<dyn Read + Send>, kind: &'static str, format: Format, delimiter: u8) -> Self {
        Self::sized(reader, kind, format, delimiter, (BLOCK_BYTES, RECORD_BYTES_MAX))
    }

    /// The same, with other sizes of blocks and records.
    pub(crate) fn sized(
        reader: Box<dyn Read + Send>,
        kind: &'static str,
        format: Format,
        delimiter: u8,
        (block_bytes, record_bytes_max): (usize, usize),
    ) -> Self {
        let cut = if matches!(format, Format::Csv | Format::Tsv) { Cut::Rows(delimiter) } else { Cut::Lines };
        Self {
            reader,
            kind,
            cut,
            may_be_array: format == Format::Json,
            block_bytes,
            record_bytes_max,
            rest: Vec::new(),
            have: 0,
            spare: Vec::new(),
            begun: false,
            ended: false,
            start: 0,
            passed: 0,
            lines: 0,
        }
    }

    /// Returns where the text is cut; known once there is a block.
    pub(crate) fn cut(&self) -> Cut {
        self.cut
    }

    /// Gives a block back, for its memory.
    pub(crate) fn give_back(&mut self, block: String) {
        if block.capacity() <= 2 * self.block_bytes {
            self.spare = block.into_bytes();
        }
    }

    /// Returns the next whole records; `None` at the end of the text.
    pub(crate) fn next(&mut self) -> Result<Option<String>, Fault> {
        let mut wanted = self.block_bytes.max(4);
        loop {
            self.fill(wanted)?;
            if !self.begun && !self.begin() {
                wanted = (self.have * 2).min(self.record_bytes_max + 1);
                continue;
            }
            if self.ended {
                return self.last();
            }
            let (end, _) = self.find_cut();
            if end > 0 {
                return self.split(end).map(Some);
            }
            if self.have > self.record_bytes_max {
                return Err(Fault::File(format!(
                    "the record that begins at byte {} is longer than {} bytes",
                    self.passed, self.record_bytes_max
                )));
            }
            wanted = (self.have * 2).min(self.record_bytes_max + 1);
        }
    }

    /// Reads on until so many bytes are in `rest`, or the text ends.
    fn fill(&mut self, wanted: usize) -> Result<(), Fault> {
        if self.rest.len() < wanted {
            self.rest.resize(wanted, 0);
        }
        while self.have < wanted && !self.ended {
            match self.reader.read(&mut self.rest[self.have..wanted]) {
                Ok(0) => self.ended = true,
                Ok(read) => self.have += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(match error.downcast::<StoreFault>() {
                        Ok(StoreFault(error)) => Fault::Store(error),
                        Err(error) => Fault::File(format!("its {} data are broken: {error}", self.kind)),
                    });
                }
            }
        }
        Ok(())
    }

    /// Returns the bytes that were read and are in no block yet.
    fn rest(&self) -> &[u8] {
        &self.rest[..self.have]
    }

    /// Looks at how the text begins; returns whether enough of it is there.
    fn begin(&mut self) -> bool {
        let space = self.may_be_array && self.rest().trim_ascii_start().is_empty();
        if !self.ended && (self.have < 4 || space && self.have <= self.record_bytes_max) {
            return false;
        }
        self.begun = true;
        if self.rest().starts_with(MARK) {
            self.rest.drain(..MARK.len());
            self.have -= MARK.len();
            (self.start, self.passed) = (MARK.len() as u64, MARK.len() as u64);
        }
        if self.may_be_array && self.rest().trim_ascii_start().first() == Some(&b'[') {
            self.cut = Cut::Values;
        }
        true
    }

    fn last(&mut self) -> Result<Option<String>, Fault> {
        if self.have == 0 {
            return Ok(None);
        }
        if let (_, Some(quote)) = self.find_cut() {
            let line = self.lines + 1 + memchr_iter(b'\n', &self.rest[..quote]).count() as u64;
            return Err(Fault::File(format!("the quote that begins in line {line} never ends")));
        }
        self.split(self.have).map(Some)
    }

    /// Takes the bytes before `end` as a block.
    fn split(&mut self, end: usize) -> Result<String, Fault> {
        let left = self.have - end;
        let mut rest = std::mem::take(&mut self.spare);
        if rest.len() < left {
            rest.resize(left, 0);
        }
        rest[..left].copy_from_slice(&self.rest[end..self.have]);
        let mut block = std::mem::replace(&mut self.rest, rest);
        block.truncate(end);
        let begin = self.passed;
        self.have = left;
        self.passed += end as u64;
        // Lines are counted where a quote may have to be told.
        if matches!(self.cut, Cut::Rows(_)) {
            self.lines += memchr_iter(b'\n', &block).count() as u64;
        }
        String::from_utf8(block).map_err(|error| {
            let at = begin + error.utf8_error().valid_up_to() as u64;
            Fault::File(format!("it is not UTF-8 at byte {at}"))
        })
    }

    /// Returns where the last whole record ends, 0 where there is none; and where a quote begins that is still open.
    fn find_cut(&self) -> (usize, Option<usize>) {
        match self.cut {
            Cut::Lines => (memrchr(b'\n', self.rest()).map_or(0, |at| at + 1), None),
            Cut::Rows(delimiter) => rows_end(self.rest(), delimiter),
            Cut::Values => (values_end(self.rest(), self.passed == self.start), None),
        }
    }
}

/// Returns where the last whole row ends in bytes that begin with a row, and where a quote begins that is still open.
fn rows_end(bytes: &[u8], delimiter: u8) -> (usize, Option<usize>) {
    let (mut end, mut outside, mut at) = (0, 0, 0);
    let next = |at: usize| bytes.get(at..).and_then(|rest| memchr(b'"', rest)).map(|length| at + length);
    while let Some(quote) = next(at) {
        at = quote + 1;
        // Any other quote is a part of its cell.
        if quote > 0 && ![delimiter, b'\n', b'\r'].contains(&bytes[quote - 1]) {
            continue;
        }
        end = line_end(bytes, outside, quote).unwrap_or(end);
        loop {
            let Some(closing) = next(at) else { return (end, Some(quote)) };
            at = closing + 2;
            // Two quotes are one; anything else behind a quote ends the quoted part.
            if bytes.get(closing + 1) != Some(&b'"') {
                at = closing + 1;
                break;
            }
        }
        outside = at;
    }
    (line_end(bytes, outside, bytes.len()).unwrap_or(end), None)
}

/// Returns where the last line between two places ends. A `\r` that nothing follows may be half of a line end.
fn line_end(bytes: &[u8], from: usize, to: usize) -> Option<usize> {
    let found = memrchr(b'\n', &bytes[from..to]).or_else(|| memrchr(b'\r', &bytes[from..to]));
    found
        .map(|at| from + at + 1)
        .filter(|end| bytes[end - 1] == b'\n' || bytes.get(*end).is_some_and(|next| *next != b'\n'))
}

/// Returns where the last value of an array ends that a comma follows, behind the comma.
fn values_end(bytes: &[u8], is_begin: bool) -> usize {
    let (mut depth, mut at, mut end) = (i64::from(!is_begin), 0, 0);
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            b',' if depth == 1 => end = at,
            b'"' => match string_end(bytes, at) {
                Some(behind) => at = behind,
                None => return end,
            },
            _ => {}
        }
    }
    end
}

/// Returns the place behind the string of JSON whose text begins at `at`; `None` where it does not end.
fn string_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..)?)? + 1;
        if bytes[at - 1] == b'"' {
            return Some(at);
        }
        // An escape hides the byte behind it.
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A line again and again, made while it is read.
    struct Made {
        line: &'static [u8],
        at: usize,
        end: usize,
    }

    impl Read for Made {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let from = self.at % self.line.len();
            let length = buffer.len().min(self.line.len() - from).min(self.end - self.at);
            buffer[..length].copy_from_slice(&self.line[from..from + length]);
            self.at += length;
            Ok(length)
        }
    }

    fn blocks(reader: impl Read + Send + 'static, format: Format) -> Blocks {
        Blocks::sized(Box::new(reader), "gzip", format, b',', (4096, 20_000))
    }

    fn fault(mut blocks: Blocks) -> String {
        loop {
            match blocks.next() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the text is sound"),
                Err(Fault::File(reason)) => return reason,
                Err(Fault::Store(error)) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn what_is_held_does_not_grow_with_the_text() {
        let mut held = Vec::new();
        for lines in [1000, 200_000] {
            for (format, line) in [(Format::Csv, "1,\"a\nb\",c\n"), (Format::Lines, "{\"id\": 1}\n")] {
                let text = Made { line: line.as_bytes(), at: 0, end: lines * line.len() };
                let mut blocks = blocks(text, format);
                let (mut bytes, mut most) = (0, 0);
                while let Some(block) = blocks.next().unwrap() {
                    assert!(block.ends_with(line) && block.len() <= 4096);
                    bytes += block.len();
                    most = most.max(block.capacity() + blocks.rest.capacity() + blocks.spare.capacity());
                    blocks.give_back(block);
                }
                assert_eq!(bytes, lines * line.len());
                held.push(most);
            }
        }
        assert!(held.iter().all(|most| *most <= 4 * 4096), "{held:?}");
    }

    #[test]
    fn a_record_without_an_end_is_refused_with_its_place() {
        let endless = |begin: &'static str| std::io::Cursor::new(begin).chain(std::io::repeat(b'x'));
        let longer = |at: usize| format!("the record that begins at byte {at} is longer than 20000 bytes");
        assert_eq!(fault(blocks(endless("{}\n"), Format::Lines)), longer(3));
        assert_eq!(fault(blocks(endless("a,b\n\"1\n"), Format::Csv)), longer(4));
        assert_eq!(fault(blocks(endless("[\n1,\""), Format::Json)), longer(4));
        assert_eq!(fault(blocks(std::io::repeat(b' '), Format::Json)), longer(0));
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_place() {
        let text = |bytes: &[u8]| std::io::Cursor::new(bytes.to_vec());
        assert_eq!(fault(blocks(text(b"\xEF\xBB\xBF{}\n\xff"), Format::Lines)), "it is not UTF-8 at byte 6");
        assert_eq!(fault(blocks(text(b"a\n1\n\"2\n3\n"), Format::Csv)), "the quote that begins in line 3 never ends");
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&b"1,2\n".repeat(9000)).unwrap();
        let whole = packed.finish().unwrap();
        let unpack = |bytes: &[u8]| {
            let reader = flate2::bufread::MultiGzDecoder::new(std::io::BufReader::new(text(bytes)));
            fault(blocks(reader, Format::Csv))
        };
        assert!(unpack(&whole[..whole.len() - 9]).starts_with("its gzip data are broken: "));
        // Of a sum that is not the data's, too.
        for flipped in [whole.len() - 8, whole.len() - 1, whole.len() / 2] {
            let mut bytes = whole.clone();
            bytes[flipped] ^= 1;
            assert!(unpack(&bytes).starts_with("its gzip data are broken: "), "{flipped}");
        }
    }
}
