//! Serving a router so that a reply can be lost: the connection closes without an answer (in
//! HTTP/2: the stream is reset).

use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;

/// Why a connection closed without an answer: a planned fault.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the reply is lost on purpose")]
pub struct LostReply;

/// The answer that is never sent: [`serve_router`] closes the connection instead.
#[must_use]
pub fn lost_reply() -> Response {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(LostReply);
    response
}

/// Serves `router` on `listener` until the future is dropped: HTTP/1.1, and HTTP/2 for clients that
/// start with it (the Cosmos DB driver does).
///
/// # Errors
/// If the listener fails for good.
pub async fn serve_router(listener: TcpListener, router: Router) -> std::io::Result<()> {
    // Dropping the set ends the connections with the server.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            Some(_ended) = connections.join_next() => continue,
        };
        stream.set_nodelay(true)?;
        let inner = TowerToHyperService::new(router.clone());
        connections.spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = inner.call(request.map(Body::new));
                async move {
                    let response: Result<Response, Infallible> = answer.await;
                    let Ok(response) = response;
                    match response.extensions().get::<LostReply>() {
                        Some(lost) => Err(*lost),
                        None => Ok(response),
                    }
                }
            });
            // A client that goes away is none of the service's business.
            auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await
                .is_ok()
        });
    }
}
