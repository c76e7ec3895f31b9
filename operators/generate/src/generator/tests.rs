//! Records against their truth, read back with `serde_json`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Corruption, Generator, Kind, stride};
use crate::{
    DISORDER_MS_MAX, DUPLICATE_DISTANCE_MAX, Error, Event, GenerateSpec, LATE_MS_MAX, LATE_MS_MIN,
    What,
};

const ALL: [What; 3] = [What::Fleet, What::Vehicles, What::Weather];

fn spec(what: What) -> GenerateSpec {
    let mut spec = GenerateSpec::new(what);
    (spec.devices, spec.segments, spec.seed) = (300, 40, 7);
    spec
}

fn messy(what: What) -> Generator {
    let mut spec = spec(what);
    (spec.late, spec.duplicates, spec.corrupt) = (0.05, 0.1, 0.04);
    spec.splits = 3;
    Generator::new(spec).unwrap()
}

fn record(generator: &Generator, split: u32, index: u64) -> Vec<u8> {
    let mut out = Vec::new();
    generator.record(split, index, &mut out);
    out
}

/// The record of an event, as an independent reading of the documentation has it.
fn expected(event: &Event) -> BTreeMap<&'static str, Value> {
    match event {
        Event::Fleet(e) => BTreeMap::from([
            ("device_id", e.device_id().into()),
            ("ts", e.ts_ms.into()),
            ("seq", e.seq.into()),
            ("temperature_c", e.temperature_c().into()),
            ("speed_kmh", e.speed_kmh().into()),
            ("status", e.status.word().into()),
        ]),
        Event::Vehicle(e) => BTreeMap::from([
            ("vehicle_id", e.vehicle_id().into()),
            ("seq", e.seq.into()),
            ("speed_kmh", e.speed_kmh().into()),
            ("friction", e.friction().into()),
            ("heading_deg", e.heading_deg.into()),
            ("wipers", e.wipers.into()),
        ]),
        Event::Weather(e) => BTreeMap::from([
            ("segment", e.segment_id().into()),
            ("temperature_c", e.temperature_c().into()),
            ("rain_mm_h", e.rain_mm_h().into()),
        ]),
    }
}

#[test]
fn a_record_is_a_function_of_seed_split_and_index_alone() {
    for what in ALL {
        let (one, other) = (messy(what), messy(what));
        let places = || (0..3).flat_map(|split| (0..500).map(move |index| (split, index)));
        let forwards: Vec<_> = places().map(|(s, i)| record(&one, s, i)).collect();
        let mut backwards: Vec<_> = places().rev().map(|(s, i)| record(&other, s, i)).collect();
        backwards.reverse();
        assert_eq!(forwards, backwards);
        let mut reseeded = one.spec().clone();
        reseeded.seed += 1;
        let reseeded = Generator::new(reseeded).unwrap();
        assert_ne!(record(&one, 0, 5), record(&reseeded, 0, 5));
        assert_ne!(record(&one, 0, 5), record(&one, 1, 5));
    }
}

#[test]
fn the_bytes_of_a_seed_are_a_contract() {
    let first = |what| {
        let mut out = Vec::new();
        messy(what).write_lines(0..2, &mut out);
        String::from_utf8(out).unwrap()
    };
    let expect = expect_test::expect![[r#"
        {"device_id":"dev-000178","ts":1767225600152,"seq":0,"temperature_c":-2.36,"speed_kmh":59.0,"status":"ok"}
        {"device_id":"dev-000065","ts":1767225600156,"seq":0,"temperature_c":18.71,"speed_kmh":9.8,"status":"ok"}
        {"vehicle_id":"veh-000178","seq":0,"ts":"2026-01-01T00:00:00.152Z","position":{"segment":"seg-0035","lat":53.5000,"lon":9.8750},"speed_kmh":58.4,"friction":0.64,"heading_deg":273,"battery_v":11.94,"wipers":false}
        {"vehicle_id":"veh-000065","seq":0,"ts":"2026-01-01T00:00:00.156Z","position":{"segment":"seg-0010","lat":53.5000,"lon":9.7500},"speed_kmh":89.0,"friction":0.62,"heading_deg":129,"battery_v":12.49,"wipers":false}
        {"segment":"seg-0038","at":"2026-01-01T00:00:00.152Z","temperature_c":-3.9,"rain_mm_h":0.0}
        {"segment":"seg-0025","at":"2026-01-01T00:00:01.653Z","temperature_c":-3.3,"rain_mm_h":4.9}
    "#]];
    expect.assert_eq(&ALL.map(first).concat());
}

#[test]
fn good_records_parse_to_what_their_truth_says() {
    for what in ALL {
        let generator = messy(what);
        for index in 0..3000 {
            let truth = generator.truth(1, index);
            if let Kind::Corrupt(_) = truth.kind {
                continue;
            }
            let parsed: Value = serde_json::from_slice(&record(&generator, 1, index)).unwrap();
            for (field, value) in expected(&truth.event) {
                assert_eq!(parsed[field], value, "{field} of {parsed}");
            }
            if let Event::Vehicle(event) = &truth.event {
                assert_eq!(parsed["position"]["segment"], event.segment_id());
                assert!(parsed["battery_v"].is_f64());
            }
        }
    }
}

#[test]
fn a_fleet_record_has_about_110_bytes() {
    let mut out = Vec::new();
    messy(What::Fleet).write_lines(0..10_000, &mut out);
    let mean = out.len() as f64 / 10_000.0;
    assert!((104.0..114.0).contains(&mean), "{mean}");
}

#[test]
fn kinds_come_in_the_proportions_asked_for() {
    for what in ALL {
        let generator = messy(what);
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        for index in 0..40_000 {
            let word = match generator.truth(2, index).kind {
                Kind::Good => "good",
                Kind::Late => "late",
                Kind::DuplicateOf(_) => "duplicate",
                Kind::Corrupt(Corruption::Truncated) => "truncated",
                Kind::Corrupt(Corruption::WrongType) => "wrong type",
                Kind::Corrupt(Corruption::MissingField) => "missing field",
                Kind::Corrupt(Corruption::NullTime) => "null time",
            };
            *counts.entry(word).or_default() += 1;
        }
        for (word, share) in [
            ("good", 0.81),
            ("late", 0.05),
            ("duplicate", 0.1),
            ("truncated", 0.01),
            ("wrong type", 0.01),
            ("missing field", 0.01),
            ("null time", 0.01),
        ] {
            let found = f64::from(counts[word]) / 40_000.0;
            // Five standard deviations; where few precede, a duplicate may have to be good.
            let tolerance = 5.0 * (share * (1.0f64 - share) / 40_000.0).sqrt();
            assert!(
                (found - share).abs() < tolerance,
                "{word}: {found} of {share}"
            );
        }
    }
}

#[test]
fn duplicates_repeat_a_good_record_nearby_byte_for_byte() {
    let generator = messy(What::Vehicles);
    let mut seen = 0;
    for index in 0..5000 {
        if let Kind::DuplicateOf(earlier) = generator.truth(0, index).kind {
            seen += 1;
            assert!(index - earlier <= DUPLICATE_DISTANCE_MAX.min(300 / 3));
            assert_eq!(generator.truth(0, earlier).kind, Kind::Good);
            assert_eq!(
                generator.truth(0, earlier).event,
                generator.truth(0, index).event
            );
            assert_eq!(record(&generator, 0, earlier), record(&generator, 0, index));
        }
    }
    assert!(seen > 300, "{seen}");
}

#[test]
fn a_job_of_nothing_but_one_kind_is_possible() {
    for (late, duplicates, corrupt) in [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)] {
        let mut spec = spec(What::Fleet);
        (spec.late, spec.duplicates, spec.corrupt) = (late, duplicates, corrupt);
        let generator = Generator::new(spec).unwrap();
        for index in 0..100 {
            let kind = generator.truth(0, index).kind;
            match kind {
                Kind::Late => assert_eq!(late, 1.0),
                // With nothing good to repeat, it stays good.
                Kind::Good => assert_eq!(duplicates, 1.0),
                Kind::Corrupt(_) => assert_eq!(corrupt, 1.0),
                Kind::DuplicateOf(_) => panic!("{index}: {kind:?}"),
            }
        }
    }
}

#[test]
fn corrupt_records_are_damaged_as_their_truth_says() {
    for (what, number, name, time) in [
        (What::Fleet, "/temperature_c", "/device_id", "/ts"),
        (What::Vehicles, "/speed_kmh", "/position/segment", "/ts"),
        (What::Weather, "/rain_mm_h", "/segment", "/at"),
    ] {
        let mut spec = spec(what);
        spec.corrupt = 1.0;
        let generator = Generator::new(spec).unwrap();
        let mut seen = BTreeSet::new();
        for index in 0..1000 {
            let truth = generator.truth(0, index);
            let Kind::Corrupt(corruption) = truth.kind else {
                panic!("{:?}", truth.kind);
            };
            seen.insert(format!("{corruption:?}"));
            assert_eq!(truth.event_time_ms, None);
            let bytes = record(&generator, 0, index);
            assert!(!bytes.is_empty() && !bytes.contains(&b'\n'));
            let parsed = serde_json::from_slice::<Value>(&bytes);
            if corruption == Corruption::Truncated {
                assert!(parsed.is_err(), "{parsed:?}");
                continue;
            }
            let parsed = parsed.unwrap();
            let wrong_type = parsed.pointer(number).unwrap().is_string();
            let missing = parsed.pointer(name).is_none();
            let null = parsed.pointer(time).unwrap().is_null();
            assert_eq!(wrong_type, corruption == Corruption::WrongType);
            assert_eq!(missing, corruption == Corruption::MissingField);
            assert_eq!(null, corruption == Corruption::NullTime);
        }
        assert_eq!(seen.len(), 4);
    }
}

#[test]
fn event_time_advances_with_the_index_within_the_disorder() {
    for what in ALL {
        let generator = messy(what);
        let (reporters, interval) = (generator.reporters, generator.interval_ms);
        for number in 0..5000 {
            let (split, index) = generator.place(number);
            let truth = generator.truth(split, index);
            let regular = GenerateSpec::START_MS + (number * interval / reporters) as i64;
            let ahead = truth.event.time_ms() - regular;
            match truth.kind {
                Kind::Good | Kind::Corrupt(_) => {
                    assert!((-1..=DISORDER_MS_MAX as i64).contains(&ahead), "{ahead}");
                }
                Kind::Late => {
                    let behind = LATE_MS_MIN as i64 - 200..=LATE_MS_MAX as i64 + 1;
                    assert!(behind.contains(&-ahead), "{ahead}");
                }
                // At most one interval back.
                Kind::DuplicateOf(_) => {
                    assert!((-(interval as i64) - 1..=200).contains(&ahead), "{ahead}");
                }
            }
        }
    }
}

#[test]
fn every_reporter_reports_once_a_round() {
    let mut spec = spec(What::Fleet);
    spec.splits = 2;
    let generator = Generator::new(spec).unwrap();
    let mut orders = BTreeSet::new();
    for round in 0..20 {
        let order: Vec<u64> = (0..300)
            .map(|turn| {
                let (split, index) = generator.place(round * 300 + turn);
                match generator.truth(split, index).event {
                    Event::Fleet(event) => {
                        assert_eq!(event.seq, round);
                        event.device
                    }
                    Event::Vehicle(_) | Event::Weather(_) => panic!("not a fleet"),
                }
            })
            .collect();
        assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), 300);
        orders.insert(order);
    }
    assert!(orders.len() > 15, "the order hardly changes");
}

#[test]
fn strides_permute() {
    for count in (1..200).chain([9_973, 10_000, 30_030, 100_000_000]) {
        let stride = stride(count);
        assert_eq!(super::gcd(stride, count), 1, "{stride} of {count}");
    }
}

#[test]
fn the_weather_is_the_same_for_vehicles_and_who_reports_it() {
    let weather = Generator::new(spec(What::Weather)).unwrap();
    let mut rainy = BTreeMap::new();
    for index in 0..400 {
        if let Event::Weather(event) = weather.truth(0, index).event {
            rainy.insert((event.segment, event.at_ms / 600_000), event.rain_deci > 0);
        }
    }
    let vehicles = Generator::new(spec(What::Vehicles)).unwrap();
    let mut met = 0;
    for index in 0..20_000 {
        if let Event::Vehicle(event) = vehicles.truth(0, index).event
            && let Some(rain) = rainy.get(&(event.segment, event.ts_ms / 600_000))
        {
            met += 1;
            assert_eq!(event.wipers, *rain);
        }
    }
    assert!(met > 1000, "{met}");
    assert!(rainy.values().any(|rain| *rain) && rainy.values().any(|rain| !rain));
}

#[test]
fn the_last_offset_and_the_longest_interval_overflow_nothing() {
    for what in ALL {
        let mut spec = spec(what);
        (spec.devices, spec.segments, spec.splits) = (1, 1, 256);
        spec.interval_ms = Some(GenerateSpec::INTERVAL_MS_MAX);
        spec.late = 0.5;
        let generator = Generator::new(spec).unwrap();
        for index in [0, thalweg_stream::Origin::OFFSET_MAX, u64::MAX] {
            let bytes = record(&generator, 255, index);
            serde_json::from_slice::<Value>(&bytes).unwrap();
        }
    }
}

#[test]
fn events_are_dealt_to_splits_one_by_one() {
    let mut spec = spec(What::Fleet);
    (spec.events, spec.splits) = (Some(10), 4);
    let generator = Generator::new(spec).unwrap();
    let dealt: Vec<_> = (0..4).map(|s| generator.split_events(s)).collect();
    assert_eq!(dealt, [Some(3), Some(3), Some(2), Some(2)]);
    assert_eq!(generator.place(9), (1, 2));
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    let refused = |change: fn(&mut GenerateSpec)| {
        let mut spec = spec(What::Fleet);
        change(&mut spec);
        Generator::new(spec).unwrap_err().to_string()
    };
    for (message, part) in [
        (refused(|s| s.devices = 0), "\"devices\" is 0"),
        (refused(|s| s.segments = 1 << 40), "\"segments\""),
        (refused(|s| s.splits = 257), "\"splits\" is 257"),
        (refused(|s| s.late = -0.1), "\"late\" is -0.1"),
        (refused(|s| s.corrupt = f64::NAN), "\"corrupt\" is NaN"),
        (refused(|s| s.rate = Some(0.0)), "\"rate\" is 0"),
        (refused(|s| s.interval_ms = Some(0)), "\"interval\" is 0"),
        (refused(|s| s.start_ms = i64::MAX), "\"start\""),
        (refused(|s| s.events = Some(u64::MAX)), "\"events\""),
    ] {
        assert!(message.contains(part), "{message}");
    }
    let mut spec = spec(What::Fleet);
    (spec.late, spec.duplicates) = (0.6, 0.6);
    assert_eq!(Generator::new(spec).unwrap_err(), Error::Probabilities(1.2));
    assert!("fleets".parse::<What>().is_err());
    assert_eq!("weather".parse::<What>(), Ok(What::Weather));
}
