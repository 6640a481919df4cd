//! What is told about a text: one record, which the terminal, JSON and the editor server write in their own ways.

use serde::Serialize;

use crate::{FileId, Span};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing runs before it is mended.
    Error,
    /// It runs, and is probably not meant.
    Warning,
}

impl Severity {
    /// The word shown.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// A place with a few words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Label {
    /// The file.
    pub file: FileId,
    /// The place in it.
    pub span: Span,
    /// What is to be said there; may be empty.
    pub text: String,
    /// Whether this is the mistake itself (`^^^`) or the other half (`---`).
    pub primary: bool,
}

/// An edit that mends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fix {
    /// The file.
    pub file: FileId,
    /// What is replaced; empty for an insertion.
    pub span: Span,
    /// By what.
    pub replacement: String,
}

/// One mistake or warning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Its number, such as `E0102`.
    pub code: &'static str,
    /// What is wrong: a lower-case sentence without a final dot.
    pub message: String,
    /// Where; the first primary label is the place of the diagnostic.
    pub labels: Vec<Label>,
    /// Facts, printed after `=`.
    pub notes: Vec<String>,
    /// Cures, printed after `= help:`.
    pub helps: Vec<String>,
    /// Edits that mend it.
    pub fixes: Vec<Fix>,
    /// Whether the texts of the lines that are shown are starred: one of them is a secret.
    pub concealed: bool,
}

impl Diagnostic {
    /// A diagnostic without places.
    pub fn new(severity: Severity, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity,
            code,
            message: message.into(),
            labels: Vec::new(),
            notes: Vec::new(),
            helps: Vec::new(),
            fixes: Vec::new(),
            concealed: false,
        }
    }

    /// Has the texts of the lines that are shown starred.
    #[must_use]
    pub fn concealed(mut self) -> Self {
        self.concealed = true;
        self
    }

    /// An error without places.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message)
    }

    /// A warning without places.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message)
    }

    /// Adds the place of the mistake.
    #[must_use]
    pub fn primary(mut self, file: FileId, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { file, span, text: text.into(), primary: true });
        self
    }

    /// Adds the place of the other half.
    #[must_use]
    pub fn secondary(mut self, file: FileId, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { file, span, text: text.into(), primary: false });
        self
    }

    /// Adds a fact.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    /// Adds a cure.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.helps.push(text.into());
        self
    }

    /// Adds an edit that mends it.
    #[must_use]
    pub fn fix(mut self, file: FileId, span: Span, replacement: impl Into<String>) -> Self {
        self.fixes.push(Fix { file, span, replacement: replacement.into() });
        self
    }

    /// Whether it is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The label that gives the diagnostic its place: the first primary one, else the first.
    pub fn place(&self) -> Option<&Label> {
        self.labels.iter().find(|label| label.primary).or(self.labels.first())
    }

    /// What diagnostics are ordered by: file, then place, then code.
    pub fn order(&self) -> (FileId, Span, &'static str) {
        let (file, span) = self.place().map_or((FileId::default(), Span::default()), |label| (label.file, label.span));
        (file, span, self.code)
    }
}

/// Characters of the user's text that are repeated in a message.
const QUOTED_CHARS_MAX: usize = 60;

/// The text as it is repeated in a message: its first line, shortened.
pub(crate) fn brief(text: &str) -> String {
    let line = text.split(['\n', '\r']).next().unwrap_or("");
    let mut shown: String = line.chars().take(QUOTED_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
