//! Byte run-length coding: a control byte 0..=127 repeats the next byte 3..=130 times, a negative one counts literals.

const REPEAT_MIN: usize = 3;
const REPEAT_MAX: usize = 130;
const LITERALS_MAX: usize = 128;

/// Appends the runs of `values`, whole: nothing waits for the next call.
pub(crate) fn encode(values: &[u8], out: &mut Vec<u8>) {
    let mut rest = values;
    let mut literals: &[u8] = &[];
    let mut source = values;
    while let Some(&first) = rest.first() {
        let run = rest.iter().take(REPEAT_MAX).take_while(|&&value| value == first).count();
        if run >= REPEAT_MIN {
            flush(literals, out);
            out.push((run - REPEAT_MIN) as u8);
            out.push(first);
            rest = rest.split_at(run).1;
            source = rest;
            literals = &[];
        } else {
            rest = rest.split_at(run).1;
            literals = source.split_at(source.len() - rest.len()).0;
        }
    }
    flush(literals, out);
}

fn flush(literals: &[u8], out: &mut Vec<u8>) {
    for part in literals.chunks(LITERALS_MAX) {
        out.push((part.len() as u8).wrapping_neg());
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_specification() {
        let mut out = Vec::new();
        encode(&[0; 100], &mut out);
        assert_eq!(out, [0x61, 0x00]);
        out.clear();
        encode(&[0x44, 0x45], &mut out);
        assert_eq!(out, [0xfe, 0x44, 0x45]);
    }
}
