use super::format;

#[track_caller]
fn check(text: &str, expected: &str) {
    let formatted = format(text).unwrap();
    assert_eq!(formatted, expected, "\n{formatted}\n{expected}");
    assert_eq!(format(&formatted).unwrap(), expected, "formatted again");
}

#[test]
fn settings_are_aligned_and_comments_stay() {
    check(
        "# top\nconnection a  files{path=\"x\" # p\n  region = \"y\"\n # last\n}",
        "# top\nconnection a files {\n  path   = \"x\"   # p\n  region = \"y\"\n  # last\n}\n",
    );
}

#[test]
fn more_than_four_settings_take_a_line_each() {
    check(
        "connection a b { a = 1, bb = 2, c = [1,2], d = {x=1}, e = f( 1 ) }",
        "connection a b {\n  a  = 1\n  bb = 2\n  c  = [1, 2]\n  d  = { x = 1 }\n  e  = f(1)\n}\n",
    );
}

#[test]
fn an_empty_file_stays_empty() {
    check("", "");
    check("\u{feff}\r\n", "");
    check("# a\r\n\r\n\r\n# b", "# a\n\n# b\n");
}

/// A small generator of numbers, so that every run is the same.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }
}

/// Writes the tokens of a text again, with other blanks and with comments between them.
fn scatter(text: &str, dice: &mut Dice, with_comments: bool) -> String {
    let tokens = crate::lex::lex(text, crate::FileId(0));
    let mut all = tokens.list.clone();
    all.extend(&tokens.comments);
    all.sort_by_key(|token| token.start);
    let (mut out, mut behind, mut doc) = (String::new(), 0, false);
    for token in &all {
        let word = token.text(text);
        let row = word.starts_with('|') || out.trim_end().ends_with('|');
        let comment = word.starts_with('#');
        if doc || token.start == behind && (token.is('.') || out.ends_with('.')) {
        } else if comment || row {
            out.push('\n');
        } else {
            match dice.roll(if with_comments { 9 } else { 8 }) {
                0..=3 => out.push(' '),
                4 => out.push('\t'),
                5 => out.push_str("\r\n   "),
                6 => out.push('\n'),
                7 => out.push_str("\n\n\n "),
                _ => {
                    let gap = ["\n", " "][dice.roll(2)];
                    out.push_str(&format!("{gap}# note {};\n", out.len()));
                }
            }
        }
        out.push_str(word);
        if comment {
            out.push('\n');
        }
        doc = word.starts_with("##");
        behind = token.end;
    }
    out
}

#[track_caller]
fn check_laws(name: &str, text: &str) {
    let (tree, _) = crate::parse(text);
    let formatted = format(text).unwrap_or_else(|errors| panic!("{name}: {errors:?}\n{text}"));
    let (again, diagnostics) = crate::parse(&formatted);
    assert!(!diagnostics.iter().any(crate::Diagnostic::is_error), "{name}\n{formatted}");
    assert_eq!(tree.without_spans(), again.without_spans(), "{name}\n{text}\n-----\n{formatted}");
    let twice = format(&formatted).unwrap();
    assert_eq!(formatted, twice, "{name}: formatted twice\n{text}");
    let comments = |text: &str| {
        let tokens = crate::lex::lex(text, crate::FileId(0));
        let comments = tokens.comments.iter();
        let mut words: Vec<String> = comments
            .flat_map(|comment| comment.text(text).split_whitespace().map(String::from).collect::<Vec<_>>())
            .collect();
        words.sort();
        words
    };
    assert_eq!(comments(text), comments(&formatted), "{name}\n{text}\n-----\n{formatted}");
}

fn acceptance_files() -> Vec<(String, String)> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/acceptance");
    let mut files = Vec::new();
    for folder in [root.clone(), root.join("shared")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "lake") {
                let text = std::fs::read_to_string(&path).unwrap();
                files.push((path.display().to_string(), text));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn scattered_files_keep_their_meaning_and_their_comments() {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    for (name, text) in acceptance_files() {
        check_laws(&name, &text);
        check_laws(&name, &text.replace('\n', "\r\n"));
        let (tree, _) = crate::parse(&text);
        for round in 0..24 {
            let scattered = scatter(&text, &mut dice, round % 2 == 1);
            check_laws(&format!("{name} round {round}"), &scattered);
            let (same, _) = crate::parse(&scattered);
            assert_eq!(tree.without_spans(), same.without_spans(), "{name}\n{scattered}");
        }
    }
}

#[test]
fn sql_over_several_lines_is_moved_but_not_changed() {
    check(
        "pipeline p { transform {\n  derive { a as b,\n           f(c,\n             d) as longer, -- why\n    'x\n  y }' as e }\n  expect n {\n a\n } else fail } }",
        "pipeline p {
  transform {
    derive {
      a as b,
             f(c,
               d) as longer, -- why
      'x
  y }' as e
    }
    expect n {
      a
    } else fail
  }
}
",
    );
}
