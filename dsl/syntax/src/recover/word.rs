//! Words that do not belong where they stand.

use super::Recovery;
use crate::Diagnostic;
use crate::ast::VarType;
use crate::lex::Token;
use crate::words::{ITEM_WORDS, RULE_WORDS, STAGE_WORDS, STEP_WORDS, did_you_mean};

/// What is expected at the beginning of a piece.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Definition,
    Stage,
    Step,
    AgeRule,
    TestPart,
}

const TEST_WORDS: [&str; 2] = ["given", "then"];

impl Place {
    fn code(self) -> &'static str {
        match self {
            Place::Definition => "E0101",
            Place::Step => "E0102",
            Place::Stage => "E0103",
            Place::AgeRule | Place::TestPart => "E0114",
        }
    }

    pub(super) fn words(self) -> &'static [&'static str] {
        match self {
            Place::Definition => &ITEM_WORDS,
            Place::Stage => &STAGE_WORDS,
            Place::Step => &STEP_WORDS,
            Place::AgeRule => &RULE_WORDS,
            Place::TestPart => &TEST_WORDS,
        }
    }

    fn is_not(self) -> &'static str {
        match self {
            Place::Definition => "is not a definition",
            Place::Stage => "is not a stage",
            Place::Step => "is not a step",
            Place::AgeRule => "is not a rule of a lifecycle",
            Place::TestPart => "has no meaning in a test",
        }
    }

    fn plural(self) -> &'static str {
        match self {
            Place::Definition => "definitions are",
            Place::Stage => "stages are",
            Place::Step => "steps are",
            Place::AgeRule => "rules are",
            Place::TestPart => "a test has settings, and",
        }
    }

    /// Where a word of this kind stands: what it is, where, and an example.
    fn home(self, word: &str) -> (&'static str, String) {
        match self {
            Place::Definition => (
                "is a definition, and definitions stand outside of each other",
                format!("end the block above with `}}` before `{word}`"),
            ),
            Place::Stage => ("is a stage, and stages stand in a pipeline", format!("pipeline NAME {{ {word} … }}")),
            Place::Step => ("is a step, and steps stand in a transform", format!("transform {{ {word} … }}")),
            Place::AgeRule => ("is a rule of a lifecycle", format!("lifecycle NAME {{ {word} … }}")),
            Place::TestPart => ("is a part of a test", format!("test \"title\" of PIPELINE {{ {word} … }}")),
        }
    }
}

impl Recovery<'_> {
    /// Why a word cannot begin a piece here.
    pub(super) fn unknown_word(&self, place: Place, token: &Token) -> Diagnostic {
        let word = self.text_of(token);
        let places = [Place::Definition, Place::Stage, Place::Step, Place::AgeRule, Place::TestPart];
        let home = places.into_iter().find(|home| home.words().contains(&word));
        if let Some(home) = home.filter(|home| *home != place) {
            let (what, example) = home.home(word);
            return Diagnostic::error("E0113", format!("`{word}` {what}"))
                .primary(self.file, token.span(), "not here")
                .help(example);
        }
        let shown = crate::diagnostic::brief(word);
        let mut diagnostic = Diagnostic::error(place.code(), format!("`{shown}` {}", place.is_not()));
        diagnostic = match did_you_mean(word, place.words().iter().copied()) {
            Some(near) => diagnostic.primary(self.file, token.span(), format!("did you mean `{near}`?")).fix(
                self.file,
                token.span(),
                near,
            ),
            None => diagnostic.primary(self.file, token.span(), ""),
        };
        diagnostic.note(format!("{}: {}", place.plural(), place.words().join(", ")))
    }

    pub(super) fn unknown_type(&self, token: &Token) -> Diagnostic {
        let word = self.text_of(token);
        let shown = crate::diagnostic::brief(word);
        let near = did_you_mean(word, VarType::WORDS.iter().copied());
        let told = near.map_or(String::new(), |near| format!("did you mean `{near}`?"));
        Diagnostic::error("E0114", format!("`{shown}` is not the type of a variable"))
            .primary(self.file, token.span(), told)
            .note(format!("types are: {}", VarType::WORDS.join(", ")))
    }
}
