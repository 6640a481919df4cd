//! The pipeline language of Lakehead: text in, tree and diagnostics out, and the one formatter.
//!
//! The crate is pure: it reads no file, no clock and no environment, and resolves no name.

pub mod ast;
mod diagnostic;
mod docs;
mod format;
mod grammar;
mod islands;
mod lex;
mod lower;
mod parse;
mod recover;
mod render;
mod source;
mod words;

pub use diagnostic::{Diagnostic, Fix, Label, Severity};
pub use format::format;
pub use lex::{DEPTH_MAX, FILE_BYTES_MAX};
pub use parse::{parse, parse_file};
pub use render::{render_json, render_text};
pub use source::{FileId, LineColumn, LineIndex, SourceMap, SourceText, Span};
pub use words::{ACTION_WORDS, ITEM_WORDS, RULE_WORDS, STAGE_WORDS, STEP_WORDS, TRIGGER_WORDS, did_you_mean};
