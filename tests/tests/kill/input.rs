//! The definition under test, and what it reads: what the generators make, out of Kafka, or, with
//! `THALWEG_KILL_GENERATOR` or where no broker is installed, the generators themselves.

use std::collections::BTreeMap;
use std::path::Path;

use thalweg_generate::{GenerateSpec, Generator, What};
use thalweg_tests::kafka::Broker;

use crate::feed::Feed;

/// Records that are still read after the last kill.
const REST: u64 = 4_000;

/// The vehicles and the weather, without an end.
pub(crate) struct Input {
    vehicles: GenerateSpec,
    weather: GenerateSpec,
    feed: Option<Feed>,
}

impl Input {
    /// Begins to write the topics, if there is a broker.
    pub(crate) fn begin(seed: u64, folder: &Path) -> Self {
        let mut input = Self {
            feed: None,
            vehicles: GenerateSpec {
                devices: 120,
                seed,
                late: 0.002,
                duplicates: 0.02,
                corrupt: 0.005,
                splits: 3,
                rate: Some(1200.0),
                ..GenerateSpec::new(What::Vehicles)
            },
            // Twice as fast as the vehicles in event time: 200 segments report once a minute.
            weather: GenerateSpec {
                seed,
                duplicates: 0.02,
                corrupt: 0.01,
                splits: 2,
                rate: Some(70.0),
                ..GenerateSpec::new(What::Weather)
            },
        };
        let wanted = std::env::var_os("THALWEG_KILL_GENERATOR").is_none();
        if wanted && let Some(broker) = Broker::start_if_installed() {
            let [vehicles, weather] = [&input.vehicles, &input.weather]
                .map(|spec| Generator::new(spec.clone()).expect("valid options"));
            input.feed = Some(Feed::begin(broker, vehicles, weather, folder.to_owned()));
        }
        input
    }

    /// What the job reads.
    pub(crate) fn kind(&self) -> &'static str {
        match self.feed {
            Some(_) => "Kafka",
            None => "the generator",
        }
    }

    pub(crate) fn write_definition(&self, folder: &Path, cosmos: &str, adx: &str) {
        let source = |spec: &GenerateSpec| match &self.feed {
            Some(feed) => format!(
                "kafka: {{ brokers: \"{}\", topic: {}, start: earliest }}",
                feed.address(),
                spec.what
            ),
            None => format!(
                "generate: {{ what: {}, devices: {}, seed: {}, late: {}, duplicates: {}, corrupt: {}, splits: {}, rate: {} }}",
                spec.what,
                spec.devices,
                spec.seed,
                spec.late,
                spec.duplicates,
                spec.corrupt,
                spec.splits,
                spec.rate.unwrap_or_default(),
            ),
        };
        let text = include_str!("job.yaml")
            .replace("VEHICLES", &source(&self.vehicles))
            .replace("WEATHER", &source(&self.weather))
            .replace("COSMOS", cosmos)
            .replace("ADX", adx);
        std::fs::write(folder.join("job.yaml"), text).expect("the definition");
    }

    /// The end of the input: what has been written, or, of generators, some more than what has been
    /// read (a split's records up to its offset). Both as generators, and what makes the definition
    /// end there.
    pub(crate) fn end(&mut self, offsets: &BTreeMap<String, Vec<u64>>) -> End {
        let ended = |spec: &GenerateSpec, events| {
            let events = Some(events);
            let spec = spec.clone();
            Generator::new(GenerateSpec { events, ..spec }).expect("valid options")
        };
        if let Some(feed) = self.feed.take() {
            let (broker, [vehicles, weather]) = feed.end();
            return End {
                vehicles: ended(&self.vehicles, vehicles),
                weather: ended(&self.weather, weather),
                set: ["sources.vehicles", "tables.weather"]
                    .map(|source| (format!("{source}.kafka.until"), "latest".to_owned()))
                    .into(),
                _broker: Some(broker),
            };
        }
        let after = |spec: &GenerateSpec, source: &str| {
            let furthest = offsets[source].iter().max().expect("splits");
            (furthest + 1) * u64::from(spec.splits) + REST
        };
        let vehicles = after(&self.vehicles, "vehicles");
        let weather = after(&self.weather, "weather");
        let set = [
            ("sources.vehicles.generate.events", vehicles),
            ("tables.weather.generate.events", weather),
            ("sources.vehicles.generate.rate", 1_000_000),
            ("tables.weather.generate.rate", 1_000_000),
        ];
        End {
            vehicles: ended(&self.vehicles, vehicles),
            weather: ended(&self.weather, weather),
            set: set
                .map(|(field, value)| (field.to_owned(), value.to_string()))
                .into(),
            _broker: None,
        }
    }
}

/// How the input ends.
pub(crate) struct End {
    pub(crate) vehicles: Generator,
    pub(crate) weather: Generator,
    /// Fields of the definition and what they are to be.
    pub(crate) set: Vec<(String, String)>,
    /// Lives until the job has read it all.
    _broker: Option<Broker>,
}
