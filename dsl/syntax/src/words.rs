//! The words of the language, and which of them a misspelt one was meant to be.

/// Words that begin a definition.
pub const ITEM_WORDS: [&str; 9] =
    ["use", "var", "profile", "secret", "connection", "catalog", "lifecycle", "pipeline", "test"];

/// Words that begin a stage of a pipeline.
pub const STAGE_WORDS: [&str; 8] = ["trigger", "source", "transform", "route", "sink", "dead_letter", "retry", "alert"];

/// Words that begin a step of a transform.
pub const STEP_WORDS: [&str; 10] =
    ["where", "derive", "select", "drop", "aggregate", "join", "dedupe", "union", "expect", "sql"];

/// Words that begin a rule of a lifecycle.
pub const RULE_WORDS: [&str; 4] = ["transition", "expire", "vacuum", "replicate"];

/// Words that say when a pipeline runs.
pub const TRIGGER_WORDS: [&str; 7] = ["continuous", "cron", "every", "arrival", "event", "after", "manual"];

/// What an expectation may do with what it refuses.
pub const ACTION_WORDS: [&str; 4] = ["warn", "drop", "dead_letter", "fail"];

/// Words whose brace holds SQL; `exists` counts after `if` only, `expect` may have a name between.
pub(crate) const SQL_WORDS: [&str; 11] =
    ["where", "derive", "select", "drop", "aggregate", "expect", "sql", "by", "on", "when", "exists"];

/// The longest word for which a proposal is sought: names are short, and the search costs the square.
const WORD_CHARS_MAX: usize = 64;

/// The candidate that `word` was probably meant to be: the nearest by swapped, changed, left out and added letters.
///
/// One slip is allowed in a word of up to four letters, two up to eight, three above; a short word must keep its first
/// letter. Case is ignored. Of equally near candidates the first one wins.
pub fn did_you_mean<'a, I, S>(word: &str, candidates: I) -> Option<&'a str>
where
    I: IntoIterator<Item = &'a S>,
    S: AsRef<str> + ?Sized + 'a,
{
    let word: Vec<char> = word.to_lowercase().chars().collect();
    if word.is_empty() || word.len() > WORD_CHARS_MAX {
        return None;
    }
    let mut best: Option<(usize, &'a str)> = None;
    for candidate in candidates {
        let candidate = candidate.as_ref();
        let letters: Vec<char> = candidate.to_lowercase().chars().collect();
        if letters.is_empty() || letters.len() > WORD_CHARS_MAX {
            continue;
        }
        let slips_max = match word.len().min(letters.len()) {
            0..=2 => usize::from(word.len() != letters.len() || word[0] == letters[0]),
            3..=4 => 1,
            5..=8 => 2,
            _ => 3,
        };
        let distance = edit_distance(&word, &letters);
        if distance <= slips_max && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Damerau-Levenshtein distance (each pair swapped at most once).
fn edit_distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = change.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(word: &str, candidates: &[&str], expected: Option<&str>) {
        assert_eq!(did_you_mean(word, candidates.iter().copied()), expected, "{word}");
    }

    #[test]
    fn the_nearest_word_is_proposed() {
        check("conection", &ITEM_WORDS, Some("connection"));
        check("triger", &STAGE_WORDS, Some("trigger"));
        check("derve", &STEP_WORDS, Some("derive"));
        check("satus", &["country", "status"], Some("status"));
        check("Where", &STEP_WORDS, Some("where"));
        check("evnets", &["events"], Some("events"));
        check("mask_fone", &["mask_phone"], Some("mask_phone"));
        check("deadletter", &STAGE_WORDS, Some("dead_letter"));
    }

    #[test]
    fn a_far_word_is_not_proposed() {
        check("mask_fone", &["make_date"], None);
        check("xyz", &STEP_WORDS, None);
        check("ab", &["cd"], None);
        check("", &["a"], None);
        check(&"x".repeat(100_000), &["x"], None);
    }
}
