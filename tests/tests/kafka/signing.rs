//! The ways to sign in: SCRAM, tokens, certificates.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use thalweg_tests::process::{Running, until};

use super::{Case, Job, Place};

/// Seconds that a token lives which is to be outlived.
const LIFE_S: i64 = 12;

pub(crate) const CASES: &[Case] = &[
    ("SCRAM by both hashes", scram),
    ("a token by client credentials", credentials),
    ("a token from a file", file),
    ("jobs that outlive their tokens", renewed),
    ("a client's certificate", certificate),
];

/// The options to sign in by TLS with `properties`, one a line.
fn options(place: &Place, protocol: &str, properties: &[(&str, &str)]) -> String {
    let authority = place.broker.authority().display().to_string();
    let first = [
        ("security.protocol", protocol),
        ("ssl.ca.location", &*authority),
    ];
    let lines = (first.iter().chain(properties))
        .map(|(name, value)| format!("\n        {name}: \"{value}\""));
    format!(
        "until: latest\n      properties:{}",
        lines.collect::<String>()
    )
}

fn filled(place: &mut Place, topic: &str) {
    place.broker.create(topic, 2);
    let lines = place.lines(topic, 0..100);
    place.broker.produce_lines(topic, 2, &lines);
}

fn scram(place: &mut Place) {
    filled(place, "scram");
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        place.broker.add_user("ann", mechanism, "right-4711");
        for (password, fits) in [("right-4711", true), ("wrong-0815", false)] {
            let options = options(
                place,
                "SASL_SSL",
                &[
                    ("sasl.mechanism", mechanism),
                    ("sasl.username", "ann"),
                    ("sasl.password", password),
                ],
            );
            let job = place.job_at(&place.broker.tls_address(), "scram", &options, "");
            if fits {
                job.finish(2);
                job.holds(0..100);
                continue;
            }
            let said = job.refused();
            assert!(said.contains("access denied: "), "{said}");
            assert!(!said.contains("0815"), "{said}");
        }
    }
}

/// Seconds since 1970.
fn now_s() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
    since.as_secs() as i64
}

/// A token that is not signed: the broker's check for tests takes it.
fn token(life_s: i64) -> String {
    let now = now_s();
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(json!({ "alg": "none" }));
    let claims = part(json!({ "sub": "job", "iat": now - 1, "exp": now + life_s }));
    format!("{header}.{claims}.")
}

/// An endpoint that gives tokens, which live for so many seconds, to whoever knows the secret; its
/// address, and what it was asked.
fn endpoint(life_s: i64) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}/token", listener.local_addr().expect("bound"));
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&asked);
    // It ends with the test.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = Vec::new();
            let mut part = [0; 4096];
            // The body is short and its end known.
            while !request.ends_with(b"scope=read+all") {
                match stream.read(&mut part) {
                    Ok(0) | Err(_) => break,
                    Ok(read) => request.extend_from_slice(&part[..read]),
                }
            }
            let request = String::from_utf8_lossy(&request).into_owned();
            let known = request.contains("client_secret=s%26cret");
            let (status, answer) = match known {
                true => (
                    "200 OK",
                    json!({ "access_token": token(life_s), "expires_in": life_s }),
                ),
                false => (
                    "401 Unauthorized",
                    json!({ "error": "invalid_client", "error_description": "Who are you?" }),
                ),
            };
            log.lock().expect("unpoisoned").push(request);
            let answer = answer.to_string();
            let length = answer.len();
            let head =
                format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close");
            write!(stream, "{head}\r\n\r\n{answer}").ok();
        }
    });
    (address, asked)
}

/// The properties of a client who asks an endpoint for tokens.
fn client<'a>(secret: &'a str, address: &'a str) -> [(&'a str, &'a str); 6] {
    [
        ("sasl.mechanism", "OAUTHBEARER"),
        ("sasl.oauthbearer.method", "oidc"),
        ("sasl.oauthbearer.client.id", "me"),
        ("sasl.oauthbearer.client.secret", secret),
        ("sasl.oauthbearer.scope", "read all"),
        ("sasl.oauthbearer.token.endpoint.url", address),
    ]
}

fn credentials(place: &mut Place) {
    filled(place, "borne");
    let (address, asked) = endpoint(300);
    for secret in ["s&cret", "wrong-0815"] {
        let options = options(place, "SASL_SSL", &client(secret, &address));
        let job = place.job_at(&place.broker.tls_address(), "borne", &options, "");
        if secret == "s&cret" {
            job.finish(2);
            job.holds(0..100);
            let asked = asked.lock().expect("unpoisoned");
            let body = "\r\n\r\ngrant_type=client_credentials&client_id=me&client_secret=s%26cret&scope=read+all";
            assert!(
                asked[0].starts_with("POST /token HTTP/1.1\r\n"),
                "{}",
                asked[0]
            );
            assert!(asked[0].ends_with(body), "{}", asked[0]);
            continue;
        }
        let said = job.refused();
        assert!(said.contains("access denied: "), "{said}");
        assert!(said.contains("ho are you?"), "{said}");
        assert!(!said.contains("0815"), "{said}");
    }
}

fn file(place: &mut Place) {
    filled(place, "kept");
    let path = place.folder.path().join("token");
    std::fs::write(&path, token(300)).expect("a file");
    let address = format!("file://{}", path.display());
    let options = options(
        place,
        "SASL_SSL",
        &[
            ("sasl.mechanism", "OAUTHBEARER"),
            ("sasl.oauthbearer.token.endpoint.url", &address),
        ],
    );
    let job = place.job_at(&place.broker.tls_address(), "kept", &options, "");
    job.finish(1);
    job.holds(0..100);
}

/// Puts a token into a file, and another one in its place every second, until it is dropped.
struct Keeper {
    enough: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

fn put(path: &Path, life_s: i64) {
    let made = path.with_extension("new");
    std::fs::write(&made, token(life_s)).expect("a file");
    std::fs::rename(&made, path).expect("renamed");
}

impl Keeper {
    fn begin(path: &Path) -> Self {
        put(path, LIFE_S);
        let (enough, path) = (Arc::<AtomicBool>::default(), path.to_owned());
        let stop = Arc::clone(&enough);
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                std::thread::park_timeout(Duration::from_secs(1));
                put(&path, LIFE_S);
            }
        });
        let thread = Some(thread);
        Self { enough, thread }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.enough.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("a thread");
        thread.thread().unpark();
        thread.join().ok();
    }
}

/// The broker ends a session with its token, so whoever reads on has shown another one in time: one
/// that stood in the file meanwhile, one that the endpoint was asked for. Where there is none, the job
/// waits for one.
fn renewed(place: &mut Place) {
    filled(place, "lasting");
    let path = place.folder.path().join("renewed");
    let keeper = Keeper::begin(&path);
    let file = format!("file://{}", path.display());
    let (address, asked) = endpoint(LIFE_S);
    let kept = [
        ("sasl.mechanism", "OAUTHBEARER"),
        ("sasl.oauthbearer.token.endpoint.url", &*file),
    ];
    let endless = |properties: &[(&str, &str)]| {
        let options = options(place, "SASL_SSL", properties);
        let options = options.replacen("until: latest", "start: earliest", 1);
        place.job_at(&place.broker.tls_address(), "lasting", &options, "")
    };
    let kept = endless(&kept);
    let given = endless(&client("s&cret", &address));
    let (reading, asking) = (kept.run(1).listen().start(), given.run(1).start());
    kept.until_rows(100);
    given.until_rows(100);
    let times = || asked.lock().expect("unpoisoned").len();
    let (before, begun) = (times(), now_s());
    until("what they began with has ended", || {
        now_s() > begun + LIFE_S + 1
    });
    let lines = place.lines("lasting", 100..200);
    place.broker.produce_lines("lasting", 2, &lines);
    kept.until_rows(200);
    given.until_rows(200);
    let away = "the brokers are away";
    assert!(!kept.said().contains(away), "{}", kept.said());
    assert!(!given.said().contains(away), "{}", given.said());
    assert!(times() > before, "the endpoint is not asked again");
    Job::stop(asking);

    drop(keeper);
    until("the job misses the broker", || !connected(&reading));
    put(&path, 300);
    let lines = place.lines("lasting", 200..300);
    place.broker.produce_lines("lasting", 2, &lines);
    kept.until_rows(300);
    Job::stop(reading);
    kept.holds(0..300);
    given.holds(0..200);
}

/// Whether a job has its brokers.
fn connected(running: &Running) -> bool {
    let labels = "{job=\"lasting\",step=\"records\"}";
    let line = format!("thalweg_source_connected{labels} 1\n");
    running.get("/metrics").contains(&line)
}

fn certificate(place: &mut Place) {
    filled(place, "mutual");
    let (certificate, key) = place.broker.certificate();
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    let own = [
        ("ssl.certificate.location", &*certificate),
        ("ssl.key.location", &*key),
    ];
    let address = place.broker.mutual_address();
    let job = place.job_at(&address, "mutual", &options(place, "SSL", &own), "");
    job.finish(2);
    job.holds(0..100);
    let without = format!("connect_timeout: 2s\n      {}", options(place, "SSL", &[]));
    let said = place.job_at(&address, "mutual", &without, "").refused();
    assert!(
        said.contains(&format!("topic \"mutual\" at {address}")),
        "{said}"
    );
    assert!(said.to_lowercase().contains("ssl"), "{said}");
}
