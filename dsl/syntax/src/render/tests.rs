use super::*;

const CLICKS: &str = "a\nb\n  source clicks = evnts {\n    derive { lower(status) as country }\n}\n";

fn span_of(text: &str, word: &str) -> Span {
    let start = text.find(word).unwrap();
    Span::new(start, start + word.len())
}

#[track_caller]
fn check(diagnostic: Diagnostic, files: &SourceMap, expected: &str) {
    let text = render_text(&[diagnostic], files, false);
    assert_eq!(text, expected, "\n{text}\n{expected}");
}

#[test]
fn labels_in_two_files_make_two_blocks() {
    let mut files = SourceMap::single("clicks.lake", CLICKS);
    let connections = format!("{}connection events kafka {{\n", "\n".repeat(34));
    let other = files.add("shared/connections.lake", connections.clone());
    let diagnostic = Diagnostic::error("E0201", "there is no connection `evnts`")
        .secondary(other, span_of(&connections, "events"), "defined here")
        .primary(FileId(0), span_of(CLICKS, "evnts"), "did you mean `events`?");
    check(
        diagnostic,
        &files,
        "error[E0201]: there is no connection `evnts`
  ┌─ clicks.lake:3:19
  │
 3│   source clicks = evnts {
  │                   ^^^^^ did you mean `events`?
  ┌─ shared/connections.lake:35:12
35│ connection events kafka {
  │            ------ defined here
",
    );
}

#[test]
fn labels_in_one_line_hang_below_each_other() {
    let files = SourceMap::single("clicks.lake", CLICKS);
    let diagnostic = Diagnostic::error("E0303", "`lower` needs text, and `status` is int")
        .primary(FileId(0), span_of(CLICKS, "status"), "int")
        .secondary(FileId(0), span_of(CLICKS, "lower"), "lower(text) -> text")
        .note("note: text is text")
        .help("cast(status as varchar)");
    check(
        diagnostic,
        &files,
        "error[E0303]: `lower` needs text, and `status` is int
  ┌─ clicks.lake:4:20
  │
 4│     derive { lower(status) as country }
  │              ----- ^^^^^^ int
  │              │
  │              lower(text) -> text
  │
  = help: cast(status as varchar)
  = note: text is text
",
    );
}

#[test]
fn neighbouring_lines_share_a_block() {
    let files = SourceMap::single("clicks.lake", CLICKS);
    let diagnostic = Diagnostic::warning("W0204", "say what is read")
        .primary(FileId(0), span_of(CLICKS, "derive"), "here")
        .secondary(FileId(0), span_of(CLICKS, "source"), "not this");
    check(
        diagnostic,
        &files,
        "warning[W0204]: say what is read
  ┌─ clicks.lake:4:5
  │
 3│   source clicks = evnts {
  │   ------ not this
 4│     derive { lower(status) as country }
  │     ^^^^^^ here
",
    );
}

#[test]
fn long_lines_are_cut_and_control_signs_are_not_sent_to_the_terminal() {
    let text = format!("{}\u{1b}[31m bad {}", "x ".repeat(500), "y ".repeat(100_000));
    let files = SourceMap::single("x.lake", text.clone());
    let diagnostic = Diagnostic::error("E0100", "no").primary(FileId(0), span_of(&text, "bad"), "");
    let rendered = render_text(&[diagnostic], &files, false);
    assert!(rendered.len() < 1_000, "{}", rendered.len());
    assert!(!rendered.contains('\u{1b}'));
    let lines: Vec<&str> = rendered.lines().collect();
    let caret = lines[4].chars().position(|c| c == '^').unwrap();
    let word: String = lines[3].chars().skip(caret).take(3).collect();
    assert_eq!(word, "bad");
}

#[test]
fn text_shows_a_hundred_and_json_all() {
    let files = SourceMap::single("x.lake", "ü x\n");
    let one = Diagnostic::error("E0100", "no").primary(FileId(0), Span::new(3, 4), "here").help("yes").fix(
        FileId(0),
        Span::new(3, 4),
        "y",
    );
    let many = vec![one; 103];
    let text = render_text(&many, &files, false);
    assert!(text.ends_with("\n… and 3 more; `--format json` has all\n"));
    let records = render_json(&many, &files);
    assert_eq!(records.as_array().unwrap().len(), 103);
    assert_eq!(
        records[0],
        json!({
            "code": "E0100", "severity": "error", "message": "no",
            "spans": [{ "file": "x.lake", "line": 1, "column": 3, "end_line": 1, "end_column": 4,
                        "primary": true, "label": "here" }],
            "notes": [], "help": ["yes"],
            "fixes": [{ "file": "x.lake", "line": 1, "column": 3, "end_line": 1, "end_column": 4,
                        "replacement": "y" }],
        })
    );
    let colored = render_text(&many[..1], &files, true);
    assert!(colored.starts_with("\u{1b}[1;31merror[E0100]\u{1b}[0m"));
}
