//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Stream processing for device telemetry
///
/// A job is a text file: sources, steps and sinks. Results are published exactly once, from one
/// checkpointed dataflow.
#[derive(Debug, Parser)]
#[command(
    name = "thalweg",
    version,
    after_help = "Exit status: 0 finished or stopped cleanly, 1 the user's error, 2 the outside \
                  world's, 3 a bug of ours.\nTHALWEG_LOG=info shows more of what happens; NO_COLOR is obeyed."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a job in this process, or several, or lead it on several hosts; running it again resumes
    ///
    /// Ctrl-C or SIGTERM takes a checkpoint, publishes and stops; a second one stops at once.
    /// SIGUSR1 takes a savepoint: a checkpoint that is kept for good.
    /// Started again, the job goes on from its last checkpoint, with any number of workers and processes.
    Run(RunArguments),
    /// Work for a job that is led from another host
    ///
    /// Waits for `thalweg run --hosts` of the same definition at the first of the addresses, and works
    /// for one attempt of the job after the other, until it has finished or is stopped there.
    /// Ctrl-C or SIGTERM ends this process at once; the job goes on when it is started again.
    Follow(FollowArguments),
    /// Work for a job that another process on this host leads: what this program starts itself for
    #[command(hide = true)]
    Process,
    /// Check a job definition: every error at once, each with its place and a hint
    Validate(ValidateArguments),
    /// Say what becomes of a job's state when its definition changes
    ///
    /// Compares a definition with a checkpoint, part by part: kept, migrated, new, dropped or
    /// incompatible, with the reason. Exit status 0 if `thalweg run` goes on from there as it is, 1 if not.
    Plan(PlanArguments),
    /// Show the dataflow of a job
    Graph(GraphArguments),
    /// Print the JSON Schema of job definitions
    Schema,
    /// Look into a checkpoint store
    Checkpoint(CheckpointArguments),
    /// Print generated telemetry as JSON lines
    Generate(GenerateArguments),
    /// Make, build and look into plugins
    Plugin(PluginArguments),
    /// Print a script that completes commands in a shell
    Completions(CompletionsArguments),
    /// Print the manual page, or write the pages of all commands
    Man(ManArguments),
}

/// What the command line is to have and has not yet, if that is what was asked for.
pub(crate) fn not_yet(mut arguments: impl Iterator<Item = String>) -> Option<&'static str> {
    const COMMANDS: [&str; 12] = [
        "explain",
        "test",
        "dead-letters",
        "controller",
        "submit",
        "list",
        "show",
        "stop",
        "savepoint",
        "rescale",
        "upgrade",
        "logs",
    ];
    let command = arguments.nth(1)?;
    let among = |names: &[&'static str], word: &str| names.iter().copied().find(|n| *n == word);
    match command.as_str() {
        "plugin" => among(&["test"], &arguments.next()?).and(Some("plugin test")),
        command => among(&COMMANDS, command),
    }
}

/// What to do with a plugin.
#[derive(Debug, Args)]
pub(crate) struct PluginArguments {
    #[command(subcommand)]
    pub(crate) command: PluginCommand,
}

/// What to do with a plugin.
#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Make a plugin in Rust that builds
    New {
        /// Its name
        name: String,
        /// The folder to make; the name without it
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Build a plugin, and print the SHA-256 that a definition pins
    Build {
        /// The plugin's folder
        #[arg(default_value = ".")]
        dir: PathBuf,
        /// The file to write, with its hash beside it in FILE.sha256; in the plugin's folder without it
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the functions of a plugin and what it imports
    Inspect {
        /// The component
        file: PathBuf,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Compile standard input to standard output: what this program starts itself for
    #[command(hide = true)]
    Compile,
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

/// How to check a definition.
#[derive(Debug, Args)]
pub(crate) struct ValidateArguments {
    #[command(flatten)]
    pub(crate) definition: DefinitionArguments,
    /// Also try every source and sink; exit status 2 if one cannot be reached
    #[arg(long)]
    pub(crate) connect: bool,
}

/// How to run a job.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    pub(crate) definition: DefinitionArguments,
    /// Worker threads of each process
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) workers: u16,
    /// Processes on this host, this one included: each has that many worker threads
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64), conflicts_with = "hosts")]
    pub(crate) processes: u16,
    #[command(flatten)]
    pub(crate) hosts: HostArguments,
    /// Rows of one batch at most: results do not depend on it, which is what tests make it small for
    #[arg(long, hide = true, value_parser = clap::value_parser!(u16).range(1..=8192))]
    pub(crate) batch_rows: Option<u16>,
    /// Start from `latest`, the checkpoint of an epoch, or `none`
    #[arg(long, default_value = "latest")]
    pub(crate) from: String,
    /// Fence a process that still runs the job
    #[arg(long)]
    pub(crate) take_over: bool,
    /// If the checkpoint to start from is damaged, go on from the newest one before it that is not
    #[arg(long)]
    pub(crate) allow_older: bool,
    /// Lose the offsets, state and unpublished output of parts that the definition no longer has
    #[arg(long)]
    pub(crate) allow_drop: bool,
    /// Serve /metrics, /status, /healthz and /readyz at this address, and take POST /savepoints if
    /// it is a loopback address
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
}

/// On which hosts a job runs; one without any addresses.
#[derive(Debug, Args)]
pub(crate) struct HostArguments {
    /// Where the job's processes reach each other, the leader first; the same on every host
    #[arg(
        long,
        value_name = "HOST:PORT,...",
        value_delimiter = ',',
        requires = "secret_file"
    )]
    pub(crate) hosts: Vec<String>,
    /// What the processes know and nobody else: a file of at least 16 bytes, the same on every host
    #[arg(long, value_name = "FILE", requires = "hosts")]
    pub(crate) secret_file: Option<PathBuf>,
    /// Listen here, if it is not where the others reach this process
    #[arg(long, value_name = "ADDRESS", requires = "hosts")]
    pub(crate) bind: Option<SocketAddr>,
    /// The authorities that have signed the certificates of all processes, as PEM
    #[arg(long, value_name = "FILE", requires = "hosts", requires = "tls_cert")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// This process's certificate, for its host in --hosts, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's private key, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_ca")]
    pub(crate) tls_key: Option<PathBuf>,
}

/// Whom to work for.
#[derive(Debug, Args)]
pub(crate) struct FollowArguments {
    #[command(flatten)]
    pub(crate) definition: DefinitionArguments,
    #[command(flatten)]
    pub(crate) hosts: HostArguments,
    /// Which of the hosts this is, from 1; 0 is the first one, which leads
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) process: u16,
}

/// What to compare a definition with.
#[derive(Debug, Args)]
pub(crate) struct PlanArguments {
    #[command(flatten)]
    pub(crate) definition: DefinitionArguments,
    /// The checkpoint store; the one that the definition names without it
    #[arg(long, value_name = "STORE")]
    pub(crate) against: Option<String>,
    /// Which checkpoint; the one the job goes on from without it
    #[arg(long)]
    pub(crate) epoch: Option<u64>,
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
    #[command(subcommand)]
    pub(crate) action: CheckpointAction,
}

/// What to do with a store.
#[derive(Debug, Subcommand)]
pub(crate) enum CheckpointAction {
    /// List the checkpoints there are
    List(StoreArguments),
    /// Show what one checkpoint consists of
    Show(ShowArguments),
    /// Check every byte of every kept checkpoint; exit status 2 if something is damaged
    Verify(StoreArguments),
    /// Write the state of steps as rows: windows with keys and accumulators, fingerprints of
    /// deduplication, versions of tables
    Export(ExportArguments),
}

/// Which store.
#[derive(Debug, Args)]
pub(crate) struct StoreArguments {
    /// The store: a directory
    #[arg(value_name = "DIR")]
    pub(crate) store: String,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which checkpoint.
#[derive(Debug, Args)]
pub(crate) struct ShowArguments {
    #[command(flatten)]
    pub(crate) store: StoreArguments,
    /// Which checkpoint; the one the job goes on from without it
    #[arg(long)]
    pub(crate) epoch: Option<u64>,
}

/// What to export, and how.
#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    /// The store: a directory
    #[arg(value_name = "DIR")]
    pub(crate) store: String,
    /// Whose state; that of every step without it
    #[arg(long, value_name = "ID")]
    pub(crate) step: Option<String>,
    /// Which checkpoint; the one the job goes on from without it
    #[arg(long)]
    pub(crate) epoch: Option<u64>,
    /// JSON lines on standard output, or Arrow IPC files
    #[arg(long, value_enum, default_value = "json")]
    pub(crate) format: ExportFormat,
    /// The folder of the Arrow files, STEP.PART.arrow
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: Option<PathBuf>,
}

/// How rows are exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// JSON lines
    Json,
    /// Arrow IPC files
    Arrow,
}

/// What to generate.
#[derive(Debug, Args)]
pub(crate) struct GenerateArguments {
    /// What kind of telemetry
    #[arg(value_parser = ["fleet", "vehicles", "weather"])]
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
    /// Records per second; as fast as possible without it
    #[arg(long)]
    pub(crate) rate: Option<f64>,
}

/// Which shell.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArguments {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// Where manual pages go.
#[derive(Debug, Args)]
pub(crate) struct ManArguments {
    /// A folder, to write the pages of all commands to
    pub(crate) folder: Option<PathBuf>,
}
