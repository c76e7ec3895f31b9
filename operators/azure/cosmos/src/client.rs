//! The container, as far as the sink needs it: five requests, and what their answers mean.
//!
//! The SDK's own repetition of throttled requests is off (the sink paces all requests together),
//! bodies are JSON text, and every request has a deadline. An answer is classified once, here.

use std::fmt;
use std::time::Duration;

use azure_core::credentials::Secret;
use azure_core::http::Etag;
use azure_data_cosmos::models::TimeToLive;
use azure_data_cosmos::models::TransactionalBatchOperationResult;
use azure_data_cosmos::options::{
    BatchReplaceOptions, BinaryEncodingOptions, ConnectionPoolOptions,
    EndToEndOperationLatencyPolicy, ItemWriteOptions, OperationOptions, Precondition,
    ThrottlingRetryOptions,
};
use azure_data_cosmos::{
    AccountEndpoint, AccountReference, ContainerClient, CosmosClient, CosmosError as SdkError,
    CosmosRuntime, PartitionKey, RoutingStrategy, TransactionalBatch,
};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::account;
use crate::cache::Known;
use crate::error::CosmosError;
use crate::spec::CosmosSpec;
use crate::stamp::{Carried, STAMP_FIELD};

/// How much longer than its deadline a request may take before it is dropped from outside.
const GRACE: Duration = Duration::from_secs(5);
/// Longest text of the service that is passed on.
const REASON_CHARS_MAX: usize = 300;

/// What an answer means.
#[derive(Debug)]
pub(crate) enum Reply<T> {
    /// Done.
    Done(T),
    /// 404: there is no such document.
    Missing,
    /// 409: there is one already, or a unique key is taken.
    Exists,
    /// 412: the document is not the version that was named.
    Changed,
    /// 424, within a batch: another operation failed.
    Dependent,
    /// 400, 413: never.
    Refused(u16, String),
    /// It says nothing about the document.
    Trouble(Trouble),
}

/// An answer that says nothing about the document.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// 401, 403: the account does not let us.
    Denied(String),
    /// 404 of the container itself.
    Gone,
    /// Whether it was done is not known: a time-out, a lost connection, 408, 449, 5xx.
    Unknown(String),
}

/// 429: not now, but after this while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Throttle(pub(crate) Option<Duration>);

/// A reply (or that it was too early to ask), and what it cost.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    pub(crate) reply: Result<Reply<T>, Throttle>,
    pub(crate) request_units: f64,
}

/// The replies to the operations of a batch, in order.
pub(crate) type BatchReplies = Vec<Reply<Option<String>>>;

/// What the container is.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    /// Whether the container honours `ttl`.
    pub(crate) expires_documents: bool,
}

/// How a document is to be written.
#[derive(Clone, Debug)]
pub(crate) enum Put {
    /// It must not exist.
    Create,
    /// It must be this version.
    Replace(String),
    /// Whatever there is.
    Upsert,
}

/// One write of a batch.
#[derive(Debug)]
pub(crate) struct BatchPut<'w> {
    pub(crate) id: &'w str,
    pub(crate) document: &'w RawValue,
    pub(crate) put: Put,
}

/// A connected container.
pub(crate) struct Client {
    container: Container,
    client: ContainerClient,
    timeout: Duration,
}

impl fmt::Debug for Client {
    /// The SDK's client has nothing to show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("container", &self.container)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Connects, and checks that database and container exist and are partitioned as expected.
    pub(crate) async fn connect(spec: &CosmosSpec) -> Result<Self, CosmosError> {
        let failed = |error: &SdkError| connect_error(spec, error);
        let endpoint = AccountEndpoint::from(account::endpoint(spec)?);
        let key = Secret::new(spec.key.reveal().to_owned());
        let account = AccountReference::with_authentication_key(endpoint, key);
        // The second gateway speaks another protocol, with other errors; we want the documented.
        let pool = ConnectionPoolOptions::builder()
            .with_gateway_v2_disabled(true)
            .build();
        let runtime = CosmosRuntime::builder()
            .with_connection_pool(pool.map_err(|e| failed(&e))?)
            .build()
            .await
            .map_err(|e| failed(&e))?;
        let client = CosmosClient::builder()
            .with_runtime(runtime)
            .with_default_operation_options(operation_options(spec.limits.request_timeout))
            .with_binary_encoding_options(BinaryEncodingOptions::new().with_enabled(false))
            .build(account, RoutingStrategy::PreferredRegions(Vec::new()))
            .await
            .map_err(|e| failed(&e))?;

        let missing = |what: &str, name: &str| CosmosError::Missing {
            endpoint: spec.endpoint.clone(),
            what: format!("{what} \"{name}\""),
        };
        let database = client.database_client(spec.database.as_str());
        if let Err(error) = Box::pin(database.read(None)).await {
            return Err(match status(&error) {
                404 => missing("database", &spec.database),
                _ => failed(&error),
            });
        }
        let absent = |error: SdkError| match status(&error) {
            404 => {
                let what = format!("container \"{}\" in database", spec.container);
                missing(&what, &spec.database)
            }
            _ => failed(&error),
        };
        let container = Box::pin(database.container_client(spec.container.as_str(), None));
        let container = container.await.map_err(absent)?;
        let properties = Box::pin(container.read(None)).await.map_err(absent)?;
        let properties = properties.into_model().map_err(|e| failed(&e))?;
        let wanted = format!("/{}", spec.partition_key);
        let paths = properties.partition_key.paths();
        if paths.len() != 1 || paths.iter().any(|path| *path != wanted) {
            return Err(CosmosError::PartitionKey {
                container: spec.container.clone(),
                found: paths.join(", "),
                column: spec.partition_key.clone(),
            });
        }
        Ok(Self {
            container: Container {
                expires_documents: properties.default_ttl != TimeToLive::Forever,
            },
            client: container,
            timeout: spec.limits.request_timeout + GRACE,
        })
    }

    pub(crate) fn container(&self) -> &Container {
        &self.container
    }

    /// Reads a document's version and stamp.
    pub(crate) async fn read(&self, key: PartitionKey, id: &str) -> Answer<Known> {
        let request = Box::pin(self.client.read_item(key, id, None));
        let response = match self.in_time(request).await {
            Ok(response) => response,
            Err(answer) => return answer,
        };
        let request_units = charge(response.headers());
        let body: Result<Found, _> = response.into_model();
        let reply = match body {
            Ok(found) => Reply::Done(Known {
                carried: Carried::read(found.stamp.as_ref()),
                etag: found.etag,
            }),
            Err(error) => unknown(format!("unreadable document: {error}")),
        };
        Answer {
            reply: Ok(reply),
            request_units,
        }
    }

    /// Writes one document; its new etag, if the service says.
    pub(crate) async fn write(
        &self,
        key: PartitionKey,
        id: &str,
        document: &RawValue,
        put: Put,
    ) -> Answer<Option<String>> {
        let options = |precondition| ItemWriteOptions::default().with_precondition(precondition);
        let client = &self.client;
        let answered = match put {
            Put::Create => {
                self.in_time(Box::pin(client.create_item(key, id, document, None)))
                    .await
            }
            Put::Replace(etag) => {
                let options = options(Precondition::if_match(Etag::from(etag)));
                let request = client.replace_item(key, id, document, Some(options));
                self.in_time(Box::pin(request)).await
            }
            Put::Upsert => {
                self.in_time(Box::pin(client.upsert_item(key, id, document, None)))
                    .await
            }
        };
        match answered {
            Ok(response) => Answer {
                reply: Ok(Reply::Done(
                    response.headers().etag().map(|etag| etag.to_string()),
                )),
                request_units: charge(response.headers()),
            },
            Err(answer) => answer,
        }
    }

    /// Writes several documents of one partition key, all or none. Done gives the reply to each,
    /// in order: all are done, or one says why none is.
    pub(crate) async fn write_batch(
        &self,
        key: PartitionKey,
        writes: &[BatchPut<'_>],
    ) -> Answer<BatchReplies> {
        let batch = match batch(key, writes) {
            Ok(batch) => batch,
            Err(error) => return answer_of(&error),
        };
        let request = Box::pin(self.client.execute_transactional_batch(batch, None));
        let response = match self.in_time(request).await {
            Ok(response) => response,
            Err(answer) => return answer,
        };
        let request_units = charge(response.headers());
        let reply = match response.into_model() {
            // A throttled operation throttles its batch.
            Ok(model) if model.results().len() == writes.len() => {
                let replies: Result<BatchReplies, Throttle> =
                    model.results().iter().map(operation_reply).collect();
                replies.map(Reply::Done)
            }
            // A short answer says nothing of the rest.
            Ok(_) => Ok(unknown("the batch's answer has another length".to_owned())),
            Err(error) => Ok(unknown(format!("unreadable batch answer: {error}"))),
        };
        Answer {
            reply,
            request_units,
        }
    }

    async fn in_time<T, R>(
        &self,
        request: impl Future<Output = Result<T, SdkError>>,
    ) -> Result<T, Answer<R>> {
        match tokio::time::timeout(self.timeout, request).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(answer_of(&error)),
            Err(_) => Err(Answer {
                reply: Ok(unknown(format!("no answer within {:?}", self.timeout))),
                request_units: 0.0,
            }),
        }
    }
}

fn operation_options(timeout: Duration) -> OperationOptions {
    let mut throttling = ThrottlingRetryOptions::default();
    throttling.max_retry_count = Some(0);
    let mut options = OperationOptions::default();
    options.throttling_retry_options = Some(throttling);
    options.end_to_end_latency_policy = Some(EndToEndOperationLatencyPolicy::new(timeout));
    options
}

fn batch(key: PartitionKey, writes: &[BatchPut<'_>]) -> Result<TransactionalBatch, SdkError> {
    let mut batch = TransactionalBatch::new(key);
    for BatchPut { id, document, put } in writes {
        batch = match put {
            Put::Create => batch.create_item(document)?,
            Put::Upsert => batch.upsert_item(document, None)?,
            Put::Replace(etag) => {
                let precondition = Precondition::if_match(Etag::from(etag.clone()));
                let options = BatchReplaceOptions::default().with_precondition(precondition);
                batch.replace_item((*id).to_owned(), document, Some(options))?
            }
        };
    }
    Ok(batch)
}

fn unknown<T>(reason: String) -> Reply<T> {
    Reply::Trouble(Trouble::Unknown(reason))
}

fn operation_reply(
    result: &TransactionalBatchOperationResult,
) -> Result<Reply<Option<String>>, Throttle> {
    if result.is_success() {
        return Ok(Reply::Done(result.etag().map(str::to_owned)));
    }
    let status = result.status_code();
    let substatus = result.substatus_code();
    classify(status, substatus, result.retry_after(), || {
        format!("a batch operation got {status}")
    })
}

/// The part of a document that tells its version.
#[derive(Debug, Deserialize)]
struct Found {
    #[serde(rename = "_etag")]
    etag: String,
    #[serde(rename = "_thalweg")]
    stamp: Option<Value>,
}

const _: () = assert!(matches!(STAMP_FIELD.as_bytes(), b"_thalweg"));

fn charge(headers: &azure_data_cosmos::models::ResponseHeaders) -> f64 {
    headers
        .request_charge()
        .map_or(0.0, |charge| charge.value())
}

fn status(error: &SdkError) -> u16 {
    u16::from(error.status().status_code())
}

fn answer_of<T>(error: &SdkError) -> Answer<T> {
    let headers = error.response().map(|response| response.headers());
    let after = headers
        .and_then(|h| h.retry_after_ms)
        .map(Duration::from_millis);
    let substatus = error.status().sub_status().map(|s| u32::from(s.value()));
    Answer {
        reply: classify(status(error), substatus, after, || reason(error)),
        request_units: headers
            .and_then(|h| h.request_charge.as_ref())
            .map_or(0.0, |charge| charge.value()),
    }
}

/// What a status means ("HTTP status codes for Azure Cosmos DB", REST API reference).
fn classify<T>(
    status: u16,
    substatus: Option<u32>,
    after: Option<Duration>,
    reason: impl Fn() -> String,
) -> Result<Reply<T>, Throttle> {
    /// The container was deleted, or deleted and made again.
    const OWNER_NOT_FOUND: u32 = 1003;
    Ok(match (status, substatus) {
        (429, _) => return Err(Throttle(after)),
        (404, Some(OWNER_NOT_FOUND)) => Reply::Trouble(Trouble::Gone),
        (404, _) => Reply::Missing,
        (409, _) => Reply::Exists,
        (412, _) => Reply::Changed,
        (424, _) => Reply::Dependent,
        (400 | 413, _) => Reply::Refused(status, reason()),
        (401 | 403, _) => Reply::Trouble(Trouble::Denied(reason())),
        _ => unknown(reason()),
    })
}

/// What the service said, in one short line.
fn reason(error: &SdkError) -> String {
    let text = error.to_string();
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(REASON_CHARS_MAX).collect()
}

fn connect_error(spec: &CosmosSpec, error: &SdkError) -> CosmosError {
    let endpoint = spec.endpoint.clone();
    match status(error) {
        401 | 403 => CosmosError::Denied {
            endpoint,
            reason: reason(error),
        },
        _ => CosmosError::Unreachable {
            endpoint,
            reason: reason(error),
        },
    }
}
