//! Places in text: spans, files, lines and columns.

use serde::Serialize;

/// A half-open range of bytes in one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset behind the last byte.
    pub end: u32,
}

impl Span {
    /// The range from `start` to `end`; an end before the start is moved up to it.
    pub fn new(start: usize, end: usize) -> Self {
        let start = u32::try_from(start).unwrap_or(u32::MAX);
        let end = u32::try_from(end).unwrap_or(u32::MAX);
        Self { start, end: end.max(start) }
    }

    /// The smallest span that holds both.
    pub fn to(self, other: Span) -> Span {
        Span { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// Length in bytes.
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether the span holds no byte.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The span as a range for slicing.
    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Which file of a [`SourceMap`] a span is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct FileId(pub u32);

/// The files of one run of the checker, in the order in which they were added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceMap {
    /// Path as shown to people, and text.
    pub files: Vec<(String, String)>,
}

impl SourceMap {
    /// A map of one file, whose id is `FileId(0)`.
    pub fn single(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { files: vec![(path.into(), text.into())] }
    }

    /// Adds a file and returns its id.
    pub fn add(&mut self, path: impl Into<String>, text: impl Into<String>) -> FileId {
        self.files.push((path.into(), text.into()));
        FileId(u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX))
    }

    /// The path of a file; `?` for an id that was never given out.
    pub fn path(&self, file: FileId) -> &str {
        self.files.get(file.0 as usize).map_or("?", |(path, _)| path)
    }

    /// The text of a file; empty for an id that was never given out.
    pub fn text(&self, file: FileId) -> &str {
        self.files.get(file.0 as usize).map_or("", |(_, text)| text)
    }
}

/// A place as people count: both numbers begin at 1, columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct LineColumn {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// Bytes between two entries of the character table: large enough that the table stays small, small enough that a
/// look-up in a line of a mebibyte costs nothing.
const STRIDE_BYTES: usize = 512;

/// Turns byte offsets into lines and columns.
#[derive(Clone, Debug)]
pub struct LineIndex {
    /// Offset of the first byte of each line; a byte order mark is before line 1.
    starts: Vec<usize>,
    /// Characters before each multiple of `STRIDE_BYTES`.
    chars: Vec<usize>,
}

impl LineIndex {
    /// Reads the text once.
    pub fn new(text: &str) -> Self {
        let mut starts = vec![if text.starts_with('\u{feff}') { 3 } else { 0 }];
        let mut chars = vec![0];
        let mut count = 0;
        for (at, byte) in text.bytes().enumerate() {
            if at > 0 && at % STRIDE_BYTES == 0 {
                chars.push(count);
            }
            // A continuation byte of UTF-8 begins no character.
            count += usize::from(byte & 0xC0 != 0x80);
            if byte == b'\n' {
                starts.push(at + 1);
            }
        }
        Self { starts, chars }
    }

    /// The line, from 0, in which an offset lies.
    pub fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset).saturating_sub(1)
    }

    /// Offset of the first byte of a line counted from 0; the last line's for a number beyond it.
    pub fn line_start(&self, line: usize) -> usize {
        self.starts[line.min(self.starts.len() - 1)]
    }

    /// Line and column of an offset of `text`, which must be the text the index was made from.
    pub fn line_column(&self, text: &str, offset: usize) -> LineColumn {
        let offset = offset.min(text.len());
        let line = self.line(offset);
        let start = self.starts[line];
        let column = self.char_count(text, offset).saturating_sub(self.char_count(text, start));
        LineColumn {
            line: u32::try_from(line + 1).unwrap_or(u32::MAX),
            column: u32::try_from(column + 1).unwrap_or(u32::MAX),
        }
    }

    fn char_count(&self, text: &str, offset: usize) -> usize {
        let entry = (offset / STRIDE_BYTES).min(self.chars.len() - 1);
        let rest = &text.as_bytes()[entry * STRIDE_BYTES..offset];
        self.chars[entry] + rest.iter().filter(|byte| **byte & 0xC0 != 0x80).count()
    }
}

/// A text with its line index.
#[derive(Clone, Debug)]
pub struct SourceText<'a> {
    /// The text.
    pub text: &'a str,
    /// Its lines.
    pub lines: LineIndex,
}

impl<'a> SourceText<'a> {
    /// Indexes the text.
    pub fn new(text: &'a str) -> Self {
        Self { text, lines: LineIndex::new(text) }
    }

    /// Line and column of an offset.
    pub fn line_column(&self, offset: usize) -> LineColumn {
        self.lines.line_column(self.text, offset)
    }

    /// A line counted from 0, without its end.
    pub fn line_text(&self, line: usize) -> &'a str {
        let start = self.lines.line_start(line);
        let rest = &self.text[start..];
        let line = rest.split('\n').next().unwrap_or("");
        line.strip_suffix('\r').unwrap_or(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, offset: usize, line: u32, column: u32) {
        let place = LineIndex::new(text).line_column(text, offset);
        assert_eq!(place, LineColumn { line, column });
    }

    #[test]
    fn columns_count_characters() {
        check("", 0, 1, 1);
        check("ab\ncd", 4, 2, 2);
        check("é = \"ü\"\nx", 3, 1, 3);
        check("\u{feff}use", 3, 1, 1);
        check("a\r\nb", 3, 2, 1);
        check("a\n", 2, 2, 1);
        let long = "é".repeat(5_000);
        check(&long, 8_000, 1, 4_001);
    }
}
