//! Who we are to the cluster: tokens, acquired, kept and renewed.
//!
//! The login endpoint and the scope come from the cluster's own `/v1/rest/auth/metadata`, asked
//! only of trusted hosts. A token is renewed [`RENEW_BEFORE`] its end, and once when the service
//! answers 401.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;
use thalweg_stream::Clock;
use tokio::sync::Mutex;
use url::Url;

use crate::cluster::{Cluster, Endpoint};
use crate::error::Error;
use crate::http::{Http, Reply};
use crate::secret::{Secret, is_loopback};

/// How long before its end a token is renewed.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// A token is not asked for again within this time, however short it lives.
const RENEW_NOT_WITHIN: Duration = Duration::from_secs(5);
const LOGIN_TIMEOUT: Duration = Duration::from_secs(30);
const INSTANCE_METADATA: &str = "http://169.254.169.254/metadata/identity/oauth2/token";

/// How to authenticate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Not at all: stand-ins and local clusters.
    None,
    /// A token that somebody else renews.
    Bearer(Secret),
    /// A service principal with a client secret.
    ServicePrincipal {
        /// The tenant's id or domain.
        tenant: String,
        /// The application's id.
        client_id: String,
        /// Its secret.
        client_secret: Secret,
    },
    /// The managed identity of the machine.
    ManagedIdentity {
        /// Of a user-assigned identity.
        client_id: Option<String>,
        /// The metadata service, if not Azure's own.
        endpoint: Option<String>,
    },
    /// A workload identity, such as Azure Kubernetes Service gives to a pod.
    WorkloadIdentity {
        /// The tenant's id (`AZURE_TENANT_ID`).
        tenant: String,
        /// The application's id (`AZURE_CLIENT_ID`).
        client_id: String,
        /// The file that holds the assertion (`AZURE_FEDERATED_TOKEN_FILE`); read every time.
        token_file: PathBuf,
    },
}

/// Tokens for one cluster.
#[derive(Debug)]
pub(crate) struct Tokens {
    auth: Auth,
    cluster: Cluster,
    scope: Option<String>,
    trusted_hosts: Vec<String>,
    clock: Arc<dyn Clock>,
    cached: Mutex<Option<Token>>,
}

#[derive(Clone, Debug)]
struct Token {
    text: Secret,
    acquired: Duration,
    ends: Duration,
}

/// What a cluster says about the login service it believes.
struct Authority {
    login: Url,
    resource: String,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "AzureAD")]
    azure_ad: AzureAd,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AzureAd {
    login_endpoint: String,
    kusto_service_resource_id: String,
    #[serde(default)]
    login_mfa_required: bool,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    /// A number; the machine's metadata service writes it as text.
    expires_in: serde_json::Value,
}

impl Tokens {
    pub(crate) fn new(
        auth: Auth,
        cluster: Cluster,
        scope: Option<String>,
        trusted_hosts: Vec<String>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        if auth != Auth::None {
            cluster.check_trusted(&trusted_hosts)?;
        }
        Ok(Self {
            auth,
            cluster,
            scope,
            trusted_hosts,
            clock,
            cached: Mutex::new(None),
        })
    }

    /// A token to send, if one is to be sent at all.
    pub(crate) async fn token(&self, http: &Http) -> Result<Option<Secret>, Error> {
        match &self.auth {
            Auth::None => return Ok(None),
            Auth::Bearer(token) => return Ok(Some(token.clone())),
            Auth::ServicePrincipal { .. }
            | Auth::ManagedIdentity { .. }
            | Auth::WorkloadIdentity { .. } => {}
        }
        // Held while a token is fetched, so that requests at the same time fetch only one.
        let mut cached = self.cached.lock().await;
        let now = self.clock.elapsed();
        if let Some(token) = &*cached
            && (now + RENEW_BEFORE < token.ends || now < token.acquired + RENEW_NOT_WITHIN)
        {
            return Ok(Some(token.text.clone()));
        }
        let token = self.acquire(http).await?;
        let text = token.text.clone();
        *cached = Some(token);
        Ok(Some(text))
    }

    /// Forgets `refused`, which the service does not accept. Whether another may be had.
    pub(crate) async fn forget(&self, refused: &Secret) -> bool {
        let mut cached = self.cached.lock().await;
        match &self.auth {
            Auth::None | Auth::Bearer(_) => false,
            Auth::ServicePrincipal { .. }
            | Auth::ManagedIdentity { .. }
            | Auth::WorkloadIdentity { .. } => {
                if cached.as_ref().is_some_and(|token| token.text == *refused) {
                    *cached = None;
                }
                true
            }
        }
    }

    async fn acquire(&self, http: &Http) -> Result<Token, Error> {
        let authority = self.authority(http).await?;
        let scope = (self.scope.clone()).unwrap_or(format!("{}/.default", authority.resource));
        match &self.auth {
            Auth::ServicePrincipal {
                tenant,
                client_id,
                client_secret,
            } => {
                let form = [
                    ("grant_type", "client_credentials"),
                    ("client_id", client_id),
                    ("client_secret", client_secret.reveal()),
                    ("scope", &scope),
                ];
                self.login(http, &authority.login, tenant, &form).await
            }
            Auth::WorkloadIdentity {
                tenant,
                client_id,
                token_file,
            } => {
                let assertion = tokio::fs::read_to_string(token_file).await;
                let assertion = assertion.map_err(|error| Error::Login {
                    host: authority.login.host_str().unwrap_or_default().to_owned(),
                    reason: format!("token file {token_file:?}: {error}"),
                    permanent: true,
                })?;
                let form = [
                    ("grant_type", "client_credentials"),
                    ("client_id", client_id),
                    (
                        "client_assertion_type",
                        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                    ),
                    ("client_assertion", assertion.trim()),
                    ("scope", &scope),
                ];
                self.login(http, &authority.login, tenant, &form).await
            }
            Auth::ManagedIdentity {
                client_id,
                endpoint,
            } => {
                let resource = (scope.strip_suffix("/.default")).unwrap_or(&scope);
                let endpoint = endpoint.as_deref().unwrap_or(INSTANCE_METADATA);
                self.instance(http, endpoint, resource, client_id.as_deref())
                    .await
            }
            Auth::None | Auth::Bearer(_) => {
                Err(Error::Setting("a fixed token cannot be renewed".to_owned()))
            }
        }
    }

    /// Asks the cluster whom it believes; 404 means the public cloud.
    async fn authority(&self, http: &Http) -> Result<Authority, Error> {
        let what = "read the login service of the cluster";
        let mut url = self.cluster.base(Endpoint::Engine).clone();
        url.set_path("/v1/rest/auth/metadata");
        let request = http.request(Method::GET, url, LOGIN_TIMEOUT);
        let reply = http
            .send(what, request.header("Accept", "application/json"))
            .await?;
        let host = self.cluster.host();
        let not_understood = |reason: String| Error::Answer {
            what: what.to_owned(),
            host: host.to_owned(),
            reason,
        };
        let (login, resource) = match reply.status {
            404 => (
                "https://login.microsoftonline.com".to_owned(),
                "https://kusto.kusto.windows.net".to_owned(),
            ),
            200 => {
                let Metadata { azure_ad } = serde_json::from_slice(&reply.body)
                    .map_err(|error| not_understood(error.to_string()))?;
                let mut resource = azure_ad.kusto_service_resource_id;
                if azure_ad.login_mfa_required {
                    resource = resource.replace(".kusto.", ".kustomfa.");
                }
                (azure_ad.login_endpoint, resource)
            }
            _ => return Err(reply.refused_by_service(what, host)),
        };
        let login_url = Url::parse(&login).map_err(|error| not_understood(error.to_string()))?;
        if login_url.scheme() != "https" && !(is_loopback(&login_url) && self.cluster.is_loopback())
        {
            return Err(not_understood(format!(
                "login endpoint {login:?} is not https"
            )));
        }
        self.cluster.check_trusted_by(&login, &self.trusted_hosts)?;
        Ok(Authority {
            login: login_url,
            resource,
        })
    }

    async fn login(
        &self,
        http: &Http,
        login: &Url,
        tenant: &str,
        form: &[(&str, &str)],
    ) -> Result<Token, Error> {
        let mut url = login.clone();
        (url.path_segments_mut())
            .map_err(|()| Error::Setting(format!("login endpoint {login} has no path")))?
            .pop_if_empty()
            .extend([tenant, "oauth2", "v2.0", "token"]);
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let host = url.host_str().unwrap_or_default().to_owned();
        let request = http
            .request(Method::POST, url, LOGIN_TIMEOUT)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .header("Accept", "application/json")
            .body(body);
        self.token_of(&http.send("log in", request).await?, host)
    }

    async fn instance(
        &self,
        http: &Http,
        endpoint: &str,
        resource: &str,
        client_id: Option<&str>,
    ) -> Result<Token, Error> {
        let mut url = Url::parse(endpoint)
            .map_err(|error| Error::Setting(format!("metadata service {endpoint:?}: {error}")))?;
        url.query_pairs_mut()
            .append_pair("api-version", "2018-02-01")
            .append_pair("resource", resource)
            .extend_pairs(client_id.map(|id| ("client_id", id)));
        let host = url.host_str().unwrap_or_default().to_owned();
        let request = (http.request(Method::GET, url, LOGIN_TIMEOUT)).header("Metadata", "true");
        self.token_of(&http.send("log in", request).await?, host)
    }

    fn token_of(&self, reply: &Reply, host: String) -> Result<Token, Error> {
        let now = self.clock.elapsed();
        if reply.status != 200 {
            return Err(Error::Login {
                host,
                reason: refusal(reply),
                permanent: !matches!(reply.status, 408 | 410 | 429 | 500..),
            });
        }
        // The error of the parser would quote the token.
        let answer: TokenAnswer =
            serde_json::from_slice(&reply.body).map_err(|_| Error::Login {
                host,
                reason: "the answer holds no token".to_owned(),
                permanent: false,
            })?;
        let seconds = match answer.expires_in.as_str() {
            Some(text) => text.parse().unwrap_or(0),
            None => answer.expires_in.as_u64().unwrap_or(0),
        };
        Ok(Token {
            text: Secret::new(answer.access_token),
            acquired: now,
            ends: now.saturating_add(Duration::from_secs(seconds)),
        })
    }
}

/// What a login service says about a refusal: its code and the first line of its description.
fn refusal(reply: &Reply) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
        #[serde(default)]
        error_description: String,
    }
    match serde_json::from_slice::<Refusal>(&reply.body) {
        Ok(refusal) => {
            let line = refusal.error_description.lines().next().unwrap_or_default();
            format!("{} {}: {line}", reply.status, refusal.error)
        }
        Err(_) => format!("answered {}", reply.status),
    }
}
