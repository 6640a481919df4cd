//! One file a verb.

mod backfill;
mod catalog;
mod check;
mod compacted;
mod cost;
mod cut;
mod explain;
mod fmt;
mod graph;
mod infer;
mod init;
mod init_postgres;
mod lifecycle;
mod lock;
mod object;
mod peek;
mod plan;
mod propose;
mod register;
mod resync;
pub(crate) mod run;
mod serve;
mod status;
mod tables;
mod test;
mod verify;

use std::process::ExitCode;

use lakehead_core::{Error, Result};

use crate::args::{Arguments, Common, Format, Verb};
use crate::failure;

/// How a verb ended, as its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Done,
    Errors,
    NothingMatched,
    Changes,
    Differences,
}

impl From<Ended> for ExitCode {
    fn from(ended: Ended) -> Self {
        ExitCode::from(match ended {
            Ended::Done => 0,
            Ended::Errors => 1,
            Ended::NothingMatched => 2,
            Ended::Changes => 3,
            Ended::Differences => 4,
        })
    }
}

/// Runs the verb that was asked for.
pub(crate) async fn run(arguments: Arguments) -> ExitCode {
    let common = arguments.common;
    let outcome = match arguments.verb {
        Verb::Init(arguments) => init::init(arguments, &common).await,
        Verb::Lifecycle(arguments) => Box::pin(lifecycle::lifecycle(&arguments, &common)).await,
        Verb::Check(arguments) => check::check(&arguments, &common),
        Verb::Fmt(arguments) => fmt::fmt(&arguments, &common),
        Verb::Graph(arguments) => graph::graph(&arguments, &common),
        Verb::Plan(arguments) => plan::plan(&arguments, &common).await,
        Verb::Test(arguments) => Box::pin(test::test(&arguments, &common)).await,
        Verb::Run(arguments) => Box::pin(run::run(&arguments, &common)).await,
        Verb::Backfill(arguments) => Box::pin(backfill::backfill(&arguments, &common)).await,
        Verb::Resync(arguments) => Box::pin(resync::resync(&arguments, &common)).await,
        Verb::Serve(arguments) => Box::pin(serve::serve(arguments, common.clone())).await,
        Verb::Status(arguments) => status::status(&arguments, &common),
        Verb::Infer(arguments) => Box::pin(infer::infer(&arguments, &common)).await,
        Verb::Register(arguments) => Box::pin(register::register(&arguments, &common)).await,
        Verb::Tables(arguments) => tables::tables(&arguments, &common),
        Verb::Catalog(arguments) => Box::pin(catalog::catalog(&arguments, &common)).await,
        Verb::Cut(arguments) => Box::pin(cut::cut(&arguments, &common)).await,
        Verb::Verify(arguments) => Box::pin(verify::verify(&arguments, &common)).await,
        Verb::Peek(arguments) => Box::pin(object::peek(&arguments, &common)).await,
        Verb::Lock(arguments) => lock::lock(&arguments, &common).await,
        Verb::Explain(arguments) => explain::explain(&arguments, &common),
        Verb::Completions(arguments) => {
            let mut command = <Arguments as clap::CommandFactory>::command();
            clap_complete::generate(arguments.shell, &mut command, "lakehead", &mut std::io::stdout());
            Ok(Ended::Done)
        }
    };
    match outcome {
        Ok(ended) => ended.into(),
        Err(error) => {
            report(&error, &common);
            Ended::Errors.into()
        }
    }
}

/// Says what went wrong, once.
pub(crate) fn report(error: &Error, common: &Common) {
    match common.format {
        Format::Text => eprintln!("{}", failure::render(error)),
        Format::Json => println!("{}", serde_json::json!({ "event": "error", "error": failure::to_json(error) })),
    }
}

/// Finds a pipeline of a loaded project, or says which there are; its mistakes are shown.
pub(crate) fn find_plan(
    loaded: &crate::project::Loaded,
    name: &str,
    common: &Common,
) -> Result<Option<lakehead_plan::Plan>> {
    if let Some(plan) = loaded.planned.plans.iter().find(|plan| plan.name == name) {
        return Ok(Some(plan.clone()));
    }
    if loaded.planned.names.iter().any(|known| known == name) || loaded.planned.names.is_empty() {
        check::show(loaded, common);
        return Ok(None);
    }
    let names: Vec<&str> = loaded.planned.names.iter().map(String::as_str).collect();
    let mut error = Error::user("R0908", "there is no such pipeline").with("pipeline", name);
    error = match lakehead_syntax::did_you_mean(name, names.iter().copied()) {
        Some(meant) => error.help(format!("did you mean `{meant}`?")),
        None => error.help(format!("pipelines are: {}", names.join(", "))),
    };
    Err(error)
}
