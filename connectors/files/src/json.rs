//! The values of one JSON array, one at a time.

use serde_json::Value;

/// Walks over the values of an array in a text that is handed in again at each step.
#[derive(Debug, Default)]
pub(crate) struct Values {
    at: usize,
    ended: bool,
    /// Line ends before `at`.
    line_ends: u64,
    /// The line on which the last value began.
    line: u64,
}

impl Values {
    /// Says what is wrong with the array, reading all of it.
    pub(crate) fn check(text: &str) -> Result<(), String> {
        let mut values = Self::default();
        loop {
            match values.step(text) {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(reason) => return Err(format!("{reason} at line {}", values.line_ends + 1)),
            }
        }
    }

    /// Returns where the walk stands.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Returns the number of the line on which the last value began.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// Returns the next value of an array that was checked.
    pub(crate) fn next(&mut self, text: &str) -> Option<Value> {
        self.step(text).ok().flatten()
    }

    fn step(&mut self, text: &str) -> Result<Option<Value>, String> {
        if self.ended {
            return Ok(None);
        }
        let first = self.line == 0;
        let found = self.skip_space(text);
        match found {
            Some(b'[') if first => self.pass(text, 1),
            Some(b',') if !first => self.pass(text, 1),
            Some(b']') if !first => return self.end(text),
            _ => return Err("its JSON array is broken".into()),
        }
        if self.skip_space(text) == Some(b']') {
            if first {
                return self.end(text);
            }
            return Err("its JSON array is broken".into());
        }
        let mut values = serde_json::Deserializer::from_str(&text[self.at..]).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => {
                self.line = self.line_ends + 1;
                self.pass(text, values.byte_offset());
                Ok(Some(value))
            }
            _ => Err("its JSON array is broken".into()),
        }
    }

    fn end(&mut self, text: &str) -> Result<Option<Value>, String> {
        self.at += 1;
        self.ended = true;
        if text[self.at..].trim().is_empty() { Ok(None) } else { Err("something follows its JSON array".into()) }
    }

    fn pass(&mut self, text: &str, bytes: usize) {
        let passed = &text.as_bytes()[self.at..self.at + bytes];
        self.line_ends += passed.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.at += bytes;
    }

    fn skip_space(&mut self, text: &str) -> Option<u8> {
        let rest = &text.as_bytes()[self.at..];
        let space = rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.pass(text, space);
        text.as_bytes().get(self.at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_whole_or_refused() {
        for text in ["[]", " [ ] ", "[1]", "[1, {\"a\": [2]} , \"x\"]\n"] {
            Values::check(text).unwrap();
        }
        for text in ["[", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "[1] x", "[{]"] {
            assert!(Values::check(text).is_err(), "{text}");
        }
        assert!(Values::check("[1,\n2,\nx]").unwrap_err().contains("line 3"));
    }
}
