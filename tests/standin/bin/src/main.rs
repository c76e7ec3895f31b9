//! `thalweg-standin`: a cloud service for tests and demonstrations, as a process of its own.
//!
//! Not for data you care about: everything is in memory and gone when the process ends.

mod look;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use thalweg_standin_cosmos::Account;
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
    Cosmos(Cosmos),
    /// Azure Data Explorer: management, queries, queued ingestion and its storage.
    Adx(Common),
    /// Prints a document of a running `cosmos`, read by its key.
    Document(Document),
    /// Prints what a query (KQL) of a running `adx` gives.
    Query(Query),
}

#[derive(Args)]
struct Document {
    /// Where the stand-in listens: http://ADDRESS:PORT
    endpoint: String,
    /// The container: DATABASE/CONTAINER
    container: String,
    /// The document's id
    id: String,
    /// The value of its partition key, if it is another than the id
    partition_key: Option<String>,
}

#[derive(Args)]
struct Query {
    /// Where the stand-in listens: http://ADDRESS:PORT
    cluster: String,
    /// The database
    database: String,
    /// The query: Observations | count
    kql: String,
}

#[derive(Args)]
struct Cosmos {
    #[command(flatten)]
    common: Common,
    /// How many regions take writes.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    write_regions: u8,
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

fn main() -> anyhow::Result<()> {
    let Arguments { service } = Arguments::parse();
    match service {
        Service::Cosmos(Cosmos {
            common,
            write_regions,
        }) => serve(&common, |listener, options| {
            let account = Account {
                several_write_regions: write_regions > 1,
            };
            thalweg_standin_cosmos::serve_account(listener, options, account)
        }),
        Service::Adx(common) => serve(&common, thalweg_standin_adx::serve),
        Service::Document(document) => print(&look::document(&document)?),
        Service::Query(query) => print(&look::rows(&query)?),
    }
}

/// Serves until the service fails or somebody asks for an end.
#[tokio::main]
async fn serve<F>(
    common: &Common,
    service: impl FnOnce(TcpListener, Options) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = std::io::Result<()>>,
{
    let listener = TcpListener::bind(common.listen)
        .await
        .with_context(|| format!("cannot listen on {}", common.listen))?;
    let options = common.options()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    announce(listener.local_addr()?)?;
    tokio::select! {
        served = service(listener, options) => served.context("the service ended"),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

/// Says where the service listens, on the one line that callers wait for.
fn announce(address: SocketAddr) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    writeln!(out, "listening on http://{address}")?;
    out.flush()
}
