//! Metrics, health, status and savepoints over HTTP.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use thalweg_engine::{Command, Phase, StatusBoard};
use thalweg_metrics::Metrics;
use thalweg_stream::Fault;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use crate::terminal;

/// How many may be connected. One more takes the place of the oldest that waits for nothing: those who
/// keep connections that they do not use take no files away from the job.
const CONNECTIONS_MAX: usize = 64;
/// How long to wait after a connection that was not accepted.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

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
    let listener = TcpListener::bind(address).await;
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
    tokio::spawn(answer(listener, router));
    Ok(bound)
}

/// Answers whoever connects, for as long as it is polled.
async fn answer(listener: TcpListener, router: Router) {
    let service = TowerToHyperService::new(router);
    let mut connections = JoinSet::new();
    let mut oldest: VecDeque<(AbortHandle, Arc<()>)> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) => {
                // One is here, one with the service, and one with each request that is being answered.
                let (held, service) = (Arc::new(()), service.clone());
                let busy = Arc::clone(&held);
                let service = service_fn(move |request| {
                    let (answer, busy) = (service.call(request), Arc::clone(&busy));
                    async move {
                        let answer = answer.await;
                        drop(busy);
                        answer
                    }
                });
                let answering =
                    http1::Builder::new().serve_connection(TokioIo::new(socket), service);
                oldest.retain(|(connection, _)| !connection.is_finished());
                let connection = connections.spawn(async move {
                    if let Err(error) = answering.await {
                        tracing::debug!(%error, "a connection to the HTTP interface has failed");
                    }
                });
                oldest.push_back((connection, held));
                if oldest.len() > CONNECTIONS_MAX {
                    let idle = |(_, held): &(AbortHandle, Arc<()>)| Arc::strong_count(held) <= 2;
                    let at = oldest.iter().position(idle).unwrap_or_default();
                    if let Some((connection, _)) = oldest.remove(at) {
                        connection.abort();
                    }
                }
            }
            Err(error) => {
                // The one that connected is gone, or files are short until some are closed.
                tracing::debug!(%error, "a connection to the HTTP interface was not accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::sync::watch;

    use super::*;

    #[tokio::test]
    async fn connections_that_nobody_uses_make_room() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (asked, mut was_asked) = mpsc::channel(1);
        let (go_on, gone_on) = watch::channel(false);
        let slow = move || {
            let (asked, mut gone_on) = (asked.clone(), gone_on.clone());
            async move {
                asked.send(()).await.ok();
                gone_on.wait_for(|on| *on).await.ok();
                "ok"
            }
        };
        let router = Router::new().route("/healthz", get(|| async { "ok" }));
        let router = router.route("/slow", get(slow));
        tokio::spawn(answer(listener, router));
        let mut first = TcpStream::connect(address).await.expect("somebody listens");
        let request = b"GET /slow HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
        first.write_all(request).await.expect("written");
        was_asked.recv().await.expect("the request has come");
        let mut idle = Vec::new();
        for _ in 0..3 * CONNECTIONS_MAX {
            idle.push(TcpStream::connect(address).await.expect("somebody listens"));
        }
        let mut asking = TcpStream::connect(address).await.expect("somebody listens");
        let request = b"GET /healthz HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
        asking.write_all(request).await.expect("written");
        let mut answer = String::new();
        asking.read_to_string(&mut answer).await.expect("answered");
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        // Nothing comes any more, but the end.
        let end = idle.first_mut().expect("many").read(&mut [0]).await;
        assert!(end.is_ok_and(|bytes| bytes == 0));
        go_on.send(true).expect("somebody waits");
        let mut answer = String::new();
        first.read_to_string(&mut answer).await.expect("answered");
        assert!(answer.ends_with("ok"), "{answer}");
    }
}
