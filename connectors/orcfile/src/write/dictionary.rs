//! The distinct texts of a stripe, found by a table of our own: a `HashMap` would hold every text twice.

use std::hash::{BuildHasher, RandomState};

/// Texts one after another, each found by its bytes.
pub(super) struct Dictionary {
    pub(super) bytes: Vec<u8>,
    /// Where each text ends.
    ends: Vec<usize>,
    /// Numbers of texts, one more than they are; zero is a free place. A power of two, at most half full.
    places: Vec<u32>,
    secret: Secret,
}

/// A hash keyed by chance, so that nobody can send texts that all fall into one place. Multiply and fold, eight bytes
/// at a time: the standard library's own takes half of the time that a short text costs.
struct Secret {
    seed: u64,
    factor: u64,
}

impl Secret {
    fn new() -> Self {
        let state = RandomState::new();
        Self { seed: state.hash_one(0), factor: state.hash_one(1) | 1 }
    }

    fn hash(&self, text: &[u8]) -> usize {
        let fold = |mixed: u64| {
            let wide = u128::from(mixed) * u128::from(self.factor);
            wide as u64 ^ (wide >> 64) as u64
        };
        let (words, tail) = text.as_chunks::<8>();
        let hash = words.iter().fold(self.seed, |hash, word| fold(hash ^ u64::from_le_bytes(*word)));
        let tail = tail.iter().fold(text.len() as u64, |word, &byte| word << 8 | u64::from(byte));
        fold(fold(hash ^ tail)) as usize
    }
}

impl Dictionary {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), ends: Vec::new(), places: vec![0; 64], secret: Secret::new() }
    }

    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn text(&self, number: usize) -> &[u8] {
        let start = number.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(number).copied().unwrap_or(start);
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// Returns the number of `text`, a new one when it was not seen.
    pub(super) fn number(&mut self, text: &[u8]) -> u32 {
        if self.ends.len() * 2 >= self.places.len() {
            self.grow();
        }
        let mask = self.places.len() - 1;
        let mut at = self.secret.hash(text) & mask;
        loop {
            match self.places.get(at).copied().unwrap_or(0) {
                0 => break,
                taken if self.text(taken as usize - 1) == text => return taken - 1,
                _ => at = (at + 1) & mask,
            }
        }
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
        let number = self.ends.len() as u32;
        if let Some(place) = self.places.get_mut(at) {
            *place = number;
        }
        number - 1
    }

    fn grow(&mut self) {
        let mask = self.places.len() * 2 - 1;
        let mut places = vec![0; mask + 1];
        for number in 0..self.ends.len() {
            let mut at = self.secret.hash(self.text(number)) & mask;
            while places.get(at).is_some_and(|&taken| taken != 0) {
                at = (at + 1) & mask;
            }
            if let Some(place) = places.get_mut(at) {
                *place = number as u32 + 1;
            }
        }
        self.places = places;
    }

    pub(super) fn lengths(&self) -> impl Iterator<Item = i64> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        self.ends.iter().zip(starts).map(|(end, start)| (end - start) as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    #[test]
    fn equal_texts_have_one_number_and_others_have_their_own() {
        let mut dice = Dice::new(5);
        let mut dictionary = Dictionary::new();
        let mut seen = std::collections::HashMap::new();
        for _ in 0..20_000 {
            let text = format!("{}", dice.below(3000));
            let number = dictionary.number(text.as_bytes());
            assert_eq!(*seen.entry(text.clone()).or_insert(number), number);
            assert_eq!(dictionary.text(number as usize), text.as_bytes());
        }
        assert_eq!(dictionary.count(), seen.len());
        assert_eq!(dictionary.number(b""), dictionary.number(b""));
        assert_eq!(dictionary.lengths().last(), Some(0));
    }
}
