//! Names, settings and values.

use pest::iterators::Pair;

use super::{Lower, Parts};
use crate::ast::*;
use crate::grammar::Rule;

impl Lower<'_> {
    pub(super) fn name(&self, pair: Pair<'_, Rule>) -> Name {
        Name { text: pair.as_str().to_string(), span: self.exact(&pair) }
    }

    pub(super) fn path(&self, pair: Pair<'_, Rule>) -> Path {
        let span = self.exact(&pair);
        let parts = pair
            .into_inner()
            .filter(|pair| matches!(pair.as_rule(), Rule::ident | Rule::star))
            .map(|pair| self.name(pair))
            .collect();
        Path { parts, span }
    }

    pub(super) fn sql(&self, pair: Pair<'_, Rule>) -> Sql {
        let span = self.exact(&pair);
        let text = pair.as_str();
        Sql {
            text: text[1..text.len() - 1].to_string(),
            span: crate::Span::new(span.start as usize + 1, span.end as usize - 1),
        }
    }

    pub(super) fn duration(&self, pair: &Pair<'_, Rule>) -> Duration {
        Duration { text: pair.as_str().to_string(), span: self.exact(pair) }
    }

    pub(super) fn optional_settings(&self, parts: &mut Parts<'_>) -> Option<Settings> {
        self.settings(parts.take(Rule::settings)?)
    }

    pub(super) fn settings(&self, pair: Pair<'_, Rule>) -> Option<Settings> {
        Some(Settings {
            span: self.exact(&pair),
            list: pair.into_inner().map(|pair| self.setting(pair)).collect::<Option<_>>()?,
        })
    }

    pub(super) fn setting(&self, pair: Pair<'_, Rule>) -> Option<Setting> {
        let span = self.span(&pair);
        let mut parts = Parts::of(pair);
        Some(Setting { name: self.name(parts.take(Rule::ident)?), value: self.value(parts.take(Rule::value)?)?, span })
    }

    pub(super) fn value(&self, pair: Pair<'_, Rule>) -> Option<Value> {
        let pair = pair.into_inner().next()?;
        let span = self.exact(&pair);
        let text = || pair.as_str().to_string();
        let kind = match pair.as_rule() {
            Rule::string => ValueKind::String(self.template(pair)),
            Rule::bool => ValueKind::Bool(pair.as_str() == "true"),
            Rule::duration => ValueKind::Duration(self.duration(&pair)),
            Rule::size => ValueKind::Size(Size { text: text(), span }),
            Rule::percent => ValueKind::Percent(Percent { text: text(), span }),
            Rule::number if pair.as_str().contains('.') => ValueKind::Number(text()),
            Rule::number => ValueKind::Int(text()),
            Rule::list => ValueKind::List(pair.into_inner().map(|pair| self.value(pair)).collect::<Option<_>>()?),
            Rule::settings => ValueKind::Map(self.settings(pair)?.list),
            Rule::call => ValueKind::Call(self.call(pair)?),
            Rule::path => ValueKind::Path(self.path(pair)),
            _ => return None,
        };
        Some(Value { kind, span })
    }

    pub(super) fn call(&self, pair: Pair<'_, Rule>) -> Option<Call> {
        let span = self.exact(&pair);
        let mut parts = Parts::of(pair);
        let name = self.name(parts.take(Rule::ident)?);
        let args = parts.all(Rule::value).map(|pair| self.value(pair));
        let args = args.collect::<Option<_>>()?;
        Some(Call { name, args, span })
    }

    pub(super) fn template(&self, pair: Pair<'_, Rule>) -> Template {
        let span = self.exact(&pair);
        let chunks = pair.into_inner().filter_map(|pair| {
            let span = self.exact(&pair);
            if pair.as_rule() == Rule::text {
                let value = unescape(pair.as_str());
                return Some(Chunk::Text { value, span });
            }
            let mut parts = Parts::of(pair);
            let path = self.path(parts.take(Rule::hole_path)?);
            let format = parts.take(Rule::hole_format);
            Some(Chunk::Hole { path, format: format.map(|pair| pair.as_str().to_string()), span })
        });
        Template { chunks: chunks.collect(), span }
    }
}

fn unescape(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        value.push(match char {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some(other) => other,
                None => '\\',
            },
            char => char,
        });
    }
    value
}
