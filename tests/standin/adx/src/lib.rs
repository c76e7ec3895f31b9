//! A stand-in for Azure Data Explorer: engine, data management and the storage it lends, on one
//! port of this machine.
//!
//! There is no emulator of queued ingestion, from anybody. This one serves what the official
//! clients and ours need: management commands, a part of the query language (versions 1 and 2 of
//! the protocol), queued ingestion version 1 with its own blobs, queues and tables, `ingest-by:`
//! tags checked at commit, statuses in table and queues. Faults are planned by the rules of
//! [`thalweg_standin_ledger`]; every request and every ingestion stands in the ledger.
//!
//! What it is to begin with is told by [`Options::create`](thalweg_standin_ledger::Options):
//! `DATABASE` or `DATABASE/TABLE(column:type, …)`, each created empty.
//!
//! Operations in ledger and rules: `mgmt` and `query` (target: database, blank, text), `PUT blob`,
//! `PUT block`, `PUT blocklist`, `GET blob`, `HEAD blob`, `DELETE blob`, `POST message`,
//! `GET messages`, `PEEK messages`, `DELETE message`, `INSERT entity`, `GET entity`,
//! `MERGE entity` (target: path), and of the worker behind the queue `deliver` (target: blob),
//! `ingest` (target: database/table), `report` (target: source id).
//!
//! Deliberately absent: authentication (a token is neither wanted nor looked at), streaming
//! ingestion, merging of extents, batching of untagged blobs. Not for data anybody cares about.

mod command;
mod decode;
mod ingest;
mod kql;
mod reply;
mod service;
mod storage;
mod value;
mod world;

use std::sync::Arc;

use thalweg_standin_ledger::{Options, admin_routes, serve_router};
use tokio::net::TcpListener;

/// Serves on `listener` until the future is dropped.
///
/// # Errors
/// If the listener fails for good, or [`Options::create`](thalweg_standin_ledger::Options) is not
/// understood.
pub async fn serve(listener: TcpListener, options: Options) -> std::io::Result<()> {
    let service = service::Service::new(options.clone())
        .map(Arc::new)
        .map_err(|message| std::io::Error::new(std::io::ErrorKind::InvalidInput, message))?;
    let router = service::routes(service.clone()).merge(admin_routes(options));
    tokio::select! {
        served = serve_router(listener, router) => served,
        () = ingest::work(service) => Ok(()),
    }
}
