//! The one binary: runs jobs, checks definitions, looks into checkpoints, generates telemetry.

mod command;
mod definition;
mod export;
mod follow;
mod generate;
mod graph;
mod hosts;
mod http;
mod inspect;
mod manual;
mod plan;
mod plugin;
mod process;
mod processes;
mod progress;
mod run;
mod runtime;
mod signals;
mod terminal;
mod transport;

use std::process::ExitCode;

use clap::Parser as _;
use thalweg_stream::{Class, Fault};

use crate::command::{Cli, Command};
use crate::signals::Signals;

/// How a command ends without success.
enum Failure {
    /// Diagnostics of a definition, already rendered.
    Definition(String),
    /// A result that says what is wrong, for machines.
    Result(String),
    /// Standard output cannot be written to.
    Output(std::io::Error),
    /// A fault of a job.
    Fault(Fault),
    /// Something else the user can mend.
    User(String),
    /// The same for the process that started this one, which says what it is about.
    Plain(String),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}

/// The statuses commands end with, beside 0: finished or stopped cleanly.
const USER: u8 = 1;
const WORLD: u8 = 2;
const BUG: u8 = 3;

fn main() -> ExitCode {
    // Before there are threads.
    thalweg_engine::give_back_memory();
    let signals = Signals::at_once();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            if let Some(what) = command::not_yet(std::env::args()) {
                return fail(&Failure::User(format!("`{what}` is not supported yet")));
            }
            // Nobody is left to tell if this cannot be printed.
            error.print().ok();
            return ExitCode::from(if error.use_stderr() { USER } else { 0 });
        }
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("THALWEG_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(terminal::Log)
        // It would print that it cannot print, and panic in the midst of a job.
        .log_internal_errors(false)
        .init();
    let signals = || signals.map_or_else(|| Ok(Signals::catch()?), Ok);
    let result = match cli.command {
        Command::Run(arguments) => signals().and_then(|signals| run::run(arguments, signals)),
        Command::Follow(arguments) => signals().and_then(|signals| follow::run(arguments, signals)),
        Command::Process => process::run(),
        Command::Validate(arguments) => definition::validate(&arguments),
        Command::Plan(arguments) => plan::plan(&arguments),
        Command::Graph(arguments) => graph::graph(&arguments),
        Command::Schema => definition::schema(),
        Command::Checkpoint(arguments) => inspect::checkpoint(&arguments),
        Command::Generate(arguments) => generate::generate(&arguments),
        Command::Completions(arguments) => manual::completions(&arguments),
        Command::Man(arguments) => manual::man(&arguments),
        Command::Plugin(arguments) => plugin::plugin(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

fn fail(failure: &Failure) -> ExitCode {
    let (message, status) = match failure {
        Failure::Definition(rendered) => (rendered.clone(), USER),
        Failure::Result(result) => match terminal::print(&format!("{result}\n")) {
            Ok(()) => return ExitCode::from(USER),
            Err(error) => (format!("error: standard output: {error}"), WORLD),
        },
        Failure::Output(error) => (format!("error: standard output: {error}"), WORLD),
        Failure::User(message) => (format!("error: {message}"), USER),
        Failure::Plain(message) => (message.clone(), USER),
        Failure::Fault(fault) => {
            let status = match fault.class {
                Class::User => USER,
                Class::Transient { .. }
                | Class::Unavailable
                | Class::Unreachable
                | Class::Fenced
                | Class::Corrupt => WORLD,
                Class::Bug => BUG,
            };
            (format!("error: {fault}"), status)
        }
    };
    terminal::say(&message);
    ExitCode::from(status)
}
