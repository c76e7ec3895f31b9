//! `thalweg-standin`: a cloud service for tests and demonstrations, as a process of its own.
//!
//! Not for data you care about: everything is in memory and gone when the process ends.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use thalweg_standin_ledger::{Faults, Ledger, Options};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Local stand-ins for cloud services, for tests and demonstrations.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    service: Service,
}

#[derive(Subcommand)]
enum Service {
    /// Azure Cosmos DB, by Microsoft's in-memory emulator. The account key is the emulators'
    /// well-known one.
    Cosmos(Common),
    /// Azure Data Explorer: management, queries, queued ingestion and its storage.
    Adx(Common),
}

#[derive(Args)]
struct Common {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Append what was applied and answered to this file, as JSON lines (also: GET /__ledger).
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Take planned faults from this JSON file, read again when it changes (also: POST /__faults).
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
    /// Decides what faults with a probability do.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// What is to exist from the start. Cosmos: `DB/CONTAINER:/PARTITION_KEY[:REQUEST_UNITS]`;
    /// adx: `DATABASE` or `DATABASE/TABLE(column:type, …)`.
    #[arg(long, value_name = "WHAT")]
    create: Vec<String>,
}

impl Common {
    fn options(&self) -> anyhow::Result<Options> {
        let ledger = self
            .ledger
            .as_ref()
            .map_or_else(|| Ok(Ledger::memory()), Ledger::file)?;
        let faults = match &self.faults {
            Some(path) => Faults::file(path, self.seed)?,
            None => Faults::none(self.seed),
        };
        let mut options = Options::new(ledger, faults);
        options.create.clone_from(&self.create);
        Ok(options)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { service } = Arguments::parse();
    let (Service::Cosmos(common) | Service::Adx(common)) = &service;
    let listener = TcpListener::bind(common.listen)
        .await
        .with_context(|| format!("cannot listen on {}", common.listen))?;
    let options = common.options()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    announce(listener.local_addr()?)?;
    let served = async {
        match service {
            Service::Cosmos(_) => thalweg_standin_cosmos::serve(listener, options).await,
            Service::Adx(_) => thalweg_standin_adx::serve(listener, options).await,
        }
    };
    tokio::select! {
        served = served => served.context("the service ended"),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// Says where the service listens, on the one line that callers wait for.
fn announce(address: SocketAddr) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    writeln!(out, "listening on http://{address}")?;
    out.flush()
}
