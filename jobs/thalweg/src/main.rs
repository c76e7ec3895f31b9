//! The one binary: runs jobs, checks definitions, looks into checkpoints, generates telemetry.

mod command;
mod generate;
mod http;
mod inspect;
mod progress;
mod run;

use std::process::ExitCode;

use clap::Parser as _;
use thalweg_stream::{Class, Fault};

use crate::command::{Cli, Command};

/// How a command ends without success.
enum Failure {
    /// Diagnostics of a definition, already rendered.
    Definition(String),
    /// A fault of a job.
    Fault(Fault),
    /// Something else the user can mend.
    User(String),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("THALWEG_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let result = match cli.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Validate(arguments) => run::validate(&arguments),
        Command::Graph(arguments) => run::graph(&arguments),
        Command::Checkpoint(arguments) => inspect::checkpoint(&arguments),
        Command::Generate(arguments) => generate::generate(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

#[allow(
    clippy::print_stderr,
    reason = "this is where a command says why it failed"
)]
fn fail(failure: &Failure) -> ExitCode {
    match failure {
        Failure::Definition(rendered) => {
            eprint!("{rendered}");
            ExitCode::from(1)
        }
        Failure::User(message) => {
            eprintln!("error: {message}");
            ExitCode::from(1)
        }
        Failure::Fault(fault) => {
            eprintln!("error: {fault}");
            ExitCode::from(match fault.class {
                Class::User => 1,
                Class::Transient { .. } | Class::Unavailable | Class::Fenced | Class::Corrupt => 2,
                Class::Bug => 3,
            })
        }
    }
}
