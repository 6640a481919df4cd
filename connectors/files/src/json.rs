//! The values of one JSON array, one at a time.

use serde_json::Value;

const BROKEN: &str = "its JSON array is broken";

/// Walks over the values of an array in a text that is handed in again at each step; or in several texts, one behind the
/// other, each but the last cut behind a comma.
#[derive(Debug, Default)]
pub(crate) struct Values {
    at: usize,
    state: State,
    /// Line ends before `at`, those of the texts before counted.
    line_ends: u64,
    /// The line on which the last value began.
    line: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the array.
    #[default]
    Begin,
    /// Behind a comma.
    Comma,
    /// Behind a value.
    Value,
    /// Behind the array.
    End,
}

impl Values {
    /// Says what is wrong with a part of the array, reading all of it.
    pub(crate) fn check_block(&mut self, text: &str) -> Result<(), String> {
        self.at = 0;
        while self.step(text).map_err(|reason| format!("{reason} at line {}", self.line_ends + 1))?.is_some() {}
        Ok(())
    }

    /// Says whether the array lacks its end.
    pub(crate) fn check_end(&self) -> Result<(), String> {
        if self.state == State::End { Ok(()) } else { Err(format!("{BROKEN} at line {}", self.line_ends + 1)) }
    }

    /// Goes on with the next text.
    pub(crate) fn restart(&mut self) {
        self.at = 0;
    }

    /// Returns where the walk stands.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Returns the number of the line on which the last value began.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// Returns the next value of an array that was checked; `None` at the end of the text.
    pub(crate) fn next(&mut self, text: &str) -> Option<Value> {
        self.step(text).ok().flatten()
    }

    /// Returns the next value; `None` at the end of the text, the error says what is wrong with it.
    pub(crate) fn step(&mut self, text: &str) -> Result<Option<Value>, String> {
        loop {
            let state = self.state;
            match (state, self.skip_space(text)) {
                (_, None) => return Ok(None),
                (State::End, Some(_)) => return Err("something follows its JSON array".into()),
                (State::Value, Some(b']')) => self.pass(text, State::End),
                (State::Value, Some(b',')) => self.pass(text, State::Comma),
                (State::Begin, Some(b'[')) => {
                    self.pass(text, State::Comma);
                    if self.skip_space(text) == Some(b']') {
                        self.pass(text, State::End);
                    }
                }
                (State::Comma, Some(_)) => return self.value(text).map(Some),
                _ => return Err(BROKEN.into()),
            }
        }
    }

    fn value(&mut self, text: &str) -> Result<Value, String> {
        let mut values = serde_json::Deserializer::from_str(&text[self.at..]).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => {
                self.line = self.line_ends + 1;
                let end = self.at + values.byte_offset();
                self.go_to(text, end);
                self.state = State::Value;
                Ok(value)
            }
            _ => Err(BROKEN.into()),
        }
    }

    fn pass(&mut self, text: &str, state: State) {
        self.go_to(text, self.at + 1);
        self.state = state;
    }

    fn go_to(&mut self, text: &str, at: usize) {
        self.line_ends += memchr::memchr_iter(b'\n', &text.as_bytes()[self.at..at]).count() as u64;
        self.at = at;
    }

    fn skip_space(&mut self, text: &str) -> Option<u8> {
        let rest = &text.as_bytes()[self.at..];
        let space = rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.go_to(text, self.at + space);
        text.as_bytes().get(self.at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), String> {
        let mut values = Values::default();
        values.check_block(text)?;
        values.check_end()
    }

    #[test]
    fn an_array_is_whole_or_refused() {
        for text in ["[]", " [ ] ", "[1]", "[1, {\"a\": [2]} , \"x\"]\n"] {
            check(text).unwrap();
        }
        for text in ["", "[", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "[1] x", "[{]"] {
            assert!(check(text).is_err(), "{text}");
        }
        assert!(check("[1,\n2,\nx]").unwrap_err().contains("line 3"));
    }
}
