//! Sinks of Azure, from what a definition says of them.

use std::sync::Arc;
use std::time::Duration;

use thalweg_adx::{AdxSink, AdxSpec, Auth, Changes, Secret};
use thalweg_cosmos::{AccountKey, CosmosSink, CosmosSpec};
use thalweg_definition::{Adx, AdxAuth, Cosmos};
use thalweg_formats::{Nulls, Timestamps};
use thalweg_stream::{Sink, StreamSchema};

/// The well-known key of every local emulator.
const LOCAL_KEY: &str =
    "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw==";

/// Why a sink is refused, and the option of the definition that is to blame, if it is one alone.
pub(crate) struct Refusal {
    pub(crate) option: Option<&'static str>,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(option: Option<&'static str>, error: &impl ToString) -> Self {
        let message = error.to_string();
        Self { option, message }
    }
}

pub(crate) fn cosmos(cosmos: &Cosmos, schema: &StreamSchema) -> Result<Arc<dyn Sink>, Refusal> {
    let key = match &cosmos.key {
        Some(key) => key.reveal(),
        None if is_loopback(&cosmos.endpoint.value) => LOCAL_KEY,
        None => {
            let message = "`cosmos` has no `key`; only a service on loopback needs none";
            return Err(Refusal::new(None, &message));
        }
    };
    let mut spec = CosmosSpec::new(
        &cosmos.endpoint.value,
        AccountKey::new(key),
        [&cosmos.database.value, &cosmos.container.value],
        [&cosmos.id.value, &cosmos.partition_key.value],
    );
    spec.newest_by = cosmos.newest_by.as_ref().map(|column| column.value.clone());
    spec.guard = cosmos.guard;
    spec.request_units = cosmos.request_units;
    if cosmos.unix_ms {
        spec.timestamps = Timestamps::UnixMs;
    }
    if cosmos.omit_nulls {
        spec.nulls = Nulls::Omit;
    }
    CosmosSink::new(spec, schema.clone())
        .map(|sink| Arc::new(sink) as _)
        .map_err(|error| Refusal::new(error.option(), &error))
}

pub(crate) fn adx(adx: &Adx, schema: &StreamSchema) -> Result<Arc<dyn Sink>, Refusal> {
    let auth = match &adx.auth {
        AdxAuth::Default if is_loopback(&adx.cluster.value) => Auth::None,
        AdxAuth::Default => Auth::ManagedIdentity {
            client_id: None,
            endpoint: None,
        },
        AdxAuth::Token(token) => Auth::Bearer(Secret::new(token.reveal())),
        AdxAuth::ServicePrincipal {
            tenant,
            client_id,
            client_secret,
        } => Auth::ServicePrincipal {
            tenant: tenant.clone(),
            client_id: client_id.clone(),
            client_secret: Secret::new(client_secret.reveal()),
        },
    };
    let mut spec = AdxSpec::new(
        &*adx.cluster.value,
        auth,
        &*adx.database.value,
        &*adx.table.value,
    );
    spec.publish.every_ms = adx.publish_every_ms.unwrap_or(spec.publish.every_ms);
    spec.publish.bytes_max = adx.publish_bytes.unwrap_or(spec.publish.bytes_max);
    spec.repost_after = adx
        .repost_after_ms
        .map_or(spec.repost_after, Duration::from_millis);
    spec.mapping = adx.mapping.clone();
    if adx.append_changes {
        spec.changes = Changes::Append;
    }
    AdxSink::new(spec, schema.clone())
        .map(|sink| Arc::new(sink) as _)
        .map_err(|error| Refusal::new(error.option(), &error))
}

/// Whether an address is on this machine.
fn is_loopback(address: &str) -> bool {
    let host = address.split_once("://").map_or(address, |(_, host)| host);
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|local| {
        host.strip_prefix(local)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
    })
}
