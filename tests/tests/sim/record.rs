//! The input: every record is a function of the seed, its source, split and offset.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use thalweg_stream::source::{Placement, SplitSpec, SplitStart, SplitState, SplitStatus, Waker};
use thalweg_stream::{Chunk, Fault, Framing, Source, SplitId, SplitReader};

use crate::world::{BEGIN_MS, Random, World, lock, mix};

/// Greatest disorder of records that are not late, milliseconds; what the definition says.
pub(crate) const OUT_OF_ORDER_MS: i64 = 100;
/// Event time from one record of a split to the next.
const STEP_MS: i64 = 20;

/// How much input there is, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input {
    pub(crate) seed: u64,
    pub(crate) reports: Extent,
    pub(crate) versions: Extent,
    /// Records come in bursts so far apart, at most; all are there from the beginning if it is zero.
    pub(crate) apart: Duration,
}

/// How much a source has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) splits: u32,
    /// Records of each split.
    pub(crate) count: u64,
    /// More may come for ever, though nothing does.
    pub(crate) endless: bool,
}

impl Extent {
    const fn new(splits: u32, count: u64) -> Self {
        Self {
            splits,
            count,
            endless: false,
        }
    }
}

/// What a record of reports says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) device: u64,
    pub(crate) ts: i64,
    pub(crate) seq: u64,
    pub(crate) value: i64,
}

impl Input {
    pub(crate) fn draw(seed: u64, random: &mut Random, small: bool) -> Self {
        let (reports, versions) = match small {
            true => (Extent::new(1, 6), Extent::new(1, 2)),
            false => (
                Extent::new(3, 12 + random.below(26)),
                Extent::new(2, 4 + random.below(12)),
            ),
        };
        Self {
            seed,
            reports,
            versions,
            apart: Duration::ZERO,
        }
    }

    pub(crate) fn extent(&self, source: &str) -> Extent {
        match source {
            "versions" => self.versions,
            _ => self.reports,
        }
    }

    /// Whether the job goes on until it is asked to stop.
    pub(crate) fn is_endless(&self) -> bool {
        self.reports.endless || self.versions.endless
    }

    /// How many records of a split have come by `now`. Some splits begin late.
    fn come(&self, source: &str, split: u32, now: Duration) -> u64 {
        let count = self.extent(source).count;
        if self.apart.is_zero() {
            return count;
        }
        let source = if source == "versions" { 4 } else { 3 };
        let mut random = self.random(source, split, 0);
        let late = self.apart * random.pick(&[0, 0, 1]);
        let burst = 8 + random.below(12);
        let apart = self.apart / random.pick(&[1, 2, 4]);
        let Some(since) = now.checked_sub(late) else {
            return 0;
        };
        let bursts = 1 + since.as_micros() / apart.as_micros();
        count.min(burst.saturating_mul(u64::try_from(bursts).unwrap_or(u64::MAX)))
    }

    fn random(&self, source: u64, split: u32, offset: u64) -> Random {
        let place = source << 60 | u64::from(split) << 40 | offset;
        Random::new(mix(self.seed ^ mix(place)))
    }

    /// A report; nothing for a record that cannot be read.
    pub(crate) fn report(&self, split: u32, offset: u64) -> Option<Report> {
        let mut random = self.random(1, split, offset);
        let fate = random.below(100);
        if fate < 4 {
            return None;
        }
        // Some say again what another one has said, at nearly the same time.
        if fate < 14 && offset > 3 {
            let from = offset - 1 - random.below(3);
            let again = self.report(split, from)?;
            let ts = again.ts + random.below(40).cast_signed();
            return Some(Report { ts, ..again });
        }
        let late = if fate < 20 {
            50 + random.below(1200)
        } else {
            0
        };
        let disorder = random.below(OUT_OF_ORDER_MS.unsigned_abs());
        Some(Report {
            device: random.below(7),
            ts: BEGIN_MS + offset.cast_signed() * STEP_MS - (late + disorder).cast_signed(),
            seq: u64::from(split) << 32 | offset,
            value: random.below(100).cast_signed() - 8,
        })
    }

    /// A version of a device: which, since when, its number.
    pub(crate) fn version(&self, split: u32, offset: u64) -> (u64, i64, u64) {
        let mut random = self.random(2, split, offset);
        let device = random.below(5);
        let step = STEP_MS * self.reports.count.cast_signed() / self.versions.count.cast_signed();
        let at = BEGIN_MS + offset.cast_signed() * step - random.below(60).cast_signed();
        (device, at, u64::from(split) * 1000 + offset)
    }

    fn line(&self, source: &str, split: u32, offset: u64) -> String {
        if source == "versions" {
            let (device, at, version) = self.version(split, offset);
            return format!(r#"{{"device":"d{device}","since":{at},"version":{version}}}"#);
        }
        match self.report(split, offset) {
            None => r#"{"device":"d1","ts":"#.to_owned(),
            Some(Report {
                device,
                ts,
                seq,
                value,
            }) => {
                format!(r#"{{"device":"d{device}","ts":{ts},"seq":{seq},"value":{value}}}"#)
            }
        }
    }
}

/// The number of a split, by its name.
pub(crate) fn split_number(name: &str) -> u32 {
    let number = name.rsplit(' ').next().unwrap_or_default();
    number.parse().expect("a split of the simulation")
}

/// A source of the simulation.
#[derive(Clone, Debug)]
pub(crate) struct SimSource {
    pub(crate) name: &'static str,
    pub(crate) input: Input,
    pub(crate) world: Arc<World>,
}

impl SimSource {
    fn extent(&self) -> Extent {
        self.input.extent(self.name)
    }

    /// How many records of a split there are by now.
    fn come(&self, split: u32) -> u64 {
        self.input.come(self.name, split, self.world.now())
    }
}

#[async_trait]
impl Source for SimSource {
    fn bounded(&self) -> bool {
        !self.extent().endless
    }

    fn placement(&self) -> Placement {
        Placement::Spread
    }

    async fn discover(&self, known: &[SplitSpec]) -> Result<Vec<SplitSpec>, Fault> {
        let spec = |number| SplitSpec {
            name: format!("part {number}").into(),
            detail: ().into(),
        };
        let all: Vec<SplitSpec> = (0..self.extent().splits).map(spec).collect();
        assert!(known.is_empty() || known == all, "splits are kept");
        Ok(all)
    }

    fn open(&self, splits: Vec<SplitStart>, _: Waker) -> Result<Box<dyn SplitReader>, Fault> {
        let at = |start: SplitStart| {
            let number = split_number(&start.spec.name);
            (start.id, (number, start.offset.unwrap_or(0)))
        };
        Ok(Box::new(Reader {
            source: self.clone(),
            at: splits.into_iter().map(at).collect(),
        }))
    }
}

struct Reader {
    source: SimSource,
    /// By split: its number, and the offset it goes on from.
    at: BTreeMap<SplitId, (u32, u64)>,
}

impl SplitReader for Reader {
    fn poll(&mut self, _: usize) -> Result<Option<Chunk>, Fault> {
        let open: Vec<SplitId> = (self.at.iter())
            .filter(|(_, (number, at))| *at < self.source.come(*number))
            .map(|(split, _)| *split)
            .collect();
        let mut random = lock(&self.source.world.random);
        if open.is_empty() || random.chance(400) {
            return Ok(None);
        }
        let split = random.pick(&open);
        let records = 1 + random.below(5);
        drop(random);
        let (number, at) = self.at[&split];
        let to = (at + records).min(self.source.come(number));
        self.at.insert(split, (number, to));
        let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
        for offset in at..to {
            let from = bytes.len() as u32;
            let line = self.source.input.line(self.source.name, number, offset);
            bytes.extend_from_slice(line.as_bytes());
            ranges.push((from, bytes.len() as u32));
        }
        self.source
            .world
            .trace(|| format!("read {} {number} {at}..{to}", self.source.name));
        Ok(Some(Chunk {
            split,
            start: at,
            end: to,
            bytes: bytes.into(),
            framing: Framing::Records {
                ranges,
                offsets: (at..to).collect(),
            },
            metadata: Vec::new(),
            read_at_ms: 0,
        }))
    }

    fn status(&self, split: SplitId) -> SplitStatus {
        let (number, at) = self.at[&split];
        let extent = self.source.extent();
        let behind = self.source.come(number) - at;
        let state = match behind {
            0 if at == extent.count && !extent.endless => SplitState::Finished,
            0 => SplitState::AtEnd,
            _ => SplitState::Reading,
        };
        SplitStatus {
            state,
            behind: Some(behind),
        }
    }
}
