//! The client of a cluster: commands and queries, with tokens, classified errors and retries.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use thalweg_stream::Clock;
use uuid::Uuid;

use crate::answer::{Table, first_of_v1, primary_of_v2};
use crate::auth::{Auth, Tokens};
use crate::cluster::{Cluster, Endpoint};
use crate::error::Error;
use crate::http::{Http, Reply};

/// The service ends a request after 4 minutes by itself; ours ends a little later.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(270);
/// Tries of a request that changes nothing, or that may be repeated.
const TRIES_MAX: u32 = 4;
const BACKOFF_FIRST: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// How to reach a cluster.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The cluster's address, of the engine or of its data-management service.
    pub cluster: String,
    /// Who we are.
    pub auth: Auth,
    /// The scope of tokens, if not the one the cluster names.
    pub scope: Option<String>,
    /// Hosts that may be sent a token besides the service's own.
    pub trusted_hosts: Vec<String>,
}

impl Connection {
    /// To `cluster`, as `auth`.
    pub fn new(cluster: impl Into<String>, auth: Auth) -> Self {
        Self {
            cluster: cluster.into(),
            auth,
            scope: None,
            trusted_hosts: Vec::new(),
        }
    }
}

/// A client of one cluster.
#[derive(Debug)]
pub struct Client {
    http: Http,
    cluster: Cluster,
    tokens: Tokens,
    clock: Arc<dyn Clock>,
    application: String,
}

impl Client {
    /// A client that names itself `application` to the service; nothing is sent yet.
    ///
    /// # Errors
    /// If the address cannot be used, or may not be sent a token.
    pub fn new(
        connection: &Connection,
        application: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let cluster = Cluster::parse(&connection.cluster)?;
        let tokens = Tokens::new(
            connection.auth.clone(),
            cluster.clone(),
            connection.scope.clone(),
            connection.trusted_hosts.clone(),
            clock.clone(),
        )?;
        // Headers are ASCII.
        let application = (application.chars())
            .filter(|c| c.is_ascii_graphic() && !matches!(c, '{' | '}' | '|' | ';'))
            .collect();
        Ok(Self {
            http: Http::new(cluster.is_loopback())?,
            cluster,
            tokens,
            clock,
            application,
        })
    }

    /// The cluster's host, as messages name it.
    #[must_use]
    pub fn host(&self) -> &str {
        self.cluster.host()
    }

    pub(crate) fn http(&self) -> &Http {
        &self.http
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Runs a management command once and gives its first table.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub async fn command(
        &self,
        endpoint: Endpoint,
        database: &str,
        text: &str,
    ) -> Result<Table, Error> {
        let reply = self.post(endpoint, "/v1/rest/mgmt", database, text).await?;
        self.understood(text, first_of_v1(&reply.body))
    }

    /// Runs a management command that may be repeated, again after failures that may pass.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub(crate) async fn command_again(
        &self,
        endpoint: Endpoint,
        database: &str,
        text: &str,
    ) -> Result<Table, Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.command(endpoint, database, text).await {
                Err(error) if error.retryable() && tries < TRIES_MAX => {
                    tokio::time::sleep(backoff(tries, &error)).await;
                }
                done => return done,
            }
        }
    }

    /// Runs a query once (version 2 of the protocol) and gives its primary result.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub async fn query(&self, database: &str, text: &str) -> Result<Table, Error> {
        let reply = self
            .post(Endpoint::Engine, "/v2/rest/query", database, text)
            .await?;
        self.understood(text, primary_of_v2(&reply.body))
    }

    fn understood(&self, text: &str, table: Result<Table, String>) -> Result<Table, Error> {
        table.map_err(|reason| Error::Answer {
            what: excerpt(text),
            host: self.host().to_owned(),
            reason,
        })
    }

    async fn post(
        &self,
        endpoint: Endpoint,
        path: &str,
        database: &str,
        text: &str,
    ) -> Result<Reply, Error> {
        let what = excerpt(text);
        let mut url = self.cluster.base(endpoint).clone();
        url.set_path(path);
        let body = json!({ "db": database, "csl": text }).to_string();
        let mut renewed = false;
        loop {
            let token = self.tokens.token(&self.http).await?;
            let mut request = self
                .http
                .request(Method::POST, url.clone(), REQUEST_TIMEOUT)
                .header("Content-Type", "application/json; charset=utf-8")
                .header("Accept", "application/json")
                .header("x-ms-version", "2024-12-12")
                .header(
                    "x-ms-client-request-id",
                    format!("Thalweg;{}", Uuid::new_v4()),
                )
                .header("x-ms-app", self.application_header())
                .header("x-ms-client-version", VERSION_HEADER)
                .body(body.clone());
            if let Some(token) = &token {
                request = request.bearer_auth(token.reveal());
            }
            let reply = self.http.send(&what, request).await?;
            tracing::debug!(
                command = %what,
                status = reply.status,
                activity = reply.header("x-ms-activity-id"),
                "azure data explorer answered"
            );
            match (reply.status, &token) {
                (200, _) => return Ok(reply),
                (401, Some(token)) if !renewed && self.tokens.forget(token).await => {
                    renewed = true;
                }
                _ => return Err(reply.refused_by_service(&what, self.host())),
            }
        }
    }

    fn application_header(&self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        format!("Kusto.Thalweg:{{{version}}}|App.{{{}}}", self.application)
    }

    /// What the service's traces are to call us.
    pub(crate) fn application(&self) -> &str {
        &self.application
    }
}

/// What the service's traces are to call this client.
pub(crate) const VERSION_HEADER: &str =
    concat!("Kusto.Thalweg.Client:{", env!("CARGO_PKG_VERSION"), "}");

/// How long to wait before try number `tries` + 1: what the service says, or about twice as long
/// each time.
pub(crate) fn backoff(tries: u32, error: &Error) -> Duration {
    let doubled = BACKOFF_FIRST.saturating_mul(1 << tries.saturating_sub(1).min(10));
    let (_, random) = Uuid::new_v4().as_u64_pair();
    // Between a half and the whole, so that clients that failed together do not return together.
    let share = 0.5 + (random >> 12) as f64 / (1u64 << 53) as f64;
    (error.after()).unwrap_or_else(|| doubled.min(BACKOFF_MAX).mul_f64(share.min(1.0)))
}

/// The beginning of a command, for messages.
fn excerpt(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(80) {
        Some((at, _)) => format!("{}…", line.get(..at).unwrap_or_default()),
        None => line.to_owned(),
    }
}

/// A name as commands and queries quote it.
#[must_use]
pub(crate) fn quoted_name(name: &str) -> String {
    format!("['{}']", escaped(name))
}

/// A text as commands and queries quote it.
#[must_use]
pub(crate) fn quoted_text(text: &str) -> String {
    format!("'{}'", escaped(text))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{backoff, quoted_name, quoted_text};
    use crate::Error;

    #[test]
    fn names_and_texts_cannot_break_out() {
        assert_eq!(quoted_name("T"), "['T']");
        assert_eq!(quoted_text(r"a'b\c"), r"'a\'b\\c'");
    }

    #[test]
    fn waiting_grows_and_obeys_the_service() {
        let refused = |after| Error::Refused {
            what: "x".into(),
            host: "h".into(),
            status: 429,
            code: "c".into(),
            message: "m".into(),
            permanent: false,
            after,
        };
        let told = Duration::from_secs(7);
        assert_eq!(backoff(1, &refused(Some(told))), told);
        for tries in 1..40 {
            let wait = backoff(tries, &refused(None));
            assert!(wait >= Duration::from_millis(125) && wait <= Duration::from_secs(30));
        }
        assert!(backoff(9, &refused(None)) > backoff(1, &refused(None)));
    }
}
