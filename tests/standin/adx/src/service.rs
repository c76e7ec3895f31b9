//! The HTTP surface: engine, data management and storage on one port.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request as HttpRequest, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::Deserialize;
use serde_json::{Value, json};
use thalweg_standin_ledger::{Fate, Options, lost_reply};

use crate::command::Command;
use crate::kql::{Source, Tabular, parse, run};
use crate::reply::{Reply, Style, query_answer_v1, query_answer_v2};
use crate::storage::{Message, Outcome, READY_QUEUE, Request};
use crate::value::TICKS_MS;
use crate::world::World;

/// Largest request that is read (bytes).
const BODY_BYTES_MAX: usize = 512 << 20;

/// The state all requests share.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) options: Options,
    world: Mutex<World>,
}

impl Service {
    pub(crate) fn new(options: Options) -> Result<Self, String> {
        let world = Mutex::new(World::new(&options.create)?);
        Ok(Self { options, world })
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.options.clock.now_ms()
    }

    /// Does something with the world while nobody else does.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        act(&mut self.world.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn give_back(&self, message: Message, visible_ms: i64) {
        self.with(|world| {
            if let Some(queue) = world.stored.queues.get_mut(READY_QUEUE) {
                queue.give_back(message, visible_ms);
            }
        });
    }

    /// One request: faults, effect, record, answer.
    async fn carry_out(
        &self,
        style: Style,
        operation: &str,
        target: &str,
        act: impl FnOnce(&mut World) -> Outcome,
    ) -> Response {
        let passage = match self.options.enter("adx", operation, target).await {
            Ok(passage) => passage,
            Err(error) => return broken(&error),
        };
        let (reply, fate) = self.with(|world| {
            let outcome = match passage.applies() {
                true => act(world),
                false => Outcome::refused(Reply::empty(500)),
            };
            let status = outcome.reply.status;
            // Recorded while nobody else can act, so that the ledger's order is that of effects.
            let fate = passage.record(outcome.applied, status, None, outcome.details);
            (outcome.reply, fate)
        });
        match fate {
            Ok(Fate::Send) => reply.into_response(),
            Ok(Fate::Lose) => lost_reply(),
            Ok(Fate::Replace {
                status,
                retry_after_ms,
            }) => Reply::planned(style, status, retry_after_ms).into_response(),
            Err(error) => broken(&error),
        }
    }
}

/// A stand-in that cannot keep its ledger must not go on.
fn broken(error: &std::io::Error) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
}

/// The service's own routes.
pub(crate) fn routes(service: Arc<Service>) -> Router {
    Router::new()
        .route("/v1/rest/mgmt", post(manage))
        .route("/v1/rest/query", post(query_v1))
        .route("/v2/rest/query", post(query_v2))
        .fallback(storage)
        .with_state(service)
}

/// What the service is asked.
#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    db: Option<String>,
    csl: String,
}

async fn read(request: HttpRequest) -> Result<(Asked, String), Response> {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let base = format!("http://{}", host.unwrap_or("127.0.0.1"));
    let refused = |message: String| Reply::bad_request(&message).into_response();
    let body = to_bytes(request.into_body(), BODY_BYTES_MAX).await;
    let body = body.map_err(|error| refused(error.to_string()))?;
    let asked = serde_json::from_slice(&body).map_err(|error| refused(error.to_string()))?;
    Ok((asked, base))
}

async fn manage(State(service): State<Arc<Service>>, request: HttpRequest) -> Response {
    let (asked, base) = match read(request).await {
        Ok(read) => read,
        Err(refused) => return refused,
    };
    let database = asked.db.unwrap_or_else(|| "NetDefaultDB".to_owned());
    let target = format!("{database} {}", asked.csl);
    let now_ms = service.now_ms();
    let run = |world: &mut World| {
        let command = Command {
            database: &database,
            text: &asked.csl,
            base: &base,
            now_ms,
        };
        command.run(world)
    };
    service
        .carry_out(Style::Service, "mgmt", &target, run)
        .await
}

async fn query_v1(State(service): State<Arc<Service>>, request: HttpRequest) -> Response {
    query(&service, request, |rows| {
        Reply::json(200, &query_answer_v1(rows))
    })
    .await
}

async fn query_v2(State(service): State<Arc<Service>>, request: HttpRequest) -> Response {
    let answer = |rows: &Tabular| {
        let mut reply = Reply::json(200, &Value::Null);
        reply.body = query_answer_v2(rows).into();
        reply
    };
    query(&service, request, answer).await
}

async fn query(
    service: &Service,
    request: HttpRequest,
    answer: impl FnOnce(&Tabular) -> Reply,
) -> Response {
    let asked = match read(request).await {
        Ok((asked, _)) => asked,
        Err(refused) => return refused,
    };
    // Commands come here too: clients that do not look at what they send.
    let database = asked.db.unwrap_or_else(|| "NetDefaultDB".to_owned());
    let target = format!("{database} {}", asked.csl);
    let now = service.now_ms() * TICKS_MS;
    let act = |world: &mut World| {
        let details = json!({ "db": database, "csl": asked.csl });
        match ask(world, &database, &asked.csl, now) {
            Ok(rows) => Outcome::applied(answer(&rows), details),
            Err(reply) => Outcome {
                details,
                ..Outcome::refused(reply)
            },
        }
    };
    service
        .carry_out(Style::Service, "query", &target, act)
        .await
}

fn ask(world: &World, database: &str, text: &str, now: i64) -> Result<Tabular, Reply> {
    let query = parse(text).map_err(|error| Reply::wrong_query(&error))?;
    if !world.databases.contains_key(database) {
        return Err(Reply::not_found("Database", database));
    }
    let given = match &query.source {
        Source::Table(name) => {
            let Some(table) = world.table(database, name) else {
                return Err(Reply::wrong_query(&crate::kql::QueryError::semantic(
                    format!("Failed to resolve table or column expression named '{name}'"),
                )));
            };
            let about = ["extent_tags", "ingestion_time", "extent_id"];
            table.rows(about.iter().any(|function| text.contains(function)))
        }
        Source::Print(_) | Source::Given => Tabular::default(),
    };
    run(&query.source, given, &query.steps, now).map_err(|error| Reply::wrong_query(&error))
}

async fn storage(State(service): State<Arc<Service>>, request: HttpRequest) -> Response {
    let (parts, body) = request.into_parts();
    let body = match to_bytes(Body::new(body), BODY_BYTES_MAX).await {
        Ok(body) => body,
        Err(error) => return (StatusCode::PAYLOAD_TOO_LARGE, error.to_string()).into_response(),
    };
    let query: BTreeMap<String, String> =
        url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
    let request = Request {
        method: parts.method,
        path: decoded(parts.uri.path()),
        query,
        headers: parts.headers,
        body,
        now_ms: service.now_ms(),
    };
    let operation = request.operation();
    let act = |world: &mut World| world.stored.carry_out(&request);
    service
        .carry_out(Style::Storage, &operation, &request.path, act)
        .await
}

/// A path without percent signs.
pub(crate) fn decoded(path: &str) -> String {
    let mut out = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let hex = |byte: Option<u8>| char::from(byte?).to_digit(16);
        if byte == b'%'
            && let (Some(high), Some(low)) = {
                let mut ahead = bytes.clone();
                (hex(ahead.next()), hex(ahead.next()))
            }
        {
            out.push((high * 16 + low) as u8);
            bytes.nth(1);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
