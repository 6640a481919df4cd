//! The command line, as `--help` teaches it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Moves databases, files and streams into an open lake, from pipeline files kept in git.
#[derive(Debug, Parser)]
#[command(name = "lakehead", version, arg_required_else_help = true)]
#[command(after_help = "Begin:   lakehead init demo && cd demo && lakehead run hello\n\
    Exit codes: 0 done, 1 errors, 2 wrong use or nothing matched, 3 `plan --exit-code` found changes, \
    4 `verify` found differences")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) verb: Verb,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// The profile whose variables hold
    #[arg(long, global = true, env = "LAKEHEAD_PROFILE")]
    pub(crate) profile: Option<String>,
    /// Sets a variable: --var bucket=acme-lake
    #[arg(long = "var", global = true, value_name = "NAME=VALUE")]
    pub(crate) variables: Vec<String>,
    /// Text for people, JSON for scripts
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// Says only what went wrong
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Says more: -v what happens, -vv details
    #[arg(short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Makes a project with one running example, or a mirror of a database
    Init(Init),
    /// Checks everything that can be known without running
    Check(Check),
    /// Writes files in the one style
    Fmt(Fmt),
    /// Draws pipelines
    Graph(Graph),
    /// Shows what a first run would create or change; writes nothing
    Plan(PlanArguments),
    /// Runs the test blocks on the production plan
    Test(Test),
    /// Runs a pipeline in the foreground
    Run(Run),
    /// Runs a pipeline once for each interval of a span of time
    Backfill(Backfill),
    /// Forgets where a pipeline stands: its next run reads everything anew and replaces its tables
    Resync(Resync),
    /// Runs what a directory holds, as its triggers say, until stopped
    Serve(Serve),
    /// Shows runs and tables
    Status(Status),
    /// Prints the columns of files or of a table, with what speaks for them
    Infer(Infer),
    /// Registers a table that others wrote in a catalog
    Register(Register),
    /// Lists tables by name, or prints views of them for DuckDB
    Tables(Tables),
    /// Compares tables with their catalogs and mends what differs
    #[command(subcommand)]
    Catalog(CatalogVerb),
    /// Shows which versions of a pipeline's tables belong together
    #[command(subcommand)]
    Cut(Cut),
    /// Prints the storage rules of a pipeline's tables as rules of their bucket, or puts them there
    #[command(subcommand)]
    Lifecycle(Lifecycle),
    /// Compares source and lake: counts and checksums per key range
    Verify(Verify),
    /// Shows rows of one file, and reads no more of it than they need
    Peek(Peek),
    /// Asks the sources for their columns and keeps them in lakehead.lock
    Lock(Lock),
    /// Explains an error code
    Explain(Explain),
    /// Prints completions for a shell
    Completions(Completions),
}

#[derive(Debug, Args)]
#[command(
    after_help = "The tables stay as they are until the next run has read everything: it replaces them in one commit each.\n\
    A change stream whose slot is still there is named with the statement that drops it."
)]
pub(crate) struct Resync {
    /// The pipeline
    pub(crate) pipeline: String,
    #[arg(long, default_value = ".")]
    pub(crate) path: PathBuf,
}

/// What may be asked of a cut.
#[derive(Debug, Subcommand)]
pub(crate) enum Cut {
    /// Names the versions to read so that parents have their children
    #[command(
        after_help = "All tables are named as they stood behind one round: a reader that takes these versions sees every row of a\n\
        source transaction or none of it. Versions stay readable for the tables' retention, a day unless they say otherwise."
    )]
    Show {
        /// The pipeline
        pipeline: String,
        #[arg(long, default_value = ".")]
        path: PathBuf,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "lakehead infer 'in/*.csv'    lakehead infer lake/shop/orders")]
pub(crate) struct Infer {
    /// Files (a name or a pattern), or the folder of a Delta, Parquet or ORC table
    pub(crate) place: String,
    /// Rows that types are told from
    #[arg(long, default_value_t = 1000)]
    pub(crate) sample: u32,
}

#[derive(Debug, Args)]
#[command(after_help = "Keys of a bucket come from the environment. Registering again brings the entry up to date.")]
pub(crate) struct Register {
    /// The folder of a Delta, Parquet or ORC table: a path or a URL
    pub(crate) table: String,
    /// Its name in the catalog; the folder's where left out
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The catalog; the one beside the ledger where left out
    #[arg(long)]
    pub(crate) catalog: Option<String>,
    #[arg(long, default_value = ".")]
    pub(crate) path: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "lakehead tables --duckdb | duckdb lake.db    makes a view of each table")]
pub(crate) struct Tables {
    /// As statements that make a view of each table
    #[arg(long)]
    pub(crate) duckdb: bool,
    #[arg(long, default_value = ".")]
    pub(crate) path: PathBuf,
}

/// What may be asked of catalogs.
#[derive(Debug, Subcommand)]
pub(crate) enum CatalogVerb {
    /// Has every catalog list the tables as they are
    #[command(
        after_help = "Tables are registered after their commits by themselves, and what fails is tried again. This is for entries that\n\
        somebody changed or dropped, and for tables that were there before their catalog was named."
    )]
    Sync {
        /// One pipeline; all where left out
        pipeline: Option<String>,
        /// Shows what differs and writes nothing; exits with 4 where something does
        #[arg(long)]
        check: bool,
        #[arg(long, default_value = ".")]
        path: PathBuf,
    },
}

/// What may be asked of lifecycles.
#[derive(Debug, Subcommand)]
pub(crate) enum Lifecycle {
    /// Prints the rules for a person to review and apply; nothing is sent anywhere
    #[command(
        after_help = "Setting a bucket's rules replaces all of them: give those that are there with --merge, and only this pipeline's are\n\
        replaced.\n\n\
        lakehead lifecycle emit mirror > rules.json\n\
        aws s3api put-bucket-lifecycle-configuration --bucket lake --lifecycle-configuration file://rules.json\n\n\
        The rules move files that carry the tag `lakehead-tier`: those written since the sink names its lifecycle."
    )]
    Emit {
        /// The pipeline
        pipeline: String,
        /// As one Terraform resource instead of the JSON that S3 takes
        #[arg(long, conflicts_with = "merge")]
        terraform: bool,
        /// The bucket's present rules, as `aws s3api get-bucket-lifecycle-configuration` prints them
        #[arg(long, value_name = "FILE")]
        merge: Option<PathBuf>,
        #[arg(long, default_value = ".")]
        path: PathBuf,
    },
    /// Puts the rules into their buckets, beside those of others, and looks that they are there
    #[command(
        after_help = "The bucket's rules are read, this pipeline's replaced, all others written as they stood, and read back. Where they\n\
        changed in between, nothing is written. Keys need s3:GetLifecycleConfiguration and s3:PutLifecycleConfiguration."
    )]
    Apply {
        /// The pipeline
        pipeline: String,
        /// Shows what would change and writes nothing
        #[arg(long)]
        dry_run: bool,
        #[arg(long, default_value = ".")]
        path: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The folder to make
    #[arg(default_value = ".")]
    pub(crate) folder: PathBuf,
    /// A database to mirror: postgres://user@host/database (the password comes from PGPASSWORD)
    #[arg(long, value_name = "URL")]
    pub(crate) from: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// A directory, or one file of it
    #[arg(default_value = ".")]
    pub(crate) path: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Fmt {
    /// Directories or files
    #[arg(default_value = ".")]
    pub(crate) paths: Vec<PathBuf>,
    /// Writes nothing; fails where a file is not in style
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Graph {
    /// One pipeline; all where left out
    pub(crate) pipeline: Option<String>,
    #[arg(long, default_value = ".")]
    pub(crate) path: PathBuf,
    /// As a Mermaid flowchart, for a README
    #[arg(long)]
    pub(crate) mermaid: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArguments {
    /// One pipeline; all where left out
    pub(crate) pipeline: Option<String>,
    #[arg(long, default_value = ".")]
    pub(crate) path: PathBuf,
    /// Exits with 3 where something would be created
    #[arg(long)]
    pub(crate) exit_code: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Test {
    /// A file, or a part of a title or pipeline name
    pub(crate) filter: Option<String>,
    #[arg(long, default_value = ".")]
    pub(crate) path: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The pipeline
    pub(crate) pipeline: String,
    #[arg(long, default_value = ".")]
    pub(crate) path: PathBuf,
    /// Ends a continuous pipeline when everything that was there is in the lake
    #[arg(long, value_enum)]
    pub(crate) until: Option<UntilArgument>,
    /// Shows the first rows of each table at the end
    #[arg(long, default_value_t = 0)]
    pub(crate) rows: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum UntilArgument {
    CaughtUp,
}

#[derive(Debug, Args)]
pub(crate) struct Backfill {
    /// The pipeline
    pub(crate) pipeline: String,
    /// The first moment: 2026-11-01 or 2026-11-01T00:00:00Z
    #[arg(long)]
    pub(crate) from: String,
    /// The moment behind the last
    #[arg(long)]
    pub(crate) to: String,
    /// Intervals computed side by side
    #[arg(long, default_value_t = 1)]
    pub(crate) workers: usize,
    /// Lists the intervals and runs none
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[arg(long, default_value = ".")]
    pub(crate) path: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The directory
    #[arg(default_value = ".")]
    pub(crate) path: PathBuf,
    /// Address of health, metrics and status
    #[arg(long, default_value = "127.0.0.1:8686")]
    pub(crate) listen: String,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// One pipeline; all where left out
    pub(crate) pipeline: Option<String>,
    #[arg(long, default_value = ".")]
    pub(crate) path: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The pipeline
    pub(crate) pipeline: String,
    #[arg(long, default_value = ".")]
    pub(crate) path: PathBuf,
    /// One table of the source
    #[arg(long)]
    pub(crate) table: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "lakehead peek lake/orders/part-0.parquet \"where { id = 7 }\" --columns id,amount\n\
    lakehead peek s3://lake/raw/logs.json.gz --limit 5\n\n\
    Of a Parquet file, row groups and pages that cannot hold such rows are not read, and of the other columns only what\n\
    stands beside the rows that are shown. The last line says what was read.")]
pub(crate) struct Peek {
    /// A Parquet, ORC, CSV or JSON file (.gz, .zst): a path, or a URL of any store
    pub(crate) object: String,
    /// Which rows: where { SQL }
    #[arg(value_name = "where { SQL }", allow_negative_numbers = true)]
    pub(crate) condition: Vec<String>,
    /// Columns to show, in this order
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub(crate) columns: Option<Vec<String>>,
    /// Rows to show at most
    #[arg(long, default_value_t = 20)]
    pub(crate) limit: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Lock {
    #[arg(default_value = ".")]
    pub(crate) path: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// E0301, W0901, R0201 …
    pub(crate) code: String,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    pub(crate) shell: clap_complete::Shell,
}
