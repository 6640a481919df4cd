//! Thrift's binary protocol, as much of it as a metastore's calls need (docs/decisions/0011-catalogs.md).

use std::collections::BTreeMap;

use lakehead_core::{Error, Result};

/// Bytes of an answer at most, and elements of one collection: what a broken peer may make us hold.
const ELEMENTS_MAX: usize = 4 << 20;
/// How deep values may lie in one another.
const DEPTH_MAX: usize = 32;

/// A value on the wire.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Bool(bool),
    I16(i16),
    I32(i32),
    I64(i64),
    Text(String),
    List(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Struct(Fields),
}

/// The fields of a struct by their numbers; one that is not set is left out.
pub(crate) type Fields = BTreeMap<i16, Value>;

const STOP: u8 = 0;
const BOOL: u8 = 2;
const BYTE: u8 = 3;
const DOUBLE: u8 = 4;
const I16: u8 = 6;
const I32: u8 = 8;
const I64: u8 = 10;
const TEXT: u8 = 11;
const STRUCT: u8 = 12;
const MAP: u8 = 13;
const SET: u8 = 14;
const LIST: u8 = 15;

impl Value {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A map of texts.
    pub(crate) fn texts<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        Self::Map(pairs.into_iter().map(|(name, value)| (Self::text(name), Self::text(value))).collect())
    }

    /// The fields of a struct; none where it is something else.
    pub(crate) fn fields(&self) -> Fields {
        match self {
            Self::Struct(fields) => fields.clone(),
            _ => Fields::new(),
        }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn items(&self) -> &[Value] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Bool(_) => BOOL,
            Self::I16(_) => I16,
            Self::I32(_) => I32,
            Self::I64(_) => I64,
            Self::Text(_) => TEXT,
            Self::List(_) => LIST,
            Self::Map(_) => MAP,
            Self::Struct(_) => STRUCT,
        }
    }

    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Bool(value) => to.push(u8::from(*value)),
            Self::I16(value) => to.extend(value.to_be_bytes()),
            Self::I32(value) => to.extend(value.to_be_bytes()),
            Self::I64(value) => to.extend(value.to_be_bytes()),
            Self::Text(text) => write_text(text, to),
            Self::List(items) => {
                // The kind of an empty list's elements is read by nobody who looks at their number first.
                to.push(items.first().map_or(STRUCT, Self::kind));
                to.extend(length(items.len()).to_be_bytes());
                items.iter().for_each(|item| item.write(to));
            }
            Self::Map(pairs) => {
                let (key, value) = pairs.first().map_or((TEXT, TEXT), |(key, value)| (key.kind(), value.kind()));
                to.extend([key, value]);
                to.extend(length(pairs.len()).to_be_bytes());
                for (key, value) in pairs {
                    key.write(to);
                    value.write(to);
                }
            }
            Self::Struct(fields) => {
                for (number, value) in fields {
                    to.push(value.kind());
                    to.extend(number.to_be_bytes());
                    value.write(to);
                }
                to.push(STOP);
            }
        }
    }
}

fn length(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn write_text(text: &str, to: &mut Vec<u8>) {
    to.extend(length(text.len()).to_be_bytes());
    to.extend(text.as_bytes());
}

/// Writes a call: its name, a number, its arguments.
pub(crate) fn call(name: &str, number: i32, arguments: Fields) -> Vec<u8> {
    let mut to = Vec::new();
    to.extend(0x8001_0001_u32.to_be_bytes());
    write_text(name, &mut to);
    to.extend(number.to_be_bytes());
    Value::Struct(arguments).write(&mut to);
    to
}

/// What a call came to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// The result struct: field 0 is the value, any other an exception that the call declares.
    Result(Fields),
    /// The server could not make anything of the call.
    Refused(String),
}

/// Reads an answer to a call of this number; `None` where more bytes are needed.
pub(crate) fn answer(bytes: &[u8], number: i32) -> Result<Option<Answer>> {
    let mut reader = Reader { bytes, at: 0 };
    match read_answer(&mut reader, number) {
        Ok(answer) => Ok(Some(answer)),
        Err(Broken::Short) => Ok(None),
        Err(Broken::Wrong(what)) => {
            Err(Error::external("R0627", "the metastore's answer cannot be read").with("reason", what).help(
                "name the plain Thrift port of a metastore (hive.metastore.sasl.enabled = false, no framed transport)",
            ))
        }
    }
}

enum Broken {
    Short,
    Wrong(&'static str),
}

type Read<T> = std::result::Result<T, Broken>;

fn read_answer(reader: &mut Reader<'_>, number: i32) -> Read<Answer> {
    let head = reader.u32()?;
    if head >> 16 != 0x8001 {
        return Err(Broken::Wrong("not Thrift's binary protocol; framed and SASL servers are not spoken to"));
    }
    reader.text()?;
    if reader.i32()? != number {
        return Err(Broken::Wrong("an answer to another call"));
    }
    let body = reader.value(STRUCT, 0)?.fields();
    match head & 0xff {
        2 => Ok(Answer::Result(body)),
        3 => Ok(Answer::Refused(body.get(&1).and_then(Value::as_text).unwrap_or_default().to_owned())),
        _ => Err(Broken::Wrong("neither an answer nor an exception")),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Read<[u8; N]> {
        let found =
            self.bytes.get(self.at..self.at + N).and_then(|bytes| bytes.try_into().ok()).ok_or(Broken::Short)?;
        self.at += N;
        Ok(found)
    }

    fn u32(&mut self) -> Read<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn i32(&mut self) -> Read<i32> {
        self.take().map(i32::from_be_bytes)
    }

    fn count(&mut self) -> Read<usize> {
        let count = usize::try_from(self.i32()?).map_err(|_| Broken::Wrong("a length below zero"))?;
        if count > ELEMENTS_MAX { Err(Broken::Wrong("a length that nothing has")) } else { Ok(count) }
    }

    fn text(&mut self) -> Read<String> {
        let count = self.count()?;
        let found = self.bytes.get(self.at..self.at + count).ok_or(Broken::Short)?;
        self.at += count;
        Ok(String::from_utf8_lossy(found).into_owned())
    }

    fn value(&mut self, kind: u8, depth: usize) -> Read<Value> {
        if depth > DEPTH_MAX {
            return Err(Broken::Wrong("values too deep in one another"));
        }
        Ok(match kind {
            BOOL => Value::Bool(self.take::<1>()? != [0]),
            BYTE => Value::I32(i32::from(i8::from_be_bytes(self.take()?))),
            I16 => Value::I16(i16::from_be_bytes(self.take()?)),
            I32 => Value::I32(self.i32()?),
            // A number with a fraction is in nothing that is asked for: its bits are passed over.
            I64 | DOUBLE => Value::I64(i64::from_be_bytes(self.take()?)),
            TEXT => Value::Text(self.text()?),
            LIST | SET => {
                let [kind] = self.take()?;
                let count = self.count()?;
                Value::List((0..count).map(|_| self.value(kind, depth + 1)).collect::<Read<_>>()?)
            }
            MAP => {
                let [key, value] = self.take()?;
                let count = self.count()?;
                let pair = |_| Ok((self.value(key, depth + 1)?, self.value(value, depth + 1)?));
                Value::Map((0..count).map(pair).collect::<Read<_>>()?)
            }
            STRUCT => {
                let mut fields = Fields::new();
                loop {
                    let [kind] = self.take()?;
                    if kind == STOP {
                        return Ok(Value::Struct(fields));
                    }
                    let number = i16::from_be_bytes(self.take()?);
                    fields.insert(number, self.value(kind, depth + 1)?);
                }
            }
            _ => return Err(Broken::Wrong("a kind of value that there is not")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Fields {
        let texts = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let inner = Fields::from([(1, Value::text("é")), (2, Value::List(vec![Value::I32(-1), Value::I32(7)]))]);
        Fields::from([
            (0, Value::Struct(inner)),
            (3, Value::texts(&texts)),
            (4, Value::Bool(true)),
            (5, Value::I64(i64::MIN)),
            (6, Value::List(Vec::new())),
        ])
    }

    fn reply(fields: Fields) -> Vec<u8> {
        let mut bytes = call("get_table", 3, fields);
        bytes[3] = 2;
        bytes
    }

    #[test]
    fn an_answer_reads_back_and_none_of_its_beginnings_does() {
        let bytes = reply(sample());
        assert_eq!(answer(&bytes, 3).unwrap(), Some(Answer::Result(sample())));
        for end in 0..bytes.len() {
            assert_eq!(answer(&bytes[..end], 3).unwrap(), None, "{end}");
        }
    }

    #[test]
    fn what_is_no_answer_is_refused_and_never_held() {
        assert_eq!(answer(b"HTTP/1.1 400 Bad Request", 3).unwrap_err().code(), "R0627");
        assert_eq!(answer(&reply(sample()), 4).unwrap_err().code(), "R0627");
        let mut long = reply(Fields::from([(0, Value::text("x"))]));
        let end = long.len();
        long[end - 6..end - 2].copy_from_slice(&i32::MAX.to_be_bytes());
        assert_eq!(answer(&long, 3).unwrap_err().code(), "R0627");
        let mut deep = call("f", 3, Fields::new());
        deep[3] = 2;
        deep.pop();
        deep.extend([STRUCT, 0, 1].repeat(DEPTH_MAX + 2));
        assert_eq!(answer(&deep, 3).unwrap_err().code(), "R0627");
    }
}
