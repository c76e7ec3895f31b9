//! The generator: from (split, index) to bytes, and to the truth about them.

use std::ops::Range;

use crate::draw::{Draw, hash, mix, threshold};
use crate::error::Error;
use crate::event::{Event, FleetEvent, Place, VehicleEvent, WeatherEvent};
use crate::spec::{GenerateSpec, What};
use crate::{DISORDER_MS_MAX, DUPLICATE_DISTANCE_MAX, LATE_MS_MAX, LATE_MS_MIN};

/// The last event time, 9999-12-31T23:59:59.999Z: an endless generator stays there, as no later
/// time can be written as RFC 3339.
const TIME_MS_MAX: i64 = 253_402_300_799_999;

/// Makes records; a pure function of its options, the split and the index.
///
/// ```
/// use thalweg_generate::{GenerateSpec, Generator, Kind, What};
/// let mut spec = GenerateSpec::new(What::Fleet);
/// spec.seed = 42;
/// spec.duplicates = 0.1;
/// let generator = Generator::new(spec)?;
/// let mut record = Vec::new();
/// generator.record(0, 7, &mut record);
/// assert!(record.starts_with(b"{\"device_id\":\"dev-"));
/// if let Kind::DuplicateOf(earlier) = generator.truth(0, 7).kind {
///     assert!(earlier < 7);
/// }
/// # Ok::<(), thalweg_generate::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Generator {
    spec: GenerateSpec,
    reporters: u64,
    interval_ms: u64,
    /// Coprime to `reporters`: multiplying by it permutes them.
    stride: u64,
    /// Greatest distance from a duplicate to what it repeats, in records of its split.
    distance_max: u64,
    /// 64 random bits below the first are a late record, below the second a duplicate, below the
    /// third a corrupt one.
    thresholds: [u64; 3],
}

/// What a record is meant to be: how an oracle tells what a job should make of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truth {
    /// What became of it.
    pub kind: Kind,
    /// The event time a reader of the record finds, milliseconds; nothing if it is corrupt.
    pub event_time_ms: Option<i64>,
    /// What it says: of a duplicate what the repeated record says, of a corrupt record what it
    /// would have said.
    pub event: Event,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Decodable, in time, and the first of its reporter and `seq`.
    Good,
    /// Good but for its event time, which lies minutes behind.
    Late,
    /// An exact repetition of the good record with this index in the same split.
    DuplicateOf(u64),
    /// Damaged.
    Corrupt(Corruption),
}

/// How a record is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Corruption {
    /// Cut off somewhere, so that it is not JSON: a dead letter of class decode.
    Truncated,
    /// A word where a number belongs (`temperature_c` of fleet, `speed_kmh` of vehicles,
    /// `rain_mm_h` of weather): a dead letter of class schema where the schema has the column.
    WrongType,
    /// No `device_id` (fleet), `position.segment` (vehicles), `segment` (weather): a dead letter
    /// of class schema where the column is `required`, and a null otherwise.
    MissingField,
    /// The event time (`ts`, `at` of weather) is null: a dead letter of class time, or of class
    /// schema where the column is `required`.
    NullTime,
}

/// What became of a record, before the question what there is to repeat.
enum Fate {
    Good,
    Late,
    Duplicate,
    Corrupt,
}

impl Generator {
    /// A generator with these options.
    ///
    /// # Errors
    /// If an option is out of its range; names it.
    pub fn new(spec: GenerateSpec) -> Result<Self, Error> {
        spec.check()?;
        let reporters = spec.reporters();
        // About an interval back, so that a repetition is not late because of its distance.
        let nearby = (reporters / u64::from(spec.splits)).clamp(1, DUPLICATE_DISTANCE_MAX);
        let late = threshold(spec.late);
        let duplicate = late.saturating_add(threshold(spec.duplicates));
        let corrupt = duplicate.saturating_add(threshold(spec.corrupt));
        Ok(Self {
            reporters,
            interval_ms: spec.interval(),
            stride: stride(reporters),
            distance_max: nearby,
            thresholds: [late, duplicate, corrupt],
            spec,
        })
    }

    /// The options.
    #[must_use]
    pub fn spec(&self) -> &GenerateSpec {
        &self.spec
    }

    /// How many records a split has; nothing if it has no end.
    #[must_use]
    pub fn split_events(&self, split: u32) -> Option<u64> {
        let splits = u64::from(self.spec.splits);
        (self.spec.events).map(|all| all / splits + u64::from(u64::from(split) < all % splits))
    }

    /// The split and index of the record with this number: records are dealt to the splits one by
    /// one.
    #[must_use]
    pub fn place(&self, number: u64) -> (u32, u64) {
        let splits = u64::from(self.spec.splits);
        ((number % splits) as u32, number / splits)
    }

    /// Appends the record at `index` of `split`, without a line feed (and without any in it).
    pub fn record(&self, split: u32, index: u64, out: &mut Vec<u8>) {
        let (kind, event, mut draw) = self.decide(split, index);
        let Kind::Corrupt(corruption) = kind else {
            event.write(None, out);
            return;
        };
        let begin = out.len();
        event.write(Some(corruption), out);
        if corruption == Corruption::Truncated {
            // At least the brace stays and at least the brace goes: no such prefix is JSON.
            let length = (out.len() - begin) as u64;
            out.truncate(begin + draw.between(1, length - 1) as usize);
        }
    }

    /// Appends the records with these numbers as lines, dealt from all splits.
    pub fn write_lines(&self, numbers: Range<u64>, out: &mut Vec<u8>) {
        for number in numbers {
            let (split, index) = self.place(number);
            self.record(split, index, out);
            out.push(b'\n');
        }
    }

    /// What the record at `index` of `split` is meant to be.
    #[must_use]
    pub fn truth(&self, split: u32, index: u64) -> Truth {
        let (kind, event, _) = self.decide(split, index);
        let event_time_ms = match kind {
            Kind::Good | Kind::Late | Kind::DuplicateOf(_) => Some(event.time_ms()),
            Kind::Corrupt(_) => None,
        };
        Truth {
            kind,
            event_time_ms,
            event,
        }
    }

    /// What becomes of a record, what it says, and the draws that are left.
    fn decide(&self, split: u32, index: u64) -> (Kind, Event, Draw) {
        let (fate, mut draw) = self.fate(split, index);
        match fate {
            Fate::Good => (Kind::Good, self.event(split, index, 0, &mut draw), draw),
            Fate::Late => {
                let behind_ms = draw.between(LATE_MS_MIN, LATE_MS_MAX);
                let event = self.event(split, index, behind_ms, &mut draw);
                (Kind::Late, event, draw)
            }
            Fate::Duplicate => match self.repeated(split, index, &mut draw) {
                Some(earlier) => {
                    let (_, mut its_draw) = self.fate(split, earlier);
                    let event = self.event(split, earlier, 0, &mut its_draw);
                    (Kind::DuplicateOf(earlier), event, draw)
                }
                None => (Kind::Good, self.event(split, index, 0, &mut draw), draw),
            },
            Fate::Corrupt => {
                let corruption = match draw.below(4) {
                    0 => Corruption::Truncated,
                    1 => Corruption::WrongType,
                    2 => Corruption::MissingField,
                    _ => Corruption::NullTime,
                };
                let event = self.event(split, index, 0, &mut draw);
                (Kind::Corrupt(corruption), event, draw)
            }
        }
    }

    fn fate(&self, split: u32, index: u64) -> (Fate, Draw) {
        let mut draw = Draw::at(mix(self.spec.seed ^ mix(u64::from(split) + 1)), index);
        let [late, duplicate, corrupt] = self.thresholds;
        let fate = match draw.next() {
            bits if bits < late => Fate::Late,
            bits if bits < duplicate => Fate::Duplicate,
            bits if bits < corrupt => Fate::Corrupt,
            _ => Fate::Good,
        };
        (fate, draw)
    }

    /// The good record that the duplicate at `index` repeats: a drawn one, or the nearest before
    /// it, not further back than the limit.
    fn repeated(&self, split: u32, index: u64, draw: &mut Draw) -> Option<u64> {
        let oldest = index.saturating_sub(self.distance_max);
        let drawn = index.checked_sub(draw.between(1, self.distance_max))?;
        (oldest..=drawn)
            .rev()
            .find(|earlier| matches!(self.fate(split, *earlier).0, Fate::Good))
    }

    /// The event whose turn it is, its time put back by `behind_ms`.
    fn event(&self, split: u32, index: u64, behind_ms: u64, draw: &mut Draw) -> Event {
        let splits = u64::from(self.spec.splits);
        let number = index.saturating_mul(splits).saturating_add(split.into());
        let (round, turn) = (number / self.reporters, number % self.reporters);
        // Both factors are below 10⁸, so that nothing overflows.
        let shift = hash(&[self.spec.seed, round]) % self.reporters;
        let reporter = (turn * self.stride + shift) % self.reporters;
        let within_round = turn * self.interval_ms / self.reporters;
        let since_start = round
            .saturating_mul(self.interval_ms)
            .saturating_add(within_round + draw.between(0, DISORDER_MS_MAX));
        let time_ms = (self.spec.start_ms.saturating_add_unsigned(since_start))
            .min(TIME_MS_MAX)
            .saturating_sub_unsigned(behind_ms);
        let place = Place {
            seed: self.spec.seed,
            segments: self.spec.segments,
            reporter,
            round,
        };
        match self.spec.what {
            What::Fleet => Event::Fleet(FleetEvent::draw(reporter, round, time_ms, draw)),
            What::Vehicles => Event::Vehicle(VehicleEvent::draw(&place, time_ms, draw)),
            What::Weather => Event::Weather(WeatherEvent::draw(&place, time_ms)),
        }
    }
}

/// A number coprime to `count`, near its golden section, so that neighbours in turn are far apart.
fn stride(count: u64) -> u64 {
    let near = (count as f64 * 0.618_033_988_75) as u64;
    (near.max(1)..=count)
        .find(|stride| gcd(*stride, count) == 1)
        .unwrap_or(1)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests;
