//! Stages and steps.

use pest::iterators::Pair;

use super::{Lower, Parts};
use crate::Span;
use crate::ast::*;
use crate::grammar::Rule;

impl Lower<'_> {
    pub(super) fn stage(&self, pair: Pair<'_, Rule>) -> Option<Stage> {
        let span = self.span(&pair);
        let rule = pair.as_rule();
        let mut parts = Parts::of(pair);
        Some(match rule {
            Rule::trigger => Stage::Trigger(self.trigger(parts, span)?),
            Rule::source => Stage::Source(self.source(parts, span)?),
            Rule::transform => Stage::Transform(self.transform(parts, span)?),
            Rule::route => Stage::Route(self.route(parts, span)?),
            Rule::sink => Stage::Sink(self.sink(parts, span)?),
            Rule::dead_letter => Stage::DeadLetter(DeadLetter {
                doc: None,
                connection: self.name(parts.take(Rule::ident)?),
                settings: self.settings(parts.take(Rule::settings)?)?,
                span,
            }),
            Rule::retry => {
                Stage::Retry(Retry { doc: None, settings: self.settings(parts.take(Rule::settings)?)?, span })
            }
            _ => Stage::Alert(Alert {
                doc: None,
                connection: self.name(parts.take(Rule::ident)?),
                settings: self.settings(parts.take(Rule::settings)?)?,
                span,
            }),
        })
    }

    fn trigger(&self, mut parts: Parts<'_>, span: Span) -> Option<Trigger> {
        let when = parts.take(Rule::when)?;
        Some(Trigger {
            doc: None,
            when_span: self.span(&when),
            when: self.when(when)?,
            settings: self.optional_settings(&mut parts),
            span,
        })
    }

    fn when(&self, pair: Pair<'_, Rule>) -> Option<When> {
        let is_event = pair.as_str().starts_with("event");
        let mut parts = Parts::of(pair);
        let first = parts.any()?;
        Some(match first.as_rule() {
            Rule::continuous => When::Continuous,
            Rule::manual => When::Manual,
            Rule::arrival => When::Arrival,
            Rule::duration => When::Every(self.duration(&first)),
            Rule::string if is_event => {
                When::Event { pattern: self.template(first), when: parts.take(Rule::sql).map(|pair| self.sql(pair)) }
            }
            Rule::string => When::Cron(self.template(first)),
            _ => {
                let mut pipelines = vec![self.path(first)];
                pipelines.extend(parts.all(Rule::path).map(|pair| self.path(pair)));
                let outcome = parts.take(Rule::outcome);
                When::After {
                    pipelines,
                    outcome: outcome.map(|pair| match pair.as_str() {
                        "succeeded" => Outcome::Succeeded,
                        "failed" => Outcome::Failed,
                        _ => Outcome::Finished,
                    }),
                }
            }
        })
    }

    /// `[NAME =] CONN`: the name, and the connection.
    fn named(&self, parts: &mut Parts<'_>) -> Option<(Option<Name>, Name)> {
        let first = self.name(parts.take(Rule::ident)?);
        Some(match parts.take(Rule::ident) {
            Some(second) => (Some(first), self.name(second)),
            None => (None, first),
        })
    }

    fn from(&self, parts: &mut Parts<'_>) -> Vec<Path> {
        let Some(pair) = parts.take(Rule::from) else {
            return Vec::new();
        };
        let mut parts = Parts::of(pair);
        parts.all(Rule::path).map(|pair| self.path(pair)).collect()
    }

    fn source(&self, mut parts: Parts<'_>, span: Span) -> Option<Source> {
        let (name, connection) = self.named(&mut parts)?;
        Some(Source { doc: None, name, connection, settings: self.settings(parts.take(Rule::settings)?)?, span })
    }

    fn sink(&self, mut parts: Parts<'_>, span: Span) -> Option<Sink> {
        let (name, connection) = self.named(&mut parts)?;
        Some(Sink {
            doc: None,
            name,
            connection,
            from: self.from(&mut parts),
            settings: self.settings(parts.take(Rule::settings)?)?,
            span,
        })
    }

    fn transform(&self, mut parts: Parts<'_>, span: Span) -> Option<Transform> {
        let target = match parts.take(Rule::target) {
            Some(pair) => Some(self.path(pair.into_inner().next()?)),
            None => None,
        };
        let from = self.from(&mut parts);
        let mut steps = Vec::new();
        while let Some(pair) = parts.any() {
            let span = self.span(&pair);
            let kind = self.step(pair)?;
            steps.push(Step { kind, span });
        }
        Some(Transform { doc: None, target, from, steps, span })
    }

    fn route(&self, mut parts: Parts<'_>, span: Span) -> Option<Route> {
        let from = self.from(&mut parts);
        let branches = parts.all(Rule::branch).map(|pair| {
            let span = self.span(&pair);
            let mut parts = Parts::of(pair);
            Some(Branch {
                name: self.name(parts.take(Rule::ident)?),
                condition: self.sql(parts.take(Rule::sql)?),
                span,
            })
        });
        let branches = branches.collect::<Option<_>>()?;
        Some(Route { doc: None, from, branches, otherwise: self.name(parts.take(Rule::ident)?), span })
    }

    fn step(&self, pair: Pair<'_, Rule>) -> Option<StepKind> {
        let rule = pair.as_rule();
        let mut parts = Parts::of(pair);
        let mut sql = || Some(self.sql(parts.take(Rule::sql)?));
        Some(match rule {
            Rule::where_s => StepKind::Where(sql()?),
            Rule::derive => StepKind::Derive(sql()?),
            Rule::select => StepKind::Select(sql()?),
            Rule::query => StepKind::Query(sql()?),
            Rule::union => StepKind::Union,
            Rule::drop => StepKind::Drop {
                if_exists: parts.take(Rule::if_exists).is_some(),
                columns: self.sql(parts.take(Rule::sql)?),
            },
            Rule::dedupe => StepKind::Dedupe { by: self.sql(parts.take(Rule::sql)?), within: self.within(&mut parts) },
            Rule::aggregate => StepKind::Aggregate(self.aggregate(parts)?),
            Rule::join => StepKind::Join(self.join(parts)?),
            Rule::expect => StepKind::Expect(self.expect(parts)?),
            _ => return None,
        })
    }

    fn within(&self, parts: &mut Parts<'_>) -> Option<Duration> {
        let mut parts = Parts::of(parts.take(Rule::within)?);
        Some(self.duration(&parts.take(Rule::duration)?))
    }

    fn aggregate(&self, mut parts: Parts<'_>) -> Option<Aggregate> {
        Some(Aggregate {
            values: self.sql(parts.take(Rule::sql)?),
            by: self.sql(parts.take(Rule::sql)?),
            emit: match parts.take(Rule::emit) {
                Some(pair) => Some(self.emit(Parts::of(pair).take(Rule::emit_block)?)?),
                None => None,
            },
            keep: match parts.take(Rule::keep) {
                Some(pair) => Some(self.settings(Parts::of(pair).take(Rule::settings)?)?),
                None => None,
            },
        })
    }

    fn emit(&self, block: Pair<'_, Rule>) -> Option<Emit> {
        let span = self.exact(&block);
        let mut parts = Parts::of(block);
        let (mut settings, mut delta) = (Vec::new(), None);
        while let Some(pair) = parts.any() {
            if pair.as_rule() == Rule::setting {
                settings.push(self.setting(pair)?);
                continue;
            }
            let span = self.span(&pair);
            let mut parts = Parts::of(pair);
            let distance = parts.take(Rule::number)?;
            delta = Some(Delta {
                distance: distance.as_str().to_string(),
                distance_span: self.exact(&distance),
                on: self.sql(parts.take(Rule::sql)?),
                span,
            });
        }
        Some(Emit { settings, delta, span })
    }

    fn join(&self, mut parts: Parts<'_>) -> Option<Join> {
        let kind = match parts.take(Rule::join_kind) {
            Some(pair) if pair.as_str().starts_with("left") => JoinKind::Left,
            _ => JoinKind::Inner,
        };
        let with = self.path(parts.take(Rule::path)?);
        let time = match parts.take(Rule::as_of) {
            Some(pair) => JoinTime::AsOf(self.path(Parts::of(pair).take(Rule::path)?)),
            None => self.within(&mut parts).map_or(JoinTime::Any, JoinTime::Within),
        };
        Some(Join { kind, with, time, on: self.sql(parts.take(Rule::sql)?) })
    }

    fn expect(&self, mut parts: Parts<'_>) -> Option<Expect> {
        let name = parts.take(Rule::ident).map(|pair| self.name(pair));
        let condition = self.sql(parts.take(Rule::sql)?);
        let action = parts.take(Rule::action)?;
        Some(Expect {
            name,
            condition,
            action_span: self.exact(&action),
            action: match action.as_str() {
                "warn" => Action::Warn,
                "drop" => Action::Drop,
                "dead_letter" => Action::DeadLetter,
                _ => Action::Fail,
            },
        })
    }
}
