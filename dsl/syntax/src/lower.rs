//! From pairs of the grammar to the tree.
//!
//! Every function returns `None` for a pair that the grammar cannot produce, so nothing here can panic.

use pest::iterators::{Pair, Pairs};

use crate::Span;
use crate::ast::*;
use crate::grammar::{Rule, is_keyword};
use crate::lex::Token;

mod stage;
mod value;

/// Where the parsed text lies in the file, and what stands in it.
pub(crate) struct Lower<'a> {
    /// Offset of the parsed text in the file.
    pub(crate) base: usize,
    /// All tokens of the file but comments.
    pub(crate) tokens: &'a [Token],
}

/// The parts of a pair, keywords left out.
struct Parts<'i>(std::iter::Peekable<Pairs<'i, Rule>>);

impl<'i> Parts<'i> {
    fn of(pair: Pair<'i, Rule>) -> Self {
        Self(pair.into_inner().peekable())
    }

    fn skip_keywords(&mut self) {
        while self.0.next_if(|pair| is_keyword(pair.as_rule())).is_some() {}
    }

    /// The next part if it is of that rule.
    fn take(&mut self, rule: Rule) -> Option<Pair<'i, Rule>> {
        self.skip_keywords();
        self.0.next_if(|pair| pair.as_rule() == rule)
    }

    /// The next part, whatever it is.
    fn any(&mut self) -> Option<Pair<'i, Rule>> {
        self.skip_keywords();
        self.0.next()
    }

    /// All following parts of that rule.
    fn all(&mut self, rule: Rule) -> impl Iterator<Item = Pair<'i, Rule>> {
        std::iter::from_fn(move || self.take(rule))
    }
}

impl Lower<'_> {
    /// The place of a pair exactly as the grammar saw it.
    fn exact(&self, pair: &Pair<'_, Rule>) -> Span {
        let span = pair.as_span();
        Span::new(self.base + span.start(), self.base + span.end())
    }

    /// The place of a pair without the blanks and comments behind it: a pair that ends in an optional part has them.
    fn span(&self, pair: &Pair<'_, Rule>) -> Span {
        let span = self.exact(pair);
        let behind = self.tokens.partition_point(|token| token.start < span.end as usize);
        match behind.checked_sub(1).map(|last| self.tokens[last].end) {
            Some(end) if end < span.end as usize => Span::new(span.start as usize, end),
            _ => span,
        }
    }

    /// A whole file.
    pub(crate) fn file(&self, pair: Pair<'_, Rule>) -> File {
        File { items: pair.into_inner().filter_map(|pair| self.item(pair)).collect() }
    }

    /// One definition.
    pub(crate) fn item(&self, pair: Pair<'_, Rule>) -> Option<Item> {
        let span = self.span(&pair);
        let rule = pair.as_rule();
        let parts = Parts::of(pair);
        match rule {
            Rule::use_item => self.use_item(parts, span).map(Item::Use),
            Rule::var_item => self.var(parts, span).map(Item::Var),
            Rule::profile => self.profile(parts, span).map(Item::Profile),
            Rule::secret_item => self.secret(parts, span).map(Item::Secret),
            Rule::connection => self.connection(parts, span).map(Item::Connection),
            Rule::catalog => self.catalog(parts, span).map(Item::Catalog),
            Rule::lifecycle => self.lifecycle(parts, span).map(Item::Lifecycle),
            Rule::pipeline => self.pipeline(parts, span).map(Item::Pipeline),
            Rule::test_item => self.test(parts, span).map(Item::Test),
            _ => None,
        }
    }

    fn use_item(&self, mut parts: Parts<'_>, span: Span) -> Option<Use> {
        Some(Use { doc: None, path: self.template(parts.take(Rule::string)?), span })
    }

    fn var(&self, mut parts: Parts<'_>, span: Span) -> Option<Var> {
        let name = self.name(parts.take(Rule::ident)?);
        let ty = parts.take(Rule::type_name)?;
        Some(Var {
            doc: None,
            name,
            ty_span: self.exact(&ty),
            ty: match ty.as_str() {
                "string" => VarType::String,
                "int" => VarType::Int,
                "bool" => VarType::Bool,
                "duration" => VarType::Duration,
                _ => VarType::Size,
            },
            default: match parts.take(Rule::value) {
                Some(value) => Some(self.value(value)?),
                None => None,
            },
            span,
        })
    }

    fn profile(&self, mut parts: Parts<'_>, span: Span) -> Option<Profile> {
        Some(Profile {
            doc: None,
            name: self.name(parts.take(Rule::ident)?),
            settings: self.settings(parts.take(Rule::settings)?)?,
            span,
        })
    }

    fn secret(&self, mut parts: Parts<'_>, span: Span) -> Option<Secret> {
        Some(Secret {
            doc: None,
            name: self.name(parts.take(Rule::ident)?),
            from: self.call(parts.take(Rule::call)?)?,
            span,
        })
    }

    fn connection(&self, mut parts: Parts<'_>, span: Span) -> Option<Connection> {
        Some(Connection {
            doc: None,
            name: self.name(parts.take(Rule::ident)?),
            kind: self.name(parts.take(Rule::ident)?),
            settings: self.optional_settings(&mut parts),
            span,
        })
    }

    fn catalog(&self, mut parts: Parts<'_>, span: Span) -> Option<Catalog> {
        Some(Catalog {
            doc: None,
            name: self.name(parts.take(Rule::ident)?),
            kind: self.name(parts.take(Rule::ident)?),
            settings: self.optional_settings(&mut parts),
            span,
        })
    }

    fn lifecycle(&self, mut parts: Parts<'_>, span: Span) -> Option<Lifecycle> {
        let name = self.name(parts.take(Rule::ident)?);
        let mut rules = Vec::new();
        while let Some(pair) = parts.any() {
            rules.push(self.rule(pair)?);
        }
        Some(Lifecycle { doc: None, name, rules, span })
    }

    fn rule(&self, pair: Pair<'_, Rule>) -> Option<crate::ast::Rule> {
        use crate::ast::Rule as AgeRule;
        let span = self.span(&pair);
        let rule = pair.as_rule();
        let mut parts = Parts::of(pair);
        Some(match rule {
            Rule::transition => AgeRule::Transition {
                class: self.name(parts.take(Rule::ident)?),
                after: self.duration(&parts.take(Rule::duration)?),
                settings: self.optional_settings(&mut parts),
                span,
            },
            Rule::expire => AgeRule::Expire { after: self.duration(&parts.take(Rule::duration)?), span },
            Rule::vacuum => AgeRule::Vacuum { after: self.duration(&parts.take(Rule::duration)?), span },
            _ => AgeRule::Replicate {
                to: self.path(parts.take(Rule::path)?),
                settings: self.optional_settings(&mut parts),
                span,
            },
        })
    }

    fn pipeline(&self, mut parts: Parts<'_>, span: Span) -> Option<Pipeline> {
        let name = self.name(parts.take(Rule::ident)?);
        let settings = parts.all(Rule::setting).map(|pair| self.setting(pair));
        let settings = settings.collect::<Option<Vec<_>>>()?;
        let mut stages = Vec::new();
        while let Some(pair) = parts.any() {
            stages.push(self.stage(pair)?);
        }
        Some(Pipeline { doc: None, name, settings, stages, span })
    }

    fn test(&self, mut parts: Parts<'_>, span: Span) -> Option<Test> {
        let title = self.template(parts.take(Rule::string)?);
        let pipeline = self.name(parts.take(Rule::ident)?);
        let (mut settings, mut tables) = (Vec::new(), Vec::new());
        while let Some(pair) = parts.any() {
            match pair.as_rule() {
                Rule::setting => settings.push(self.setting(pair)?),
                Rule::given => tables.push(self.test_table(TestRole::Given, pair)?),
                _ => tables.push(self.test_table(TestRole::Then, pair)?),
            }
        }
        Some(Test { doc: None, title, pipeline, settings, tables, span })
    }

    fn test_table(&self, role: TestRole, pair: Pair<'_, Rule>) -> Option<TestTable> {
        let span = self.span(&pair);
        let mut parts = Parts::of(pair);
        let node = self.path(parts.take(Rule::path)?);
        let first = parts.any()?;
        let rows = match first.as_rule() {
            Rule::string => TestRows::File(self.template(first)),
            Rule::row => TestRows::Table {
                header: self.row(first),
                rows: parts.all(Rule::row).map(|pair| self.row(pair)).collect(),
            },
            _ => TestRows::Empty,
        };
        Some(TestTable { role, node, rows, span })
    }

    fn row(&self, pair: Pair<'_, Rule>) -> TableRow {
        let span = self.exact(&pair);
        let cells = pair.into_inner().map(|pair| self.cell(&pair)).collect();
        TableRow { cells, span }
    }

    fn cell(&self, pair: &Pair<'_, Rule>) -> Cell {
        let (raw, span) = (pair.as_str(), self.exact(pair));
        let text = raw.trim();
        let blank = raw.len() - raw.trim_start().len();
        let start = span.start as usize + if text.is_empty() { raw.len().min(1) } else { blank };
        Cell {
            value: match text {
                "" => None,
                "\"\"" => Some(String::new()),
                text => Some(text.replace("\\|", "|")),
            },
            span: Span::new(start, start + text.len()),
        }
    }
}
