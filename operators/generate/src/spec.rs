//! The options of a generator.

use std::fmt;
use std::str::FromStr;

use serde_json::json;
use thalweg_stream::Origin;

use crate::error::Error;

/// What kind of telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// Devices of a fleet: the benchmarks' event, about 110 bytes.
    Fleet,
    /// Vehicles on the segments of a road network: the observations of the guiding example.
    Vehicles,
    /// The weather on these segments.
    Weather,
}

impl What {
    /// The word for it in a definition and on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Fleet => "fleet",
            Self::Vehicles => "vehicles",
            Self::Weather => "weather",
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for What {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self, Error> {
        [Self::Fleet, Self::Vehicles, Self::Weather]
            .into_iter()
            .find(|what| what.word() == word)
            .ok_or_else(|| Error::What(word.to_owned()))
    }
}

/// The options of a generator. All but `events` and `rate` decide what the records are.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateSpec {
    /// What kind of telemetry.
    pub what: What,
    /// Records in all, over all splits; nothing for no end.
    pub events: Option<u64>,
    /// Records per second of the job's clock, over all splits; nothing for as fast as possible.
    /// It has no influence on event time.
    pub rate: Option<f64>,
    /// How many devices or vehicles report. Weather is reported by the segments instead.
    pub devices: u64,
    /// How many segments the roads have; of no meaning to a fleet.
    pub segments: u64,
    /// Event time between two reports of one device, vehicle or segment, milliseconds; nothing for
    /// 1 s (fleet, vehicles) or 60 s (weather).
    pub interval_ms: Option<u64>,
    /// The seed.
    pub seed: u64,
    /// Probability that a record is late.
    pub late: f64,
    /// Probability that a record is an exact repetition of an earlier one.
    pub duplicates: f64,
    /// Probability that a record is damaged.
    pub corrupt: f64,
    /// Event time at which it begins, milliseconds since the Unix epoch.
    pub start_ms: i64,
    /// How many splits the records are dealt to, one by one.
    pub splits: u32,
}

impl GenerateSpec {
    /// 2026-01-01T00:00:00Z, where event time begins unless told otherwise.
    pub const START_MS: i64 = 1_767_225_600_000;
    /// Most devices or segments.
    pub const REPORTERS_MAX: u64 = 100_000_000;
    /// Most splits: what one source can keep open together.
    pub const SPLITS_MAX: u32 = 256;
    /// Longest interval, milliseconds: a year.
    pub const INTERVAL_MS_MAX: u64 = 366 * 86_400_000;
    /// Year 1 and year 9000: the times between which a start may lie, milliseconds.
    const START_MS_RANGE: (i64, i64) = (-62_135_596_800_000, 221_845_392_000_000);

    /// The options as they are where nothing is said.
    #[must_use]
    pub fn new(what: What) -> Self {
        Self {
            what,
            events: None,
            rate: None,
            devices: 10_000,
            segments: 200,
            interval_ms: None,
            seed: 0,
            late: 0.0,
            duplicates: 0.0,
            corrupt: 0.0,
            start_ms: Self::START_MS,
            splits: 1,
        }
    }

    /// How many take turns in reporting.
    pub(crate) fn reporters(&self) -> u64 {
        match self.what {
            What::Fleet | What::Vehicles => self.devices,
            What::Weather => self.segments,
        }
    }

    /// Event time between two reports of one of them, milliseconds.
    pub(crate) fn interval(&self) -> u64 {
        self.interval_ms.unwrap_or(match self.what {
            What::Fleet | What::Vehicles => 1_000,
            What::Weather => 60_000,
        })
    }

    /// All options that decide what the records are: those under which a checkpoint's offsets
    /// mean the same.
    pub(crate) fn identity(&self) -> serde_json::Value {
        json!({
            "what": self.what.word(), "devices": self.devices, "segments": self.segments,
            "interval_ms": self.interval(), "seed": self.seed, "late": self.late,
            "duplicates": self.duplicates, "corrupt": self.corrupt, "start_ms": self.start_ms,
            "splits": self.splits,
        })
    }

    /// Checks every option, so that no record can overflow anything.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let range = |option, value: u64, most: u64, must| {
            let valid = (1..=most).contains(&value);
            let value = value.to_string();
            valid.then_some(()).ok_or(Error::Option {
                option,
                value,
                must,
            })
        };
        let reporters = Self::REPORTERS_MAX;
        range("devices", self.devices, reporters, "1 to 100000000")?;
        range("segments", self.segments, reporters, "1 to 100000000")?;
        range(
            "splits",
            self.splits.into(),
            Self::SPLITS_MAX.into(),
            "1 to 256",
        )?;
        let must = "1 ms to 366 days";
        range("interval", self.interval(), Self::INTERVAL_MS_MAX, must)?;
        if let Some(events) = self.events {
            let must = "at most 17592186044416";
            range("events", events.max(1), Origin::OFFSET_MAX + 1, must)?;
        }
        for (option, value) in [
            ("late", self.late),
            ("duplicates", self.duplicates),
            ("corrupt", self.corrupt),
        ] {
            if !(0.0..=1.0).contains(&value) {
                let (value, must) = (value.to_string(), "a probability, 0 to 1");
                return Err(Error::Option {
                    option,
                    value,
                    must,
                });
            }
        }
        let together = self.late + self.duplicates + self.corrupt;
        if together > 1.0 + f64::EPSILON {
            return Err(Error::Probabilities(together));
        }
        if let Some(rate) = self.rate
            && !(rate.is_finite() && (1e-3..=1e9).contains(&rate))
        {
            let (value, must) = (rate.to_string(), "0.001 to 1000000000 records per second");
            return Err(Error::Option {
                option: "rate",
                value,
                must,
            });
        }
        let (first, last) = Self::START_MS_RANGE;
        if !(first..=last).contains(&self.start_ms) {
            let (value, must) = (self.start_ms.to_string(), "between the years 1 and 9000");
            return Err(Error::Option {
                option: "start",
                value,
                must,
            });
        }
        Ok(())
    }
}
