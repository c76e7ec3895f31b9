//! What is known of the brokers: whether they are there, and what they last complained about.
//!
//! librdkafka tells of trouble by a callback, and only while its main queue is polled; it repeats
//! itself many times a second while brokers are away. Here that becomes one line when they are
//! lost, one every half minute, and one when they are back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use thalweg_stream::Clock;

use crate::options::{KafkaOptions, lowercase};
use crate::token::Tokens;

/// Time between two lines about brokers that stay away.
const REMIND_AFTER: Duration = Duration::from_secs(30);

/// Values that must not be shown.
#[derive(Clone)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    pub(crate) fn new(values: impl Iterator<Item = String>) -> Self {
        // The longest first, in case that one is part of another.
        let mut values: Vec<String> = values.filter(|value| !value.is_empty()).collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self(values)
    }

    /// `text` without them.
    pub(crate) fn hide(&self, text: &str) -> String {
        (self.0.iter()).fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }
}

/// The state of the connection to the brokers of one source.
pub(crate) struct Link {
    topic: String,
    brokers: String,
    secrets: Secrets,
    /// Whether somebody else tells when brokers go and come back.
    quiet: bool,
    clock: Arc<dyn Clock>,
    connected: AtomicBool,
    /// Answers to offsets published for a group.
    published: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the client last complained about.
    reason: Option<String>,
    /// Why we are not let in.
    denied: Option<String>,
    lost_at: Option<Duration>,
    told_at: Option<Duration>,
    unpublished_at: Option<Duration>,
}

impl Link {
    /// The link of a client that reads, which tells when brokers go and come back.
    pub(crate) fn new(options: &KafkaOptions, clock: Arc<dyn Clock>) -> Arc<Self> {
        Self::made(options, clock, false)
    }

    /// The link of one that only asks.
    pub(crate) fn quiet(options: &KafkaOptions, clock: Arc<dyn Clock>) -> Arc<Self> {
        Self::made(options, clock, true)
    }

    fn made(options: &KafkaOptions, clock: Arc<dyn Clock>, quiet: bool) -> Arc<Self> {
        Arc::new(Self {
            quiet,
            topic: options.topic.clone(),
            brokers: options.brokers.clone(),
            secrets: options.secrets(),
            clock,
            connected: AtomicBool::new(true),
            published: AtomicU64::new(0),
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    pub(crate) fn connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// How many times offsets were published for a group, or could not be.
    pub(crate) fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Offsets could not be published for the group.
    pub(crate) fn unpublished(&self, reason: &str) {
        let now = self.clock.elapsed();
        let mut state = self.lock();
        let told = state.unpublished_at.replace(now);
        if told.is_some_and(|told| now.saturating_sub(told) < REMIND_AFTER) {
            state.unpublished_at = told;
            return;
        }
        drop(state);
        let reason = self.told(reason);
        tracing::warn!(
            topic = self.topic,
            reason,
            "kafka: offsets cannot be published for the group; the job goes on without that"
        );
    }

    /// What the client last complained about.
    pub(crate) fn reason(&self) -> Option<String> {
        self.lock().reason.clone()
    }

    /// Why we are not let in, if that has been said.
    pub(crate) fn denied(&self) -> Option<String> {
        self.lock().denied.clone()
    }

    /// A text of the client as part of one of ours.
    pub(crate) fn told(&self, text: &str) -> String {
        lowercase(&self.secrets.hide(text))
    }

    /// Something has come from a broker.
    pub(crate) fn heard(&self) {
        // Asked for every record: a read is cheaper than an exchange.
        if self.connected() || self.connected.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut state = self.lock();
        let away = state
            .lost_at
            .take()
            .map(|at| self.clock.elapsed().saturating_sub(at));
        let told = state.told_at.take().is_some();
        *state = State {
            unpublished_at: state.unpublished_at,
            ..State::default()
        };
        drop(state);
        if told {
            tracing::warn!(
                topic = self.topic,
                brokers = self.brokers,
                away_seconds = away.unwrap_or_default().as_secs(),
                "kafka: the brokers are back"
            );
        }
    }

    /// No broker can be reached.
    pub(crate) fn lost(&self) {
        self.connected.store(false, Ordering::Relaxed);
        if self.quiet {
            return;
        }
        let now = self.clock.elapsed();
        let mut state = self.lock();
        state.lost_at.get_or_insert(now);
        if state
            .told_at
            .is_some_and(|told| now.saturating_sub(told) < REMIND_AFTER)
        {
            return;
        }
        state.told_at = Some(now);
        let reason = state.reason.clone().unwrap_or_default();
        drop(state);
        tracing::warn!(
            topic = self.topic,
            brokers = self.brokers,
            reason,
            "kafka: the brokers are away; the job waits for them"
        );
    }
}

/// The link, as librdkafka's callbacks know it.
pub(crate) struct Context {
    pub(crate) link: Arc<Link>,
    pub(crate) tokens: Option<Tokens>,
}

impl ConsumerContext for Context {
    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            self.link.unpublished(&error.to_string());
        }
        self.link.published.fetch_add(1, Ordering::Relaxed);
    }
}

impl ClientContext for Context {
    // Only asked where the mechanism is OAUTHBEARER.
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(
        &self,
        _: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let tokens = self.tokens.as_ref();
        let token = tokens.map_or_else(|| Err("no origin of tokens".to_owned()), Tokens::token);
        // Null characters would end the text, and the answer is somebody else's.
        token.map_err(|why| self.link.told(&why.replace('\0', " ")).into())
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // What matters comes as an error too; the rest is for whoever looks for it.
        tracing::debug!(?level, facility, "{}", self.link.secrets.hide(message));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        if code == Some(RDKafkaErrorCode::AllBrokersDown) {
            return self.link.lost();
        }
        let reason = self.link.told(reason);
        let refused = code == Some(RDKafkaErrorCode::Authentication)
            // A handshake may also break off because the broker goes away.
            || (code == Some(RDKafkaErrorCode::SSL) && reason.contains("verif"));
        let mut state = self.link.lock();
        if refused {
            state.denied = Some(reason.clone());
        }
        state.reason = Some(reason);
    }
}
