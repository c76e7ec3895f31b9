//! Checks the signature of a request against the account key, as the service does.
//!
//! The string that is signed is described in "Access control in the Azure Cosmos DB SQL API"
//! (Azure Cosmos DB REST API reference).

use axum::http::HeaderMap;
use azure_core::credentials::Secret;

use crate::request::Target;

/// The account's key: the one that Microsoft documents for its emulators. No secret.
pub const ACCOUNT_KEY: &str =
    "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw==";

/// The authorization header of a request signed with [`ACCOUNT_KEY`], for clients without an SDK:
/// `method` in any case, `kind` of the resource (`docs`) and its `link` (`dbs/A/colls/B/docs/C`),
/// and the date that the header `x-ms-date` gives.
#[must_use]
pub fn authorization(method: &str, kind: &str, link: &str, date: &str) -> Option<String> {
    let plain = format!(
        "type=master&ver=1.0&sig={}",
        sign(method, kind, link, date)?
    );
    Some(url::form_urlencoded::byte_serialize(plain.as_bytes()).collect())
}

/// Whether the request is signed with [`ACCOUNT_KEY`].
pub(crate) fn is_signed(method: &str, target: &Target, headers: &HeaderMap) -> bool {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(given) = header("authorization").and_then(signature) else {
        return false;
    };
    let Some(date) = header("x-ms-date").or_else(|| header("date")) else {
        return false;
    };
    let (kind, link) = target.signed_resource();
    // Offers are addressed by resource id, which is signed in lowercase.
    let link = if kind == "offers" {
        link.to_lowercase()
    } else {
        link
    };
    sign(method, kind.as_str(), &link, date).is_some_and(|expected| expected == given)
}

fn sign(method: &str, kind: &str, link: &str, date: &str) -> Option<String> {
    let (method, date) = (method.to_lowercase(), date.to_lowercase());
    let text = format!("{method}\n{kind}\n{link}\n{date}\n\n");
    let key = Secret::new(ACCOUNT_KEY.to_owned());
    azure_core::hmac::hmac_sha256(&text, &key).ok()
}

/// The signature in an authorization header: `type=master&ver=1.0&sig=…`, percent-encoded.
fn signature(header: &str) -> Option<String> {
    let whole = format!("whole={header}");
    let (_, decoded) = url::form_urlencoded::parse(whole.as_bytes()).next()?;
    let (kind, sig) = decoded.split_once("&sig=")?;
    kind.starts_with("type=master").then(|| sig.to_owned())
}
