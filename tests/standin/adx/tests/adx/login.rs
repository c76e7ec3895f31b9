//! Tokens: where they come from, how long they are used, and what happens when one is refused.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use thalweg_adx::{Auth, Client, Connection, Endpoint, Secret};
use thalweg_stream::Clock;

/// A cluster and its login service in one.
#[derive(Debug, Default)]
struct World {
    url: String,
    /// What the login service was told, in order.
    logins: Vec<String>,
    /// The tokens that commands came with.
    used: Vec<String>,
    /// The tokens the cluster no longer takes.
    revoked: Vec<String>,
    /// How long tokens live.
    lives_s: u64,
    login_fails: Option<u16>,
    redirect: bool,
}

type Shared = Arc<Mutex<World>>;

/// A clock that stands until it is moved.
#[derive(Debug, Default)]
struct Hands(Mutex<Duration>);

impl Clock for Hands {
    fn now_ms(&self) -> i64 {
        0
    }
    fn elapsed(&self) -> Duration {
        *self.0.lock().unwrap()
    }
}

async fn metadata(State(world): State<Shared>) -> Response {
    let url = world.lock().unwrap().url.clone();
    axum::Json(json!({ "AzureAD": {
        "LoginEndpoint": url, "LoginMfaRequired": false,
        "KustoServiceResourceId": "https://kusto.kusto.windows.net" } }))
    .into_response()
}

fn token(world: &mut World, told: String) -> Response {
    world.logins.push(told);
    if let Some(status) = world.login_fails {
        let body = json!({ "error": "invalid_client",
            "error_description": "AADSTS7000215: wrong secret\r\nTrace ID: 1" });
        return (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response();
    }
    let token = format!("token-{}", world.logins.len());
    axum::Json(json!({ "token_type": "Bearer", "access_token": token,
        "expires_in": world.lives_s.to_string() }))
    .into_response()
}

async fn login(State(world): State<Shared>, Path(tenant): Path<String>, body: String) -> Response {
    token(&mut world.lock().unwrap(), format!("{tenant} {body}"))
}

async fn instance(State(world): State<Shared>, uri: Uri, headers: HeaderMap) -> Response {
    assert_eq!(headers["metadata"], "true");
    token(
        &mut world.lock().unwrap(),
        uri.query().unwrap_or_default().to_owned(),
    )
}

async fn manage(State(world): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let mut world = world.lock().unwrap();
    assert!(serde_json::from_slice::<Value>(&body).unwrap()["csl"].is_string());
    for (name, part) in [
        ("x-ms-app", "Kusto.Thalweg:{"),
        ("x-ms-client-version", "Kusto.Thalweg.Client:{"),
        ("x-ms-client-request-id", "Thalweg;"),
        ("x-ms-version", "2024-12-12"),
        ("accept", "application/json"),
    ] {
        assert!(headers[name].to_str().unwrap().contains(part), "{name}");
    }
    let token = headers["authorization"]
        .to_str()
        .unwrap()
        .strip_prefix("Bearer ")
        .unwrap();
    world.used.push(token.to_owned());
    if world.redirect {
        let headers = [("location", "http://127.0.0.1:1/elsewhere")];
        return (StatusCode::TEMPORARY_REDIRECT, headers).into_response();
    }
    if world.revoked.iter().any(|revoked| revoked == token) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    axum::Json(json!({ "Tables": [{ "TableName": "Table_0",
        "Columns": [{ "ColumnName": "A", "ColumnType": "string" }], "Rows": [["x"]] }] }))
    .into_response()
}

async fn start() -> Shared {
    let world = Shared::default();
    let router = Router::new()
        .route("/v1/rest/auth/metadata", get(metadata))
        .route("/v1/rest/mgmt", post(manage))
        .route("/{tenant}/oauth2/v2.0/token", post(login))
        .route("/instance", get(instance))
        .with_state(world.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    {
        let mut world = world.lock().unwrap();
        world.url = format!("http://{}", listener.local_addr().unwrap());
        world.lives_s = 3600;
    }
    tokio::spawn(thalweg_standin_ledger::serve_router(listener, router));
    world
}

fn client(world: &Shared, auth: Auth, clock: &Arc<Hands>) -> Client {
    let connection = Connection::new(world.lock().unwrap().url.clone(), auth);
    Client::new(&connection, "job", clock.clone()).unwrap()
}

fn principal() -> Auth {
    Auth::ServicePrincipal {
        tenant: "tenant".to_owned(),
        client_id: "app".to_owned(),
        client_secret: Secret::new("p&ss word"),
    }
}

async fn ask(client: &Client) -> Result<(), thalweg_adx::Error> {
    client
        .command(Endpoint::Engine, "d", ".show version")
        .await
        .map(|_| ())
}

#[tokio::test]
async fn a_token_is_kept_until_shortly_before_its_end() {
    let (world, clock) = (start().await, Arc::new(Hands::default()));
    let client = client(&world, principal(), &clock);
    for minutes in [0, 10, 54, 56, 56, 112] {
        *clock.0.lock().unwrap() = Duration::from_secs(minutes * 60);
        ask(&client).await.unwrap();
    }
    let world = world.lock().unwrap();
    assert_eq!(
        world.used,
        [
            "token-1", "token-1", "token-1", "token-2", "token-2", "token-3"
        ]
    );
    assert_eq!(
        world.logins[0],
        "tenant grant_type=client_credentials&client_id=app&client_secret=p%26ss+word\
         &scope=https%3A%2F%2Fkusto.kusto.windows.net%2F.default"
    );
}

#[tokio::test]
async fn a_token_may_live_for_ever() {
    let (world, clock) = (start().await, Arc::new(Hands::default()));
    let client = client(&world, principal(), &clock);
    world.lock().unwrap().lives_s = u64::MAX;
    for hours in [1, 1000] {
        *clock.0.lock().unwrap() = Duration::from_secs(hours * 3600);
        ask(&client).await.unwrap();
    }
    assert_eq!(world.lock().unwrap().used, ["token-1", "token-1"]);
}

#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    let (world, clock) = (start().await, Arc::new(Hands::default()));
    let client = client(&world, principal(), &clock);
    ask(&client).await.unwrap();
    world.lock().unwrap().revoked = vec!["token-1".to_owned()];
    ask(&client).await.unwrap();
    let revoked = (1..9).map(|n| format!("token-{n}")).collect();
    world.lock().unwrap().revoked = revoked;
    let error = ask(&client).await.expect_err("no token is taken");
    assert_eq!((error.status(), error.retryable()), (Some(401), false));
    let world = world.lock().unwrap();
    assert_eq!(
        world.used,
        ["token-1", "token-1", "token-2", "token-2", "token-3"]
    );
}

#[tokio::test]
async fn concurrent_requests_log_in_once() {
    let (world, clock) = (start().await, Arc::new(Hands::default()));
    let client = client(&world, principal(), &clock);
    let (a, b, c) = tokio::join!(ask(&client), ask(&client), ask(&client));
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    assert_eq!(world.lock().unwrap().logins.len(), 1);
}

#[tokio::test]
async fn a_login_that_fails_says_why_and_shows_no_secret() {
    let (world, clock) = (start().await, Arc::new(Hands::default()));
    let client = client(&world, principal(), &clock);
    world.lock().unwrap().login_fails = Some(401);
    let error = ask(&client).await.expect_err("refused");
    assert!(!error.retryable(), "{error}");
    assert!(
        error
            .to_string()
            .ends_with("401 invalid_client: AADSTS7000215: wrong secret"),
        "{error}"
    );
    world.lock().unwrap().login_fails = Some(503);
    let error = ask(&client).await.expect_err("busy");
    assert!(
        error.retryable() && !format!("{error:?}").contains("p&ss"),
        "{error}"
    );
}

#[tokio::test]
async fn identities_of_machines_and_workloads_are_asked_for_their_tokens() {
    let (world, clock) = (start().await, Arc::new(Hands::default()));
    let endpoint = format!("{}/instance", world.lock().unwrap().url);
    let managed = Auth::ManagedIdentity {
        client_id: Some("me".to_owned()),
        endpoint: Some(endpoint),
    };
    ask(&client(&world, managed, &clock)).await.unwrap();
    let folder = std::env::temp_dir().join(format!("thalweg-adx-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let token_file = folder.join("assertion");
    std::fs::write(&token_file, "signed\n").unwrap();
    let workload = |token_file| Auth::WorkloadIdentity {
        tenant: "tenant".to_owned(),
        client_id: "app".to_owned(),
        token_file,
    };
    ask(&client(&world, workload(token_file), &clock))
        .await
        .unwrap();
    let missing = client(&world, workload(folder.join("none")), &clock);
    let error = ask(&missing).await.expect_err("no assertion");
    assert!(
        !error.retryable() && error.to_string().contains("none"),
        "{error}"
    );
    std::fs::remove_dir_all(&folder).unwrap();
    let world = world.lock().unwrap();
    assert_eq!(
        world.logins,
        [
            "api-version=2018-02-01&resource=https%3A%2F%2Fkusto.kusto.windows.net&client_id=me",
            "tenant grant_type=client_credentials&client_id=app&client_assertion_type=\
             urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
             &client_assertion=signed&scope=https%3A%2F%2Fkusto.kusto.windows.net%2F.default"
        ]
    );
}

#[tokio::test]
async fn a_redirect_is_refused_rather_than_followed_with_a_token() {
    let (world, clock) = (start().await, Arc::new(Hands::default()));
    let client = client(&world, Auth::Bearer(Secret::new("fixed")), &clock);
    world.lock().unwrap().redirect = true;
    let error = ask(&client).await.expect_err("refused");
    assert!(
        !error.retryable() && error.to_string().contains("redirects"),
        "{error}"
    );
    let world = world.lock().unwrap();
    assert_eq!((world.used.len(), world.logins.len()), (1, 0));
}
