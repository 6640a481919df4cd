//! Texts, as a dictionary and numbers or as they are: whichever is smaller for the stripe.

use lakehead_core::Result;

use super::dictionary::Dictionary;
use super::stream::{Chunks, Integers, StreamKind, StreamOut};
use crate::codec::Codec;
use crate::run::bits::{bits_of, closest_width};
use crate::run::integer::Sign;

/// A dictionary larger than this is given up: it is held in memory uncompressed until the stripe ends.
const DICTIONARY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The texts of a column in one stripe.
pub(super) struct Texts {
    state: State,
}

enum State {
    /// Numbers of texts, and how many of them lay before each row group.
    Dictionary {
        texts: Box<Dictionary>,
        numbers: Vec<u32>,
        marks: Vec<usize>,
        plain_bytes: usize,
    },
    Direct(Box<Direct>),
}

struct Direct {
    data: Chunks,
    lengths: Integers,
}

impl Direct {
    fn push(&mut self, text: &[u8]) {
        self.data.open.extend_from_slice(text);
        self.lengths.push(text.len() as i64);
    }

    fn settle(&mut self, codec: &mut Codec) -> Result<()> {
        self.data.settle(codec)?;
        self.lengths.settle(codec)
    }

    fn mark(&mut self, codec: &mut Codec) -> Result<()> {
        self.data.mark(codec, &[])?;
        self.lengths.mark(codec)
    }
}

impl Texts {
    pub(super) fn new() -> Self {
        let texts = Box::new(Dictionary::new());
        Self { state: State::Dictionary { texts, numbers: Vec::new(), marks: Vec::new(), plain_bytes: 0 } }
    }

    pub(super) fn len(&self) -> usize {
        match &self.state {
            State::Dictionary { texts, numbers, .. } => texts.bytes.len() + texts.count() * 16 + numbers.len() * 4,
            State::Direct(direct) => direct.data.len() + direct.lengths.len(),
        }
    }

    pub(super) fn push(&mut self, text: &[u8]) {
        match &mut self.state {
            State::Dictionary { texts, numbers, plain_bytes, .. } => {
                numbers.push(texts.number(text));
                *plain_bytes += text.len();
            }
            State::Direct(direct) => direct.push(text),
        }
    }

    pub(super) fn settle(&mut self, codec: &mut Codec) -> Result<()> {
        match &mut self.state {
            State::Dictionary { texts, .. } if texts.bytes.len() > DICTIONARY_BYTES_MAX => self.make_direct(codec),
            State::Dictionary { .. } => Ok(()),
            State::Direct(direct) => direct.settle(codec),
        }
    }

    /// Begins a row group. A dictionary that does not pay by now is given up, so that random texts cost its memory for
    /// one row group only.
    pub(super) fn mark(&mut self, codec: &mut Codec) -> Result<()> {
        if !self.pays() {
            self.make_direct(codec)?;
        }
        match &mut self.state {
            State::Dictionary { numbers, marks, .. } => {
                marks.push(numbers.len());
                Ok(())
            }
            State::Direct(direct) => direct.mark(codec),
        }
    }

    /// Whether a dictionary takes clearly fewer bytes before compression. "Clearly", because compression finds repeats
    /// in plain texts too and hardly any in numbers of random texts.
    fn pays(&self) -> bool {
        let State::Dictionary { texts, numbers, plain_bytes, .. } = &self.state else { return true };
        let number_bits = closest_width(bits_of(texts.count() as u64)) as usize;
        let as_dictionary = texts.bytes.len() + texts.count() + numbers.len() * number_bits / 8;
        let as_plain = plain_bytes + numbers.len();
        as_dictionary * 4 <= as_plain * 3
    }

    fn make_direct(&mut self, codec: &mut Codec) -> Result<()> {
        let State::Dictionary { texts, numbers, marks, .. } = &self.state else { return Ok(()) };
        let mut direct = Direct { data: Chunks::default(), lengths: Integers::new(Sign::Unsigned) };
        let mut marks = marks.iter().copied().peekable();
        for (at, number) in numbers.iter().enumerate() {
            while marks.next_if_eq(&at).is_some() {
                direct.mark(codec)?;
            }
            direct.push(texts.text(*number as usize));
            direct.settle(codec)?;
        }
        for _ in marks {
            direct.mark(codec)?;
        }
        self.state = State::Direct(Box::new(direct));
        Ok(())
    }

    /// Ends the stripe. Returns how many texts the dictionary has, if there is one, and the streams.
    pub(super) fn finish(&mut self, codec: &mut Codec) -> Result<(Option<usize>, Vec<StreamOut>)> {
        if !self.pays() {
            self.make_direct(codec)?;
        }
        match std::mem::replace(self, Self::new()).state {
            State::Direct(mut direct) => Ok((
                None,
                vec![direct.data.finish(StreamKind::Data, codec)?, direct.lengths.finish(StreamKind::Length, codec)?],
            )),
            State::Dictionary { texts, numbers, marks, .. } => {
                let mut data = Integers::new(Sign::Unsigned);
                let mut marks = marks.into_iter().peekable();
                for (at, number) in numbers.iter().enumerate() {
                    while marks.next_if_eq(&at).is_some() {
                        data.mark(codec)?;
                    }
                    data.push(i64::from(*number));
                }
                for _ in marks {
                    data.mark(codec)?;
                }
                let mut lengths = Integers::new(Sign::Unsigned);
                texts.lengths().for_each(|length| lengths.push(length));
                let bytes = codec.whole(&texts.bytes)?;
                let dictionary = StreamOut { kind: StreamKind::DictionaryData, bytes, starts: Vec::new() };
                let streams =
                    vec![data.finish(StreamKind::Data, codec)?, lengths.finish(StreamKind::Length, codec)?, dictionary];
                Ok((Some(texts.count()), streams))
            }
        }
    }
}
