//! Tests of the whole: scenarios over the real binary and real servers. The crate itself holds nothing.
