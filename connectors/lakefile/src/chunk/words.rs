//! The different values of one column, numbered in the order in which they came: its dictionary. Most are short, so that a value
//! is found by its own bytes, in two machine words.

use std::hash::{BuildHasher, RandomState};

/// Bytes of a value that two machine words hold.
const SHORT_BYTES: usize = 16;
/// Places for numbers at first.
const SLOTS_FIRST: usize = 1024;
/// Spreads lengths.
const ODD: u64 = 0x9E37_79B9_7F4A_7C15;

/// A dictionary under way.
#[derive(Debug)]
pub(super) struct Words {
    /// Nobody who writes the input knows these, so that nobody can choose values which all meet in one place.
    seeds: [u64; 2],
    /// The number of a word, counted from one, at the place that its bytes say or the next free one behind it.
    slots: Vec<u32>,
    words: Vec<Word>,
    /// The words as the dictionary's page holds them.
    page: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Word {
    /// The bytes of a short word; of a longer one, what they come to.
    low: u64,
    high: u64,
    /// Where its bytes are in the page.
    begin: u32,
    length: u32,
    /// The page of values that last held it.
    page: u32,
}

impl Words {
    pub(super) fn new() -> Self {
        let state = RandomState::new();
        let seeds = [state.hash_one(0_u8), state.hash_one(1_u8)];
        Self { seeds, slots: vec![0; SLOTS_FIRST], words: Vec::new(), page: Vec::new() }
    }

    /// Returns how many there are.
    pub(super) fn count(&self) -> usize {
        self.words.len()
    }

    /// Returns the dictionary's page.
    pub(super) fn page(&self) -> &[u8] {
        &self.page
    }

    /// Returns the bytes of memory that it takes.
    pub(super) fn memory(&self) -> usize {
        self.slots.capacity() * size_of::<u32>() + self.words.capacity() * size_of::<Word>() + self.page.capacity()
    }

    /// Returns the number of a text, and whether a page holds it for the first time.
    #[inline]
    pub(super) fn text(&mut self, text: &[u8], page: u32) -> (u32, bool) {
        let (low, high) = self.ends(text);
        let place = self.place(low, high, text);
        let number = match self.slots[place] {
            0 => {
                // No page holds as many bytes as would not fit.
                self.page.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
                self.add(place, (low, high), text)
            }
            number => number - 1,
        };
        let word = &mut self.words[number as usize];
        (number, std::mem::replace(&mut word.page, page) != page)
    }

    /// Returns the number of a value of one width, which these are the bytes of.
    #[inline]
    pub(super) fn fixed(&mut self, value: &[u8]) -> u32 {
        let (low, high) = self.ends(value);
        let place = self.place(low, high, value);
        match self.slots[place] {
            0 => self.add(place, (low, high), value),
            number => number - 1,
        }
    }

    /// Returns two machine words that a value comes to; where it is short, there is no other value of its length with these.
    #[inline]
    fn ends(&self, value: &[u8]) -> (u64, u64) {
        let four = |bytes: &[u8; 4]| u64::from(u32::from_le_bytes(*bytes));
        if value.len() > SHORT_BYTES {
            return (self.hash(value), 0);
        }
        if let (Some(first), Some(last)) = (value.first_chunk(), value.last_chunk()) {
            return (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
        }
        if let (Some(first), Some(last)) = (value.first_chunk(), value.last_chunk()) {
            return (four(first) | four(last) << 32, 0);
        }
        (value.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)), 0)
    }

    fn hash(&self, value: &[u8]) -> u64 {
        let (words, rest) = value.as_chunks::<8>();
        let last = value.last_chunk().filter(|_| !rest.is_empty());
        let words = words.iter().chain(last).map(|word| u64::from_le_bytes(*word));
        words.fold(self.seeds[1], |all, word| folded(all ^ word, self.seeds[0] ^ ODD))
    }

    #[inline]
    fn first_place(&self, low: u64, high: u64, length: usize) -> usize {
        folded(low ^ self.seeds[0], high ^ self.seeds[1] ^ (length as u64).wrapping_mul(ODD)) as usize
    }

    /// Returns where the number of a value is, or is to be.
    #[inline]
    fn place(&self, low: u64, high: u64, value: &[u8]) -> usize {
        let mask = self.slots.len() - 1;
        let mut place = self.first_place(low, high, value.len()) & mask;
        loop {
            let Some(number) = (self.slots[place] as usize).checked_sub(1) else { return place };
            let word = &self.words[number];
            let is_alike = word.low == low && word.high == high && word.length as usize == value.len();
            if is_alike && (value.len() <= SHORT_BYTES || self.bytes(word) == value) {
                return place;
            }
            place = (place + 1) & mask;
        }
    }

    fn bytes(&self, word: &Word) -> &[u8] {
        &self.page[word.begin as usize..][..word.length as usize]
    }

    #[cold]
    fn add(&mut self, place: usize, (low, high): (u64, u64), value: &[u8]) -> u32 {
        let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let number = size(self.words.len());
        self.words.push(Word { low, high, begin: size(self.page.len()), length: size(value.len()), page: u32::MAX });
        self.page.extend_from_slice(value);
        self.slots[place] = number + 1;
        if self.words.len() * 2 > self.slots.len() {
            self.grow();
        }
        number
    }

    fn grow(&mut self) {
        let mask = self.slots.len() * 2 - 1;
        let mut slots = vec![0; mask + 1];
        for (word, number) in self.words.iter().zip(1..) {
            let mut place = self.first_place(word.low, word.high, word.length as usize) & mask;
            while slots[place] != 0 {
                place = (place + 1) & mask;
            }
            slots[place] = number;
        }
        self.slots = slots;
    }
}

/// Multiplies to twice the width and folds the halves.
#[inline]
fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn every_text_has_the_number_of_its_first_coming() {
        let (mut words, mut known, mut page) = (Words::new(), HashMap::new(), Vec::new());
        for n in 0..40_000_usize {
            let length = n * 7 % 41;
            // Of many lengths, alike at both ends, and with zeros, which stand for no byte at all elsewhere.
            let mut text: Vec<u8> =
                (0..length).map(|at| if at == length / 2 { (n % 89) as u8 } else { (at % 3) as u8 }).collect();
            if n % 5 == 0 {
                text.fill(0);
            }
            let count = known.len() as u32;
            let expected = *known.entry(text.clone()).or_insert_with(|| {
                page.extend_from_slice(&(text.len() as u32).to_le_bytes());
                page.extend_from_slice(&text);
                count
            });
            let (number, is_first) = words.text(&text, n as u32);
            assert_eq!((number, is_first), (expected, true), "{text:?}");
            assert_eq!(words.text(&text, n as u32), (expected, false));
        }
        assert_eq!((words.count(), words.page()), (known.len(), &page[..]));
        assert!(known.len() > 1500 && words.memory() > page.len());
    }

    #[test]
    fn values_of_one_width_are_numbered_too() {
        let mut words = Words::new();
        let numbers: Vec<u32> = (0..20_000_u64).map(|n| words.fixed(&(n * n % 4999).to_le_bytes())).collect();
        let mut first = HashMap::new();
        for (n, number) in (0..20_000_u64).zip(numbers) {
            let count = first.len() as u32;
            assert_eq!(*first.entry(n * n % 4999).or_insert(count), number);
        }
        assert_eq!(words.page().len(), first.len() * 8);
    }
}
