//! Asks the account who it is: whether it answers, takes the key, and where it takes writes.
//!
//! The SDK reads the same page and keeps it to itself, so it is asked for once more, signed as
//! "Access control in the Azure Cosmos DB SQL API" describes.

use azure_core::credentials::Secret;
use azure_core::http::{Method, Request};
use azure_core::time::{OffsetDateTime, to_rfc7231};
use serde::Deserialize;
use thalweg_stream::Clock;
use url::{Host, Url};

use crate::error::CosmosError;
use crate::spec::CosmosSpec;

/// The version of the REST API that the page is asked of.
const API_VERSION: &str = "2020-07-15";

/// The part of an account's page that matters here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Account {
    #[serde(default)]
    writable_locations: Vec<Location>,
    #[serde(default)]
    enable_multiple_write_locations: bool,
}

#[derive(Debug, Deserialize)]
struct Location {
    name: String,
}

impl Account {
    /// Refuses an account that takes writes in several regions: there two writers can both see
    /// their etag match.
    pub(crate) fn check_one_write_region(&self, endpoint: &str) -> Result<(), CosmosError> {
        if !self.enable_multiple_write_locations || self.writable_locations.len() < 2 {
            return Ok(());
        }
        let names: Vec<&str> = self
            .writable_locations
            .iter()
            .map(|l| l.name.as_str())
            .collect();
        Err(CosmosError::SeveralWriteRegions {
            endpoint: endpoint.to_owned(),
            regions: names.join(", "),
        })
    }
}

/// The endpoint as a URL.
pub(crate) fn endpoint(spec: &CosmosSpec) -> Result<Url, CosmosError> {
    let wrong = |reason: String| CosmosError::Endpoint {
        endpoint: spec.endpoint.clone(),
        reason,
    };
    let url = Url::parse(&spec.endpoint).map_err(|error| wrong(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong("write https://NAME.documents.azure.com/".to_owned()));
    }
    let local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if url.scheme() == "http" && !local {
        return Err(wrong("http:// is for this machine only".to_owned()));
    }
    Ok(url)
}

/// Reads the account's page.
pub(crate) async fn read(spec: &CosmosSpec, clock: &dyn Clock) -> Result<Account, CosmosError> {
    let unreachable = |reason: String| CosmosError::Unreachable {
        endpoint: spec.endpoint.clone(),
        reason,
    };
    let denied = |reason: String| CosmosError::Denied {
        endpoint: spec.endpoint.clone(),
        reason,
    };
    let now = OffsetDateTime::from_unix_timestamp(clock.now_ms().div_euclid(1000));
    let date = to_rfc7231(&now.map_err(|error| CosmosError::Bug(error.to_string()))?);
    let text = format!("get\n\n\n{}\n\n", date.to_lowercase());
    // Its error would quote the key's first bytes at worst, and is not needed.
    let signature =
        azure_core::hmac::hmac_sha256(&text, &Secret::new(spec.key.reveal().to_owned()))
            .map_err(|_| denied("it is not base64".to_owned()))?;
    let plain = format!("type=master&ver=1.0&sig={signature}");
    let authorization: String = url::form_urlencoded::byte_serialize(plain.as_bytes()).collect();

    let mut request = Request::new(endpoint(spec)?, Method::Get);
    request.insert_header("authorization", authorization);
    request.insert_header("x-ms-date", date);
    request.insert_header("x-ms-version", API_VERSION);
    request.insert_header("accept", "application/json");
    let client = azure_core::http::new_http_client(None);
    let timeout = spec.limits.request_timeout;
    let response = tokio::time::timeout(timeout, async {
        let response = client.execute_request(&request).await?;
        response.try_into_raw_response().await
    });
    let response = match response.await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(unreachable(with_causes(&error))),
        Err(_) => return Err(unreachable(format!("no answer within {timeout:?}"))),
    };
    let (status, _, body) = response.deconstruct();
    match u16::from(status) {
        200 => serde_json::from_slice(&body)
            .map_err(|error| unreachable(format!("it answers as no Cosmos DB account: {error}"))),
        401 => Err(denied("the signature does not match".to_owned())),
        403 => Err(denied(
            "access is forbidden, by its firewall perhaps".to_owned(),
        )),
        status => Err(unreachable(format!("it answers {status}"))),
    }
}

/// An error with what caused it: the outermost one alone often says nothing.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}
