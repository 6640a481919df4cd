//! The run-length coders of the format, as functions from numbers to bytes and readers from bytes to numbers.

pub(crate) mod bits;
pub(crate) mod boolean;
pub(crate) mod byte;
pub(crate) mod integer;
pub(crate) mod patched;
