//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Stream processing for device telemetry.
#[derive(Debug, Parser)]
#[command(name = "thalweg", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a job in this process; running it again resumes
    Run(RunArguments),
    /// Check a job definition: exit status 0 fine, 1 wrong
    Validate(DefinitionArguments),
    /// Show the dataflow of a job
    Graph(GraphArguments),
    /// Look into a checkpoint store
    Checkpoint(CheckpointArguments),
    /// Print generated telemetry as JSON lines
    Generate(GenerateArguments),
}

/// Which definition.
#[derive(Debug, Args)]
pub(crate) struct DefinitionArguments {
    /// The job definition
    pub(crate) job: PathBuf,
    /// Override a field: path.to.field=value
    #[arg(long, value_name = "PATH=VALUE")]
    pub(crate) set: Vec<String>,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// How to run a job.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    pub(crate) definition: DefinitionArguments,
    /// Worker threads
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) workers: u16,
    /// Start from `latest`, the checkpoint of an epoch, or `none`
    #[arg(long, default_value = "latest")]
    pub(crate) from: String,
    /// Fence a process that still runs the job
    #[arg(long)]
    pub(crate) take_over: bool,
    /// Serve /metrics, /status, /healthz and /readyz at this address
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
}

/// How to show a dataflow.
#[derive(Debug, Args)]
pub(crate) struct GraphArguments {
    #[command(flatten)]
    pub(crate) definition: DefinitionArguments,
    /// The notation
    #[arg(long, value_enum, default_value = "mermaid")]
    pub(crate) format: GraphFormat,
}

/// The notation of a dataflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphFormat {
    /// A Mermaid flowchart
    Mermaid,
    /// Graphviz
    Dot,
    /// Nodes and edges
    Json,
}

/// What to look at in a store.
#[derive(Debug, Args)]
pub(crate) struct CheckpointArguments {
    /// What to do
    #[arg(value_enum)]
    pub(crate) action: CheckpointAction,
    /// The store: a directory
    pub(crate) store: String,
    /// Which checkpoint to show; the newest without it
    #[arg(long)]
    pub(crate) epoch: Option<u64>,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to do with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CheckpointAction {
    /// The checkpoints there are
    List,
    /// What one consists of
    Show,
    /// Check every byte of every kept checkpoint
    Verify,
}

/// What to generate.
#[derive(Debug, Args)]
pub(crate) struct GenerateArguments {
    /// fleet, vehicles or weather
    pub(crate) what: String,
    /// How many records
    #[arg(long, default_value_t = 1000)]
    pub(crate) events: u64,
    /// How many devices report
    #[arg(long)]
    pub(crate) devices: Option<u64>,
    /// The seed: equal seeds give equal records
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Share of records that come minutes late
    #[arg(long, default_value_t = 0.0)]
    pub(crate) late: f64,
    /// Share of records that repeat an earlier one
    #[arg(long, default_value_t = 0.0)]
    pub(crate) duplicates: f64,
    /// Share of damaged records
    #[arg(long, default_value_t = 0.0)]
    pub(crate) corrupt: f64,
}
