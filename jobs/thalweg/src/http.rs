//! Metrics, health, status and savepoints over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use thalweg_engine::{Command, Phase, StatusBoard};
use thalweg_metrics::Metrics;
use thalweg_stream::Fault;
use tokio::sync::{mpsc, oneshot};

use crate::terminal;

/// What is served.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) board: StatusBoard,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) commands: mpsc::Sender<Command>,
    /// Whether only this machine can connect.
    pub(crate) local: bool,
}

/// Binds the address and serves until the runtime ends; the address that was bound.
pub(crate) async fn serve(address: SocketAddr, served: Served) -> Result<SocketAddr, Fault> {
    let listener = tokio::net::TcpListener::bind(address).await;
    let unusable =
        |error: std::io::Error| Fault::unavailable(format!("--listen {address}: {error}"));
    let listener = listener.map_err(unusable)?;
    let bound = listener.local_addr().map_err(unusable)?;
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/savepoints", post(savepoint))
        .with_state(served);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::warn!(%error, "the HTTP interface has ended");
        }
    });
    Ok(bound)
}

async fn metrics(State(served): State<Served>) -> Response {
    match served.metrics.scrape() {
        Ok(text) => ([("content-type", "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn status(State(served): State<Served>) -> Response {
    match serde_json::to_string(&served.board.read()) {
        Ok(text) => {
            let shown = terminal::redact(&text).into_owned();
            ([("content-type", "application/json")], shown).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn ready(State(served): State<Served>) -> (StatusCode, &'static str) {
    match served.board.read().phase {
        Phase::Running => (StatusCode::OK, "ready\n"),
        Phase::Starting
        | Phase::Restarting
        | Phase::Stopping
        | Phase::Finished
        | Phase::Stopped
        | Phase::Failed => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    }
}

/// Takes a savepoint; answers once it is committed. There is no authentication here, so it is taken
/// for callers on this machine only, and not for the pages of a browser.
async fn savepoint(State(served): State<Served>, headers: HeaderMap) -> Response {
    if !served.local || headers.contains_key(header::ORIGIN) {
        let refused =
            "savepoints are taken for callers on this machine only: listen on a loopback address\n";
        return (StatusCode::FORBIDDEN, refused).into_response();
    }
    let (asker, taken) = oneshot::channel();
    // A run that no longer listens is ending, and drops the asker.
    served.commands.send(Command::Savepoint(asker)).await.ok();
    match taken.await.map(|taken| serde_json::to_string(&taken)) {
        Ok(Ok(taken)) => (
            StatusCode::CREATED,
            [("content-type", "application/json")],
            taken,
        )
            .into_response(),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        Err(_) => (StatusCode::CONFLICT, "the run has ended\n").into_response(),
    }
}
