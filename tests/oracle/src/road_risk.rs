//! The model of the road-risk job.
//!
//! ```text
//! vehicles → dedup (vehicle_id, seq) within 1 h → filter → as-of weather → risk   (history)
//!          → tumbling 10 s by segment: distinct vehicles, mean and worst risk     (windows)
//!          → the newest window of each segment                                    (current)
//! ```
//!
//! What makes the answer one: records but the late ones are out of order by less than
//! `out_of_order`, so none of them is late; the weather has no late records, and its `wait` is
//! longer than the input, so that every row but a late one meets all weather up to its time. A late
//! record may find its weather forgotten, and its window fired or not: see
//! [`RoadRisk::settle_weather`] and [`RoadRisk::windows`].

use std::collections::{BTreeMap, BTreeSet};

use thalweg_generate::{Corruption, Event, Generator, Kind};

use crate::exact::sum;

/// Duplicates are closer than this.
const WITHIN_MS: i64 = 3_600_000;
/// The length of a window.
const WINDOW_MS: i64 = 10_000;

/// The split of a record, and its number in it.
pub type Place = (u32, u64);

/// The weather a row has met.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weather {
    /// Degrees Celsius.
    pub temperature_c: f64,
    /// Millimetres per hour.
    pub rain_mm_h: f64,
}

/// A row of the history.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// Of the first record that says it.
    pub place: Place,
    /// The vehicle.
    pub vehicle_id: String,
    /// The number of its report.
    pub seq: u64,
    /// Event time, milliseconds.
    pub ts_ms: i64,
    /// The segment it is on.
    pub segment: String,
    /// Its speed.
    pub speed_kmh: f64,
    /// The friction of the road.
    pub friction: f64,
    /// The fields that the schema does not name.
    pub extra: serde_json::Value,
    /// The weather on the segment then, if any is known.
    pub weather: Option<Weather>,
    /// The risk.
    pub risk: f64,
    /// Whether the record is one of those that lie minutes behind.
    pub late: bool,
}

/// What a window says of a segment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Different vehicles.
    pub vehicles: u64,
    /// Mean risk, within one unit in the last place.
    pub mean_risk: f64,
    /// Greatest risk.
    pub worst: f64,
}

/// What the job should make of its input.
#[derive(Clone, Debug)]
pub struct RoadRisk {
    observations: BTreeMap<(String, u64), Observation>,
    letters: BTreeMap<(&'static str, Place), &'static str>,
    duplicates: u64,
    filtered: u64,
}

impl RoadRisk {
    /// The answer for all records of these two generators, whose numbers of events must be set.
    #[must_use]
    pub fn of(vehicles: &Generator, weather: &Generator) -> Self {
        let mut model = Self {
            observations: BTreeMap::new(),
            letters: BTreeMap::new(),
            duplicates: 0,
            filtered: 0,
        };
        let sky = model.sky(weather);
        let mut seen: BTreeMap<(u64, u64), Vec<i64>> = BTreeMap::new();
        for place in places(vehicles) {
            let truth = vehicles.truth(place.0, place.1);
            let (Kind::Good | Kind::Late | Kind::DuplicateOf(_)) = truth.kind else {
                model.bury("vehicles", place, truth.kind);
                continue;
            };
            let Event::Vehicle(event) = truth.event else {
                continue;
            };
            let before = seen.entry((event.vehicle, event.seq)).or_default();
            if (before.iter()).any(|ts_ms| event.ts_ms.abs_diff(*ts_ms) < WITHIN_MS as u64) {
                model.duplicates += 1;
                continue;
            }
            before.push(event.ts_ms);
            let (speed_kmh, friction) = (event.speed_kmh(), event.friction());
            if !(0.0..=260.0).contains(&speed_kmh) || friction < 0.0 {
                model.filtered += 1;
                continue;
            }
            let met = (sky.get(&event.segment_id()))
                .and_then(|versions| versions.range(..=event.ts_ms).next_back())
                .map(|(_, weather)| *weather);
            let observation = Observation {
                place,
                vehicle_id: event.vehicle_id(),
                seq: event.seq,
                ts_ms: event.ts_ms,
                segment: event.segment_id(),
                speed_kmh,
                friction,
                extra: serde_json::json!({
                    "heading_deg": event.heading_deg,
                    "battery_v": event.battery_centi as f64 / 100.0,
                    "wipers": event.wipers,
                }),
                weather: met,
                risk: risk(speed_kmh, friction, met),
                late: truth.kind == Kind::Late,
            };
            let key = (observation.vehicle_id.clone(), observation.seq);
            model.observations.insert(key, observation);
        }
        model
    }

    /// The versions of the weather of each segment, by time.
    fn sky(&mut self, weather: &Generator) -> BTreeMap<String, BTreeMap<i64, Weather>> {
        let mut sky: BTreeMap<String, BTreeMap<i64, Weather>> = BTreeMap::new();
        for place in places(weather) {
            let truth = weather.truth(place.0, place.1);
            match (truth.kind, truth.event) {
                (Kind::Good | Kind::DuplicateOf(_), Event::Weather(event)) => {
                    let version = Weather {
                        temperature_c: event.temperature_c(),
                        rain_mm_h: event.rain_mm_h(),
                    };
                    let versions = sky.entry(event.segment_id()).or_default();
                    versions.insert(event.at_ms, version);
                }
                (kind, _) => self.bury("weather", place, kind),
            }
        }
        sky
    }

    fn bury(&mut self, source: &'static str, place: Place, kind: Kind) {
        if let Kind::Corrupt(corruption) = kind {
            let class = match corruption {
                Corruption::Truncated => "decode",
                Corruption::WrongType | Corruption::MissingField => "schema",
                Corruption::NullTime => "time",
            };
            self.letters.insert((source, place), class);
        }
    }

    /// The history: a row for each vehicle and report, by both.
    #[must_use]
    pub fn observations(&self) -> &BTreeMap<(String, u64), Observation> {
        &self.observations
    }

    /// The class of each dead letter of a record that cannot be read, by source and place.
    #[must_use]
    pub fn letters(&self) -> &BTreeMap<(&'static str, Place), &'static str> {
        &self.letters
    }

    /// Records that repeat another, and rows that are not plausible.
    #[must_use]
    pub fn dropped(&self) -> (u64, u64) {
        (self.duplicates, self.filtered)
    }

    /// The places of plausible rows that lie minutes behind: those that may be dead letters of
    /// class late.
    #[must_use]
    pub fn late(&self) -> BTreeSet<Place> {
        let late = (self.observations.values()).filter(|observation| observation.late);
        late.map(|observation| observation.place).collect()
    }

    /// Takes note that a row was found without weather, as a late one may be: what it should have
    /// met was forgotten before it came.
    ///
    /// # Errors
    /// If there is no such row, or it cannot be late.
    pub fn settle_weather(&mut self, vehicle_id: &str, seq: u64) -> Result<(), String> {
        match (self.observations).get_mut(&(vehicle_id.to_owned(), seq)) {
            Some(row) if row.late || row.weather.is_none() => {
                row.weather = None;
                row.risk = risk(row.speed_kmh, row.friction, None);
                Ok(())
            }
            _ => Err(format!("{vehicle_id} {seq} should have met the weather")),
        }
    }

    /// The windows, by start and segment, if the rows at `dead` came too late for theirs.
    #[must_use]
    pub fn windows(&self, dead: &BTreeSet<Place>) -> BTreeMap<(i64, String), Window> {
        let mut rows: BTreeMap<(i64, String), Vec<&Observation>> = BTreeMap::new();
        for row in self.observations.values() {
            if !dead.contains(&row.place) {
                let start_ms = row.ts_ms.div_euclid(WINDOW_MS) * WINDOW_MS;
                let key = (start_ms, row.segment.clone());
                rows.entry(key).or_default().push(row);
            }
        }
        let window = |rows: Vec<&Observation>| {
            let vehicles: BTreeSet<&str> = rows.iter().map(|row| &*row.vehicle_id).collect();
            Window {
                vehicles: vehicles.len() as u64,
                mean_risk: sum(rows.iter().map(|row| row.risk)) / rows.len() as f64,
                worst: rows.iter().map(|row| row.risk).fold(f64::MIN, f64::max),
            }
        };
        let windows = rows.into_iter().map(|(key, rows)| (key, window(rows)));
        windows.collect()
    }

    /// The newest of `windows` for each segment, with its start.
    #[must_use]
    pub fn current(windows: &BTreeMap<(i64, String), Window>) -> BTreeMap<String, (i64, Window)> {
        // Starts ascend, so that the last one stays.
        let newest = windows
            .iter()
            .map(|((start_ms, segment), window)| (segment.clone(), (*start_ms, *window)));
        newest.collect()
    }
}

/// The risk of a vehicle on a segment, 0 to 100, as `road.risk` has it: `d / (d + 1/4)` of a braking
/// distance `d` that grows with the square of speed, with rain, and with ice.
#[must_use]
pub fn risk(speed_kmh: f64, friction: f64, weather: Option<Weather>) -> f64 {
    let (rain, celsius) = weather.map_or((0.0, 15.0), |w| (w.rain_mm_h, w.temperature_c));
    let rain = rain.clamp(0.0, 50.0);
    let ice = match (rain > 0.0, celsius) {
        (true, celsius) if celsius < 3.0 => 0.4,
        (_, celsius) if celsius < 0.0 => 0.7,
        _ => 1.0,
    };
    let grip = friction.clamp(0.02, 1.2) * ice;
    // The same operations in the same order as the plugin: results are compared bit by bit.
    let speed = speed_kmh.clamp(0.0, 260.0) * (1.0 / 260.0);
    let distance = speed * speed * 0.9 * (rain + 4.0);
    100.0 * distance / (distance + 0.25 * grip * (0.6 * rain + 4.0))
}

/// Every record there is, in the order in which each split has them.
fn places(generator: &Generator) -> impl Iterator<Item = Place> + '_ {
    let splits = 0..generator.spec().splits;
    splits.flat_map(|split| {
        let records = 0..generator.split_events(split).unwrap_or(0);
        records.map(move |index| (split, index))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use thalweg_generate::{GenerateSpec, Generator, What};

    use super::{RoadRisk, Weather, risk};

    /// Records of vehicles: long enough for late ones to lie behind weather.
    const EVENTS: u64 = 60_000;

    fn model() -> RoadRisk {
        let spec = |what, events| GenerateSpec {
            events: Some(events),
            devices: 50,
            seed: 3,
            splits: 2,
            duplicates: 0.05,
            corrupt: 0.02,
            ..GenerateSpec::new(what)
        };
        let vehicles = GenerateSpec {
            late: 0.02,
            ..spec(What::Vehicles, EVENTS)
        };
        let [vehicles, weather] = [vehicles, spec(What::Weather, EVENTS / 10)]
            .map(|spec| Generator::new(spec).expect("valid options"));
        RoadRisk::of(&vehicles, &weather)
    }

    #[test]
    fn every_record_is_accounted_for_once() {
        let model = model();
        let (duplicates, filtered) = model.dropped();
        let vehicles = model.letters().keys().filter(|(of, _)| *of == "vehicles");
        let rows = model.observations().len() as u64 + duplicates + filtered;
        assert_eq!(rows + vehicles.count() as u64, EVENTS);
        assert!(duplicates > 800 && filtered > 100 && model.late().len() > 300);
        let met = model
            .observations()
            .values()
            .filter(|row| row.weather.is_some());
        assert!(met.count() > 10_000);
    }

    #[test]
    fn a_dead_row_is_missing_from_one_window() {
        let model = model();
        let all = model.windows(&BTreeSet::new());
        let row = model.observations().values().next().expect("rows");
        let without = model.windows(&BTreeSet::from([row.place]));
        let start_ms = row.ts_ms - row.ts_ms.rem_euclid(10_000);
        let changed = all
            .iter()
            .filter(|(key, window)| without.get(key) != Some(window));
        let changed: Vec<_> = changed.map(|(key, _)| key.clone()).collect();
        assert_eq!(changed, [(start_ms, row.segment.clone())]);
        let current = RoadRisk::current(&all);
        assert!(
            all.keys()
                .all(|(start_ms, segment)| current[segment].0 >= *start_ms)
        );
    }

    #[test]
    fn only_late_rows_may_miss_their_weather() {
        let mut model = model();
        let found = |late| {
            let mut rows = model.observations().values();
            let row = rows.find(|row| row.late == late && row.weather.is_some());
            row.map(|row| (row.vehicle_id.clone(), row.seq))
        };
        let (in_time, late) = (found(false).expect("rows"), found(true).expect("rows"));
        assert!(model.settle_weather(&in_time.0, in_time.1).is_err());
        assert_eq!(model.settle_weather(&late.0, late.1), Ok(()));
        assert_eq!(model.observations()[&late].weather, None);
    }

    #[test]
    fn risk_grows_with_speed_rain_and_frost() {
        let weather = |temperature_c, rain_mm_h| {
            Some(Weather {
                temperature_c,
                rain_mm_h,
            })
        };
        assert_eq!(risk(0.0, 0.5, None), 0.0);
        // A quarter of the greatest speed: d = 0.9 / 16, grip 0.9.
        assert_eq!(risk(65.0, 0.9, None), 100.0 * 0.225 / (0.225 + 0.9));
        let risks = [
            risk(65.0, 0.9, weather(15.0, 0.0)),
            risk(65.0, 0.9, weather(-1.0, 0.0)),
            risk(65.0, 0.9, weather(2.0, 0.1)),
            risk(65.0, 0.9, weather(2.0, 9.0)),
            risk(130.0, 0.9, weather(2.0, 9.0)),
            risk(130.0, 0.1, weather(2.0, 9.0)),
        ];
        assert!(risks.is_sorted() && risks[0] == risk(65.0, 0.9, None) && risks[5] < 100.0);
    }
}
