//! One HTTP request and its answer: limits, no redirects, and no secrets in what goes wrong.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{HeaderMap, LOCATION, RETRY_AFTER};
use serde_json::Value;

use crate::error::{Error, without_queries};

/// Largest answer that is read (bytes).
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Longest excerpt of an answer that is quoted in a message (characters).
const EXCERPT_MAX: usize = 300;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends requests.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    client: reqwest::Client,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Http {
    /// `direct` keeps requests to this machine away from a proxy.
    pub(crate) fn new(direct: bool) -> Result<Self, Error> {
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            // A redirect would carry the token to a host nobody has checked.
            .redirect(reqwest::redirect::Policy::none());
        if direct {
            builder = builder.no_proxy();
        }
        let client = builder
            .build()
            .map_err(|error| Error::Setting(format!("http client: {}", reason(error))))?;
        Ok(Self { client })
    }

    pub(crate) fn request(
        &self,
        method: reqwest::Method,
        url: reqwest::Url,
        timeout: Duration,
    ) -> reqwest::RequestBuilder {
        self.client.request(method, url).timeout(timeout)
    }

    /// Sends a request and reads its answer; a redirect is refused.
    pub(crate) async fn send(
        &self,
        what: &str,
        request: reqwest::RequestBuilder,
    ) -> Result<Reply, Error> {
        let request = request
            .build()
            .map_err(|error| Error::Setting(format!("{what}: {}", reason(error))))?;
        let host = request.url().host_str().unwrap_or_default().to_owned();
        let failed = |error: reqwest::Error| {
            let (what, host, unsent) = (what.to_owned(), host.clone(), error.is_connect());
            let reason = reason(error);
            if unsent {
                Error::Unreachable { what, host, reason }
            } else {
                Error::Unknown { what, host, reason }
            }
        };
        let mut response = self.client.execute(request).await.map_err(failed)?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Error::Answer {
                    what: what.to_owned(),
                    host,
                    reason: format!("longer than {ANSWER_BYTES_MAX} bytes"),
                });
            }
            body.extend_from_slice(&chunk);
        }
        let reply = Reply {
            status,
            headers,
            body: body.freeze(),
        };
        if (300..400).contains(&status) && reply.headers.contains_key(LOCATION) {
            return Err(reply.refused(what, &host, true, "redirects are not followed".to_owned()));
        }
        Ok(reply)
    }
}

/// What failed, without the address, which may carry a signature.
fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    without_queries(&text)
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The refusal this answer is, in the words of whoever understands the body.
    pub(crate) fn refused(
        &self,
        what: &str,
        host: &str,
        permanent: bool,
        message: String,
    ) -> Error {
        Error::Refused {
            what: what.to_owned(),
            host: host.to_owned(),
            status: self.status,
            code: self.header("x-ms-error-code").unwrap_or("error").to_owned(),
            message,
            permanent,
            after: self.after(),
        }
    }

    /// The refusal of a storage service, which says nothing but its status and a code.
    pub(crate) fn refused_by_storage(&self, what: &str, host: &str) -> Error {
        let permanent = !matches!(self.status, 408 | 429 | 500..);
        self.refused(what, host, permanent, self.excerpt())
    }

    /// The refusal of the service itself: `@permanent` decides, not the status.
    pub(crate) fn refused_by_service(&self, what: &str, host: &str) -> Error {
        let parsed = serde_json::from_slice::<Value>(&self.body).ok();
        let Some(error) = parsed.as_ref().and_then(|body| body.get("error")) else {
            let permanent = !matches!(self.status, 408 | 429 | 500..);
            return self.refused(what, host, permanent, self.excerpt());
        };
        let text = |name: &str| error.get(name).and_then(Value::as_str);
        let message = text("@message")
            .or_else(|| text("message"))
            .unwrap_or("no message");
        let permanent = (error.get("@permanent").and_then(Value::as_bool))
            .unwrap_or(!matches!(self.status, 408 | 429 | 500..));
        Error::Refused {
            what: what.to_owned(),
            host: host.to_owned(),
            status: self.status,
            code: text("code").unwrap_or("error").to_owned(),
            message: shorten(&without_queries(message)),
            // A throttled request may be repeated whatever else it says.
            permanent: permanent && self.status != 429,
            after: self.after(),
        }
    }

    /// How long the service wants us to stay away.
    fn after(&self) -> Option<Duration> {
        if let Some(ms) = self
            .header("x-ms-retry-after-ms")
            .and_then(|v| v.parse().ok())
        {
            return Some(Duration::from_millis(ms));
        }
        let seconds = self.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
        Some(Duration::from_secs(seconds))
    }

    fn excerpt(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        match text.trim() {
            "" => "no explanation".to_owned(),
            text => shorten(&without_queries(text)),
        }
    }
}

fn shorten(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(EXCERPT_MAX) {
        Some((at, _)) => format!("{}…", line.get(..at).unwrap_or_default()),
        None => line,
    }
}
