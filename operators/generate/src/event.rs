//! The three kinds of events: their values, and how they are written as JSON.
//!
//! Values are whole numbers of the last digit written, so that an oracle has them exactly; the
//! methods named like the JSON fields give them as a reader of the JSON has them.

use crate::draw::{Draw, hash};
use crate::generator::Corruption;
use crate::text;

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A record of `fleet`.
    Fleet(FleetEvent),
    /// A record of `vehicles`.
    Vehicle(VehicleEvent),
    /// A record of `weather`.
    Weather(WeatherEvent),
}

impl Event {
    /// The event time as written, milliseconds.
    #[must_use]
    pub fn time_ms(&self) -> i64 {
        match self {
            Self::Fleet(event) => event.ts_ms,
            Self::Vehicle(event) => event.ts_ms,
            Self::Weather(event) => event.at_ms,
        }
    }

    /// Appends the event as JSON, damaged as told. (Truncation is done afterwards, by the caller.)
    pub(crate) fn write(&self, damage: Option<Corruption>, out: &mut Vec<u8>) {
        match self {
            Self::Fleet(event) => event.write(damage, out),
            Self::Vehicle(event) => event.write(damage, out),
            Self::Weather(event) => event.write(damage, out),
        }
    }
}

/// A device's report, about 110 bytes:
/// `{"device_id":"dev-004217","ts":1767225600123,"seq":17,"temperature_c":21.37,"speed_kmh":63.2,"status":"ok"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetEvent {
    /// The device's number.
    pub device: u64,
    /// Event time, milliseconds.
    pub ts_ms: i64,
    /// The number of the device's report.
    pub seq: u64,
    /// Hundredths of a degree Celsius.
    pub temperature_centi: i64,
    /// Tenths of km/h.
    pub speed_deci: i64,
    /// How the device is.
    pub status: Status,
}

/// How a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// 90 of 100.
    Ok,
    /// 6 of 100.
    Idle,
    /// 3 of 100.
    Warn,
    /// 1 of 100.
    Fault,
}

impl Status {
    /// The word in the record.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Idle => "idle",
            Self::Warn => "warn",
            Self::Fault => "fault",
        }
    }
}

impl FleetEvent {
    pub(crate) fn draw(device: u64, seq: u64, ts_ms: i64, draw: &mut Draw) -> Self {
        let status = match draw.below(100) {
            0..90 => Status::Ok,
            90..96 => Status::Idle,
            96..99 => Status::Warn,
            _ => Status::Fault,
        };
        Self {
            device,
            ts_ms,
            seq,
            temperature_centi: draw.between(0, 5_500).cast_signed() - 1_500,
            speed_deci: draw.between(0, 1_300).cast_signed(),
            status,
        }
    }

    /// The field `device_id`.
    #[must_use]
    pub fn device_id(&self) -> String {
        format!("dev-{:06}", self.device)
    }

    /// The field `temperature_c`.
    #[must_use]
    pub fn temperature_c(&self) -> f64 {
        scaled(self.temperature_centi, 100)
    }

    /// The field `speed_kmh`.
    #[must_use]
    pub fn speed_kmh(&self) -> f64 {
        scaled(self.speed_deci, 10)
    }

    fn write(&self, damage: Option<Corruption>, out: &mut Vec<u8>) {
        if damage == Some(Corruption::MissingField) {
            out.extend_from_slice(b"{\"ts\":");
        } else {
            out.extend_from_slice(b"{\"device_id\":\"dev-");
            text::padded(out, self.device, 6);
            out.extend_from_slice(b"\",\"ts\":");
        }
        if damage == Some(Corruption::NullTime) {
            out.extend_from_slice(b"null");
        } else {
            text::whole(out, self.ts_ms);
        }
        out.extend_from_slice(b",\"seq\":");
        text::whole(out, self.seq);
        out.extend_from_slice(b",\"temperature_c\":");
        if damage == Some(Corruption::WrongType) {
            out.extend_from_slice(b"\"warm\"");
        } else {
            text::decimal(out, self.temperature_centi, 2);
        }
        out.extend_from_slice(b",\"speed_kmh\":");
        text::decimal(out, self.speed_deci, 1);
        out.extend_from_slice(b",\"status\":\"");
        out.extend_from_slice(self.status.word().as_bytes());
        out.extend_from_slice(b"\"}");
    }
}

/// A vehicle's report. `heading_deg`, `battery_v` and `wipers` are what a definition's `extra`
/// column collects:
/// `{"vehicle_id":"veh-000123","seq":17,"ts":"2026-01-01T00:00:17.123Z","position":{"segment":"seg-0042","lat":53.5012,"lon":9.7042},"speed_kmh":87.4,"friction":0.62,"heading_deg":270,"battery_v":12.61,"wipers":true}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VehicleEvent {
    /// The vehicle's number.
    pub vehicle: u64,
    /// The number of its report.
    pub seq: u64,
    /// Event time, milliseconds.
    pub ts_ms: i64,
    /// The number of the segment it is on; a vehicle moves on by one every 20 reports.
    pub segment: u64,
    /// Tenths of km/h. One report of 200 has the implausible 300 km/h or more.
    pub speed_deci: i64,
    /// Hundredths; lower in rain and frost. One report of 200 has -1.00, a failed sensor.
    pub friction_centi: i64,
    /// Degrees.
    pub heading_deg: u64,
    /// Hundredths of a volt.
    pub battery_centi: i64,
    /// Whether the wipers are on: whether it rains.
    pub wipers: bool,
}

impl VehicleEvent {
    pub(crate) fn draw(place: &Place, ts_ms: i64, draw: &mut Draw) -> Self {
        let (vehicle, seq) = (place.reporter, place.round);
        let first = hash(&[place.seed, vehicle]) % place.segments;
        let segment = (first + seq / 20) % place.segments;
        let sky = Sky::over(place.seed, segment, ts_ms);
        let frost = if sky.temperature_deci < 0 { 20 } else { 0 };
        let mut friction_centi =
            (85 - sky.rain_deci / 4 - frost - draw.between(0, 8).cast_signed()).max(5);
        let mut speed_deci = draw.between(500, 1_300).cast_signed() - 2 * sky.rain_deci - 5 * frost;
        match draw.below(400) {
            0 | 1 => speed_deci = 3_000 + draw.between(0, 500).cast_signed(),
            2 | 3 => friction_centi = -100,
            _ => {}
        }
        Self {
            vehicle,
            seq,
            ts_ms,
            segment,
            speed_deci,
            friction_centi,
            heading_deg: draw.below(360),
            battery_centi: draw.between(1_150, 1_440).cast_signed(),
            wipers: sky.rain_deci > 0,
        }
    }

    /// The field `vehicle_id`.
    #[must_use]
    pub fn vehicle_id(&self) -> String {
        format!("veh-{:06}", self.vehicle)
    }

    /// The field `position.segment`.
    #[must_use]
    pub fn segment_id(&self) -> String {
        segment_id(self.segment)
    }

    /// The field `speed_kmh`.
    #[must_use]
    pub fn speed_kmh(&self) -> f64 {
        scaled(self.speed_deci, 10)
    }

    /// The field `friction`.
    #[must_use]
    pub fn friction(&self) -> f64 {
        scaled(self.friction_centi, 100)
    }

    fn write(&self, damage: Option<Corruption>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"vehicle_id\":\"veh-");
        text::padded(out, self.vehicle, 6);
        out.extend_from_slice(b"\",\"seq\":");
        text::whole(out, self.seq);
        out.extend_from_slice(b",\"ts\":");
        write_time(damage, self.ts_ms, out);
        out.extend_from_slice(b",\"position\":{");
        if damage != Some(Corruption::MissingField) {
            out.extend_from_slice(b"\"segment\":\"seg-");
            text::padded(out, self.segment, 4);
            out.extend_from_slice(b"\",");
        }
        // Segments lie in a row of a hundred from west to east, the next hundred north of it.
        out.extend_from_slice(b"\"lat\":");
        text::decimal(
            out,
            535_000 + (self.segment / 100 % 1_000 * 30).cast_signed(),
            4,
        );
        out.extend_from_slice(b",\"lon\":");
        text::decimal(out, 97_000 + (self.segment % 100 * 50).cast_signed(), 4);
        out.extend_from_slice(b"},\"speed_kmh\":");
        if damage == Some(Corruption::WrongType) {
            out.extend_from_slice(b"\"fast\"");
        } else {
            text::decimal(out, self.speed_deci, 1);
        }
        out.extend_from_slice(b",\"friction\":");
        text::decimal(out, self.friction_centi, 2);
        out.extend_from_slice(b",\"heading_deg\":");
        text::whole(out, self.heading_deg);
        out.extend_from_slice(b",\"battery_v\":");
        text::decimal(out, self.battery_centi, 2);
        out.extend_from_slice(b",\"wipers\":");
        out.extend_from_slice(if self.wipers { b"true}" } else { b"false}" });
    }
}

/// The weather on a segment:
/// `{"segment":"seg-0042","at":"2026-01-01T00:01:00.017Z","temperature_c":3.4,"rain_mm_h":1.2}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeatherEvent {
    /// The segment's number.
    pub segment: u64,
    /// Event time, milliseconds.
    pub at_ms: i64,
    /// Tenths of a degree Celsius.
    pub temperature_deci: i64,
    /// Tenths of a millimetre per hour.
    pub rain_deci: i64,
}

impl WeatherEvent {
    pub(crate) fn draw(place: &Place, at_ms: i64) -> Self {
        let sky = Sky::over(place.seed, place.reporter, at_ms);
        Self {
            segment: place.reporter,
            at_ms,
            temperature_deci: sky.temperature_deci,
            rain_deci: sky.rain_deci,
        }
    }

    /// The field `segment`.
    #[must_use]
    pub fn segment_id(&self) -> String {
        segment_id(self.segment)
    }

    /// The field `temperature_c`.
    #[must_use]
    pub fn temperature_c(&self) -> f64 {
        scaled(self.temperature_deci, 10)
    }

    /// The field `rain_mm_h`.
    #[must_use]
    pub fn rain_mm_h(&self) -> f64 {
        scaled(self.rain_deci, 10)
    }

    fn write(&self, damage: Option<Corruption>, out: &mut Vec<u8>) {
        out.push(b'{');
        if damage != Some(Corruption::MissingField) {
            out.extend_from_slice(b"\"segment\":\"seg-");
            text::padded(out, self.segment, 4);
            out.extend_from_slice(b"\",");
        }
        out.extend_from_slice(b"\"at\":");
        write_time(damage, self.at_ms, out);
        out.extend_from_slice(b",\"temperature_c\":");
        text::decimal(out, self.temperature_deci, 1);
        out.extend_from_slice(b",\"rain_mm_h\":");
        if damage == Some(Corruption::WrongType) {
            out.extend_from_slice(b"\"wet\"}");
        } else {
            text::decimal(out, self.rain_deci, 1);
            out.push(b'}');
        }
    }
}

/// Who reports, for the how manieth time, in which world.
#[derive(Debug)]
pub(crate) struct Place {
    /// The seed.
    pub(crate) seed: u64,
    /// How many segments there are.
    pub(crate) segments: u64,
    /// The number of the device, vehicle or segment.
    pub(crate) reporter: u64,
    /// The number of the round.
    pub(crate) round: u64,
}

/// The weather over a segment, the same for the vehicles on it as for who reports on it (if the
/// seeds are equal). It changes every ten minutes, and is shared by eight segments in a row.
struct Sky {
    temperature_deci: i64,
    rain_deci: i64,
}

impl Sky {
    fn over(seed: u64, segment: u64, time_ms: i64) -> Self {
        let (area, block) = (segment / 8, time_ms.div_euclid(600_000).cast_unsigned());
        let mut draw = Draw::at(hash(&[seed, area]), block);
        let rain_deci = match draw.below(100) {
            0..65 => 0,
            _ => draw.between(1, 150).cast_signed(),
        };
        Self {
            temperature_deci: draw.between(0, 250).cast_signed() - 50,
            rain_deci,
        }
    }
}

fn segment_id(segment: u64) -> String {
    format!("seg-{segment:04}")
}

fn write_time(damage: Option<Corruption>, time_ms: i64, out: &mut Vec<u8>) {
    if damage == Some(Corruption::NullTime) {
        out.extend_from_slice(b"null");
        return;
    }
    out.push(b'"');
    text::rfc3339(out, time_ms);
    out.push(b'"');
}

/// A decimal of few digits as the nearest float: both operands are exact, so the division rounds
/// as reading the decimal does.
fn scaled(value: i64, scale: u32) -> f64 {
    value as f64 / f64::from(scale)
}
