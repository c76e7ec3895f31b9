//! The routes every stand-in has beside its service's own: reading the ledger, setting faults.
//!
//! | route | |
//! |---|---|
//! | `GET /__health` | 200 once the service answers |
//! | `GET /__ledger?since=N` | the entries from number N on, as JSON lines |
//! | `GET /__faults` | the rules in force and how often each has acted |
//! | `POST /__faults` | replaces the rules by the list in the body |

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, body::Bytes};
use serde::Deserialize;
use serde_json::json;

use crate::fault::Rule;
use crate::passage::Options;

/// Where a caller that waits for the service asks.
pub const HEALTH_PATH: &str = "/__health";

/// The shared routes, to be merged with the service's own.
pub fn admin_routes(options: Options) -> Router {
    Router::new()
        .route(HEALTH_PATH, get(|| async { "ok" }))
        .route("/__ledger", get(read_ledger))
        .route("/__faults", get(read_faults).post(set_faults))
        .with_state(options)
}

#[derive(Deserialize)]
struct Since {
    #[serde(default)]
    since: u64,
}

async fn read_ledger(State(options): State<Options>, Query(query): Query<Since>) -> Response {
    // A file ledger may be long; reading it must not hold up the service.
    let read = tokio::task::spawn_blocking(move || {
        let mut lines = Vec::new();
        for entry in options.ledger.entries(query.since)? {
            serde_json::to_writer(&mut lines, &entry).map_err(std::io::Error::from)?;
            lines.push(b'\n');
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(lines)
    });
    match read.await {
        Ok(Ok(lines)) => ([(header::CONTENT_TYPE, "application/jsonl")], lines).into_response(),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn read_faults(State(options): State<Options>) -> Response {
    let rules: Vec<_> = (options.faults.rules().into_iter())
        .map(|(rule, acted)| json!({ "rule": rule, "acted": acted }))
        .collect();
    Json(rules).into_response()
}

async fn set_faults(State(options): State<Options>, body: Bytes) -> Response {
    match serde_json::from_slice::<Vec<Rule>>(&body) {
        Ok(rules) => {
            options.faults.set(rules);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("faults: {error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use axum::routing::get;

    use super::admin_routes;
    use crate::{Fate, Options, lost_reply, serve_router};

    async fn ask(address: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream.write_all(request.as_bytes()).await.expect("writes");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("reads");
        answer
    }

    #[tokio::test]
    async fn a_lost_reply_is_applied_and_recorded_but_never_answered() {
        let options = Options::memory();
        let service = options.clone();
        let router = admin_routes(options.clone()).route(
            "/thing",
            get(move || {
                let service = service.clone();
                async move {
                    let passage = service
                        .enter("test", "get", "/thing")
                        .await
                        .expect("entered");
                    let applied = passage.applies();
                    let fate = passage
                        .record(applied, 200, None, serde_json::Value::Null)
                        .expect("recorded");
                    match fate {
                        Fate::Lose => lost_reply(),
                        Fate::Send => axum::response::IntoResponse::into_response("fine"),
                        Fate::Replace { .. } => {
                            axum::response::IntoResponse::into_response("instead")
                        }
                    }
                }
            }),
        );
        let router = router.with_state(());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let address = listener.local_addr().expect("bound");
        let server = tokio::spawn(serve_router(listener, router));

        let rules = r#"[{"action":{"lost_reply":true},"count":1}]"#;
        let set = format!(
            "POST /__faults HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{rules}",
            rules.len()
        );
        assert!(ask(address, &set).await.starts_with("HTTP/1.1 204"));
        let get = "GET /thing HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        assert_eq!(ask(address, get).await, "", "the connection just closes");
        assert!(ask(address, get).await.ends_with("fine"));
        let entries = options.ledger.entries(0).expect("in memory");
        let seen: Vec<_> = entries
            .iter()
            .map(|e| (e.applied, e.answered, e.fault))
            .collect();
        assert_eq!(seen, [(true, None, true), (true, Some(200), false)]);
        let read = ask(
            address,
            "GET /__ledger?since=1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        );
        assert!(read.await.contains("\"number\":1"));
        server.abort();
    }
}
