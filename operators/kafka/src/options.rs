//! What a definition may say of a topic, and what of it goes to librdkafka.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use thalweg_stream::ColumnType;

use crate::column::Field;
use crate::error::Error;
use crate::link::Secrets;
use crate::token;

/// The metadata fields there are, and their types: `key` as text (bytes that are no UTF-8 become
/// U+FFFD) and `key_bytes` as they are; `headers`, a JSON object in which a name that comes more
/// than once has a list of values and a value that is no UTF-8 is `{"base64": …}`; `topic`,
/// `partition`, `offset`; and `timestamp`, when the record was produced or appended.
pub const METADATA: [(&str, ColumnType); 7] = [
    ("key", ColumnType::String),
    ("key_bytes", ColumnType::Binary),
    ("headers", ColumnType::Json),
    ("topic", ColumnType::String),
    ("partition", ColumnType::Int32),
    ("offset", ColumnType::Int64),
    ("timestamp", ColumnType::Timestamp),
];

/// Where the first start begins to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record there is.
    #[default]
    Earliest,
    /// After the newest.
    Latest,
    /// At the first record of each partition with this time or a later one, milliseconds since
    /// 1970; after the newest where there is none.
    Timestamp(i64),
    /// Where the group has got to; at the oldest record of a partition where it has not been.
    Committed,
}

/// What happens when records are gone that have not been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataLoss {
    /// The job ends and says which.
    #[default]
    Fail,
    /// It says which, and goes on at the oldest record that there is.
    Continue,
}

/// The options of a [`KafkaSource`](crate::KafkaSource).
#[derive(Clone)]
pub struct KafkaOptions {
    /// Addresses of some brokers, by commas: `host:9092,other:9092`.
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// Where the first start begins.
    pub start: Start,
    /// The group that offsets are published for, and that [`Start::Committed`] asks. None is joined.
    pub group: Option<String>,
    /// What happens when records have expired that were not read.
    pub on_data_loss: DataLoss,
    /// Whether records of transactions are read that have not ended, or have been aborted.
    pub read_uncommitted: Option<bool>,
    /// Time between two looks for new partitions.
    pub discover_every: Duration,
    /// Whether the source ends at the ends that the partitions have at the first start.
    pub until_latest: bool,
    /// How long a start waits for the brokers.
    pub connect_timeout: Duration,
    /// Properties of librdkafka. Values may be credentials.
    pub properties: Vec<(String, String)>,
    /// The metadata field of each metadata column.
    pub metadata: Vec<String>,
    /// The definition's folder, at which relative paths in properties start.
    pub folder: PathBuf,
}

impl std::fmt::Debug for KafkaOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = (self.properties.iter())
            .map(|(name, _)| name.as_str())
            .collect();
        f.debug_struct("KafkaOptions")
            .field("brokers", &self.brokers)
            .field("topic", &self.topic)
            .field("start", &self.start)
            .field("group", &self.group)
            .field("on_data_loss", &self.on_data_loss)
            .field("read_uncommitted", &self.read_uncommitted)
            .field("discover_every", &self.discover_every)
            .field("until_latest", &self.until_latest)
            .field("connect_timeout", &self.connect_timeout)
            .field("properties", &names)
            .field("metadata", &self.metadata)
            .finish_non_exhaustive()
    }
}

/// Properties that the source sets, or that nobody is to set.
const OWNED: [(&str, &str); 14] = [
    ("bootstrap.servers", "`brokers` says it"),
    ("metadata.broker.list", "`brokers` says it"),
    (
        "auto.offset.reset",
        "`start` says where to begin, and nothing is reset later",
    ),
    ("group.id", "`group` says it"),
    ("group.instance.id", OWN_OFFSETS),
    ("group.protocol", OWN_OFFSETS),
    ("enable.auto.commit", OWN_OFFSETS),
    ("auto.commit.enable", OWN_OFFSETS),
    ("enable.auto.offset.store", OWN_OFFSETS),
    (
        "enable.partition.eof",
        "the source needs to know where partitions end",
    ),
    (
        "allow.auto.create.topics",
        "a topic that is missing is an error",
    ),
    ("plugin.library.paths", "native code is not loaded"),
    (
        "enable.sasl.oauthbearer.unsecure.jwt",
        "a broker that takes such tokens takes anybody's",
    ),
    ("test.mock.num.brokers", "it is for librdkafka's own tests"),
];
const OWN_OFFSETS: &str = "offsets are kept in the job's checkpoints, by no consumer group";

/// Properties that are paths of files.
const PATHS: [&str; 5] = [
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.keystore.location",
    "ssl.crl.location",
];

/// What is set unless the properties say otherwise.
const DEFAULTS: [(&str, &str); 9] = [
    ("client.id", "thalweg"),
    // What a client reads ahead is bounded by size, not by number: the default number (100 000) is
    // read in a thirtieth of a second.
    ("queued.max.messages.kbytes", "8192"),
    ("queued.min.messages", "10000000"),
    // A fetcher that has found its queue full looks again soon, not after a second.
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.error.backoff.ms", "200"),
    // A broker that is back is used within two seconds, not ten.
    ("reconnect.backoff.max.ms", "2000"),
    // Load balancers in front of brokers forget connections that are silent.
    ("socket.keepalive.enable", "true"),
    // Damage on the way or on the broker's disk is an error, not a record.
    ("check.crcs", "true"),
    ("isolation.level", "read_committed"),
];

/// What nobody can change.
const ALWAYS: [(&str, &str); 5] = [
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "true"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("allow.auto.create.topics", "false"),
];

impl KafkaOptions {
    /// The options as they are where nothing but brokers and topic are said.
    #[must_use]
    pub fn new(brokers: impl Into<String>, topic: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            topic: topic.into(),
            start: Start::default(),
            group: None,
            on_data_loss: DataLoss::default(),
            read_uncommitted: None,
            discover_every: Duration::from_secs(10),
            until_latest: false,
            connect_timeout: Duration::from_secs(10),
            properties: Vec::new(),
            metadata: Vec::new(),
            folder: PathBuf::from("."),
        }
    }

    /// All that is wrong with them and can be seen without a broker.
    #[must_use]
    pub fn problems(&self) -> Vec<Error> {
        let mut problems = Vec::new();
        let brokers = self.brokers.split(',');
        if brokers
            .map(str::trim)
            .any(|broker| broker.is_empty() || broker.contains(' ') || !port_exists(broker))
        {
            problems.push(Error::Option {
                option: "brokers",
                value: self.brokers.clone(),
                must: "addresses such as host:9092, separated by commas",
            });
        }
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        // As Kafka itself has it: org.apache.kafka.common.internals.Topic.
        if self.topic.is_empty() || self.topic.len() > 249 || !self.topic.bytes().all(legal) {
            problems.push(Error::Option {
                option: "topic",
                value: self.topic.clone(),
                must: "1 to 249 letters, digits, dots, underscores and hyphens",
            });
        }
        if self.start == Start::Committed && self.group.is_none() {
            problems.push(Error::Option {
                option: "start",
                value: "committed".to_owned(),
                must: "where a `group` has got to, which is to be named",
            });
        }
        if self.group.as_deref() == Some("") {
            problems.push(Error::Option {
                option: "group",
                value: String::new(),
                must: "a name",
            });
        }
        let fields = self.metadata.iter();
        problems.extend(fields.filter_map(|field| Field::named(field).err()));
        problems.extend((self.properties.iter()).filter_map(|(name, value)| property(name, value)));
        let named = |name: &str| self.properties.iter().any(|(known, _)| known == name);
        let bearer = (self.properties.iter()).find(|(name, value)| {
            ["sasl.mechanism", "sasl.mechanisms"].contains(&&**name) && value == "OAUTHBEARER"
        });
        if let (Some((name, _)), false) = (bearer, named(token::TOKEN_ENDPOINT)) {
            let what = format!("OAUTHBEARER needs {}", token::TOKEN_ENDPOINT);
            let name = name.clone();
            problems.push(Error::Property { name, what });
        }
        problems
    }

    /// The credentials in the properties.
    pub(crate) fn secrets(&self) -> Secrets {
        Secrets::new(
            (self.properties.iter())
                .filter(|(name, value)| is_secret(name, value))
                .map(|(_, value)| value.clone()),
        )
    }

    /// librdkafka's configuration.
    pub(crate) fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        for (name, value) in DEFAULTS {
            config.set(name, value);
        }
        let own = |name: &str| token::PROPERTIES.contains(&name);
        for (name, value) in self.properties.iter().filter(|(name, _)| !own(name)) {
            config.set(name, self.resolved(name, value));
        }
        if let Some(uncommitted) = self.read_uncommitted {
            let level = match uncommitted {
                true => "read_uncommitted",
                false => "read_committed",
            };
            config.set("isolation.level", level);
        }
        for (name, value) in ALWAYS {
            config.set(name, value);
        }
        config
    }

    /// A property's value; a path starts at the definition's folder.
    fn resolved(&self, name: &str, value: &str) -> String {
        // "probe" asks librdkafka to look for the system's certificates.
        if PATHS.contains(&name) && value != "probe" && Path::new(value).is_relative() {
            return self.folder.join(value).display().to_string();
        }
        value.to_owned()
    }
}

/// Whether a property's value is a credential.
fn is_secret(name: &str, value: &str) -> bool {
    let named = [
        "password",
        "secret",
        "token",
        "ssl.key.pem",
        "oauthbearer.config",
    ];
    named.iter().any(|part| name.contains(part))
        // Somebody may have put a connection string where the user's name belongs.
        || (name == "sasl.username" && value.contains('='))
}

/// What is wrong with a property.
fn property(name: &str, value: &str) -> Option<Error> {
    if let Some((_, instead)) = OWNED.iter().find(|(owned, _)| *owned == name) {
        return Some(Error::Owned {
            name: name.to_owned(),
            instead,
        });
    }
    let wrong = |what: String| {
        Some(Error::Property {
            name: name.to_owned(),
            what,
        })
    };
    if token::PROPERTIES.contains(&name) {
        return token::problem(name, value).and_then(wrong);
    }
    let mut config = ClientConfig::new();
    config.set(name, value);
    match config.create_native_config() {
        Ok(_) => None,
        // The error's own text may hold the value.
        Err(KafkaError::ClientConfig(_, _, _, _)) if is_secret(name, value) => {
            wrong("its value is not valid".to_owned())
        }
        Err(KafkaError::ClientConfig(_, what, _, _)) => wrong(lowercase(&what)),
        Err(_) => wrong("it has a character that librdkafka does not take".to_owned()),
    }
}

/// A sentence of librdkafka as one of ours: its first letter small.
pub(crate) fn lowercase(text: &str) -> String {
    let mut letters = text.trim_end_matches('.').chars();
    let Some(first) = letters.next() else {
        return String::new();
    };
    // An abbreviation stays as it is.
    match letters.clone().next() {
        Some(second) if second.is_uppercase() => text.to_owned(),
        Some(_) | None => first.to_lowercase().chain(letters).collect(),
    }
}

/// Whether what an address says of its port can be one: librdkafka takes any digits, and connects to
/// another port where there are too many.
fn port_exists(broker: &str) -> bool {
    let port = broker.rsplit_once(':').map_or("", |(_, port)| port);
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    !digits || port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::KafkaOptions;

    fn problems(properties: &[(&str, &str)]) -> Vec<String> {
        let mut options = KafkaOptions::new("a:1,b:2", "t");
        options.properties = (properties.iter())
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let problems = options.problems();
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn properties_of_the_source_are_refused_by_name_and_others_by_librdkafka() {
        assert_eq!(
            problems(&[
                ("sasl.password", "x"),
                ("group.id", "g"),
                ("fetch.wait.max.ms", "soon"),
                ("security.protocl", "SSL"),
                ("sasl.mechanism", "OAUTHBEARER"),
            ]),
            [
                "kafka: the property \"group.id\" is not to be set: `group` says it",
                "kafka: the property \"fetch.wait.max.ms\": invalid value for configuration \
                 property \"fetch.wait.max.ms\"",
                "kafka: the property \"security.protocl\": no such configuration property: \
                 \"security.protocl\"",
                "kafka: the property \"sasl.mechanism\": OAUTHBEARER needs \
                 sasl.oauthbearer.token.endpoint.url",
            ]
        );
    }

    #[test]
    fn no_credential_is_shown() {
        let secret = "hunter2-SharedAccessKey=";
        let mut options = KafkaOptions::new("a:1", "t");
        options.properties = vec![
            ("sasl.password".to_owned(), format!("{secret}\0")),
            ("sasl.username".to_owned(), secret.to_owned()),
        ];
        let problems = options.problems();
        assert_eq!(problems.len(), 1);
        let told = format!("{options:?} {problems:?}");
        assert!(!told.contains("hunter2"), "{told}");
        assert_eq!(options.secrets().hide(&format!("bad {secret}")), "bad ***");
    }

    #[test]
    fn brokers_topics_and_metadata_are_checked() {
        let mut options = KafkaOptions::new("a:1,,b:2", "to/pic");
        options.metadata = vec!["key".to_owned(), "kee".to_owned()];
        assert_eq!(options.problems().len(), 3);
        for brokers in ["a:99999", "b:9093,a:0", "[::1]:65536"] {
            let problems = KafkaOptions::new(brokers, "t").problems();
            assert_eq!(problems.len(), 1, "{brokers}");
        }
        for brokers in ["a", "a:65535", "[::1]:9092", "[::1]", "SSL://a:9093"] {
            let problems = KafkaOptions::new(brokers, "t").problems();
            assert!(problems.is_empty(), "{brokers}");
        }
    }

    #[test]
    fn paths_start_at_the_definition() {
        let mut options = KafkaOptions::new("a:1", "t");
        options.folder = "/jobs".into();
        options.properties = vec![
            ("ssl.ca.location".to_owned(), "ca.pem".to_owned()),
            ("ssl.crl.location".to_owned(), "/etc/crl.pem".to_owned()),
        ];
        let config = options.config();
        assert_eq!(config.get("ssl.ca.location"), Some("/jobs/ca.pem"));
        assert_eq!(config.get("ssl.crl.location"), Some("/etc/crl.pem"));
    }
}
