//! The definition under test, and what its generators make.

use std::collections::BTreeMap;
use std::path::Path;

use thalweg_generate::{GenerateSpec, Generator, What};

/// Records that are still read after the last kill.
const REST: u64 = 4_000;

/// The vehicles and the weather, without an end.
pub(crate) struct Input {
    vehicles: GenerateSpec,
    weather: GenerateSpec,
}

impl Input {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
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
        }
    }

    pub(crate) fn write_definition(&self, folder: &Path, cosmos: &str, adx: &str) {
        let generate = |spec: &GenerateSpec| {
            format!(
                "{{ what: {}, devices: {}, seed: {}, late: {}, duplicates: {}, corrupt: {}, splits: {}, rate: {} }}",
                spec.what,
                spec.devices,
                spec.seed,
                spec.late,
                spec.duplicates,
                spec.corrupt,
                spec.splits,
                spec.rate.unwrap_or_default(),
            )
        };
        let text = include_str!("job.yaml")
            .replace(
                "VEHICLES",
                &format!("generate: {}", generate(&self.vehicles)),
            )
            .replace("WEATHER", &format!("generate: {}", generate(&self.weather)))
            .replace("COSMOS", cosmos)
            .replace("ADX", adx);
        std::fs::write(folder.join("job.yaml"), text).expect("the definition");
    }

    /// The input as it ends some time after what has been read of each source: of a split, as many
    /// records as the offset says.
    pub(crate) fn ends_after(
        &self,
        offsets: &BTreeMap<String, Vec<u64>>,
    ) -> (Generator, Generator) {
        let ended = |spec: &GenerateSpec, source: &str| {
            let furthest = offsets[source].iter().max().expect("splits");
            let events = Some((furthest + 1) * u64::from(spec.splits) + REST);
            let spec = spec.clone();
            Generator::new(GenerateSpec { events, ..spec }).expect("valid options")
        };
        (
            ended(&self.vehicles, "vehicles"),
            ended(&self.weather, "weather"),
        )
    }

    /// What makes the definition end there, as fast as possible.
    pub(crate) fn ended(
        &self,
        vehicles: &Generator,
        weather: &Generator,
    ) -> [(&'static str, u64); 4] {
        let events = |generator: &Generator| generator.spec().events.unwrap_or_default();
        [
            ("sources.vehicles.generate.events", events(vehicles)),
            ("tables.weather.generate.events", events(weather)),
            ("sources.vehicles.generate.rate", 1_000_000),
            ("tables.weather.generate.rate", 1_000_000),
        ]
    }
}
