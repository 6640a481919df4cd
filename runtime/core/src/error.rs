//! Errors of the world: what a server, a store or a file answered. Mistakes in a pipeline file are diagnostics
//! (`lakehead-syntax`), not errors.

use std::fmt;

/// The result of every fallible call across a crate boundary.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who can mend an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The pipeline file, a credential or a setting is wrong.
    User,
    /// A system outside answered with an error or not at all.
    External,
    /// An invariant of ours does not hold.
    Bug,
}

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same call fails again until somebody changes something.
    Never,
    /// The same call may succeed later.
    Backoff,
}

/// An incident with a stable code, a sentence, the facts and the cure.
///
/// The message never holds row values or secrets; names, counts and positions are fields of `context`.
pub struct Error {
    code: &'static str,
    message: String,
    blame: Blame,
    retry: Retry,
    context: Vec<(&'static str, String)>,
    help: Vec<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Creates an error that the user can mend; trying again does not help.
    pub fn user(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, message, Blame::User, Retry::Never)
    }

    /// Creates an error of an outside system that may pass.
    pub fn external(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, message, Blame::External, Retry::Backoff)
    }

    /// Creates an error that stops a pipeline until a person looks: a gap, a lost slot, a foreign change.
    pub fn incident(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, message, Blame::External, Retry::Never)
    }

    /// Creates an error for a broken invariant of ours.
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new("R0001", message, Blame::Bug, Retry::Never)
    }

    fn new(code: &'static str, message: impl Into<String>, blame: Blame, retry: Retry) -> Self {
        Self { code, message: message.into(), blame, retry, context: Vec::new(), help: Vec::new(), source: None }
    }

    /// Adds a fact: a name, a count or a position, never a row value.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.context.push((name, value.to_string()));
        self
    }

    /// Adds a line that says what to do next.
    #[must_use]
    pub fn help(mut self, line: impl Into<String>) -> Self {
        self.help.push(line.into());
        self
    }

    /// Attaches the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Returns the stable code, `R` and four digits.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// Returns the sentence without facts, cause or help.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns who can mend it.
    pub fn blame(&self) -> Blame {
        self.blame
    }

    /// Returns whether trying again can help.
    pub fn retry(&self) -> Retry {
        self.retry
    }

    /// Returns the facts in the order they were added.
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.context
    }

    /// Returns the lines that say what to do next.
    pub fn helps(&self) -> &[String] {
        &self.help
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.message, self.code)?;
        for (name, value) in &self.context {
            write!(f, " {name}={value}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        let mut cause = self.source.as_deref().map(|e| e as &dyn std::error::Error);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn std::error::Error + 'static))
    }
}

impl From<arrow_schema::ArrowError> for Error {
    fn from(error: arrow_schema::ArrowError) -> Self {
        Self::new("R0002", error.to_string(), Blame::Bug, Retry::Never).caused_by(error)
    }
}
