//! The socket: requests in, through the faults, into the emulator, into the ledger, and out.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use azure_core::http::{Method, Request as EmulatorRequest};
use azure_data_cosmos_driver::in_memory_emulator::{
    ContainerConfig, InMemoryEmulatorHttpClient, VirtualAccountConfig, VirtualRegion, WriteMode,
};
use bytes::Bytes;
use serde_json::{Value, json};
use thalweg_standin_ledger::{Fate, Options, admin_routes, lost_reply, serve_router};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use url::Url;

use crate::authorization::is_signed;
use crate::history::{History, etags, intended};
use crate::request::{Target, writes};

/// Largest body taken; the service's own limit is 2 MiB and must be what answers first.
const BODY_BYTES_MAX: usize = 16 << 20;
const RETRY_AFTER: &str = "x-ms-retry-after-ms";

/// What kind of account is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Whether it has two regions that both take writes.
    pub several_write_regions: bool,
}

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What is to be created is not written as `DB/CONTAINER:/PARTITION_KEY[:REQUEST_UNITS]`.
    #[error("cannot create {0:?}: write DB/CONTAINER:/PARTITION_KEY[:REQUEST_UNITS]")]
    Create(String),
    /// The emulator refuses its configuration.
    #[error("the emulator refuses to start: {0}")]
    Emulator(String),
    /// The address of the listener makes no URL.
    #[error("the listener's address makes no URL: {0}")]
    Address(#[from] url::ParseError),
}

/// Serves an account with one region until the future is dropped. `options.create` names
/// containers as `DB/CONTAINER:/PARTITION_KEY[:REQUEST_UNITS]`; with request units, more than
/// these in a second are answered with 429.
///
/// # Errors
/// If it cannot start, or the listener fails for good.
pub async fn serve(listener: TcpListener, options: Options) -> std::io::Result<()> {
    serve_account(listener, options, Account::default()).await
}

/// As [`serve`], for an account of another kind.
///
/// # Errors
/// As [`serve`].
pub async fn serve_account(
    listener: TcpListener,
    options: Options,
    account: Account,
) -> std::io::Result<()> {
    let port = listener.local_addr()?.port();
    let service = Service::start(port, options.clone(), account).map_err(std::io::Error::other)?;
    let router = Router::new().fallback(answer).with_state(Arc::new(service));
    serve_router(listener, router.merge(admin_routes(options))).await
}

#[derive(Debug)]
struct Service {
    emulator: InMemoryEmulatorHttpClient,
    url: Url,
    options: Options,
    /// Held from the execution of a write until it is recorded, so that the ledger's order is the
    /// order of effects.
    history: Mutex<History>,
}

impl Service {
    fn start(port: u16, options: Options, account: Account) -> Result<Self, StartError> {
        let refused = |error: azure_data_cosmos_driver::error::CosmosError| {
            StartError::Emulator(error.to_string())
        };
        let url = Url::parse(&format!("http://127.0.0.1:{port}/"))?;
        let mut regions = vec![VirtualRegion::new("East US", url.clone())];
        let mut mode = WriteMode::Single;
        if account.several_write_regions {
            let second = Url::parse(&format!("http://localhost:{port}/"))?;
            regions.push(VirtualRegion::new("West US", second));
            mode = WriteMode::Multi;
        }
        let config = VirtualAccountConfig::new(regions)
            .map_err(refused)?
            .with_write_mode(mode)
            .with_throttling_enabled(true);
        let emulator = InMemoryEmulatorHttpClient::try_new(config).map_err(refused)?;
        let mut databases = BTreeSet::new();
        for what in &options.create {
            create(&emulator, what, &mut databases)?;
        }
        Ok(Self {
            emulator,
            url,
            options,
            history: Mutex::default(),
        })
    }

    async fn execute(
        &self,
        path: &str,
        method: &str,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Answer, String> {
        let mut url = self.url.clone();
        url.set_path(path);
        let method = Method::from_str(method).map_err(|e| e.to_string())?;
        let mut request = EmulatorRequest::new(url, method);
        for (name, value) in headers {
            if let Ok(value) = value.to_str() {
                request.insert_header(name.as_str().to_owned(), value.to_owned());
            }
        }
        request.set_body(body.to_vec());
        let response = self
            .emulator
            .execute_request(&request)
            .await
            .map_err(|e| e.to_string())?;
        let (status, headers, body) = response.deconstruct();
        let headers = headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), value.as_str().to_owned()))
            .collect();
        let body = body.collect().await.map_err(|e| e.to_string())?;
        Ok(Answer {
            status: status.into(),
            headers,
            body,
        })
    }
}

fn create<'w>(
    emulator: &InMemoryEmulatorHttpClient,
    what: &'w str,
    databases: &mut BTreeSet<&'w str>,
) -> Result<(), StartError> {
    let wrong = || StartError::Create(what.to_owned());
    let mut parts = what.split(':');
    let (database, container) = parts
        .next()
        .and_then(|name| name.split_once('/'))
        .ok_or_else(wrong)?;
    let key = parts
        .next()
        .filter(|key| key.starts_with('/'))
        .ok_or_else(wrong)?;
    let mut config = ContainerConfig::new();
    if let Some(request_units) = parts.next() {
        config = config.with_throughput(request_units.parse().map_err(|_| wrong())?);
    }
    let store = emulator.store();
    if databases.insert(database) {
        store.create_database(database);
    }
    store.create_container_with_config(database, container, key.into(), config);
    Ok(())
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// An error as the service words it.
    fn error(status: u16, retry_after_ms: Option<u64>, message: &str) -> Self {
        let code = match status {
            401 => "Unauthorized",
            408 => "RequestTimeout",
            429 => "TooManyRequests",
            449 => "RetryWith",
            503 => "ServiceUnavailable",
            _ => "InternalServerError",
        };
        let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        if let Some(delay) = retry_after_ms {
            headers.push((RETRY_AFTER.to_owned(), delay.to_string()));
        }
        if status == 429 {
            headers.push(("x-ms-substatus".to_owned(), "3200".to_owned()));
        }
        let body = json!({ "code": code, "message": message }).to_string();
        Self {
            status,
            headers,
            body: body.into(),
        }
    }

    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in self.headers {
            // The length is that of the body we send; everything else is the emulator's.
            if name.eq_ignore_ascii_case("content-length") {
                continue;
            }
            if let (Ok(name), Ok(value)) =
                (HeaderName::from_str(&name), HeaderValue::from_str(&value))
            {
                response.headers_mut().append(name, value);
            }
        }
        response
    }
}

async fn answer(State(service): State<Arc<Service>>, request: Request) -> Response {
    match handle(&service, request).await {
        Ok(response) => response,
        Err(message) => Answer::error(500, None, &message).into_response(),
    }
}

async fn handle(service: &Service, request: Request) -> Result<Response, String> {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, BODY_BYTES_MAX)
        .await
        .map_err(|e| e.to_string())?;
    let (method, path) = (head.method.as_str(), Target::trim(head.uri.path()));
    let target = Target::of(path);
    let operation = target.operation(method, &head.headers);
    let passage = (service
        .options
        .enter("cosmos", &operation, &target.path())
        .await)
        .map_err(|e| e.to_string())?;

    if !is_signed(method, &target, &head.headers) {
        let message = "The input authorization token can't serve the request";
        let refused = Answer::error(401, None, message);
        let fate = passage
            .record(false, 401, None, Value::Null)
            .map_err(|e| e.to_string())?;
        return Ok(finish(fate, refused));
    }
    if !writes(&operation) {
        let answer = match passage.applies() {
            true => service.execute(path, method, &head.headers, &body).await?,
            false => Answer::error(500, None, ""),
        };
        let retry_after_ms = answer.header(RETRY_AFTER).and_then(|v| v.parse().ok());
        let fate = passage
            .record(false, answer.status, retry_after_ms, Value::Null)
            .map_err(|e| e.to_string())?;
        return Ok(finish(fate, answer));
    }

    let intended = intended(&operation, &target, &head.headers, &body);
    let mut history = service.history.lock().await;
    let answer = match passage.applies() {
        true => service.execute(path, method, &head.headers, &body).await?,
        false => Answer::error(500, None, ""),
    };
    // A batch takes effect as a whole, and says 200 only then.
    let applied = passage.applies()
        && (200..300).contains(&answer.status)
        && !(operation == "batch" && answer.status != 200);
    let after = applied.then(|| etags(&operation, answer.header("etag"), &answer.body));
    let details = history.details(&target, &head.headers, intended, after.as_deref());
    let retry_after_ms = answer.header(RETRY_AFTER).and_then(|v| v.parse().ok());
    let fate = passage
        .record(applied, answer.status, retry_after_ms, details)
        .map_err(|e| e.to_string())?;
    drop(history);
    Ok(finish(fate, answer))
}

fn finish(fate: Fate, answer: Answer) -> Response {
    match fate {
        Fate::Send => answer.into_response(),
        Fate::Replace {
            status,
            retry_after_ms,
        } => Answer::error(status, retry_after_ms, "a planned fault").into_response(),
        Fate::Lose => lost_reply(),
    }
}
