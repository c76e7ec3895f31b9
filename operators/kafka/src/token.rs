//! Tokens for OAUTHBEARER: by client credentials from a token endpoint, or from a file that somebody
//! else keeps fresh.
//!
//! The properties are librdkafka's (`sasl.oauthbearer.…`), and a `file:` address is Java's way for
//! a file. librdkafka's own fetching needs a library that we do not link, so it asks us, on the
//! thread that polls it, at the start and after four fifths of a token's life. The request is that
//! of RFC 6749, section 4.4, with the client's credentials in its body (section 2.3.1).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::client::OAuthToken;
use serde::Deserialize;
use thalweg_stream::Clock;
use url::{Host, Url, form_urlencoded};

/// The properties that are read here and not by librdkafka.
pub(crate) const PROPERTIES: [&str; 5] = [METHOD, CLIENT_ID, CLIENT_SECRET, SCOPE, TOKEN_ENDPOINT];
const METHOD: &str = "sasl.oauthbearer.method";
const CLIENT_ID: &str = "sasl.oauthbearer.client.id";
const CLIENT_SECRET: &str = "sasl.oauthbearer.client.secret";
const SCOPE: &str = "sasl.oauthbearer.scope";
pub(crate) const TOKEN_ENDPOINT: &str = "sasl.oauthbearer.token.endpoint.url";

/// How long the endpoint may take.
const TIMEOUT: Duration = Duration::from_secs(8);
/// A token that does not say how long it lives is asked for again in time.
const LIFE_UNTOLD: Duration = Duration::from_secs(300);
/// Longest answer that is a token, bytes.
const ANSWER_MAX: usize = 256 << 10;

/// Where tokens come from.
#[derive(Clone)]
pub(crate) struct Tokens {
    origin: Origin,
    clock: Arc<dyn Clock>,
}

#[derive(Clone)]
enum Origin {
    File(PathBuf),
    Endpoint { url: Url, body: String },
}

/// What a token endpoint answers: RFC 6749, sections 5.1 and 5.2.
#[derive(Deserialize)]
struct Answer {
    access_token: Option<String>,
    /// A number, which some write as text (the first version of Entra ID's endpoint, AD FS).
    expires_in: Option<serde_json::Value>,
    error: Option<String>,
    error_description: Option<String>,
}

impl Answer {
    /// How long the token lives, if that is told.
    fn life(&self) -> Option<Duration> {
        let told = self.expires_in.as_ref()?;
        let seconds = match told.as_str() {
            Some(text) => text.parse().ok(),
            None => told.as_u64(),
        };
        seconds.map(Duration::from_secs)
    }
}

/// What is read of a token's claims: RFC 7519, section 4.1.
#[derive(Default, Deserialize)]
struct Claims {
    sub: Option<String>,
    /// Seconds since 1970.
    exp: Option<f64>,
}

/// What is wrong with one of the properties.
pub(crate) fn problem(name: &str, value: &str) -> Option<String> {
    match name {
        METHOD if value != "oidc" => Some("it is oidc".to_owned()),
        TOKEN_ENDPOINT => address(value).err(),
        _ => None,
    }
}

/// An address of tokens: a file's, or one that the secret may be sent to.
fn address(text: &str) -> Result<Url, String> {
    let form = "it is https://… or file:///…";
    let url = Url::parse(text).map_err(|_| form.to_owned())?;
    let local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" | "file" => Ok(url),
        "http" if local => Ok(url),
        _ => Err(form.to_owned()),
    }
}

impl Tokens {
    /// Where the properties say that tokens come from, if they do.
    pub(crate) fn of(properties: &[(String, String)], clock: Arc<dyn Clock>) -> Option<Self> {
        let property = |name: &str| {
            let mut named = properties.iter().filter(|(known, _)| known == name);
            named.next_back().map(|(_, value)| value.as_str())
        };
        let url = address(property(TOKEN_ENDPOINT)?).ok()?;
        if url.scheme() == "file" {
            let origin = Origin::File(url.to_file_path().ok()?);
            return Some(Self { origin, clock });
        }
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.append_pair("grant_type", "client_credentials");
        for (name, value) in [
            ("client_id", property(CLIENT_ID)),
            ("client_secret", property(CLIENT_SECRET)),
            ("scope", property(SCOPE)),
        ] {
            if let Some(value) = value {
                body.append_pair(name, value);
            }
        }
        let body = body.finish();
        let origin = Origin::Endpoint { url, body };
        Some(Self { origin, clock })
    }

    /// A token. Waits for it.
    ///
    /// # Errors
    /// Why there is none; no secret.
    pub(crate) fn token(&self) -> Result<OAuthToken, String> {
        match &self.origin {
            Origin::File(path) => {
                let text = std::fs::read_to_string(path);
                let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
                Ok(self.lasting(text.trim(), None))
            }
            Origin::Endpoint { url, body } => {
                let place = url.host_str().unwrap_or_default().to_owned();
                let answer = fetch(url.clone(), body.clone());
                let answer = answer.map_err(|why| format!("token endpoint at {place}: {why}"))?;
                let life = answer.life();
                let told = answer.error_description.or(answer.error);
                match answer.access_token {
                    Some(token) => Ok(self.lasting(&token, life)),
                    None => Err(format!(
                        "token endpoint at {place}: no token: {}",
                        told.unwrap_or_default()
                    )),
                }
            }
        }
    }

    /// The token with the end of its life and whose it is, as far as either is told.
    fn lasting(&self, token: &str, life: Option<Duration>) -> OAuthToken {
        let claims = claims(token);
        let now_ms = self.clock.now_ms();
        let after = |life: Duration| {
            now_ms.saturating_add(i64::try_from(life.as_millis()).unwrap_or(i64::MAX))
        };
        let lifetime_ms = match (life, claims.exp) {
            (Some(life), _) => after(life),
            (None, Some(at)) => (at * 1000.0) as i64,
            (None, None) => after(LIFE_UNTOLD),
        };
        OAuthToken {
            token: token.to_owned(),
            principal_name: claims.sub.unwrap_or_default(),
            // librdkafka counts it in microseconds.
            lifetime_ms: lifetime_ms.min(i64::MAX / 1000),
        }
    }
}

/// The claims of a token that is a JWT; others say nothing.
fn claims(token: &str) -> Claims {
    let payload = token.split('.').nth(1);
    let bytes = payload.and_then(|part| URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok());
    bytes
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

/// Asks the endpoint. Callbacks of librdkafka come on threads without a runtime.
fn fetch(url: Url, body: String) -> Result<Answer, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let text = |error: reqwest::Error| chain(&error.without_url());
    runtime.block_on(async {
        let mut client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            // A redirect would take the secret elsewhere.
            .redirect(reqwest::redirect::Policy::none());
        if url.scheme() == "http" {
            // It is on this machine.
            client = client.no_proxy();
        }
        let client = client.build().map_err(text)?;
        let form = "application/x-www-form-urlencoded";
        let request = client.post(url).header("content-type", form).body(body);
        let mut response = request.send().await.map_err(text)?;
        let status = response.status();
        let mut answer = Vec::new();
        while let Some(part) = response.chunk().await.map_err(text)? {
            answer.extend_from_slice(&part);
            if answer.len() > ANSWER_MAX {
                return Err("its answer is too long for a token".to_owned());
            }
        }
        serde_json::from_slice(&answer).map_err(|_| format!("no token, status {status}"))
    })
}

/// An error with its causes: the outermost alone says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use thalweg_stream::Clock;
    use thalweg_stream::clock::SystemClock;

    use super::{Answer, TOKEN_ENDPOINT, Tokens, problem};

    fn tokens(url: &str) -> Option<Tokens> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let properties = [(TOKEN_ENDPOINT.to_owned(), url.to_owned())];
        Tokens::of(&properties, clock)
    }

    #[test]
    fn secrets_go_to_no_endpoint_without_tls_but_a_local_one() {
        for url in [
            "https://login.example/token",
            "http://127.0.0.1:1/t",
            "file:///run/token",
        ] {
            assert_eq!(problem(TOKEN_ENDPOINT, url), None, "{url}");
            assert!(tokens(url).is_some(), "{url}");
        }
        for url in ["http://login.example/token", "ftp://x/y", "token", ""] {
            assert!(problem(TOKEN_ENDPOINT, url).is_some(), "{url}");
            assert!(tokens(url).is_none(), "{url}");
        }
        assert!(problem("sasl.oauthbearer.method", "default").is_some());
    }

    #[test]
    fn a_token_of_a_file_lives_as_long_as_it_says() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        // {"alg":"none"} . {"sub":"job","exp":1900000000}
        let jwt = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJqb2IiLCJleHAiOjE5MDAwMDAwMDB9.";
        std::fs::write(&path, format!("{jwt}\n")).expect("a file");
        let tokens = tokens(&format!("file://{}", path.display())).expect("tokens");
        let token = tokens.token().expect("a token");
        assert_eq!((&*token.token, &*token.principal_name), (jwt, "job"));
        assert_eq!(token.lifetime_ms, 1_900_000_000_000);
        std::fs::write(&path, "opaque").expect("a file");
        let token = tokens.token().expect("a token");
        let left = token.lifetime_ms - SystemClock::new().now_ms();
        assert!((200_000..=300_000).contains(&left), "{left}");
        std::fs::remove_file(&path).expect("gone");
        assert!(tokens.token().is_err());
    }

    #[test]
    fn the_life_of_a_token_is_a_number_or_its_text() {
        for (told, seconds) in [
            ("3599", Some(3599)),
            ("\"3599\"", Some(3599)),
            ("99999999999", Some(99_999_999_999)),
            ("null", None),
            ("-1", None),
            ("\"soon\"", None),
        ] {
            let text = format!("{{\"access_token\":\"t\",\"expires_in\":{told}}}");
            let answer: Answer = serde_json::from_str(&text).expect(told);
            assert_eq!(answer.life(), seconds.map(Duration::from_secs), "{told}");
            assert_eq!(answer.access_token.as_deref(), Some("t"));
        }
    }

    #[test]
    fn an_endpoint_that_is_not_there_is_told_without_secrets() {
        let tokens = tokens("http://127.0.0.1:1/secret-path").expect("tokens");
        let why = tokens.token().err().expect("nobody listens");
        assert!(why.starts_with("token endpoint at 127.0.0.1: "), "{why}");
        assert!(!why.contains("secret-path"), "{why}");
    }
}
