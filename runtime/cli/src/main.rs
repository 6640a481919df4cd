//! The binary `lakehead`: pipeline files in, lake tables out.
#![allow(missing_docs, reason = "the binary has no readers but its own")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this crate alone speaks to people")]

mod args;
mod catalogs;
mod copies;
mod environment;
mod failure;
mod parts;
mod project;
mod show;
mod verbs;

use std::process::ExitCode;

use clap::Parser;

/// Bytes of a worker's stack: plans of deeply nested SQL recurse.
const STACK_BYTES: usize = 8 << 20;

fn main() -> ExitCode {
    let arguments = args::Arguments::parse();
    environment::start(&arguments);
    failure::say_panics_of_ours_alone();
    lakehead_registry::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(STACK_BYTES).build();
    match runtime {
        Ok(runtime) => runtime.block_on(async {
            environment::outlive_file_limits();
            verbs::run(arguments).await
        }),
        Err(error) => {
            eprintln!("error: the runtime cannot start: {error}");
            ExitCode::from(1)
        }
    }
}
