//! Tests over whole files: the acceptance set, mutations of it, and hostile texts.

use std::path::{Path, PathBuf};

use lakehead_syntax::{Severity, SourceMap, ast, format, parse, render_text};

fn acceptance_files() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/acceptance");
    let mut files = Vec::new();
    for folder in [root.clone(), root.join("shared")] {
        for entry in std::fs::read_dir(folder).expect("the acceptance files are here") {
            let path = entry.expect("a readable folder").path();
            if path.extension().is_some_and(|ext| ext == "lake") {
                let text = std::fs::read_to_string(&path).expect("a text file");
                files.push((path, text));
            }
        }
    }
    files.sort();
    assert!(files.len() >= 14);
    files
}

#[test]
fn every_acceptance_file_parses() {
    for (path, text) in acceptance_files() {
        let (file, diagnostics) = lakehead_syntax::parse(&text);
        assert!(diagnostics.is_empty(), "{path:?}: {diagnostics:?}");
        assert!(!file.items.is_empty());
    }
}

#[test]
fn every_acceptance_file_formats_to_itself() {
    for (path, text) in acceptance_files() {
        let formatted = lakehead_syntax::format(&text).unwrap();
        for (at, (ours, theirs)) in formatted.lines().zip(text.lines()).enumerate() {
            assert_eq!(ours, theirs, "{}:{}", path.display(), at + 1);
        }
        assert_eq!(formatted, text, "{}", path.display());
    }
}

const BAD: &str = include_str!("acceptance/bad/bad.lake");

#[test]
fn the_six_mistakes_are_told_in_one_run() {
    let (file, diagnostics) = parse(BAD);
    let map = SourceMap::single("bad.lake", BAD);
    let expected = "error[E0101]: `conection` is not a definition
  ┌─ bad.lake:1:1
  │
 1│ conection shop postgres { host = \"x\" }
  │ ^^^^^^^^^ did you mean `connection`?
  │
  = definitions are: use, var, profile, secret, connection, catalog, lifecycle, pipeline, test

error[E0103]: `triger` is not a stage
  ┌─ bad.lake:4:3
  │
 4│   triger continuous
  │   ^^^^^^ did you mean `trigger`?
  │
  = stages are: trigger, source, transform, route, sink, dead_letter, retry, alert

error[E0104]: there is no `=` behind `format`
  ┌─ bad.lake:5:40
  │
 5│   source clicks = events { topic = \"a\" format json }
  │                                        ^^^^^^^^^^^ write `format = json`
  │
  = help: a setting is written `name = value`

error[E0102]: `derve` is not a step
  ┌─ bad.lake:8:5
  │
 8│     derve { lower(x) as x }
  │     ^^^^^ did you mean `derive`?
  │
  = steps are: where, derive, select, drop, aggregate, join, dedupe, union, expect, sql

error[E0109]: this row is not closed
  ┌─ bad.lake:14:18
  │
14│   given clicks { | a | b
  │                  ^^^^^^^ a row begins and ends with `|`
  │
  = help: write `| a | b |`

error[E0105]: `30 days` is not a duration
  ┌─ bad.lake:18:40
  │
18│ lifecycle l { transition to cold after 30 days }
  │                                        ^^^^^^^ write `30d`
  │
  = help: units are ms, s, m, h, d, w, y; they can be joined: 1h30m
";
    let text = render_text(&diagnostics, &map, false);
    assert_eq!(text, expected, "\n{text}");
    // What is good stays: the source without its bad setting, the transform without its bad step.
    let Some(ast::Item::Pipeline(pipeline)) = file.items.first() else { panic!("{file:?}") };
    let stages: Vec<&str> = pipeline.stages.iter().map(|stage| &BAD[stage.span().range()][..6]).collect();
    assert_eq!(stages, ["source", "transf", "sink l"]);
}

/// One wrong text, and the whole message it must give.
#[track_caller]
fn check(text: &str, expected: &str) {
    let (_, diagnostics) = parse(text);
    let rendered = render_text(&diagnostics, &SourceMap::single("x.lake", text), false);
    assert_eq!(rendered, expected, "\n{rendered}");
}

#[test]
fn a_missing_brace_is_told_where_it_was_opened() {
    check(
        "pipeline p {
  source lake {
    a = 1
  transform { where { x } }
  sink lake { }
}

pipeline q { sink lake { } }
",
        "error[E0107]: this `{` is not closed
  ┌─ x.lake:2:15
  │
 2│   source lake {
  │               ^ its `}` is missing
  ┌─ x.lake:8:1
 8│ pipeline q { sink lake { } }
  │ -------- the next definition begins here
  │
  = help: add `}` where the block ends
",
    );
}

#[test]
fn a_string_ends_in_its_line() {
    check(
        "connection a files { path = \"abc\n}",
        "error[E0108]: this string is not closed
  ┌─ x.lake:1:29
  │
 1│ connection a files { path = \"abc
  │                             ^^^^ its closing quote is missing
  │
  = help: a string ends in its line; a line end within it is written `\\n`
",
    );
}

#[test]
fn a_colon_and_a_unit_are_told_with_their_cure() {
    check(
        "connection a files { path: \"x\", age = 5min, room = 64 mb }",
        "error[E0104]: a setting is written with `=`
  ┌─ x.lake:1:26
  │
 1│ connection a files { path: \"x\", age = 5min, room = 64 mb }
  │                          ^ write `=`

error[E0105]: `5min` is not a duration
  ┌─ x.lake:1:39
  │
 1│ connection a files { path: \"x\", age = 5min, room = 64 mb }
  │                                       ^^^^ write `5m`
  │
  = help: units are ms, s, m, h, d, w, y; they can be joined: 1h30m

error[E0105]: `64 mb` is not a size
  ┌─ x.lake:1:52
  │
 1│ connection a files { path: \"x\", age = 5min, room = 64 mb }
  │                                                    ^^^^^ write `64MB`
  │
  = help: units are B, KB, MB, GB, TB
",
    );
}

#[test]
fn a_step_outside_of_a_transform_is_told_its_place() {
    check(
        "pipeline p { where { x } }",
        "error[E0113]: `where` is a step, and steps stand in a transform
  ┌─ x.lake:1:14
  │
 1│ pipeline p { where { x } }
  │              ^^^^^ not here
  │
  = help: transform { where … }
",
    );
}

#[test]
fn settings_in_a_step_are_told_from_sql() {
    check(
        "pipeline p { transform { where { a = b, c = d } } }",
        "error[E0110]: this brace of `where` holds SQL, not settings
  ┌─ x.lake:1:33
  │
 1│ pipeline p { transform { where { a = b, c = d } } }
  │                                 ^^^^^^^^^^^^^^ `name = value` is a setting
  │
  = settings go in the braces of the source or the sink
  = help: conditions are joined by `and`
",
    );
}

#[test]
fn a_doc_comment_above_nothing_is_a_warning() {
    check(
        "pipeline p {\n  ## lost\n\n  sink a { }\n}",
        "warning[W0106]: this doc comment describes nothing
  ┌─ x.lake:2:3
  │
 2│   ## lost
  │   ^^^^^^^ no block begins on the next line
  │
  = a `##` comment stands right above the definition or stage it describes
  = help: write a plain comment with one `#`
",
    );
}

#[test]
fn an_unclosed_quote_in_sql_is_told_where_it_opens() {
    check(
        "pipeline p { transform {\n where { a = 'b }\n where { c = 'd' }\n} }",
        "error[E0112]: this text is not closed
  ┌─ x.lake:2:14
  │
 2│  where { a = 'b }
  │              ^ opened here
  │
  = help: close it with the same quote; within a text it is written twice: 'it''s'
",
    );
}

#[test]
fn spans_and_islands_are_exact() {
    let text = "pipeline p {\n  transform t {   where { a > 'é' } # c\n  }   # d\n\n}\n";
    let (file, _) = parse(text);
    let ast::Item::Pipeline(pipeline) = &file.items[0] else { panic!() };
    assert_eq!(&text[pipeline.span.range()], text.trim_end());
    let ast::Stage::Transform(transform) = &pipeline.stages[0] else { panic!() };
    assert!(text[transform.span.range()].ends_with("# c\n  }"));
    let ast::StepKind::Where(sql) = &transform.steps[0].kind else { panic!() };
    assert_eq!(sql.text, " a > 'é' ");
    assert_eq!(&text[sql.span.range()], sql.text);
    assert!(text[transform.steps[0].span.range()].ends_with('}'));
}

#[test]
fn cells_know_null_from_empty_text() {
    let text = "test \"t\" of p { given a { | x | y | z |\n | | \"\" | a\\|b |\n } }";
    let (file, diagnostics) = parse(text);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let ast::Item::Test(test) = &file.items[0] else { panic!() };
    let ast::TestRows::Table { rows, .. } = &test.tables[0].rows else { panic!() };
    let values: Vec<Option<&str>> = rows[0].cells.iter().map(|cell| cell.value.as_deref()).collect();
    assert_eq!(values, [None, Some(""), Some("a|b")]);
}

#[test]
fn docs_reach_their_blocks() {
    let text = "## One.\n## Two.\npipeline p {\n  ## Three.\n  sink a { }\n}\n";
    let (file, diagnostics) = parse(text);
    assert!(diagnostics.is_empty());
    assert_eq!(file.items[0].doc(), Some("One.\nTwo."));
    let ast::Item::Pipeline(pipeline) = &file.items[0] else { panic!() };
    assert_eq!(pipeline.stages[0].doc(), Some("Three."));
}

#[test]
fn hostile_texts_are_answered() {
    let pieces = [
        "{",
        "}",
        "[{(",
        "where{'",
        "where{$a$}",
        "where { /*",
        "'",
        "«",
        "\"",
        "\"${",
        "|",
        "|\n",
        "a ",
        "a\n",
        "a",
        "1h",
        "a = ",
        "sink ",
        "pipeline p {\n",
        "pipeline p { snik a { } }\n",
        "x = {",
        "f(",
        "\\q",
        "## a\n",
        "where { a } ",
        "\0",
        "é ",
        "a.",
        "where { ' }\n",
        "connection a b { x = 5 min, y z }\n",
        "left join ",
    ];
    for piece in pieces {
        for head in
            ["", "pipeline p { transform { ", "connection a b { x = ", "test \"t\" of p { given a {\n", "use \""]
        {
            let text = format!("{head}{}", piece.repeat(60_000 / piece.len()));
            let (_, diagnostics) = parse(&text);
            let _ = format(&text);
            assert!(diagnostics.len() <= 1_001, "{piece:?}");
        }
    }
    let (_, diagnostics) = parse(&" ".repeat((1 << 20) + 1));
    assert_eq!(diagnostics[0].code, "E0111");
}

/// A small generator of numbers, so that a failing run can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides.max(1) as u64) as usize
    }
}

/// Takes out, doubles, swaps and puts in pieces of a text.
fn mutate(text: &str, other: &str, dice: &mut Dice) -> String {
    let signs = [
        "{", "}", "\"", "'", "|", "$", "${", "/*", "*/", "--", "#", "##", "\n", "=", ",", ";", ":", "é", "\\", "(",
        "]", "\r", "5 min", "$$",
    ];
    let mut chars: Vec<char> = text.chars().collect();
    let other: Vec<char> = other.chars().collect();
    for _ in 0..1 + dice.roll(6) {
        let at = dice.roll(chars.len() + 1);
        let length = dice.roll(12).min(chars.len() - at);
        match dice.roll(5) {
            0 => drop(chars.drain(at..at + length)),
            1 => {
                let copy = chars[at..at + length].to_vec();
                let to = dice.roll(chars.len() + 1);
                chars.splice(to..to, copy);
            }
            2 => {
                let from = dice.roll(other.len());
                let to = (from + dice.roll(60)).min(other.len());
                chars.splice(at..at, other[from..to].to_vec());
            }
            3 => chars.truncate(chars.len() - dice.roll(chars.len() / 4 + 1)),
            _ => drop(chars.splice(at..at, signs[dice.roll(signs.len())].chars())),
        }
    }
    chars.into_iter().collect()
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a test that runs for some seconds reads the clock and its length")]
fn mutated_files_never_break_the_parser_or_the_formatter() {
    let seconds = std::env::var("LAKEHEAD_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let time = std::time::Duration::from_secs(seconds.unwrap_or(2));
    let seed = std::env::var("LAKEHEAD_FUZZ_SEED").ok().and_then(|text| text.parse().ok());
    let start = std::time::Instant::now();
    let files = acceptance_files();
    let mut dice = Dice(seed.unwrap_or(0x2545_F491_4F6C_DD1D));
    let mut text = BAD.to_string();
    while start.elapsed() < time {
        if dice.roll(4) == 0 || text.len() > 20_000 {
            text.clone_from(&files[dice.roll(files.len())].1);
        }
        let state = dice.0;
        text = mutate(&text, &files[dice.roll(files.len())].1, &mut dice);
        let (file, diagnostics) = parse(&text);
        let map = SourceMap::single("x.lake", text.clone());
        let _ = render_text(&diagnostics, &map, false);
        let errors = diagnostics.iter().filter(|one| one.severity == Severity::Error).count();
        match format(&text) {
            Err(told) => assert_eq!(told.len(), diagnostics.len()),
            Ok(formatted) => {
                assert_eq!(errors, 0);
                let (again, _) = parse(&formatted);
                assert_eq!(file.without_spans(), again.without_spans(), "state {state}\n{text}\n-----\n{formatted}");
                assert_eq!(format(&formatted).as_ref(), Ok(&formatted), "state {state}\n{text}");
            }
        }
    }
}
