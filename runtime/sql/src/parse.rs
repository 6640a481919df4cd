//! A piece of SQL to a syntax tree, with every place in the file's own coordinates.

use datafusion::sql::sqlparser::ast::{self, SelectItem};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Token, Tokenizer};
use lakehead_plan::SqlText;
use lakehead_syntax::{Diagnostic, Span};

/// Depth of nested expressions; deeper text is refused before it can exhaust the stack.
const DEPTH_MAX: usize = 64;

/// Words that end an expression in SQL: as a bare column they are a slip, not a name.
const RESERVED: [&str; 14] = [
    "and", "or", "not", "from", "where", "group", "order", "having", "limit", "union", "select", "join", "then", "else",
];

/// Reads one expression; all of the text must be it.
pub(crate) fn expression(sql: &SqlText) -> Result<ast::Expr, Box<Diagnostic>> {
    read(sql, "an expression", |parser| parser.parse_expr())
}

/// Reads a select list; all of the text must be it.
pub(crate) fn select_list(sql: &SqlText) -> Result<Vec<SelectItem>, Box<Diagnostic>> {
    read(sql, "a list of columns", |parser| {
        let mut items = vec![parser.parse_select_item()?];
        while parser.consume_token(&Token::Comma) {
            // A comma at the end is no mistake: lines are added and removed.
            if parser.peek_token_ref().token == Token::EOF {
                break;
            }
            items.push(parser.parse_select_item()?);
        }
        Ok(items)
    })
}

/// Reads a whole query; all of the text must be it.
pub(crate) fn query(sql: &SqlText) -> Result<ast::Query, Box<Diagnostic>> {
    read(sql, "a select", |parser| parser.parse_query().map(|query| *query))
}

fn read<'a, T>(
    sql: &'a SqlText,
    what: &str,
    parse: impl FnOnce(&mut Parser<'a>) -> Result<T, ParserError>,
) -> Result<T, Box<Diagnostic>> {
    let dialect = GenericDialect {};
    if sql.text.trim().is_empty() {
        let message = format!("these braces hold nothing, and need {what}");
        return Err(Box::new(Diagnostic::error("E0319", message).primary(sql.file, sql.span, "empty")));
    }
    let tokens = Tokenizer::new(&dialect, &sql.text).tokenize_with_location().map_err(|error| {
        let at = offset(sql, error.location.line, error.location.column);
        Box::new(Diagnostic::error("E0320", "this is not SQL").primary(
            sql.file,
            Span { start: at, end: sql.span.end.min(at + 1) },
            plain(&error.message),
        ))
    })?;
    static DIALECT: GenericDialect = GenericDialect {};
    let mut parser = Parser::new(&DIALECT).with_recursion_limit(DEPTH_MAX).with_tokens_with_locations(tokens);
    let parsed = parse(&mut parser);
    let next = parser.peek_token();
    let place = token_span(sql, next.span.start, next.span.end);
    let parsed = parsed.map_err(|error| Box::new(syntax_error(sql, what, &error, place, &next.token)))?;
    if next.token != Token::EOF {
        return Err(Box::new(unexpected(sql, what, &next.token, place)));
    }
    Ok(parsed)
}

fn syntax_error(sql: &SqlText, what: &str, error: &ParserError, place: Span, next: &Token) -> Diagnostic {
    match error {
        ParserError::RecursionLimitExceeded => Diagnostic::error("E0321", "this SQL is nested too deeply")
            .primary(sql.file, sql.span, format!("more than {DEPTH_MAX} levels"))
            .help("compute parts of it in a `derive` before"),
        _ => unexpected(sql, what, next, place),
    }
}

fn unexpected(sql: &SqlText, what: &str, token: &Token, place: Span) -> Diagnostic {
    if *token == Token::EOF {
        let end = Span { start: sql.span.end.saturating_sub(1).max(sql.span.start), end: sql.span.end };
        return Diagnostic::error("E0320", format!("the SQL ends before {what} is whole")).primary(
            sql.file,
            end,
            "something is missing",
        );
    }
    let shown = token.to_string();
    let mut diagnostic = Diagnostic::error("E0320", format!("`{shown}` does not fit here")).primary(
        sql.file,
        place,
        format!("{what} ends before it"),
    );
    if *token == Token::Eq && what != "an expression" {
        diagnostic = diagnostic.help("settings go into the source or sink; here stands SQL:  expression as name");
    } else if *token == Token::SemiColon {
        diagnostic = diagnostic.help("no `;`: the brace ends the SQL");
    } else if matches!(token, Token::DoubleEq) {
        diagnostic = diagnostic.help("SQL compares with `=`");
    }
    diagnostic
}

/// Refuses a reserved word that the parser took for a column: `status < and 3`.
pub(crate) fn reserved_column(name: &str) -> bool {
    RESERVED.contains(&name)
}

/// Returns the file's bytes between two places of the text.
pub(crate) fn token_span(sql: &SqlText, start: Location, end: Location) -> Span {
    if start.line == 0 {
        return trimmed(sql);
    }
    let from = offset(sql, start.line, start.column);
    let to = offset(sql, end.line, end.column);
    Span { start: from, end: to.max(from) }
}

fn offset(sql: &SqlText, line: u64, column: u64) -> u32 {
    let mut at = 0;
    for _ in 1..line {
        match sql.text[at..].find('\n') {
            Some(found) => at += found + 1,
            None => break,
        }
    }
    let columns = usize::try_from(column.saturating_sub(1)).unwrap_or(0);
    let inside: usize = sql.text[at..].chars().take(columns).map(char::len_utf8).sum();
    sql.span.start + u32::try_from(at + inside).unwrap_or(0)
}

/// Returns the place of the text without the blanks around it.
pub(crate) fn trimmed(sql: &SqlText) -> Span {
    let before = sql.text.len() - sql.text.trim_start().len();
    let after = sql.text.len() - sql.text.trim_end().len();
    let start = sql.span.start + u32::try_from(before).unwrap_or(0);
    Span { start, end: (sql.span.end - u32::try_from(after).unwrap_or(0)).max(start) }
}

fn plain(message: &str) -> String {
    let mut text = message.trim_end_matches('.').to_owned();
    if let Some(first) = text.get_mut(0..1) {
        first.make_ascii_lowercase();
    }
    text
}
