//! The grammar as a parser. Nothing outside `lower` and `parse` knows that it is pest.

#![allow(missing_docs, clippy::too_many_lines, reason = "what is in here is generated from grammar.pest")]

use std::num::NonZeroUsize;
use std::sync::Once;

use pest::Parser as _;
use pest::iterators::Pair;

#[derive(pest_derive::Parser)]
#[grammar = "grammar.pest"]
struct LakeParser;

/// Steps after which a parse is given up. The densest file of a mebibyte takes a tenth; the lexer has already refused
/// what could take more, so this is the second lock on the door. It is one number for the whole process.
const STEPS_MAX: NonZeroUsize = NonZeroUsize::new(200_000_000).unwrap();

/// Parses `text` with `rule`; on failure the offset at which no way led on.
pub(crate) fn parse(rule: Rule, text: &str) -> Result<Pair<'_, Rule>, usize> {
    static LIMIT: Once = Once::new();
    LIMIT.call_once(|| pest::set_call_limit(Some(STEPS_MAX)));
    match LakeParser::parse(rule, text) {
        Ok(mut pairs) => pairs.next().ok_or(0),
        Err(error) => Err(match error.location {
            pest::error::InputLocation::Pos(at) => at,
            pest::error::InputLocation::Span((at, _)) => at,
        }),
    }
}

/// Whether the rule is a word that carries no meaning of its own in the tree.
pub(crate) fn is_keyword(rule: Rule) -> bool {
    // The rules of the words stand together in the grammar.
    (Rule::kw_use..=Rule::kw_replicate).contains(&rule)
}
