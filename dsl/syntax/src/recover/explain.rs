//! Goes through a definition that does not parse, part by part.

use super::header::{Want, path_end};
use super::word::Place;
use super::{Recovery, pieces, range};
use crate::Diagnostic;
use crate::grammar::Rule;
use crate::lex::{Kind, Token};
use crate::words::{ACTION_WORDS, STAGE_WORDS, STEP_WORDS, TRIGGER_WORDS};

const CONNECTION: Want = Want::Name("the name of the connection");

impl Recovery<'_> {
    pub(super) fn explain_definition(&mut self, piece: &[Token]) {
        use Want::{Block, Name, Sign, Str, Word};
        match self.text_of(&piece[0]) {
            "use" => self.form(piece, &[Str("the path")], "use \"path\""),
            "var" => self.variable(piece),
            "secret" => self.secret(piece),
            "profile" => {
                self.form(piece, &[Name("the name of the profile"), Block], "profile NAME { var = value }");
                self.inside(piece, Self::settings);
            }
            word @ ("connection" | "catalog") => {
                let mut wants = vec![Name("the name"), Name("the type")];
                wants.extend(piece.iter().any(|token| token.is('{')).then_some(Block));
                self.form(piece, &wants, &format!("{word} NAME TYPE {{ name = value }}"));
                self.inside(piece, Self::settings);
            }
            "lifecycle" => {
                let shape = "lifecycle NAME { expire after 2y }";
                self.form(piece, &[Name("the name of the lifecycle"), Block], shape);
                self.inside(piece, Self::age_rules);
            }
            "pipeline" => {
                self.form(piece, &[Name("the name of the pipeline"), Block], "pipeline NAME { … }");
                self.inside(piece, Self::stages);
            }
            "test" => {
                let wants = [Str("the title"), Word("of"), Name("the name of the pipeline"), Block];
                self.form(piece, &wants, "test \"title\" of PIPELINE { … }");
                self.inside(piece, Self::test_parts);
            }
            _ => {
                let mut diagnostic = self.unknown_word(Place::Definition, &piece[0]);
                if piece[0].is(';') {
                    diagnostic = self.too_much(&piece[0], piece);
                }
                if Sign(';').is_first(piece) || !self.has_mistake(&range(&piece[..1])) {
                    self.refuse_word(piece, diagnostic);
                }
            }
        }
    }

    /// Compares what stands before the block of a piece with its form.
    fn form(&mut self, piece: &[Token], wants: &[Want], shape: &str) {
        let Some(diagnostic) = self.compare(piece, wants, shape) else {
            return;
        };
        let brace = pieces::block(piece).map_or(piece.len(), |(open, _)| open);
        if !self.has_mistake(&range(&piece[..brace])) {
            self.told.push(diagnostic);
        }
        self.bad.push(range(piece));
    }

    fn inside(&mut self, piece: &[Token], each: impl FnOnce(&mut Self, &[Token])) {
        if let Some((open, close)) = pieces::block(piece) {
            each(self, &piece[open + 1..close]);
        }
    }

    fn variable(&mut self, piece: &[Token]) {
        let shape = "var NAME: type = default";
        let wants = [Want::Name("the name of the variable"), Want::Sign(':')];
        let head = &piece[..piece.len().min(3)];
        let mut mistake = self.compare(head, &wants, shape);
        if mistake.is_none() {
            mistake = match (piece.get(3), piece.get(4)) {
                (None, _) => Some(self.missing(piece, 3, "the type is missing").help(shape)),
                (Some(ty), _) if !crate::ast::VarType::WORDS.contains(&self.text_of(ty)) => {
                    Some(self.unknown_type(ty).help(shape))
                }
                (Some(_), Some(sign)) if sign.is('=') => Some(self.explain_setting(&piece[3..])),
                (Some(_), Some(extra)) => Some(self.too_much(extra, piece).help(shape)),
                (Some(_), None) => None,
            };
        }
        self.refuse(piece, |this| mistake.unwrap_or_else(|| this.missing(piece, piece.len(), "").help(shape)));
    }

    fn secret(&mut self, piece: &[Token]) {
        let shape = "secret NAME = env(\"NAME\"), file(\"path\"), or vault(\"path\")";
        let wants = [Want::Name("the name of the secret"), Want::Sign('=')];
        let head = &piece[..piece.len().min(3)];
        let mistake = self.compare(head, &wants, shape);
        self.refuse(piece, |this| {
            mistake.unwrap_or_else(|| match piece.get(3) {
                Some(value) if value.kind != Kind::Word => {
                    Diagnostic::error("E0114", "a secret is not written into a file")
                        .primary(this.file, value.span(), "say where it comes from")
                        .help(shape)
                }
                _ => this.missing(piece, 3, "where it comes from is missing").help(shape),
            })
        });
    }

    fn age_rules(&mut self, inside: &[Token]) {
        use Want::{Block, Duration, Name, Path, Word};
        for piece in pieces::parts(self.text, inside) {
            if self.parses(Rule::one_rule, piece) {
                continue;
            }
            let block = piece.iter().any(|token| token.is('{'));
            let (mut wants, shape) = match self.text_of(&piece[0]) {
                "transition" => (
                    vec![Word("to"), Name("the storage class"), Word("after"), Duration],
                    "transition to CLASS after 30d",
                ),
                "expire" => (vec![Word("after"), Duration], "expire after 2y"),
                "vacuum" => (vec![Word("after"), Duration], "vacuum after 14d"),
                "replicate" => (vec![Word("to"), Path("the connection")], "replicate to CONNECTION"),
                _ => {
                    let diagnostic = self.unknown_word(Place::AgeRule, &piece[0]);
                    self.refuse_word(piece, diagnostic);
                    continue;
                }
            };
            wants.extend(block.then_some(Block));
            self.leaf(piece, &wants, shape);
            if block {
                self.inside(piece, Self::settings);
            }
        }
    }

    /// A part without parts of its own (besides settings): tells what is wrong in its form.
    fn leaf(&mut self, piece: &[Token], wants: &[Want], shape: &str) {
        let mistake = self.compare(piece, wants, shape);
        let has_settings = piece.iter().any(|token| token.is('{'));
        if mistake.is_none() && has_settings {
            return;
        }
        self.refuse(piece, |this| mistake.unwrap_or_else(|| this.missing(piece, piece.len(), "").help(shape)));
    }

    fn stages(&mut self, inside: &[Token]) {
        let mut seen_stage = false;
        for piece in pieces::parts(self.text, inside) {
            let word = self.text_of(&piece[0]);
            let is_setting = piece.get(1).is_some_and(|next| next.is('='));
            if !is_setting || STAGE_WORDS.contains(&word) {
                seen_stage = true;
                if !self.parses(Rule::one_stage, piece) {
                    self.explain_stage(piece);
                }
            } else if !self.parses(Rule::one_setting, piece) {
                self.refuse(piece, |this| this.explain_setting(piece));
            } else if seen_stage {
                self.refuse(piece, |this| {
                    Diagnostic::error("E0113", "the settings of a pipeline stand before its first stage")
                        .primary(this.file, piece[0].span(), "move it up")
                        .help("or put it into the braces of a stage")
                });
            }
        }
    }

    fn explain_stage(&mut self, piece: &[Token]) {
        use Want::{Block, Name, Sign};
        let named = piece.get(2).is_some_and(|sign| sign.is('='));
        let mut wants = match named {
            true => vec![Name("the name of the node"), Sign('='), CONNECTION],
            false => vec![CONNECTION],
        };
        let word = self.text_of(&piece[0]);
        let shape = match word {
            "source" => "source [NAME =] CONNECTION { name = value }",
            "sink" => {
                self.add_from(piece, &mut wants);
                "sink [NAME =] CONNECTION [from NODE] { name = value }"
            }
            "dead_letter" => "dead_letter CONNECTION { name = value }",
            "alert" => "alert CONNECTION { name = value }",
            "retry" => {
                wants.clear();
                "retry { name = value }"
            }
            "trigger" => return self.trigger(piece),
            "transform" => return self.transform(piece),
            "route" => return self.route(piece),
            _ => {
                let diagnostic = match piece[0].is(';') {
                    true => self.too_much(&piece[0], piece),
                    false => self.unknown_word(Place::Stage, &piece[0]),
                };
                return self.refuse_word(piece, diagnostic);
            }
        };
        wants.push(Block);
        let before = self.told.len();
        self.form(piece, &wants, shape);
        if self.told.len() == before {
            self.bad.retain(|bad| bad.start != piece[0].start);
        }
        self.inside(piece, Self::settings);
    }

    /// Adds `from A, B` to what is wanted, if it is there.
    fn add_from(&self, piece: &[Token], wants: &mut Vec<Want>) {
        let node = Want::Path("the name of a node");
        let Some(from) = piece.iter().position(|token| self.is_word(Some(token), "from")) else {
            return;
        };
        wants.extend([Want::Word("from"), node]);
        let mut at = path_end(piece, from + 1);
        while piece.get(at).is_some_and(|token| token.is(',')) {
            wants.extend([Want::Sign(','), node]);
            at = path_end(piece, at + 1);
        }
    }

    fn trigger(&mut self, piece: &[Token]) {
        use Want::{Block, Duration, OneOf, Path, Sign, Sql, Str, Word};
        let mut wants = vec![OneOf("an occasion to run", &TRIGGER_WORDS)];
        let shape = match piece.get(1).map_or("", |token| self.text_of(token)) {
            "cron" => {
                wants.push(Str("the schedule"));
                "trigger cron \"30 2 * * *\""
            }
            "every" => {
                wants.push(Duration);
                "trigger every 5m"
            }
            "event" => {
                wants.push(Str("the type of the event"));
                if piece.iter().any(|token| self.is_word(Some(token), "when")) {
                    wants.extend([Word("when"), Sql]);
                }
                "trigger event \"order.*\" when { … }"
            }
            "after" => {
                let pipeline = Path("the name of a pipeline");
                wants.push(pipeline);
                let mut at = path_end(piece, 2);
                while piece.get(at).is_some_and(|token| token.is(',')) {
                    wants.extend([Sign(','), pipeline]);
                    at = path_end(piece, at + 1);
                }
                if piece.get(at).is_some_and(|token| token.kind == Kind::Word) {
                    wants.push(OneOf("an outcome of a run", &["succeeded", "failed", "finished"]));
                }
                "trigger after PIPELINE succeeded"
            }
            _ => "trigger continuous, cron \"…\", every 5m, arrival, event \"…\", after PIPELINE, or manual",
        };
        wants.extend(piece.iter().any(|token| token.is('{')).then_some(Block));
        self.leaf(piece, &wants, shape);
        self.inside(piece, Self::settings);
    }

    fn transform(&mut self, piece: &[Token]) {
        let mut wants = Vec::new();
        let target = piece.get(1).is_some_and(|token| token.kind == Kind::Word);
        if target && !self.is_word(piece.get(1), "from") {
            wants.push(Want::Path("the name of the transform"));
        }
        let head = &piece[..pieces::block(piece).map_or(piece.len(), |(open, _)| open)];
        self.add_from(head, &mut wants);
        wants.push(Want::Block);
        self.form(piece, &wants, "transform [NAME] [from NODE] { … }");
        self.inside(piece, Self::steps);
    }

    fn route(&mut self, piece: &[Token]) {
        let shape = "route [from NODE] { NAME when { … } else NAME }";
        let mut wants = Vec::new();
        let head = &piece[..pieces::block(piece).map_or(piece.len(), |(open, _)| open)];
        self.add_from(head, &mut wants);
        wants.push(Want::Block);
        let before = self.told.len();
        self.form(piece, &wants, shape);
        let Some((open, close)) = pieces::block(piece).filter(|_| self.told.len() == before) else {
            return;
        };
        let inside = &piece[open + 1..close];
        let otherwise = inside.iter().rposition(|token| self.is_word(Some(token), "else"));
        let (branches, rest) = inside.split_at(otherwise.unwrap_or(inside.len()));
        for branch in pieces::parts(self.text, branches) {
            if !self.parses(Rule::one_branch, branch) {
                let wants = [Want::Word("when"), Want::Sql];
                self.leaf(branch, &wants, "a branch is written `NAME when { … }`");
            }
        }
        if self.told.len() == before {
            self.refuse(piece, |this| match rest {
                [] => this
                    .missing(piece, close, "`else` is missing before this")
                    .help("every row goes somewhere: end with `else NAME` or `else dead_letter`"),
                _ => this
                    .compare(rest, &[Want::Name("the name of the last branch")], shape)
                    .unwrap_or_else(|| this.missing(piece, open, "a branch is missing").help(shape)),
            });
        } else {
            self.bad.push(range(piece));
        }
    }

    fn steps(&mut self, inside: &[Token]) {
        for piece in pieces::parts(self.text, inside) {
            if !self.parses(Rule::one_step, piece) {
                self.explain_step(piece);
            }
        }
    }

    fn explain_step(&mut self, piece: &[Token]) {
        use Want::{Block, Duration, Name, OneOf, Path, Sql, Word};
        let has = |word: &str| piece.iter().any(|token| self.is_word(Some(token), word));
        let optional = |word: &'static str, want: Want| {
            if has(word) { vec![Word(word), want] } else { Vec::new() }
        };
        let word = self.text_of(&piece[0]);
        let (wants, shape) = match word {
            "where" | "derive" | "select" | "sql" => (vec![Sql], format!("{word} {{ … }}")),
            "union" => (Vec::new(), "union".to_string()),
            "drop" if has("if") => (vec![Word("if"), Word("exists"), Sql], "drop if exists { a, b }".into()),
            "drop" => (vec![Sql], "drop { a, b }".into()),
            "dedupe" => {
                ([vec![Word("by"), Sql], optional("within", Duration)].concat(), "dedupe by { key } within 1h".into())
            }
            "aggregate" => (
                [vec![Sql, Word("by"), Sql], optional("emit", Block), optional("keep", Block)].concat(),
                "aggregate { count(*) as n } by { key }".into(),
            ),
            "join" | "left" | "inner" => {
                let side = if word == "join" { Vec::new() } else { vec![Word("join")] };
                let of = if has("of") { vec![Word("as"), Word("of"), Path("the column of time")] } else { Vec::new() };
                let wants =
                    [side, vec![Path("the node joined")], of, optional("within", Duration), vec![Word("on"), Sql]];
                (wants.concat(), "join NODE on { a.id = b.id }".into())
            }
            "expect" => {
                let name = piece.get(1).filter(|token| token.kind == Kind::Word);
                let name = name.map(|_| Name("the name of the rule"));
                let action = [Sql, Word("else"), OneOf("what is done with a bad row", &ACTION_WORDS)];
                (name.into_iter().chain(action).collect(), "expect NAME { … } else dead_letter".into())
            }
            _ => return self.not_a_step(piece),
        };
        let mistake = self.compare(piece, &wants, &shape);
        self.refuse(piece, |this| mistake.unwrap_or_else(|| this.missing(piece, piece.len(), "").help(shape)));
    }

    fn not_a_step(&mut self, piece: &[Token]) {
        let word = self.text_of(&piece[0]);
        let known = STEP_WORDS.contains(&word) || STAGE_WORDS.contains(&word);
        let diagnostic = if piece[0].is(';') {
            self.too_much(&piece[0], piece)
        } else if !known && piece.get(1).is_some_and(|next| next.is('=')) {
            Diagnostic::error("E0113", format!("`{word} = …` is a setting, and a transform has steps"))
                .primary(self.file, piece[0].span(), "not here")
                .note(format!("steps are: {}", STEP_WORDS.join(", ")))
                .help(format!(
                    "settings stand in a source or a sink; a column is computed by `derive {{ … as {word} }}`"
                ))
        } else {
            self.unknown_word(Place::Step, &piece[0])
        };
        self.refuse_word(piece, diagnostic);
    }

    fn test_parts(&mut self, inside: &[Token]) {
        use Want::{Block, Path, Sign, Str, Word};
        for piece in pieces::parts(self.text, inside) {
            if self.parses(Rule::one_test_part, piece) {
                continue;
            }
            let word = self.text_of(&piece[0]);
            if !matches!(word, "given" | "then") {
                if piece.get(1).is_some_and(|next| next.is('=')) {
                    self.refuse(piece, |this| this.explain_setting(piece));
                } else {
                    let diagnostic = self.unknown_word(Place::TestPart, &piece[0]);
                    self.refuse_word(piece, diagnostic);
                }
                continue;
            }
            let node = Path("the name of a source or sink");
            let behind = path_end(piece, 1);
            let wants = match piece.get(behind) {
                Some(sign) if sign.is('=') => vec![node, Sign('='), Str("the path of a file")],
                Some(token) if self.is_word(Some(token), "empty") && word == "then" => {
                    vec![node, Word("empty")]
                }
                _ => vec![node, Block],
            };
            let shape = format!("{word} NODE {{ | column | … }}");
            let mistake = self.compare(piece, &wants, &shape);
            self.refuse(piece, |this| {
                mistake.unwrap_or_else(|| {
                    this.missing(piece, piece.len(), "a table has a row of column names").help(shape)
                })
            });
        }
    }
}

impl Want {
    fn is_first(self, piece: &[Token]) -> bool {
        matches!(self, Want::Sign(sign) if piece[0].is(sign))
    }
}
