//! Cuts a text into tokens before any grammar is asked: what is a string, a comment, a table row or SQL is decided here,
//! every limit is checked here, and whatever is opened and not closed is told here.

use crate::diagnostic::brief;
use crate::words::{SQL_WORDS, did_you_mean};
use crate::{Diagnostic, FileId, Span};

mod brackets;
mod sql;
mod string;
mod table;

use brackets::Brackets;
pub(crate) use brackets::begins_item;
pub(crate) use sql::{SqlPart, SqlParts};

/// The largest file read. The largest hand-written pipeline file we know of is a hundredth of this.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// The deepest nesting of braces, brackets and parentheses: far above what can be read, far below what a stack holds.
pub const DEPTH_MAX: usize = 128;

/// Mistakes of a file that are told; the lexer stops reading behind them, for each may cost a look at the rest.
pub(crate) const MISTAKES_MAX: usize = 1_000;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A name or word of the language.
    Word,
    /// Whatever begins with a digit: numbers, durations, sizes, shares.
    Number,
    /// A string with its quotes.
    Str,
    /// An SQL island with its braces.
    Sql,
    /// A row of a test table.
    Row,
    /// `{`, `[` or `(`
    Open(char),
    /// `}`, `]` or `)`
    Close(char),
    /// Any other sign of the language, and `;`.
    Sign(char),
    /// `# …`
    Comment,
    /// Anything else.
    Bad,
}

/// A piece of the text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// How many brackets are open around it; an opening and its closing bracket have the same number.
    pub(crate) depth: u16,
    /// Whether only blanks stand before it in its line.
    pub(crate) first: bool,
}

impl Token {
    pub(crate) fn span(&self) -> Span {
        Span::new(self.start, self.end)
    }

    pub(crate) fn text<'a>(&self, text: &'a str) -> &'a str {
        &text[self.start..self.end]
    }

    pub(crate) fn is(&self, sign: char) -> bool {
        matches!(self.kind, Kind::Open(c) | Kind::Close(c) | Kind::Sign(c) if c == sign)
    }
}

/// The tokens of a text.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    /// All tokens but comments.
    pub(crate) list: Vec<Token>,
    /// All comments outside SQL.
    pub(crate) comments: Vec<Token>,
    /// What was found wrong.
    pub(crate) mistakes: Vec<Mistake>,
    /// Whether the text must not be parsed at all.
    pub(crate) fatal: bool,
}

/// Something that is wrong whatever the grammar says.
#[derive(Debug)]
pub(crate) struct Mistake {
    pub(crate) diagnostic: Diagnostic,
    pub(crate) at: usize,
    /// Whether it is not worth telling where the block around it is unknown as a whole.
    pub(crate) soft: bool,
}

/// Cuts `text` into tokens.
pub(crate) fn lex(text: &str, file: FileId) -> Tokens {
    if text.len() > FILE_BYTES_MAX {
        return too_long(text, file);
    }
    let mut tokens = read(text, file);
    tokens.mistakes.sort_by_key(|mistake| mistake.at);
    tokens
}

fn read(text: &str, file: FileId) -> Tokens {
    let mut lexer = Lexer::new(text, file, false);
    lexer.run();
    if !lexer.quote_open {
        return lexer.tokens;
    }
    // A quote that is never closed swallows what follows up to the next quote, anywhere. Read again, holding every
    // quoted text to its line or at least to its island, to find the quote that really is at fault.
    let mut strict = Lexer::new(text, file, true);
    strict.run();
    if strict.quote_open { strict.tokens } else { lexer.tokens }
}

fn too_long(text: &str, file: FileId) -> Tokens {
    let diagnostic = Diagnostic::error("E0111", "this file is too long")
        .primary(file, Span::new(0, 0), format!("{} bytes", text.len()))
        .note(format!("a file may have {FILE_BYTES_MAX} bytes, {DEPTH_MAX} nested brackets"))
        .help("all files of a directory are one project: cut it into several files");
    let mistake = Mistake { diagnostic, at: 0, soft: false };
    Tokens { mistakes: vec![mistake], fatal: true, ..Tokens::default() }
}

struct Lexer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    file: FileId,
    at: usize,
    tokens: Tokens,
    brackets: Brackets,
    line_start: bool,
    /// Whether quoted SQL text is held to its line.
    strict: bool,
    /// Whether a quoted SQL text was not closed.
    quote_open: bool,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str, file: FileId, strict: bool) -> Self {
        Self {
            text,
            bytes: text.as_bytes(),
            file,
            at: if text.starts_with('\u{feff}') { 3 } else { 0 },
            tokens: Tokens::default(),
            brackets: Brackets::default(),
            line_start: true,
            strict,
            quote_open: false,
        }
    }

    fn run(&mut self) {
        while self.at < self.bytes.len() && !self.tokens.fatal {
            self.step();
            if self.tokens.mistakes.len() >= MISTAKES_MAX {
                self.tokens.fatal = true;
            }
        }
        if !self.tokens.fatal {
            self.close_all(self.text.trim_end().len());
        }
    }

    fn step(&mut self) {
        let start = self.at;
        match self.bytes[start] {
            b'\n' => {
                self.at += 1;
                self.line_start = true;
            }
            b' ' | b'\t' | b'\r' => self.at += 1,
            b'#' => self.comment(),
            b'"' => self.string(),
            b'|' => self.row(),
            b'{' if self.opens_sql() => self.sql(),
            byte @ (b'{' | b'[' | b'(') => self.open(char::from(byte)),
            byte @ (b'}' | b']' | b')') => self.close(char::from(byte)),
            byte @ (b'=' | b',' | b':' | b'.' | b'*' | b';') => {
                self.push(Kind::Sign(char::from(byte)), start + 1);
            }
            b'-' if self.bytes.get(start + 1).is_some_and(u8::is_ascii_digit) => self.number(),
            b'0'..=b'9' => self.number(),
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => self.word(),
            _ => self.other(),
        }
    }

    fn push(&mut self, kind: Kind, end: usize) {
        let token = Token { kind, start: self.at, end, depth: self.brackets.depth(), first: self.line_start };
        if kind == Kind::Comment {
            self.tokens.comments.push(token);
        } else {
            self.tokens.list.push(token);
        }
        self.line_start = false;
        self.at = end;
    }

    fn mistake(&mut self, at: usize, diagnostic: Diagnostic) {
        if self.tokens.mistakes.len() > MISTAKES_MAX {
            return;
        }
        self.tokens.mistakes.push(Mistake { diagnostic, at, soft: false });
    }

    fn soft_mistake(&mut self, at: usize, diagnostic: Diagnostic) {
        self.tokens.mistakes.push(Mistake { diagnostic, at, soft: true });
    }

    fn comment(&mut self) {
        let end = self.line_end(self.at);
        let end = self.at + self.text[self.at..end].trim_end().len();
        self.push(Kind::Comment, end);
    }

    /// The offset of the end of the line in which `at` lies, before its `\n`.
    fn line_end(&self, at: usize) -> usize {
        self.text[at..].find('\n').map_or(self.text.len(), |n| at + n)
    }

    fn number(&mut self) {
        let mut end = self.at + 1;
        while self.bytes.get(end).is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'%'))
            || (self.bytes.get(end) == Some(&b'.') && self.bytes.get(end + 1).is_some_and(u8::is_ascii_digit))
        {
            end += 1;
        }
        self.push(Kind::Number, end);
    }

    fn word(&mut self) {
        if self.line_start && self.brackets.depth() > 0 && begins_item(self.text, self.at) {
            self.close_all(self.at);
        }
        let mut end = self.at + 1;
        while self.bytes.get(end).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
            end += 1;
        }
        self.push(Kind::Word, end);
    }

    fn other(&mut self) {
        let start = self.at;
        let rest = &self.text[start..];
        let char = rest.chars().next().unwrap_or(' ');
        if matches!(char, '\'' | '“' | '”' | '„' | '‘' | '’' | '«' | '»') {
            return self.foreign_quote(char);
        }
        let length = if char.is_alphanumeric() {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else {
            char.len_utf8()
        };
        let span = Span::new(start, start + length);
        let diagnostic = if char.is_alphanumeric() {
            Diagnostic::error("E0100", format!("`{}` cannot be a name", brief(&rest[..length])))
                .primary(self.file, span, "")
                .note("names are made of the letters a-z and A-Z, digits and `_`")
                .help("other letters may stand in strings, in SQL and in comments")
        } else {
            let shown = char.escape_debug();
            let shown = if char.is_control() { shown.to_string() } else { char.to_string() };
            Diagnostic::error("E0100", format!("`{shown}` has no meaning here"))
                .primary(self.file, span, "")
                .help("take it out, or put it into a string")
        };
        self.soft_mistake(start, diagnostic);
        self.push(Kind::Bad, start + length);
    }

    /// Whether the brace at the current place holds SQL: the words before it decide.
    fn opens_sql(&self) -> bool {
        let mut before = self.tokens.list.iter().rev();
        let Some(last) = before.next().filter(|token| token.kind == Kind::Word) else {
            return false;
        };
        let word = last.text(self.text);
        let (second, third) = (before.next(), before.next());
        let second_word = second.map_or("", |token| token.text(self.text));
        let third_word = third.map_or("", |token| token.text(self.text));
        let is_name = matches!(
            second_word,
            "source"
                | "sink"
                | "transform"
                | "dead_letter"
                | "alert"
                | "from"
                | "pipeline"
                | "profile"
                | "lifecycle"
                | "of"
                | "to"
                | "given"
                | "then"
                | "="
                | "."
        ) || matches!(third_word, "connection" | "catalog");
        if is_name {
            return false;
        }
        match word {
            "exists" => second_word == "if",
            _ if SQL_WORDS.contains(&word) => true,
            _ if second_word == "expect" => true,
            // A misspelt step: what is in its brace is SQL all the same.
            _ => {
                let begins = last.first || second.is_some_and(|token| token.is('{'));
                begins && did_you_mean(word, SQL_WORDS[..7].iter().copied()).is_some()
            }
        }
    }
}
